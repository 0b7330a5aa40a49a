"""Ctrl-C while a server starts or stops, at every place at which the interpreter lets it come."""

import contextlib
import dis
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import ushabti
from tests.server.test_server_life import script
from ushabti import Server, exits
from ushabti.orders import Orders
from ushabti.signals import Obeyed

_PACKAGE = os.path.dirname(ushabti.__file__) + os.sep
# After these the interpreter looks whether a signal has come.
_LOOKING = ("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")


class Interruption:
    """Raises ``KeyboardInterrupt`` at the n-th place of the package's modules at which Ctrl-C may come.

    Attributes:
        where: The place, once it has been come by.
    """

    def __init__(self, number: int, modules: tuple[str, ...]) -> None:
        self.where = ""
        self._left = number
        self._files = {os.path.join(_PACKAGE, name) for name in modules}
        self._before: dict[FrameType, str] = {}

    def during(self, call: Callable[[], object]) -> bool:
        """Whether the call was interrupted."""
        # Who runs in the background may ignore it.
        earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.settrace(self._enter)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
            signal.signal(signal.SIGINT, earlier)
        return False

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "return":
            self._before.pop(frame, None)
        elif event == "opcode":
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            before, self._before[frame] = self._before.get(frame, ""), name
            if not before.startswith(_LOOKING) or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                return self._step
            self._left -= 1
            if not self._left:
                sys.settrace(None)
                self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}, {name} after {before}"
                raise KeyboardInterrupt
        return self._step


def every_interruption(*modules: str) -> Any:
    """Interruptions, until one finds no place any more."""
    number = 0
    while True:
        number += 1
        interruption = Interruption(number, modules or ("server.py", "exits.py", "orders.py", "workers.py"))
        yield interruption
        if not interruption.where:
            assert number > 5, "it has looked at next to nothing"
            return


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("ushabti")}


def gone(before: set[threading.Thread], where: str) -> None:
    """Waits for the end of the server's threads."""
    for thread in threads() - before:
        thread.join(20)
        assert not thread.is_alive(), f"{thread.name} is there after an interruption in {where}"


pytestmark = [
    pytest.mark.skipif(sys.gettrace() is not None, reason="somebody traces already"),
    pytest.mark.time_limit(120),
]


def test_a_start_that_is_interrupted_leaves_nothing_open() -> None:
    before = threads()
    for interruption in every_interruption():
        server = Server(lambda request: "hello", workers=1)
        is_interrupted = interruption.during(lambda server=server: server.start(port=0))
        assert is_interrupted == bool(interruption.where)
        # What `start` has to return is its caller's affair.
        if is_interrupted and "Server.start," not in interruption.where:
            gone(before, interruption.where)
        server.stop(5)
        gone(before, interruption.where)
        assert server not in exits._running


@pytest.mark.parametrize("admin", [None, "127.0.0.1:0"], ids=["alone", "with an admin address"])
def test_a_stop_that_is_interrupted_ends_the_server_and_whoever_waits_for_that(admin: str | None) -> None:
    before = threads()
    for interruption in every_interruption():
        server = Server(lambda request: "hello", workers=1, admin=admin)
        serving = threading.Thread(target=server.serve, kwargs={"port": 0, "ready": lambda server: None})
        serving.start()
        assert server.wait_ready()
        is_interrupted = interruption.during(server.stop)
        assert is_interrupted == bool(interruption.where)
        other = threading.Thread(target=server.stop)
        other.start()
        for thread in (serving, other):
            thread.join(20)
            assert not thread.is_alive(), interruption.where
        gone(before, interruption.where)
        assert server not in exits._running


# Sockets that nobody has got hold of yet are closed by the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_interruption_leaves_no_descriptor_to_the_signals_that_is_closed() -> None:
    def wait_for_orders() -> None:
        with Orders().awaited(Obeyed.by(None, ())):
            pass

    for interruption in every_interruption("orders.py", contextlib.__file__):
        interruption.during(wait_for_orders)
        assert signal.set_wakeup_fd(-1) == -1, interruption.where


def test_a_stop_at_the_end_of_the_process_that_is_interrupted_is_the_last_that_waits() -> None:
    done = script(
        "from ushabti import Router, Server\n"
        "class Interrupted(Server):\n"
        "    def stop(self, timeout=None):\n"
        "        super().stop(timeout)\n"
        "        raise KeyboardInterrupt\n"
        "def started(kind):\n"
        "    router = Router.of(lambda request: 'hello')\n"
        "    router.on_stop(lambda server: print('stopped', flush=True))\n"
        "    server = kind(router)\n"
        "    server.start(port=0)\n"
        "    return server\n"
        "servers = [started(kind) for kind in (Server, Interrupted, Server)]\n"
    )
    assert done.stdout == "stopped\n" * 3
    assert "KeyboardInterrupt" in done.stderr
