"""Deadlines, and handlers whose client has left."""

import json
import threading
import time

import pytest

from tests.server.waiting import Gate, Log, eventually
from ushabti import DeadlineExceeded, Disconnected, Router

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"


# ---- deadlines


def test_a_late_handler_is_answered_for_and_its_answer_thrown_away(serve, gate: Gate, log: Log) -> None:
    router = Router()
    router.get("/hold", gate, deadline=0.1)
    router.get("/hello", lambda request: "hello")
    running = serve(router, access_log="text")
    raw = running.connect()
    raw.send(GET % b"/hold")
    answer = raw.read_response()
    assert answer.status == 504
    log.wait("GET /hold: the answer was not ready in time; answered 504")
    log.wait("waiting.Gate")
    # The connection goes on while the handler does, and the late answer goes nowhere.
    raw.send(GET % b"/hello")
    assert raw.read_response().body == b"hello"
    gate.open.set()
    raw.send(GET % b"/hello")
    assert raw.read_response().body == b"hello"
    assert running.server.stats()["refusals"]["deadline"] == 1
    eventually(lambda: log.count('"GET /hold HTTP/1.1" 504') == 1)
    assert log.count('"GET /hold HTTP/1.1" 200') == 0


def test_the_deadline_of_the_server_holds_where_a_route_has_none(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate)
    router.get("/own", gate, deadline="off")
    router.get("/read", lambda request: {"remaining": request.remaining(), "deadline": request.deadline})
    running = serve(router, deadline=0.2)
    own = running.connect()
    own.send(GET % b"/own")
    assert running.get("/hold").status == 504
    assert 0 < json.loads(running.get("/read").body)["remaining"] <= 0.2
    gate.open.set()
    assert own.read_response().status == 200


def test_a_request_that_passes_its_deadline_in_the_queue_is_never_run(serve, gate: Gate) -> None:
    calls: list[object] = []
    router = Router()
    router.get("/hold", gate)

    @router.get("/short", deadline=0.1)
    def short(request):
        calls.append(request)
        return "ran"

    running = serve(router, workers=1)
    held = running.connect()
    held.send(GET % b"/hold")
    gate.wait(1)
    assert running.get("/short").status == 504
    gate.open.set()
    assert held.read_response().status == 200
    assert running.get("/short").body == b"ran"
    assert len(calls) == 1


def test_handlers_see_what_is_left(serve) -> None:
    seen = {}
    router = Router()

    @router.get("/", deadline=30)
    def handler(request):
        request.check()
        seen["now"], seen["at"], seen["left"] = time.monotonic(), request.deadline, request.remaining()
        seen["queued"] = request.queue_time
        return ""

    @router.get("/none")
    def none(request):
        request.check()
        return {"left": request.remaining(), "at": request.deadline}

    running = serve(router)
    running.get("/")
    assert 0 < seen["left"] <= 30
    assert abs(seen["at"] - seen["now"] - seen["left"]) < 1
    assert 0 <= seen["queued"] < 30
    assert json.loads(running.get("/none").body) == {"left": None, "at": None}


def test_check_raises_when_the_deadline_has_passed(serve, log: Log) -> None:
    caught: list[BaseException] = []
    router = Router()

    @router.get("/", deadline=0.05)
    def handler(request):
        try:
            while True:
                request.check()
                time.sleep(0.005)
        except DeadlineExceeded as problem:
            caught.append(problem)
            caught.append(TimeoutError(request.remaining()))
            raise

    running = serve(router)
    assert running.get("/").status == 504
    eventually(lambda: len(caught) == 2)
    assert isinstance(caught[0], TimeoutError) and caught[1].args == (0.0,)
    log.wait("GET /: the deadline of the request has passed")


def test_an_answer_that_has_begun_is_not_cut_by_the_deadline(serve, gate: Gate) -> None:
    router = Router()

    @router.get("/", deadline=0.1)
    def handler(request):
        def pieces():
            yield "begun,"
            assert gate.open.wait(10)
            yield "ended"

        return pieces()

    running = serve(router)
    raw = running.connect()
    raw.send(GET % b"/")
    raw.read_response(to_head=True)
    # Another request passes its own deadline after the first.
    gate_of_others = running.connect()
    gate_of_others.send(GET % b"/")
    gate_of_others.read_response(to_head=True)
    time.sleep(0.3)
    gate.open.set()
    body = b""
    while b"ended" not in body:
        some = raw.read_some()
        assert some, body
        body += some
    assert running.server.stats()["refusals"]["deadline"] == 0


