"""The clients of the soak: threads that visit the server in all the ways that clients have, at a bounded rate."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable

from tools.soak.app import PIECE, PIECES
from ushabti.testing import Answer, Client

# Any wait of a client. Far above what the server takes, also on a machine that has other work.
PATIENCE_S = 30.0
# What a failed visit says is kept for so many; there is one cause, or a few.
PROBLEMS_MAX = 20


class Wrong(Exception):
    """The server has answered what it should not."""


class Pace:
    """Gives out moments, so many a second, to all threads that ask."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def wait(self) -> None:
        """Returns at the next moment that is free. What was missed is not made good: it would come as a burst."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next + self._gap, now)
            mine = self._next
        time.sleep(mine - now)


class Load:
    """Threads that visit ``port`` until they are told to stop.

    Attributes:
        counts: How many operations of each kind were done, all together.
        problems: What went wrong, in words; empty if all is well.
    """

    def __init__(self, port: int, rate: float, threads: int) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._port = port
        self._pace = Pace(rate)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the load when the visits that have begun are over."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        visitor = Visitor(self._port, random.Random(seed), self._pace, self.counts)
        while not self._stop.is_set():
            try:
                visitor.visit()
            except (OSError, http.client.HTTPException, Wrong, AssertionError) as problem:
                self.problems.append(f"{visitor.kind}: {problem!r}")
                if len(self.problems) >= PROBLEMS_MAX:
                    self._stop.set()


class Visitor:
    """One client after another, of one thread. Counters of several threads are added to without a lock: they inform."""

    def __init__(self, port: int, choose: random.Random, pace: Pace, counts: Counter[str]) -> None:
        self.kind = ""
        self._port, self._choose, self._pace, self._counts = port, choose, pace, counts
        self._kinds: list[tuple[str, int, Callable[[], None]]] = [
            ("kept alive", 6, self._keep_alive),
            ("one request", 3, self._one),
            ("errors", 2, self._errors),
            ("stream", 2, self._stream),
            ("vanishing", 3, self._vanish),
            ("echo", 3, self._echo),
            ("room", 2, self._room),
        ]

    def visit(self) -> None:
        """One visit of a kind that chance chooses."""
        weights = [weight for _, weight, _ in self._kinds]
        self.kind, _, go = self._choose.choices(self._kinds, weights)[0]
        go()
        self._counts[self.kind] += 1

    def _client(self) -> Client:
        return Client(f"http://127.0.0.1:{self._port}", PATIENCE_S)

    def _ask(self, client: Client, method: str, path: str, expected: int, **options: object) -> Answer:
        self._pace.wait()
        answer = client.request(method, path, **options)  # type: ignore[arg-type]
        if answer.status != expected:
            raise Wrong(f"{method} {path}: {answer.status} instead of {expected}")
        return answer

    def _keep_alive(self) -> None:
        with self._client() as client:
            for _ in range(self._choose.randrange(1, 30)):
                self._request(client)

    def _one(self) -> None:
        with self._client() as client:
            self._ask(client, "GET", "/hello", 200, headers={"Connection": "close"})

    def _request(self, client: Client) -> None:
        match self._choose.randrange(5):
            case 0:
                answer = self._ask(client, "GET", "/users/7?limit=5", 200)
                is_right = answer.json()["limit"] == "5"
            case 1:
                is_right = self._ask(client, "GET", "/wait", 200).body == b"waited"
            case 2:
                body = self._choose.randbytes(self._choose.choice([0, 10, 1000, 100_000]))
                is_right = self._ask(client, "POST", "/echo", 200, body=body).body == body
            case 3:
                pieces = [self._choose.randbytes(1000) for _ in range(5)]
                is_right = self._ask(client, "POST", "/echo", 200, body=iter(pieces)).body == b"".join(pieces)
            case _:
                is_right = self._ask(client, "GET", "/hello", 200).body == b"hello"
        if not is_right:
            raise Wrong("the body is not the one that was asked for")

    def _errors(self) -> None:
        with self._client() as client:
            for method, path, expected in (("GET", "/none", 404), ("PUT", "/hello", 405), ("GET", "/fail", 500)):
                self._ask(client, method, path, expected)
        for data, status in (
            (b"rubbish\r\n\r\n", b"400"),
            (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", b"413"),
            (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", b"431"),
        ):
            self._pace.wait()
            with self._connect() as connection:
                connection.sendall(data)
                got = connection.recv(1000)
                if got[9:12] != status:
                    raise Wrong(f"{data[:20]!r}: answered {got[:30]!r}")

    def _stream(self) -> None:
        with self._client() as client:
            if self._ask(client, "GET", "/stream", 200).body != PIECE * PIECES:
                raise Wrong("the streamed body is not whole")
        self._pace.wait()
        with self._connect() as connection:
            connection.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.recv(1000)
            self._leave(connection)

    def _vanish(self) -> None:
        for begin in (
            b"",
            b"GET /hel",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc",
            b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 20,
        ):
            self._pace.wait()
            with self._connect() as connection:
                connection.sendall(begin)
                self._leave(connection)

    def _echo(self) -> None:
        with self._client() as client, client.websocket("/ws") as ws:
            for _ in range(self._choose.randrange(20)):
                message = self._choose.randbytes(self._choose.choice([0, 10, 1000, 70_000]))
                self._pace.wait()
                ws.send(message)
                if ws.receive() != message:
                    raise Wrong("the echo is not what was sent")
                self._counts["messages"] += 1

    def _room(self) -> None:
        with self._client() as client, client.websocket("/room") as ws:
            for _ in range(self._choose.randrange(10)):
                message = self._choose.randbytes(20).hex()
                self._pace.wait()
                ws.send(message)
                # What others say comes, too.
                while ws.receive() != message:
                    pass
                self._counts["messages"] += 1
            if self._choose.random() < 0.3:
                ws.abort()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), PATIENCE_S)

    def _leave(self, connection: socket.socket) -> None:
        """Half of those who vanish do so with a reset."""
        if self._choose.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
