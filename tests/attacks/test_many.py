"""Connections by the thousand: idle ones, half-closed ones, ones that come and go; and a pool in which all is stuck."""

import random
import socket

import pytest

from tests.attacks.crowd import assault, crowd, reset
from tests.attacks.siege import MIB, Siege, needs_linux
from tests.server.waiting import eventually

pytestmark = [pytest.mark.attack, pytest.mark.time_limit(300), needs_linux]

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
# What the rest of this process may have open.
SPARE_DESCRIPTORS = 512


@pytest.mark.parametrize("opening", [b"", HELLO, b"GET /hel"], ids=["silent", "kept alive", "half a head"])
def test_thousands_of_idle_connections_cost_little(effort: int, descriptors: int, opening: bytes):
    count = min(1000 * effort, 10_000, descriptors - SPARE_DESCRIPTORS)
    with (
        # Some 2 KiB each are measured, of which the protocol's state is half.
        Siege(memory=count * 4096 + 16 * MIB, header_timeout=120, max_connections=count + 100) as siege,
        crowd(siege.port, count, opening) as hostiles,
    ):
        eventually(lambda: siege.target.stats()["connections_open"] >= count, 60)
        assault(hostiles, seconds=1.0 * effort**0.5)
        assert [hostile for hostile in hostiles if hostile.lasted is not None] == []
        if opening == HELLO:
            eventually(lambda: siege.target.stats()["answers"]["2xx"] >= count, 60)
            assault(hostiles, seconds=0.1)
            assert {hostile.status for hostile in hostiles} == {200}


@pytest.mark.parametrize(
    ("opening", "status"),
    [
        (b"", 0),
        (b"GET /hello HTTP/1.1\r\nHo", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", 400),
        (HELLO, 200),
        (HELLO * 10, 200),
        (HELLO + b"GET /hel", 200),
    ],
    ids=["nothing", "half a head", "half a body", "a request", "a pipeline", "a request and a half"],
)
def test_half_closed_connections_are_answered_and_ended(effort: int, opening: bytes, status: int):
    """They say that they send no more, and never close their own side: nothing of them may stay."""
    count = 300 * effort
    # All of them ask at once, and what is refused for a full queue is another matter.
    with Siege(memory=64 * MIB, max_queue=20 * count) as siege, crowd(siege.port, count, opening) as hostiles:
        for hostile in hostiles:
            hostile.socket.shutdown(socket.SHUT_WR)
        assault(hostiles, seconds=30)
        assert None not in [hostile.lasted for hostile in hostiles]
        assert {hostile.status for hostile in hostiles} == {status}
        # Their own side is still open here.
        eventually(lambda: siege.target.stats()["connections_open"] <= 1)


def test_half_closed_connections_of_running_requests_end_with_their_answer(effort: int):
    count = 30
    with Siege(memory=24 * MIB, workers=[4, 40]) as siege:
        request = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
        with crowd(siege.port, count, request) as hostiles:
            for hostile in hostiles:
                hostile.socket.shutdown(socket.SHUT_WR)
            assault(hostiles, seconds=0.5 * effort)
            assert [hostile.lasted for hostile in hostiles] == [None] * count
            siege.target.let_go()
            assault(hostiles, seconds=20)
            assert {hostile.status for hostile in hostiles} == {200}
            assert None not in [hostile.lasted for hostile in hostiles]


def test_connections_that_come_and_are_reset_leave_nothing(effort: int):
    openings = [
        b"",
        b"G",
        HELLO,
        HELLO * 20,
        b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc",
        b"rubbish\r\n\r\n",
    ]
    choose = random.Random(5)
    with Siege(memory=128 * MIB) as siege:
        for _ in range(1500 * effort):
            one = socket.create_connection(("127.0.0.1", siege.port), 20)
            try:
                one.sendall(choose.choice(openings))
                if choose.random() < 0.2:
                    one.settimeout(0.001)
                    one.recv(choose.choice([1, 10_000]))
            except OSError:
                pass  # The server was slower, or had ended it: the reset comes at another point then.
            reset(one)
        eventually(lambda: siege.target.stats()["connections_open"] <= 1, 30)
        # But for what the healthy client asks just then.
        eventually(lambda: siege.target.stats()["queue_waiting"] == 0)


def test_more_connections_than_may_be_are_turned_away_and_the_kept_ones_served(effort: int):
    most = 20
    with Siege(memory=24 * MIB, max_connections=most, stays=True) as siege:
        for _ in range(5 * effort):
            with crowd(siege.port, 10 * most) as hostiles:
                # Those beyond the maximum are told so, or closed unanswered where they are many.
                assault(hostiles, seconds=20, until=lambda: sum(one.lasted is None for one in hostiles) < most)
                assert {hostile.status for hostile in hostiles if hostile.lasted is not None} <= {0, 503}
                assert 503 in {hostile.status for hostile in hostiles}
            eventually(lambda: siege.target.stats()["connections_open"] <= 1)
            with siege.connect() as raw:
                raw.send(HELLO)
                assert raw.read_response().status == 200
            eventually(lambda: siege.target.stats()["connections_open"] <= 1)


def test_stuck_pool_refuses_what_it_cannot_take_and_recovers(effort: int):
    """What needs no worker goes on: the healthy client asks for what is not there, and is told so."""
    workers, waiting, more = 4, 8, 20
    request = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
    missing = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = (404, b"404 Not Found\n")
    with Siege(memory=24 * MIB, workers=workers, max_queue=waiting, ask=missing, expect=answer) as siege:
        target = siege.target
        before = target.stats()["requests_dispatched"]
        with crowd(siege.port, workers, request) as running:
            # With the workers, and not in the queue: there is room for exactly as many as follow.
            eventually(lambda: target.stats()["requests_dispatched"] == before + workers)
            eventually(lambda: target.stats()["queue_waiting"] == 0)
            with crowd(siege.port, waiting, request) as queued:
                eventually(lambda: target.stats()["queue_waiting"] == waiting)
                for _ in range(more * effort):
                    with siege.connect() as raw:
                        raw.send(HELLO)
                        refused = raw.read_response()
                        assert (refused.status, refused.field("retry-after")) == (503, "1")
                target.let_go()
                held = [*running, *queued]
                assault(held, seconds=20, until=lambda: all(hostile.got for hostile in held))
                assert {hostile.status for hostile in held} == {200}
        with siege.connect() as raw:
            raw.send(HELLO)
            assert raw.read_response().body == b"hello"
