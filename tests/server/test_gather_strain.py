"""Blocks of ``request.gather()`` under strain: that they always end, and leave nothing behind."""

import contextlib
import gc
import os
import threading
import time
import weakref

import pytest

from tests.server.waiting import PATIENCE_S, Log, eventually
from ushabti import Request, Router
from ushabti.errors import HTTPError, ServerStateError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def held(entered: threading.Event, open_: threading.Event) -> str:
    entered.set()
    assert open_.wait(PATIENCE_S)
    return "held"


def fail(problem: BaseException) -> object:
    raise problem


# ---- no deadlock


def tree(request: Request, depth: int, width: int) -> int:
    """As many as there are leaves, counted by blocks within the calls of blocks."""
    if depth == 0:
        return 1
    with request.gather() as calls:
        made = [calls.call(tree, request, depth - 1, width) for _ in range(width)]
        return sum(call.result() for call in made)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_blocks_within_blocks_end_with_every_worker_inside(serve, hectic, effort: int, workers: int):
    running = serve(lambda request: str(tree(request, 3, 3)), workers=workers)
    for _ in range(3 * effort):
        connections = [running.connect() for _ in range(2 * workers)]
        for raw in connections:
            raw.send(GET)
        assert [raw.read_response().body for raw in connections] == [b"27"] * len(connections)


def test_thread_that_waits_within_a_call_takes_up_no_other(serve):
    """It might take up one that needs the very call which stands below it on the stack."""

    def handler(request: Request) -> str:
        entered, asking, open_ = threading.Event(), threading.Event(), threading.Event()

        def ask() -> str:
            asking.set()
            return slow.result()

        def opener() -> None:
            assert asking.wait(PATIENCE_S)
            time.sleep(0.02)  # For the thread that asks to go wrong in.
            open_.set()

        thread = threading.Thread(target=opener)
        thread.start()
        with request.gather() as outer:
            slow = outer.call(held, entered, open_)
            assert entered.wait(PATIENCE_S)  # The other worker has it.
            with request.gather(limit=1) as inner:
                waiting = inner.call(ask)
                needy = outer.call(waiting.result)
                assert waiting.result() == "held"
        thread.join()
        return needy.result()

    assert serve(handler, workers=2).get("/").body == b"held"


def test_other_requests_have_their_turn_between_two_calls(serve):
    begun = threading.Event()
    open_ = threading.Event()
    order: list[str] = []
    router = Router()

    def call(number: int) -> None:
        begun.set()
        assert open_.wait(PATIENCE_S)
        order.append("call")

    @router.get("/calls")
    def calls(request: Request) -> None:
        def work() -> None:
            with request.gather() as calls:
                for number in range(50):
                    calls.call(call, number)
                assert begun.wait(PATIENCE_S)
                # The block's own thread takes up none before the other request has been answered.
                assert answered.wait(PATIENCE_S)
            request.respond(body="done")

        request.defer()
        threading.Thread(target=work).start()

    answered = threading.Event()

    @router.get("/")
    def other(request: Request) -> str:
        order.append("other")
        answered.set()
        return "other"

    running = serve(router, workers=1)
    first, second = running.connect(), running.connect()
    first.send(GET.replace(b"/ ", b"/calls ", 1))
    assert begun.wait(PATIENCE_S)
    second.send(GET)
    eventually(lambda: running.server.stats()["queue_waiting"] >= 1)
    open_.set()
    assert second.read_response().body == b"other" and first.read_response().body == b"done"
    assert order.index("other") <= 2 and order.count("call") == 50


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_does_not_wait_for_threads_that_it_has_not(serve):
    def handler(request: Request) -> str:
        entered, open_ = threading.Event(), threading.Event()
        with request.gather() as calls:
            calls.call(held, entered, open_)
            assert entered.wait(PATIENCE_S)
            child = os.fork()
            if child == 0:
                try:
                    calls.__exit__(None, None, None)
                except ServerStateError:
                    os._exit(7)
                os._exit(1)
            _, status = os.waitpid(child, 0)
            open_.set()
        return str(os.waitstatus_to_exitcode(status))

    assert serve(handler, workers=2).get("/").body == b"7"


# ---- nothing is left


class Thing:
    """Something that a weak reference can tell of."""


def test_block_leaves_nothing_behind(serve):
    things: list[weakref.ref[Thing]] = []

    def keep(thing: Thing) -> Thing:
        return thing

    def handler(request: Request) -> str:
        thing = Thing()
        things.append(weakref.ref(thing))
        with contextlib.suppress(KeyError), request.gather() as calls:
            calls.call(keep, thing)
            calls.call(keep, thing).result()
            if request.target == "/fail":
                calls.call(fail, KeyError("x"))
                calls.call(keep, thing)
        return "ok"

    running = serve(handler, workers=3)
    for target in ("/", "/fail") * 5:
        assert running.get(target).body == b"ok"
    # The tickets of blocks that are over are taken by workers, and come to nothing.
    eventually(lambda: running.server.stats()["queue_waiting"] == 0)
    eventually(lambda: gc.collect() >= 0 and all(thing() is None for thing in things))
    assert len(things) == 10


@pytest.mark.time_limit(180)
@pytest.mark.parametrize("workers", [1, 3, (1, 12)])
def test_stress(serve, hectic, effort: int, log: Log, workers: object):
    """Clients that leave, calls that raise, blocks within blocks; whoever stays gets the right answer."""
    router = Router()

    def leaf(number: int) -> int:
        if number % 7 == 6:
            raise HTTPError(418, "six")
        return number

    def inner(request: Request, number: int) -> int:
        with request.gather(limit=2) as calls:
            return sum(calls.map(leaf, [number, number + 1]))

    @router.get("/{number:int}")
    def outer(request: Request, number: int) -> str:
        with request.gather() as calls:
            made = [calls.call(inner, request, number + step) for step in range(3)]
        return str(sum(call.result() for call in made))

    running = serve(router, workers=workers)
    problems: list[BaseException] = []

    def client(seed: int) -> None:
        try:
            for turn in range(12 * effort):
                number = seed * 5 + turn
                with running.connect() as raw:
                    raw.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
                    if turn % 4 == 3:
                        raw.reset()
                        continue
                    answer = raw.read_response()
                numbers = [number + step + more for step in range(3) for more in range(2)]
                failing = any(one % 7 == 6 for one in numbers)
                expected = (418, b"418 I'm a Teapot: six\n") if failing else (200, str(sum(numbers)).encode())
                assert (answer.status, answer.body) == expected
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    eventually(lambda: running.server.stats()["queue_waiting"] == 0)
    assert log.count("failed") == 0


def test_block_of_many_calls_ends(serve):
    """Which it would not in the time that a test has, if each call looked at the others."""
    count = 20_000

    def handler(request: Request) -> str:
        with request.gather() as calls:
            return str(len(calls.map(int, range(count))))

    assert serve(handler, workers=4).get("/").body == str(count).encode()
