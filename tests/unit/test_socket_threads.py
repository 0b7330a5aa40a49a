"""The bounded threads of blocking WebSocket handlers."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from ushabti.errors import HTTPError
from ushabti.socket_threads import SocketThreads
from ushabti.workers import PerThread

_LONG_S = 30.0


def started(threads: SocketThreads, function: Callable[[Any], object], argument: Any = None) -> None:
    threads.reserve()
    threads.start(function, argument)


def test_thread_runs_the_handler_under_a_name_of_its_own_and_is_given_back() -> None:
    threads = SocketThreads(1)
    told: list[tuple[str, bool, object]] = []

    def handler(argument: object) -> None:
        thread = threading.current_thread()
        told.append((thread.name, thread.daemon, argument))
        assert threads.contains(thread)

    for number in (1, 2):
        started(threads, handler, number)
        assert threads.join(_LONG_S) == []
    assert told == [("ushabti-websocket-1", True, 1), ("ushabti-websocket-2", True, 2)]
    assert not threads.contains(threading.current_thread())


def test_one_more_than_the_limit_is_refused_until_one_is_given_back() -> None:
    threads = SocketThreads(2)
    threads.reserve()
    threads.reserve()
    with pytest.raises(HTTPError, match="all threads for WebSockets are taken") as caught:
        threads.reserve()
    assert caught.value.status == 503
    threads.give_back()
    threads.reserve()


@pytest.mark.parametrize("problem", [ValueError("broken"), SystemExit(1), KeyboardInterrupt()])
def test_thread_whose_hooks_fail_does_its_work_and_is_given_back(problem: BaseException) -> None:
    def fail() -> None:
        raise problem

    told: list[object] = []
    threads = SocketThreads(1, [fail], [fail])
    started(threads, told.append, 1)
    assert threads.join(_LONG_S) == []
    started(threads, told.append, 2)
    assert threads.join(_LONG_S) == []
    assert told == [1, 2]


def test_thread_that_cannot_be_started_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = SocketThreads(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            started(threads, print)
    assert threads.join(0) == []
    started(threads, lambda _: None)
    assert threads.join(_LONG_S) == []


def test_hooks_and_values_of_a_thread_begin_and_end_with_it() -> None:
    told: list[str] = []
    value = PerThread(lambda: told.append("make"), lambda _: told.append("close"))
    threads = SocketThreads(1, [lambda: told.append("start")], [lambda: told.append("stop")])

    def handler(_: object) -> None:
        told.append("handler")
        value()

    started(threads, handler)
    assert threads.join(_LONG_S) == []
    assert told == ["start", "handler", "make", "close", "stop"]


def test_join_names_those_that_are_left_and_waits_for_no_thread_for_itself() -> None:
    threads = SocketThreads(2)
    gate = threading.Event()
    left: list[list[threading.Thread]] = []

    def handler(_: object) -> None:
        left.append(threads.join(0))
        gate.wait(_LONG_S)

    started(threads, handler)
    (thread,) = threads.join(0)
    assert thread.name == "ushabti-websocket-1"
    gate.set()
    assert threads.join(_LONG_S) == []
    assert left == [[]]
