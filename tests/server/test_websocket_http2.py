"""WebSockets over HTTP/2 (RFC 8441): to handlers they are what they are over HTTP/1.1."""

import contextlib
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import h2.events
import pytest

from tests.server.http2_peer import Peer, opened
from tests.server.waiting import eventually
from tests.server.websocketing import CLOSE, Told, dial, frame, handshake, sockets
from tests.support import PATIENCE_S, Raw, Running
from tools.bridge import bridging
from ushabti import Accept, HTTPError, Router


class Bridged(Running):
    """A server whose clients speak HTTP/1.1 to a bridge, which speaks HTTP/2 to it."""

    def __init__(self, running: Running, port: int) -> None:
        self._port = port
        super().__init__(running.server, running.address)

    def connect(self, timeout: float = PATIENCE_S) -> Raw:
        raw = Raw(("127.0.0.1", self._port), timeout)
        self._connections.append(raw)
        return raw


@pytest.fixture
def bridged() -> Iterator[Callable[[Running], Bridged]]:
    with contextlib.ExitStack() as stack:

        def bridge(running: Running) -> Bridged:
            made = Bridged(running, stack.enter_context(bridging(running.port)))
            # Before the bridge, which waits for the ends of all.
            stack.callback(made.hang_up)
            return made

        yield bridge


def test_handler_sees_a_request_as_ever(serve, bridged):
    seen: list[tuple[Any, ...]] = []

    class Handler:
        def on_upgrade(self, request, room: int):
            seen.append((request.method, request.path, dict(request.query.items()), room, request.http_version))
            seen.append((request.scheme, request.headers["upgrade"], request.cookies["a"], request.host))

        def on_message(self, ws, message):
            # What was kept of the request for the life of the socket.
            request = ws.request
            seen.append((request.method, request.path, request.http_version, request.headers["x-one"]))
            ws.send(f"{request.path}: {message.text}")

    ws = dial(bridged(serve(sockets(Handler, "/rooms/{room:int}"))), "/rooms/7?a=b", "Cookie: a=1", "X-One: 1")
    ws.send("hail")
    assert ws.read() == "/rooms/7: hail"
    assert ws.close(1000, b"enough") == (1000, "")
    assert seen == [
        ("GET", "/rooms/7", {"a": "b"}, 7, "2"),
        ("http", "websocket", "1", "test"),
        ("GET", "/rooms/7", "2", "1"),
    ]


def test_events_are_told_in_order(serve, bridged):
    told = Told()
    running = bridged(serve(told.router(on_message=lambda ws, message: ws.send(message.data))))
    ws = dial(running)
    messages = [f"{number}" for number in range(500)]
    ws.send(*messages)
    assert [ws.read() for _ in messages] == messages
    ws.close(4000, b"done")
    told.wait("close")
    assert told.all == [("open",), *(("message", message) for message in messages), ("close", 4000, "done", True)]


def test_agreement_names_the_subprotocol_and_the_applications_fields(serve, bridged):
    class Handler:
        def on_upgrade(self, request):
            return Accept(["b"], headers={"X-Granted": "yes", "Set-Cookie": "c=1"})

        def on_open(self, ws):
            ws.send(ws.subprotocol)

    ws = dial(bridged(serve(sockets(Handler))), "/", "Sec-WebSocket-Protocol: a, b")
    assert (ws.answer.field("sec-websocket-protocol"), ws.answer.field("x-granted")) == ("b", "yes")
    assert ws.answer.field("set-cookie") == "c=1"
    assert ws.read() == "b"


