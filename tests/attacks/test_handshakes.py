"""Handshakes of TLS that never end, are none, or come in floods: who shakes hands and asks is answered beside them."""

import contextlib
import socket
import ssl

import pytest

from tests.attacks.crowd import assault, crowd
from tests.attacks.program import BIG_BYTES
from tests.attacks.siege import MIB, Siege, needs_linux
from tests.server.waiting import eventually
from tests.support import Raw, unverified

pytestmark = [pytest.mark.attack, pytest.mark.time_limit(240), needs_linux]

LIMIT_S = 1.0
SLACK_S = 15.0
EARLY_S = 0.2
# The first byte of an alert (RFC 8446 section 5.1).
ALERT = 21


def greeting() -> bytes:
    """The first message of a client that means it."""
    outgoing = ssl.MemoryBIO()
    client = unverified().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("opening", "piece"),
    [(b"", b""), (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00"), (greeting(), b"")],
    ids=["silent", "byte by byte", "no second message"],
)
def test_handshakes_that_do_not_end_are_cut_in_time(effort: int, opening: bytes, piece: bytes):
    with (
        Siege(memory=32 * MIB, tls=True, header_timeout=LIMIT_S) as siege,
        crowd(siege.port, 100 * effort, opening) as hostiles,
    ):
        assault(hostiles, piece, every=0.1, seconds=LIMIT_S + SLACK_S)
        lasted = [hostile.lasted or 0.0 for hostile in hostiles]
        assert min(lasted) >= LIMIT_S - EARLY_S
        assert max(lasted) < LIMIT_S + SLACK_S
        if not opening:
            assert {hostile.got[0] for hostile in hostiles} == {ALERT}
        eventually(lambda: siege.target.stats()["refusals"]["handshake"] >= len(hostiles))


def test_thousands_of_open_handshakes_leave_room_for_those_who_mean_it(effort: int):
    count, most = 1000 * effort, 200

    def is_open() -> list[bool]:
        return [hostile.lasted is None for hostile in hostiles]

    with (
        # In the first second none is cut: the greeting is read and answered, and that waits for the client.
        Siege(memory=count * 16 * 1024 + 32 * MIB, tls=True, header_timeout=120, max_handshakes=most) as siege,
        crowd(siege.port, count, greeting()) as hostiles,
    ):
        assault(hostiles, seconds=SLACK_S, until=lambda: sum(is_open()) <= most)
        assert sum(is_open()) <= most, "the oldest are cut"
        # The healthy client's handshakes have taken some of their places, one at a time.
        assert sum(is_open()[-most // 2 :]) >= most // 4, "and not the newest"


def test_clients_that_shake_hands_and_leave(effort: int):
    with Siege(memory=32 * MIB, tls=True) as siege:
        for _ in range(200 * effort):
            siege.connect().close()
        stats = siege.target.stats()
        assert stats["refusals"]["handshake"] == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 600,
        b"\xff" * 600,
        b"\x80\x2e\x01\x00\x02" * 9,
        b"\x16\x03\x01\xff\xff" * 99,
        greeting()[:60] * 9,
        b"SSH-2.0-x\r\n",
    ],
    ids=["zeros", "ones", "SSL 2", "long records", "torn greetings", "another protocol"],
)
def test_garbage_is_told_so_and_let_go(effort: int, garbage: bytes):
    with Siege(memory=32 * MIB, tls=True) as siege, crowd(siege.port, 50 * effort, garbage) as hostiles:
        assault(hostiles, garbage, every=0.2, seconds=SLACK_S, stubborn=False)
        assert [hostile for hostile in hostiles if hostile.lasted is None] == []
        told = {bytes(hostile.got[:1]) for hostile in hostiles}
        assert told == {b"H"} if garbage.startswith(b"SSH") else {bytes([ALERT])}


def test_plain_requests_on_the_port_are_answered_in_plain(effort: int):
    with Siege(memory=32 * MIB, tls=True) as siege:
        for _ in range(50 * effort):
            with Raw(("127.0.0.1", siege.port)) as raw:
                raw.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = raw.read_response()
                assert answer.status == 400 and b"https://" in answer.body
                assert raw.read_all() == b""


@pytest.mark.parametrize(("target", "each"), [("big", BIG_BYTES), ("stream", MIB // 2)], ids=["whole", "streamed"])
def test_readers_of_tls_that_take_nothing_are_cut_in_time(effort: int, target: str, each: int):
    count = 10
    with (
        Siege(memory=count * each + 32 * MIB, tls=True, write_timeout=LIMIT_S) as siege,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(count * effort):
            raw = stack.enter_context(siege.connect())
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.send(f"GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        eventually(lambda: siege.target.stats()["connections_accepted"] > count)
        eventually(lambda: siege.target.stats()["connections_open"] <= 1, LIMIT_S + SLACK_S)
        eventually(lambda: "took no byte of its answer" in siege.target.log)
