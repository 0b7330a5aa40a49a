"""What the thread that serves is told: by signals, and by whoever stops the server."""

import contextlib
import os
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ushabti import signals

__all__ = ["STOP", "Orders"]

#: Not a signal's number: the server stops already.
STOP = 0

# What gives the signals back that are handled now, and what a thread that forks had blocked before.
_handled: list[contextlib.ExitStack] = []
_blocked = threading.local()


def _before_fork() -> None:
    # The child of a process that handles a signal forgets one that comes in its first moments.
    if _handled:
        _blocked.before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _after_fork() -> None:
    if (before := _blocked.__dict__.pop("before", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _after_fork_in_child() -> None:
    """A child is another process, and ends by the signals that its parent obeys."""
    try:
        while _handled:
            _handled.pop().close()
    finally:
        _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


class Orders:
    """Orders for one thread, which waits for them in the order of their coming.

    A signal's handler runs in the main thread, and only when that thread comes to run Python again. The system may give
    the signal to another thread, as Linux does with one that follows another before the main thread has woken up. Then
    nothing ends a wait of the main thread on a lock. So it waits for a byte instead, which is sent by whichever thread
    the system has chosen (:func:`signal.set_wakeup_fd`).

    Attributes:
        obeyed: The signals that are.
        is_in_hook: Whether a signal that asks for the end is to interrupt the main thread.
        stops: How many signals have asked for the end.
    """

    def __init__(self) -> None:
        self.obeyed = signals.Obeyed((), ())
        self.is_in_hook = False
        self.stops = 0
        self._dumps = 0
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._bell: socket.socket | None = None
        self._ear: socket.socket | None = None
        self._is_told_of_signals = False

    def put(self, order: int) -> None:
        """Gives an order, by any thread and by handlers of signals: it takes no lock of Python and never waits."""
        self._queue.put(order)
        # The order comes before its byte: who has heard the byte finds it. If there is no bell yet, `get` looks first.
        if bell := self._bell:
            # Full: there is enough to be heard. Closed: nobody waits any more.
            with contextlib.suppress(OSError):
                bell.send(b"\0")

    def get(self) -> int:
        """Waits for the next order; within :meth:`awaited`."""
        assert self._ear is not None and self._bell is not None
        if self._is_told_of_signals:
            # Again: an event loop that a hook has run may have taken it for itself, and none given back.
            signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        while True:
            with contextlib.suppress(queue.Empty):
                return self._queue.get_nowait()
            self._ear.recv(4096)

    def take_dump(self) -> bool:
        """Whether a signal has asked for a dump since this was asked last."""
        wanted, self._dumps = self._dumps > 0, 0
        return wanted

    @contextlib.contextmanager
    def awaited(self, obeyed: signals.Obeyed) -> Iterator[None]:
        """Lets orders be waited for. In the main thread it has the signals handled, and gives them back at the end.

        Raises:
            OSError: There is no descriptor left to wait on.
        """
        self.obeyed = obeyed
        with contextlib.ExitStack() as undo:
            self._ear, self._bell = map(undo.enter_context, socket.socketpair())
            # Whatever `socket.setdefaulttimeout` says.
            self._ear.setblocking(True)
            self._bell.setblocking(False)
            if threading.current_thread() is threading.main_thread():
                self._is_told_of_signals = True
                handled = contextlib.ExitStack()
                _handled.append(handled)
                undo.callback(_forget, handled)
                self._handle(undo.enter_context(handled), self._bell.fileno())
            yield

    def _handle(self, undo: contextlib.ExitStack, bell: int) -> None:
        # Ctrl-C raises nothing any more once it is handled: it is the first that is, and the last given back.
        for number in (*self.obeyed.stop, *self.obeyed.others):
            undo.callback(_give_back, number, signal.signal(number, self._on_signal))
        undo.callback(_give_descriptor_back, signal.set_wakeup_fd(bell, warn_on_full_buffer=False))

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Only notes the signal. It interrupts the main thread anywhere, so that no lock may be taken here."""
        if number in signals.DUMP:
            self._dumps += 1
        # Before anything is raised: a hook may catch that, or be in a finalizer, of which nothing comes out.
        self.put(number)
        if number in self.obeyed.stop:
            # Of one hang-up both the system and the shell tell.
            self.stops += number not in signals.RELOAD or not self.stops
            if self.is_in_hook:
                # A start that waits for a database, for example. Nothing has been accepted yet.
                raise KeyboardInterrupt


def _forget(handled: contextlib.ExitStack) -> None:
    # In a forked child it is gone already.
    if handled in _handled:
        _handled.remove(handled)


def _give_descriptor_back(earlier: int) -> None:
    try:
        signal.set_wakeup_fd(earlier)
    except (OSError, ValueError):
        # It has been closed meanwhile. Ours will be, too, and must not stay.
        signal.set_wakeup_fd(-1)


def _give_back(number: int, earlier: Any) -> None:
    # None: it was not set by Python, and cannot be given back.
    signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
