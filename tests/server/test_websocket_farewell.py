"""Clients that close right behind a message: it is answered before the Close frame is, unless that takes too long."""

import threading
from typing import Any

import pytest

from tests.server.http2_peer import Peer, opened
from tests.server.waiting import Gate, eventually
from tests.server.websocketing import CLOSE, Dialled, Told, dial, sockets

HTTP_VERSIONS = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


def open_one(running: Any, http2: bool) -> Dialled:
    return opened(Peer(running.connect())) if http2 else dial(running)


def echo(ws: Any, message: Any) -> None:
    ws.send(message.text)


def gate_then_echo(gate: Gate) -> Any:
    def answer(ws: Any, message: Any) -> None:
        gate(None)
        ws.send(message.text)

    return answer


@HTTP_VERSIONS
def test_messages_are_answered_before_the_close_frame(serve, http2: bool):
    told = Told()
    ws = open_one(serve(told.router(on_message=echo), workers=2), http2)
    ws.send_last(*map(str, range(50)))
    assert [ws.read() for _ in range(50)] == [str(number) for number in range(50)]
    assert ws.read_close() == (1000, "")
    assert told.wait("close")[1:] == (1000, "bye", True)
    assert told.names == ["open", *["message"] * 50, "close"]


@HTTP_VERSIONS
def test_handler_may_take_a_while_and_sees_an_open_socket(serve, gate: Gate, http2: bool):
    told = Told()
    seen: list[Any] = []

    def answer(ws: Any, message: Any) -> None:
        gate(None)
        seen.append(ws.open)
        ws.send("late")

    ws = open_one(serve(told.router(on_message=answer), workers=2), http2)
    ws.send_last("a")
    gate.wait()
    gate.open.set()
    assert ws.read() == "late" and ws.read_close() == (1000, "")
    assert seen == [True] and told.wait("close")[1:] == (1000, "bye", True)


@HTTP_VERSIONS
def test_handler_that_hangs_does_not_keep_the_close_frame_for_long(serve, gate: Gate, http2: bool):
    told = Told()
    sent: list[Any] = []

    def answer(ws: Any, message: Any) -> None:
        gate(None)
        sent.append((ws.open, ws.send("too late")))

    ws = open_one(serve(told.router(on_message=answer), workers=2), http2)
    ws.send_last("a", "b")
    gate.wait()
    assert ws.read_close() == (1000, "")
    gate.open.set()
    assert told.wait("close")[1:] == (1000, "bye", True)
    assert told.names == ["open", "message", "message", "close"]
    assert [is_open for is_open, _ in sent] == [False, False]


@HTTP_VERSIONS
def test_close_of_the_handler_ends_the_wait(serve, http2: bool):
    told = Told()
    never = threading.Event()

    def leave(ws: Any, message: Any) -> None:
        ws.send("last")
        ws.close(4000, "enough")
        never.wait(10)

    running = serve(told.router(on_message=leave), workers=2)
    ws = open_one(running, http2)
    ws.send_last("a")
    assert ws.read() == "last"
    assert ws.read_frame().opcode == CLOSE
    never.set()
    assert told.wait("close")[1] == 4000


def test_client_that_closes_its_side_behind_its_close_frame_is_answered(serve, gate: Gate):
    ws = dial(serve(Told().router(on_message=gate_then_echo(gate)), workers=2))
    ws.send_last("a")
    ws.raw.finish()
    gate.wait()
    gate.open.set()
    assert ws.read() == "a" and ws.read_close() == (1000, "")


def test_client_that_is_gone_behind_its_close_frame_has_closed_cleanly(serve, gate: Gate):
    told = Told()
    running = serve(told.router(on_message=gate_then_echo(gate)), workers=2)
    ws = dial(running)
    ws.send_last("a")
    gate.wait()
    ws.raw.reset()
    gate.open.set()
    assert told.wait("close")[1:] == (1000, "bye", True)
    eventually(lambda: running.server.stats()["websockets_open"] == 0)


def test_server_that_stops_lets_the_answer_go_first(serve, gate: Gate):
    told = Told()
    running = serve(told.router(on_message=gate_then_echo(gate)), workers=2)
    ws = dial(running)
    ws.send_last("a")
    gate.wait()
    stop = threading.Thread(target=running.server.stop)
    stop.start()
    eventually(lambda: running.server.stopping.is_set())
    gate.open.set()
    assert ws.read() == "a" and ws.read_close() == (1000, "")
    stop.join(10)
    assert told.wait("close")[1:] == (1000, "bye", True)


@HTTP_VERSIONS
def test_blocking_handler_answers_before_the_close_frame(serve, http2: bool):
    ended = threading.Event()

    def handler(ws: Any) -> None:
        for message in ws:
            ws.send(message.text)
        ended.set()

    ws = open_one(serve(sockets(handler, blocking=True)), http2)
    ws.send_last("a", "b", "c")
    assert [ws.read() for _ in range(3)] == ["a", "b", "c"]
    assert ws.read_close() == (1000, "")
    assert ended.wait(10)


def test_blocking_handler_that_takes_no_messages_keeps_no_close_frame(serve, gate: Gate):
    ws = dial(serve(sockets(lambda ws: gate(ws), blocking=True)))
    gate.wait()
    assert ws.close() == (1000, "")
