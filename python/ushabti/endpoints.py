"""From a handler to the endpoint that workers call: the error handlers and the middleware that stand around it.

Everything here is put together when a router is frozen. What happens for a request is calls of closures, from the
outermost middleware to the handler; all of it in the worker's thread.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

from ushabti import _core
from ushabti.errors import HTTPError, RouteConflict
from ushabti.handlers import describe, returned_nothing
from ushabti.patterns import Part, Pattern
from ushabti.responses import Response, from_error

__all__ = [
    "CallNext",
    "Endpoint",
    "ErrorTable",
    "Failures",
    "Middleware",
    "Scope",
    "automatic",
    "guard",
    "surround",
    "with_allow",
]

logger = logging.getLogger("ushabti")

Endpoint = Callable[..., object]
ErrorHandler = Callable[[_core.Request, Any], object]
CallNext = Callable[[_core.Request], Response | None]
Middleware = Callable[[_core.Request, CallNext], object]
Converter = Callable[[object], Response]

# Stands for any exception that no handler takes for its own sake.
_FAILED = HTTPError(500)

_Step = Callable[[_core.Request, dict[str, Any]], Response | None]


class ErrorTable:
    """The error handlers of one router.

    Attributes:
        by_status: For ``HTTPError`` with this status.
        by_class: For exceptions of this class and those derived from it.
    """

    __slots__ = ("by_class", "by_status")

    def __init__(self) -> None:
        self.by_status: dict[int, ErrorHandler] = {}
        self.by_class: dict[type[Exception], ErrorHandler] = {}

    def __bool__(self) -> bool:
        return bool(self.by_status or self.by_class)

    def takes_status(self, status: int) -> bool:
        """Whether an ``HTTPError`` with this status, and of no class of its own, has a handler here."""
        return status in self.by_status or HTTPError in self.by_class

    def candidates(self, problem: Exception) -> Iterator[ErrorHandler]:
        """The handlers for an exception, the most specific one first."""
        if isinstance(problem, HTTPError) and problem.status in self.by_status:
            yield self.by_status[problem.status]
        for kind in type(problem).__mro__:
            if kind in self.by_class:
                yield self.by_class[kind]
            if kind is HTTPError:
                # An answer that was raised on purpose is no failure: handlers of `Exception` are not meant.
                return


class Failures:
    """Finds the answers to what handlers raise.

    Attributes:
        tables: The error handlers, of the handler's own router first and of the outermost one last.
        as_response: Converts what they return.

    The handlers of the innermost router come first, then those of the router in which it is mounted, and so on; in each
    the most specific one first. One that raises the exception again leaves it to the next. One that raises an
    ``HTTPError`` gives that as the answer, for which a handler may be registered in turn. What is left over is logged,
    and an ``HTTPError`` 500 if there is a handler for that.

    A value without a status of its own, such as text or a dictionary, is sent with that of the ``HTTPError``, and with
    500 for any other exception: a failure that looks like success would be worse than a wrong number.
    """

    def __init__(self, tables: tuple[ErrorTable, ...], as_response: Converter) -> None:
        self.tables = tables
        self.as_response = as_response

    def takes(self, request: _core.Request, problem: Exception) -> bool:
        """Whether :meth:`answer` is for this: it can be answered still, and there is something to answer it with."""
        if request.responded:
            return False
        return (
            isinstance(problem, HTTPError) or self._next(problem, []) is not None or self._next(_FAILED, []) is not None
        )

    def answer(self, request: _core.Request, problem: Exception) -> Response | None:
        """Returns the answer; ``None`` if an error handler has sent one by ``request.respond()``, or deferred it."""
        tried: list[ErrorHandler] = []
        while True:
            handler = self._next(problem, tried)
            if handler is not None:
                tried.append(handler)
                try:
                    return self._converted(request, problem, handler)
                except HTTPError as another:
                    problem = another
                except Exception as failure:
                    if failure is not problem:
                        logger.exception(
                            "the error handler %s of %s %s failed", describe(handler), request.method, request.path
                        )
                        problem = _internal_error(failure)
            elif isinstance(problem, HTTPError):
                return from_error(problem)
            else:
                logger.error("%s %s failed", request.method, request.path, exc_info=problem)
                problem = _internal_error(problem)

    def _converted(self, request: _core.Request, problem: Exception, handler: ErrorHandler) -> Response | None:
        value = handler(request, problem)
        response = _convert(request, value, handler, self.as_response)
        if response is not None and not isinstance(value, Response | tuple):
            response.status = problem.status if isinstance(problem, HTTPError) else 500
        return response

    def _next(self, problem: Exception, tried: list[ErrorHandler]) -> ErrorHandler | None:
        candidates = (handler for table in self.tables for handler in table.candidates(problem))
        return next((handler for handler in candidates if handler not in tried), None)


@dataclass(frozen=True, slots=True)
class Scope:
    """What stands around the handlers of a router in one place: in the outermost router, or where it is mounted.

    Attributes:
        prefix: What stands before each of its patterns.
        failures: The error handlers.
        layers: The middleware, the outermost first, each with what answers its own exceptions.
    """

    prefix: Pattern
    failures: Failures
    layers: tuple[tuple[Middleware, Failures], ...]

    @classmethod
    def outermost(cls, errors: ErrorTable, middleware: Iterable[Middleware], as_response: Converter) -> "Scope":
        """The scope of a router that is mounted nowhere."""
        failures = Failures((errors,), as_response)
        return cls(Pattern("", (), ()), failures, tuple((function, failures) for function in middleware))

    def nested(self, prefix: Pattern, errors: ErrorTable, middleware: Iterable[Middleware]) -> "Scope":
        """The scope of a router that is mounted in this one."""
        failures = Failures((errors, *self.failures.tables), self.failures.as_response)
        layers = (*self.layers, *((function, failures) for function in middleware))
        return Scope(prefix.under(self.prefix), failures, layers)

    def endpoint(self, handler: Endpoint) -> Endpoint:
        """What workers call for a handler: the handler itself, wherever that will do."""
        # The server itself asks the error handlers of the outermost router.
        if not self.layers and not any(self.failures.tables[:-1]):
            return handler
        return self.guarded(handler)

    def guarded(self, handler: Endpoint) -> Endpoint:
        """What calls a handler through middleware and error handlers."""
        if self.layers:
            return surround(handler, self.failures, self.layers)
        return guard(handler, self.failures)


def automatic(scopes: list[Scope], status: Literal[404, 405]) -> Endpoint | None:
    """Returns what answers the paths that have no route, or (405) not for the method, by the error handlers for that.

    Args:
        scopes: All of them, the outermost one first. Those with error handlers of their own answer what is under their
            prefix, the most specific prefix first.
        status: The status.

    Returns:
        ``None`` if there are no such error handlers, so that the IO thread may answer.

    Raises:
        RouteConflict: Two routers that are mounted in the same place have such handlers.
    """
    answering = [scope for scope in scopes if scope.failures.tables[0].takes_status(status)]
    if not answering:
        return None
    raising = _not_found if status == 404 else _method_not_allowed
    outermost = scopes[0].guarded(raising)
    endpoint = outermost if answering == scopes[:1] else _by_prefix(answering, raising, outermost)
    return endpoint if status == 404 else with_allow(endpoint, scopes[0].failures.as_response)


def _by_prefix(scopes: list[Scope], raising: Endpoint, otherwise: Endpoint) -> Endpoint:
    """Chooses the scope by the path, with a table of prefixes that works as that of the routes does."""
    patterns: list[tuple[Part, ...]] = []
    endpoints: list[Endpoint] = []
    shapes: dict[tuple[Part, ...], Scope] = {}
    for scope in scopes:
        endpoint = scope.guarded(raising)
        below = Pattern("/**", (("rest", ""),), ()).under(scope.prefix)
        for pattern in (scope.prefix, below) if scope.prefix.parts else (below,):
            if (other := shapes.setdefault(pattern.shape, scope)) is not scope:
                raise RouteConflict(
                    f"the routers at {other.prefix.text or '/'!r} and {scope.prefix.text or '/'!r} both have error "
                    "handlers for 404, 405 or HTTPError, and no rule says which one answers; remove those of one"
                )
            patterns.append(pattern.parts)
            endpoints.append(endpoint)
    table = _core.RouteTable([(number, None, parts, None) for number, parts in enumerate(patterns)])

    def by_prefix(request: _core.Request) -> object:
        found = table.find("GET", _raw_path(request.target))
        return (endpoints[found[1]] if found[0] == "route" else otherwise)(request)

    return by_prefix


def _raw_path(target: str) -> str:
    """The path of a request target in origin form or absolute form (RFC 9112 section 3.2), not decoded."""
    path = target.partition("?")[0]
    if path.startswith("/"):
        return path
    _, slash, rest = path.partition("://")[2].partition("/")
    return "/" + rest if slash else "/"


def _internal_error(cause: Exception) -> HTTPError:
    error = HTTPError(500)
    error.__cause__ = cause
    return error


def _not_found(_: _core.Request) -> object:
    raise HTTPError(404)


def _method_not_allowed(request: _core.Request) -> object:
    raise HTTPError(405, headers=[("allow", request.allow)])


def guard(handler: Endpoint, failures: Failures) -> Endpoint:
    """Returns an endpoint that answers what ``handler`` raises by ``failures``."""

    @_standing_for(handler)
    def endpoint(request: _core.Request, /, **parameters: Any) -> object:
        try:
            value = handler(request, **parameters)
            # What the native side converts without help, and without failing.
            if type(value) is str or type(value) is bytes:
                return value
            return _convert(request, value, handler, failures.as_response)
        except Exception as problem:
            if not failures.takes(request, problem):
                raise
            return failures.answer(request, problem)

    return endpoint


def surround(
    handler: Endpoint,
    failures: Failures,
    layers: tuple[tuple[Middleware, Failures], ...],
) -> Endpoint:
    """Returns an endpoint that calls ``handler`` through middleware.

    Args:
        handler: The handler.
        failures: Answers what it raises, before any middleware sees that.
        layers: The middleware, the outermost first, each with what answers its own exceptions.
    """

    def innermost(request: _core.Request, parameters: dict[str, Any]) -> Response | None:
        try:
            return _convert(request, handler(request, **parameters), handler, failures.as_response)
        except Exception as problem:
            if not failures.takes(request, problem):
                raise
            return failures.answer(request, problem)

    step: _Step = innermost
    for middleware, of_its_router in reversed(layers):
        step = _layer(middleware, step, of_its_router)
    outermost = step

    @_standing_for(handler)
    def endpoint(request: _core.Request, /, **parameters: Any) -> object:
        return outermost(request, parameters)

    return endpoint


def _layer(middleware: Middleware, inner: _Step, failures: Failures) -> _Step:
    def step(request: _core.Request, parameters: dict[str, Any]) -> Response | None:
        def call_next(request: _core.Request) -> Response | None:
            return inner(request, parameters)

        try:
            return _convert(request, middleware(request, call_next), middleware, failures.as_response)
        except Exception as problem:
            if not failures.takes(request, problem):
                raise
            return failures.answer(request, problem)

    return step


def with_allow(endpoint: Endpoint, as_response: Converter) -> Endpoint:
    """Returns an endpoint whose answer has an Allow field, which 405 must have (RFC 9110 section 15.5.6)."""

    @_standing_for(endpoint)
    def allowing(request: _core.Request) -> Response | None:
        value = endpoint(request)
        if value is None:
            return None
        response = as_response(value)
        if "allow" not in response.headers:
            # A copy: the handler may return the same object for another path as well.
            response = response.copy()
            response.headers.add("allow", request.allow)
        return response

    return allowing


def _standing_for(handler: Endpoint) -> Callable[[Endpoint], Endpoint]:
    """Lets messages about an endpoint name the handler; in all else it stays what it is."""
    return wraps(handler, assigned=(), updated=())


def _convert(
    request: _core.Request, value: object, function: Callable[..., object], as_response: Converter
) -> Response | None:
    """Converts what a function returned; ``None`` stands for an answer that has been sent already, or was deferred."""
    if value is None:
        if request.responded or request.deferred:
            return None
        raise returned_nothing(function)
    return as_response(value)
