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
from ushabti.values import parse_size, unknown_name
from ushabti.websocket import SocketHandler

__all__ = [
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

# Number, methods, parts, the longest body, whether it is logged, whether it is a WebSocket: what the native route table
# takes.
RouteEntry = tuple[int, tuple[str, ...] | None, tuple[Part, ...], int | None, bool, bool]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class RouteOptions(TypedDict, total=False):
    """The options of a route.

    Attributes:
        name: For :meth:`Router.url_for`.
        max_body: The longest body in bytes, or as text (``"2 GiB"``), in place of the server's limit. A longer one is
            answered with 413.
        access_log: False keeps requests of this route out of the access log.
    """

    name: str
    max_body: int | str
    access_log: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and which requests it answers.

    Attributes:
        pattern: The pattern, without the prefix under which its router is mounted.
        methods: The methods; ``None`` for every one.
        handler: The handler.
        name: For :meth:`Router.url_for`.
        max_body: The longest body, in bytes; ``None`` for the server's limit.
        access_log: Whether its requests get a line in the access log.
        socket: What handles its WebSockets, if it is one; ``handler`` is that's endpoint then.
    """

    pattern: Pattern
    methods: tuple[str, ...] | None
    handler: Endpoint
    name: str | None = None
    max_body: int | None = None
    access_log: bool = True
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
    return _core.RouteTable([(0, None, parts, None, True, False)])


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


def checked_options(options: RouteOptions) -> dict[str, Any]:
    """Checks the options of a route; returns the fields of :class:`Route` for them.

    Raises:
        ConfigError: One is unknown, or its value cannot be.
    """
    for option in options:
        if option not in RouteOptions.__annotations__:
            raise unknown_name(option, RouteOptions.__annotations__, " of a route")
    checked: dict[str, Any] = dict(options)
    if (max_body := options.get("max_body")) is not None:
        checked["max_body"] = parse_size(max_body, "max_body")
    if (name := options.get("name")) is not None and not isinstance(name, str):
        raise ConfigError(f"name is a str, not {name!r}")
    if not isinstance(options.get("access_log", True), bool):
        raise ConfigError(f"access_log is True or False, not {options['access_log']!r}")
    return checked
