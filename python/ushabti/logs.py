"""From the core's journal to ``logging``: the thread that takes lines and notices out, and where they go.

The server logs to ``ushabti``; access lines go to ``ushabti.access``, or in whole batches to a file. An application
that has configured logging keeps its configuration: the handler that is set up here steps back for any other.
"""

import logging
import os
import sys
import threading
from typing import Protocol

from ushabti.config import Settings
from ushabti.errors import ConfigError
from ushabti.telling import surely

__all__ = ["AccessWriter", "FileWriter", "LogThread", "Source", "StandardErrorHandler", "set_up"]

logger = logging.getLogger("ushabti")
access_logger = logging.getLogger("ushabti.access")

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Access lines tell who asked for what: the group may read them, the world may not.
_FILE_MODE = 0o640


class StandardErrorHandler(logging.Handler):
    """Writes to standard error for as long as nobody else handles what the server logs.

    Whether somebody does is asked at each record: an application may configure logging later than the server starts,
    and would see every line twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))

    def is_needed(self) -> bool:
        """Whether nothing else shows what is logged."""
        others = (*logging.getLogger().handlers, *logger.handlers, *access_logger.handlers)
        return all(handler is self for handler in others)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record. Access lines have a form of their own, and get no other."""
        if not self.is_needed():
            return
        try:
            self.write([record.getMessage() if record.name == access_logger.name else self.format(record)])
        except Exception:  # noqa: BLE001  (what every handler of logging does)
            self.handleError(record)

    def write(self, lines: list[str]) -> None:
        """Writes complete lines in one go."""
        # None: the process was started without standard streams.
        if sys.stderr is not None:
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()


_handler = StandardErrorHandler()


def set_up(level: str | None = None) -> None:
    """Shows the server's log on standard error, unless the application has configured logging.

    Args:
        level: The least grave messages to show: ``"info"``. It holds for the application's handlers too, because an
            operator has asked for it. ``None``: what is configured, or ``info`` where nothing is.
    """
    logger.addHandler(_handler)  # Added again, it is there once.
    if level is not None:
        logger.setLevel(level.upper())
    elif logger.level == logging.NOTSET and _handler.is_needed():
        logger.setLevel(logging.INFO)


class AccessWriter:
    """Takes access lines to ``logging``, as records of ``ushabti.access`` at level INFO.

    ``open`` comes first and ``close`` last; ``write`` is called by one thread.
    """

    def __init__(self, is_on: bool) -> None:
        self._is_on = is_on

    @staticmethod
    def from_settings(settings: Settings) -> "AccessWriter":
        """The writer that ``access_log`` and ``access_log_file`` ask for."""
        if settings.access_log_file is not None and settings.access_log != "off":
            return FileWriter(settings.access_log_file)
        return AccessWriter(settings.access_log != "off")

    def open(self) -> None:
        """Makes ready to write. Raises ``ConfigError`` if that cannot be done."""
        if self._is_on:
            set_up()
            if access_logger.level == logging.NOTSET:
                # The operator wants these lines, however few messages of the server itself.
                access_logger.setLevel(logging.INFO)

    def write(self, lines: list[str]) -> None:
        """Writes a batch of lines, which have no line ends."""
        if _handler.is_needed() and access_logger.isEnabledFor(logging.INFO):
            # A record for each line would cost several times what answering the request did.
            _handler.write(lines)
            return
        for line in lines:
            access_logger.info("%s", line)

    def reopen(self) -> bool:
        """Opens the file by its name again, because it was renamed. Any thread. False: there is no file."""
        return False

    def close(self) -> None:
        """Closes what was opened."""


class FileWriter(AccessWriter):
    """Appends access lines to a file, one write for each batch.

    A file that cannot be written is reported once; each batch tries again, and when it works again the number of lines
    that were lost is reported.
    """

    def __init__(self, path: str) -> None:
        super().__init__(True)
        self._path = path
        # Guards what follows. The log's thread holds it for a write; whoever reopens may wait for that.
        self._lock = threading.Lock()
        self._descriptor = -1
        self._is_closed = False
        self._lost = 0
        self._is_torn = False

    def open(self) -> None:
        """Opens the file, or makes it. Raises ``ConfigError`` if the system refuses."""
        try:
            self._open()
        except OSError as problem:
            advice = "give a file that can be written"
            raise ConfigError(f"access_log_file is {self._path!r}: {problem.strerror}; {advice}") from problem

    def write(self, lines: list[str]) -> None:
        """Writes a batch of lines, which have no line ends."""
        with self._lock:
            data = ("\n".join(lines) + "\n").encode()
            if self._is_torn:
                # A line of which only the beginning was written must not run into the next one.
                data = b"\n" + data
            try:
                if self._descriptor < 0:
                    self._open()
                while data:
                    data = data[os.write(self._descriptor, data) :]
                    self._is_torn = True
                self._is_torn = False
            except OSError as problem:
                if not self._lost:
                    logger.error("the access log cannot be written, its lines are lost: %s", problem)
                self._lost += len(lines)
                self._close()
                return
            if self._lost:
                logger.warning("the access log can be written again; %d lines were lost", self._lost)
                self._lost = 0

    def reopen(self) -> bool:
        """Opens the file by its name again, because it was renamed. Any thread. Always True."""
        with self._lock:
            if self._is_closed:
                return True
            self._close()
            try:
                self._open()
            except OSError as problem:
                # The next batch tries again.
                logger.error("the access log cannot be opened again: %s", problem)
        return True

    def close(self) -> None:
        """Closes the file, for good."""
        with self._lock:
            self._is_closed = True
            self._close()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, _FILE_MODE)

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class Source(Protocol):
    """Where lines and notices come from: the native server."""

    def take_journal(self) -> tuple[list[str], int, list[tuple[int, str]]] | None:
        """Waits for the next batch: access lines, how many were lost, notices with their levels; None at the end."""


class LogThread(threading.Thread):
    """Hands what the core has to say to ``logging`` and to the access log, in batches, until the journal is closed."""

    def __init__(self, source: Source, writer: AccessWriter) -> None:
        super().__init__(name="ushabti-log", daemon=True)
        self._source = source
        self._writer = writer

    def run(self) -> None:
        """The thread's body."""
        while (batch := self._source.take_journal()) is not None:
            self._log(*batch)

    def _log(self, lines: list[str], lost: int, notices: list[tuple[int, str]]) -> None:
        # The log's own failure must not end the log, nor keep anything else out of it.
        for level, message in notices:
            surely(logger.log, level, "%s", message)
        if lines:
            try:
                self._writer.write(lines)
            except BaseException:  # noqa: BLE001  (told)
                surely(logger.exception, "writing the log failed")
        if lost:
            surely(logger.warning, "%d lines of the access log were lost: it cannot be written as fast", lost)
