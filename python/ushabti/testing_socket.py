"""The client's end of a WebSocket, for tests (RFC 6455): blocking calls, and nothing but the standard library.

:meth:`ushabti.testing.Client.websocket` opens one. What the server sends is checked as it comes: frames that RFC 6455
does not allow fail the test.
"""

import json
import os
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NoReturn, Self

from ushabti.responses import Headers

__all__ = ["ClientSocket", "SocketClosed"]

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_CONTROL_BYTES_MAX = 125
# Never sent: what stands for a Close frame without a code, and for an end without a Close frame (section 7.1.5).
_NO_STATUS, _ABNORMAL = 1005, 1006

# Not select(), which takes no descriptor above 1023: a test may open more sockets than that.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class SocketClosed(ConnectionError):
    """The socket is closed: nothing more comes, and nothing can be sent.

    Attributes:
        code: The close code that the server has sent; 1005 if its Close frame has none, 1006 if there was no frame.
        reason: The reason beside it, often empty.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code}: {reason}" if reason else f"closed with {code}")
        self.code = code
        self.reason = reason


class ClientSocket:
    """One WebSocket, seen from the client.

    One thread may receive while others send. Pings of the server are answered while something is waited for: in
    :meth:`receive`, :meth:`ping` and :meth:`close`. At the end of a ``with`` block it is closed in good order, or
    broken off if the block has raised something.

    Every call ends: what takes longer than the ``timeout`` of the client raises ``TimeoutError``. Frames that RFC 6455
    does not allow, and a server that does not close the connection behind its Close frame, raise ``AssertionError``.

    Attributes:
        headers: The fields of the answer to the handshake.
        subprotocol: What the server has chosen among the subprotocols that were offered, or ``None``.
        close_code: ``None`` while it is open; then the code that the server has sent, 1005 if its Close frame has none,
            1006 if the connection ended without one.
        close_reason: The reason beside the code, often empty.
    """

    def __init__(self, connection: socket.socket, received: bytes, headers: Headers, timeout: float) -> None:
        """Takes over a connection behind its handshake; ``received`` is what was read beyond it."""
        self.headers = headers
        self.subprotocol = headers.get("sec-websocket-protocol")
        self.close_code: int | None = None
        self.close_reason = ""
        self._connection = connection
        self._timeout = timeout
        self._selector = _Selector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._buffer = bytearray(received)
        # The message of which the last fragment is still to come: its opcode and what there is of it.
        self._begun: tuple[int, bytearray] | None = None
        self._messages: deque[str | bytes] = deque()
        self._pongs: list[bytes] = []
        # Held for the writing of one frame, so that frames of several threads do not mix, and none follows a Close.
        self._writing = threading.Lock()
        self._close_sent = False

    # ---- messages

    def send(self, data: str | bytes | bytearray | memoryview) -> None:
        """Sends one message: ``str`` as text, anything else as binary.

        Raises:
            ConnectionError: The socket is closed (then it is a :class:`SocketClosed`), or the connection is lost.
            TimeoutError: The server takes nothing; part of the frame may have been sent, so the socket is of no use.
        """
        if isinstance(data, str):
            self._send(_TEXT, data.encode())
        else:
            self._send(_BINARY, bytes(memoryview(data)))

    def send_json(self, value: object) -> None:
        """Sends a value as JSON in a text message. Raises what :meth:`send` raises."""
        self.send(json.dumps(value))

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Returns the next message: ``str`` for text, ``bytes`` for binary. Fragments are put together.

        Args:
            timeout: Seconds to wait at most, instead of the client's own. The socket can be used on after it.

        Raises:
            SocketClosed: There will be no more.
            TimeoutError: No whole message came in time.
        """
        until = self._until(timeout)
        while not self._messages:
            self._go_on(until)
        return self._messages.popleft()

    def receive_json(self, timeout: float | None = None) -> Any:
        """Returns the next message, decoded as JSON. Raises what :meth:`receive` raises, and ``ValueError``."""
        return json.loads(self.receive(timeout))

    def __iter__(self) -> Iterator[str | bytes]:
        """Yields messages until the socket is closed, however that comes about: see ``close_code``."""
        while True:
            try:
                message = self.receive()
            except SocketClosed:
                return
            yield message

    # ---- control frames

    def ping(self, data: bytes | None = None) -> float:
        """Sends a ping, waits for its pong, and returns how many seconds that took.

        Messages that come in between are kept for :meth:`receive`.

        Args:
            data: At most 125 bytes, which the pong must repeat. Random ones by default, which no other ping has.

        Raises:
            ConnectionError: As :meth:`send`.
            TimeoutError: No such pong came in time.
        """
        data = os.urandom(8) if data is None else data
        self._pongs.clear()
        began, until = time.monotonic(), self._until(None)
        self._send(_PING, data)
        while data not in self._pongs:
            self._go_on(until)
        return time.monotonic() - began

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes in good order: sends a Close frame, waits for that of the server and for the connection's end.

        Does nothing if the socket is closed. Messages that come before the server's Close frame are kept for
        :meth:`receive`.

        Raises:
            ValueError: Code and reason do not fit into a Close frame.
            TimeoutError: The server has sent no Close frame in time; the connection is closed all the same.
        """
        if not 0 <= code <= 0xFFFF:
            raise ValueError(f"a close code has 16 bits, so it cannot be {code}")
        payload = struct.pack("!H", code) + reason.encode()
        _check_control(payload)
        try:
            self._send_close(payload)
            until = self._until(None)
            while self.close_code is None:
                self._go_on(until)
        finally:
            self._end(_ABNORMAL, "")

    def abort(self) -> None:
        """Breaks the connection off with a reset and no Close frame, as a client does that crashes."""
        if self.close_code is None:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end(_ABNORMAL, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __repr__(self) -> str:
        state = "open" if self.close_code is None else f"closed with {self.close_code}"
        return f"<ClientSocket {state}>"

    # ---- writing

    def _send(self, opcode: int, payload: bytes) -> None:
        if opcode >= _CLOSE:
            _check_control(payload)
        with self._writing:
            if self.close_code is not None:
                raise SocketClosed(self.close_code, self.close_reason)
            if self._close_sent:
                raise SocketClosed(_ABNORMAL, "a Close frame was sent, after which nothing may follow")
            self._connection.sendall(_frame(opcode, payload))

    def _send_close(self, payload: bytes) -> None:
        """Sends the one Close frame, if that was not done. Whether it arrives shows in what comes back."""
        with self._writing:
            if self._close_sent or self.close_code is not None:
                return
            self._close_sent = True
            try:
                self._connection.sendall(_frame(_CLOSE, payload))
            except OSError:
                pass

    # ---- reading

    def _until(self, timeout: float | None) -> float:
        return time.monotonic() + (self._timeout if timeout is None else timeout)

    def _go_on(self, until: float) -> None:
        """Reads one frame and does what it asks for.

        Until it is there as a whole it stays in the buffer, so that a call may give up and another go on.
        """
        if self.close_code is not None:
            raise SocketClosed(self.close_code, self.close_reason)
        while (found := self._take_frame()) is None:
            if not self._fill(until):
                # What came before may be a message still to be received; that the end is here shows after it.
                return self._end(_ABNORMAL, "")
        is_final, opcode, payload = found
        if opcode >= _CLOSE:
            self._require(is_final, "a control frame is fragmented (section 5.5)")
            self._require(len(payload) <= _CONTROL_BYTES_MAX, "a control frame is longer than 125 bytes (section 5.5)")
            self._control(opcode, payload)
        else:
            self._data(is_final, opcode, payload)
        return None

    def _take_frame(self) -> tuple[bool, int, bytes] | None:
        """The next frame, if it is there as a whole (section 5.2)."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, length = buffer[0], buffer[1]
        self._require(not first & 0x70, "a reserved bit is set (section 5.2)")
        self._require(not length & 0x80, "a frame of the server is masked (section 5.1)")
        start = {126: 4, 127: 10}.get(length, 2)
        if len(buffer) < start:
            return None
        if start > 2:
            length = int.from_bytes(buffer[2:start])
            shortest = 126 if start == 4 else 0x1_0000
            self._require(shortest <= length < 2**63, "a length is not in its shortest form (section 5.2)")
        if len(buffer) < start + length:
            return None
        payload = bytes(buffer[start : start + length])
        del buffer[: start + length]
        return bool(first & 0x80), first & 0xF, payload

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _CLOSE:
            self._closed_by_server(payload)
        elif opcode == _PONG:
            self._pongs.append(payload)
        elif opcode == _PING:
            try:
                self._send(_PONG, payload)
            except ConnectionError:
                pass  # Behind our Close frame nothing is sent; a lost connection shows in the next read.
        else:
            self._fail(f"the opcode 0x{opcode:x} is reserved (section 5.2)")

    def _data(self, is_final: bool, opcode: int, payload: bytes) -> None:
        if opcode == _CONTINUATION:
            if self._begun is None:
                self._fail("there is no message to continue (section 5.4)")
            self._begun[1].extend(payload)
        else:
            self._require(opcode in (_TEXT, _BINARY), f"the opcode 0x{opcode:x} is reserved (section 5.2)")
            self._require(self._begun is None, "a message begins inside of another (section 5.4)")
            self._begun = (opcode, bytearray(payload))
        if is_final:
            kind, data = self._begun
            self._begun = None
            self._messages.append(self._text(bytes(data), "a text message") if kind == _TEXT else bytes(data))

    def _text(self, data: bytes, what: str) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as problem:
            self._fail(f"{what} is not UTF-8 (section 8.1): {problem}")

    def _closed_by_server(self, payload: bytes) -> None:
        """Answers the server's Close frame, and waits for it to close the connection (section 7.1.1)."""
        self._require(len(payload) != 1, "a Close frame has half a close code (section 5.5.1)")
        code = int.from_bytes(payload[:2]) if payload else _NO_STATUS
        reason = self._text(payload[2:], "a close reason")
        if payload:
            is_sendable = 1000 <= code <= 1014 and code not in (1004, _NO_STATUS, _ABNORMAL)
            self._require(is_sendable or 3000 <= code <= 4999, f"the close code {code} may not be sent (section 7.4)")
        self._send_close(payload[:2])
        until = self._until(None)
        try:
            while not self._buffer and self._fill(until):
                pass
        except TimeoutError:
            self._fail("the server has not closed the connection behind its Close frame (section 7.1.1)")
        self._require(not self._buffer, "something comes behind the Close frame (section 5.5.1)")
        self._end(code, reason)

    def _fill(self, until: float) -> bool:
        """Waits for bytes; False: the connection has ended."""
        # What TLS has decrypted already is no event of the socket's.
        has_more = isinstance(self._connection, ssl.SSLSocket) and self._connection.pending() > 0
        if not has_more and not self._selector.select(max(0.0, until - time.monotonic())):
            raise TimeoutError("nothing came from the server in time")
        try:
            some = self._connection.recv(65536)
        except ConnectionError:
            some = b""
        self._buffer += some
        return bool(some)

    # ---- the end

    def _require(self, is_kept: bool, rule: str) -> None:
        if not is_kept:
            self._fail(rule)

    def _fail(self, rule: str) -> NoReturn:
        """Fails the connection (section 7.1.7), and the test."""
        self._end(_ABNORMAL, rule)
        raise AssertionError(f"the server does not keep to RFC 6455: {rule}")

    def _end(self, code: int, reason: str) -> None:
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
            self._selector.close()
            self._connection.close()


def _check_control(payload: bytes) -> None:
    if len(payload) > _CONTROL_BYTES_MAX:
        raise ValueError(f"a control frame holds 125 bytes, and not {len(payload)}")


def _frame(opcode: int, payload: bytes) -> bytes:
    """A final frame as clients send it: masked, its length in the shortest form (section 5.2)."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 0x1_0000:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
    mask = os.urandom(4)
    # As one number, which is a hundred times faster than byte by byte.
    repeated = (mask * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)
    return head + mask + masked
