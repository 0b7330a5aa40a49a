"""From a request to a WebSocket by the application's code: what it agrees to, and upgrades by hand."""

import threading
from typing import Any

import pytest

from tests.server.waiting import Log, eventually
from tests.server.websocketing import Told, dial, frame, handshake, sockets
from ushabti import Accept, AlreadyResponded, Disconnected, Event, HTTPError, Response, Router


@pytest.fixture
def told() -> Told:
    return Told()


# ---- on_upgrade


def upgrading(answer: Any) -> Router:
    """A route whose ``on_upgrade`` returns this, or raises it."""

    class Handler:
        def on_upgrade(self, request):
            result = answer(request) if callable(answer) else answer
            if isinstance(result, BaseException):
                raise result
            return result

        def on_open(self, ws):
            ws.send(f"{ws.subprotocol}")

    return sockets(Handler)


@pytest.mark.parametrize(
    ("accept", "offered", "chosen"),
    [
        (None, None, None),
        (None, "a, b", None),
        (Accept(), "a, b", None),
        (Accept("b"), "a, b", "b"),
        (Accept(subprotocol="b"), "b", "b"),
        (Accept(["c", "b", "a"]), "a, b", "b"),
        (Accept(("c", "d")), "a, b", None),
        (Accept(["a"]), None, None),
    ],
)
def test_subprotocol_is_agreed_on(serve, accept: Accept | None, offered: str | None, chosen: str | None):
    ws = dial(serve(upgrading(accept)), "/", *([f"Sec-WebSocket-Protocol: {offered}"] if offered else []))
    assert ws.answer.field("sec-websocket-protocol") == chosen
    assert ws.read() == str(chosen)


@pytest.mark.parametrize("fields", [[], ["Sec-WebSocket-Protocol: a"]])
def test_subprotocol_that_was_not_offered_is_400(serve, fields: list[str]):
    with serve(upgrading(Accept("b"))).connect() as raw:
        raw.send(handshake("/", *fields))
        answer = raw.read_response()
        assert answer.status == 400 and b"b" in answer.body


def test_fields_go_out_with_the_101(serve):
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-One", "ü")]
    ws = dial(serve(upgrading(Accept(headers=headers))))
    assert ws.answer.all("set-cookie") == ["a=1", "b=2"] and ws.answer.field("x-one") == "ü"
    ws = dial(serve(upgrading(Accept(headers={"X-Two": "2"}))))
    assert ws.answer.field("x-two") == "2"


@pytest.mark.parametrize(
    "name", ["Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Content-Length", "X:"]
)
def test_field_that_is_not_the_applications_is_its_fault(serve, log: Log, name: str):
    def accept(request):
        return Accept(headers={name: "1"})

    with serve(upgrading(accept)).connect() as raw:
        raw.send(handshake())
        assert raw.read_response().status == 500
    log.wait("failed")


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (HTTPError(401, "who are you?", {"WWW-Authenticate": "Basic"}), 401, b"who are you?"),
        (("full", 503), 503, b"full"),
        ("not today", 200, b"not today"),
        ({"error": 1}, 200, b'{"error":1}'),
        (Response("moved", 307, {"Location": "/elsewhere"}), 307, b"moved"),
        (ValueError("broken"), 500, b""),
    ],
)
def test_upgrade_can_be_refused_with_any_answer(serve, log: Log, answer: Any, status: int, body: bytes):
    running = serve(upgrading(answer))
    with running.connect() as raw:
        for _ in range(2):
            raw.send(handshake())
            got = raw.read_response()
            assert got.status == status and body in got.body
    assert running.server.stats()["websockets_open"] == 0
    assert ("ValueError: broken" in log.text()) == (status == 500)


def test_parameters_of_the_path_go_to_on_upgrade(serve):
    seen: list[Any] = []

    class Handler:
        def on_upgrade(self, request, room, number):
            seen.append((room, number, request.path_params, request.query.get("name")))

        def on_open(self, ws):
            seen.append((ws.request.path, ws.request.headers["x-one"], ws.request.path_params, ws.request.responded))
            ws.send("open")

    running = serve(sockets(Handler, "/rooms/{room:slug}/{number:int}"))
    assert dial(running, "/rooms/den/7?name=Ani", "X-One: v").read() == "open"
    parameters = {"room": "den", "number": 7}
    assert seen == [("den", 7, parameters, "Ani"), ("/rooms/den/7", "v", parameters, True)]


