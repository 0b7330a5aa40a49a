"""What tests of a live server share: a raw connection, a strict reader of answers, and the running server itself."""

import contextlib
import re
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from typing import NamedTuple, Self

import pytest

from ushabti.routing import Router
from ushabti.server import Address, Server

__all__ = ["HAS_GIL", "Answer", "BadAnswer", "Raw", "Running", "needs_ipv6", "stands_in", "unverified"]

# What a client waits before it gives up. Far above what a loaded machine needs, below the limit of one test.
PATIENCE_S = 10.0

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) [\t -~\x80-\xff]*")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)


def stands_in(place: str, stack: list[str]) -> bool:
    """Whether a stack of another thread goes through there; without the GIL, whether none was read."""
    return any(place in line for line in stack) if HAS_GIL else stack == []


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


def unverified(*protocols: str) -> ssl.SSLContext:
    """TLS with whoever is there, as each server for development has a certificate of its own; ``protocols`` by ALPN."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


class BadAnswer(AssertionError):
    """The server sent what RFC 9112 does not allow, or ended in the middle of an answer."""


class Answer(NamedTuple):
    """One answer as it came: ``status, headers, body = raw.read_response()``."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of the field, in order; names compare without case."""
        return [value for field, value in self.headers if field.lower() == name.lower()]

    def field(self, name: str) -> str | None:
        """The value of a field that may come once, or None. Repeated: the answer is bad."""
        values = self.all(name)
        if len(values) > 1:
            raise BadAnswer(f"field {name} came {len(values)} times: {values}")
        return values[0] if values else None


