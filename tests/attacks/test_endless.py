"""Requests without an end, as fast as the server takes them: each ends in its answer, and costs no memory."""

import pytest

from tests.attacks.crowd import assault, crowd
from tests.attacks.program import BIG_BYTES
from tests.attacks.siege import MIB, Siege, needs_linux

pytestmark = [pytest.mark.attack, pytest.mark.time_limit(240), needs_linux]

POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
# After the answer the server reads on for 2 s, so that the answer is not destroyed, whatever the client sends.
LINGER_S = 2.0
SLACK_S = 15.0
# Heads of 32 KiB and bodies of 64 KiB for each connection, and the server's one buffer for all of them.
MEMORY = 24 * MIB


@pytest.mark.parametrize(
    ("opening", "piece", "status"),
    [
        (b"GET /", b"a" * 1000, 414),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: ", b"a" * 1000, 431),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n" * 100, 431),
        (b"\r\n", b"\r\n" * 500, 400),
        (POST + b"5", b"0" * 1000, 400),
        (POST + b"5;", b"a" * 1000, 400),
        (POST, b"1;" + b"a" * 100 + b"\r\nx\r\n", 400),
        (POST, b"1\r\nx\r\n" * 100, 413),
        (POST, b"4000\r\n" + b"x" * 0x4000 + b"\r\n", 413),
        (POST + b"0\r\nX: ", b"a" * 1000, 431),
        (POST + b"0\r\n", b"X: y\r\n" * 100, 431),
        (b"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100, 404),
    ],
    ids=[
        "target",
        "field value",
        "fields",
        "empty lines",
        "chunk size",
        "chunk extension",
        "chunk extensions",
        "small chunks",
        "chunks",
        "trailer value",
        "trailers",
        "refused body",
    ],
)
def test_what_has_no_end_is_answered_and_cut(effort: int, opening: bytes, piece: bytes, status: int):
    with (
        Siege(memory=MEMORY, max_body="64 KiB") as siege,
        crowd(siege.port, 8 * effort, opening) as hostiles,
    ):
        assault(hostiles, piece, seconds=LINGER_S + SLACK_S, stubborn=True)
        assert {hostile.status for hostile in hostiles} == {status}
        assert None not in [hostile.lasted for hostile in hostiles]


def test_pipelines_that_nobody_reads_are_held_back_and_cut(effort: int):
    """Nothing is read beyond a bound while the answers wait, and they wait no longer than a reader may."""
    request = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n"
    with (
        Siege(memory=8 * (BIG_BYTES + MIB) + 24 * MIB, write_timeout=1) as siege,
        crowd(siege.port, 8, room=4096) as hostiles,
    ):
        for _ in range(effort):
            assault(hostiles, request * 100, seconds=SLACK_S, takes=0)
            assert None not in [hostile.lasted for hostile in hostiles]
        # Two answers fill the system's buffers at most, so that the rest is owed to nobody.
        assert siege.target.stats()["requests_dispatched"] < 8 * 20 + 1000


def test_refusals_that_nobody_reads_are_held_back_and_cut(effort: int):
    """The same where no worker is needed: refusals are made as fast as the IO thread can."""
    with (
        Siege(memory=24 * MIB, write_timeout=1) as siege,
        crowd(siege.port, 8 * effort, room=4096) as hostiles,
    ):
        assault(hostiles, b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n" * 100, seconds=60, takes=0)
        assert None not in [hostile.lasted for hostile in hostiles]


def test_pipelines_that_are_read_do_not_starve_the_others(effort: int):
    requests = [b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 50, b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n" * 50]
    for request in requests:
        with Siege(memory=24 * MIB) as siege, crowd(siege.port, 8) as hostiles:
            assault(hostiles, request, seconds=2.0 * effort)
            assert [hostile.lasted for hostile in hostiles] == [None] * 8
            assert all(len(hostile.got) > 10_000 for hostile in hostiles)
