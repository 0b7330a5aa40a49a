"""From a frozen router to the native objects of a server: what serves its sockets, and what its workers call."""

from collections.abc import Callable
from dataclasses import replace

from ushabti import _core
from ushabti.config import Settings
from ushabti.faults import Faults, cut, dropped, surplus
from ushabti.frozen import Frozen
from ushabti.gathering import Gather
from ushabti.handlers import returned_nothing
from ushabti.responses import BYTES_TYPE, TEXT_TYPE, Response
from ushabti.values import RESERVED_LANE
from ushabti.websocket import Binder, Event, socket_failed

__all__ = ["assemble", "with_reserved_lane"]


def with_reserved_lane(settings: Settings, frozen: Frozen) -> Settings:
    """The settings with the reserved lane, if a route names it."""
    policies = [policy for _, _, _, policy in frozen.routes if policy is not None]
    if not any(policy.lane == RESERVED_LANE for policy in policies):
        return settings
    return replace(settings, lanes=(*settings.lanes, (RESERVED_LANE, 1, 1)))


def assemble(frozen: Frozen, settings: Settings, bind: Binder) -> tuple[_core.Server, _core.Application]:
    """Makes the native objects of one server.

    Args:
        frozen: The router.
        settings: The options.
        bind: What finds the handlers of WebSockets.

    Raises:
        ConfigError: A route names a lane that there is not.
    """
    endpoints = list(frozen.endpoints)
    missing = _append(endpoints, frozen.not_found)
    mismatched = _append(endpoints, frozen.method_not_allowed)
    routes = _core.RouteTable(frozen.routes, [name for name, _, _ in settings.lanes])
    core = _core.Server(settings, routes, hub=frozen.hub, not_found=missing, method_not_allowed=mismatched)
    application = _core.Application(
        endpoints=endpoints,
        routes=routes,
        as_response=frozen.as_response,
        fail=Faults(frozen),
        nothing=returned_nothing,
        surplus=surplus,
        cut=cut,
        dropped=dropped,
        gather=Gather,
        response=Response,
        loads=frozen.loads,
        dumps=frozen.dumps,
        bind=bind,
        socket_failed=socket_failed,
        events=tuple(Event),
        text_type=TEXT_TYPE,
        bytes_type=BYTES_TYPE,
    )
    return core, application


def _append(endpoints: list[Callable[..., object]], endpoint: Callable[..., object] | None) -> int | None:
    if endpoint is None:
        return None
    endpoints.append(endpoint)
    return len(endpoints) - 1
