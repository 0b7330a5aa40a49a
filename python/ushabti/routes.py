"""One route as it is registered, and what must hold between all routes of a server."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypedDict

from ushabti import _core
from ushabti.endpoints import Endpoint
from ushabti.errors import ConfigError, RouteConflict
from ushabti.handlers import check_handler, describe
from ushabti.patterns import Part, Pattern
from ushabti.values import DEFAULT_LANE, count, parse_size, seconds, unknown_name
from ushabti.websocket import SocketHandler

__all__ = [
    "Policy",
    "Route",
    "RouteEntry",
    "RouteOptions",
    "check_conflicts",
    "check_expressions",
    "check_names",
    "checked_methods",
    "checked_options",
    "table_of",
]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the IO thread must know of a route before any handler runs.

    Attributes:
        max_body: The longest body, in bytes; ``None`` for the server's limit.
        access_log: Whether its requests get a line in the access log.
        is_websocket: Whether it is a WebSocket.
        lane: The lane whose workers run its handler.
        deadline: Seconds until its answer must have begun; ``None`` for the server's deadline, 0 for none.
        concurrency: How many of its handlers may run at once; ``None`` for as many as there are workers.
        queue: How many requests may wait beyond these; ``None`` for as many as in a lane.
    """

    max_body: int | None = None
    access_log: bool = True
    is_websocket: bool = False
    lane: str = DEFAULT_LANE
    deadline: float | None = None
    concurrency: int | None = None
    queue: int | None = None


