"""Signals to a process that serves: none is lost, and they are given back, to children as well."""

import signal
from typing import Any

from ushabti import Router, Server


def hello(request: Any) -> str:
    return "hello"


def test_a_signal_whose_interruption_a_start_hook_catches_stops_the_server_all_the_same() -> None:
    router = Router.of(hello)
    caught: list[BaseException] = []

    @router.on_start
    def hook(server: Server) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as interruption:
            caught.append(interruption)

    assert Server(router).serve(port=0) is True
    assert len(caught) == 1
