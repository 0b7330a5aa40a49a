"""A multithreaded HTTP and WebSocket server for blocking Python."""

from typing import TYPE_CHECKING

from ushabti._core import ClientCertificate, Hub, Message, MultiDict, Request, TLSInfo, WebSocket
from ushabti.errors import (
    AlreadyResponded,
    BindError,
    ConfigError,
    DeadlineExceeded,
    Disconnected,
    HTTPError,
    RouteConflict,
    ServerStateError,
    UshabtiError,
    WebSocketError,
)
from ushabti.responses import Headers, Response
from ushabti.routing import Router
from ushabti.server import Address, Server
from ushabti.websocket import Accept, Event
from ushabti.workers import PerThread, current

__all__ = [
    "Accept",
    "Address",
    "AlreadyResponded",
    "BindError",
    "ClientCertificate",
    "ConfigError",
    "DeadlineExceeded",
    "Disconnected",
    "Event",
    "HTTPError",
    "Headers",
    "Hub",
    "Message",
    "MultiDict",
    "PerThread",
    "Request",
    "Response",
    "RouteConflict",
    "Router",
    "Server",
    "ServerStateError",
    "TLSInfo",
    "UshabtiError",
    "WebSocket",
    "WebSocketError",
    "__version__",
    "current",
]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> object:
        """The version is asked of the installed package, which takes longer than importing the rest."""
        if name == "__version__":
            from importlib.metadata import version

            return version("ushabti")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