def test_messages_are_compressed_if_both_want_it(serve, bridged):
    told = Told()
    router = told.router(on_message=lambda ws, message: ws.send(message.data * 100))
    running = bridged(serve(router, websocket_compress=True))
    ws = dial(running, "/", "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
    assert str(ws.answer.field("sec-websocket-extensions")).startswith("permessage-deflate")
    ws.send("a word of some length")
    got = ws.read_frame()
    assert got.rsv == 4 and len(got.payload) < 200
    text = zlib.decompressobj(-15).decompress(got.payload + b"\0\0\xff\xff")
    assert text.decode() == "a word of some length" * 100


def test_blocking_handler_loops_over_messages(serve, bridged):
    def loop(ws):
        for message in ws:
            ws.send(message)
        ended.set()

    ended = threading.Event()
    ws = dial(bridged(serve(sockets(loop, blocking=True))))
    ws.send("a", b"b")
    assert [ws.read(), ws.read()] == ["a", b"b"]
    ws.close()
    assert ended.wait(PATIENCE_S)


def test_large_messages_pass_the_windows(serve, bridged):
    told = Told()
    running = bridged(serve(told.router(on_message=lambda ws, message: ws.send(message.data)), max_message="8 MiB"))
    ws = dial(running)
    data = bytes(range(256)) * 16384
    for _ in range(3):
        ws.send(data)
        assert ws.read() == data


def test_topic_reaches_sockets_of_both_versions(serve, bridged):
    router = Router()
    told = Told()
    router.websocket("/", told.handler(on_open=lambda ws: ws.subscribe("all")))
    running = serve(router)
    one, two = dial(running), dial(bridged(running))
    told.wait("open", 2)
    eventually(lambda: router.hub.count("all") == 2)
    assert router.hub.publish("all", "hail") == 2
    assert (one.read(), two.read()) == ("hail", "hail")


def test_handler_upgrades_by_hand(serve, bridged):
    told = Told()

    def handler(request):
        request.upgrade(told.handler(on_message=lambda ws, message: ws.send(message.data))())

    ws = dial(bridged(serve(handler)))
    ws.send("x")
    assert ws.read() == "x"


@pytest.mark.parametrize(("answer", "status"), [("a page", 400), (("gone", 410), 410), (HTTPError(403), 403)])
def test_what_does_not_upgrade_is_no_success(serve, bridged, answer: Any, status: int):
    def handler(request):
        if isinstance(answer, Exception):
            raise answer
        return answer

    with bridged(serve(handler)).connect() as raw:
        raw.send(handshake())
        assert raw.read_response().status == status


def test_client_that_leaves_is_told_as_1006(serve, bridged):
    told = Told()
    ws = dial(bridged(serve(told.router())))
    told.wait("open")
    ws.raw.close()
    assert told.wait("close") == ("close", 1006, "", False)


# ---- many on one connection


def test_server_says_that_it_takes_them(serve):
    with serve(Told().router()).connect() as raw:
        peer = Peer(raw)
        peer.wait(h2.events.RemoteSettingsChanged)
        assert peer.h2.remote_settings.enable_connect_protocol == 1


def test_sockets_share_a_connection_with_requests(serve):
    told = Told()
    router = told.router(on_message=lambda ws, message: ws.send(message.data))
    router.get("/page", lambda request: "a page")
    running = serve(router)
    with running.connect() as raw:
        peer = Peer(raw)
        tunnels = [opened(peer) for _ in range(30)]
        for round_ in range(3):
            for number, tunnel in enumerate(tunnels):
                tunnel.send(f"{round_} of {number}")
            assert peer.wait(h2.events.DataReceived, peer.ask("/page")).data == b"a page"
            for number, tunnel in enumerate(tunnels):
                assert tunnel.read() == f"{round_} of {number}"
        stats = running.server.stats()
        assert (stats["websockets_open"], stats["connections_open"]) == (30, 1)
        # What its last bytes have left is being written, for a moment.
        eventually(lambda: running.server.stats()["connections"]["handling"] == 1)
        assert running.server.stats()["connections"]["websocket"] == 0
        # One that is reset leaves the others alone.
        peer.reset(tunnels[0].stream)
        assert told.wait("close") == ("close", 1006, "", False)
        tunnels[1].send("still here")
        assert tunnels[1].read() == "still here"
        tunnels[2].send(frame(CLOSE, b"\x03\xe8"))
        assert tunnels[2].read_close(answer=False) == (1000, "")
        peer.wait(h2.events.StreamEnded, tunnels[2].stream)
    told.wait("close", 30)
    eventually(lambda: running.server.stats()["websockets_open"] == 0)


def test_other_protocols_are_501(serve):
    with serve(Told().router()).connect() as raw:
        peer = Peer(raw)
        stream = peer.ask("/", (":protocol", "connect-udp"), method="CONNECT", ends=False)
        assert peer.answer(stream)[0] == 501
        opened(peer)
