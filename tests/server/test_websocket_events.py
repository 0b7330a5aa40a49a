"""What the handler of a WebSocket is told: Open first, messages in order, Close once and last, however it ends."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.server.waiting import Log, eventually
from tests.server.websocketing import BINARY, CLOSE, PING, TEXT, Told, close_frame, dial, frame, sockets
from ushabti import Router, WebSocketError


@pytest.fixture
def told() -> Told:
    return Told()


def test_events_come_in_order_with_open_first_and_close_last(serve, told: Told):
    running = serve(told.router())
    ws = dial(running)
    ws.send("a", b"\xff", "", "ü")
    assert ws.close(1001, b"leaving") == (1001, "")
    told.wait("close")
    running.stop()
    assert told.all == [
        ("open",),
        ("message", "a"),
        ("message", b"\xff"),
        ("message", ""),
        ("message", "ü"),
        ("close", 1001, "leaving", True),
    ]


def test_messages_that_come_with_the_handshake_wait_for_open(serve, told: Told):
    running = serve(told.router())
    ws = dial(running, then=frame(TEXT, b"early") + close_frame(3000))
    assert ws.read_close() == (3000, "")
    told.wait("close")
    assert told.all == [("open",), ("message", "early"), ("close", 3000, "", True)]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "bye"), (1003, ""), (1007, ""), (1011, ""), (1014, ""), (3000, "grüß"), (4999, "x" * 123)],
)
def test_client_that_closes_is_answered_with_its_code(serve, told: Told, code: int, reason: str):
    running = serve(told.router())
    assert dial(running).close(code, reason.encode()) == (code, "")
    assert told.wait("close") == ("close", code, reason, True)
    running.stop()
    assert told.names == ["open", "close"]


def test_close_without_a_code_is_1005_and_answered_without_one(serve, told: Told):
    assert dial(serve(told.router())).close(None) == (None, "")
    assert told.wait("close") == ("close", 1005, "", True)


def test_server_that_closes_tells_its_own_code_when_the_client_has_answered(serve, told: Told):
    seen: list[Any] = []

    def on_message(ws, message):
        seen.append((ws.open, ws.close_code))
        seen.append((ws.close(4001, "enough"), ws.close(4002), ws.open, ws.close_code, ws.close_reason, ws.close_clean))

    running = serve(told.router(on_message=on_message))
    ws = dial(running)
    ws.send("one", "two", "three")
    assert ws.read_close() == (4001, "enough")
    assert told.wait("close") == ("close", 4001, "enough", True)
    running.stop()
    assert seen == [(True, None), (True, False, False, 4001, "enough", False)]
    # What the client has sent before it knew is not delivered: the handler has said that it is done.
    assert told.names == ["open", "message", "close"]


def test_server_that_closes_while_opening_gets_no_message(serve, told: Told):
    running = serve(told.router(on_open=lambda ws: ws.close(1013, "full")))
    ws = dial(running, then=frame(TEXT, b"early"))
    assert ws.read_close() == (1013, "full")
    told.wait("close")
    running.stop()
    assert told.all == [("open",), ("close", 1013, "full", True)]


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_client_that_leaves_instead_of_answering_the_close_is_told_as_not_clean(serve, told: Told, leave: str):
    running = serve(told.router(on_open=lambda ws: ws.close(4001, "enough")))
    ws = dial(running)
    assert ws.read_close(answer=False) == (4001, "enough")
    getattr(ws.raw, leave)()
    assert told.wait("close") == ("close", 4001, "enough", False)
    running.stop()
    assert told.names == ["open", "close"]


def test_client_that_never_answers_the_close_is_given_up(serve, told: Told):
    running = serve(told.router(on_open=lambda ws: ws.close(4001, "enough")))
    ws = dial(running)
    assert ws.read_close(answer=False) == (4001, "enough")
    # Five seconds, which no option changes.
    ws.read_end()
    assert told.wait("close") == ("close", 4001, "enough", False)


def test_both_sides_may_close_at_once(serve, told: Told):
    running = serve(told.router(on_message=lambda ws, message: ws.close(4001)))
    ws = dial(running)
    ws.raw.send(frame(TEXT, b"close, please") + close_frame(4002))
    ws.read_frame()
    ws.read_end()
    _, code, _, clean = told.wait("close")
    assert code in (4001, 4002) and clean
    running.stop()
    assert told.names[0] == "open" and told.names[-1] == "close" and told.names.count("close") == 1


@pytest.mark.parametrize("leave", ["close", "reset", "finish"])
@pytest.mark.parametrize("begin", [b"", frame(TEXT, b"cut off")[:5], frame(TEXT, b"first", fin=False)])
def test_connection_that_ends_without_a_close_frame_is_1006(serve, told: Told, begin: bytes, leave: str):
    running = serve(told.router())
    ws = dial(running)
    ws.send("whole")
    told.wait("message")
    ws.raw.send(begin)
    getattr(ws.raw, leave)()
    assert told.wait("close") == ("close", 1006, "", False)
    running.stop()
    assert told.names[:2] == ["open", "message"] and told.names.count("close") == 1
    assert told.all[-1][0] == "close" and ("message", "cut off") not in told.all


def test_fault_of_the_client_is_told_as_an_error_before_the_close(serve, told: Told, log: Log):
    running = serve(told.router())
    ws = dial(running)
    ws.raw.send(frame(TEXT, b"good") + frame(3, b"bad") + frame(TEXT, b"never seen"))
    assert ws.read_close() == (1002, "the opcode is reserved (0x3)")
    told.wait("close")
    running.stop()
    assert told.names == ["open", "message", "error", "close"]
    problem = told.all[2][1]
    assert type(problem) is WebSocketError
    assert (problem.code, problem.reason) == (1002, "the opcode is reserved (0x3)")
    assert told.all[3] == ("close", 1002, "the opcode is reserved (0x3)", False)
    log.wait("the opcode is reserved (0x3) (RFC 6455 section 5.2); closed with 1002")
    assert "Traceback" not in log.text()


@pytest.mark.parametrize("problem", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["on_open", "on_message"])
def test_handler_that_raises_closes_with_1011(serve, told: Told, log: Log, where: str, problem: BaseException):
    def fail(*_: object) -> None:
        raise problem

    running = serve(told.router(**{where: fail}))
    ws = dial(running)
    ws.send("one", "two")
    assert ws.read_close() == (1011, "")
    assert told.wait("close") == ("close", 1011, "", True)
    running.stop()
    names = ["open", "error", "close"] if where == "on_open" else ["open", "message", "error", "close"]
    assert told.names == names
    assert told.wait("error")[1] is problem
    assert type(problem).__name__ in log.text()


@pytest.mark.parametrize("where", ["on_error", "on_close"])
def test_handler_that_raises_at_the_end_is_logged_and_nothing_more(serve, told: Told, log: Log, where: str):
    def fail(*_: object) -> None:
        raise ValueError("broken at the end")

    running = serve(told.router(**{where: fail}))
    ws = dial(running)
    ws.raw.send(frame(3))
    assert ws.read_close()[0] == 1002
    told.wait("close")
    eventually(lambda: "ValueError: broken at the end" in log.text())
    running.stop()
    assert told.names == ["open", "error", "close"]
    assert log.text().count("ValueError: broken at the end") == 1


def test_stop_closes_with_1001_and_waits_for_the_last_event(serve, told: Told):
    running = serve(told.router())
    clients = [dial(running) for _ in range(3)]
    told.wait("open", 3)
    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(ws.read_close) for ws in clients]
        assert running.server.stop(5) is True
        assert [end.result() for end in ends] == [(1001, "the server stops")] * 3
    assert [entry for entry in told.all if entry[0] == "close"] == [("close", 1001, "the server stops", True)] * 3


def test_stop_does_not_wait_for_ever_for_a_client_that_does_not_answer(serve, told: Told):
    running = serve(told.router())
    dial(running)
    told.wait("open")
    running.server.stop(0.3)
    assert told.wait("close")[1:] in [(1001, "the server stops", False), (1001, "the server has stopped", False)]
    assert told.names == ["open", "close"]


def test_message_at_the_limit_is_delivered_and_one_beyond_is_1009(serve, told: Told):
    running = serve(told.router(), max_message=1000)
    ws = dial(running)
    ws.raw.send(frame(BINARY, b"x" * 600, fin=False) + frame(PING) + frame(0, b"y" * 400))
    assert told.wait("message")[1] == b"x" * 600 + b"y" * 400
    assert ws.read_frame().opcode == 0xA
    # The header is enough: nothing of the payload has come.
    ws.raw.send(frame(BINARY, length=1001))
    assert ws.read_close() == (1009, "the message is too big")
    assert told.wait("close") == ("close", 1009, "the message is too big", False)
    assert told.names == ["open", "message", "error", "close"]


def test_fragments_are_counted_together(serve, told: Told):
    running = serve(told.router(), max_message=1000)
    ws = dial(running)
    ws.raw.send(frame(TEXT, b"x" * 600, fin=False) + frame(0, b"", length=401))
    assert ws.read_close()[0] == 1009
    assert told.wait("error")[1].code == 1009


def test_close_may_be_asked_for_with_three_arguments_or_not_at_all(serve):
    closed: list[Any] = []

    class Three:
        def on_close(self, ws, code, reason):
            closed.append((code, reason))

    class Nothing:
        def on_open(self, ws):
            ws.send("open")

    router = Router()
    router.websocket("/three", Three)
    router.websocket("/nothing", Nothing)
    running = serve(router)
    assert dial(running, "/three").close(3001, b"why") == (3001, "")
    ws = dial(running, "/nothing")
    assert ws.read() == "open"
    ws.send("nobody listens")
    assert ws.close() == (1000, "")
    eventually(lambda: closed == [(3001, "why")])


def test_socket_tells_in_the_last_event_that_it_is_closed(serve):
    seen: list[Any] = []

    class Handler:
        def on_close(self, ws, code, reason, clean):
            seen.append((ws.open, ws.close_code, ws.close_reason, ws.close_clean, ws.topics, ws.buffered))
            seen.append((ws.send("x"), ws.send(b"x"), ws.send_json(1), ws.ping(), ws.close(), ws.subscribe("t")))

    running = serve(sockets(Handler))
    dial(running).close(3001, b"why")
    eventually(lambda: len(seen) == 2)
    assert seen == [(False, 3001, "why", True, [], 0), (False,) * 6]


def test_each_connection_has_an_object_of_its_own_that_goes_with_it(serve):
    made: list[weakref.ref[Any]] = []
    known: list[weakref.ref[Any]] = []

    class Handler:
        def __init__(self) -> None:
            made.append(weakref.ref(self))

        def on_open(self, ws):
            self.ws = ws
            ws.state["handler"] = self
            known.append(weakref.ref(ws))

    running = serve(sockets(Handler))
    clients = [dial(running) for _ in range(3)]
    eventually(lambda: len(known) == 3)
    assert len({id(one()) for one in made}) == 3
    for ws in clients:
        ws.close()

    def are_gone() -> bool:
        gc.collect()
        return all(one() is None for one in made + known)

    eventually(are_gone)


def test_stats_count_sockets_and_messages(serve, told: Told):
    running = serve(told.router())
    clients = [dial(running) for _ in range(3)]
    for ws in clients:
        ws.send("one", "two")
    told.wait("message", 6)
    stats = running.server.stats()
    assert (stats["websockets_open"], stats["websocket_messages"], stats["connections_open"]) == (3, 6, 3)
    for ws in clients:
        ws.close()
    eventually(lambda: running.server.stats()["websockets_open"] == 0)
    eventually(lambda: running.server.stats()["connections_open"] == 0)
    assert running.server.stats()["websocket_messages"] == 6


def test_frame_behind_the_close_frame_is_not_read(serve, told: Told):
    running = serve(told.router())
    ws = dial(running)
    ws.raw.send(close_frame(1000) + frame(TEXT, b"late") + frame(3) + frame(CLOSE, b"x"))
    assert ws.read_frame().payload == b"\x03\xe8"
    ws.read_end()
    told.wait("close")
    running.stop()
    assert told.all == [("open",), ("close", 1000, "", True)]
