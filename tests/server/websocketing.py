"""What the tests of WebSockets share: frames as they are wanted, right or wrong, and what handlers were told."""

import base64
import hashlib
import os
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from tests.support import Answer, Raw, Running
from ushabti import Router

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Dialled",
    "Frame",
    "Pusher",
    "Told",
    "close_frame",
    "dial",
    "frame",
    "handshake",
    "memory_bytes",
    "sockets",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# Far above what a loaded machine needs, below the limit of one test.
PATIENCE_S = 10.0

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


# ---- the client's side


class Frame(NamedTuple):
    """One frame of the server (RFC 6455 section 5.2)."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length_bytes: int | None = None,
    length: int | None = None,
    mask: bytes | None = None,
) -> bytes:
    """Encodes a frame, right or wrong.

    Args:
        opcode: The opcode, of four bits.
        payload: What is sent, after it is masked.
        fin: Whether it is the last frame of its message.
        rsv: The reserved bits, RSV1 being 4.
        masked: Whether it is masked, as every frame of a client must be.
        length_bytes: In how many bytes the length is written, 0, 2 or 8: the shortest form by default.
        length: What the length is said to be, where that is not the truth.
        mask: The masking key; random by default.
    """
    length = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 0x1_0000 else 8
    code = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | code])
    head += length.to_bytes(length_bytes) if length_bytes else b""
    if not masked:
        return head + payload
    mask = os.urandom(4) if mask is None else mask
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return head + mask + (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))


def close_frame(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A Close frame; without a code it is empty."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def handshake(target: str = "/", *fields: str, drop: str = "") -> bytes:
    """An upgrade request. ``fields`` are whole lines that take the place of those of the same name; ``drop`` leaves
    one out."""
    lines = {
        "host": "Host: test",
        "upgrade": "Upgrade: websocket",
        "connection": "Connection: Upgrade",
        "sec-websocket-version": "Sec-WebSocket-Version: 13",
        "sec-websocket-key": f"Sec-WebSocket-Key: {KEY}",
    }
    lines.pop(drop.lower(), None)
    for name in {line.partition(":")[0].lower() for line in fields}:
        lines.pop(name, None)
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines.values(), *fields, "", ""]).encode("latin-1")


class Dialled:
    """A WebSocket by hand: it sends exactly what it is asked to, and reads strictly.

    Attributes:
        raw: The connection.
        answer: The 101, read here unless it has been.
    """

    def __init__(self, raw: Raw, answer: Answer | None = None) -> None:
        self.raw = raw
        self.answer: Answer = answer or raw.read_response()
        assert self.answer.status == 101, self.answer
        accept = base64.b64encode(hashlib.sha1(KEY.encode() + _KEY_SUFFIX).digest()).decode()
        assert self.answer.field("sec-websocket-accept") == accept
        assert (self.answer.field("upgrade"), self.answer.field("connection")) == ("websocket", "Upgrade")
        assert self.answer.field("content-length") is None and self.answer.field("transfer-encoding") is None
        self._buffer = bytearray()
        self._close_sent = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def send(self, *messages: str | bytes) -> None:
        """Sends messages, a frame each and all in one write."""
        self.raw.send(
            b"".join(
                frame(TEXT, message.encode()) if isinstance(message, str) else frame(BINARY, message)
                for message in messages
            )
        )

    def send_last(self, *messages: str) -> None:
        """Sends messages and a Close frame behind them, all in one write."""
        self._close_sent = True
        self.raw.send(b"".join(frame(TEXT, message.encode()) for message in messages) + close_frame(1000, b"bye"))

    def read_frame(self) -> Frame:
        """The next frame, which must not be masked and must have its length in the shortest form."""
        first, second = self._read(2)
        assert not second & 0x80, "a server does not mask"
        length = second
        if length == 126:
            length = int.from_bytes(self._read(2))
            assert length >= 126
        elif length == 127:
            length = int.from_bytes(self._read(8))
            assert length >= 0x1_0000
        return Frame(first & 0xF, self._read(length), bool(first & 0x80), first >> 4 & 0x7)

    def read(self) -> str | bytes:
        """The next frame's message; it must be the frame of a message, whole and not compressed."""
        got = self.read_frame()
        assert got.fin and got.rsv == 0 and got.opcode in (TEXT, BINARY), got
        return got.payload.decode() if got.opcode == TEXT else got.payload

    def read_close(self, *, answer: bool = True) -> tuple[int | None, str]:
        """The next frame, which must be a Close frame: its code and reason. It is answered, and the end awaited.

        Args:
            answer: Whether to send a Close frame, unless :meth:`close` has sent one.
        """
        got = self.read_frame()
        assert got.opcode == CLOSE and got.fin and got.rsv == 0 and len(got.payload) <= 125, got
        if answer and not self._close_sent:
            self._close_sent = True
            self.raw.send(frame(CLOSE, got.payload[:2]))
        if answer:
            self.read_end()
        code = int.from_bytes(got.payload[:2]) if got.payload else None
        return code, got.payload[2:].decode()

    def read_end(self) -> None:
        """The connection must end here, in good order. It is closed, which the server would wait for."""
        assert bytes(self._buffer) + self.raw.read_all() == b""
        self.raw.close()

    def close(self, code: int | None = 1000, reason: bytes = b"") -> tuple[int | None, str]:
        """Closes in good order, and skips messages on their way. Returns what the server's Close frame says."""
        self._close_sent = True
        self.raw.send(close_frame(code, reason))
        while True:
            got = self.read_frame()
            if got.opcode == CLOSE:
                self.read_end()
                return int.from_bytes(got.payload[:2]) if got.payload else None, got.payload[2:].decode()

    def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            some = self.raw.read_some()
            if not some:
                raise EOFError(f"the connection ended in a frame, or before it: {bytes(self._buffer)!r}")
            self._buffer += some
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


