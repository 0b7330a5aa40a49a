"""Bodies that are sent piece by piece, and large ones: to slow readers, to those that leave, and when they fail."""

import threading
from collections.abc import Iterator

import pytest

from tests.server.waiting import Log, eventually
from tests.support import BadAnswer
from ushabti.responses import Response

HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"

# How a client sees that an answer is not whole: the connection ends within a chunk, or between two of them.
CUT = (BadAnswer, EOFError)


def pieces(*parts: str | bytes) -> Iterator[str | bytes]:
    yield from parts


def test_stream_is_sent_as_it_is_made(serve):
    go_on = threading.Event()

    def handler(request):
        yield "one"
        assert go_on.wait(10)
        yield "two"

    with serve(handler).connect() as raw:
        raw.send(GET)
        begin = b""
        while not begin.endswith(b"3\r\none\r\n"):
            begin += raw.read_some()
        go_on.set()
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest += raw.read_some()
        assert rest == b"3\r\ntwo\r\n0\r\n\r\n"


def test_stream_of_the_promised_length_has_no_chunks(serve):
    running = serve(lambda request: Response.stream(pieces("abc", "de"), headers={"Content-Length": "5"}))
    with running.connect() as raw:
        raw.send(GET * 2)
        for _ in range(2):
            answer = raw.read_response()
            assert (answer.field("content-length"), answer.field("transfer-encoding")) == ("5", None)
            assert answer.body == b"abcde"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_stream_short_of_its_length_is_cut_so_that_the_client_can_tell(serve, log: Log, version: str):
    running = serve(lambda request: Response.stream(pieces("abc"), headers={"Content-Length": "5"}))
    with running.connect() as raw:
        raw.send(f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
        with pytest.raises(CUT):
            raw.read_response()
    record = log.wait("the streamed body failed; connection cut")
    assert record.exc_info and "short of its Content-Length" in str(record.exc_info[1])


def test_stream_beyond_its_length_is_cut_at_the_length(serve, log: Log):
    running = serve(lambda request: Response.stream(pieces("abc", "def"), headers={"Content-Length": "5"}))
    with running.connect() as raw:
        raw.send(GET * 2)
        # What was promised never comes, and nothing more than that does, which would be read as the next answer.
        with pytest.raises(CUT):
            raw.read_response()
    record = log.wait("the streamed body failed; connection cut")
    assert record.exc_info and "longer than its Content-Length" in str(record.exc_info[1])


@pytest.mark.parametrize("what", [ValueError("midway"), SystemExit(3), 1], ids=["exception", "exit", "number"])
def test_stream_that_fails_midway_is_cut_so_that_the_client_can_tell(serve, log: Log, what: object):
    def handler(request):
        yield "begun"
        if isinstance(what, BaseException):
            raise what
        yield what

    running = serve(handler)
    with running.connect() as raw:
        raw.send(GET)
        with pytest.raises(CUT):
            raw.read_response()
    assert log.wait("GET /: the streamed body failed; connection cut").exc_info


def test_stream_that_fails_at_once_is_cut_or_500(serve, log: Log):
    def handler(request):
        raise ValueError("at once")
        yield

    with serve(handler).connect() as raw:
        raw.send(GET)
        try:
            status = raw.read_response().status
        except CUT:
            status = 500
        assert status == 500
    # The client may see the cut before the worker has come to log it.
    eventually(lambda: "ValueError: at once" in log.text())


class Closing:
    """A body that says when it was closed."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self.parts = parts
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        return self.parts

    def close(self) -> None:
        self.closed.set()


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65_536


@pytest.mark.parametrize("data", [GET, HEAD, GET_1_0], ids=["GET", "HEAD", "1.0"])
def test_stream_is_closed_at_its_end(serve, data: bytes):
    body = Closing(iter([b"a"]))
    with serve(lambda request: Response.stream(body)).connect() as raw:
        raw.send(data)
        raw.read_response(to_head=data == HEAD)
        assert body.closed.wait(10)


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_stream_is_closed_when_the_client_leaves(serve, leave: str):
    body = Closing(endless())
    running = serve(lambda request: Response.stream(body))
    with running.connect() as raw:
        raw.send(GET)
        raw.read_some()
        getattr(raw, leave)()
        assert body.closed.wait(10)
    eventually(lambda: running.server.stats()["connections_open"] == 0)


def test_generator_is_closed_when_the_client_leaves(serve):
    cleaned = threading.Event()

    def handler(request):
        try:
            yield from endless()
        finally:
            cleaned.set()

    with serve(handler).connect() as raw:
        raw.send(GET)
        raw.read_some()
        raw.reset()
        assert cleaned.wait(10)


def test_endless_stream_to_a_reader_that_stands_still_fills_no_memory(serve):
    sent = 0

    def handler(request):
        nonlocal sent
        for piece in endless():
            sent += len(piece)
            yield piece

    with serve(handler).connect() as raw:
        raw.send(GET)
        raw.read_some()
        # What the buffers of two sockets hold, and the server's own quarter of a megabyte.
        eventually(lambda: sent > 300_000)
        steady = -1
        while sent != steady:
            steady = sent
            threading.Event().wait(0.2)
        assert sent < 16 * 2**20


@pytest.mark.parametrize("kind", ["bytes", "stream", "stream of one piece"])
def test_huge_answer_reaches_a_slow_reader_whole(serve, kind: str):
    size = 64 * 2**20
    block = bytes(range(256)) * 4096
    whole = block * (size // len(block))

    def handler(request):
        if kind == "bytes":
            return whole
        return iter([whole]) if kind == "stream of one piece" else iter([block] * (size // len(block)))

    running = serve(handler)
    with running.connect(timeout=20) as raw:
        raw.send(GET)
        raw.socket.settimeout(20)
        # The reader begins when everything between has filled up; meanwhile the server answers others.
        with running.connect() as other:
            other.send(HEAD)
            assert other.read_response(to_head=True).status == 200
        answer = raw.read_response()
        assert len(answer.body) == size
        assert answer.body == whole