def test_middleware_stands_around_the_upgrade(serve):
    seen: list[Any] = []
    router = upgrading(lambda request: seen.append("on_upgrade"))

    @router.middleware
    def around(request, call_next):
        if request.query.get("key") != "right":
            raise HTTPError(403, "wrong key")
        result = call_next(request)
        seen.append((result, request.responded))
        return result

    running = serve(router)
    with running.connect() as raw:
        raw.send(handshake("/?key=wrong"))
        assert raw.read_response().status == 403
    assert dial(running, "/?key=right").read() == "None"
    assert seen == ["on_upgrade", (None, True)]


def test_route_below_a_mount_is_one_too(serve, told: Told):
    outer = Router()
    outer.mount("/inner", told.router())
    assert dial(serve(outer), "/inner/").close() == (1000, "")
    told.wait("close")


# ---- Mummy's style, and upgrades by hand


def note(told: Told):
    """A function as Mummy has them."""

    def events(ws, event, message):
        if event is Event.OPEN:
            told.opened(ws)
        else:
            names = {Event.MESSAGE: "message", Event.ERROR: "error", Event.CLOSE: "close"}
            told.add(names[event], None if message is None else message.data)

    return events


@pytest.mark.parametrize("how", ["websocket_handler", "upgrade", "route"])
def test_function_of_three_arguments_is_told_everything(serve, told: Told, how: str):
    if how == "websocket_handler":
        running = serve(lambda request: request.upgrade() and None, websocket_handler=note(told))
    elif how == "upgrade":
        running = serve(lambda request: request.upgrade(note(told)) and None)
    else:
        running = serve(sockets(note(told)))
    ws = dial(running)
    ws.send("a", b"b")
    ws.close()
    told.wait("close")
    ws = dial(running)
    ws.raw.send(frame(3))
    ws.read_close()
    told.wait("close", 2)
    assert told.all == [
        ("open",),
        ("message", "a"),
        ("message", b"b"),
        ("close", None),
        ("open",),
        ("error", None),
        ("close", None),
    ]


def test_another_thread_may_upgrade_while_the_handler_returns(serve, effort: int):
    """The handler returns as soon as the right to answer is taken, which may be before the socket is made."""

    def greet(ws, event, message):
        if event is Event.OPEN:
            ws.send("here")

    def handle(request):
        threading.Thread(target=request.upgrade, args=(greet,)).start()
        while not request.responded:
            pass

    running = serve(handle)
    for _ in range(20 * effort):
        ws = dial(running)
        assert ws.read() == "here"
        ws.close()
    eventually(lambda: running.server.stats()["websockets_open"] == 0)


def test_upgrade_takes_subprotocol_and_fields(serve, told: Told):
    seen: list[Any] = []
    handler = told.handler()

    def upgrade(request):
        seen.append(request.subprotocols)
        ws = request.upgrade(handler(), subprotocol=["b", "a"], headers={"X-One": "1"})
        seen.append((ws.subprotocol, ws.request is request, request.responded))

    ws = dial(serve(upgrade), "/", "Sec-WebSocket-Protocol: a, b")
    assert (ws.answer.field("sec-websocket-protocol"), ws.answer.field("x-one")) == ("b", "1")
    told.wait("open")
    assert seen == [["a", "b"], ("b", True, True)]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (handshake(drop="sec-websocket-key"), 400),
        (handshake("/", "Sec-WebSocket-Version: 8"), 426),
        (handshake("/").replace(b"GET", b"POST"), 405),
    ],
)
def test_upgrade_of_what_is_no_handshake_is_an_http_error(serve, told: Told, request_bytes: bytes, status: int):
    problems: list[Any] = []
    handler = told.handler()

    def upgrade(request):
        try:
            request.upgrade(handler())
        except HTTPError as problem:
            problems.append((problem.status, request.responded))
            raise

    answer = serve(upgrade).ask(request_bytes)
    assert answer.status == status and problems == [(status, False)]
    if status == 426:
        assert answer.field("upgrade") == "websocket"


