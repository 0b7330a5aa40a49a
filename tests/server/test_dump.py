"""The thread dump of a live server: for whom every worker is busy, while handlers hang and while all go on."""

import gc
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.process import Process
from tests.server.test_server_life import script
from tests.server.waiting import Gate, eventually
from tests.server.websocketing import Dialled, Told, dial
from tests.support import HAS_GIL, stands_in
from ushabti.dump import Activity
from ushabti.routing import Router


def ask(running: Any, target: str) -> Any:
    raw = running.connect()
    raw.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return raw


def test_requests_are_shown_with_route_age_wait_and_stack(serve, gate: Gate):
    inner, outer = Router(), Router()
    inner.get("/jars/{number:int}", lambda request, number: gate(request))
    outer.get("/hello", lambda request: "hello")
    outer.mount("/granary", inner)
    running = serve(outer, workers=1)
    first = ask(running, "/granary/jars/7?tag=a%1b")
    gate.wait()
    second = ask(running, "/granary/jars/8")
    eventually(lambda: running.server.stats()["queue_waiting"] == 1)
    dump = running.server.dump()
    [activity] = dump.busy
    assert (activity.kind, activity.subject) == ("request", "GET /granary/jars/7?tag=a%1b")
    assert activity.route == "/granary/jars/{number:int}"
    assert activity.thread == "ushabti-worker-1" and activity.is_connected and not activity.has_ended
    assert 0 <= activity.waited <= activity.age and 0 < activity.running <= activity.age < 60
    assert stands_in("in __call__", activity.stack) and stands_in("  assert self.open.wait(30)", activity.stack)
    assert dump.idle == []
    assert dump.counts["queue_waiting"] == 1 and dump.counts["workers_busy"] == 1
    [queue] = dump.queues
    assert (queue.lane, queue.waiting) == ("default", 1)
    assert queue.at_most is not None and activity.running <= queue.at_most < 60 and dump.pending == []
    gate.open.set()
    assert first.read_response().status == second.read_response().status == 200
    eventually(lambda: running.server.dump().idle == ["ushabti-worker-1"])


def test_oldest_request_comes_first_and_one_without_its_client_says_so(serve, gate: Gate):
    router = Router()
    router.get("/{number}", lambda request, number: gate(request))
    running = serve(router, workers=3)
    asked = []
    for number in range(3):
        asked.append(ask(running, f"/{number}"))
        gate.wait()
    asked[1].close()
    eventually(lambda: [one.is_connected for one in running.server.dump().busy] == [True, False, True])
    assert [one.subject for one in running.server.dump().busy] == ["GET /0", "GET /1", "GET /2"]
    assert "the client has left" in running.server.dump().as_text()


def test_streamed_body_is_still_the_request(serve, gate: Gate):
    def body() -> Iterator[str]:
        yield "a"
        gate(None)
        yield "b"

    running = serve(lambda request: body(), workers=1)
    raw = ask(running, "/stream")
    gate.wait()
    assert [one.subject for one in running.server.dump().busy] == ["GET /stream"]
    gate.open.set()
    assert raw.read_response().body == b"ab"
    eventually(lambda: running.server.dump().busy == [])


def test_deferred_requests_are_shown_and_counted_until_they_are_answered(serve):
    held: list[Any] = []
    router = Router()

    @router.get("/oracle/{number:int}")
    def oracle(request, number):
        request.defer()
        request.defer()
        held.append(request)

    running = serve(router, workers=1)
    asked = []
    for number in range(3):
        asked.append(ask(running, f"/oracle/{number}?a=1"))
        eventually(lambda: len(held) == number + 1)  # noqa: B023  (used in this round)
    eventually(lambda: running.server.dump().busy == [])
    asked[1].close()
    eventually(lambda: [one.is_connected for one in running.server.dump().pending] == [True, False, True])
    dump = running.server.dump()
    assert [one.subject for one in dump.pending] == [f"GET /oracle/{number}?a=1" for number in range(3)]
    assert {(one.place, one.route) for one in dump.pending} == {("deferred", "/oracle/{number:int}")}
    assert all(0 < one.waited <= one.age < 60 for one in dump.pending)
    assert dump.pending_more == 0 and dump.counts["requests_deferred"] == 3
    # Answered, dropped without an answer, and answered when the client is gone: none of them is owed any more.
    held.pop(1).respond(200)
    held[0].respond(200, {}, "yes")
    eventually(lambda: asked[0].read_response().body == b"yes")
    assert [one.subject for one in running.server.dump().pending] == ["GET /oracle/2?a=1"]
    held.clear()
    gc.collect()  # Without the GIL what another thread has made may need it.
    assert asked[2].read_response().status == 500
    assert running.server.stats()["requests_deferred"] == 0 and running.server.dump().pending == []