def test_many_late_handlers_and_quick_ones_keep_their_answers_apart(serve, effort: int) -> None:
    """The hand-over of the right to answer: each answer belongs to what was asked on its connection."""
    router = Router()

    @router.get("/{number:int}", deadline=0.02)
    def handler(request, number):
        time.sleep(0.001 * (number % 40))
        return str(number)

    running = serve(router, workers="8-32")
    wrong: list[object] = []
    statuses: set[int] = set()

    def ask(first: int) -> None:
        with running.connect() as raw:
            for number in range(first, first + 40 * effort):
                raw.send(GET % f"/{number}".encode())
                answer = raw.read_response()
                statuses.add(answer.status)
                if answer.status == 200 and answer.body != str(number).encode():
                    wrong.append((number, answer))

    threads = [threading.Thread(target=ask, args=(at * 7,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert statuses <= {200, 504}


# ---- clients that leave


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_handler_learns_that_its_client_has_left(serve, leave: str) -> None:
    entered, told, checked = threading.Event(), threading.Event(), threading.Event()
    names: list[str] = []
    router = Router()

    @router.get("/")
    def handler(request):
        request.on_disconnect(lambda: names.append(threading.current_thread().name))
        request.on_disconnect(told.set)
        entered.set()
        assert told.wait(10)
        assert request.disconnected
        try:
            request.check()
        except Disconnected:
            checked.set()
            raise

    running = serve(router)
    raw = running.connect()
    raw.send(GET % b"/")
    assert entered.wait(10)
    getattr(raw, leave)()
    assert checked.wait(10)
    assert names == ["ushabti-alerts"]


def test_who_asks_late_is_told_at_once(serve) -> None:
    left, told = threading.Event(), threading.Event()
    router = Router()

    @router.get("/")
    def handler(request):
        eventually(lambda: request.disconnected)
        left.set()
        request.on_disconnect(told.set)
        assert told.wait(10)
        return ""

    running = serve(router)
    raw = running.connect()
    raw.send(GET % b"/")
    raw.close()
    assert left.wait(10) and told.wait(10)


def test_nothing_is_called_after_the_answer(serve, log: Log) -> None:
    calls: list[int] = []
    router = Router()

    @router.get("/")
    def handler(request):
        request.on_disconnect(lambda: calls.append(1))
        return ""

    @router.get("/late")
    def late(request):
        request.respond(200)
        request.on_disconnect(lambda: calls.append(2))

    running = serve(router)
    for path in (b"/", b"/late") * 5:
        raw = running.connect()
        raw.send(GET % path)
        assert raw.read_response().status == 200
        raw.close()
    eventually(lambda: running.server.stats()["connections_open"] == 0)
    # The same thread tells a client that is told: what was to come before has come.
    test_a_handler_learns_that_its_client_has_left(serve, "close")
    assert calls == []


def test_what_a_callback_raises_is_logged_and_the_others_are_called(serve, log: Log) -> None:
    entered, told = threading.Event(), threading.Event()
    router = Router()

    def fail() -> None:
        raise ZeroDivisionError

    @router.get("/")
    def handler(request):
        request.on_disconnect(fail)
        request.on_disconnect(told.set)
        entered.set()
        assert told.wait(10)
        return ""

    running = serve(router)
    raw = running.connect()
    raw.send(GET % b"/")
    assert entered.wait(10)
    raw.close()
    assert told.wait(10)
    assert "ZeroDivisionError" in log.text()
    with pytest.raises(TypeError, match="takes a function"):
        _ask_for(running, serve)


def _ask_for(running, serve) -> None:
    caught: list[TypeError] = []
    router = Router()

    @router.get("/")
    def handler(request):
        try:
            request.on_disconnect(5)
        except TypeError as problem:
            caught.append(problem)
        return ""

    serve(router).get("/")
    raise caught[0]


def test_a_stream_that_has_begun_in_time_is_not_checked_for_the_deadline(serve) -> None:
    router = Router()

    @router.get("/", deadline=0.05)
    def handler(request):
        def pieces():
            yield "begun,"
            while request.remaining():
                time.sleep(0.01)
            request.check()
            yield "ended"

        return pieces()

    assert serve(router).get("/").body == b"begun,ended"


def test_what_is_registered_is_called_at_a_504(serve) -> None:
    told, late = threading.Event(), threading.Event()
    router = Router()

    @router.get("/", deadline=0.1)
    def handler(request):
        request.on_disconnect(told.set)
        assert told.wait(10)
        request.on_disconnect(late.set)  # Too late for the client, and not for this.
        assert late.wait(10)
        return ""

    running = serve(router)
    with running.connect() as raw:
        raw.send(GET % b"/")
        assert raw.read_response().status == 504
        assert told.wait(10) and late.wait(10)


def test_an_idle_connection_does_not_rest_for_a_long_deadline(serve) -> None:
    router = Router()
    router.get("/", lambda request: "", deadline="1 h")
    running = serve(router, keep_alive=0.2)
    raw = running.connect()
    raw.send(GET % b"/")
    assert raw.read_response().status == 200
    assert raw.read_all() == b""


def test_a_connection_that_ends_after_a_504_does_not_wait_for_the_handler(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate, deadline=0.1)
    running = serve(router, keep_alive=0.2)
    raw = running.connect()
    raw.send(GET % b"/hold")
    assert raw.read_response().status == 504
    assert raw.read_all() == b""  # At the end of the keep-alive time, while the handler goes on.
    assert not gate.open.is_set()


def test_descriptors_that_late_handlers_hold_are_counted(serve, gate: Gate) -> None:
    router = Router()
    # Long enough for each of them to be begun: what is given up before holds nothing.
    router.get("/hold", gate, deadline=1)
    router.get("/", lambda request: "")
    running = serve(router, workers=5, max_connections=5, keep_alive=0.2)
    held = [running.connect() for _ in range(5)]
    for raw in held:
        raw.send(GET % b"/hold")
    gate.wait(5)
    for raw in held:
        assert raw.read_response().status == 504
        raw.close()
    eventually(lambda: running.server.stats()["connections_open"] == 0)
    assert running.get("/").status == 503
    gate.open.set()
    eventually(lambda: running.get("/").status == 200)


def test_a_callback_may_not_stop_the_server_it_would_wait_for(serve, log: Log) -> None:
    entered, told = threading.Event(), threading.Event()
    router = Router()

    @router.get("/")
    def handler(request):
        request.on_disconnect(lambda: running.server.stop())
        request.on_disconnect(told.set)
        entered.set()
        assert told.wait(10)
        return ""

    running = serve(router)
    raw = running.connect()
    raw.send(GET % b"/")
    assert entered.wait(10)
    raw.close()
    assert told.wait(10)
    assert "would wait for that to end" in log.text()
    assert running.stop()


def test_a_callback_that_exits_does_not_end_the_thread(serve, log: Log) -> None:
    for _ in range(2):
        entered, told = threading.Event(), threading.Event()
        router = Router()

        @router.get("/")
        def handler(request, entered=entered, told=told):
            request.on_disconnect(exit)
            request.on_disconnect(told.set)
            entered.set()
            assert told.wait(10)
            return ""

        running = serve(router)
        raw = running.connect()
        raw.send(GET % b"/")
        assert entered.wait(10)
        raw.close()
        assert told.wait(10)
    assert "SystemExit" in log.text()


def test_a_client_that_leaves_while_the_server_stops_is_noticed(serve) -> None:
    entered, told = threading.Event(), threading.Event()
    router = Router()

    @router.get("/")
    def handler(request):
        request.on_disconnect(told.set)
        entered.set()
        assert told.wait(10)
        return ""

    running = serve(router)
    raw = running.connect()
    raw.send(GET % b"/")
    assert entered.wait(10)
    stopping = threading.Thread(target=running.server.stop)
    stopping.start()
    assert running.server.stopping.wait(10)
    raw.reset()
    assert told.wait(10)
    stopping.join()
