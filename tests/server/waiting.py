"""Waiting for what a server does in its own time: lines of its log, handlers that began, states that nobody signals."""

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["Gate", "Log", "eventually"]

# Far above what a loaded machine needs, below the limit of one test.
PATIENCE_S = 10.0


class Log(logging.Handler):
    """What the server has logged, and a way to wait for more of it."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []
        self._more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._more:
            self._records.append(record)
            self._more.notify_all()

    def text(self) -> str:
        """All messages, a line each, with tracebacks."""
        formatter = logging.Formatter("%(levelname)s %(message)s")
        with self._more:
            return "\n".join(formatter.format(record) for record in self._records)

    def count(self, part: str) -> int:
        """How many messages contain ``part``."""
        with self._more:
            return sum(part in record.getMessage() for record in self._records)

    def wait(self, part: str, patience: float = PATIENCE_S) -> logging.LogRecord:
        """Returns the first record whose message contains ``part``, which may still be to come."""
        found: list[logging.LogRecord] = []

        def is_there() -> bool:
            found[:] = [record for record in self._records if part in record.getMessage()]
            return bool(found)

        with self._more:
            if not self._more.wait_for(is_there, patience):
                raise AssertionError(f"no {part!r} in the log: {[record.getMessage() for record in self._records]}")
        return found[0]


class Gate:
    """A handler that holds its worker until it is let go; a test opens it in any case."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, request: object) -> str:
        self.entered.release()
        assert self.open.wait(30)
        return "let go"

    def wait(self, count: int = 1) -> None:
        """Waits until so many requests are held."""
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE_S)


def eventually(check: Callable[[], object], patience: float = PATIENCE_S) -> None:
    """Returns when ``check()`` is true; an ``AssertionError`` if it does not become so."""
    until = time.monotonic() + patience
    while not check():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.005)
