"""Threads: what each worker has for itself, and every native class used by many threads at once."""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.waiting import Log, eventually
from tests.server.websocketing import dial
from ushabti import _core
from ushabti.errors import AlreadyResponded
from ushabti.routing import Router
from ushabti.workers import PerThread, current

pytestmark = pytest.mark.usefixtures("hectic")

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
THREADS = 8


def hammer(work: Callable[[int], object], threads: int = THREADS) -> None:
    """Runs ``work(number)`` in as many threads at the same moment; raises what any of them raised."""
    barrier = threading.Barrier(threads)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as problem:
            problems.append(problem)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if problems:
        raise problems[0]


# ---- what a worker has


def test_workers_are_ordinary_threads_with_names(serve):
    name = serve(lambda request: threading.current_thread().name).get("/").body.decode()
    assert name.startswith("ushabti-worker-")


def test_per_thread_makes_one_value_for_each_worker_and_closes_it_there(serve):
    made: list[tuple[int, object]] = []
    closed: list[tuple[int, object]] = []

    def make() -> object:
        value = object()
        made.append((threading.get_ident(), value))
        return value

    values = PerThread(make, lambda value: closed.append((threading.get_ident(), value)))
    meeting = threading.Barrier(3)

    def handler(request):
        meeting.wait(10)
        assert values() is values()
        return "ok"

    running = serve(handler, workers=3)
    for _ in range(3):
        connections = [running.connect() for _ in range(3)]
        for raw in connections:
            raw.send(GET)
        assert [raw.read_response().body for raw in connections] == [b"ok"] * 3
    assert len(made) == 3 and len({thread for thread, _ in made}) == 3
    assert closed == []
    running.stop()
    assert len(closed) == 3 and set(closed) == set(made)


def test_per_thread_closes_the_value_of_a_worker_that_is_no_longer_needed(serve):
    closed: list[str] = []
    value = PerThread(lambda: threading.current_thread().name, closed.append)
    stopped: list[str] = []
    meeting = threading.Barrier(4)
    router = Router()

    @router.get("/")
    def handler(request):
        meeting.wait(10)
        return value()

    router.on_thread_stop(lambda: stopped.append(threading.current_thread().name))
    running = serve(router, workers=(1, 4), thread_idle=0.2)
    connections = [running.connect() for _ in range(4)]
    for raw in connections:
        raw.send(GET)
    names = {raw.read_response().body.decode() for raw in connections}
    assert len(names) == 4
    eventually(lambda: len(stopped) == 3)
    assert sorted(closed) == sorted(stopped) and set(closed) < names


def test_per_thread_tries_again_after_a_failure(serve):
    tries: list[int] = []

    def make() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the database sleeps")
        return "value"

    value = PerThread(make)
    running = serve(lambda request: value(), workers=1)
    assert [running.get("/").status, running.get("/").body, running.get("/").body] == [500, b"value", b"value"]
    assert len(tries) == 2


def test_current_is_the_request_of_this_thread_while_it_is_handled(serve):
    meeting = threading.Barrier(4)
    seen: list[bool] = []

    def deep() -> Any:
        return current()

    def handler(request):
        meeting.wait(10)
        seen.append(deep() is request)
        beside: list[object] = []
        thread = threading.Thread(target=lambda: beside.append(current()))
        thread.start()
        thread.join()
        seen.append(beside == [None])
        return "ok"

    running = serve(handler, workers=4)
    connections = [running.connect() for _ in range(4)]
    for raw in connections:
        raw.send(GET)
    for raw in connections:
        assert raw.read_response().status == 200
    assert seen == [True] * 8
    assert current() is None


def test_current_is_the_request_while_its_answer_is_streamed(serve):
    def handler(request):
        yield str(current() is request)

    assert serve(handler).get("/").body == b"True"


def test_current_is_forgotten_between_requests(serve):
    left: list[object] = []
    stop: list[object] = []
    router = Router()
    router.get("/", lambda request: "ok")
    router.on_thread_start(lambda: left.append(current()))
    router.on_thread_stop(lambda: stop.append(current()))
    running = serve(router, workers=1)
    assert running.get("/").body == b"ok"
    running.stop()
    assert (left, stop) == ([None], [None])


