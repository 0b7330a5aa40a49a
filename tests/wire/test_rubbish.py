"""Requests that were damaged at random: each ends in well-formed answers and the end of the connection, soon."""

import random

import pytest

from tests.support import Raw, Running
from tests.wire.app import router

REQUESTS = (
    b"GET /hello HTTP/1.1\r\nHost: a\r\nX-One: v\r\nCookie: a=b; c=d\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Late: v\r\n\r\n",
    b"GET /jars/%C3%BC?q=1&r=%20 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /show HTTP/1.1\r\nHost: [::1]:80\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    b"GET http://a.example/stream HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\n\r\n",
)
PIECES = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"%",
    b"/",
    b"\xff",
    b"0",
    b"99999999999999999999",
)
# One seed is one visit of three requests, so that what was found can be found again.
VISITS = 400


def damaged(seed: int) -> bytes:
    choose = random.Random(seed)
    data = bytearray(b"".join(choose.choices(REQUESTS, k=3)))
    for _ in range(choose.randrange(1, 4)):
        start = choose.randrange(len(data))
        match choose.randrange(4):
            case 0:
                data[start] = choose.randrange(256)
            case 1:
                data[start:start] = choose.choice(PIECES)
            case 2:
                del data[start : start + choose.randrange(1, 20)]
            case _:
                data[start:start] = data[start : start + choose.randrange(1, 40)]
    return bytes(data[: choose.randrange(1, len(data) + 1)] if choose.random() < 0.2 else data)


@pytest.mark.stress
@pytest.mark.time_limit(600)
def test_damaged_requests_are_answered_and_ended(serve, effort: int):
    running = serve(router(), workers=2)
    for seed in range(VISITS * effort):
        statuses = visit(running, damaged(seed), seed)
        assert 500 not in statuses, f"seed {seed}: {damaged(seed)!r} is answered {statuses}"
    assert running.get("/hello").body == b"hello"


def visit(running: Running, data: bytes, seed: int) -> list[int]:
    statuses = []
    with Raw(("127.0.0.1", running.port), 5) as raw:
        raw.send(data)
        raw.finish()
        try:
            while True:
                statuses.append(raw.read_response().status)
        except EOFError:
            return statuses
        except (AssertionError, OSError) as problem:
            problem.add_note(f"seed {seed}: {data!r} is answered {statuses}")
            raise
