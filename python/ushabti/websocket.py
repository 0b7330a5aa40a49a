"""WebSockets: what may handle one, how it is called, and how a request becomes one.

A handler is an object of an event class, made for each connection, or a function of ``(ws, event, message)``, or one
that takes the messages itself on a thread of its own. Messages go from the native side straight to the first two; what
is rarer (a socket opens, fails, closes) goes through ``deliver`` here.
"""

import enum
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from ushabti import _core
from ushabti.endpoints import Endpoint
from ushabti.errors import ConfigError
from ushabti.handlers import check_arguments, check_callable, check_handler, describe
from ushabti.socket_threads import SocketThreads
from ushabti.telling import surely
from ushabti.values import nearest

__all__ = ["Accept", "Binder", "Event", "SocketHandler", "socket_failed"]

logger = logging.getLogger("ushabti")

Deliver = Callable[[Any, _core.WebSocket, "Event | None", BaseException | None], object]
_Bound = tuple[object, bool, bool, bool, Deliver]

# The methods of an event class but on_upgrade and on_close, with their arguments.
_METHODS = {"on_open": ("ws",), "on_message": ("ws", "message"), "on_error": ("ws", "problem")}
_KNOWN = ("on_upgrade", *_METHODS, "on_close")

# Event classes and functions that were checked; of a class, whether its on_close takes `clean`. Weak, because a handler
# that is made for one connection must go with it.
_checked: "WeakKeyDictionary[object, bool]" = WeakKeyDictionary()


class Event(enum.Enum):
    """What has happened to a WebSocket."""

    #: It can be used: the first event.
    OPEN = "open"
    #: A message has come.
    MESSAGE = "message"
    #: The connection has failed, or a handler has raised; ``CLOSE`` follows.
    ERROR = "error"
    #: It is closed: the last event.
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Accept:
    """What ``on_upgrade`` returns to accept a connection on terms of its own; ``None`` accepts without any.

    Attributes:
        subprotocol: One that the client must have offered, or else is answered 400; or several, of which the first that
            it has offered is taken, or none (RFC 6455 section 1.9).
        headers: Header fields of the answer: ``Set-Cookie``, for example.
    """

    subprotocol: str | Sequence[str] | None = None
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None


class SocketHandler:
    """What was registered for the sockets of a route.

    Args:
        target: An event class, or a function of ``(ws, event, message)``, or with ``blocking`` one of
            ``(ws, **parameters)``.
        blocking: Whether the function has a thread of its own and takes the messages itself.
        pattern: The pattern's text, for messages.

    Attributes:
        endpoint: What workers call with a request that asks for a socket.

    Raises:
        ConfigError: It can be none.
    """

    __slots__ = ("_blocking", "_target", "endpoint")

    def __init__(self, target: Callable[..., Any], blocking: bool, pattern: str) -> None:
        if not isinstance(blocking, bool):
            raise ConfigError(f"blocking is True or False, not {blocking!r}")
        self._target = target
        self._blocking = blocking
        if blocking:
            if inspect.isclass(target):
                raise ConfigError(
                    f"{describe(target)} of {pattern!r}: a blocking handler is a function that takes the messages "
                    "itself (for message in ws); leave blocking out for a class with on_message"
                )
            check_callable(target, "a blocking handler of WebSockets")
            _refuse_generator(target, "a blocking handler of WebSockets")
            endpoint = _blocking_endpoint(target)
        elif inspect.isclass(target):
            _takes_clean(target)
            _check_constructor(target)
            endpoint = _class_endpoint(target)
        else:
            _check_event_function(target)
            endpoint = _function_endpoint(target)
        # What messages name.
        endpoint.__wrapped__ = target  # type: ignore[attr-defined]
        self.endpoint: Endpoint = endpoint

    def check(self, pattern: str, names: Iterable[str], *, is_whole: bool = True) -> None:
        """Refuses a handler that cannot take the parameters of its pattern: see ``check_handler``."""
        if self._blocking:
            check_handler(self._target, pattern, names, is_whole=is_whole, first="the socket")
        elif inspect.isclass(self._target) and hasattr(self._target, "on_upgrade"):
            check_handler(_method(self._target, "on_upgrade"), pattern, names, is_whole=is_whole)


