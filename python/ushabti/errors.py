"""Every exception that ushabti raises on purpose, as one tree.

This module imports nothing of the package, so that every other part may import it, the extension module included:
``ushabti._core`` raises these classes and defines none of its own.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

__all__ = [
    "AlreadyResponded",
    "BindError",
    "ConfigError",
    "DeadlineExceeded",
    "Disconnected",
    "HTTPError",
    "RouteConflict",
    "ServerStateError",
    "UshabtiError",
    "WebSocketError",
]


class UshabtiError(Exception):
    """The root of all exceptions that ushabti raises on purpose."""


class ConfigError(UshabtiError, ValueError):
    """An option, a route or an application that cannot work. Raised before the first socket is opened.

    The message names the option and the value, and says what to write instead. The command line prints it and exits
    with status 2.
    """


class RouteConflict(ConfigError):
    """Two routes that would match the same requests with the same rank, so that no rule says which one wins."""


class BindError(ConfigError, OSError):
    """An address that cannot be listened on: taken, forbidden, or not an address. ``errno`` is the system's number."""


class ServerStateError(UshabtiError, RuntimeError):
    """A call that the server cannot obey in its present state: started twice, or used in a forked child."""


class AlreadyResponded(UshabtiError, RuntimeError):
    """A second answer to one request. The first one has been sent; nothing of the second one has."""


class Disconnected(UshabtiError, ConnectionError):
    """The client has gone, so nobody will read the answer."""


class DeadlineExceeded(UshabtiError, TimeoutError):
    """The time that the route grants to a request is used up."""


class WebSocketError(UshabtiError):
    """Why a WebSocket has failed, as its ``on_error`` is told.

    Attributes:
        code: The close code (RFC 6455 section 7.4.1): 1002 the client broke the protocol, 1006 it took no byte for too
            long, 1007 it sent text that is no UTF-8, 1008 it was silent for too long, 1009 its message was too big.
        reason: One sentence.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code} {self.reason}"


class HTTPError(UshabtiError):
    """Ends a handler with an answer of this status (RFC 9110 section 15).

    Attributes:
        status: The status code, 400 to 599.
        detail: One sentence for the client. It is sent as text, so it must not tell secrets. Empty: the status's own
            phrase.
        headers: Header fields to send along, as pairs.
    """

    def __init__(
        self, status: int, detail: str = "", headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"HTTPError takes an error status, 400 to 599, not {status}: return a Response instead")
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        self.headers: list[tuple[str, str]] = list(pairs)

    @property
    def phrase(self) -> str:
        """The registered reason phrase of the status, or ``Error`` for a number that has none."""
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return "Error"

    def __str__(self) -> str:
        return f"{self.status} {self.detail or self.phrase}"
