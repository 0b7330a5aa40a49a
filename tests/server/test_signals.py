"""Signals to a process that serves: none is lost, and they are given back, to children as well."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.server.waiting import eventually
from ushabti import Router, Server
from ushabti.orders import Orders


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


def test_serving_waits_for_longer_than_the_default_timeout_of_sockets() -> None:
    router = Router.of(hello)
    # The server's own sockets are open when its hooks are called; the test's are not.
    router.on_start(lambda server: socket.setdefaulttimeout(None))

    def ready(server: Server) -> None:
        def ask_and_stop() -> None:
            for _ in range(10):
                urlopen(server.address.url, timeout=30).read()
            server.stop()

        threading.Thread(target=ask_and_stop).start()

    socket.setdefaulttimeout(0.0001)
    try:
        assert Server(router).serve(port=0, ready=ready) is True
    finally:
        socket.setdefaulttimeout(None)


def test_a_signal_to_another_thread_is_obeyed_although_a_hook_has_run_an_event_loop() -> None:
    router = Router.of(hello)
    sender: list[threading.Thread] = []
    has_obeyed: list[bool] = []

    @router.on_start
    def hook(server: Server) -> None:
        async def listen() -> None:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGUSR2, print)
            loop.remove_signal_handler(signal.SIGUSR2)

        asyncio.run(listen())

    def ready(server: Server) -> None:
        def send() -> None:
            main = threading.main_thread().ident or 0
            eventually(lambda: sys._current_frames()[main].f_code is Orders.get.__code__)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            has_obeyed.append(server.stopping.wait(10))
            server.stop()

        sender.append(threading.Thread(target=send))
        sender[0].start()

    assert Server(router).serve(port=0, ready=ready) is True
    sender[0].join()
    assert has_obeyed == [True]


def test_a_descriptor_for_signals_that_was_closed_meanwhile_is_not_given_back() -> None:
    ear, bell = socket.socketpair()
    bell.setblocking(False)
    signal.set_wakeup_fd(bell.fileno())
    router = Router.of(hello)
    router.on_start(lambda server: bell.close())
    assert Server(router).serve(port=0, ready=lambda server: server.stop()) is True
    assert signal.set_wakeup_fd(-1) == -1
    ear.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_handler_ends_by_the_signals_that_the_server_obeys() -> None:
    context = multiprocessing.get_context("fork")
    codes: list[int | None] = []

    def fork(request: Any) -> str:
        child = context.Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join(20)
        codes.append(child.exitcode)
        child.kill()
        child.join()
        child.close()
        return "done"

    def ready(server: Server) -> None:
        def ask() -> None:
            try:
                urlopen(server.address.url, timeout=30).read()
            finally:
                server.stop()

        threading.Thread(target=ask).start()

    assert Server(fork).serve(port=0, ready=ready) is True
    assert codes == [-signal.SIGTERM]


def test_an_access_log_that_takes_nothing_keeps_no_signal_from_being_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader, filler = os.open(path, os.O_RDONLY | os.O_NONBLOCK), os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while os.write(filler, bytes(65536)):
            pass
    sender: list[threading.Thread] = []
    has_obeyed: list[bool] = []

    def signals(server: Server) -> None:
        urlopen(server.address.url, timeout=30).read()
        eventually(server._access._lock.locked)  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        has_obeyed.append(server.stopping.wait(10))
        with contextlib.suppress(BlockingIOError):
            while os.read(reader, 65536):
                pass

    def ready(server: Server) -> None:
        sender.append(threading.Thread(target=signals, args=(server,)))
        sender[0].start()

    server = Server(hello, access_log="text", access_log_file=path)
    assert server.serve(port=0, ready=ready) is True
    sender[0].join()
    assert has_obeyed == [True]
    os.close(reader)
    os.close(filler)
