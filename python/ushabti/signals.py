"""The signals that a serving process obeys, and how they are taken and given back."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["DUMP", "RELOAD", "REOPEN", "STOP", "handled"]

#: They stop the server; a second one stops it at once.
STOP = (signal.SIGINT, signal.SIGTERM)
#: Has the access log's file opened again. Windows has neither this nor the others below.
REOPEN = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()
#: Has the certificates read again.
RELOAD = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
#: Has all stacks written. Without a handler it would end the process with an image of its memory.
DUMP = (signal.SIGQUIT,) if hasattr(signal, "SIGQUIT") else ()


@contextlib.contextmanager
def handled(numbers: tuple[int, ...], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Has the signals handled if this is the main thread, and gives them back at the end."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            # None: it was not set by Python, and cannot be given back.
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
