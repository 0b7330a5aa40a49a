"""Which requests become WebSockets (RFC 6455 section 4.2), and how the others are refused."""

import threading
from typing import Any

import pytest

from tests.server.websocketing import KEY, TEXT, Dialled, Told, dial, frame, handshake, sockets
from tests.support import Answer


@pytest.fixture
def told() -> Told:
    return Told()


# ---- requests that are none, and bad handshakes


@pytest.fixture
def blocked(serve):
    """A server whose only worker is busy for the whole test: what is answered, the IO thread answers."""
    began, release = threading.Event(), threading.Event()
    router = sockets(Told().handler(), "/ws")

    @router.get("/busy")
    def busy(request):
        began.set()
        release.wait(30)
        return "done"

    running = serve(router, workers=1)
    raw = running.connect()
    raw.send(b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n")
    assert began.wait(10)
    yield running
    release.set()
    assert raw.read_response().body == b"done"


@pytest.mark.parametrize(
    ("request_bytes", "status", "fields"),
    [
        pytest.param(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", 426, {"upgrade": "websocket"}, id="plain GET"),
        pytest.param(handshake("/ws", "Upgrade: h2c"), 426, {"upgrade": "websocket"}, id="another protocol"),
        pytest.param(handshake("/ws", drop="upgrade"), 426, {"upgrade": "websocket"}, id="no Upgrade"),
        pytest.param(
            handshake("/ws", "Sec-WebSocket-Version: 8"),
            426,
            {"sec-websocket-version": "13", "upgrade": "websocket"},
            id="older version",
        ),
        pytest.param(
            handshake("/ws", "Sec-WebSocket-Version: 13, 8"), 426, {"sec-websocket-version": "13"}, id="two in one"
        ),
        pytest.param(handshake("/ws", drop="sec-websocket-version"), 400, {}, id="no version"),
        pytest.param(
            handshake("/ws", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), 400, {}, id="version twice"
        ),
        pytest.param(handshake("/ws", drop="connection"), 400, {}, id="no Connection"),
        pytest.param(handshake("/ws", "Connection: keep-alive"), 400, {}, id="Connection without Upgrade"),
        pytest.param(handshake("/ws", drop="sec-websocket-key"), 400, {}, id="no key"),
        pytest.param(handshake("/ws", "Sec-WebSocket-Key: "), 400, {}, id="empty key"),
        pytest.param(handshake("/ws", "Sec-WebSocket-Key: c2hvcnQ="), 400, {}, id="short key"),
        pytest.param(handshake("/ws", f"Sec-WebSocket-Key: {KEY}AAAA"), 400, {}, id="long key"),
        pytest.param(handshake("/ws", "Sec-WebSocket-Key: " + "!" * 22 + "=="), 400, {}, id="key that is no base64"),
        pytest.param(
            handshake("/ws", f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"), 400, {}, id="key twice"
        ),
        pytest.param(handshake("/ws", "Sec-WebSocket-Protocol: a b"), 400, {}, id="subprotocols that are no list"),
        pytest.param(handshake("/ws", "Sec-WebSocket-Protocol: a, a"), 400, {}, id="subprotocol twice"),
        pytest.param(handshake("/ws", "Sec-WebSocket-Extensions: ;"), 400, {}, id="extensions that are no list"),
        pytest.param(handshake("/ws", "Host:"), 400, {}, id="empty Host"),
        pytest.param(handshake("/ws").replace(b"HTTP/1.1", b"HTTP/1.0"), 400, {}, id="HTTP/1.0"),
        pytest.param(handshake("/ws").replace(b"GET", b"POST"), 405, {"allow": ...}, id="POST"),
        pytest.param(b"DELETE /ws HTTP/1.1\r\nHost: a\r\n\r\n", 405, {"allow": ...}, id="DELETE"),
        pytest.param(handshake("/ws", "Origin: http://elsewhere.example"), 403, {}, id="another origin"),
        pytest.param(handshake("/none"), 404, {}, id="no such path"),
    ],
)
def test_bad_handshake_is_refused_without_a_worker(blocked, request_bytes: bytes, status: int, fields: dict[str, Any]):
    answer = blocked.ask(request_bytes)
    assert answer.status == status, answer
    for name, value in fields.items():
        assert answer.field(name) is not None if value is ... else answer.field(name) == value
    if status == 426:
        # RFC 9110 section 7.8: what Upgrade names is named in Connection as well.
        assert "upgrade" in (answer.field("connection") or "").lower()
    assert answer.body


@pytest.mark.parametrize(
    "fields",
    [
        ["Upgrade: WebSocket"],
        ["Upgrade: h2c, websocket"],
        ["Connection: keep-alive, UPGRADE"],
        ["Connection: keep-alive", "Connection: upgrade"],
        ["Sec-WebSocket-Extensions: x-unknown; a=1, permessage-deflate"],
        ["Sec-WebSocket-Protocol: a, b"],
        ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"],
        ["Cookie: a=1"],
        ["Content-Length: 0"],
    ],
    ids=lambda fields: fields[-1],
)
def test_handshake_in_other_words_is_one_too(serve, told: Told, fields: list[str]):
    ws = dial(serve(told.router()), "/", *fields)
    assert ws.answer.field("sec-websocket-extensions") is None and ws.answer.field("sec-websocket-protocol") is None
    assert ws.close() == (1000, "")


def test_connection_goes_on_after_a_refusal(serve, told: Told):
    with serve(told.router()).connect() as raw:
        raw.send(handshake(drop="sec-websocket-key"))
        assert raw.read_response().status == 400
        raw.send(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.read_response().status == 404
        raw.send(handshake())
        ws = Dialled(raw)
        ws.send("after all")
        assert told.wait("message")[1] == "after all"


def test_handshake_may_follow_requests_in_one_packet(serve, told: Told):
    router = told.router(on_message=lambda ws, message: ws.send(message))
    router.get("/hello", lambda request: "hello")
    with serve(router).connect() as raw:
        raw.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + handshake() + frame(TEXT, b"first"))
        assert [raw.read_response().body for _ in range(3)] == [b"hello"] * 3
        ws = Dialled(raw)
        assert ws.read() == "first"
        assert ws.close() == (1000, "")


def test_options_and_allow_know_the_route(serve, told: Told):
    running = serve(told.router())
    answer = running.ask(b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 204 and "GET" in (answer.field("allow") or "")
    assert "GET" in (running.ask(b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n").field("allow") or "")


# ---- origins


def origin_answer(running: Any, *fields: str) -> int:
    with running.connect() as raw:
        raw.send(handshake("/", *fields))
        answer: Answer = raw.read_response()
        return answer.status


@pytest.mark.parametrize(
    ("origins", "host", "origin", "status"),
    [
        (None, "shop.example", None, 101),
        (None, "shop.example", "http://shop.example", 101),
        (None, "shop.example", "https://shop.example", 101),
        (None, "shop.example:8080", "http://shop.example:8080", 101),
        (None, "shop.example:8080", "http://shop.example", 403),
        (None, "shop.example", "http://evil.example", 403),
        (None, "shop.example", "http://shop.example.evil.example", 403),
        (None, "shop.example", "null", 403),
        (None, "shop.example", "file://", 403),
        ("same", "shop.example", "http://evil.example", 403),
        ("any", "shop.example", "http://evil.example", 101),
        ("any", "shop.example", "null", 101),
        ("https://a.example,https://b.example", "shop.example", "https://b.example", 101),
        ("https://a.example,https://b.example", "shop.example", "https://B.example", 101),
        (["https://a.example"], "shop.example", "http://a.example", 403),
        (["https://a.example"], "shop.example", "http://shop.example", 403),
        (["https://a.example"], "shop.example", None, 101),
    ],
)
def test_origin_is_looked_at(serve, told: Told, origins: Any, host: str, origin: str | None, status: int):
    options = {} if origins is None else {"websocket_origins": origins}
    running = serve(told.router(), **options)
    fields = [f"Host: {host}", *([f"Origin: {origin}"] if origin else [])]
    assert origin_answer(running, *fields) == status


def test_origin_is_looked_at_when_a_plain_handler_upgrades(serve, told: Told):
    handler = told.handler()

    def upgrade(request):
        request.upgrade(handler())

    running = serve(upgrade)
    assert origin_answer(running, "Host: a", "Origin: http://b") == 403
    assert origin_answer(running, "Host: a", "Origin: http://a") == 101
