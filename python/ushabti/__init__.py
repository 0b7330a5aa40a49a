"""A multithreaded HTTP server for blocking Python."""

from typing import TYPE_CHECKING

from ushabti._core import MultiDict, Request
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
)
from ushabti.responses import Headers, Response
from ushabti.routing import Router
from ushabti.server import Address, Server
from ushabti.workers import PerThread, current

__all__ = [
    "Address",
    "AlreadyResponded",
    "BindError",
    "ConfigError",
    "DeadlineExceeded",
    "Disconnected",
    "HTTPError",
    "Headers",
    "MultiDict",
    "PerThread",
    "Request",
    "Response",
    "RouteConflict",
    "Router",
    "Server",
    "ServerStateError",
    "UshabtiError",
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
