"""A server under attack: who is served beside the attack, what it costs the server, and what is left of it."""

import itertools
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any, Self

import pytest

from tests.server.process import Process
from tests.server.waiting import eventually
from tests.support import Raw, unverified

__all__ = ["MIB", "Siege", "needs_linux"]

MIB = 2**20
HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"

# Every wait of the healthy client. Attack, clients and server share what cores there are, and other work may, too.
PATIENCE_S = 20.0
# Until what an attack has left is cleared away; the longest is the linger of 2 s, on a loaded machine.
REST_S = 20.0

needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


class Target(Process):
    """The program that is attacked, and what the system says of it."""

    MODULE = "tests.attacks.program"

    def stats(self) -> dict[str, Any]:
        """The server's own counters."""
        self.tell("stats")
        return self.read()

    def memory(self) -> int:
        """Bytes of memory that it holds (VmRSS)."""
        return self._status("VmRSS") * 1024

    def memory_peak(self) -> int:
        """The most that it has ever held (VmHWM): no moment is missed, as between samples."""
        return self._status("VmHWM") * 1024

    def forget_peak(self) -> None:
        """Lets the peak begin anew at what it holds now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def threads(self) -> int:
        """How many threads it has."""
        return self._status("Threads")

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return int(values[name].split()[0])


class Siege:
    """``with Siege(memory=32 * MIB, **options) as siege``: attack ``siege.port`` in the block.

    Beside the block a healthy client asks all the time, on a connection that it keeps and on new ones. At the end of
    the block, which must have ended its connections, the test fails if one of that client's requests was not answered
    as it should be, if the server's memory ever grew by more than ``memory`` bytes, or if descriptors or threads do not
    come back to what they were.

    Args:
        memory: By how many bytes the server's memory may grow.
        ask: What the healthy client asks.
        expect: Status and body of the answer to that.
        stays: It keeps its connection, instead of making a new one after every tenth request.
        source: The address that the healthy client comes from, if not that of the attack.
        tls: The server speaks TLS, and the healthy client does.
        options: Of the server.

    Attributes:
        target: The server.
        port: Its port.
    """

    def __init__(
        self,
        *,
        memory: int,
        ask: bytes = HELLO,
        expect: tuple[int, bytes] = (200, b"hello"),
        stays: bool = False,
        source: str | None = None,
        tls: bool = False,
        **options: Any,
    ) -> None:
        # A worker above the minimum goes soon, so that the count of threads comes back.
        options = {"workers": [4, 32], "thread_idle": 0.5, **options}
        self._memory = memory
        self._ask, self._expect, self._stays, self._source = ask, expect, stays, source
        self._tls = None
        if tls:
            options["tls_self_signed"] = True
            self._tls = unverified()
        self.target = Target(json.dumps(options))
        self.port = self.target.port
        self._over = threading.Event()
        self._problems: list[str] = []
        self._asked = 0
        self._client = threading.Thread(target=self._be_healthy)

    def __enter__(self) -> Self:
        try:
            self._warm_up()
        except BaseException:
            self.target.__exit__()
            raise
        self._client.start()
        # It is there before the attack is, as one that comes later may be turned away with good reason.
        eventually(lambda: self._asked or self._problems, PATIENCE_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            asked = self._asked
            if kind is None:
                # It was not only served before the attack had its effect.
                eventually(lambda: self._problems or self._asked > asked + 20, PATIENCE_S)
            self._over.set()
            self._client.join()
            if kind is None:
                self._judge()
        except BaseException as problem:
            kind = type(problem)
            raise
        finally:
            self._over.set()
            self._client.join()
            if kind is not None:
                self._explain()
            self.target.__exit__()

    def connect(self, timeout: float = PATIENCE_S) -> Raw:
        """Opens a connection; the caller closes it."""
        return Raw(("127.0.0.1", self.port), timeout, tls=self._tls)

    def held_by_system(self) -> int:
        """Bytes that the system still holds for clients of the server, also for connections that it has closed."""
        held = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, _, _, queues, *_ = line.split()
            if int(local.partition(":")[2], 16) == self.port:
                held += int(queues.partition(":")[0], 16)
        return held

    def _warm_up(self) -> None:
        """What is made at first use is no growth: every worker, a page of each buffer, the modules that come late."""
        for _ in range(3):
            with self.connect() as raw:
                for target in ("hello", "stream", "big", "none"):
                    raw.send(f"GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                    raw.read_response()
        eventually(lambda: self.target.stats()["connections_open"] == 0)
        self._before = (self.target.memory(), self.target.threads(), self.target.descriptors())
        self.target.forget_peak()

    def _be_healthy(self) -> None:
        try:
            while not self._over.is_set():
                with Raw(("127.0.0.1", self.port), PATIENCE_S, self._source, self._tls) as raw:
                    for _ in itertools.count() if self._stays else range(10):
                        raw.send(self._ask)
                        answer = raw.read_response()
                        self._asked += 1
                        if (answer.status, answer.body) != self._expect:
                            self._problems.append(f"answered {answer}")
                            return
                        # By far less than the server can do: the attack is to have the machine.
                        if self._over.wait(0.01):
                            return
        except BaseException as problem:
            self._problems.append(f"after {self._asked} answers: {problem!r}")

    def _explain(self) -> None:
        """Prints what a failure on a machine that is out of reach can be understood by."""
        if self.target.process.poll() is None:
            print(f"the server's counters: {self.target.stats()}")
        print(f"the end of its log:\n{self.target.log[-4000:]}")

    def _judge(self) -> None:
        assert self._problems == [], "the healthy client"
        memory, threads, descriptors = self._before
        grown = self.target.memory_peak() - memory
        print(f"asked {self._asked} times, memory {memory / MIB:.1f} MiB, at most {grown / MIB:.1f} MiB more")
        assert grown < self._memory, f"memory grew by {grown / MIB:.1f} MiB"
        eventually(lambda: self.target.descriptors() <= descriptors, REST_S)
        eventually(lambda: self.target.threads() <= threads, REST_S)
        assert self.target.stats()["connections_open"] == 0
        assert "Traceback" not in self.target.log
        assert self.target.process.poll() is None
        self.target.signal(signal.SIGTERM)
        assert self.target.read() == {"clean": True}
        assert self.target.wait() == 0
