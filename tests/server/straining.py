"""An application that uses everything at once, clients that come and go at random, and a book that must balance.

Every request has a number of its own in its target. The book notes what became of each, on both sides.
"""

import contextlib
import queue
import random
import ssl
import threading
import time
import weakref
from collections import Counter, defaultdict
from typing import Any

from tests.server.waiting import PATIENCE_S
from tests.server.websocketing import TEXT, Dialled, close_frame, frame, handshake
from tests.support import Raw
from ushabti import Request, Router
from ushabti.errors import UshabtiError

__all__ = ["KINDS", "PLACES", "Book", "Client", "Deferrer", "application", "load"]

KINDS = ("plain", "slow", "gate", "late", "watch", "defer", "gather", "lane", "load")

# How many of a route's requests may run at once.
PLACES = 2


def load(number: int) -> bytes:
    """The body that goes with this number, where one is sent."""
    return f"{number} ".encode() * (number % 1000)


def _request(kind: str, number: int) -> bytes:
    if kind == "load":
        body = load(number)
        return f"POST /load/{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    return f"GET /{kind}/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


class Callback:
    """What ``on_disconnect`` is given: it counts its calls, and a weak reference tells whether it is still kept."""

    def __init__(self, book: "Book", number: int) -> None:
        self.called = threading.Event()
        self._book, self.number = book, number
        self._place = book.keep(self)

    def __call__(self) -> None:
        self.called.set()
        self._book.note("left", (self.number, self._place))