def _class_endpoint(cls: Callable[[], Any]) -> Endpoint:
    decides = hasattr(cls, "on_upgrade")

    def endpoint(request: _core.Request, /, **parameters: Any) -> object:
        handler = cls()
        answer = handler.on_upgrade(request, **parameters) if decides else None
        if answer is None:
            request.upgrade(handler)
        elif isinstance(answer, Accept):
            request.upgrade(handler, subprotocol=answer.subprotocol, headers=answer.headers)
        else:
            return answer
        return None

    return endpoint


def _function_endpoint(function: Callable[..., Any]) -> Endpoint:
    def endpoint(request: _core.Request, /, **_: Any) -> None:
        request.upgrade(function)

    return endpoint


def _blocking_endpoint(function: Callable[..., Any]) -> Endpoint:
    def endpoint(request: _core.Request, /, **parameters: Any) -> None:
        handler = _Blocking(function, parameters)
        try:
            request.upgrade(handler)
        except BaseException:
            handler.give_back()
            raise

    return endpoint


class _Blocking:
    """A function on its way to a thread of its own, for one socket."""

    __slots__ = ("_function", "_parameters", "_threads")

    def __init__(self, function: Callable[..., Any], parameters: dict[str, Any]) -> None:
        self._function = function
        self._parameters = parameters
        self._threads: SocketThreads | None = None

    def reserve(self, threads: SocketThreads) -> None:
        """Takes one of the threads. Raises ``HTTPError`` 503 if all are taken."""
        threads.reserve()
        self._threads = threads

    def give_back(self) -> None:
        """Gives the thread back that was taken and not started."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.give_back()

    def deliver(self, ws: _core.WebSocket, event: Event | None, _problem: BaseException | None) -> None:
        if event is Event.OPEN:
            threads, self._threads = self._threads, None
            assert threads is not None, "it was reserved before the upgrade"
            threads.start(self._run, ws)
        elif event is None:
            self.give_back()

    def _run(self, ws: _core.WebSocket) -> None:
        try:
            self._function(ws, **self._parameters)
        except BaseException as problem:  # noqa: BLE001  (it is logged, and ends the thread)
            surely(socket_failed, ws, problem)
            ws.close(1011)
        else:
            ws.close()


class Binder:
    """Says what is called for a socket. Called by native code for each upgrade, in the worker.

    Args:
        default: The handler of ``request.upgrade()`` without one; ``None`` if there is none.
        threads: The threads of blocking handlers.

    Raises:
        ConfigError: ``default`` can be no handler.
    """

    def __init__(self, default: object, threads: SocketThreads) -> None:
        self._default = None if default is None else _bound(default)
        self._threads = threads

    def __call__(self, handler: Any) -> _Bound:
        """Returns ``(target, hears, takes_event, is_blocking, deliver)``.

        Messages go, if it ``hears`` any, to ``target(ws, Event.MESSAGE, message)`` if it takes the event, and else to
        ``target.on_message(ws, message)``; all other events to ``deliver(target, ws, event, problem)``.
        """
        if handler is None:
            if self._default is None:
                raise ConfigError(
                    "request.upgrade() has no handler: give it one, or the server a websocket_handler, or register it "
                    "by router.websocket(path)"
                )
            return self._default
        if isinstance(handler, _Blocking):
            handler.reserve(self._threads)
            return handler, False, False, True, _Blocking.deliver
        return _bound(handler)


def _bound(handler: Any) -> _Bound:
    """What is called for a handler of events. Raises ``ConfigError`` if it can be none."""
    if inspect.isclass(handler):
        raise ConfigError(f"a handler of WebSockets is an object of {describe(handler)}, not the class itself")
    if any(hasattr(handler, name) for name in _KNOWN) or not callable(handler):
        _takes_clean(type(handler))
        return handler, hasattr(handler, "on_message"), False, False, _deliver_to_object
    _check_event_function(handler)
    return handler, True, True, False, _deliver_to_function


def _takes_clean(cls: type) -> bool:
    """Checks an event class, and returns whether its ``on_close`` takes a third argument beside the socket."""
    takes_clean = _checked.get(cls)
    if takes_clean is None:
        takes_clean = _checked[cls] = _check_event_class(cls)
    return takes_clean


def _check_event_class(cls: type) -> bool:
    methods = [name for name in dir(cls) if name.startswith("on_")]
    for name in methods:
        if name not in _KNOWN:
            near = nearest(name, _KNOWN)
            advice = f"did you mean {near}?" if near else f"known are {', '.join(_KNOWN)}; begin its name otherwise"
            raise ConfigError(f"{describe(cls)}: there is no event for {name}: {advice}")
    if not methods:
        raise ConfigError(f"{describe(cls)} handles no event of a WebSocket: it has none of {', '.join(_KNOWN)}")
    for name, arguments in _METHODS.items():
        if name in methods:
            _check_called(_method(cls, name), f"{name} of a WebSocket,", arguments)
    if "on_close" not in methods:
        return False
    on_close = _method(cls, "on_close")
    try:
        _check_called(on_close, "on_close of a WebSocket,", ("ws", "code", "reason", "clean"))
    except ConfigError:
        _check_called(on_close, "on_close of a WebSocket,", ("ws", "code", "reason"))
        return False
    return True


def _check_constructor(cls: Callable[[], object]) -> None:
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):
        return  # A builtin, which does not tell.
    try:
        signature.bind()
    except TypeError as problem:
        raise ConfigError(
            f"{describe(cls)}: an object is made for each connection, without arguments, and {problem}; parameters of "
            "the path go to on_upgrade"
        ) from None


def _check_event_function(function: Callable[..., object]) -> None:
    is_function = isinstance(function, FunctionType)
    if is_function and function in _checked:
        return
    _check_called(function, "a handler of WebSockets", ("ws", "event", "message"))
    # Other objects may have no hash, or as a bound method live no longer than this call.
    if is_function:
        _checked[function] = False


def _check_called(function: Callable[..., object], what: str, arguments: tuple[str, ...]) -> None:
    check_arguments(function, what, arguments)
    _refuse_generator(function, what)


def _refuse_generator(function: Callable[..., object], what: str) -> None:
    """Refuses what would do nothing when it is called."""
    if inspect.isgeneratorfunction(function):
        raise ConfigError(
            f"{what} {describe(function)} is a generator, and nothing takes what it yields: send by ws.send()"
        )


def _method(cls: type, name: str) -> Any:
    """What an object of the class has under this name, without making one."""
    found = inspect.getattr_static(cls, name)
    if isinstance(found, property) or not hasattr(found, "__get__"):
        return found
    return found.__get__(object(), cls)


def _deliver_to_object(handler: Any, ws: _core.WebSocket, event: Event | None, problem: BaseException | None) -> None:
    if event is Event.CLOSE and hasattr(handler, "on_close"):
        clean = (ws.close_clean,) if _takes_clean(type(handler)) else ()
        handler.on_close(ws, ws.close_code, ws.close_reason, *clean)
    elif event is Event.OPEN and hasattr(handler, "on_open"):
        handler.on_open(ws)
    elif event is Event.ERROR and hasattr(handler, "on_error"):
        handler.on_error(ws, problem)


def _deliver_to_function(
    function: Callable[..., object], ws: _core.WebSocket, event: Event | None, _problem: BaseException | None
) -> None:
    if event is not None:
        function(ws, event, None)


def socket_failed(ws: _core.WebSocket, problem: BaseException) -> None:
    """Logs what a handler of a socket has raised. Called by the worker, or the thread of a blocking handler."""
    path = ws.request.path
    if isinstance(problem, SystemExit | KeyboardInterrupt):
        logger.error(
            "WebSocket %s: the handler raised %r, which ends no server; call server.stop() from another thread",
            path,
            problem,
        )
    else:
        logger.error("WebSocket %s: the handler failed", path, exc_info=problem)
