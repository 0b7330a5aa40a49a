"""For tests of applications: a server on a free port, and a client that needs nothing but the standard library.

A test asks a real server over a real socket, so that what it sees is what a user would see:

    from ushabti.testing import running

    def test_greeting():
        with running(router) as client:
            answer = client.get("/users/1", query={"greeting": "Hail"})
            assert answer.status == 200
            assert answer.json()["message"] == "Hail, Ani!"

    def test_echo():
        with running(router) as client, client.websocket("/echo") as ws:
            ws.send("Hail!")
            assert ws.receive() == "Hail!"
"""

import base64
import hashlib
import http.client
import json
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import urlencode, urlsplit

from ushabti._core import Hub
from ushabti.options import Options
from ushabti.responses import Headers
from ushabti.routing import Router
from ushabti.server import Server
from ushabti.testing_socket import ClientSocket, SocketClosed

__all__ = ["Answer", "Client", "ClientSocket", "SocketClosed", "UpgradeRefused", "running"]

Pairs = Mapping[str, object] | Iterable[tuple[str, object]]
Body = bytes | str | Iterable[bytes]
_Content = bytes | Iterable[bytes] | None

# How long a test waits for an answer, and for the server to stop, before it fails.
_PATIENCE_S = 10.0
_STOP_S = 5.0

# What is hashed together with the key of a handshake (RFC 6455 section 1.3).
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Answer:
    """What a server has answered.

    Attributes:
        status: The status code.
        reason: The reason phrase.
        headers: The header fields; names compare without case, and ``all(name)`` gives every value.
        body: The whole body.
    """

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as text, by the charset of ``Content-Type``, UTF-8 without one."""
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                return self.body.decode(value.strip().strip('"'))
        return self.body.decode()

    def json(self) -> Any:
        """The body, decoded as JSON. Raises ``ValueError`` if it is none."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.reason}: {len(self.body)} bytes>"