class Book:
    """What happened to each request. Any thread writes; it is read when all is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[str, Counter[Any]] = defaultdict(Counter)
        self._running: Counter[str] = Counter()
        self._kept: list[weakref.ref[Callback]] = []
        self.problems: list[str] = []

    def note(self, what: str, which: object) -> None:
        """Counts that it has happened."""
        with self._lock:
            self._counts[what][which] += 1

    def keep(self, callback: Callback) -> int:
        """Writes a callback down, and returns on which line."""
        with self._lock:
            self._kept.append(weakref.ref(callback))
            return len(self._kept)

    def problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    def count(self, what: str) -> Counter[Any]:
        """How often it has happened, by request."""
        with self._lock:
            return Counter(self._counts[what])

    def twice(self, *whats: str) -> dict[str, list[Any]]:
        """What has happened more than once to the same request."""
        return {what: found for what in whats if (found := [k for k, n in self.count(what).items() if n > 1])}

    def callbacks_left(self) -> list[int]:
        """The requests whose callbacks are still kept by somebody."""
        with self._lock:
            return [callback.number for kept in self._kept if (callback := kept()) is not None]

    @contextlib.contextmanager
    def inside(self, place: str, most: int) -> Any:
        """Notes that ``place`` is entered, where no more than ``most`` may be at once."""
        with self._lock:
            self._running[place] += 1
            if self._running[place] > most:
                self.problems.append(f"{self._running[place]} are in {place} at once")
        try:
            yield
        finally:
            with self._lock:
                self._running[place] -= 1


class Deferrer:
    """Threads that answer what handlers have deferred, or forget it now and then."""

    def __init__(self, book: Book, threads: int = 2) -> None:
        self._book = book
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, request: Request) -> None:
        self._requests.put(request)

    def stop(self) -> None:
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        choose = random.Random(seed)
        while (request := self._requests.get()) is not None:
            number = int(request.path_params["number"])
            other = threading.Thread(target=request.on_disconnect, args=(Callback(self._book, number),))
            other.start()
            if choose.random() < 0.5:
                time.sleep(choose.random() * 0.002)
            # Beside the other thread: the end of a request against the wish to be told of its client.
            request.respond(body=f"defer {number}")
            other.join()
            del request, other


def application(book: Book, deferrer: Deferrer) -> Router:
    """Routes that note their calls, one for each of :data:`KINDS`, and a WebSocket behind a gate."""
    router = Router()
    local = threading.local()

    def chosen() -> float:
        if not hasattr(local, "random"):
            local.random = random.Random(threading.get_ident())
        return float(local.random.random())

    @router.get("/plain/{number:int}")
    def plain(request: Request, number: int) -> str:
        book.note("called", number)
        return f"plain {number}"

    @router.get("/slow/{number:int}")
    def slow(request: Request, number: int) -> str:
        book.note("called", number)
        request.on_disconnect(Callback(book, number))
        time.sleep(chosen() * 0.005)
        return f"slow {number}"

    @router.get("/gate/{number:int}", concurrency=PLACES, queue=20)
    def gate(request: Request, number: int) -> str:
        book.note("called", number)
        with book.inside("the gate", PLACES):
            time.sleep(chosen() * 0.002)
        return f"gate {number}"

    @router.get("/late/{number:int}", deadline=0.02)
    def late(request: Request, number: int) -> str:
        book.note("called", number)
        request.on_disconnect(Callback(book, number))
        time.sleep(chosen() * 0.04)
        request.on_disconnect(Callback(book, number))
        return f"late {number}"

    @router.get("/watch/{number:int}")
    def watch(request: Request, number: int) -> str:
        book.note("called", number)
        callbacks = [Callback(book, number), Callback(book, number)]
        request.on_disconnect(callbacks[0])
        until = time.monotonic() + 0.01 * chosen()
        while not request.disconnected and time.monotonic() < until:
            time.sleep(0.0005)
        request.on_disconnect(callbacks[1])
        # It is not over, so whoever wanted to know of a client that has left is told.
        if request.disconnected and not all(callback.called.wait(PATIENCE_S) for callback in callbacks):
            book.problem(f"watch {number}: the client has left, and nobody was told")
        return f"watch {number}"

    @router.get("/defer/{number:int}")
    def defer(request: Request, number: int) -> None:
        book.note("called", number)
        request.defer()
        deferrer.put(request)

    @router.get("/gather/{number:int}")
    def gather(request: Request, number: int) -> str:
        book.note("called", number)
        try:
            with request.gather() as calls:
                made = [calls.call(twice, number) for _ in range(4)]
            total = sum(call.result() for call in made)
        except UshabtiError:
            return f"gather {number}"  # The client has left, or has closed its side and is there still.
        if total != 8 * number:
            book.problem(f"gather {number}: {total}")
        return f"gather {number}"

    def twice(number: int) -> int:
        time.sleep(chosen() * 0.001)
        return 2 * number

    @router.get("/lane/{number:int}", lane="quick")
    def lane(request: Request, number: int) -> str:
        book.note("called", number)
        if not threading.current_thread().name.startswith("ushabti-quick-"):
            book.problem(f"lane {number} runs on {threading.current_thread().name}")
        return f"lane {number}"

    @router.post("/load/{number:int}")
    def loaded(request: Request, number: int) -> str:
        book.note("called", number)
        if request.body != load(number):
            book.problem(f"load {number}: {len(request.body)} bytes instead of {len(load(number))}, or others")
        return f"load {number}"

    @router.websocket("/socket/{number:int}", concurrency=PLACES, queue=20)
    class Socket:
        def on_open(self, ws: Any) -> None:
            self.number = int(ws.request.path_params["number"])
            self.next = 0
            book.note("opened", self.number)

        def on_message(self, ws: Any, message: Any) -> None:
            if message.data != f"{self.number} {self.next}":
                book.problem(f"socket {self.number}: {message.data} instead of {self.next}")
            self.next += 1
            ws.send(message)

        def on_close(self, ws: Any, code: int, reason: str, clean: bool) -> None:
            book.note("closed", self.number)

    barrier = threading.Barrier(PLACES)

    @router.get("/places", concurrency=PLACES)
    def places(request: Request) -> str:
        barrier.wait(PATIENCE_S)
        return "all are free"

    return router


class Client(threading.Thread):
    """Connects again and again, asks for this and that, and leaves in some way at some point.

    Args:
        address: Where the server is.
        book: Where it notes what it was answered.
        seed: Of its random numbers; no two clients have the same.
        rounds: How often it connects.
        leaves: Whether it leaves before it has its answers, now and then.
        tls: How it encrypts, if it does.
    """

    def __init__(
        self,
        address: tuple[str, int],
        book: Book,
        seed: int,
        rounds: int,
        *,
        leaves: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(name=f"client {seed}")
        self._address = address
        self._tls = tls
        self._book = book
        self._random = random.Random(seed)
        self._rounds = rounds
        self._leaves = leaves
        self._number = seed * 10_000_000

    def run(self) -> None:
        for _ in range(self._rounds):
            try:
                with contextlib.closing(Raw(self._address, tls=self._tls)) as raw:
                    self.visit(raw)
            except (AssertionError, EOFError, OSError) as problem:
                notes = getattr(problem, "__notes__", "")
                self._book.problem(f"{self.name}, {self._number}: {problem!r} {notes}")

    def visit(self, raw: Raw) -> None:
        """Does what is done with one connection."""
        if self._random.random() < 0.1:
            self._upgrade(raw)
        else:
            self._ask(raw)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _ask(self, raw: Raw) -> None:
        choose = self._random
        for _ in range(choose.choice((1, 1, 2, 4))):
            asked = [(choose.choice(KINDS), self._next()) for _ in range(choose.choice((1, 1, 1, 3)))]
            data = b"".join(_request(*one) for one in asked)
            if self._leaves and choose.random() < 0.4:
                self._leave(raw, data)
                return
            raw.send(data)
            # Over TLS Python's client can't close its side alone.
            is_last = self._leaves and not self._tls and choose.random() < 0.2
            if is_last:
                raw.finish()
            for kind, number in asked:
                if not self._read(raw, kind, number):
                    return
            if is_last:
                assert raw.read_all() == b""
                return

    def _read(self, raw: Raw, kind: str, number: int) -> bool:
        """Reads the answer to one request. False: the connection ends with it."""
        while (answer := raw.read_response()).status == 100:
            pass  # It was asked whether it is still there.
        self._answered(kind, number, answer.status, answer.body)
        return answer.field("connection") != "close"

    def _answered(self, kind: str, number: int, status: int, body: bytes) -> None:
        self._book.note("answered", number)
        self._book.note(str(status), number)
        if status == 200:
            assert body == f"{kind} {number}".encode(), (kind, number, status, body)
        else:
            assert status in (503, 504), (kind, number, status, body)

    def _leave(self, raw: Raw, data: bytes) -> None:
        """Leaves at some point: in the midst of a request, or of what is done for it."""
        choose = self._random
        if choose.random() < 0.3:
            data = data[: choose.randrange(len(data))]
        with contextlib.suppress(OSError):
            raw.send(data)
            self._dawdle()
            if not self._tls and choose.random() < 0.3:
                raw.finish()
        if choose.random() < 0.6:
            raw.reset()

    def _dawdle(self) -> None:
        if self._random.random() < 0.7:
            time.sleep(self._random.choice((0.0, 0.001, 0.003, 0.01)) * self._random.random())

    def _upgrade(self, raw: Raw) -> None:
        choose = self._random
        number = self._next()
        raw.send(handshake(f"/socket/{number}"))
        if self._leaves and choose.random() < 0.3:
            raw.reset()
            return
        answer = raw.read_response()
        if answer.status != 101:
            assert answer.status in (503, 504), answer
            return
        if not self._converse(Dialled(raw, answer), number):
            return
        if choose.random() < 0.5:
            raw.reset()
        else:
            with contextlib.suppress(OSError):
                raw.send(close_frame())

    def _converse(self, ws: Dialled, number: int) -> bool:
        """Sends some messages and closes. True: it is to leave without that."""
        choose = self._random
        for count in range(choose.randrange(4)):
            ws.raw.send(frame(TEXT, f"{number} {count}".encode()))
            if choose.random() < 0.7 or not self._leaves:
                assert ws.read() == f"{number} {count}"
            else:
                break
        if self._leaves and choose.random() < 0.6:
            return True
        ws.close()
        return False
