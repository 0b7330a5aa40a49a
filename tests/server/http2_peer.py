"""A client of HTTP/2 by hand, and the WebSockets on its streams."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests.server.websocketing import TEXT, Dialled, frame
from tests.support import Raw

__all__ = ["Peer", "Tunnel", "opened"]


class Peer:
    """A client that says what goes over each stream, on a connection of its own."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.scheme = "https" if isinstance(raw.socket, ssl.SSLSocket) else "http"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self._holds_back = False
        self.flush()

    def flush(self) -> None:
        if not self._holds_back:
            self.raw.send(self.h2.data_to_send())

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is said in the block goes out at its end, in one write."""
        self._holds_back = True
        try:
            yield
        finally:
            self._holds_back = False
        self.flush()

    def ask(self, path: str, *fields: tuple[str, str], method: str = "GET", ends: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", self.scheme), (":authority", "test"), (":path", path)]
        self.h2.send_headers(stream, [*pseudo, *fields], end_stream=ends)
        self.flush()
        return stream

    def ask_for_socket(self, path: str) -> int:
        """Wants a stream that is a WebSocket (RFC 8441 section 4)."""
        fields = [(":protocol", "websocket"), ("sec-websocket-version", "13")]
        return self.ask(path, *fields, method="CONNECT", ends=False)

    def send(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """Sends all of it, as the windows open."""
        rest = memoryview(data)
        while rest or ends:
            room = min(len(rest), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if rest and not room:
                self.wait(h2.events.WindowUpdated)
                continue
            is_last = room == len(rest)
            self.h2.send_data(stream, rest[:room], end_stream=ends and is_last)
            self.flush()
            if is_last:
                return
            rest = rest[room:]

    def end(self, stream: int, rest: bytes = b"") -> None:
        """Ends the client's side with what is left of its body, of which the server may want no more by now."""
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            self.send(stream, rest, ends=True)

    def wait(self, kind: type | tuple[type, ...], stream: int | None = None) -> Any:
        """The next event of a kind, on one stream or any."""
        while True:
            for at, event in enumerate(self.events):
                if isinstance(event, kind) and (stream is None or getattr(event, "stream_id", None) == stream):
                    return self.events.pop(at)
            some = self.raw.read_some()
            assert some, f"the connection ended before {kind}: {self.events}"
            self.events += self.h2.receive_data(some)
            self.flush()

    def answer(self, stream: int) -> tuple[int, dict[str, str]]:
        """The status and the fields of the answer, which must come."""
        event = self.wait((h2.events.ResponseReceived, h2.events.StreamReset), stream)
        assert not isinstance(event, h2.events.StreamReset), event
        headers = dict(event.headers)
        return int(headers.pop(":status")), headers

    def some_data(self, stream: int) -> bytes:
        """The next bytes of a body; empty at its end, which must be in good order."""
        kinds = (h2.events.DataReceived, h2.events.StreamEnded, h2.events.StreamReset)
        event = self.wait(kinds, stream)
        assert not isinstance(event, h2.events.StreamReset), event
        if isinstance(event, h2.events.StreamEnded):
            return b""
        self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        self.flush()
        return bytes(event.data) or self.some_data(stream)

    def body(self, stream: int) -> bytes:
        """All of a body, to its end."""
        return b"".join(iter(lambda: self.some_data(stream), b""))

    def reset(self, stream: int) -> None:
        """Takes the request back, unless all is said."""
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()


class Tunnel(Dialled):
    """One WebSocket of a connection that others share; they are used in turn."""

    def __init__(self, peer: Peer, stream: int) -> None:
        self.raw = self  # type: ignore[assignment]
        self._peer, self.stream = peer, stream
        self._buffer = bytearray()
        self._close_sent = False

    def send(self, *data: str | bytes) -> None:
        for each in data:
            self._peer.send(self.stream, frame(TEXT, each.encode()) if isinstance(each, str) else each)

    def read_some(self) -> bytes:
        return self._peer.some_data(self.stream)

    def read_end(self) -> None:
        """The server must end the stream here, in good order; so does the client."""
        assert bytes(self._buffer) + self._peer.body(self.stream) == b""
        self._peer.end(self.stream)


def opened(peer: Peer, target: str = "/") -> Tunnel:
    """A WebSocket that the server agrees to."""
    stream = peer.ask_for_socket(target)
    status, headers = peer.answer(stream)
    assert status == 200, headers
    assert "sec-websocket-accept" not in headers and "content-length" not in headers
    return Tunnel(peer, stream)