def test_upgrade_is_an_answer_and_there_is_one(serve, told: Told):
    problems: list[Any] = []
    handler = told.handler()

    def upgrade(request):
        request.upgrade(handler())
        for again in (lambda: request.upgrade(handler()), lambda: request.respond(200, None, "x")):
            try:
                again()
            except AlreadyResponded as problem:
                problems.append(problem)

    running = serve(upgrade)
    ws = dial(running)
    told.wait("open")
    assert len(problems) == 2
    assert ws.close() == (1000, "")


def test_upgrade_after_an_answer_is_refused(serve, told: Told):
    problems: list[Any] = []
    handler = told.handler()

    def answer(request):
        request.respond(200, None, "answered")
        try:
            request.upgrade(handler())
        except AlreadyResponded as problem:
            problems.append(problem)

    with serve(answer).connect() as raw:
        raw.send(handshake())
        assert raw.read_response().body == b"answered"
    eventually(lambda: len(problems) == 1)


def test_upgrade_without_a_handler_is_the_applications_fault(serve, log: Log):
    with serve(lambda request: request.upgrade() and None).connect() as raw:
        raw.send(handshake())
        assert raw.read_response().status == 500
    assert "websocket_handler" in log.text()


def test_handler_that_fails_after_its_upgrade_closes_with_1011(serve, told: Told, log: Log):
    handler = told.handler()

    def upgrade(request):
        request.upgrade(handler())
        raise ValueError("after the upgrade")

    ws = dial(serve(upgrade))
    assert ws.read_close() == (1011, "")
    told.wait("close")
    assert told.names[0] == "open" and told.all[-1] == ("close", 1011, "", True)
    assert "ValueError: after the upgrade" in log.text()


def test_value_after_an_upgrade_is_an_error_in_the_log(serve, told: Told, log: Log):
    handler = told.handler()

    def upgrade(request):
        request.upgrade(handler())
        return "and a body"

    ws = dial(serve(upgrade))
    eventually(lambda: "ERROR" in log.text())
    told.wait("open")
    assert ws.close() == (1000, "")


# ---- clients that vanish


def test_client_that_is_gone_before_the_101_is_never_told(serve, told: Told, log: Log):
    began, go_on = threading.Event(), threading.Event()
    seen: list[Any] = []
    handler = told.handler()

    def upgrade(request):
        began.set()
        eventually(lambda: request.disconnected)
        assert go_on.wait(10)
        try:
            request.upgrade(handler())
        except Disconnected as problem:
            seen.append(problem)
            raise

    running = serve(upgrade)
    raw = running.connect()
    raw.send(handshake())
    assert began.wait(10)
    raw.reset()
    go_on.set()
    eventually(lambda: len(seen) == 1)
    eventually(lambda: running.server.stats()["connections_open"] == 0)
    running.stop()
    assert told.all == [] and running.server.stats()["websockets_open"] == 0
    # It is no fault of the handler's.
    assert "Traceback" not in log.text() and "ERROR" not in log.text()


@pytest.mark.parametrize("leave", ["reset", "close"])
def test_client_that_is_gone_before_the_handler_returns_is_told_wholly_or_not_at_all(serve, told: Told, leave: str):
    began, go_on = threading.Event(), threading.Event()
    handler = told.handler()
    kept: list[Any] = []

    def upgrade(request):
        kept.append(request.upgrade(handler()))
        began.set()
        assert go_on.wait(10)

    running = serve(upgrade)
    ws = dial(running)
    assert began.wait(10)
    ws.send("early")
    getattr(ws.raw, leave)()
    if leave == "reset":
        eventually(lambda: running.server.stats()["connections_open"] == 0)
    go_on.set()
    eventually(lambda: running.server.stats()["connections_open"] == 0)
    running.stop()
    assert told.names in ([], ["open", "close"], ["open", "message", "close"])
    assert not kept[0].open and not kept[0].send("x")
    assert kept[0].close_code == 1006
