"""Clients that vanish: nothing is left of them, everything adds up, and the server goes on."""

import gc
import random
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from tests.server.waiting import Log, eventually
from tests.support import Raw, Running
from ushabti.routing import Router

GET = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"

# Until everything that vanished clients have left is cleared away: after the linger of 2 s, with room for a loaded
# machine, and before the first time limit (`header_timeout`, 10 s) would clear it away by itself.
REST_S = 8.0

LEAVES: list[Callable[[Raw], None]] = [Raw.close, Raw.reset]


def router() -> Router:
    routes = Router()
    routes.get("/hello", lambda request: "hello")
    routes.post("/echo", lambda request: request.body)
    routes.get("/big", lambda request: b"x" * 2**20)
    routes.get("/stream", lambda request: (b"x" * 10_000 for _ in range(100)))
    return routes


def is_at_rest(running: Running) -> bool:
    """Whether every connection is gone and every request that was given to a worker has its answer counted."""
    stats = running.server.stats()
    answered = sum(stats["answers"].values()) - stats["answers_without_worker"]
    return not stats["connections_open"] and not stats["queue_waiting"] and answered == stats["requests_dispatched"]


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"G",
        b"GET /hello HTTP/1.1\r\nHo",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        GET,
        GET * 50,
        GET + b"GET /hel",
        b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    ],
)
def test_client_that_leaves_at_any_point_is_forgotten(serve, begin: bytes, leave: Callable[[Raw], None]):
    running = serve(router())
    for _ in range(3):
        raw = running.connect()
        raw.send(begin)
        leave(raw)
    eventually(lambda: running.server.stats()["connections_accepted"] == 3)
    eventually(lambda: is_at_rest(running), REST_S)
    assert running.get("/hello").body == b"hello"


@pytest.mark.parametrize("leave", LEAVES)
def test_client_that_leaves_within_its_answer_is_forgotten(serve, leave: Callable[[Raw], None]):
    running = serve(router())
    for target in ("/big", "/stream"):
        raw = running.connect()
        raw.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert raw.read_some()
        leave(raw)
    eventually(lambda: is_at_rest(running), REST_S)


@pytest.mark.parametrize("leave", LEAVES)
def test_answer_to_a_client_that_has_left_is_discarded_and_counted(serve, leave: Callable[[Raw], None]):
    began, go_on = threading.Event(), threading.Event()

    def handler(request):
        began.set()
        assert go_on.wait(10)
        return b"x" * 100_000

    running = serve(handler)
    raw = running.connect()
    raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert began.wait(10)
    leave(raw)
    # A client that closes may as well have closed only its side, and read on: that it has not shows when it is sent to.
    if leave is Raw.reset:
        eventually(lambda: running.server.stats()["connections_open"] == 0)
    go_on.set()
    eventually(lambda: is_at_rest(running), REST_S)
    answers = running.server.stats()["answers"]
    assert answers["2xx"] + answers["discarded"] == 1
    if leave is Raw.reset:
        assert answers["discarded"] == 1


@pytest.mark.parametrize("when", ["before the first piece", "after the first piece"])
def test_stream_whose_client_has_left_is_counted_and_logged(serve, log: Log, when: str):
    began, go_on = threading.Event(), threading.Event()

    def handler(request):
        if when == "after the first piece":
            yield b"first"
        began.set()
        assert go_on.wait(10)
        while True:
            yield b"x" * 65_536

    running = serve(handler, access_log="json")
    raw = running.connect()
    raw.send(GET)
    assert began.wait(10)
    raw.reset()
    go_on.set()
    eventually(lambda: running.server.stats()["connections_open"] == 0)
    eventually(lambda: is_at_rest(running), REST_S)
    assert running.server.stats()["answers"]["discarded"] == 1
    log.wait('"status":499', REST_S)


