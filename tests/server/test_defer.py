"""``request.defer()``: the handler returns, and any thread answers later, or nobody does."""

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.server.waiting import PATIENCE_S, Log, eventually
from ushabti import Request, Response, Router
from ushabti.errors import AlreadyResponded, HTTPError, ServerStateError
from ushabti.testing import Client, UpgradeRefused

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Desk:
    """Keeps the requests that were deferred."""

    def __init__(self) -> None:
        self.kept: list[Request] = []
        self._arrived = threading.Semaphore(0)

    def __call__(self, request: Request) -> None:
        request.defer()
        self.kept.append(request)
        self._arrived.release()

    def take(self) -> Request:
        assert self._arrived.acquire(timeout=PATIENCE_S)
        return self.kept.pop(0)


def test_any_thread_answers_later_and_no_worker_is_held(serve):
    desk = Desk()
    running = serve(desk, workers=1)
    connections = [running.connect() for _ in range(5)]
    for raw in connections:
        raw.send(GET)
    requests = [desk.take() for _ in connections]
    eventually(lambda: running.server.stats()["workers_idle"] == 1)
    assert all(request.deferred and not request.responded for request in requests)
    for number, request in enumerate(requests):
        request.respond(201, {"X-Number": str(number)}, f"answer {number}")
        assert request.responded
    answers = [raw.read_response() for raw in connections]
    assert sorted((answer.status, answer.field("x-number"), answer.body) for answer in answers) == [
        (201, str(number), b"answer %d" % number) for number in range(5)
    ]


def test_connection_serves_the_next_request_after_the_answer(serve):
    desk = Desk()
    raw = serve(desk, workers=1).connect()
    raw.send(GET * 2)
    for number in range(2):
        desk.take().respond(body=str(number))
        assert raw.read_response().body == str(number).encode()


def test_streamed_body_may_be_given(serve):
    desk = Desk()
    raw = serve(desk, workers=1).connect()
    raw.send(GET)
    go_on = threading.Event()

    def pieces() -> Iterator[str]:
        yield "one "
        assert go_on.wait(PATIENCE_S)
        yield "two"

    request = desk.take()
    thread = threading.Thread(target=request.respond, kwargs={"body": pieces()})
    thread.start()
    go_on.set()
    assert raw.read_response().body == b"one two"
    thread.join()


def test_value_that_is_returned_all_the_same_is_the_answer(serve):
    def handler(request: Request) -> str:
        request.defer()
        return "returned"

    assert serve(handler).get("/").body == b"returned"


def test_exception_is_answered_as_any(serve, log: Log):
    def handler(request: Request) -> object:
        request.defer()
        raise HTTPError(418, "after all") if request.target == "/http" else ValueError("odd")

    running = serve(handler)
    assert running.get("/http").body == b"418 I'm a Teapot: after all\n"
    assert running.get("/").status == 500
    assert "ValueError: odd" in log.text()


def test_answered_request_cannot_be_deferred(serve):
    raised: list[type] = []

    def handler(request: Request) -> None:
        request.respond(body="first")
        with pytest.raises(AlreadyResponded) as caught:
            request.defer()
        raised.append(caught.type)

    assert serve(handler).get("/").body == b"first"
    eventually(lambda: raised == [AlreadyResponded])


