"""Everything at once: lanes, gates, deadlines, waits, deferred answers, blocks of calls and WebSockets.

Clients come and go at random while the server is asked what it does. A book of every request must balance.
"""

import contextlib
import gc
import re
import threading
from collections import Counter

import pytest

from tests.server.straining import PLACES, Book, Client, Deferrer, application
from tests.server.straining_http2 import StreamClient
from tests.server.waiting import Log, eventually
from tests.support import Raw, Running, unverified

# Until what clients have left behind is cleared away: one that has closed its side is asked again every second.
REST_S = 20.0

CLIENTS = 12
ROUNDS = 60

# By which version of HTTP clients ask, and whether they encrypt: what threads hand to each other is not the same there.
carriers = pytest.mark.parametrize(
    ("kind", "encrypted"),
    [(Client, False), (Client, True), (StreamClient, False), (StreamClient, True)],
    ids=["HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2", "HTTP/2 over TLS"],
)


class Asker(threading.Thread):
    """Asks the server what it does, all the time."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running
        self._over = threading.Event()
        self.problems: list[BaseException] = []

    def run(self) -> None:
        while not self._over.wait(0.002):
            try:
                stats = self._running.server.stats()
                assert stats["workers"] >= 1 and sum(stats["connections"].values()) >= 0
                assert "ushabti, pid" in str(self._running.server.dump())
            except Exception as problem:
                self.problems.append(problem)

    def stop(self) -> None:
        self._over.set()
        self.join()


def is_at_rest(running: Running) -> bool:
    """Whether every connection is gone, every worker is free, and every request has had one answer."""
    stats = running.server.stats()
    answered = sum(stats["answers"].values()) - stats["answers_without_worker"]
    left = ("connections_open", "queue_waiting", "workers_busy", "websockets_open")
    return not any(stats[name] for name in left) and answered == stats["requests_dispatched"]


def strain(serve, book: Book, rounds: int, *, leaves: bool, kind: type[Client], encrypted: bool) -> Running:
    """Lets clients loose on a server and waits until it is at rest again, with all of its places free."""
    deferrer = Deferrer(book)
    running = serve(
        application(book, deferrer),
        workers=(2, 8),
        thread_idle=0.1,
        lanes={"quick": 1},
        queue_timeout=0.1,
        max_queue=24,
        tls_self_signed=encrypted,
    )
    tls = unverified("h2" if kind is StreamClient else "http/1.1") if encrypted else None
    asker = Asker(running)
    asker.start()
    address = ("127.0.0.1", running.port)
    clients = [kind(address, book, seed, rounds, leaves=leaves, tls=tls) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    deferrer.stop()
    asker.stop()
    assert (book.problems, asker.problems) == ([], [])
    eventually(lambda: is_at_rest(running), REST_S)
    # Every place behind the gate is free again: each of these waits for the others.
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(Raw(address, tls=unverified("http/1.1") if encrypted else None)) for _ in range(PLACES)
        ]
        for raw in held:
            raw.send(b"GET /places HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [raw.read_response().body for raw in held] == [b"all are free"] * PLACES
    return running


def balance(book: Book, log: Log) -> None:
    """Checks what can be said of every single request."""
    assert book.twice("called", "answered", "opened", "closed", "left") == {}
    called, refused = book.count("called"), book.count("503")
    assert [number for number in book.count("200") if number not in called] == []
    assert [number for number in refused if number in called] == [], "it was refused, and run"
    assert book.count("opened") == book.count("closed"), "a WebSocket was opened, and not closed"
    # A handler that is said to be late was called.
    late = Counter(int(number) for number in re.findall(r"GET /late/(\d+): .* has not answered in", log.text()))
    assert [number for number, count in late.items() if count > 1 or number not in called] == []
    # What was to be called when a client leaves is kept no longer than its request.
    eventually(lambda: gc.collect() >= 0 and book.callbacks_left() == [])


@carriers
@pytest.mark.stress
@pytest.mark.time_limit(900)
@pytest.mark.usefixtures("hectic")
def test_book_balances_when_clients_leave_at_random(
    serve, log: Log, effort: int, kind: type[Client], encrypted: bool
) -> None:
    book = Book()
    running = strain(serve, book, ROUNDS * effort, leaves=True, kind=kind, encrypted=encrypted)
    balance(book, log)
    assert running.server.stop(10) is True


@carriers
@pytest.mark.stress
@pytest.mark.time_limit(900)
@pytest.mark.usefixtures("hectic")
def test_every_request_has_its_one_answer_when_clients_stay(
    serve, log: Log, effort: int, kind: type[Client], encrypted: bool
) -> None:
    book = Book()
    running = strain(serve, book, ROUNDS * effort // 2, leaves=False, kind=kind, encrypted=encrypted)
    balance(book, log)
    stats = running.server.stats()
    seen = {status: sum(book.count(status).values()) for status in ("200", "503", "504")}
    # Each answer was counted once, by the reason that it was given for; a WebSocket on a stream begins with a 200, too.
    assert stats["refusals"]["deadline"] == seen["504"]
    assert stats["answers"]["2xx"] == seen["200"] + len(book.count("tunnelled")) + PLACES
    assert stats["answers"]["discarded"] == 0
    assert running.server.stop(10) is True