class Raw:
    """A client that sends exactly the bytes it is given, and reads answers strictly.

    Every wait is bounded by ``timeout`` seconds and ends in ``TimeoutError``. ``source`` is the address that it comes
    from, where that matters; ``tls`` encrypts what is sent, once the handshake is over.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        timeout: float = PATIENCE_S,
        source: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            try:
                self.socket.connect(address)
            except BaseException:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(address, timeout, (source, 0) if source else None)
            # A test that sends byte by byte wants to be read byte by byte.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            try:
                self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
            except BaseException:
                self.socket.close()
                raise
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Sends all of ``data``."""
        self.socket.sendall(data)

    def finish(self) -> None:
        """Says that nothing more will be sent, and goes on reading (a half-closed connection)."""
        self.socket.shutdown(socket.SHUT_WR)

    def read_response(self, *, to_head: bool = False) -> Answer:
        """Reads one answer; what follows it stays for the next call. Interim answers (1xx) count as answers.

        Args:
            to_head: The answer is to a HEAD request, so no body follows whatever the fields say.

        Raises:
            EOFError: The connection ended before the first byte of an answer.
            BadAnswer: It is not an answer of HTTP/1.1, or it ended in the middle.
        """
        head = self._read_until(b"\r\n\r\n")
        status, headers = _parse_head(head[:-4])
        answer = Answer(status, headers, b"")
        coding, length = answer.field("transfer-encoding"), answer.field("content-length")
        if coding is not None and length is not None:
            raise BadAnswer(f"both Transfer-Encoding and Content-Length: {head!r}")
        if to_head or status < 200 or status in (204, 304):
            return answer
        if coding is not None:
            if coding != "chunked":
                raise BadAnswer(f"Transfer-Encoding {coding!r}")
            return answer._replace(body=self._read_chunks())
        if length is None:
            return answer._replace(body=self.read_all())
        if not re.fullmatch("[0-9]+", length):
            raise BadAnswer(f"Content-Length {length!r}")
        return answer._replace(body=self._read_exactly(int(length)))

    def read_some(self) -> bytes:
        """Reads what is there, at least one byte; empty at the end of the connection."""
        if self._buffer:
            some = bytes(self._buffer)
            self._buffer.clear()
            return some
        return self.socket.recv(65536)

    def read_all(self) -> bytes:
        """Reads to the end of the connection. What had come before an error is told in a note of that error."""
        while True:
            try:
                some = self.socket.recv(65536)
            except OSError as problem:
                problem.add_note(f"had read {_shown(self._buffer)}")
                raise
            if not some:
                data = bytes(self._buffer)
                self._buffer.clear()
                return data
            self._buffer += some

    def close(self) -> None:
        """Closes in good order. May be called again."""
        self.socket.close()

    def reset(self) -> None:
        """Closes with a reset, as a client that has crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _fill(self) -> None:
        try:
            some = self.socket.recv(65536)
        except TimeoutError as problem:
            problem.add_note(f"had read {_shown(self._buffer)}")
            raise
        if not some:
            if not self._buffer:
                raise EOFError("the server closed the connection before an answer")
            raise BadAnswer(f"the connection ended within an answer, after {_shown(self._buffer)}")
        self._buffer += some

    def _read_until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            self._fill()
        return self._take(at + len(end))

    def _read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        return self._take(count)

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            line = self._read_until(b"\r\n")
            if not re.fullmatch(rb"[0-9A-Fa-f]+\r\n", line):
                raise BadAnswer(f"chunk size line {line!r}")
            size = int(line, 16)
            if size == 0:
                # The trailer section: the server sends none, so the empty line that ends it comes at once.
                if (trailer := self._read_exactly(2)) != b"\r\n":
                    raise BadAnswer(f"after the last chunk came {trailer!r}")
                return bytes(body)
            body += self._read_exactly(size)
            if (end := self._read_exactly(2)) != b"\r\n":
                raise BadAnswer(f"a chunk ends in {end!r}")


class Running:
    """A started server as tests see it. The ``serve`` fixture makes it, and stops it when the test is over."""

    def __init__(self, server: Server, address: Address) -> None:
        self.server = server
        self.address = address
        self.port = address.port
        self.url = address.url
        self._connections: list[Raw] = []

    def connect(self, timeout: float = PATIENCE_S) -> Raw:
        """Opens a connection, which is closed when the test is over."""
        where = (self.address.host, self.port) if self.port else self.address.host
        raw = Raw(where, timeout)
        self._connections.append(raw)
        return raw

    def ask(self, data: bytes, *, to_head: bool = False) -> Answer:
        """Sends ``data`` on a connection of its own and reads one answer."""
        with self.connect() as raw:
            raw.send(data)
            return raw.read_response(to_head=to_head)

    def get(self, target: str, *fields: str) -> Answer:
        """Asks with GET; ``fields`` are whole field lines without their end: ``"Accept: text/html"``."""
        lines = [f"GET {target} HTTP/1.1", "Host: test", "Connection: close", *fields, "", ""]
        return self.ask("\r\n".join(lines).encode("latin-1"))

    def exchange(self, data: bytes) -> bytes:
        """Sends ``data`` on a connection of its own and reads until the server closes it."""
        with self.connect() as raw:
            raw.send(data)
            return raw.read_all()

    def stop(self, timeout: float = 5.0) -> bool:
        """Closes what :meth:`connect` has opened and stops the server; True if nothing was cut off."""
        self.hang_up()
        return self.server.stop(timeout)

    def hang_up(self) -> None:
        """Closes what :meth:`connect` has opened."""
        for raw in self._connections:
            with contextlib.suppress(OSError):
                raw.close()

    @classmethod
    def start(cls, app: Router | Callable[..., object], *, bind: list[str] | None = None, **options: object) -> Self:
        """Starts a server for ``app`` on a free port of loopback, or on ``bind``."""
        server = Server(app, **options)  # type: ignore[arg-type]
        return cls(server, server.start(port=0, bind=bind))


def _parse_head(head: bytes) -> tuple[int, list[tuple[str, str]]]:
    status_line, *field_lines = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise BadAnswer(f"status line {status_line!r}")
    headers = []
    for line in field_lines:
        field = _FIELD_LINE.fullmatch(line)
        if field is None or any(byte in line for byte in b"\r\n\0"):
            raise BadAnswer(f"field line {line!r}")
        headers.append((field[1].decode("latin-1"), field[2].decode("latin-1")))
    return int(match[1]), headers


def _shown(data: bytes | bytearray) -> str:
    """The beginning of ``data`` for a message."""
    rest = f" and {len(data) - 200} bytes more" if len(data) > 200 else ""
    return f"{bytes(data[:200])!r}{rest}"