def test_stream_that_fails_is_counted_and_logged(serve, log: Log):
    def handler(request):
        yield "first"
        raise ValueError("midway")

    running = serve(handler, access_log="json")
    with running.connect() as raw:
        raw.send(GET)
        assert b"first" in raw.read_all()
    eventually(lambda: is_at_rest(running), REST_S)
    assert running.server.stats()["answers"]["2xx"] == 1
    log.wait('"target":"/hello"', REST_S)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_client_that_closes_its_side_gets_all_its_answers_and_the_end(serve, depth: int):
    go_on = threading.Event()

    def handler(request):
        # The end of the client's bytes is known before the first answer is.
        eventually(lambda: request.disconnected)
        assert go_on.wait(10)
        return "hello"

    running = serve(handler)
    with running.connect(timeout=3) as raw:
        raw.send(GET * depth)
        raw.finish()
        go_on.set()
        assert [raw.read_response().body for _ in range(depth)] == [b"hello"] * depth
        assert raw.read_all() == b"", "the connection stays open after the last answer"
    eventually(lambda: running.server.stats()["connections_open"] == 0)


class Vandal(threading.Thread):
    """Connects again and again, says something whole or cut off, and leaves in some way at some point."""

    REQUESTS = (
        GET,
        GET * 3,
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n01234567890123456789",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
        b"rubbish\r\n\r\n",
    )

    def __init__(self, port: int, seed: int, rounds: int) -> None:
        super().__init__()
        self._address = ("127.0.0.1", port)
        self._random = random.Random(seed)
        self._rounds = rounds
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(self._rounds):
                self._visit()
        except BaseException as problem:
            self.problem = problem

    def _visit(self) -> None:
        choose = self._random
        with socket.create_connection(self._address, 10) as connection:
            data = choose.choice(self.REQUESTS)
            if choose.random() < 0.6:
                data = data[: choose.randrange(len(data))]
            try:
                connection.sendall(data)
                if choose.random() < 0.5:
                    connection.settimeout(choose.choice([0.001, 0.01]))
                    connection.recv(choose.choice([1, 100, 100_000]))
            except OSError:
                pass  # The server was faster, or slower; both are what is tested.
            if choose.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.stress
@pytest.mark.time_limit(600)
@pytest.mark.usefixtures("hectic")
def test_thousands_of_clients_that_leave_at_random_leave_nothing_behind(serve, effort: int):
    # As many threads at the end as at the start: conftest.py fails a test that leaves one, or a descriptor.
    running = serve(router(), workers=(2, 16), thread_idle=0.2)
    vandals = [Vandal(running.port, seed, 250 * effort) for seed in range(16)]
    for vandal in vandals:
        vandal.start()
    # In between an honest client is served, every time.
    with running.connect() as raw:
        while any(vandal.is_alive() for vandal in vandals):
            raw.send(GET)
            assert raw.read_response().body == b"hello"
    for vandal in vandals:
        vandal.join()
    assert [vandal.problem for vandal in vandals if vandal.problem] == []
    eventually(lambda: is_at_rest(running), REST_S)
    stats = running.server.stats()
    assert stats["connections_accepted"] == 16 * 250 * effort + 1
    assert running.get("/hello").body == b"hello"
    eventually(lambda: running.server.stats()["workers"] == 2)
    assert running.server.stop(10) is True
    gc.collect()


@pytest.mark.stress
@pytest.mark.time_limit(600)
@pytest.mark.usefixtures("hectic")
def test_no_wake_is_lost_between_workers_and_many_connections(serve, effort: int):
    # A request that is not answered although nothing is wrong with it is a lost wake; the client's patience finds it.
    running = serve(router(), workers=(2, 8))
    problems: list[BaseException] = []

    def ask() -> None:
        try:
            with Raw(("127.0.0.1", running.port)) as raw:
                for depth in (1, 2, 1, 3) * 25 * effort:
                    raw.send(GET * depth)
                    for _ in range(depth):
                        assert raw.read_response().body == b"hello"
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    eventually(lambda: is_at_rest(running), REST_S)
    assert running.server.stats()["answers"]["2xx"] == 24 * 7 * 25 * effort
