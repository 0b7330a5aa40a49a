"""The WebSocket client of ``ushabti.testing``: what it asks for, sends and tells."""

import base64
import os
import socket
import struct
import threading
import time
from typing import Any

import pytest

from tests.server.waiting import eventually
from tests.unit.peer import BINARY, CLOSE, GOODBYE, PING, PONG, TEXT, Peer, Serve, frame, say, serve_peer
from ushabti.testing import ClientSocket, SocketClosed, UpgradeRefused

__all__ = ["serve_peer"]


# ---- the handshake


def test_the_handshake_is_what_the_rfc_asks_for(serve: Serve) -> None:
    heads = []

    def script(peer: Peer) -> None:
        peer.accept("Sec-WebSocket-Protocol: b", "Set-Cookie: a=1")
        heads.append(peer.head)
        peer.read()
        peer.send(GOODBYE)

    client = serve(script)
    with client.websocket(
        "/talk?x=1", subprotocols=["a", "b"], headers={"Origin": "http://shop.example"}, query={"name": "Ani"}
    ) as ws:
        assert ws.subprotocol == "b"
        assert ws.headers["set-cookie"] == "a=1"
    lines = heads[0].split("\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert lines[0] == "GET /talk?x=1&name=Ani HTTP/1.1"
    assert (fields["upgrade"], fields["connection"], fields["sec-websocket-version"]) == ("websocket", "upgrade", "13")
    assert (fields["origin"], fields["sec-websocket-protocol"]) == ("http://shop.example", "a, b")
    assert len(base64.b64decode(heads[0].split("Sec-WebSocket-Key: ")[1].split("\n")[0])) == 16
    assert "content-length" not in fields


def test_a_field_of_the_handshake_may_be_replaced(serve: Serve) -> None:
    heads = []

    def script(peer: Peer) -> None:
        peer.accept()
        heads.append(peer.head)

    client = serve(script)
    client.websocket("/", headers=[("sec-websocket-version", "8"), ("Sec-WebSocket-Key", "mine")])
    eventually(lambda: heads)
    assert "sec-websocket-version: 8" in heads[0] and "Sec-WebSocket-Version" not in heads[0]
    assert "Sec-WebSocket-Key: mine" in heads[0]


def test_a_refusal_carries_the_answer(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.file.readline()
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\nX-Why: no\r\n\r\nnot here")

    with pytest.raises(UpgradeRefused) as caught:
        serve(script).websocket("/")
    answer = caught.value.answer
    assert (answer.status, answer.text, answer.headers["x-why"]) == (403, "not here", "no")
    assert str(caught.value) == "403 Forbidden: not here"


@pytest.mark.parametrize(
    ("accept", "message"),
    [
        ({"key": "another"}, "Sec-WebSocket-Accept"),
        ({"fields": ["Sec-WebSocket-Protocol: none"]}, "chosen the subprotocol 'none'"),
    ],
)
def test_a_101_that_does_not_fit_fails_the_test(serve: Serve, accept: dict[str, Any], message: str) -> None:
    client = serve(lambda peer: peer.accept(*accept.get("fields", ()), key=accept.get("key")))
    with pytest.raises(AssertionError, match=message):
        client.websocket("/", subprotocols=["a"])


def test_a_101_for_something_else_fails_the_test(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.file.readline()
        peer.send(b"HTTP/1.1 101 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")

    with pytest.raises(AssertionError, match="Upgrade: 'h2c'"):
        serve(script).websocket("/")


def test_frames_in_the_packet_of_the_101_are_received(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept(tail=frame(TEXT, b"one") + frame(TEXT, b"two")[:3])
        peer.send(b"wo")
        peer.read()
        peer.send(GOODBYE)

    with serve(script).websocket("/") as ws:
        assert [ws.receive(), ws.receive()] == ["one", "two"]


# ---- messages


@pytest.mark.parametrize("size", [0, 1, 5, 125, 126, 65_535, 65_536, 300_001])
def test_a_message_of_any_size_goes_both_ways(serve: Serve, size: int) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        first, payload = peer.read()
        peer.send(frame(first & 0xF, payload))
        peer.read()
        peer.send(GOODBYE)

    data = os.urandom(size)
    with serve(script).websocket("/") as ws:
        ws.send(data)
        assert ws.receive() == data


def test_text_is_text_and_anything_else_is_binary(serve: Serve) -> None:
    seen: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        seen.extend(peer.read() for _ in range(5))
        peer.send(frame(TEXT, b'{"a": 1}') + frame(TEXT, "ü".encode()) + frame(BINARY, b"\xff"))
        peer.read()
        peer.send(GOODBYE)

    with serve(script).websocket("/") as ws:
        ws.send("ü")
        for data in (b"a", bytearray(b"b"), memoryview(b"c")):
            ws.send(data)
        ws.send_json({"a": 1})
        assert (ws.receive_json(), ws.receive(), ws.receive()) == ({"a": 1}, "ü", b"\xff")
        wrong: Any = 5
        with pytest.raises(TypeError):
            ws.send(wrong)
    assert seen == [(0x81, "ü".encode()), (0x82, b"a"), (0x82, b"b"), (0x82, b"c"), (0x81, b'{"a": 1}')]


def test_fragments_are_put_together_and_pings_between_them_answered(serve: Serve) -> None:
    pongs: list[tuple[int, bytes]] = []
    umlaut = "ü".encode()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(TEXT, b"a" + umlaut[:1], False) + frame(PING, b"here?"))
        pongs.append(peer.read())
        peer.send(frame(0, umlaut[1:], False) + frame(0, b"", True))
        peer.read()
        peer.send(GOODBYE)

    with serve(script).websocket("/") as ws:
        assert ws.receive() == "aü"
    assert pongs == [(0x8A, b"here?")]


def test_a_receive_that_gives_up_loses_nothing(serve: Serve) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        whole = frame(TEXT, b"x" * 300)
        peer.send(whole[:3])
        assert go_on.wait(10)
        peer.send(whole[3:])
        peer.read()
        peer.send(GOODBYE)

    with serve(script).websocket("/") as ws:
        with pytest.raises(TimeoutError):
            ws.receive(timeout=0.05)
        go_on.set()
        assert ws.receive() == "x" * 300


def test_a_client_has_no_more_patience_than_it_was_given(serve: Serve) -> None:
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        assert done.wait(10)

    ws = serve(script, timeout=0.1).websocket("/")
    began = time.monotonic()
    for call in (ws.receive, ws.ping, ws.close):
        with pytest.raises(TimeoutError):
            call()
    assert time.monotonic() - began < 5
    assert ws.close_code == 1006
    done.set()


# ---- control frames


def test_ping_waits_for_its_own_pong_and_keeps_messages(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for _ in range(2):
            _, payload = peer.read()
            peer.send(frame(PONG, b"unasked") + frame(TEXT, b"between") + frame(PONG, payload))
        peer.read()
        peer.send(GOODBYE)

    with serve(script).websocket("/") as ws:
        assert 0 <= ws.ping() < 10
        assert 0 <= ws.ping(b"mine") < 10
        assert [ws.receive(), ws.receive()] == ["between", "between"]
        with pytest.raises(ValueError, match="125 bytes, and not 126"):
            ws.ping(b"x" * 126)


def test_closing_sends_code_and_reason_and_waits_for_the_end(serve: Serve) -> None:
    seen: list[Any] = []
    is_over = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        seen.append(peer.read())
        peer.send(frame(TEXT, b"still") + frame(CLOSE, struct.pack("!H", 4000) + b"bye"))
        peer.connection.shutdown(socket.SHUT_WR)
        seen.append(peer.is_at_end())
        is_over.set()

    ws = serve(script).websocket("/")
    ws.close(3000, "grüß")
    assert is_over.wait(10)
    assert seen == [(0x88, struct.pack("!H", 3000) + "grüß".encode()), True]
    assert (ws.close_code, ws.close_reason, repr(ws)) == (4000, "bye", "<ClientSocket closed with 4000>")
    assert ws.receive() == "still"
    with pytest.raises(SocketClosed) as caught:
        ws.receive()
    assert (caught.value.code, caught.value.reason) == (4000, "bye")
    ws.close()


@pytest.mark.parametrize(("code", "reason"), [(1000, "x" * 124), (-1, ""), (65_536, "")])
def test_what_fits_into_no_close_frame_is_refused(serve: Serve, code: int, reason: str) -> None:
    with serve(say()).websocket("/") as ws:
        with pytest.raises(ValueError):
            ws.close(code, reason)
        assert ws.close_code is None and repr(ws) == "<ClientSocket open>"


@pytest.mark.parametrize(
    ("payload", "code", "reason", "echo"),
    [
        (struct.pack("!H", 1001) + "schlägt zu".encode(), 1001, "schlägt zu", struct.pack("!H", 1001)),
        (b"", 1005, "", b""),
    ],
)
def test_the_close_of_the_server_is_answered_and_told(
    serve: Serve, payload: bytes, code: int, reason: str, echo: bytes
) -> None:
    seen: list[Any] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(CLOSE, payload))
        seen.append(peer.read())
        peer.connection.shutdown(socket.SHUT_WR)
        seen.append(peer.is_at_end())

    ws = serve(script).websocket("/")
    assert list(ws) == ["one", "two"]
    assert (ws.close_code, ws.close_reason) == (code, reason)
    eventually(lambda: seen == [(0x88, echo), True])
    for call in (ws.receive, ws.ping, lambda: ws.send("x")):
        with pytest.raises(SocketClosed):
            call()


def test_an_end_without_a_close_frame_is_1006(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(TEXT, b"whole") + frame(TEXT, b"cut off")[:4])

    ws = serve(script).websocket("/")
    assert list(ws) == ["whole"]
    assert (ws.close_code, ws.close_reason) == (1006, "")


def test_a_reset_is_1006(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.reset()

    ws = serve(script).websocket("/")
    with pytest.raises(SocketClosed):
        ws.receive()
    assert ws.close_code == 1006


def test_nothing_follows_a_close_frame(serve: Serve) -> None:
    entered, release = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        assert peer.read() == (0x88, b"\x03\xe8")
        entered.set()
        assert release.wait(10)
        peer.send(frame(PING, b"too late") + GOODBYE)
        peer.connection.shutdown(socket.SHUT_WR)
        assert peer.is_at_end()

    ws = serve(script).websocket("/")
    thread = threading.Thread(target=ws.close)
    thread.start()
    assert entered.wait(10)
    with pytest.raises(SocketClosed):
        ws.send("too late")
    release.set()
    thread.join()
    assert ws.close_code == 1000


# ---- the end of blocks


def test_a_block_that_raises_breaks_the_connection_off(serve: Serve) -> None:
    ends: list[object] = []

    def script(peer: Peer) -> None:
        peer.accept()
        try:
            ends.append(peer.file.read(1))
        except ConnectionResetError as problem:
            ends.append(type(problem))

    def fail(ws: ClientSocket) -> None:
        with ws:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(client_socket := serve(script).websocket("/"))
    assert client_socket.close_code == 1006
    eventually(lambda: ends)
    assert ends == [ConnectionResetError]


def test_the_client_breaks_off_what_is_open_when_it_is_closed(serve: Serve) -> None:
    client = serve(lambda peer: peer.accept())
    ws = client.websocket("/")
    client.close()
    assert ws.close_code == 1006
    with pytest.raises(SocketClosed):
        ws.send("x")


# ---- threads


def test_frames_of_several_threads_do_not_mix(serve: Serve) -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(b"".join(frame(PING, bytes([number])) for number in range(50)))
        while (received := peer.read())[0] != 0x88:
            if received[0] == 0x89:
                peer.send(frame(PONG, received[1]))
            else:
                seen.append(received[1])
        peer.send(GOODBYE)

    def work(number: int) -> None:
        for turn in range(50):
            ws.send(bytes([number, turn]) * 40)

    with serve(script).websocket("/") as ws:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        # Before its pong come the server's pings, which are answered in between.
        ws.ping()
        for thread in threads:
            thread.join()
    sent = [payload for payload in seen if len(payload) == 80]
    assert sorted(payload[0] for payload in seen if len(payload) == 1) == list(range(50))
    for number in range(4):
        assert [payload for payload in sent if payload[0] == number] == [
            bytes([number, turn]) * 40 for turn in range(50)
        ]