def test_what_a_request_sets_in_its_context_the_next_one_of_the_worker_does_not_see(serve):
    name = contextvars.ContextVar("name", default="nobody")
    router = Router()

    @router.get("/set")
    def set_and_stream(request):
        name.set("ani")
        yield name.get()
        name.set("berta")
        yield name.get()

    router.get("/see")(lambda request: name.get())

    running = serve(router, workers=1)
    assert [running.get(path).body for path in ("/set", "/see")] == [b"aniberta", b"nobody"]


def test_context_of_a_worker_is_that_of_its_hook(serve):
    name = contextvars.ContextVar("name", default="nobody")
    router = Router.of(lambda request: name.get())
    router.on_thread_start(lambda: name.set("worker"))
    assert serve(router, workers=1).get("/").body == b"worker"


def test_what_a_websocket_sets_in_its_context_no_request_sees(serve):
    name = contextvars.ContextVar("name", default="nobody")
    router = Router()

    @router.websocket("/socket")
    def socket(ws, event, message):
        if message:
            ws.send(name.get())
            name.set(message.text)

    router.get("/see")(lambda request: name.get())
    running = serve(router, workers=1)
    with dial(running, "/socket") as client:
        for text in ("ani", "berta"):
            client.send(text)
            assert client.read() == "nobody"
        assert running.get("/see").body == b"nobody"


def test_thread_hooks_run_in_each_worker_around_its_requests(serve):
    events: dict[str, list[str]] = {}
    router = Router()

    def note(event: str) -> None:
        events.setdefault(threading.current_thread().name, []).append(event)

    router.on_thread_start(lambda: note("first start"))
    router.on_thread_start(lambda: note("second start"))
    router.on_thread_stop(lambda: note("first stop"))
    router.on_thread_stop(lambda: note("second stop"))

    @router.get("/")
    def handler(request):
        note("request")
        return "ok"

    running = serve(router, workers=2)
    for _ in range(4):
        assert running.get("/").body == b"ok"
    running.stop()
    assert len(events) == 2
    for thread, seen in events.items():
        assert thread.startswith("ushabti-worker-")
        assert seen[:2] == ["first start", "second start"] and seen[-2:] == ["second stop", "first stop"]
        assert set(seen[2:-2]) <= {"request"}
    assert sum(seen.count("request") for seen in events.values()) == 4


@pytest.mark.parametrize("problem", [ValueError("no database"), SystemExit("no database")])
def test_hook_that_fails_is_logged_and_costs_no_worker(serve, log: Log, problem: BaseException):
    router = Router()
    router.get("/", lambda request: "ok")

    @router.on_thread_start
    def failing():
        raise problem

    assert serve(router, workers=1).get("/").body == b"ok"
    log.wait("failing")
    assert f"{type(problem).__name__}: no database" in log.text()


# ---- native classes under many threads


def test_request_under_many_threads(serve):
    problems: list[BaseException] = []
    identities: set[tuple[int, ...]] = set()

    def use(request: Any, first: list[bool]) -> None:
        for _ in range(100):
            assert (request.method, request.target, request.path) == ("POST", "/a%20b?x=1&x=2", "/a b")
            assert request.query.all("x") == ["1", "2"]
            assert request.headers["x-one"] == "v" and request.cookies == {"c": "d"}
            assert request.body == b'{"k": [1, 2]}' and request.json() == {"k": [1, 2]} and request.text
            assert repr(request) and request.client and request.peer and request.host == "a"
            request.state[threading.get_ident()] = True
            assert request.disconnected in (False, True) and request.responded in (False, True)
        # What is made when it is first asked for is made once, whoever comes first.
        identities.add(tuple(id(part) for part in (request.body, request.query, request.path_params, request.state)))
        try:
            request.respond(200, None, "answered")
            first.append(True)
        except AlreadyResponded:
            pass

    answered: list[bool] = []

    def handler(request):
        try:
            hammer(lambda _: use(request, answered))
            assert len(request.state) == THREADS
        except BaseException as problem:
            problems.append(problem)
            raise

    running = serve(handler)
    body = b'{"k": [1, 2]}'
    answer = running.ask(
        b"POST /a%20b?x=1&x=2 HTTP/1.1\r\nHost: a\r\nX-One: v\r\nCookie: c=d\r\nContent-Length: 13\r\n\r\n" + body
    )
    assert (answer.status, answer.body) == (200, b"answered")
    eventually(lambda: len(answered) == 1)
    running.stop()
    assert problems == [] and answered == [True]
    assert len(identities) == 1


