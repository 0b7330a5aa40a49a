"""What may handle WebSockets, what is said of that which may not, and what is called for each event."""

import functools
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ushabti import Accept, ConfigError, Event, HTTPError, Hub, RouteConflict, Router, Server, ServerStateError
from ushabti.cli import _listing
from ushabti.routes import Policy
from ushabti.socket_threads import SocketThreads
from ushabti.websocket import Binder, socket_failed


class Talk:
    """Every event, and what came."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_upgrade(self, request: Any, room: str) -> None: ...

    def on_open(self, ws: Any) -> None:
        self.told.append("open")

    def on_message(self, ws: Any, message: Any) -> None:
        raise AssertionError("messages go past Python")

    def on_error(self, ws: Any, problem: BaseException) -> None:
        self.told.append(problem)

    def on_close(self, ws: Any, code: int, reason: str) -> None:
        self.told.append((code, reason))


class Forms:
    """Methods in the forms that Python has."""

    on_open = functools.partialmethod(lambda self, word, ws: None, "word")
    on_error = min

    def on_upgrade(self, request: Any, /, **parameters: Any) -> None: ...

    @staticmethod
    def on_message(ws: Any, message: Any) -> None: ...

    @classmethod
    def on_close(cls, ws: Any, *details: Any) -> None: ...


def events(ws: Any, event: Event, message: Any) -> None: ...


def loop(ws: Any, room: str) -> None: ...


def binder(default: object = None, threads: int = 1) -> Binder:
    return Binder(default, SocketThreads(threads))


def class_of(**methods: Any) -> type:
    return type("Handler", (), methods)


# ---- registering


@pytest.mark.parametrize(
    ("handler", "blocking"), [(Talk, False), (Forms, False), (events, False), (min, False), (loop, True), (min, True)]
)
def test_handler_is_registered_and_returned_as_it_is(handler: Any, blocking: bool) -> None:
    router = Router()
    assert router.websocket("/rooms/{room:slug}", blocking=blocking)(handler) is handler
    assert router.websocket("/halls/{room:slug}", handler, blocking=blocking) is handler
    assert [(entry[1], entry[3]) for entry in router.freeze().routes] == [(("GET",), Policy(is_websocket=True))] * 2


async def coroutine(*_: Any) -> None: ...


def generator(ws: Any, *_: Any) -> Iterator[str]:
    yield ""


def needs_a_room(self: Any, request: Any, room: str) -> None: ...


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (class_of(on_mesage=events), r"Handler: there is no event for on_mesage: did you mean on_message\?"),
        (class_of(on_open=lambda self, ws: 0, on_fire=1), "no event for on_fire: known are on_upgrade, .* otherwise"),
        (class_of(), "Handler handles no event of a WebSocket: it has none of on_upgrade, on_open"),
        (
            class_of(on_message=lambda self, ws: 0),
            r"on_message of a WebSocket, .* must take \(ws, message\), and takes",
        ),
        (class_of(on_open=lambda self: 0), r"on_open of a WebSocket, .* must take \(ws\)"),
        (class_of(on_error=lambda self, ws: 0), r"on_error of a WebSocket, .* must take \(ws, problem\)"),
        (class_of(on_close=lambda self, ws: 0), r"on_close of a WebSocket, .* must take \(ws, code, reason\)"),
        (class_of(on_close=lambda self, ws, a, b, c, d: 0), r"on_close of a WebSocket, .* must take \(ws, code, reas"),
        (class_of(on_open=staticmethod(lambda self, ws: 0)), r"on_open of a WebSocket, .* must take \(ws\)"),
        (class_of(on_open=None), "on_open of a WebSocket, is a function, not None"),
        (class_of(on_upgrade=None), "a handler is a function, not None"),
        (class_of(on_upgrade=lambda self: 0), "takes no positional argument: the first one is the request"),
        (class_of(on_upgrade=lambda self, request: 0), r"does not take the parameter \{room\}"),
        (class_of(on_upgrade=coroutine), "is asynchronous: write a plain def"),
        (
            class_of(on_message=coroutine),
            "on_message of a WebSocket, .*coroutine .* is asynchronous: write a plain def",
        ),
        (class_of(on_close=coroutine), "is asynchronous: write a plain def"),
        (class_of(on_message=generator), "on_message of a WebSocket, .* is a generator, and nothing takes what it yi"),
        (class_of(on_close=generator), "is a generator"),
        (class_of(__init__=lambda self, room: None, on_open=lambda self, ws: 0), "made for each .* 'room'; parameters"),
        (coroutine, "a handler of WebSockets .* is asynchronous"),
        (generator, "a handler of WebSockets .* is a generator"),
        (lambda ws, message: None, r"a handler of WebSockets .* must take \(ws, event, message\), and takes"),
        (Talk(), r"a handler of WebSockets is a function, not <.*Talk object"),
        ("talk", "a handler of WebSockets is a function, not 'talk'"),
    ],
)
def test_what_cannot_handle_events_is_refused_where_it_is_registered(handler: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Router().websocket("/{room}", handler)


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (Talk, "Talk .*: a blocking handler is a function that takes the messages itself"),
        (coroutine, "a blocking handler of WebSockets .* is asynchronous"),
        (generator, "a blocking handler of WebSockets .* is a generator"),
        (lambda: None, "takes no positional argument: the first one is the socket"),
        (lambda ws: None, r"does not take the parameter \{room\}"),
        (lambda room: None, "its first argument 'room' is the socket"),
        ("loop", "a blocking handler of WebSockets is a function, not 'loop'"),
    ],
)
def test_what_cannot_take_the_messages_itself_is_refused(handler: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Router().websocket("/{room}", handler, blocking=True)


def test_blocking_is_a_switch() -> None:
    with pytest.raises(ConfigError, match="blocking is True or False, not 4"):
        Router().websocket("/", events, blocking=4)  # type: ignore[call-overload]


def test_parameters_that_a_mount_does_not_give_are_missed_when_all_is_known() -> None:
    for handler, blocking in ((class_of(on_upgrade=needs_a_room), False), (loop, True)):
        inner, outer, lacking = Router(), Router(), Router()
        inner.websocket("/talk", handler, blocking=blocking)
        outer.mount("/{room}", inner)
        outer.freeze()
        lacking.websocket("/talk", handler, blocking=blocking)
        with pytest.raises(ConfigError, match="needs an argument 'room' that the pattern does not give"):
            lacking.freeze()


def test_route_options_and_conflicts_are_those_of_get() -> None:
    router = Router()
    router.websocket("/talk", events, name="talk", access_log=False)
    assert router.url_for("talk") == "/talk"
    with pytest.raises(ConfigError, match="did you mean access_log"):
        router.websocket("/other", events, acces_log=False)  # type: ignore[call-overload]
    router.post("/talk", lambda request: "")
    router.get("/talk", lambda request: "")
    with pytest.raises(RouteConflict, match=r"GET /talk: two routes answer this, .*events"):
        router.freeze()


def test_listing_tells_sockets_from_other_routes() -> None:
    router, inner = Router(), Router()
    inner.websocket("/talk", Talk)
    inner.websocket("/loop", loop, blocking=True)
    router.mount("/{room}", inner)
    router.get("/", lambda request: "")
    assert {(methods, pattern) for methods, pattern, _ in _listing(router)} == {
        ("GET", "/"),
        ("websocket", "/{room}/talk"),
        ("websocket", "/{room}/loop"),
    }


# ---- the hub


def test_hub_of_a_router_is_made_once_and_the_servers_is_the_same() -> None:
    router, inner = Router(), Router()
    router.mount("/in", inner)
    hub = inner.hub
    assert inner.hub is hub
    assert Server(router).hub is hub
    assert router.hub is hub

    hub = Hub()
    assert Server(Router(), hub=hub).hub is hub
    assert Server(Router(hub=hub), hub=hub).router.hub is hub
    assert isinstance(Server(lambda request: "").hub, Hub)


def test_two_hubs_are_refused() -> None:
    with pytest.raises(ConfigError, match="the router has a hub of its own: give the server that, or none"):
        Server(Router(hub=Hub()), hub=Hub())
    outer = Router(hub=Hub())
    outer.mount("/in", Router(hub=Hub()))
    with pytest.raises(ConfigError, match="the router at '/in' has a hub of its own"):
        outer.freeze()


def test_hub_of_a_router_that_a_server_has_without_asking_is_no_new_one() -> None:
    outer, inner = Router(), Router()
    outer.mount("/in", inner)
    outer.freeze()
    with pytest.raises(ServerStateError, match="in use by a server"):
        _ = inner.hub


# ---- from the request to the socket


class Asked:
    """A request that is asked for a socket, which is refused with ``problem``."""

    def __init__(self, problem: BaseException | None = None, bind: Binder | None = None) -> None:
        self.upgrades: list[tuple[Any, dict[str, Any]]] = []
        self._problem = problem
        self._bind = bind

    def upgrade(self, handler: object, **terms: Any) -> None:
        if self._bind:
            self._bind(handler)
        if self._problem:
            raise self._problem
        self.upgrades.append((handler, terms))


def endpoint(handler: Any, pattern: str = "/{room}", *, blocking: bool = False) -> Callable[..., object]:
    router = Router()
    router.websocket(pattern, handler, blocking=blocking)
    return router.freeze().endpoints[0]


def test_each_upgrade_makes_an_object_of_the_class() -> None:
    asked = Asked()
    talk = endpoint(Talk)
    assert talk(asked, room="a") is None
    assert talk(asked, room="b") is None
    (first, _), (second, _) = asked.upgrades
    assert type(first) is type(second) is Talk
    assert first is not second


@pytest.mark.parametrize(
    ("answer", "terms"),
    [
        (None, {}),
        (Accept(), {"subprotocol": None, "headers": None}),
        (Accept(["b", "a"], {"x": "y"}), {"subprotocol": ["b", "a"], "headers": {"x": "y"}}),
    ],
)
def test_on_upgrade_accepts_on_its_terms(answer: Any, terms: dict[str, Any]) -> None:
    asked = Asked()
    rooms = []

    class Handler:
        def on_upgrade(self, request: Any, room: str) -> Any:
            rooms.append(room)
            return answer

    assert endpoint(Handler)(asked, room="a") is None
    assert rooms == ["a"]
    assert [given for _, given in asked.upgrades] == [terms]


@pytest.mark.parametrize("answer", ["no", ("no", 403), b"", {"sorry": 1}, False])
def test_any_other_value_of_on_upgrade_is_the_answer_and_no_socket_is_made(answer: Any) -> None:
    asked = Asked()
    assert endpoint(class_of(on_upgrade=lambda self, request, room: answer))(asked, room="a") is answer
    assert asked.upgrades == []


def test_class_without_on_upgrade_and_function_are_given_no_parameters() -> None:
    asked = Asked()
    endpoint(class_of(on_open=lambda self, ws: None))(asked, room="a")
    endpoint(events)(asked, room="a")
    assert asked.upgrades[1] == (events, {})


def test_blocking_handler_gives_its_thread_back_when_the_upgrade_fails() -> None:
    bind = binder(threads=1)
    blocking = endpoint(loop, blocking=True)
    for _ in range(3):
        with pytest.raises(HTTPError, match="400"):
            blocking(Asked(HTTPError(400), bind), room="a")
    blocking(Asked(bind=bind), room="a")
    with pytest.raises(HTTPError) as caught:
        blocking(Asked(bind=bind), room="a")
    assert caught.value.status == 503
    assert dict(caught.value.headers) == {"retry-after": "5"}


# ---- what is called for an event


def closed(clean: bool = True) -> Any:
    return SimpleNamespace(close_code=1000, close_reason="bye", close_clean=clean)


def test_object_is_told_the_events_that_it_has_methods_for() -> None:
    handler = Talk()
    target, hears, takes_event, is_blocking, deliver = binder()(handler)
    assert target is handler
    assert (hears, takes_event, is_blocking) == (True, False, False)
    problem = ValueError("broken")
    for event in (Event.OPEN, Event.ERROR, Event.CLOSE, None):
        deliver(target, closed(), event, problem)
    assert handler.told == ["open", problem, (1000, "bye")]


def test_object_without_methods_is_told_nothing() -> None:
    handler = class_of(on_upgrade=needs_a_room)()
    target, hears, _, _, deliver = binder()(handler)
    assert not hears
    for event in (Event.OPEN, Event.ERROR, Event.CLOSE, None):
        deliver(target, closed(), event, None)


@pytest.mark.parametrize("clean", [True, False])
def test_on_close_gets_whether_it_was_clean_if_it_has_an_argument_for_that(clean: bool) -> None:
    told: list[Any] = []
    handlers = [
        class_of(on_close=lambda self, ws, code, reason: told.append((code, reason))),
        class_of(on_close=lambda self, ws, code, reason, clean: told.append((code, reason, clean))),
        class_of(on_close=lambda self, ws, code, reason, clean=None: told.append((code, reason, clean))),
        class_of(on_close=staticmethod(lambda ws, *details: told.append(details))),
    ]
    for handler in handlers:
        target, _, _, _, deliver = binder()(handler())
        deliver(target, closed(clean), Event.CLOSE, None)
    assert told == [(1000, "bye"), *[(1000, "bye", clean)] * 3]


def test_function_is_told_every_event_but_that_nothing_came_of_it() -> None:
    told: list[Any] = []

    def function(*arguments: Any) -> None:
        told.append(arguments)

    target, hears, takes_event, is_blocking, deliver = binder()(function)
    assert target is function
    assert (hears, takes_event, is_blocking) == (True, True, False)
    ws = closed()
    for event in (Event.OPEN, Event.ERROR, Event.CLOSE, None):
        deliver(target, ws, event, ValueError("broken"))
    assert told == [(ws, event, None) for event in (Event.OPEN, Event.ERROR, Event.CLOSE)]


def test_default_stands_in_for_no_handler_and_for_nothing_else() -> None:
    bind = binder(events)
    assert bind(None)[0] is events
    handler = Talk()
    assert bind(handler)[0] is handler
    with pytest.raises(
        ConfigError, match=r"request.upgrade\(\) has no handler: give it one, or the server a websocket"
    ):
        binder()(None)


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (Talk, "a handler of WebSockets is an object of .*Talk.*, not the class itself"),
        (class_of(on_mesage=needs_a_room)(), r"no event for on_mesage: did you mean on_message\?"),
        (5, "int handles no event of a WebSocket"),
        (coroutine, "is asynchronous"),
        (lambda ws: None, r"must take \(ws, event, message\)"),
    ],
)
def test_what_is_no_handler_is_refused_by_the_server_and_by_the_upgrade(handler: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        binder()(handler)
    with pytest.raises(ConfigError, match=message):
        Server(lambda request: "", websocket_handler=handler)


class Unhashable:
    """Equal to others of its kind, as data classes are."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, ws: Any, event: Event, message: Any) -> None: ...

    def handle(self, ws: Any, event: Event, message: Any) -> None: ...


