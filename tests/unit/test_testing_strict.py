"""What the WebSocket client of ``ushabti.testing`` does not let a server do."""

import socket
import struct
import threading

import pytest

from tests.unit.peer import GOODBYE, Peer, Serve, serve_peer

__all__ = ["serve_peer"]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"\xc1\x00", "reserved bit"),
        (b"\xa1\x00", "reserved bit"),
        (b"\x83\x00", "opcode 0x3 is reserved"),
        (b"\x8b\x00", "opcode 0xb is reserved"),
        (b"\x81\x81\x00\x00\x00\x00a", "masked"),
        (b"\x81\x7e\x00\x7d" + b"x" * 125, "shortest form"),
        (b"\x81\x7f" + struct.pack("!Q", 65_535) + b"x" * 65_535, "shortest form"),
        (b"\x81\x7f\x80" + b"\0" * 7, "shortest form"),
        (b"\x09\x00", "control frame is fragmented"),
        (b"\x89\x7e\x00\x7e" + b"x" * 126, "longer than 125"),
        (b"\x80\x00", "no message to continue"),
        (b"\x01\x01a\x81\x01b", "inside of another"),
        (b"\x81\x01\xff", "not UTF-8"),
        (b"\x88\x01\x03", "half a close code"),
        (b"\x88\x02\x03\xed", "1005 may not be sent"),
        (b"\x88\x02\x03\xec", "1004 may not be sent"),
        (b"\x88\x02\x07\xd0", "2000 may not be sent"),
        (b"\x88\x03\x03\xe8\xff", "close reason is not UTF-8"),
        (b"\x88\x02\x03\xe8\x81\x01a", "comes behind the Close frame"),
    ],
)
def test_a_server_that_breaks_a_rule_fails_the_test(serve: Serve, data: bytes, rule: str) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        try:
            peer.send(data)
            peer.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The client has not waited for the rest.

    ws = serve(script).websocket("/")
    with pytest.raises(AssertionError, match=rule):
        ws.receive()
    assert ws.close_code == 1006


def test_a_server_that_does_not_close_the_connection_fails_the_test(serve: Serve) -> None:
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(GOODBYE)
        assert done.wait(10)

    with pytest.raises(AssertionError, match="has not closed the connection"):
        serve(script, timeout=0.2).websocket("/").receive()
    done.set()
