"""Clients that send or read as slowly as they can: each is cut within its bound, however busy it looks."""

import pytest

from tests.attacks.crowd import assault, crowd
from tests.attacks.program import BIG_BYTES
from tests.attacks.siege import MIB, Siege, needs_linux
from tests.server.waiting import eventually

pytestmark = [pytest.mark.attack, pytest.mark.time_limit(240), needs_linux]

LIMIT_S = 1.0
# Far above the tenth of a second to which the server's clock is exact: what is tested is that there is an end.
SLACK_S = 15.0
# The clock counts in slots.
EARLY_S = 0.2


def check_ends(hostiles, status: int) -> None:
    assert {hostile.status for hostile in hostiles} == {status}
    lasted = [hostile.lasted or 0.0 for hostile in hostiles]
    assert min(lasted) >= LIMIT_S - EARLY_S
    assert max(lasted) < LIMIT_S + SLACK_S


@pytest.mark.parametrize(
    ("opening", "piece"),
    [(b"G", b"E"), (b"GET /hello HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n"), (b"GET /hello HTTP/1.1\r\nX: ", b"y")],
    ids=["method", "fields", "value"],
)
def test_heads_that_come_byte_by_byte_are_408_in_time(effort: int, opening: bytes, piece: bytes):
    with (
        Siege(memory=24 * MIB, header_timeout=LIMIT_S) as siege,
        crowd(siege.port, 100 * effort, opening) as hostiles,
    ):
        assault(hostiles, piece, every=0.1, seconds=LIMIT_S + SLACK_S)
        check_ends(hostiles, 408)


def test_connections_that_say_nothing_are_closed_in_time(effort: int):
    with Siege(memory=24 * MIB, header_timeout=LIMIT_S) as siege, crowd(siege.port, 200 * effort) as hostiles:
        assault(hostiles, seconds=LIMIT_S + SLACK_S)
        check_ends(hostiles, 0)


@pytest.mark.parametrize("coding", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_bodies_that_stand_still_are_408_in_time(effort: int, coding: str):
    opening = f"POST /echo HTTP/1.1\r\nHost: a\r\n{coding}\r\n\r\n400\r\n".encode() + b"x" * 512
    with (
        Siege(memory=24 * MIB, body_timeout=LIMIT_S) as siege,
        crowd(siege.port, 100 * effort, opening) as hostiles,
    ):
        assault(hostiles, seconds=LIMIT_S + SLACK_S)
        check_ends(hostiles, 408)


@pytest.mark.parametrize(
    ("target", "coding", "piece", "status"),
    [
        ("echo", "Content-Length: 1000000", b"x", 408),
        ("echo", "Transfer-Encoding: chunked", b"1\r\nx\r\n", 408),
        # Chunk lines and extensions are no content, so that no rate is bought with them.
        ("echo", "Transfer-Encoding: chunked", b"1;" + b"e" * 32 + b"\r\nx\r\n", 408),
        # The body of a refused request is read, too, and has the same bounds.
        ("none", "Content-Length: 60000", b"x", 404),
    ],
    ids=["length", "chunked", "extensions", "refused"],
)
def test_bodies_that_come_byte_by_byte_are_cut_in_time(
    effort: int, target: str, coding: str, piece: bytes, status: int
):
    opening = f"POST /{target} HTTP/1.1\r\nHost: a\r\n{coding}\r\n\r\n".encode()
    with (
        Siege(memory=24 * MIB, body_timeout=LIMIT_S, min_rate=4096) as siege,
        crowd(siege.port, 100 * effort, opening) as hostiles,
    ):
        assault(hostiles, piece, every=0.1, seconds=LIMIT_S + SLACK_S)
        check_ends(hostiles, status)


def test_body_that_comes_fast_enough_is_served_beside_the_attack(effort: int):
    with Siege(memory=24 * MIB, body_timeout=LIMIT_S, min_rate=1024) as siege:
        opening = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
        with crowd(siege.port, 20 * effort, opening) as hostiles, siege.connect() as raw:
            raw.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
            # Ten times the rate that is asked for, for three times as long as the others are given.
            sent = 0
            while sent < 300_000:
                raw.send(b"x" * 10_000)
                sent += 10_000
                assault(hostiles, b"x", every=0.1, seconds=0.1)
            assert raw.read_response().body == b"x" * 300_000
            assault(hostiles, b"x", every=0.1, seconds=SLACK_S)
            check_ends(hostiles, 408)


@pytest.mark.parametrize(("target", "each"), [("big", BIG_BYTES), ("stream", MIB // 2)], ids=["whole", "streamed"])
def test_readers_that_take_nothing_are_cut_in_time(effort: int, target: str, each: int):
    """A whole answer waits once for each client; of a stream no more than the outbox and a piece."""
    count = 20
    opening = f"GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    for _ in range(effort):
        with (
            Siege(memory=count * each + 24 * MIB, write_timeout=LIMIT_S) as siege,
            crowd(siege.port, count, opening, room=4096),
        ):
            eventually(lambda: siege.target.stats()["connections_accepted"] > count)
            eventually(lambda: siege.target.stats()["connections_open"] <= 1, LIMIT_S + SLACK_S)
            # Not one line for each: of many in a second, the log tells some and the number of the others.
            eventually(lambda: "took no byte of its answer" in siege.target.log)
            # Nor does the system keep what nobody takes, which is more than the server's own memory.
            eventually(lambda: siege.held_by_system() < MIB)


@pytest.mark.parametrize("target", ["big", "stream"], ids=["whole", "streamed"])
def test_readers_that_take_a_little_at_a_time_are_cut_in_time(effort: int, target: str):
    count = 20
    opening = f"GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    for _ in range(effort):
        with (
            Siege(memory=count * BIG_BYTES + 24 * MIB, write_timeout=LIMIT_S, min_rate=MIB) as siege,
            crowd(siege.port, count, opening, room=16_384) as hostiles,
        ):
            # Some 40 KiB a second: never still, and it would take two minutes.
            assault(
                hostiles,
                every=0.1,
                takes=4096,
                seconds=LIMIT_S + SLACK_S,
                until=lambda: siege.target.stats()["connections_open"] <= 1,
            )
            eventually(lambda: siege.target.stats()["connections_open"] <= 1, 2)
            eventually(lambda: "took its answer at less than" in siege.target.log)
