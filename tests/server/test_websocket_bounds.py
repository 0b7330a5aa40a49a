"""What a socket may hold, and what it leaves behind: frames that are gathered, messages that inflate, early ends."""

import socket
import threading
import zlib
from typing import Any

import pytest

from tests.server.waiting import Gate, eventually
from tests.server.websocketing import BINARY, TEXT, Told, close_frame, dial, frame, handshake, memory_bytes
from tests.server.websocketing import sockets as routed

MIB = 2**20


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.mark.parametrize("overflow", ["close", "drop", "wait"])
def test_small_frame_before_a_large_one_does_not_fill_the_outbox(serve, overflow: str):
    """Frames are gathered while more messages wait; what is only held does not wait for the client."""
    sent: list[Any] = []

    class Handler:
        def on_message(self, ws, message):
            if message.data == "go":
                sent.append((ws.send("small"), ws.send(b"x" * (MIB - 5))))

    ws = dial(serve(routed(Handler), websocket_overflow=overflow))
    for _ in range(20):
        ws.raw.send(frame(TEXT, b"a") * 5 + frame(TEXT, b"go") + frame(TEXT, b"b") * 5)
        assert ws.read() == "small"
        assert len(ws.read()) == MIB - 5
    assert sent == [(True, True)] * 20
    assert ws.close() == (1000, "")


def test_messages_that_inflate_are_bounded_by_what_they_become(serve, gate: Gate):
    class Handler:
        def on_message(self, ws, message):
            gate(message)

    running = serve(routed(Handler), websocket_compress=True, max_message=MIB)
    compressor = zlib.compressobj(9, wbits=-15)
    bomb = (compressor.compress(b"\0" * MIB) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    before = memory_bytes()
    clients = [dial(running, "/", "Sec-WebSocket-Extensions: permessage-deflate") for _ in range(8)]
    for ws in clients:
        ws.raw.send(frame(BINARY, bomb, rsv=4) * 50)
    gate.wait()
    eventually(lambda: running.server.stats()["websocket_messages"] >= len(clients))
    assert running.server.stats()["websocket_messages"] <= 3 * len(clients)
    assert memory_bytes() - before < 64 * MIB
    for ws in clients:
        ws.raw.reset()
    gate.open.set()


def test_client_that_has_said_all_while_the_handler_upgraded_is_told_to_its_end(serve, told: Told):
    is_upgraded, go_on = threading.Event(), threading.Event()
    handler = told.handler()

    def upgrade(request):
        request.upgrade(handler()).subscribe("room")
        is_upgraded.set()
        assert go_on.wait(10)

    running = serve(upgrade)
    raw = running.connect()
    raw.send(handshake())
    assert is_upgraded.wait(10)
    raw.send(frame(TEXT, b"hello") + close_frame(1000))
    raw.socket.shutdown(socket.SHUT_WR)
    go_on.set()
    told.wait("close")
    assert told.names == ["open", "message", "close"]
    eventually(lambda: running.server.hub.topics == [])


def test_socket_that_never_opened_has_left_its_topics(serve):
    is_upgraded, go_on = threading.Event(), threading.Event()

    def upgrade(request):
        request.upgrade(lambda ws, event, message: None).subscribe("room")
        is_upgraded.set()
        assert go_on.wait(10)

    running = serve(upgrade)
    raw = running.connect()
    raw.send(handshake())
    assert is_upgraded.wait(10)
    assert running.server.hub.count("room") == 1
    raw.reset()
    eventually(lambda: running.server.stats()["connections_open"] == 0)
    go_on.set()
    eventually(lambda: running.server.hub.topics == [])
