"""Blocking handlers: a loop over messages on a thread of its own, from a capped pool."""

import logging
import threading
from typing import Any

import pytest

from tests.server.waiting import Gate, Log, eventually
from tests.server.websocketing import PING, Told, dial, frame, handshake, sockets
from ushabti import PerThread, Router


def loop_of(handler: Any, **options: Any) -> Router:
    return sockets(handler, blocking=True, **options)


def echo(ws):
    for message in ws:
        ws.send(message)


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ushabti-websocket-")]


def test_loop_ends_when_the_client_closes(serve):
    ended: list[Any] = []

    def loop(ws):
        for message in ws:
            ws.send(message)
        ended.append((threading.current_thread().name, ws.open, ws.close_code, ws.close_reason, ws.close_clean))
        ended.append((ws.receive(), list(ws), ws.send("x")))

    ws = dial(serve(loop_of(loop)))
    ws.send("a", b"b")
    assert [ws.read(), ws.read()] == ["a", b"b"]
    assert ws.close(4000, b"done") == (4000, "")
    eventually(lambda: len(ended) == 2)
    assert ended[0][0].startswith("ushabti-websocket-")
    assert ended == [(ended[0][0], False, 4000, "done", True), (None, [], False)]
    eventually(lambda: threads_left() == [])


def test_messages_before_the_close_are_all_received(serve):
    seen: list[Any] = []

    def loop(ws):
        seen.extend(message.text for message in ws)
        seen.append("end")

    ws = dial(serve(loop_of(loop)))
    ws.send(*(str(number) for number in range(300)))
    ws.close()
    eventually(lambda: seen[-1:] == ["end"])
    assert seen == [*(str(number) for number in range(300)), "end"]


def test_returning_closes_with_1000(serve):
    ws = dial(serve(loop_of(lambda ws: ws.send("bye") and None)))
    assert ws.read() == "bye"
    assert ws.read_close() == (1000, "")


def test_raising_closes_with_1011_and_is_logged(serve, log: Log):
    def loop(ws):
        ws.receive()
        raise ValueError("in the loop")

    ws = dial(serve(loop_of(loop)))
    ws.send("x")
    assert ws.read_close() == (1011, "")
    eventually(lambda: "ValueError: in the loop" in log.text())


def test_raising_closes_with_1011_also_where_it_cannot_be_logged(serve):
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError(f"cannot show {record.getMessage()!r}")

    def loop(ws):
        ws.receive()
        raise ValueError("in the loop")

    broken = Broken()
    logging.getLogger("ushabti").addHandler(broken)
    try:
        ws = dial(serve(loop_of(loop)))
        ws.send("x")
        assert ws.read_close() == (1011, "")
    finally:
        logging.getLogger("ushabti").removeHandler(broken)


def test_closing_by_itself_keeps_its_code(serve):
    def loop(ws):
        ws.close(4001, "own")
        assert ws.receive() is None

    assert dial(serve(loop_of(loop))).read_close() == (4001, "own")


@pytest.mark.parametrize("leave", ["reset", "close"])
def test_loop_ends_when_the_client_is_gone(serve, leave: str):
    ended: list[int] = []

    def loop(ws):
        for message in ws:
            ws.send(message)
        ended.append(ws.close_code)

    ws = dial(serve(loop_of(loop)))
    ws.send("x")
    assert ws.read() == "x"
    getattr(ws.raw, leave)()
    eventually(lambda: ended == [1006])
    eventually(lambda: threads_left() == [])


def test_receive_waits_as_long_as_it_is_told(serve):
    seen: list[Any] = []

    def loop(ws):
        for timeout in (0, 0.01):
            try:
                ws.receive(timeout=timeout)
            except TimeoutError:
                seen.append("nothing")
        ws.send("ready")
        seen.append(ws.receive(timeout=10).text)
        seen.append(ws.receive(timeout=10))

    ws = dial(serve(loop_of(loop)))
    assert ws.read() == "ready"
    ws.send("x")
    ws.close()
    eventually(lambda: seen == ["nothing", "nothing", "x", None])


def test_parameters_and_answers_are_those_of_the_route(serve):
    def loop(ws, room, number):
        ws.send_json([room, number, ws.request.query.get("name"), ws.request.path_params])

    ws = dial(serve(sockets(loop, "/rooms/{room:slug}/{number:int}", blocking=True)), "/rooms/den/7?name=Ani")
    assert ws.read() == '["den",7,"Ani",{"room":"den","number":7}]'


