"""The thread that is told what happens to requests while a handler has them: a client has left, a handler is late.

It is not one of the workers: they may all be stuck, which is when this matters.
"""

import logging
import threading
from collections.abc import Callable

from ushabti import _core
from ushabti.dump import escaped, stack_of
from ushabti.handlers import describe
from ushabti.telling import surely

__all__ = ["AlertThread"]

logger = logging.getLogger("ushabti")

# Method, target, handler, seconds, and where it is handled: see `_core.Server.take_alert`.
Late = tuple[str, str, Callable[..., object], float, tuple[int, int] | None]


class AlertThread(threading.Thread):
    """Calls what ``request.on_disconnect`` was given, and logs late handlers, until the server stops."""

    def __init__(self, core: _core.Server, application: _core.Application) -> None:
        super().__init__(name="ushabti-alerts", daemon=True)
        self._core = core
        self._application = application

    def run(self) -> None:
        """Takes alerts until there will be no more."""
        while (alert := self._core.take_alert(self._application)) is not None:
            try:
                self._obey(alert)
            except BaseException:  # noqa: BLE001  (told, and never the end of the thread)
                surely(logger.exception, "an alert was lost")

    def _obey(self, alert: list[Callable[[], object]] | Late) -> None:
        if isinstance(alert, list):
            # Taken out, so that this thread does not keep it until the next alert.
            while alert:
                _call(alert.pop(0))
        else:
            method, target, handler, passed, place = alert
            stack = self._stack(place)
            logger.warning(
                "%s %s: %s has not answered in %.3f s; the client was told 504, and it goes on%s",
                escaped(method),
                escaped(target),
                describe(handler),
                passed,
                "".join(f"\n    {line}" for line in stack),
            )

    def _stack(self, place: tuple[int, int] | None) -> list[str]:
        """The stack of a thread that is at this piece of work still."""
        if place is None:
            return []
        stack = stack_of(place[0])
        is_there = any((thread, number) == place and task is not None for thread, number, task in self._core.desks())
        return stack if is_there else []


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except BaseException:  # noqa: BLE001  (SystemExit, too, would end the thread, and with it all that it has to tell)
        surely(logger.exception, "%s failed, which was to be called when a client leaves", describe(callback))
