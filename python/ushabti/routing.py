"""The router: which handler answers which requests, and what stands around the handlers.

A router is filled while the program starts and frozen when a server takes it. Freezing turns it into plain data for the
native route table and one callable for each route, so that a request costs no search, no look at a signature and, where
there is neither middleware nor an error handler of a mounted router, no wrapper: the worker calls the handler itself.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from json import loads as json_loads
from typing import Any, Protocol, Self, TypeVar, Unpack, overload

from ushabti import _core
from ushabti.endpoints import Endpoint, ErrorTable, Middleware, Scope, automatic
from ushabti.errors import ConfigError, ServerStateError
from ushabti.frozen import Frozen
from ushabti.handlers import check_arguments, check_callable, describe
from ushabti.patterns import Pattern
from ushabti.responses import Dumps, converter, json_text
from ushabti.routes import (
    Route,
    RouteEntry,
    RouteOptions,
    check_conflicts,
    check_expressions,
    check_names,
    checked_methods,
    checked_options,
    table_of,
)
from ushabti.websocket import SocketHandler

__all__ = ["Decorator", "Router"]

F = TypeVar("F", bound=Callable[..., object])

_EMPTY = Pattern("", (), ())


class Decorator(Protocol):
    """Registers a function and returns it as it is."""

    def __call__(self, handler: F, /) -> F: ...


class Router:
    """Routes, and what stands around their handlers.

    A handler is called as ``handler(request, **path_parameters)`` by a worker thread, and what it returns is the
    answer; see :mod:`ushabti.patterns` for the patterns and :class:`ushabti.Response` for the values. Of several routes
    that match, the most specific one answers, whatever the order in which they were registered. HEAD is answered
    wherever GET is, OPTIONS everywhere, and a method that no matching route has with 405; a route of their own wins
    over that.

    Args:
        dumps: Encodes values as JSON, as text or bytes, in place of the standard library; for the whole server.
        loads: Decodes the JSON of requests, from bytes; for the whole server.
        hub: The topics of the WebSockets; for the whole server. ``None``: one is made.
    """

    def __init__(
        self,
        *,
        dumps: Dumps | None = None,
        loads: Callable[[bytes], Any] | None = None,
        hub: _core.Hub | None = None,
    ) -> None:
        self._dumps = dumps
        self._loads = loads
        self._hub = hub
        self._routes: list[Route] = []
        self._mounts: list[tuple[Pattern, Router]] = []
        self._middleware: list[Middleware] = []
        self._errors = ErrorTable()
        self._on_start: list[Callable[[Any], object]] = []
        self._on_stop: list[Callable[[Any], object]] = []
        self._on_thread_start: list[Callable[[], object]] = []
        self._on_thread_stop: list[Callable[[], object]] = []
        self._is_frozen = False
        self._frozen: Frozen | None = None

    @classmethod
    def of(cls, handler: Callable[..., object]) -> Self:
        """Returns a router that answers everything with one handler.

        Raises:
            ConfigError: ``handler`` cannot be one: ``None``, for example, of a function that forgot its ``return``.
        """
        # Here and not only in `route`, which takes None for the call of a decorator.
        check_callable(handler, "a handler")
        router = cls()
        router.route("/**", handler)
        return router

    @property
    def hub(self) -> _core.Hub:
        """The topics of the WebSockets, those of the whole server. Made when it is asked for."""
        if self._hub is None:
            self._refuse_if_frozen()
            self._hub = _core.Hub()
        return self._hub

    def join_hub(self, hub: _core.Hub) -> None:
        """Gives the router its hub, for the server. Raises ``ConfigError`` if it has another."""
        if self._hub not in (None, hub):
            raise ConfigError("the router has a hub of its own: give the server that, or none")
        self._hub = hub

    @overload
    def route(
        self, path: str, *, methods: Sequence[str] | None = None, **options: Unpack[RouteOptions]
    ) -> Decorator: ...
    @overload
    def route(
        self,
        path: str,
        handler: F,
        *,
        methods: Sequence[str] | None = None,
        **options: Unpack[RouteOptions],
    ) -> F: ...
    def route(
        self,
        path: str,
        handler: Endpoint | None = None,
        *,
        methods: Sequence[str] | None = None,
        **options: Unpack[RouteOptions],
    ) -> object:
        """Registers a handler for a path and some methods; a decorator if no handler is given.

        Args:
            path: The pattern; ``""`` stands for the prefix itself in a router that is mounted.
            handler: The handler.
            methods: The methods, ``None`` for every one.
            options: See :class:`RouteOptions`.

        Raises:
            ConfigError: The pattern, an option or the handler cannot work.
            ServerStateError: The router is in use.
        """
        return self._register(methods, path, handler, options)

    def _register(
        self, methods: Sequence[str] | None, path: str, handler: Endpoint | None, options: RouteOptions
    ) -> object:
        make = self._maker(path, methods, options)

        def register(handler: F) -> F:
            self._add(make(handler=handler))
            return handler

        return register if handler is None else register(handler)

    def _maker(
        self, path: str, methods: Sequence[str] | None, options: RouteOptions, is_websocket: bool = False
    ) -> Callable[..., Route]:
        self._refuse_if_frozen()
        if callable(path):
            raise ConfigError("a route takes its path first: @router.get('/'), not @router.get")
        pattern = Pattern.parse(path)
        check_expressions(pattern)
        return partial(Route, pattern, checked_methods(methods), **checked_options(options, is_websocket))

    def _add(self, route: Route) -> None:
        self._refuse_if_frozen()
        route.check(route.pattern, is_whole=False)
        self._routes.append(route)

    @overload
    def websocket(self, path: str, *, blocking: bool = False, **options: Unpack[RouteOptions]) -> Decorator: ...
    @overload
    def websocket(self, path: str, handler: F, *, blocking: bool = False, **options: Unpack[RouteOptions]) -> F: ...
    def websocket(
        self,
        path: str,
        handler: Callable[..., Any] | None = None,
        *,
        blocking: bool = False,
        **options: Unpack[RouteOptions],
    ) -> object:
        """Registers a handler for WebSockets at a path; a decorator if no handler is given.

        Args:
            path: The pattern, as for :meth:`route`.
            handler: A class of which one object is made for each connection, with some of these methods, which workers
                call one at a time and in order: ``on_upgrade(request, **path_parameters)``, which accepts by ``None``
                or :class:`Accept` and refuses by anything that a handler may return or raise; ``on_open(ws)``;
                ``on_message(ws, message)``; ``on_error(ws, problem)``; ``on_close(ws, code, reason)``, or with a
                fourth argument, whether it was clean. Or a function of ``(ws, event, message)``.
            blocking: The handler is a function of ``(ws, **path_parameters)`` that takes the messages itself, ``for
                message in ws``, and has a thread of its own for that; at most ``websocket_threads`` of them.
            options: See :class:`RouteOptions`.

        Raises:
            ConfigError: The pattern, an option or the handler cannot work.
            ServerStateError: The router is in use.
        """
        make = self._maker(path, ("GET",), options, is_websocket=True)

        def register(handler: F) -> F:
            socket = SocketHandler(handler, blocking, path)
            self._add(make(handler=socket.endpoint, socket=socket))
            return handler

        return register if handler is None else register(handler)

    @overload
    def get(self, path: str, **options: Unpack[RouteOptions]) -> Decorator: ...
    @overload
    def get(self, path: str, handler: F, **options: Unpack[RouteOptions]) -> F: ...
    def get(self, path: str, handler: Endpoint | None = None, **options: Unpack[RouteOptions]) -> object:
        """Registers a handler for GET, and for HEAD unless that has its own: see :meth:`route`."""
        return self._register(("GET",), path, handler, options)

    @overload
    def post(self, path: str, **options: Unpack[RouteOptions]) -> Decorator: ...
    @overload
    def post(self, path: str, handler: F, **options: Unpack[RouteOptions]) -> F: ...
    def post(self, path: str, handler: Endpoint | None = None, **options: Unpack[RouteOptions]) -> object:
        """Registers a handler for POST: see :meth:`route`."""
        return self._register(("POST",), path, handler, options)

    @overload
    def put(self, path: str, **options: Unpack[RouteOptions]) -> Decorator: ...
    @overload
    def put(self, path: str, handler: F, **options: Unpack[RouteOptions]) -> F: ...
    def put(self, path: str, handler: Endpoint | None = None, **options: Unpack[RouteOptions]) -> object:
        """Registers a handler for PUT: see :meth:`route`."""
        return self._register(("PUT",), path, handler, options)

    @overload
    def patch(self, path: str, **options: Unpack[RouteOptions]) -> Decorator: ...
    @overload
    def patch(self, path: str, handler: F, **options: Unpack[RouteOptions]) -> F: ...
    def patch(self, path: str, handler: Endpoint | None = None, **options: Unpack[RouteOptions]) -> object:
        """Registers a handler for PATCH: see :meth:`route`."""
        return self._register(("PATCH",), path, handler, options)

    @overload
    def delete(self, path: str, **options: Unpack[RouteOptions]) -> Decorator: ...
    @overload
    def delete(self, path: str, handler: F, **options: Unpack[RouteOptions]) -> F: ...
    def delete(self, path: str, handler: Endpoint | None = None, **options: Unpack[RouteOptions]) -> object:
        """Registers a handler for DELETE: see :meth:`route`."""
        return self._register(("DELETE",), path, handler, options)

    @overload
    def head(self, path: str, **options: Unpack[RouteOptions]) -> Decorator: ...
    @overload
    def head(self, path: str, handler: F, **options: Unpack[RouteOptions]) -> F: ...
    def head(self, path: str, handler: Endpoint | None = None, **options: Unpack[RouteOptions]) -> object:
        """Registers a handler for HEAD alone: see :meth:`route`."""
        return self._register(("HEAD",), path, handler, options)

    @overload
    def options(self, path: str, **options: Unpack[RouteOptions]) -> Decorator: ...
    @overload
    def options(self, path: str, handler: F, **options: Unpack[RouteOptions]) -> F: ...
    def options(self, path: str, handler: Endpoint | None = None, **options: Unpack[RouteOptions]) -> object:
        """Registers a handler for OPTIONS: see :meth:`route`."""
        return self._register(("OPTIONS",), path, handler, options)

    def mount(self, prefix: str, other: "Router") -> None:
        """Puts the routes of another router under a prefix, which may have parameters.

        Routes that are registered there later are mounted as well. Its middleware stands inside this router's, its
        error handlers come before this router's, and answer 404 and 405 under the prefix.

        Raises:
            ConfigError: The prefix is malformed, or the routers would contain each other.
            ServerStateError: The router is in use.
        """
        self._refuse_if_frozen()
        if not isinstance(other, Router):
            raise ConfigError(f"mount takes a Router, not {other!r} ({type(other).__name__})")
        pattern = Pattern.parse_prefix(prefix)
        check_expressions(pattern)
        if self in other._reachable():
            raise ConfigError(f"a router cannot be mounted into itself (at {prefix!r})")
        self._mounts.append((pattern, other))

    def middleware(self, function: F) -> F:
        """Registers middleware around every handler of this router and of those mounted in it.

        It is called as ``function(request, call_next)``; ``call_next(request)`` returns the :class:`Response`, in which
        what the handler raised is turned into an answer already if it is an ``HTTPError`` or has an error handler.
        It returns ``None`` if the handler has answered by ``request.respond()``. Middleware returns what a handler may.
        The first one that is registered is the outermost. What the IO thread answers never comes here: 404 and 405
        without a handler of their own, and automatic OPTIONS.
        """
        self._refuse_if_frozen()
        check_arguments(function, "middleware", ("request", "call_next"))
        self._middleware.append(function)
        return function

    def error(self, problem: int | type[Exception]) -> Decorator:
        """Returns a decorator that registers an error handler, called as ``handler(request, problem)``.

        Args:
            problem: The status of an ``HTTPError``, or a class of exceptions. 404 and 405 answer also what no route
                answers, 500 also an exception that no other handler takes, which is logged and is the ``__cause__`` of
                ``problem``. A class comes after a status, and a base class after those derived from it; handlers of
                ``Exception`` get no ``HTTPError``. What is returned without a status has that of the ``HTTPError``, or
                500.

        Raises:
            ConfigError: ``problem`` or the function cannot work, or there is a handler already.
            ServerStateError: The router is in use.
        """
        self._refuse_if_frozen()
        is_status = isinstance(problem, int) and not isinstance(problem, bool) and 400 <= problem <= 599
        if not is_status and not (isinstance(problem, type) and issubclass(problem, Exception)):
            raise ConfigError(
                f"an error handler is for a status of 400 to 599 or for a class of exceptions, not for {problem!r}: "
                "write @router.error(404), or @router.error(ValueError)"
            )
        table: dict[Any, Any] = self._errors.by_status if is_status else self._errors.by_class

        def register(handler: F) -> F:
            self._refuse_if_frozen()
            check_arguments(handler, "an error handler", ("request", "problem"))
            if problem in table:
                raise ConfigError(
                    f"{problem!r} has an error handler already, {describe(table[problem])}: "
                    f"remove that or {describe(handler)}"
                )
            table[problem] = handler
            return handler

        return register

    def on_start(self, hook: F) -> F:
        """Registers a function that is called with the server before it answers anything. It may refuse by raising."""
        return self._hook(self._on_start, hook, "a hook of on_start", ("server",))

    def on_stop(self, hook: F) -> F:
        """Registers a function that is called with the server after the last answer; the last one is called first."""
        return self._hook(self._on_stop, hook, "a hook of on_stop", ("server",))

    def on_thread_start(self, hook: F) -> F:
        """Registers a function that each worker thread calls before its first request."""
        return self._hook(self._on_thread_start, hook, "a hook of on_thread_start", ())

    def on_thread_stop(self, hook: F) -> F:
        """Registers a function that each worker thread calls after its last request; the last one is called first."""
        return self._hook(self._on_thread_stop, hook, "a hook of on_thread_stop", ())

    def _hook(self, hooks: list[Any], hook: F, what: str, arguments: tuple[str, ...]) -> F:
        self._refuse_if_frozen()
        check_arguments(hook, what, arguments)
        hooks.append(hook)
        return hook

    def url_for(self, name: str, /, **parameters: object) -> str:
        """Returns the path of the route of this name, percent-encoded, with these parameters.

        To be asked of the router that the server has: a router does not know where it is mounted.

        Raises:
            ValueError: There is no such route or more than one, or the parameters do not fit its pattern.
        """
        found = [pattern for route_name, pattern in self._names(_EMPTY) if route_name == name]
        if len(found) != 1:
            raise ValueError(f"{len(found) or 'no'} routes have the name {name!r}")
        path = found[0].build(parameters)
        if table_of(found[0].parts).find("GET", path)[0] != "route":
            raise ValueError(f"the parameters {parameters!r} do not fit the pattern {found[0].text!r} of {name!r}")
        return path

    def freeze(self) -> Frozen:
        """Turns the router into what a server takes; from then on it cannot be changed. Servers may share it.

        Raises:
            RouteConflict: Two routes would answer the same requests.
            ConfigError: Something else that only the whole of the routes shows.
        """
        if self._frozen is None:
            self._frozen = self._compile()
            for router in self._reachable():
                router._is_frozen = True
        return self._frozen

    def _refuse_if_frozen(self) -> None:
        if self._is_frozen:
            raise ServerStateError("this router is in use by a server: register everything before Server(router)")

    def _reachable(self) -> "list[Router]":
        """This router and all that are mounted in it, each once, outer ones first."""
        found = [self]
        for router in found:
            for _, other in router._mounts:
                if other not in found:
                    found.append(other)
        return found

    def _names(self, prefix: Pattern) -> Iterator[tuple[str | None, Pattern]]:
        """The names of all routes and their whole patterns."""
        for route in self._routes:
            yield route.name, route.pattern.under(prefix)
        for inner, other in self._mounts:
            yield from other._names(inner.under(prefix))

    def _places(self, scope: Scope) -> Iterator[tuple["Router", Scope]]:
        """This router in its scope, and each mounted one in each place where it is mounted."""
        yield self, scope
        for prefix, other in self._mounts:
            yield from other._places(scope.nested(prefix, other._errors, other._middleware))

    def _compile(self) -> Frozen:
        as_response = converter(self._dumps or json_text)
        places = list(self._places(Scope.outermost(self._errors, self._middleware, as_response)))
        self._check_shared(places)
        placed = [
            (route, route.pattern.under(scope.prefix), scope) for router, scope in places for route in router._routes
        ]
        for route, pattern, _ in placed:
            if not pattern.parts:
                raise ConfigError(f"{describe(route.handler)}: the path '' is for mounted routers; write '/'")
            route.check(pattern)
        check_conflicts([(route, pattern) for route, pattern, _ in placed])
        check_names([route for route, _, _ in placed])
        routes: list[RouteEntry] = [
            (number, route.methods, pattern.parts, route.policy) for number, (route, pattern, _) in enumerate(placed)
        ]
        _core.RouteTable(routes)  # Finds what only the native table knows of: too many methods, for example.
        routers = self._reachable()
        scopes = [scope for _, scope in places]
        return Frozen(
            routes=routes,
            endpoints=[scope.endpoint(route.handler) for route, _, scope in placed],
            not_found=automatic(scopes, 404),
            method_not_allowed=automatic(scopes, 405),
            failures=scopes[0].failures,
            as_response=as_response,
            loads=self._loads or json_loads,
            dumps=self._dumps or json_text,
            hub=self.hub,
            on_start=tuple(hook for router in routers for hook in router._on_start),
            on_stop=tuple(hook for router in reversed(routers) for hook in reversed(router._on_stop)),
            on_thread_start=tuple(hook for router in routers for hook in router._on_thread_start),
            on_thread_stop=tuple(hook for router in reversed(routers) for hook in reversed(router._on_thread_stop)),
        )

    def _check_shared(self, places: "list[tuple[Router, Scope]]") -> None:
        for router, scope in places[1:]:
            if router._dumps not in (None, self._dumps) or router._loads not in (None, self._loads):
                raise ConfigError(
                    f"the router mounted at {scope.prefix.text or '/'!r} has dumps or loads of its own: "
                    "give them to the router that the server gets"
                )
        self._hub = next((router._hub for router, _ in places if router._hub is not None), None) or _core.Hub()
        for router, scope in places:
            if router._hub not in (None, self._hub):
                raise ConfigError(
                    f"the router at {scope.prefix.text or '/'!r} has a hub of its own: give all the same one"
                )