def dial(running: Running, target: str = "/", *fields: str, then: bytes = b"", timeout: float = PATIENCE_S) -> Dialled:
    """Opens a WebSocket, which is closed when the test is over. ``then`` goes out with the handshake, in one write."""
    raw = running.connect(timeout)
    raw.send(handshake(target, *fields) + then)
    return Dialled(raw)


class Pusher:
    """Sends the same frame again and again, as much as the server takes, and knows where in it it has stopped."""

    def __init__(self, ws: Dialled, data: bytes) -> None:
        self._socket, self._data = ws.raw.socket, data
        self.taken = 0

    def push(self, most: int) -> bool:
        """Sends up to ``most`` bytes; True if the server has taken none for half a second before that."""
        self._socket.settimeout(0.5)
        view = memoryview(self._data)
        try:
            while self.taken < most:
                at = self.taken % len(self._data)
                self.taken += self._socket.send(view[at:])
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(10)
        return False

    def finish(self) -> int:
        """Sends the rest of the frame that was begun; returns how many frames were sent."""
        rest = -self.taken % len(self._data)
        if rest:
            self._socket.sendall(self._data[-rest:])
        return (self.taken + rest) // len(self._data)


# ---- the server's side


def memory_bytes() -> int:
    """What this process holds of memory; 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as status:
            lines = dict(line.split(":", 1) for line in status)
    except OSError:
        return 0
    return int(lines["VmRSS"].split()[0]) * 1024


class Told:
    """What handlers of sockets were told, in order, and a way to wait for it.

    Each entry is a tuple that begins with ``open``, ``message``, ``error`` or ``close``.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[Any, ...]] = []
        self._sockets: list[Any] = []
        self._more = threading.Condition()

    def add(self, *entry: Any) -> None:
        """Notes something."""
        with self._more:
            self._entries.append(entry)
            self._more.notify_all()

    @property
    def all(self) -> list[tuple[Any, ...]]:
        """Everything until now."""
        with self._more:
            return list(self._entries)

    @property
    def names(self) -> list[str]:
        """The first word of everything until now."""
        return [entry[0] for entry in self.all]

    def wait(self, name: str, count: int = 1) -> tuple[Any, ...]:
        """Waits until something of this name was told so often; returns that entry."""
        found: list[tuple[Any, ...]] = []

        def is_there() -> bool:
            found[:] = [entry for entry in self._entries if entry[0] == name]
            return len(found) >= count

        with self._more:
            if not self._more.wait_for(is_there, PATIENCE_S):
                raise AssertionError(f"{name!r} was not told {count} times: {self._entries}")
        return found[count - 1]

    def socket(self, count: int = 1) -> Any:
        """The socket that was opened as the first, or as the ``count``-th; waits for it."""
        self.wait("open", count)
        with self._more:
            return self._sockets[count - 1]

    def opened(self, ws: Any) -> None:
        """Notes that a socket was opened."""
        with self._more:
            self._sockets.append(ws)
            self._entries.append(("open",))
            self._more.notify_all()

    def handler(self, **methods: Callable[..., object]) -> type:
        """A class for ``router.websocket`` that notes all it is told, and then calls ``methods`` of the same names."""
        told = self

        class Recording:
            def on_open(self, ws: Any) -> None:
                told.opened(ws)
                self._call("on_open", ws)

            def on_message(self, ws: Any, message: Any) -> None:
                told.add("message", message.data)
                self._call("on_message", ws, message)

            def on_error(self, ws: Any, problem: BaseException) -> None:
                told.add("error", problem)
                self._call("on_error", ws, problem)

            def on_close(self, ws: Any, code: int, reason: str, clean: bool) -> None:
                told.add("close", code, reason, clean)
                self._call("on_close", ws, code, reason, clean)

            def _call(self, name: str, *arguments: Any) -> None:
                if name in methods:
                    methods[name](*arguments)

        return Recording

    def router(self, **methods: Callable[..., object]) -> Router:
        """A router whose one route, ``/``, is :meth:`handler`."""
        return sockets(self.handler(**methods))


def sockets(handler: Any, path: str = "/", **options: Any) -> Router:
    """A router with one WebSocket."""
    router = Router()
    router.websocket(path, handler, **options)
    return router
