"""A router as the server takes it: plain data for the native route table, and what workers call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ushabti import _core
from ushabti.endpoints import Endpoint, Failures
from ushabti.responses import Dumps, Response
from ushabti.routes import RouteEntry

__all__ = ["Frozen"]


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a router has become when it was frozen.

    Attributes:
        routes: The native route table's data; the number of a route is its place.
        endpoints: What answers each route: called with the request, and the path's parameters as keyword arguments.
        not_found: Answers what no route matches, called with the request. ``None``: the IO thread does.
        method_not_allowed: Answers where a route matches, but has not the method. ``None``: the IO thread does.
        failures: The error handlers.
        as_response: Makes a response of any value that a handler may return.
        loads: Decodes the JSON of requests.
        dumps: Encodes values as JSON.
        hub: The topics of the WebSockets.
        on_start: Called with the server before it answers anything.
        on_stop: Called with the server after the last answer.
        on_thread_start: Called by each worker before its first request.
        on_thread_stop: Called by each worker after its last one.
    """

    routes: list[RouteEntry]
    endpoints: list[Endpoint]
    not_found: Endpoint | None
    method_not_allowed: Endpoint | None
    failures: Failures
    as_response: Callable[[object], Response]
    loads: Callable[[bytes], Any]
    dumps: Dumps
    hub: _core.Hub
    on_start: tuple[Callable[[Any], object], ...]
    on_stop: tuple[Callable[[Any], object], ...]
    on_thread_start: tuple[Callable[[], object], ...]
    on_thread_stop: tuple[Callable[[], object], ...]
