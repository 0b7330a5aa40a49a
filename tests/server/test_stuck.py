"""Handlers that wait, compute or never return: the others are served, and the pool follows the work."""

import sys
import threading
import time

import pytest

from tests.server.waiting import Gate, eventually
from tests.support import HAS_GIL
from ushabti.routing import Router

HOLD = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"


def router(gate: Gate) -> Router:
    routes = Router()
    routes.get("/hold", gate)
    routes.get("/hello", lambda request: "hello")
    return routes


def test_handlers_that_never_return_do_not_stop_the_others(serve, gate: Gate):
    running = serve(router(gate))
    held = [running.connect() for _ in range(20)]
    for raw in held:
        raw.send(HOLD)
    gate.wait(20)
    began = time.monotonic()
    assert [running.get("/hello").body for _ in range(20)] == [b"hello"] * 20
    assert time.monotonic() - began < 5
    gate.open.set()
    assert [raw.read_response().body for raw in held] == [b"let go"] * 20


def test_pool_grows_for_handlers_that_wait_and_shrinks_again(serve, gate: Gate):
    running = serve(router(gate), workers="2-30", thread_idle=0.2)
    assert running.server.stats()["workers"] == 2
    held = [running.connect() for _ in range(25)]
    for raw in held:
        raw.send(HOLD)
    gate.wait(25)
    assert 25 <= running.server.stats()["workers"] <= 30
    gate.open.set()
    for raw in held:
        assert raw.read_response().body == b"let go"
    eventually(lambda: running.server.stats()["workers"] == 2)
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("ushabti-worker-")]
    eventually(lambda: sum(name.startswith("ushabti-worker-") for name in _thread_names()) == 2)
    assert names and running.get("/hello").body == b"hello"


def _thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_pool_does_not_grow_beyond_its_maximum(serve, gate: Gate):
    running = serve(router(gate), workers=(1, 4))
    held = [running.connect() for _ in range(10)]
    for raw in held:
        raw.send(HOLD)
    gate.wait(4)
    # Nobody takes the fifth, and the four go on to hold their own.
    assert not gate.entered.acquire(timeout=0.3)
    stats = running.server.stats()
    assert (stats["workers"], stats["queue_waiting"]) == (4, 6)
    gate.open.set()
    assert [raw.read_response().body for raw in held] == [b"let go"] * 10


def test_pool_of_fixed_size_stays_as_it_is(serve):
    running = serve(lambda request: "hello", workers=3)
    for _ in range(30):
        assert running.get("/").body == b"hello"
    assert running.server.stats()["workers"] == 3


def test_many_handlers_that_sleep_run_at_once(serve):
    barrier = threading.Barrier(60)

    def handler(request):
        barrier.wait(20)
        return "met"

    running = serve(handler)
    connections = [running.connect(timeout=20) for _ in range(60)]
    for raw in connections:
        raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [raw.read_response().body for raw in connections] == [b"met"] * 60


def test_io_goes_on_while_handlers_compute(serve):
    stop = threading.Event()
    began = threading.Semaphore(0)

    def compute(request):
        began.release()
        while not stop.is_set():
            sum(range(1000))
        return "done"

    routes = Router()
    routes.get("/compute", compute)
    routes.get("/hello", lambda request: "hello")
    running = serve(routes)
    hogs = [running.connect() for _ in range(4)]
    try:
        for raw in hogs:
            raw.send(b"GET /compute HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in hogs:
            assert began.acquire(timeout=10)
        # Python is busy all the time; what needs no Python is answered all the same, and what does gets its turn.
        with running.connect() as raw:
            raw.send(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.read_response().status == 404
        assert [running.get("/hello").body for _ in range(10)] == [b"hello"] * 10
    finally:
        stop.set()
    assert [raw.read_response().body for raw in hogs] == [b"done"] * 4


def test_switch_interval_is_shortened_while_workers_wait_and_put_back(serve, monkeypatch: pytest.MonkeyPatch):
    before, real, seen = sys.getswitchinterval(), sys.setswitchinterval, []

    def record(interval: float) -> None:
        seen.append(interval)
        real(interval)

    monkeypatch.setattr(sys, "setswitchinterval", record)
    test_io_goes_on_while_handlers_compute(serve)
    eventually(lambda: sys.getswitchinterval() == before)
    if HAS_GIL:
        assert seen and seen[0] < before
    else:
        assert seen == []


def test_workers_never_exceed_the_maximum_while_the_first_ones_start(serve, gate: Gate):
    routes = router(gate)
    let_start = threading.Event()
    starting: list[str] = []

    @routes.on_thread_start
    def connect_to_the_database() -> None:
        starting.append(threading.current_thread().name)
        assert let_start.wait(10)

    running = serve(routes, workers=(2, 4))
    held = [running.connect() for _ in range(8)]
    for raw in held:
        raw.send(HOLD)
    eventually(lambda: len(starting) >= 4)
    let_start.set()
    gate.wait(4)
    assert (len(starting), running.server.stats()["workers"]) == (4, 4)
    gate.open.set()
    assert [raw.read_response().body for raw in held] == [b"let go"] * 8
