"""Stops the servers that still run when the interpreter ends: their threads must not wake up in a finalized one."""

import atexit
import weakref
from typing import Protocol

__all__ = ["Stoppable", "forget", "remember"]


class Stoppable(Protocol):
    """What runs until it is stopped."""

    def stop(self, timeout: float | None = None) -> bool:
        """Stops it; the time is in seconds."""
        ...


_running: "weakref.WeakKeyDictionary[Stoppable, float]" = weakref.WeakKeyDictionary()


def remember(server: Stoppable, timeout: float) -> None:
    """Has a server stopped at the end, in so many seconds, unless it is forgotten or gone before."""
    _running[server] = timeout


def forget(server: Stoppable) -> None:
    """Takes that back."""
    _running.pop(server, None)


def _stop_all() -> None:
    interruption: BaseException | None = None
    while True:
        try:
            server, timeout = _running.popitem()
        except KeyError:
            break
        try:
            server.stop(timeout if interruption is None else 0.0)
        except BaseException as problem:  # noqa: BLE001  (raised when the others have been stopped)
            interruption = problem
    if interruption is not None:
        raise interruption


atexit.register(_stop_all)