@pytest.mark.parametrize("which", ["query", "headers"])
def test_multi_dict_under_many_threads(serve, which: str):
    found: list[Any] = []

    def handler(request):
        found.append(getattr(request, which))
        return "ok"

    running = serve(handler)
    running.ask(b"GET /?a=1&b=2&a=3 HTTP/1.1\r\nHost: a\r\nA: 1\r\nb: 2\r\na: 3\r\n\r\n")
    (multi,) = found
    names = [name for name in multi if name.lower() != "host"]

    def use(_: int) -> None:
        for _ in range(300):
            assert [multi[name] for name in names] == ["1", "2"]
            assert multi.all("a") == ["1", "3"] and multi.get("none", 7) == 7
            assert "a" in multi and len(multi) >= 2 and repr(multi)
            assert dict(multi.items())["b"] == "2" and list(multi.values())[-1] == "2"
            assert multi.pairs[-1] == ("a", "3") and list(multi) == list(multi.keys())

    hammer(use)


def test_route_table_under_many_threads():
    router = Router()
    for number in range(50):
        router.get(f"/a{number}/{{x:int}}", lambda request, x: "")
    router.get("/u/{u:uuid}/{rest:path}", lambda request, u, rest: "")
    table = _core.RouteTable(router.freeze().routes)

    def use(number: int) -> None:
        for turn in range(300):
            route = (number * 7 + turn) % 50
            assert table.find("GET", f"/a{route}/{turn}") == ("route", route, {"x": turn})
            assert table.find("PUT", "/a1/1")[0] == "method not allowed"
            assert table.find("GET", "/none") == ("not found",)
            assert table.find("GET", "/u/00000000-0000-0000-0000-000000000000/b/c")[2]["rest"] == "b/c"

    hammer(use)


def test_server_under_many_threads(serve):
    running = serve(lambda request: "hello")

    def use(number: int) -> None:
        for _ in range(15):
            assert running.get("/").body == b"hello"
            stats = running.server.stats()
            assert stats["workers"] >= 1 and stats["connections_accepted"] > 0
            assert running.server.wait_ready(1) and running.server.address.port == running.port

    hammer(use)
    hammer(lambda number: running.server.stop(5))
    stats = running.server.stats()
    assert stats["answers"]["2xx"] == THREADS * 15
    assert (stats["workers"], stats["connections_open"]) == (0, 0)


def test_servers_may_be_started_and_stopped_side_by_side(serve):
    def use(number: int) -> None:
        for turn in range(3):
            running = serve(lambda request, turn=turn: f"{number} {turn}", workers=1)
            assert running.get("/").body.decode() == f"{number} {turn}"
            assert running.server.stop(5) is True

    hammer(use)


def test_response_object_may_be_shared_by_many_threads(serve):
    from ushabti.responses import Response

    shared = Response("shared", 200, {"X-One": "v"})
    running = serve(lambda request: (shared, 201) if request.path == "/made" else shared)

    def use(number: int) -> None:
        with running.connect() as raw:
            for turn in range(50):
                raw.send(GET if turn % 2 else GET.replace(b"/ ", b"/made "))
                answer = raw.read_response()
                assert (answer.status, answer.body) == (200 if turn % 2 else 201, b"shared")
                assert answer.all("x-one") == ["v"]

    hammer(use)