def test_one_of_many_threads_answers(serve, effort: int):
    desk = Desk()
    running = serve(desk)
    raw = running.connect()
    for _ in range(20 * effort):
        raw.send(GET)
        request = desk.take()
        outcomes: list[str] = []
        barrier = threading.Barrier(6)

        def answer(number: int, request: Request, barrier: threading.Barrier, outcomes: list[str]) -> None:
            barrier.wait()
            try:
                request.respond(body=str(number))
                outcomes.append(str(number))
            except AlreadyResponded:
                outcomes.append("too late")

        threads = [threading.Thread(target=answer, args=(n, request, barrier, outcomes)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        body = raw.read_response().body.decode()
        assert sorted(outcomes) == sorted([body] + ["too late"] * 5)


def test_answer_that_cannot_be_sent_keeps_nobody_from_giving_another(serve, log: Log):
    problems: list[BaseException | None] = []

    def handler(request: Request) -> Response:
        def answer() -> None:
            try:
                request.respond(body=b"another")
                problems.append(None)
            except AlreadyResponded as problem:
                problems.append(problem)

        class Unsendable(Response):
            @property
            def body(self) -> bytes:
                thread = threading.Thread(target=answer)
                thread.start()
                thread.join()
                raise ValueError("there is no body")

            @body.setter
            def body(self, value: Any) -> None:
                self._body = value

        request.defer()
        return Unsendable(b"")

    assert serve(handler).get("/").body == b"another"
    log.wait("failed")
    assert problems == [None]
    assert "ValueError: there is no body" in log.text()


def test_answer_may_come_before_the_handler_has_returned(serve, effort: int):
    """Whichever comes first, the thread's answer is sent, and the handler's ``None`` is no failure."""

    def handler(request: Request) -> None:
        request.defer()
        thread = threading.Thread(target=request.respond, kwargs={"body": "threaded"})
        thread.start()
        threads.append(thread)

    threads: list[threading.Thread] = []
    running = serve(handler, workers=2)
    raw = running.connect()
    for _ in range(50 * effort):
        raw.send(GET)
        assert raw.read_response().body == b"threaded"
    for thread in threads:
        thread.join()


# ---- nobody answers


def forgetful(request: Request) -> None:
    request.defer()


def is_collected() -> bool:
    """Runs the garbage collector, which is also what a drop by another thread waits for where there is no GIL: or for
    the worker that has made the object, which sleeps.
    """
    gc.collect()
    return True


def plain(router: Router) -> Router:
    router.get("/")(forgetful)
    return router


def in_middleware(router: Router) -> Router:
    router.get("/")(forgetful)
    router.middleware(lambda request, call_next: call_next(request))
    return router


def mounted(router: Router) -> Router:
    inner = Router()
    inner.get("/")(forgetful)
    inner.error(KeyError)(lambda request, problem: "key")
    router.mount("", inner)
    return router


@pytest.mark.parametrize("build", [plain, in_middleware, mounted])
def test_request_that_is_dropped_is_answered_500_and_the_log_names_the_handler(
    serve, log: Log, build: Callable[[Router], Router]
):
    running = serve(build(Router()))
    raw = running.connect()
    raw.send(GET * 2)
    assert [raw.read_response().status for _ in range(2)] == [500, 500]
    line = log.wait("deferred its answer").getMessage()
    assert "GET /: " in line and "test_defer.forgetful" in line and "answered 500" in line
    eventually(lambda: running.server.stats()["answers"]["5xx"] == 2)


def test_request_in_a_cycle_is_answered_when_the_collector_finds_it(serve, log: Log):
    gone = threading.Event()

    def handler(request: Request) -> None:
        request.state["self"] = request
        request.defer()
        gone.set()

    running = serve(handler)
    with running.connect() as raw:
        raw.send(GET)
        assert gone.wait(PATIENCE_S)

        eventually(lambda: is_collected() and log.count("deferred its answer") == 1)
        assert raw.read_response().status == 500


def test_request_is_dropped_in_the_midst_of_an_exception_which_stays(serve, log: Log):
    def handler(request: Request) -> None:
        request.defer()
        kept.append(request)

    kept: list[Request] = []
    running = serve(handler)
    raw = running.connect()
    raw.send(GET)
    eventually(lambda: bool(kept))

    def lose(request: Request) -> None:
        raise KeyError("the shelf fell down")

    eventually(lambda: bool(running.server.stats()["workers_idle"]))
    with pytest.raises(KeyError, match="the shelf fell down"):
        lose(kept.pop())
    eventually(lambda: is_collected() and log.count("deferred its answer") == 1)
    assert raw.read_response().status == 500


def test_nobody_is_told_of_what_a_client_that_has_left_is_not_answered(serve, log: Log):
    desk = Desk()
    running = serve(desk)
    raw = running.connect()
    raw.send(GET)
    kept = [desk.take()]
    raw.reset()
    eventually(lambda: kept[0].disconnected)
    kept.clear()
    eventually(lambda: is_collected() and running.server.stats()["answers"]["discarded"] == 1)
    assert log.count("deferred its answer") == 0


# ---- what stands around handlers


def test_middleware_and_error_handlers_let_it_through(serve):
    desk = Desk()
    seen: list[object] = []
    router, inner = Router(), Router()

    @router.middleware
    def outer(request: Request, call_next: Callable[[Request], Any]) -> object:
        seen.append(call_next(request))
        return None

    inner.get("/")(desk)
    inner.error(KeyError)(lambda request, problem: "key")
    router.mount("", inner)
    running = serve(router)
    raw = running.connect()
    raw.send(GET)
    desk.take().respond(body="later")
    assert raw.read_response().body == b"later" and seen == [None]


def test_middleware_may_defer(serve):
    desk = Desk()
    router = Router()
    router.get("/")(lambda request: "never called")
    router.middleware(lambda request, call_next: desk(request))
    raw = serve(router).connect()
    raw.send(GET)
    desk.take().respond(body="by middleware")
    assert raw.read_response().body == b"by middleware"


@pytest.mark.parametrize("is_mounted", [False, True])
def test_error_handlers_may_defer(serve, is_mounted: bool):
    desk = Desk()
    router = Router()

    def handler(request: Request) -> object:
        raise KeyError("x")

    router.get("/")(handler)
    router.error(KeyError)(lambda request, problem: desk(request))
    router.error(404)(lambda request, problem: desk(request))
    router.error(405)(lambda request, problem: desk(request))
    app = router
    if is_mounted:
        app = Router()
        app.mount("", router)
    running = serve(app)
    for request_line in (b"GET / ", b"GET /missing ", b"PUT / "):
        raw = running.connect()
        raw.send(request_line + b"HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        desk.take().respond(503, body="by an error handler")
        answer = raw.read_response()
        assert (answer.status, answer.body) == (503, b"by an error handler")


def test_deferred_request_becomes_no_websocket(serve, log: Log):
    router = Router()
    raised: list[BaseException] = []

    @router.get("/")
    def handler(request: Request) -> None:
        request.defer()
        try:
            request.upgrade(lambda socket, event, message: None)
        except ServerStateError as problem:
            raised.append(problem)
        request.respond(403)

    with Client(serve(router).url) as client, pytest.raises(UpgradeRefused) as refused:
        client.websocket("/")
    assert refused.value.answer.status == 403 and len(raised) == 1


# ---- the end of the server


def test_stop_waits_for_what_was_deferred(serve):
    desk = Desk()
    running = serve(desk)
    raw = running.connect()
    raw.send(GET)
    request = desk.take()
    outcome: list[bool] = []
    stopper = threading.Thread(target=lambda: outcome.append(running.server.stop(PATIENCE_S)))
    stopper.start()
    assert running.server.stopping.wait(PATIENCE_S)
    assert outcome == []
    request.respond(body="in time")
    answer = raw.read_response()
    assert (answer.body, answer.field("connection")) == (b"in time", "close")
    stopper.join()
    assert outcome == [True]


def test_stop_waits_no_longer_than_it_is_told(serve, log: Log):
    desk = Desk()
    running = serve(desk)
    raw = running.connect()
    raw.send(GET)
    request = desk.take()
    assert running.server.stop(0.1) is False
    assert log.count("1 connections cut") == 1
    # Nobody reads it, and nobody is to blame.
    request.respond(body="too late")
    assert raw.read_all() == b""
    assert request.responded
