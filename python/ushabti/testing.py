"""For tests of applications: a server on a free port, and a client that needs nothing but the standard library.

A test asks a real server over a real socket, so that what it sees is what a user would see:

    from ushabti.testing import running

    def test_greeting():
        with running(router) as client:
            answer = client.get("/users/1", query={"greeting": "Hail"})
            assert answer.status == 200
            assert answer.json()["message"] == "Hail, Ani!"
"""

import http.client
import json
import select
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import urlencode, urlsplit

from ushabti.config import Options
from ushabti.responses import Headers
from ushabti.routing import Router
from ushabti.server import Server

__all__ = ["Answer", "Client", "running"]

Pairs = Mapping[str, object] | Iterable[tuple[str, object]]
Body = bytes | str | Iterable[bytes]
_Content = bytes | Iterable[bytes] | None

# How long a test waits for an answer, and for the server to stop, before it fails.
_PATIENCE_S = 10.0
_STOP_S = 5.0


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


class Client:
    """Asks one server. Any number of threads may use it: each keeps a connection of its own open.

    It follows no redirects and keeps no cookies: a test sees what was answered, and sends what it says.

    Args:
        base: Where the server is: ``http://127.0.0.1:8080``. A path in it is put before every path.
        timeout: Seconds without a byte after which a request fails with ``TimeoutError``.

    Attributes:
        base: As it was given.
        server: The server, where :func:`running` has made both; else ``None``.
    """

    def __init__(self, base: str, timeout: float = _PATIENCE_S, *, server: Server | None = None) -> None:
        parts = urlsplit(base)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"a Client asks http://HOST:PORT, not {base!r}")
        self.base = base
        self.server = server
        self._host, self._port = parts.hostname, parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout
        self._local = threading.local()
        # Guards the list of all threads' connections; held for a list operation.
        self._lock = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []

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
        target = self._prefix + path
        if query is not None:
            target += ("&" if "?" in path else "?") + urlencode(_pairs(query), doseq=True)
        connection = self._connection()
        try:
            _send(connection, method, target, fields, content)
            answer = connection.getresponse()
            received = answer.read()
            found = Headers()
            found.pairs = answer.getheaders()
        except BaseException:
            connection.close()
            raise
        return Answer(answer.status, answer.reason, found, received)

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

    def close(self) -> None:
        """Closes the connections of all threads. The client may be used again after it."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connection(self) -> http.client.HTTPConnection:
        """The calling thread's connection; it opens itself when it is used."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        elif connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            # There is something to read before anything was asked: the server has closed it.
            connection.close()
        return connection


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
def running(app: Router | Callable[..., object], **options: Unpack[Options]) -> Iterator[Client]:
    """Serves an application on a free port for the length of a block, and stops it.

    Args:
        app: A router, or one handler for everything.
        options: Those of :class:`ushabti.Server`; ``stop_timeout`` is 5 seconds here unless it is given.

    Yields:
        A client of the server, which is its ``server``.

    Raises:
        AssertionError: A request or a handler had to be cut off at the end; the log says which. Not raised where the
            block itself has raised something.
    """
    options.setdefault("stop_timeout", _STOP_S)
    server = Server(app, **options)
    address = server.start(port=0)
    client = Client(address.url, server=server)
    try:
        yield client
    except BaseException:
        client.close()
        server.stop()
        raise
    client.close()
    if not server.stop():
        raise AssertionError("the server could not stop cleanly: a request or a handler was cut off (see the log)")
