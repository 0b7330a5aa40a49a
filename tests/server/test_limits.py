"""Every limit ends in an answer: sizes, times, and how much there may be at once."""

import threading
import time

import pytest

from tests.server.waiting import Gate, Log, eventually
from tests.support import Raw
from ushabti.routing import Router

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# The clock looks every tenth of a second.
SHORT_S = 0.3
# What a client keeps to must leave room for a machine that stands still for half a second.
FAIR_S = 1.0


def hello(request) -> str:
    return "hello"


# ---- times


@pytest.mark.parametrize(
    "begin", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX: "], ids=["nothing", "one byte", "half a head"]
)
def test_head_that_does_not_come_is_408(serve, begin: bytes):
    running = serve(hello, header_timeout=SHORT_S)
    with running.connect() as raw:
        began = time.monotonic()
        raw.send(begin)
        answer = raw.read_response() if begin else None
        assert raw.read_all() == b""
        took = time.monotonic() - began
    if answer:
        assert (answer.status, answer.field("connection")) == (408, "close")
        assert b"the request head did not arrive in time" in answer.body
    assert SHORT_S <= took < SHORT_S + 3


def test_head_that_comes_slowly_is_408_however_busy_it_looks(serve):
    with serve(hello, header_timeout=SHORT_S).connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.02):
                try:
                    raw.send(b"X: y\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert raw.read_response().status == 408
        finally:
            stop.set()
            thread.join()


def test_second_head_on_a_connection_has_its_own_time(serve):
    with serve(hello, header_timeout=FAIR_S).connect() as raw:
        for _ in range(4):
            raw.send(GET[:10])
            time.sleep(FAIR_S * 0.3)
            raw.send(GET[10:])
            assert raw.read_response().body == b"hello"
        raw.send(GET[:10])
        assert raw.read_response().status == 408


@pytest.mark.parametrize("coding", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_body_that_stops_coming_is_408(serve, coding: str):
    with serve(hello, body_timeout=SHORT_S).connect() as raw:
        raw.send(f"POST / HTTP/1.1\r\nHost: a\r\n{coding}\r\n\r\n".encode() + b"5\r\nab")
        answer = raw.read_response()
        assert (answer.status, answer.field("connection")) == (408, "close")
        assert b"the body did not arrive in time" in answer.body
        assert raw.read_all() == b""


def test_body_that_comes_slowly_is_served_where_no_rate_is_asked(serve):
    running = serve(lambda request: request.body, body_timeout=FAIR_S, header_timeout=FAIR_S, min_rate=0)
    with running.connect() as raw:
        raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        for byte in b"slowly":
            time.sleep(FAIR_S / 4)
            raw.send(bytes([byte]))
        assert raw.read_response().body == b"slowly"


def test_body_of_a_refused_request_has_its_own_time(serve):
    """From its own head on, however old the server and the connection are."""
    with serve(Router(), body_timeout=FAIR_S, min_rate=0).connect() as raw:
        for _ in range(2):
            time.sleep(1.2 * FAIR_S)
            raw.send(b"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
            for digit in b"0123456789":
                time.sleep(FAIR_S / 20)
                raw.send(bytes([digit]))
            answer = raw.read_response()
            assert (answer.status, answer.field("connection")) == (404, None)


@pytest.mark.parametrize(
    "rest",
    [b"", b"5\r\nhello\r\nno chunk", b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n2\r\n"],
    ids=["none", "wrong", "too much"],
)
def test_fault_of_a_body_that_is_thrown_away_is_no_news(serve, log: Log, rest: bytes):
    """The client is told what was wrong with its request, and so is the log."""
    with serve(Router(), body_timeout=SHORT_S, access_log="text").connect() as raw:
        raw.send(b"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + rest)
        answer = raw.read_response()
        assert (answer.status, answer.field("connection")) == (404, "close")
        assert raw.read_all() == b""
    log.wait('"POST /none HTTP/1.1" 404')
    assert "answered" not in log.text()


def test_client_that_asks_for_a_continue_and_sends_nothing_is_408(serve):
    with serve(hello, body_timeout=SHORT_S).connect() as raw:
        raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert [raw.read_response().status, raw.read_response().status] == [100, 408]


def test_connection_that_rests_too_long_is_closed_without_a_word(serve):
    with serve(hello, keep_alive=SHORT_S).connect() as raw:
        raw.send(GET)
        assert raw.read_response().body == b"hello"
        began = time.monotonic()
        assert raw.read_all() == b""
        assert SHORT_S - 0.15 <= time.monotonic() - began < SHORT_S + 3


def test_connection_in_use_is_not_closed_for_its_age(serve):
    with serve(hello, keep_alive=FAIR_S, header_timeout=FAIR_S).connect() as raw:
        for _ in range(6):
            raw.send(GET)
            assert raw.read_response().body == b"hello"
            time.sleep(FAIR_S / 4)


def test_handler_may_take_longer_than_every_time_limit(serve, gate: Gate):
    limits = {"header_timeout": 0.1, "body_timeout": 0.1, "keep_alive": 0.1, "write_timeout": 0.1}
    with serve(gate, **limits).connect() as raw:
        raw.send(GET)
        gate.wait()
        time.sleep(0.6)
        gate.open.set()
        assert raw.read_response().body == b"let go"


@pytest.mark.parametrize("kind", ["bytes", "stream"])
def test_reader_that_takes_nothing_is_cut_and_logged(serve, log: Log, kind: str):
    ended = threading.Event()

    def handler(request):
        if kind == "bytes":
            ended.set()
            return b"x" * 2**25

        def pieces():
            try:
                while True:
                    yield b"x" * 65_536
            finally:
                ended.set()

        return pieces()

    running = serve(handler, write_timeout=SHORT_S)
    with running.connect() as raw:
        raw.send(GET)
        log.wait("took no byte of its answer")
        assert ended.wait(10)
        eventually(lambda: running.server.stats()["connections_open"] == 0)


def test_reader_that_takes_a_little_at_a_time_gets_all(serve):
    size = 2**24
    running = serve(lambda request: b"x" * size, write_timeout=0.5)
    with running.connect() as raw:
        raw.send(GET)
        got, began = 0, time.monotonic()
        # Four times the limit, with something taken five times within each: slow, but never standing still. The system
        # tells the server of the room only when a third of the socket's buffer is free, which takes longer.
        while time.monotonic() - began < 2:
            got += len(raw.socket.recv(65_536))
            time.sleep(0.1)
        assert got + _read_at_least(raw, size - got) >= size


def test_pause_of_the_handler_is_not_counted_against_the_reader(serve):
    block = b"x" * 2**25

    def handler(request):
        yield block
        # Nothing waits for the reader during this time.
        time.sleep(1.2)
        yield block

    with serve(handler, write_timeout=1.5).connect() as raw:
        raw.send(GET)
        got = _read_at_least(raw, len(block))
        time.sleep(1.2)
        # The second block is on its way for a moment only, and now the reader rests for less than the limit.
        time.sleep(0.6)
        assert got + _read_at_least(raw, 2 * len(block) - got) >= 2 * len(block)


def _read_at_least(raw: Raw, count: int) -> int:
    got = 0
    while got < count:
        some = raw.socket.recv(2**20)
        assert some, f"cut {count - got} bytes before the end"
        got += len(some)
    return got


# ---- sizes


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 9 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"32\r\n%b\r\n" % (b"x" * 50) * 3, 413),
    ],
)
def test_size_limit_is_answered_and_the_connection_closed(serve, data: bytes, status: int):
    running = serve(hello, max_headers="1 KiB", max_fields=8, max_body=100)
    with running.connect() as raw:
        raw.send(data)
        answer = raw.read_response()
        assert (answer.status, answer.field("connection")) == (status, "close")
        assert raw.read_all() == b""
    assert running.get("/").body == b"hello"


def test_answer_to_an_oversized_body_is_read_by_a_client_that_sends_it_all_first(serve):
    # Closing at once would make the system reset the connection, and the client would never see why.
    body = b"x" * 2**21
    with serve(hello, max_body="64 KiB").connect() as raw:
        raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
        raw.send(body)
        assert raw.read_response().status == 413
        assert raw.read_all() == b""


def test_route_may_take_more_or_less_than_the_server(serve):
    router = Router()
    router.post("/more", lambda request: str(len(request.body)), max_body="1 KiB")
    router.post("/less", lambda request: str(len(request.body)), max_body=10)
    router.post("/same", lambda request: str(len(request.body)))
    router.post("/none", lambda request: str(len(request.body)), max_body=0)
    running = serve(router, max_body=100)

    def post(path: str, size: int) -> int:
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        return running.ask(head.encode() + b"x" * size).status

    assert [post("/more", 1024), post("/more", 1025)] == [200, 413]
    assert [post("/less", 10), post("/less", 11)] == [200, 413]
    assert [post("/same", 100), post("/same", 101)] == [200, 413]
    assert [post("/none", 0), post("/none", 1)] == [200, 413]


# ---- how much at once


def test_full_queue_is_503_with_retry_after(serve, gate: Gate):
    running = serve(gate, workers=1, max_queue=2)
    held = [running.connect() for _ in range(3)]
    held[0].send(GET)
    gate.wait()
    for raw in held[1:]:
        raw.send(GET)
    eventually(lambda: running.server.stats()["queue_waiting"] == 2)
    with running.connect() as raw:
        raw.send(GET)
        answer = raw.read_response()
        assert (answer.status, answer.field("retry-after"), answer.field("connection")) == (503, "1", None)
        # The connection goes on, and so does the server when there is room.
        gate.open.set()
        assert [other.read_response().body for other in held] == [b"let go"] * 3
        raw.send(GET)
        assert raw.read_response().status == 200


def test_connection_beyond_the_maximum_is_503_and_closed(serve):
    running = serve(hello, max_connections=3)
    held = [running.connect() for _ in range(3)]
    for raw in held:
        raw.send(GET)
        assert raw.read_response().status == 200
    with running.connect() as raw:
        answer = raw.read_response()
        assert (answer.status, answer.field("retry-after"), answer.field("connection")) == (503, "1", "close")
        assert b"as many connections as it can take" in answer.body
        assert raw.read_all() == b""
    held[0].close()
    eventually(lambda: running.server.stats()["connections_open"] < 3)
    assert running.get("/").body == b"hello"


def test_storm_of_connections_beyond_the_maximum_leaves_the_others_alone(serve):
    running = serve(hello, max_connections=2)
    kept = running.connect()
    kept.send(GET)
    assert kept.read_response().status == 200
    storm = [running.connect() for _ in range(200)]
    kept.send(GET)
    assert kept.read_response().status == 200
    for raw in storm:
        raw.close()
    eventually(lambda: running.server.stats()["connections_open"] <= 1)
    assert running.get("/").body == b"hello"


def test_flood_of_pipelined_requests_is_held_back(serve, gate: Gate):
    with serve(gate).connect() as raw:
        raw.send(GET)
        gate.wait()
        raw.socket.setblocking(False)
        sent, quiet = 0, 0
        # The first one is not answered, so the server reads no more than a little of what follows it, and the system's
        # buffers fill.
        while quiet < 3 and sent < 2**26:
            try:
                sent += raw.socket.send(GET * 1000)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.05)
        assert sent < 2**26, "the server read everything"
        raw.socket.settimeout(10)
        gate.open.set()
        assert raw.read_response().body == b"let go"
        assert raw.read_response().body == b"let go"


def test_client_that_pipelines_and_never_reads_is_held_back_and_cut(serve, log: Log):
    running = serve(lambda request: b"x" * 100_000, write_timeout=SHORT_S)
    with running.connect() as raw:
        raw.send(GET * 1000)
        log.wait("took no byte of its answer")
        assert running.server.stats()["requests_dispatched"] < 1000
        eventually(lambda: running.server.stats()["connections_open"] == 0)


def test_deep_pipeline_is_answered_in_order_without_loss(serve):
    router = Router()
    router.get("/{number:int}", lambda request, number: str(number))
    # More than the server reads at once, by their size and not by their number: each of them changes threads twice, and
    # waits for a busy core each time.
    count, rest = 400, b"x" * 400
    with serve(router).connect() as raw:
        data = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (number, rest) for number in range(count))
        sender = threading.Thread(target=raw.send, args=(data,))
        sender.start()
        assert [int(raw.read_response().body) for _ in range(count)] == list(range(count))
        sender.join()