class UpgradeRefused(Exception):
    """The server has not opened the WebSocket.

    Attributes:
        answer: What it has answered instead.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.reason}: {answer.body[:200].decode(errors='replace').strip()}")
        self.answer = answer


class Client:
    """Asks one server. Any number of threads may use it: each keeps a connection of its own open.

    It follows no redirects and keeps no cookies: a test sees what was answered, and sends what it says.

    Args:
        base: Where the server is: ``http://127.0.0.1:8080``, or with ``https``. A path in it is put before every path.
        timeout: Seconds without a byte after which a request fails with ``TimeoutError``.
        tls: Whom to trust with ``https``, and what certificate to show. ``None``: whom the system trusts, or with a
            ``server`` anybody.

    Attributes:
        base: As it was given.
        server: The server, where :func:`running` has made both; else ``None``.
    """

    def __init__(
        self,
        base: str,
        timeout: float = _PATIENCE_S,
        *,
        server: Server | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"a Client asks http://HOST:PORT or https://HOST:PORT, not {base!r}")
        self.base = base
        self.server = server
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or _context(server)) if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout
        self._local = threading.local()
        # Guards the lists of all threads' connections and sockets; held for a list operation.
        self._lock = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []
        self._sockets: list[ClientSocket] = []

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Pairs | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        json: object = None,
        data: Pairs | None = None,
        body: Body | None = None,
    ) -> Answer:
        """Sends one request and returns the whole answer, whatever its status.

        Args:
            method: ``"GET"``.
            path: The path, percent-encoded where that is needed, and a query if there is none in ``query``.
            query: Parameters to encode. A value that is a list stands for several.
            headers: Header fields; pairs where a name comes several times.
            json: A value to send as JSON.
            data: Fields to send as a form.
            body: What to send as it is: bytes, text (as UTF-8), or pieces, which are sent in the chunked coding.

        Raises:
            OSError: The server cannot be reached, or it closed the connection without an answer.
            TimeoutError: Nothing came for ``timeout`` seconds.
            http.client.HTTPException: What came is no answer.
        """
        fields = Headers(headers)
        content, content_type = _content(json, data, body)
        if content_type and "content-type" not in fields:
            fields.add("content-type", content_type)
        connection = self._connection()
        try:
            _send(connection, method, self._target(path, query), fields, content)
            return _answer(connection.getresponse())
        except BaseException:
            connection.close()
            raise

    def get(self, path: str, **options: Any) -> Answer:
        """GET; the options are those of :meth:`request`."""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> Answer:
        """HEAD; the options are those of :meth:`request`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> Answer:
        """OPTIONS; the options are those of :meth:`request`."""
        return self.request("OPTIONS", path, **options)

    def post(self, path: str, **options: Any) -> Answer:
        """POST; the options are those of :meth:`request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Answer:
        """PUT; the options are those of :meth:`request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Answer:
        """PATCH; the options are those of :meth:`request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        """DELETE; the options are those of :meth:`request`."""
        return self.request("DELETE", path, **options)

    def websocket(
        self,
        path: str,
        *,
        subprotocols: Iterable[str] = (),
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        query: Pairs | None = None,
    ) -> ClientSocket:
        """Opens a WebSocket, on a connection of its own (RFC 6455 section 4.1).

        Args:
            path: As for :meth:`request`.
            subprotocols: What to offer, in order of preference.
            headers: Further fields: ``Origin`` and ``Cookie`` as a browser would send them. A field of the handshake
                itself takes the place of the usual one.
            query: As for :meth:`request`.

        Raises:
            UpgradeRefused: The server has answered something else; the exception holds the answer.
            AssertionError: What the server has agreed to does not fit the request.
            OSError, TimeoutError, http.client.HTTPException: As for :meth:`request`.
        """
        fields, offered = Headers(headers), list(subprotocols)
        key = base64.b64encode(os.urandom(16)).decode()
        handshake = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
        }
        if offered:
            handshake["Sec-WebSocket-Protocol"] = ", ".join(offered)
        for name, value in handshake.items():
            if name not in fields:
                fields.add(name, value)
        connection = self._new_connection()
        try:
            _send(connection, "GET", self._target(path, query), fields, None)
            response = connection.getresponse()
            if response.status != 101:
                raise UpgradeRefused(_answer(response))
            _check_upgrade(response, fields["sec-websocket-key"], offered)
            opened = ClientSocket(*_taken_over(connection, response), _headers(response), self._timeout)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._sockets = [one for one in self._sockets if one.close_code is None]
            self._sockets.append(opened)
        return opened

    def close(self) -> None:
        """Closes the connections of all threads, and breaks off the WebSockets that are still open.

        The client may be used again after it.
        """
        with self._lock:
            connections = list(self._connections)
            sockets, self._sockets = self._sockets, []
        for connection in connections:
            connection.close()
        for one in sockets:
            one.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _target(self, path: str, query: Pairs | None) -> str:
        target = self._prefix + path
        if query is not None:
            target += ("&" if "?" in path else "?") + urlencode(_pairs(query), doseq=True)
        return target

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)

    def _connection(self) -> http.client.HTTPConnection:
        """The calling thread's connection; it opens itself when it is used."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._new_connection()
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        elif connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            # There is something to read before anything was asked: the server has closed it.
            connection.close()
        return connection


def _context(server: Server | None) -> ssl.SSLContext:
    """Trusts whom the system trusts; or anybody, where this process has the server and its address cannot deceive."""
    context = ssl.create_default_context()
    if server is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _send(connection: http.client.HTTPConnection, method: str, target: str, fields: Headers, content: _Content) -> None:
    names = {name.lower() for name in fields}
    connection.putrequest(method, target, skip_host="host" in names, skip_accept_encoding=True)
    for name, value in fields.pairs:
        connection.putheader(name, value)
    is_chunked = content is not None and not isinstance(content, bytes)
    if "content-length" not in names and "transfer-encoding" not in names:
        if isinstance(content, bytes) or (content is None and method in ("POST", "PUT", "PATCH")):
            connection.putheader("Content-Length", str(len(content or b"")))
        elif is_chunked:
            connection.putheader("Transfer-Encoding", "chunked")
    try:
        connection.endheaders(content, encode_chunked=is_chunked and "content-length" not in names)
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses a body answers and closes before all of it was sent. Its answer is there to read.
        if connection.sock is None:
            raise


def _answer(response: http.client.HTTPResponse) -> Answer:
    body = response.read()
    return Answer(response.status, response.reason, _headers(response), body)


def _headers(response: http.client.HTTPResponse) -> Headers:
    headers = Headers()
    headers.pairs = response.getheaders()
    return headers


def _check_upgrade(response: http.client.HTTPResponse, key: str, offered: list[str]) -> None:
    """Fails the test if a 101 is not one that a client may go on with (RFC 6455 section 4.1)."""
    accepted = base64.b64encode(hashlib.sha1(key.encode() + _KEY_SUFFIX).digest()).decode()
    for name, wanted in (("Upgrade", "websocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Accept", accepted)):
        value = response.getheader(name, "")
        is_right = value == wanted if name == "Sec-WebSocket-Accept" else value.lower() == wanted
        if not is_right:
            raise AssertionError(f"a 101 for {wanted} has the field {name}: {value!r}")
    chosen = response.getheader("Sec-WebSocket-Protocol")
    if chosen is not None and chosen not in offered:
        raise AssertionError(f"the server has chosen the subprotocol {chosen!r}, and was offered {offered}")


def _taken_over(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse
) -> tuple[socket.socket, bytes]:
    """The connection behind a 101, and what was read beyond its head."""
    taken: socket.socket = connection.sock
    # What the reader of the head has read too much is in its buffer; without one, it must not wait for more.
    taken.setblocking(False)
    try:
        received = response.fp.peek()
    except (ConnectionError, ssl.SSLWantReadError):
        received = b""  # It is lost already, which the socket tells when it is read; or nothing has come.
    taken.settimeout(connection.timeout)
    response.close()
    connection.sock = None
    return taken, received


def _content(json_value: object, data: Pairs | None, body: Body | None) -> tuple[_Content, str | None]:
    """What to send as the content, and its type if that is known."""
    if sum(each is not None for each in (json_value, data, body)) > 1:
        raise ValueError("a request has one content: json, data or body")
    if json_value is not None:
        return json.dumps(json_value).encode(), "application/json"
    if data is not None:
        return urlencode(_pairs(data), doseq=True).encode(), "application/x-www-form-urlencoded"
    if isinstance(body, str):
        return body.encode(), None
    return body, None


def _pairs(fields: Pairs) -> Sequence[tuple[str, object]]:
    return list(fields.items() if isinstance(fields, Mapping) else fields)


@contextmanager
def running(
    app: Router | Callable[..., object],
    *,
    websocket_handler: object = None,
    hub: Hub | None = None,
    tls: ssl.SSLContext | None = None,
    **options: Unpack[Options],
) -> Iterator[Client]:
    """Serves an application on a free port for the length of a block, and stops it.

    Args:
        app: A router, or one handler for everything.
        websocket_handler: As for :class:`ushabti.Server`.
        hub: As for :class:`ushabti.Server`.
        tls: As for :class:`Client`.
        options: Those of :class:`ushabti.Server`; ``stop_timeout`` is 5 seconds here unless it is given.

    Yields:
        A client of the server, which is its ``server``.

    Raises:
        AssertionError: A request or a handler had to be cut off at the end; the log says which. Not raised where the
            block itself has raised something.
    """
    options.setdefault("stop_timeout", _STOP_S)
    server = Server(app, websocket_handler=websocket_handler, hub=hub, **options)
    address = server.start(port=0)
    client = Client(address.url, server=server, tls=tls)
    try:
        yield client
    except BaseException:
        client.close()
        server.stop()
        raise
    client.close()
    if not server.stop():
        raise AssertionError("the server could not stop cleanly: a request or a handler was cut off (see the log)")
