"""Logging by threads that go on whatever happens, also where logging itself fails."""

import contextlib
import traceback
from collections.abc import Callable

__all__ = ["surely"]


def surely(tell: Callable[..., object], *arguments: object) -> None:
    """Calls a method of a logger, say. What it raises goes to standard error, if that can be written.

    Handlers and filters of logging are the application's, and may raise anything.
    """
    try:
        tell(*arguments)
    except BaseException:  # noqa: BLE001  (SystemExit, too, would end the thread)
        with contextlib.suppress(Exception):
            traceback.print_exc()
