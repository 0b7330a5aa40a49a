"""WebSockets that flood, never end, inflate or never read: closed with the code that says so, or held back."""

import zlib

import pytest

from tests.attacks.crowd import Hostile, assault, crowd
from tests.attacks.siege import MIB, Siege, needs_linux
from tests.server.waiting import eventually
from tests.server.websocketing import BINARY, CONTINUATION, PING, TEXT, frame, handshake

pytestmark = [pytest.mark.attack, pytest.mark.time_limit(240), needs_linux]

WS = handshake("/ws")
ROOM = handshake("/room")
DEFLATE = handshake("/ws", "Sec-WebSocket-Extensions: permessage-deflate")
SLACK_S = 20.0


def close_code(hostile: Hostile) -> int:
    """The code of the Close frame that came last; 0 if none did."""
    at = hostile.got.rfind(b"\x88")
    return int.from_bytes(hostile.got[at + 2 : at + 4]) if at >= 0 else 0


def test_ping_floods_are_answered_and_starve_nobody(effort: int):
    with Siege(memory=24 * MIB) as siege, crowd(siege.port, 8, WS) as hostiles:
        assault(hostiles, frame(PING, b"x" * 125) * 50, seconds=2.0 * effort)
        assert [hostile.lasted for hostile in hostiles] == [None] * 8
        assert all(len(hostile.got) == 65_536 for hostile in hostiles)


def test_ping_floods_that_read_no_pong_are_held_back_and_cut(effort: int):
    """Pongs that nobody takes wait up to a bound; then nothing more is read, and the client has its time."""
    count = 8 * effort
    with (
        Siege(memory=count * 2 * MIB + 24 * MIB, write_timeout=1) as siege,
        crowd(siege.port, count, WS, room=4096) as hostiles,
    ):
        assault(hostiles, frame(PING, b"x" * 125) * 50, seconds=60, takes=0)
        assert None not in [hostile.lasted for hostile in hostiles]


@pytest.mark.parametrize("size", [1000, 65_536])
def test_fragments_without_end_are_1009(effort: int, size: int):
    """A message is bounded by the sum of its fragments."""
    count = 8 * effort
    with (
        Siege(memory=count * MIB // 2 + 24 * MIB, max_message="256 KiB") as siege,
        crowd(siege.port, count, WS + frame(TEXT, b"x", fin=False)) as hostiles,
    ):
        assault(hostiles, frame(CONTINUATION, b"x" * size, fin=False), seconds=SLACK_S)
        assert {close_code(hostile) for hostile in hostiles} == {1009}
        assert None not in [hostile.lasted for hostile in hostiles]


def test_empty_fragments_without_end_cost_no_memory_and_starve_nobody(effort: int):
    """They add nothing to their message, so no limit ends it; nor do they gather anywhere."""
    with (
        Siege(memory=24 * MIB) as siege,
        crowd(siege.port, 8, WS + frame(TEXT, b"x", fin=False)) as hostiles,
    ):
        assault(hostiles, frame(CONTINUATION, fin=False) * 1000, seconds=2.0 * effort)
        assert [hostile.lasted for hostile in hostiles] == [None] * 8


def test_long_lengths_are_1009_before_anything_is_held(effort: int):
    for length in (2**20 + 1, 2**40, 2**63 - 1):
        head = frame(BINARY, b"x", length=length, length_bytes=8)
        with Siege(memory=24 * MIB) as siege, crowd(siege.port, 50 * effort, WS + head) as hostiles:
            assault(hostiles, seconds=SLACK_S)
            assert {close_code(hostile) for hostile in hostiles} == {1009}


def test_announced_lengths_are_not_believed(effort: int):
    """Each says that a message of 1 MiB begins, and sends a byte of it: what has not come takes no memory."""
    count = 200 * effort
    head = frame(BINARY, b"x", length=2**20, length_bytes=8)
    with (
        Siege(memory=count * 16_384 + 24 * MIB) as siege,
        crowd(siege.port, count, WS + head) as hostiles,
    ):
        assault(hostiles, seconds=2)
        assert [hostile.lasted for hostile in hostiles] == [None] * count


def bomb(size: int) -> bytes:
    """A message of ``size`` zeros, compressed."""
    compressor = zlib.compressobj(9, wbits=-15)
    parts = [compressor.compress(bytes(MIB)) for _ in range(size // MIB)]
    return (b"".join(parts) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize("size", [2 * MIB, 512 * MIB])
def test_compression_bombs_are_1009_at_the_limit(effort: int, size: int):
    """A thousandth of what it becomes comes over the wire; inflating ends at the limit."""
    count = 8 * effort
    data = frame(BINARY, bomb(size), rsv=4)
    with (
        Siege(memory=count * 3 * MIB + 24 * MIB, websocket_compress=True) as siege,
        crowd(siege.port, count, DEFLATE) as hostiles,
    ):
        eventually(lambda: siege.target.stats()["websockets_open"] == count)
        assault(hostiles, data, seconds=SLACK_S)
        assert {close_code(hostile) for hostile in hostiles} == {1009}
        assert None not in [hostile.lasted for hostile in hostiles]


def test_messages_that_inflate_to_the_limit_are_held_back(effort: int):
    """Each is allowed, and 1 KiB on the wire: what waits for the handler is bounded by what it has become."""
    count = 8
    data = frame(BINARY, bomb(MIB), rsv=4)
    with (
        # In the inbox, with the handler, and in the outbox; and what answers is itself compressed.
        Siege(memory=count * 5 * MIB + 32 * MIB, websocket_compress=True, write_timeout=2) as siege,
        crowd(siege.port, count, DEFLATE, room=4096) as hostiles,
    ):
        assault(hostiles, data, seconds=3.0 * effort, takes=0)


def test_echoes_that_nobody_reads_end_in_1013(effort: int):
    """What waits for one client is bounded: the outbox and one message, after which the socket is closed."""
    count = 8 * effort
    with (
        Siege(memory=count * 3 * MIB + 32 * MIB, websocket_outbox="256 KiB", write_timeout=2) as siege,
        crowd(siege.port, count, WS, room=4096) as hostiles,
    ):
        assault(hostiles, frame(BINARY, b"x" * 65_536), seconds=60, takes=0)
        assert None not in [hostile.lasted for hostile in hostiles]


def test_subscribers_that_never_read_do_not_hold_up_a_topic(effort: int):
    """One frame is shared by all of them, and who falls too far behind is closed; others get everything."""
    # Each keeps some 3 MiB of the system's buffers, too.
    count, size, rounds = min(50 * effort, 200), 50_000, 300
    with (
        Siege(memory=count * MIB // 2 + 48 * MIB, websocket_outbox="256 KiB", write_timeout=2) as siege,
        crowd(siege.port, count, ROOM, room=4096),
        crowd(siege.port, 1, ROOM) as readers,
    ):
        eventually(lambda: siege.target.stats()["websockets_open"] == count + 1)
        reader = readers[0].socket
        reader.settimeout(SLACK_S)
        taken = 0
        for _ in range(rounds):
            reader.sendall(frame(BINARY, b"x" * size))
            least = taken + size
            while taken < least:
                some = reader.recv(2**20)
                assert some, "the one that reads was cut"
                taken += len(some)
        eventually(lambda: siege.target.stats()["websockets_open"] == 1, SLACK_S)