def test_deferred_request_whose_answer_could_not_be_sent_is_still_owed(serve):
    held: list[Any] = []

    def oracle(request):
        request.defer()
        held.append(request)

    running = serve(oracle, workers=1)
    raw = ask(running, "/")
    eventually(lambda: held)
    with pytest.raises(ValueError, match="X-Ray"):
        held[0].respond(200, {"X-Ray": "a\r\nb"})
    assert running.server.stats()["requests_deferred"] == 1
    held[0].respond(200)
    assert raw.read_response().status == 200
    assert running.server.stats()["requests_deferred"] == 0


def test_request_that_was_deferred_is_with_its_worker_until_the_handler_returns(serve, gate: Gate):
    def oracle(request):
        request.defer()
        gate(request)
        request.respond(200)

    running = serve(oracle, workers=1)
    raw = ask(running, "/")
    gate.wait()
    dump = running.server.dump()
    assert len(dump.busy) == 1 and (dump.pending, dump.pending_more) == ([], 0)
    gate.open.set()
    assert raw.read_response().status == 200


def test_requests_at_the_gate_of_their_route_are_shown(serve, gate: Gate):
    router = Router()
    router.get("/reports/{year:int}", lambda request, year: gate(request), concurrency=1, queue=150)
    running = serve(router, workers=2)
    first = ask(running, "/reports/1")
    gate.wait()
    asked = []
    for year in range(2, 4):
        asked.append(ask(running, f"/reports/{year}"))
        eventually(lambda: running.server.stats()["queue_waiting"] == year - 1)  # noqa: B023  (used in this round)
    dump = running.server.dump()
    assert [one.subject for one in dump.pending] == ["GET /reports/2", "GET /reports/3"]
    assert {(one.place, one.route, one.is_connected) for one in dump.pending} == {("gate", "/reports/{year:int}", True)}
    assert dump.queues == [] and "at the gate of its route for" in dump.as_text()
    asked += [ask(running, "/reports/9") for _ in range(110)]
    eventually(lambda: running.server.stats()["queue_waiting"] == 112)
    dump = running.server.dump()
    assert (len(dump.pending), dump.pending_more) == (100, 12)
    assert dump.pending[0].subject == "GET /reports/2" and "no thread: 12 more requests" in dump.as_text()
    gate.open.set()
    assert {raw.read_response().status for raw in [first, *asked]} == {200}
    eventually(lambda: running.server.dump().pending == [])


def busy(running: Any) -> list[Activity]:
    found: list[Activity] = running.server.dump().busy
    return found


def test_handlers_of_sockets_are_shown_with_socket_and_event(serve, gate: Gate):
    told = Told()
    running = serve(told.router(on_message=lambda ws, message: gate(ws)), workers=2)
    ws = dial(running)
    ws.send("hello")
    gate.wait()
    eventually(lambda: len(busy(running)) == 1)  # The worker that upgraded may still be about to put its request down.
    [activity] = busy(running)
    assert (activity.kind, activity.subject) == ("websocket", f"message of socket {told.socket().id}")
    assert activity.is_connected and activity.running < 60 and stands_in("in __call__", activity.stack)
    gate.open.set()
    eventually(lambda: busy(running) == [])
    ws.close()


def test_later_event_of_a_turn_has_an_age_of_its_own(serve, gate: Gate):
    ages = threading.Event()

    def on_message(ws: Any, message: Any) -> None:
        if message.text == "first":
            ages.wait(0.2)
        else:
            gate(ws)

    running = serve(Told().router(on_message=on_message), workers=1)
    ws = dial(running)
    ws.send("first", "second")
    gate.wait()
    began = time.monotonic()
    [activity] = busy(running)
    assert activity.age < 0.2 + time.monotonic() - began
    gate.open.set()
    ws.close()


def test_threads_of_blocking_handlers_are_shown_with_their_sockets(serve, gate: Gate):
    router = Router()
    router.websocket("/live", gate, blocking=True)
    running = serve(router)
    ws: Dialled = dial(running, "/live")
    gate.wait()
    eventually(lambda: len(busy(running)) == 1)  # The worker that upgraded may still be about to put its request down.
    [activity] = busy(running)
    assert activity.kind == "websocket thread" and activity.thread.startswith("ushabti-websocket-")
    assert activity.subject.startswith("<WebSocket ") and " /live " in activity.subject and activity.is_connected
    assert stands_in("in __call__", activity.stack)
    gate.open.set()
    assert ws.read_close() == (1000, "")
    eventually(lambda: busy(running) == [])