def test_resting_loops_hold_no_worker(serve):
    router = loop_of(echo)
    router.get("/hello", lambda request: "hello")
    running = serve(router, workers=1)
    clients = [dial(running) for _ in range(10)]
    for number, ws in enumerate(clients):
        ws.send(str(number))
        assert ws.read() == str(number)
    assert running.get("/hello").body == b"hello"
    assert len(threads_left()) == 10


def test_one_more_than_the_cap_is_503_until_one_has_left(serve):
    running = serve(loop_of(echo), websocket_threads=2)
    first, second = dial(running), dial(running)
    with running.connect() as raw:
        raw.send(handshake())
        answer = raw.read_response()
        assert answer.status == 503 and int(answer.field("retry-after") or 0) >= 1
    first.send("still here")
    assert first.read() == "still here"
    second.close()

    def is_let_in() -> bool:
        with running.connect() as raw:
            raw.send(handshake())
            return raw.read_response().status == 101

    eventually(is_let_in)


def test_refused_upgrades_and_vanished_clients_give_their_threads_back(serve):
    began = threading.Semaphore(0)
    router = loop_of(echo)

    @router.middleware
    def around(request, call_next):
        if request.query.get("hold"):
            began.release()
            eventually(lambda: request.disconnected)
        return call_next(request)

    running = serve(router, websocket_threads=1)
    for target in ("/?hold=1", "/?hold=2", "/?hold=3"):
        raw = running.connect()
        raw.send(handshake(target))
        assert began.acquire(timeout=10)
        raw.reset()
    eventually(lambda: running.server.stats()["connections_open"] == 0)

    def is_let_in() -> bool:
        with running.connect() as raw:
            raw.send(handshake())
            return raw.read_response().status == 101

    eventually(is_let_in)


def test_stop_ends_the_loops_with_1001(serve):
    ended: list[Any] = []

    def loop(ws):
        for message in ws:
            ws.send(message)
        ended.append(ws.close_code)

    running = serve(loop_of(loop))
    clients = [dial(running) for _ in range(3)]
    for ws in clients:
        ws.send("x")
        assert ws.read() == "x"
    stopped: list[bool] = []
    thread = threading.Thread(target=lambda: stopped.append(running.server.stop(5)))
    thread.start()
    assert [ws.read_close() for ws in clients] == [(1001, "the server stops")] * 3
    thread.join()
    assert stopped == [True] and ended == [1001] * 3
    assert threads_left() == []


def test_loop_that_does_not_end_is_left_behind_by_a_stop_and_logged(serve, gate: Gate, log: Log):
    running = serve(loop_of(gate))
    dial(running)
    gate.wait()
    assert running.server.stop(0.3) is False
    log.wait("ushabti-websocket-")
    gate.open.set()
    eventually(lambda: threads_left() == [])


def test_hooks_and_values_of_threads_are_there_as_in_a_worker(serve):
    events: dict[str, list[str]] = {}

    def note(event: str) -> None:
        events.setdefault(threading.current_thread().name, []).append(event)

    value = PerThread(lambda: note("made"), lambda value: note("closed"))

    def loop(ws):
        note("loop")
        value()

    router = loop_of(loop)
    router.on_thread_start(lambda: note("start"))
    router.on_thread_stop(lambda: note("stop"))
    running = serve(router)
    dial(running).read_close()
    eventually(lambda: threads_left() == [])
    running.stop()
    (own,) = [told for name, told in events.items() if name.startswith("ushabti-websocket-")]
    assert own[:3] == ["start", "loop", "made"] and sorted(own[3:]) == ["closed", "stop"]


def test_upgrade_by_hand_may_go_on_in_events_only(serve):
    told = Told()
    handler = told.handler()

    def upgrade(request):
        request.upgrade(handler())

    dial(serve(upgrade))
    with pytest.raises(RuntimeError, match="blocking"):
        told.socket().receive(0)


def test_ping_is_answered_while_the_loop_is_busy(serve, gate: Gate):
    ws = dial(serve(loop_of(gate)))
    gate.wait()
    ws.raw.send(frame(PING, b"there?"))
    assert ws.read_frame().payload == b"there?"
    gate.open.set()
    assert ws.read_close() == (1000, "")


def test_middleware_stands_around_a_loop_as_well(serve):
    router = loop_of(echo)

    @router.middleware
    def around(request, call_next):
        if request.query.get("no"):
            return "no", 403
        return call_next(request)

    running = serve(router)
    with running.connect() as raw:
        raw.send(handshake("/?no=1"))
        assert raw.read_response().status == 403
    ws = dial(running)
    ws.send("x")
    assert ws.read() == "x"