# Number, methods, parts and policy: what the native route table takes.
RouteEntry = tuple[int, tuple[str, ...] | None, tuple[Part, ...], Policy | None]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class RouteOptions(TypedDict, total=False):
    """The options of a route.

    Attributes:
        name: For :meth:`Router.url_for`.
        max_body: The longest body in bytes, or as text (``"2 GiB"``), in place of the server's limit. A longer one is
            answered with 413.
        access_log: False keeps requests of this route out of the access log.
        lane: The name of a lane of the server, whose workers alone run the handler. ``"reserved"`` is there always and
            has one worker, for handlers that take no time and must be run when all others are stuck: health checks.
        deadline: Seconds, or text (``"500 ms"``), from the request's last byte until the answer must have begun; then
            the client is told 504, whatever the handler does. In place of the server's deadline; ``"off"`` for none.
        concurrency: How many requests may be handled at once. More wait, without holding a thread.
        queue: How many may wait so, where ``concurrency`` is given; one more is answered 503. As many as in a lane by
            default.
    """

    name: str
    max_body: int | str
    access_log: bool
    lane: str
    deadline: float | str
    concurrency: int
    queue: int


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and which requests it answers.

    Attributes:
        pattern: The pattern, without the prefix under which its router is mounted.
        methods: The methods; ``None`` for every one.
        handler: The handler.
        name: For :meth:`Router.url_for`.
        policy: What the IO thread must know of it.
        socket: What handles its WebSockets, if it is one; ``handler`` is that's endpoint then.
    """

    pattern: Pattern
    methods: tuple[str, ...] | None
    handler: Endpoint
    name: str | None = None
    policy: Policy = Policy()
    socket: SocketHandler | None = None

    def check(self, pattern: Pattern, *, is_whole: bool = True) -> None:
        """Refuses a handler that cannot take the parameters of this pattern: see ``check_handler``."""
        if self.socket is None:
            check_handler(self.handler, pattern.text, pattern.names, is_whole=is_whole)
        else:
            self.socket.check(pattern.text, pattern.names, is_whole=is_whole)


@cache
def table_of(parts: tuple[Part, ...]) -> _core.RouteTable:
    """A table with this one pattern."""
    return _core.RouteTable([(0, None, parts, None)])


def check_expressions(pattern: Pattern) -> None:
    """Has the expressions of a pattern compiled where it is registered, and not only when a server starts.

    Raises:
        ConfigError: One does not compile.
    """
    if any(part[0] == "param" and part[2].startswith("re:") for part in pattern.parts):
        table_of(pattern.parts)


def check_conflicts(placed: "list[tuple[Route, Pattern]]") -> None:
    """Refuses routes with equal patterns and a method in common.

    Args:
        placed: The routes, each with its whole pattern.

    Raises:
        RouteConflict: There are two; it names both handlers.
    """
    same_shape: dict[tuple[Part, ...], list[tuple[Route, Pattern]]] = defaultdict(list)
    for route, pattern in placed:
        others = same_shape[pattern.shape]
        for other, its_pattern in others:
            if route.methods is None or other.methods is None:
                methods = route.methods or other.methods or ("every method",)
            else:
                methods = tuple(method for method in route.methods if method in other.methods)
            if methods:
                raise RouteConflict(
                    f"{', '.join(methods)} {pattern.text}: two routes answer this, "
                    f"{describe(other.handler)} as {its_pattern.text!r} and "
                    f"{describe(route.handler)} as {pattern.text!r}; change the path or the methods of one"
                )
        others.append((route, pattern))


def check_names(routes: list[Route]) -> None:
    """Refuses routes that share a name.

    Raises:
        ConfigError: There are two.
    """
    named: dict[str, Route] = {}
    for route in routes:
        # A router that is mounted twice brings its names twice; which is meant is asked only when one is used.
        if route.name is not None and named.setdefault(route.name, route) is not route:
            raise ConfigError(
                f"two routes have the name {route.name!r}: {describe(named[route.name].handler)} and "
                f"{describe(route.handler)}; rename one"
            )


def checked_methods(methods: Sequence[str] | None) -> tuple[str, ...] | None:
    """Checks the methods of a route; returns each once, or ``None`` for every method.

    Raises:
        ConfigError: They are none.
    """
    if methods is None:
        return None
    if isinstance(methods, str) or not methods:
        raise ConfigError(f"methods are a list such as ['GET', 'POST'], or None for every one, not {methods!r}")
    for method in methods:
        if not isinstance(method, str) or not _TOKEN.fullmatch(method):
            raise ConfigError(f"a method is a token such as 'GET', not {method!r}")
        if method == "CONNECT":
            raise ConfigError("CONNECT asks for a tunnel through a proxy, which this server is not: leave it out")
        if method not in _METHODS and method.upper() in _METHODS:
            raise ConfigError(f"methods are case-sensitive: write {method.upper()!r} for {method!r}")
    return tuple(dict.fromkeys(methods))


def checked_options(options: RouteOptions, is_websocket: bool) -> dict[str, Any]:
    """Checks the options of a route; returns the fields of :class:`Route` for them.

    Raises:
        ConfigError: One is unknown, or its value cannot be.
    """
    for option in options:
        if option not in RouteOptions.__annotations__:
            raise unknown_name(option, RouteOptions.__annotations__, " of a route")
    policy: dict[str, Any] = {}
    if (max_body := options.get("max_body")) is not None:
        policy["max_body"] = parse_size(max_body, "max_body")
    if not isinstance(options.get("access_log", True), bool):
        raise ConfigError(f"access_log is True or False, not {options['access_log']!r}")
    policy["access_log"] = options.get("access_log", True)
    lane = options.get("lane", DEFAULT_LANE)
    if not isinstance(lane, str):
        raise ConfigError(f"lane is the name of one, such as 'reports', not {lane!r}")
    policy["lane"] = lane
    if (deadline := options.get("deadline")) is not None:
        # 0 is the core's word for none; a deadline that has passed before it began would be of no use.
        policy["deadline"] = 0.0 if deadline == "off" else seconds(0.01, 86_400).read(deadline, "deadline")
    for option in ("concurrency", "queue"):
        if (number := options.get(option)) is not None:
            policy[option] = count(1 if option == "concurrency" else 0, 1_000_000).read(number, option)
    if "queue" in policy and "concurrency" not in policy:
        raise ConfigError("queue is for requests beyond the concurrency of the route: give that along with it")
    if (name := options.get("name")) is not None and not isinstance(name, str):
        raise ConfigError(f"name is a str, not {name!r}")
    return {"name": name, "policy": Policy(is_websocket=is_websocket, **policy)}
