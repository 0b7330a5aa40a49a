"""The signals that a serving process obeys."""

import os
import signal
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["DUMP", "RELOAD", "REOPEN", "STOP", "Obeyed"]

#: They stop the server; a second one stops it at once.
STOP = (signal.SIGINT, signal.SIGTERM)
#: Has the access log's file opened again. Windows has neither this nor the others below.
REOPEN = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()
#: Has the certificates read again, or tells of a terminal that is gone.
RELOAD = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
#: Has all stacks written. Without a handler it would end the process with an image of its memory.
DUMP = (signal.SIGQUIT,) if hasattr(signal, "SIGQUIT") else ()


class Obeyed(NamedTuple):
    """The signals that one server obeys.

    Attributes:
        stop: They stop it.
        others: They do not.
    """

    stop: tuple[int, ...]
    others: tuple[int, ...]

    @classmethod
    def by(cls, log_file: str | None, certificates: Sequence[object]) -> "Obeyed":
        """The signals of a server with these files, or none."""
        stop: tuple[int, ...] = STOP
        others: tuple[int, ...] = DUMP + (REOPEN if log_file else ())
        if certificates:
            others += RELOAD
        elif RELOAD and signal.getsignal(RELOAD[0]) == signal.SIG_DFL:
            # It would end the process at once. Who has it ignored (nohup), or handles it, has seen to that. Whether
            # there is a terminal is asked now: one that has hung up is none any more.
            if os.isatty(0):
                stop += RELOAD
            else:
                others += RELOAD
        return cls(stop, others)
