"""``request.gather()``: calls side by side on the pool, what ends them early, and that they always end."""

import contextlib
import contextvars
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.waiting import PATIENCE_S, Log, eventually
from ushabti import Request, Router, current
from ushabti.errors import Disconnected, HTTPError
from ushabti.gathering import Call, Gather
from ushabti.testing import Client

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Meeting:
    """Calls that end when so many are inside at once, so that it shows whether they run side by side."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.threads: set[str] = set()

    def __call__(self, value: int) -> int:
        self.threads.add(threading.current_thread().name)
        self.barrier.wait(PATIENCE_S)
        return value


def fail(problem: BaseException) -> object:
    raise problem


# ---- what comes of calls


def test_calls_return_their_results_in_the_order_that_is_asked_for(serve):
    def handler(request: Request) -> object:
        with request.gather() as calls:
            name = calls.call("{} {last}".format, "Seti", last="I")
            numbers = calls.map(lambda number: number * number, range(20))
            assert calls.map(str, []) == []
        assert name.done and name.exception() is None
        return {"name": name.result(), "numbers": numbers}

    answer = serve(handler).get("/")
    assert json.loads(answer.body) == {"name": "Seti I", "numbers": [number * number for number in range(20)]}


def test_pool_grows_until_all_calls_run_side_by_side(serve):
    meeting = Meeting(8)

    def handler(request: Request) -> object:
        with request.gather() as calls:
            return calls.map(meeting, range(8))

    running = serve(handler, workers=(1, 16))
    assert running.get("/").body == b"[0,1,2,3,4,5,6,7]"
    assert len(meeting.threads) == 8 and all(name.startswith("ushabti-worker-") for name in meeting.threads)


def test_call_begins_while_the_block_goes_on(serve):
    def handler(request: Request) -> str:
        begun = threading.Event()
        with request.gather() as calls:
            call = calls.call(begun.set)
            assert begun.wait(PATIENCE_S)
            eventually(lambda: call.done)
        return "begun by a worker"

    assert serve(handler, workers=2).get("/").body == b"begun by a worker"


@pytest.mark.parametrize("limit", [1, 3])
def test_limit_bounds_how_many_run_at_once(serve, limit: int):
    lock = threading.Lock()
    now = most = 0

    def call(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        # A turn of the others, which would come if they were there.
        threading.Event().wait(0.002)
        with lock:
            now -= 1
        return number

    def handler(request: Request) -> object:
        with request.gather(limit) as calls:
            calls.map(call, range(12))
            for number in range(12):
                calls.call(call, number)
        return "ok"

    assert serve(handler, workers=8).get("/").status == 200
    assert most <= limit


def test_limit_is_reached(serve):
    meeting = Meeting(3)

    def handler(request: Request) -> object:
        with request.gather(limit=3) as calls:
            return calls.map(meeting, range(6))

    assert serve(handler, workers=8).get("/").body == b"[0,1,2,3,4,5]"


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_of_none_at_a_time_is_refused(serve, log: Log, limit: int):
    assert serve(lambda request: request.gather(limit)).get("/").status == 500
    assert f"ValueError: gather(limit={limit})" in log.text()


def test_calls_see_the_context_of_where_they_were_made_and_the_request(serve):
    def look() -> tuple[str, Request | None]:
        found = variable.get()
        variable.set("of the call")
        return found, current()

    def handler(request: Request) -> object:
        with request.gather() as calls:
            made = []
            for value in ("one", "two"):
                variable.set(value)
                made.append(calls.call(look))
            variable.set("three")
        assert [call.result() for call in made] == [("one", request), ("two", request)]
        assert variable.get() == "three" and current() is request
        return "ok"

    for workers in (1, 4):
        assert serve(handler, workers=workers).get("/").body == b"ok"


def test_block_is_entered_once_and_calls_are_made_within_it(serve):
    def handler(request: Request) -> object:
        calls = request.gather()
        with pytest.raises(RuntimeError, match="within the block"):
            calls.call(str)
        with calls, pytest.raises(RuntimeError, match="entered once"):
            calls.__enter__()
        with pytest.raises(RuntimeError, match="within the block"):
            calls.call(str)
        return "ok"

    assert serve(handler).get("/").body == b"ok"


def test_calls_may_add_calls_and_ask_for_each_other(serve):
    def handler(request: Request) -> object:
        with request.gather() as calls:
            first = calls.call(lambda: 1)
            second = calls.call(lambda: first.result() + 1)
            third = calls.call(lambda: calls.call(second.result).result() + 1)
        return str(third.result())

    for workers in (1, 2, 4):
        running = serve(handler, workers=workers)
        assert [running.get("/").body for _ in range(20)] == [b"3"] * 20


def test_threads_of_ones_own_may_gather_and_ask(serve):
    def handler(request: Request) -> None:
        def work() -> None:
            meeting = Meeting(2)
            with request.gather() as calls:
                results = calls.map(meeting, range(2))
                call = calls.call(current)
            asked = [call.result() is request]
            request.respond(body=f"{results} {asked} {len(meeting.threads)}")

        request.defer()
        threading.Thread(target=work).start()

    assert serve(handler, workers=1).get("/").body == b"[0, 1] [True] 2"


def test_thread_that_is_joined_within_the_block_gets_its_result(serve):
    def handler(request: Request) -> object:
        results: list[int] = []
        with request.gather(limit=1) as calls:
            call = calls.call(lambda: 7)
            thread = threading.Thread(target=lambda: results.append(call.result()))
            thread.start()
            thread.join()
        return str(results)

    assert serve(handler, workers=1).get("/").body == b"[7]"


def test_handlers_of_websockets_may_gather(serve):
    router = Router()

    @router.websocket("/")
    class Sums:
        def on_message(self, ws: Any, message: Any) -> None:
            with ws.request.gather() as calls:
                ws.send(str(calls.map(lambda number: number + 1, message.json())))

    with Client(serve(router).url) as client, client.websocket("/") as socket:
        socket.send("[1, 2, 3]")
        assert socket.receive() == "[2, 3, 4]"


# ---- what ends a block early


def test_first_exception_is_raised_with_notes_of_the_others_and_the_rest_is_dropped(serve):
    meeting = threading.Barrier(2)
    begun: list[int] = []

    def failing(problem: Exception) -> object:
        meeting.wait(PATIENCE_S)
        raise problem

    def handler(request: Request) -> object:
        made: list[Call[Any]] = []
        raised: BaseException | None = None
        try:
            with request.gather(limit=2) as calls:
                made += [calls.call(failing, problem) for problem in (KeyError("a"), ValueError("b"))]
                made += [calls.call(begun.append, number) for number in range(5)]
        except (KeyError, ValueError) as problem:
            raised = problem
        assert raised is not None
        problems = [call.exception() for call in made]
        first, second = problems[:2]
        other = second if raised is first else first
        assert raised in (first, second) and {type(first), type(second)} == {KeyError, ValueError}
        assert [note for note in raised.__notes__ if repr(other) in note and "failing" in note] == raised.__notes__
        assert problems[2:] == [raised] * 5 and all(call.done for call in made) and begun == []
        with pytest.raises(type(raised)):
            made[-1].result()
        return "ok"

    assert serve(handler, workers=2).get("/").body == b"ok"


def test_call_that_raises_an_http_error_is_the_answer(serve):
    def handler(request: Request) -> object:
        with request.gather() as calls:
            shop = calls.call(fail, HTTPError(404, "no such shop"))
            return {"shop": shop.result()}

    answer = serve(handler).get("/")
    assert (answer.status, answer.body) == (404, b"404 Not Found: no such shop\n")


def test_calls_made_after_a_failure_are_never_begun(serve):
    def handler(request: Request) -> object:
        problem = KeyError("x")
        with contextlib.suppress(KeyError), request.gather() as calls:
            assert calls.call(fail, problem).exception() is problem
            late = calls.call(str)
            assert late.done and late.exception() is problem
            return "the block has not raised"
        return "ok"

    for workers in (1, 3):
        assert serve(handler, workers=workers).get("/").body == b"ok"


def test_exception_of_the_block_wins_and_those_of_calls_are_logged(serve, log: Log):
    def handler(request: Request) -> object:
        with request.gather() as calls:
            assert calls.call(fail, OSError("the granary is closed")).exception() is not None
            raise HTTPError(409, "mine")

    assert serve(handler, workers=2).get("/").body == b"409 Conflict: mine\n"
    assert "OSError: the granary is closed" in log.text()


def test_exception_that_the_block_has_seen_is_not_logged_again(serve, log: Log):
    def handler(request: Request) -> None:
        with request.gather() as calls:
            try:
                calls.call(fail, KeyError("x")).result()
            except KeyError as problem:
                raise HTTPError(404) from problem

    assert serve(handler, workers=2).get("/").status == 404
    assert log.count("failed") == 0


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_a_thread_ends_the_block_and_no_worker(serve, log: Log, kind: type[BaseException]):
    def handler(request: Request) -> None:
        with request.gather() as calls:
            calls.map(fail, [kind(1)])

    running = serve(handler, workers=2)
    assert [running.get("/").status for _ in range(4)] == [500] * 4
    assert running.server.stats()["workers"] == 2


def test_calls_of_a_client_that_has_left_are_never_begun(serve):
    begun: list[int] = []
    entered, raised = threading.Event(), threading.Event()
    problems: list[BaseException | None] = []

    def handler(request: Request) -> object:
        def call(number: int) -> None:
            begun.append(number)
            entered.set()
            eventually(lambda: request.disconnected)

        made: list[Call[None]] = []
        try:
            with request.gather(limit=1) as calls:
                made += [calls.call(call, number) for number in range(5)]
        except Disconnected:
            problems.extend(call.exception() for call in made)
            raised.set()
            raise
        return "nobody reads this"

    running = serve(handler, workers=2)
    raw = running.connect()
    raw.send(GET)
    assert entered.wait(PATIENCE_S)
    raw.reset()
    assert raised.wait(PATIENCE_S)
    assert begun == [0] and problems[0] is None
    assert all(isinstance(problem, Disconnected) for problem in problems[1:])


def test_calls_of_a_server_that_stops_are_all_run(serve):
    entered, open_ = threading.Event(), threading.Event()
    results: list[object] = []

    def handler(request: Request) -> object:
        entered.set()
        assert open_.wait(PATIENCE_S)
        with request.gather() as calls:
            results.extend(calls.map(lambda number: number, range(20)))
        return "all"

    running = serve(handler, workers=2)
    raw = running.connect()
    raw.send(GET)
    assert entered.wait(PATIENCE_S)
    stopper = threading.Thread(target=running.server.stop)
    stopper.start()
    assert running.server.stopping.wait(PATIENCE_S)
    open_.set()
    assert raw.read_response().body == b"all" and results == list(range(20))
    stopper.join()


def test_block_of_a_request_whose_server_has_stopped_begins_nothing(serve):
    requests: list[Request] = []
    begun: list[int] = []

    def handler(request: Request) -> str:
        requests.append(request)
        return "ok"

    running = serve(handler)
    assert running.get("/").status == 200
    running.stop()
    with pytest.raises(Disconnected), requests[0].gather() as calls:
        calls.call(begun.append, 1)
    assert begun == []


class Barren:
    """The tickets of a queue that is closed: no worker comes."""

    workers = 4

    def __init__(self) -> None:
        self.sent = 0

    def open(self, help: Callable[[], bool]) -> None:
        pass

    def send(self) -> bool:
        self.sent += 1
        return False

    def close(self) -> None:
        pass


def test_caller_runs_all_where_no_worker_comes(serve):
    def handler(request: Request) -> object:
        tickets: Any = Barren()
        with Gather(request, None, tickets) as calls:
            names = calls.map(lambda number: threading.current_thread().name, range(5))
        return {"all": set(names) == {threading.current_thread().name}, "sent": tickets.sent}

    assert json.loads(serve(handler).get("/").body) == {"all": True, "sent": 1}


def test_a_client_that_has_only_closed_its_side_gets_what_is_gathered(serve):
    entered, go_on = threading.Event(), threading.Event()

    def handler(request: Request) -> object:
        entered.set()
        assert go_on.wait(PATIENCE_S)
        assert request.disconnected and not request.lost
        with request.gather() as calls:
            word = calls.call(str.upper, "here")
        return word.result()

    running = serve(handler)
    raw = running.connect()
    raw.send(GET)
    assert entered.wait(PATIENCE_S)
    raw.finish()
    assert raw.read_response().status == 100  # It was asked whether it is there still.
    go_on.set()
    assert raw.read_response().body == b"HERE"


def test_calls_that_have_not_begun_at_the_deadline_are_never_begun(serve, log: Log):
    begun: list[int] = []

    def slow(number: int, request: Request) -> None:
        begun.append(number)
        while request.remaining():
            pass

    router = Router()

    @router.get("/", deadline=0.1)
    def handler(request: Request) -> object:
        with request.gather(limit=1) as calls:
            for number in range(5):
                calls.call(slow, number, request)
        return ""

    assert serve(router).get("/").status == 504
    log.wait("the deadline of the request has passed")
    assert begun == [0]
