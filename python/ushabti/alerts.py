"""The thread that is told what happens to requests while a handler has them: a client has left, a handler is late.

It is not one of the workers: they may all be stuck, which is when this matters.
"""

import logging
import threading
from collections.abc import Callable

from ushabti import _core
from ushabti.dump import escaped, stack_of
from ushabti.handlers import describe

__all__ = ["AlertThread"]

logger = logging.getLogger("ushabti")


class AlertThread(threading.Thread):
    """Calls what ``request.on_disconnect`` was given, and logs late handlers, until the server stops."""

    def __init__(self, core: _core.Server, application: _core.Application) -> None:
        super().__init__(name="ushabti-alerts", daemon=True)
        self._core = core
        self._application = application

    def run(self) -> None:
        """Takes alerts until there will be no more."""
        while (alert := self._core.take_alert(self._application)) is not None:
            if isinstance(alert, list):
                for callback in alert:
                    _call(callback)
            else:
                method, target, handler, passed, thread = alert
                stack = [] if thread is None else stack_of(thread)
                logger.warning(
                    "%s %s: %s has not answered in %.3f s; the client was told 504, and it goes on%s",
                    escaped(method),
                    escaped(target),
                    describe(handler),
                    passed,
                    "".join(f"\n    {line}" for line in stack),
                )


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        logger.exception("%s failed, which was to be called when a client leaves", describe(callback))
