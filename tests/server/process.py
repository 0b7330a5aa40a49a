"""Runs ``program.py`` and talks with it."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

from tests.support import Raw

__all__ = ["Process"]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0


class Process:
    """A server in a process of its own; killed at the end of the block if it has not ended."""

    MODULE = "tests.server.program"

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.MODULE, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        # Standard error is read on the side: a full pipe would stop the server.
        self._log = bytearray()
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        try:
            self.port: int = self.read()["port"]
        except BaseException:
            self.__exit__()
            raise

    def _read_log(self) -> None:
        assert self.process.stderr
        while some := self.process.stderr.read1(65_536):  # type: ignore[attr-defined]
            self._log += some

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    @property
    def log(self) -> str:
        """What came on standard error until now."""
        return self._log.decode()

    def read(self) -> dict[str, Any]:
        """The next event."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the server ended: {self.log}"
        return json.loads(line)

    def connect(self) -> Raw:
        """Opens a connection."""
        return Raw(("127.0.0.1", self.port))

    def let_go(self) -> None:
        """Lets go what is held."""
        self.tell("go")

    def tell(self, order: str) -> None:
        """Sends a line to its standard input."""
        assert self.process.stdin
        self.process.stdin.write(f"{order}\n".encode())
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Waits for the end and returns the exit status."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join()
        return status