def test_other_threads_are_shown_once_each(serve):
    running = serve(lambda request: "hello", workers=2)
    assert running.get("/").status == 200
    eventually(lambda: len(running.server.dump().idle) == 2)
    dump = running.server.dump()
    names = [name for name, _ in dump.others]
    assert {"MainThread", "ushabti-pool", "ushabti-log"} <= set(names)
    assert not set(names) & set(dump.idle)
    text = dump.as_text()
    assert text.count("other thread MainThread\n") == 1
    assert "in test_other_threads_are_shown_once_each" in text
    assert dump.has_stacks is HAS_GIL and ("without stacks" in text) is not HAS_GIL


@pytest.mark.time_limit(120)
def test_dump_under_load(serve, effort: int):
    """Workers come and go, threads beside them start and end, requests last microseconds: a dump has no worse stack."""
    told = Told()
    router = Router()

    def marked_hello() -> str:
        return "hello"

    router.get("/hello", lambda request: marked_hello())

    @router.get("/nap")
    def nap_handler(request):
        time.sleep(0.002)
        return "nap"

    router.websocket("/live", told.handler(on_message=lambda ws, message: ws.send(message)))
    running = serve(router, workers="1-16", thread_idle=0.1)
    stop = threading.Event()
    failed: list[BaseException] = []

    def guarded(work: Any) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as problem:
            failed.append(problem)

    def hello() -> None:
        with running.connect() as raw:
            for _ in range(50):
                raw.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
                assert [raw.read_response().body for _ in range(4)] == [b"hello"] * 4

    def nap() -> None:
        assert running.get("/nap").body == b"nap"

    def talk() -> None:
        with dial(running, "/live") as ws:
            for _ in range(50):
                ws.send("a", "b")
                assert [ws.read(), ws.read()] == ["a", "b"]
            ws.close()

    def churn() -> None:
        threads = [threading.Thread(target=sum, args=(range(100),)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    clients = [threading.Thread(target=guarded, args=(work,)) for work in (hello, hello, nap, nap, nap, talk, churn)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for client in clients:
            client.start()
        seen = set()
        for _ in range(100 * effort):
            dump = running.server.dump()
            assert dump.as_text().endswith("==== end of dump\n") and dump.as_json()
            for activity in dump.busy:
                seen.add(activity.subject.partition(" of ")[0])
                if "/hello" not in activity.subject:
                    assert not any("marked_hello" in line for line in activity.stack), activity
            stats = running.server.stats()
            assert sum(stats["connections"].values()) < 100
            counts = [count for _, count in stats["queue_waits"]["buckets"]]
            assert counts == sorted(counts) and counts[-1] <= stats["queue_waits"]["count"]
    finally:
        stop.set()
        for client in clients:
            client.join()
        sys.setswitchinterval(interval)
    assert failed == []
    assert "GET /nap" in seen
    eventually(lambda: running.server.dump().busy == [])


def test_sigquit_writes_the_dump_and_goes_on():
    with Process() as process, process.connect() as held, process.connect() as other:
        held.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        assert process.read() == {"held": True}
        for count in (1, 2):
            process.signal(signal.SIGQUIT)
            eventually(lambda: process.log.count("==== end of dump") == count)  # noqa: B023  (used in this round)
        assert process.log.count("request GET /hold (route /hold)") == 2 and ("in hold" in process.log) is HAS_GIL
        other.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert other.read_response().body == b"hello"
        process.signal(signal.SIGTERM)
        eventually(lambda: "SIGTERM: stopping" in process.log)
        # Who a stop waits for is what one wants to know.
        process.signal(signal.SIGQUIT)
        eventually(lambda: process.log.count("request GET /hold (route /hold)") == 3)
        process.let_go()
        assert held.read_response().body == b"let go"
        assert process.read() == {"clean": True}
        assert process.wait() == 0


COLLECTING = """
import gc, threading, time
from ushabti import Server

class Cyclic:
    def __init__(self):
        self.itself = self

    def __del__(self):
        time.sleep(0.002)

def deep(depth):
    deep(depth - 1) if depth else time.sleep(0.0005)

def run(work):
    while not over:
        work()

def begin_and_end():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()

over = False
works = [lambda: deep(5)] * 8 + [begin_and_end] * 3
threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
for thread in threads:
    thread.start()
server = Server(lambda request: "hello")
gc.set_threshold(20)
for _ in range(300):
    Cyclic()
    server.dump()
over = True
print("end")
"""


def test_dump_does_not_stop_the_process_when_the_garbage_collector_runs() -> None:
    done = script(COLLECTING)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
