"""A WebSocket server of a few lines, which says what each test of the client tells it to: even what is wrong."""

import base64
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from ushabti.testing import Client

__all__ = ["BINARY", "CLOSE", "GOODBYE", "PING", "PONG", "TEXT", "Peer", "Serve", "frame", "say", "serve_peer"]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
GOODBYE = b"\x88\x02\x03\xe8"


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.file = connection.makefile("rb")
        self.head = ""

    def accept(self, *fields: str, key: str | None = None, tail: bytes = b"") -> None:
        """Answers the handshake with a 101; ``tail`` goes out in the same packet."""
        lines = []
        while line := self.file.readline().strip():
            lines.append(line.decode())
        self.head = "\n".join(lines)
        sent = next(line.split(": ")[1] for line in lines if line.lower().startswith("sec-websocket-key"))
        digest = hashlib.sha1((key or sent).encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        answer = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
            *fields,
            "",
            "",
        ]
        self.connection.sendall("\r\n".join(answer).encode() + tail)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def read(self) -> tuple[int, bytes]:
        """The next frame of the client, unmasked: first byte and payload."""
        first, second = self.file.read(2)
        assert second & 0x80, "a client masks its frames"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.file.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.file.read(8))
        mask = self.file.read(4)
        payload = self.file.read(length)
        return first, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

    def is_at_end(self) -> bool:
        return self.file.read(1) == b""

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Serve = Callable[..., Client]


@pytest.fixture(name="serve")
def serve_peer() -> Iterator[Serve]:
    """``client = serve(script)``: a server that runs ``script(peer)`` on its one connection; failures fail the test."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    client: list[Client] = []
    threads: list[threading.Thread] = []
    problems: list[BaseException] = []

    def start(script: Callable[[Peer], object], timeout: float = 10) -> Client:
        def run() -> None:
            try:
                connection, _ = listener.accept()
                connection.settimeout(10)
                with connection, connection.makefile("rb") as file:
                    peer = Peer(connection)
                    peer.file.close()
                    peer.file = file
                    script(peer)
            except BaseException as problem:
                problems.append(problem)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        client.append(Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout))
        return client[-1]

    yield start
    for one in client:
        one.close()
    for thread in threads:
        thread.join(10)
    listener.close()
    assert problems == []


def frame(opcode: int, payload: bytes = b"", is_final: bool = True) -> bytes:
    first = (0x80 if is_final else 0) | opcode
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 65536:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


def say(*frames: bytes) -> Callable[[Peer], None]:
    """A server that accepts, sends these frames, answers a Close frame, and closes."""

    def script(peer: Peer) -> None:
        peer.accept()
        for one in frames:
            peer.send(one)
        while (received := peer.read())[0] != 0x88:
            pass
        if not any(one[0] == 0x88 for one in frames):
            peer.send(b"\x88" + bytes([len(received[1])]) + received[1])

    return script
