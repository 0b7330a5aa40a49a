"""``Server.stats()``: what connections and workers are at, what was waited for, and how many bytes went to and fro."""

import threading
import time
from typing import Any

import pytest

from tests.server.waiting import Gate, eventually
from tests.server.websocketing import Told, dial
from ushabti.routing import Router

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
HOLD = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
STATES = ("idle", "reading", "handling", "writing", "websocket", "closing")


def router(gate: Gate) -> Router:
    routes = Router()
    routes.get("/hold", gate)
    routes.post("/hold", gate)
    routes.get("/hello", lambda request: "hello")
    # More than the buffers of both sides take.
    routes.get("/large", lambda request: b"x" * 32_000_000)
    routes.websocket("/live", Told().handler())
    return routes


def states(running: Any, **expected: int) -> bool:
    return running.server.stats()["connections"] == {**dict.fromkeys(STATES, 0), **expected}


def test_connections_are_counted_by_what_they_are_at(serve, gate: Gate):
    running = serve(router(gate))
    assert states(running)
    fresh = running.connect()
    eventually(lambda: states(running, reading=1))
    fresh.send(HELLO)
    fresh.read_response()
    eventually(lambda: states(running, idle=1))
    fresh.send(HELLO[:20])
    eventually(lambda: states(running, reading=1))
    fresh.send(HELLO[20:])
    fresh.read_response()
    eventually(lambda: states(running, idle=1))
    with running.connect() as held:
        held.send(HOLD)
        gate.wait()
        assert states(running, idle=1, handling=1)
        gate.open.set()
        held.read_response()
        eventually(lambda: states(running, idle=2))
    with running.connect() as slow:
        slow.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: states(running, idle=1, writing=1))
    with dial(running, "/live"):
        eventually(lambda: states(running, idle=1, websocket=1))
    with running.connect() as last:
        last.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert last.read_response().status == 200
        eventually(lambda: states(running, idle=1, closing=1))
    eventually(lambda: states(running, idle=1))
    assert running.server.stats()["connections_open"] == 1


def test_more_connections_than_are_counted_at_once(serve, descriptors: int):
    if descriptors < 2300:
        pytest.skip(f"this process may have {descriptors} descriptors, and the connections have two each")
    running = serve(lambda request: "hello", max_connections=2000)
    many = [running.connect() for _ in range(1100)]
    eventually(lambda: states(running, reading=1100))
    for raw in many[::2]:
        raw.close()
    eventually(lambda: states(running, reading=550))


def test_bytes_are_those_on_the_wire(serve, gate: Gate):
    running = serve(router(gate))
    with running.connect() as raw:
        for _ in range(3):
            raw.send(HELLO)
            raw.read_response()
    one = len(running.exchange(HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
    closing = len("Connection: close\r\n")
    stats = running.server.stats()
    assert stats["bytes_received"] == 4 * len(HELLO) + closing
    assert stats["bytes_sent"] == 4 * one - 3 * closing


def test_bytes_of_a_slow_client_are_counted_when_they_are_written(serve, gate: Gate):
    running = serve(router(gate))
    with running.connect() as slow:
        slow.send(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        eventually(lambda: running.server.stats()["bytes_sent"] > 0)
        assert running.server.stats()["bytes_sent"] < 32_000_000
        total = len(slow.read_all())
    assert total > 32_000_000
    assert running.server.stats()["bytes_sent"] == total


def test_waits_in_the_queue_are_counted_by_their_length(serve, gate: Gate):
    running = serve(router(gate), workers=1)
    assert running.get("/hello").status == 200
    waits = running.server.stats()["queue_waits"]
    assert waits["count"] == 1 and 0 < waits["sum"] < 10
    first, second = running.connect(), running.connect()
    first.send(HOLD)
    gate.wait()
    assert running.server.stats()["workers_busy"] == 1
    second.send(HOLD)
    eventually(lambda: running.server.stats()["queue_waiting"] == 1)
    # The second one waits for that long at least.
    assert not threading.Event().wait(0.06)
    gate.open.set()
    assert [raw.read_response().body for raw in (first, second)] == [b"let go"] * 2
    waits = running.server.stats()["queue_waits"]
    buckets = dict(waits["buckets"])
    assert waits["count"] == 3 and waits["sum"] >= 0.06
    assert buckets[0.05] < 3
    assert buckets[10.0] == 3
    counts = [count for _, count in waits["buckets"]]
    assert counts == sorted(counts)
    assert [bound for bound, _ in waits["buckets"]] == sorted(buckets)


def test_time_in_which_a_body_came_is_no_wait_in_the_queue(serve, gate: Gate):
    running = serve(router(gate))
    gate.open.set()
    with running.connect() as raw:
        raw.send(b"POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1")
        eventually(lambda: running.server.stats()["bytes_received"] > 50)
        assert not threading.Event().wait(0.3)
        complete = time.monotonic()
        raw.send(b"2")
        assert raw.read_response().status == 200
    waits = running.server.stats()["queue_waits"]
    assert waits["count"] == 1 and waits["sum"] < time.monotonic() - complete


def test_waits_outlive_the_workers_that_have_waited(serve, gate: Gate):
    running = serve(router(gate), workers="1-8", thread_idle=0.1)
    held = [running.connect() for _ in range(8)]
    for raw in held:
        raw.send(HOLD)
    gate.wait(8)
    stats = running.server.stats()
    assert stats["workers_busy"] == 8 and stats["gil_waits"]["count"] >= 8 and stats["gil_waits"]["sum"] > 0
    gate.open.set()
    for raw in held:
        raw.read_response()
    eventually(lambda: running.server.stats()["workers"] == 1)
    eventually(lambda: running.server.stats()["workers_busy"] == 0)
    after = running.server.stats()
    assert after["queue_waits"]["count"] == 8
    assert after["gil_waits"]["count"] >= stats["gil_waits"]["count"]


def test_stats_may_be_asked_before_the_start_and_after_the_stop(serve, gate: Gate):
    running = serve(router(gate))
    running.get("/hello")
    running.stop()
    stats = running.server.stats()
    assert states(running) and stats["workers_busy"] == 0 and stats["queue_waits"]["count"] == 1
