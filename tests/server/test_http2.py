"""HTTP/2 by prior knowledge: the same requests, answers and ends as with HTTP/1.1, several at once."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import h2.errors
import h2.events
import httpx
import pytest

from tests.server.http2_peer import Peer
from tests.server.waiting import Gate, Log, eventually
from tests.support import Running
from ushabti import Disconnected
from ushabti.responses import Response
from ushabti.routing import Router

Opened = Callable[[Running], httpx.Client]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Makes clients that speak nothing but HTTP/2."""
    clients: list[httpx.Client] = []

    def make(running: Running) -> httpx.Client:
        client = httpx.Client(base_url=running.url, http1=False, http2=True, trust_env=False, timeout=10)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def test_handler_sees_a_request_as_ever(serve, opened: Opened):
    seen: dict[str, object] = {}

    def handler(request):
        seen.update(
            version=request.http_version,
            method=request.method,
            path=request.path,
            query=dict(request.query.items()),
            host=request.host,
            scheme=request.scheme,
            client=request.client,
            fields=request.headers.all("x-many"),
            body=request.body,
        )
        return {"cookies": request.cookies}

    running = serve(handler)
    answer = opened(running).put(
        "/a%20b?c=d",
        content=b"body",
        headers=[("X-Many", "1"), ("X-Many", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")],
    )
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
    assert answer.json() == {"cookies": {"a": "1", "b": "2"}}
    assert seen == {
        "version": "2",
        "method": "PUT",
        "path": "/a b",
        "query": {"c": "d"},
        "host": f"127.0.0.1:{running.port}",
        "scheme": "http",
        "client": "127.0.0.1",
        "fields": ["1", "2"],
        "body": b"body",
    }


def test_crumbs_of_cookies_are_put_together(serve):
    with serve(lambda request: request.headers["cookie"]).connect() as raw:
        peer = Peer(raw)
        stream = peer.ask("/", ("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"))
        assert peer.body(stream) == b"a=1; b=2"


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/thing", 200, None),
        ("HEAD", "/thing", 200, None),
        ("GET", "/none", 404, None),
        ("DELETE", "/thing", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/thing", 204, "GET, HEAD, OPTIONS"),
        ("GET", "/%zz", 400, None),
    ],
)
def test_routes_and_refusals_are_those_of_http1(
    serve, opened: Opened, method: str, path: str, status: int, allow: str | None
):
    router = Router()
    router.get("/thing", lambda request: "thing")
    running = serve(router)
    answer = opened(running).request(method, path)
    raw = running.ask(
        f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode(), to_head=method == "HEAD"
    )
    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    assert (raw.status, raw.field("allow"), raw.body) == (status, allow, answer.content)


@pytest.mark.parametrize(
    ("value", "status", "body"),
    [
        pytest.param("grüß", 200, "grüß".encode(), id="text"),
        pytest.param({"a": 1}, 200, b'{"a":1}', id="json"),
        pytest.param((b"made", 201), 201, b"made", id="status"),
        pytest.param(Response(status=204), 204, b"", id="no content"),
        pytest.param(Response(status=304), 304, b"", id="not modified"),
        pytest.param(b"x" * 3_000_000, 200, b"x" * 3_000_000, id="beyond the windows"),
    ],
)
def test_answers_are_those_of_http1(serve, opened: Opened, value: object, status: int, body: bytes):
    answer = opened(serve(lambda request: value)).get("/")
    assert (answer.status_code, answer.content) == (status, body)


def test_fields_of_the_connection_are_left_out_and_others_kept(serve):
    fields = [("Connection", "close"), ("Keep-Alive", "timeout=5"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    with serve(lambda request: ("ok", 200, fields)).connect() as raw:
        peer = Peer(raw)
        for _ in range(2):
            event = peer.wait(h2.events.ResponseReceived, peer.ask("/"))
            names = [name for name, _ in event.headers]
            assert names == [":status", *sorted(names[1:], key=names.index)] and names.count("set-cookie") == 2
            assert not {"connection", "keep-alive", "transfer-encoding"} & set(names)


@pytest.mark.parametrize("name", ["Transfer-Encoding", "Upgrade", "Trailer"])
def test_fields_that_frame_are_refused(serve, opened: Opened, log: Log, name: str):
    answer = opened(serve(lambda request: ("ok", 200, {name: "x"}))).get("/")
    assert answer.status_code == 500
    log.wait("GET / failed")
    assert f'header "{name}" is set by the server alone' in log.text()


def test_stream_is_sent_as_it_is_made(serve, opened: Opened):
    go_on = threading.Event()

    def handler(request):
        yield "one"
        assert go_on.wait(10)
        yield "two"

    with opened(serve(handler)).stream("GET", "/") as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"one"
        go_on.set()
        assert b"".join(pieces) == b"two"


@pytest.mark.parametrize("length", [None, "9"])
def test_stream_that_is_not_whole_is_reset(serve, log: Log, length: str | None):
    def handler(request):
        def pieces():
            yield "abc"
            raise ValueError("spoilt")

        return Response.stream(pieces(), headers={"Content-Length": length} if length else {})

    router = Router()
    router.get("/", handler)
    router.get("/quick", lambda request: "quick")
    with serve(router).connect() as raw:
        peer = Peer(raw)
        stream = peer.ask("/")
        reset = peer.wait(h2.events.StreamReset, stream)
        assert reset.error_code == h2.errors.ErrorCodes.INTERNAL_ERROR
        log.wait("the streamed body failed")
        assert "ValueError: spoilt" in log.text()
        assert peer.answer(peer.ask("/quick"))[0] == 200


def test_requests_of_one_connection_run_side_by_side(serve, opened: Opened, gate: Gate):
    router = Router()
    router.get("/gate", gate)
    router.get("/quick", lambda request: "quick")
    running = serve(router, workers=4)
    with running.connect() as raw:
        peer = Peer(raw)
        held = [peer.ask("/gate") for _ in range(3)]
        gate.wait(3)
        assert peer.answer(peer.ask("/quick"))[0] == 200
        assert running.server.stats()["connections_open"] == 1
        gate.open.set()
        assert [peer.answer(stream)[0] for stream in held] == [200] * 3


def test_reset_is_a_client_that_left(serve):
    began, left, told = threading.Event(), threading.Event(), []

    def handler(request):
        request.on_disconnect(left.set)
        began.set()
        assert left.wait(10)
        with pytest.raises(Disconnected):
            request.check()
        told.append((request.disconnected, request.lost))
        return "nobody reads this"

    running = serve(handler)
    with running.connect() as raw:
        peer = Peer(raw)
        stream = peer.ask("/")
        assert began.wait(10)
        peer.reset(stream)
        eventually(lambda: running.server.stats()["answers"]["discarded"] == 1)
        assert told == [(True, True)]


def test_end_of_the_connection_is_the_end_of_all_its_streams(serve):
    left = threading.Semaphore(0)
    held = threading.Semaphore(0)

    def handler(request):
        gone = threading.Event()
        request.on_disconnect(gone.set)
        held.release()
        assert gone.wait(10)
        left.release()
        return ""

    running = serve(handler, workers=4)
    with running.connect() as raw:
        peer = Peer(raw)
        for _ in range(3):
            peer.ask("/")
            assert held.acquire(timeout=10)
    for _ in range(3):
        assert left.acquire(timeout=10)


def test_deadline_is_answered_504_and_the_late_answer_thrown_away(serve, opened: Opened, gate: Gate):
    router = Router()
    router.get("/gate", gate)
    router.get("/quick", lambda request: "quick")
    client = opened(serve(router, deadline=0.2, workers=2))
    assert client.get("/gate").status_code == 504
    gate.open.set()
    assert client.get("/quick").text == "quick"


def test_answer_may_be_given_by_another_thread_or_piece_by_piece(serve, opened: Opened):
    def handler(request):
        request.defer()
        threading.Thread(target=request.respond, kwargs={"body": "later"}).start()

    assert opened(serve(handler)).get("/").text == "later"


def test_body_beyond_the_limit_is_answered_413(serve, opened: Opened):
    client = opened(serve(lambda request: request.body, max_body=1000))
    assert client.post("/", content=b"x" * 1000).content == b"x" * 1000
    assert client.post("/", content=b"x" * 1001).status_code == 413


def test_refused_request_whose_body_does_not_come_is_told_why_it_is_refused(serve, log: Log):
    with serve(Router(), body_timeout=0.3, access_log="text").connect() as raw:
        peer = Peer(raw)
        assert peer.answer(peer.ask("/none", method="POST", ends=False))[0] == 404
        log.wait('"POST /none HTTP/2" 404')
        assert "answered" not in log.text()


@pytest.mark.parametrize(("count", "length", "status"), [(1, 9000, 200), (1, 50_000, 431), (200, 10, 431)])
def test_limits_of_a_head_hold_for_trailers(serve, count: int, length: int, status: int):
    with serve(lambda request: request.body).connect() as raw:
        peer = Peer(raw)
        stream = peer.ask("/", method="POST", ends=False)
        peer.h2.send_data(stream, b"body")
        peer.h2.send_headers(stream, [(f"x-{number}", "a" * length) for number in range(count)], end_stream=True)
        peer.flush()
        assert peer.answer(stream)[0] == status


def test_large_head_is_refused_with_a_sentence_and_a_line_in_the_log(serve, log: Log):
    with serve(lambda request: "ok", access_log="text").connect() as raw:
        peer = Peer(raw)
        stream = peer.ask("/", *[(f"x-{number}", "a" * 10_000) for number in range(5)])
        assert peer.answer(stream)[0] == 431
        assert b"too large" in peer.body(stream)
        log.wait("answered 431")
        assert peer.answer(peer.ask("/"))[0] == 200


def test_large_bodies_come_whole_side_by_side(serve):
    sent = bytes(range(256)) * 16_384
    with serve(lambda request: request.body[::-1], max_body="8 MiB").connect() as raw:
        peer = Peer(raw)
        peer.wait(h2.events.RemoteSettingsChanged)
        length = ("content-length", str(len(sent)))
        left = {peer.ask("/", length, method="POST", ends=False): memoryview(sent) for _ in range(3)}
        bodies = {stream: bytearray() for stream in left}
        while any(left.values()):
            has_sent = False
            for stream, rest in left.items():
                room = min(len(rest), peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size)
                if room:
                    has_sent = True
                    left[stream] = rest[room:]
                    peer.h2.send_data(stream, rest[:room], end_stream=room == len(rest))
            peer.flush()
            if not has_sent:
                peer.wait(h2.events.WindowUpdated)
        while any(len(body) < len(sent) for body in bodies.values()):
            event = peer.wait(h2.events.DataReceived)
            bodies[event.stream_id] += event.data
            peer.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            peer.flush()
        assert all(body == sent[::-1] for body in bodies.values())


def test_over_tls_it_is_what_both_sides_prefer(serve):
    running = serve(
        lambda request: f"{request.http_version} {request.scheme} {len(request.body)}", tls_self_signed=True
    )
    for http2, version in [(True, "2"), (False, "1.1")]:
        options: dict[str, Any] = {"verify": False, "trust_env": False, "timeout": 10}
        with httpx.Client(base_url=running.url, http2=http2, **options) as client:
            answer = client.post("/", content=b"x" * 3_000_000)
            assert (answer.http_version, answer.text) == (f"HTTP/{version}", f"{version} https 3000000")


def test_access_log_names_the_version(serve, opened: Opened, log: Log):
    opened(serve(lambda request: "ok", access_log="text")).get("/here")
    log.wait('"GET /here HTTP/2" 200 2')


def test_stop_ends_connections_that_rest(serve, opened: Opened):
    running = serve(lambda request: "ok")
    client = opened(running)
    assert client.get("/").text == "ok"
    assert running.server.stop(10)
    assert running.server.stats()["connections_open"] == 0


def test_streams_beyond_the_limit_are_refused(serve, gate: Gate):
    with serve(gate, http2_streams=2, workers=4).connect() as raw:
        peer = Peer(raw)
        # Before the client's own code learns of the limit, to which it keeps.
        streams = [peer.ask("/") for _ in range(3)]
        refused = peer.wait(h2.events.StreamReset)
        assert (refused.stream_id, refused.error_code) == (streams[2], h2.errors.ErrorCodes.REFUSED_STREAM)
        gate.wait(2)
        gate.open.set()
        assert [peer.answer(stream)[0] for stream in streams[:2]] == [200, 200]


def test_where_it_is_switched_off_its_preface_is_refused(serve):
    answer = serve(lambda request: "ok", http2=False).exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 505 ")


def test_route_of_a_websocket_is_refused(serve, opened: Opened):
    router = Router()
    router.websocket("/ws", lambda ws, event, message: None)
    answer = opened(serve(router)).get("/ws")
    assert (answer.status_code, "upgrade" in answer.headers) == (426, False)