@pytest.mark.parametrize("handler", [Unhashable(), Unhashable().handle, functools.partial(events)])
def test_anything_callable_may_handle_events(handler: Any) -> None:
    assert binder()(handler)[:3] == (handler, True, True)
    assert binder(handler)(None)[0] == handler


def test_handlers_made_for_one_connection_are_not_kept() -> None:
    bind = binder()

    def made() -> Iterator[weakref.ref[Any]]:
        def function(ws: Any, event: Event, message: Any) -> None: ...

        owner = Unhashable()
        handler = class_of(on_close=lambda self, ws, code, reason: None)
        for each in (function, owner.handle, handler()):
            bind(each)
        yield from map(weakref.ref, (function, owner, handler, class_of()))

    function, owner, handler, unbound = list(made())
    gc.collect()
    assert function() is owner() is None
    # The free-threaded 3.13 keeps every class for ever.
    assert (handler() is None) == (unbound() is None)


# ---- failures


@pytest.mark.parametrize(
    ("problem", "message", "has_traceback"),
    [
        (ValueError("broken"), "WebSocket /talk: the handler failed", True),
        (SystemExit(3), "WebSocket /talk: the handler raised SystemExit(3), which ends no server", False),
        (KeyboardInterrupt(), "WebSocket /talk: the handler raised KeyboardInterrupt(), which ends no", False),
    ],
)
def test_failure_is_logged(
    caplog: pytest.LogCaptureFixture, problem: BaseException, message: str, has_traceback: bool
) -> None:
    ws: Any = SimpleNamespace(request=SimpleNamespace(path="/talk"))
    with caplog.at_level(logging.ERROR, logger="ushabti"):
        socket_failed(ws, problem)
    (record,) = caplog.records
    assert record.getMessage().startswith(message)
    assert bool(record.exc_info) is has_traceback
