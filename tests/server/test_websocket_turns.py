"""Who is told when: one call at a time for each socket, all of them in turn, and no more read than is worked off."""

import socket
import threading
from typing import Any

import pytest

from tests.server.waiting import Gate, eventually
from tests.server.websocketing import BINARY, PING, PONG, TEXT, Pusher, Told, dial, frame, memory_bytes, sockets
from ushabti import Router


class Alone:
    """A handler that notes when it is called while it is being called, and echoes."""

    together: list[str]
    pause: threading.Event | None = None

    def __init__(self) -> None:
        self._inside = 0

    def on_open(self, ws):
        self._call(ws)

    def on_message(self, ws, message):
        self._call(ws)
        ws.send(message)

    def on_close(self, ws, code, reason):
        self._call(ws)

    def _call(self, ws) -> None:
        self._inside += 1
        if self._inside != 1:
            self.together.append(f"{ws} is called {self._inside} times at once")
        if self.pause is not None:
            # Set by nobody: it is how a handler takes its time.
            self.pause.wait(0.002)
        sum(range(50))
        self._inside -= 1


def alone(pause: threading.Event | None = None) -> type[Alone]:
    return type("Own", (Alone,), {"together": [], "pause": pause})


def test_handler_that_sleeps_is_not_called_again_before_it_returns(serve):
    handler = alone(threading.Event())
    running = serve(sockets(handler), workers=8)
    clients = [dial(running) for _ in range(4)]
    for number in range(20):
        for ws in clients:
            ws.send(str(number))
    for ws in clients:
        assert [ws.read() for _ in range(20)] == [str(number) for number in range(20)]
        ws.close()
    running.stop()
    assert handler.together == []


@pytest.mark.stress
@pytest.mark.time_limit(600)
@pytest.mark.usefixtures("hectic")
def test_one_call_at_a_time_and_in_order_however_threads_change(serve, effort: int):
    handler = alone()
    running = serve(sockets(handler), workers=8)
    clients = [dial(running) for _ in range(8)]
    for turn in range(5 * effort):
        messages = [f"{turn} {number}" for number in range(50)]
        for ws in clients:
            ws.send(*messages)
        for ws in clients:
            assert [ws.read() for _ in messages] == messages
    for ws in clients:
        ws.close()
    running.stop()
    assert handler.together == []


def test_sockets_are_spread_over_the_pool(serve):
    meeting = threading.Barrier(4)
    threads: set[str] = set()

    class Handler:
        def on_message(self, ws, message):
            meeting.wait(10)
            threads.add(threading.current_thread().name)
            ws.send("met")

    running = serve(sockets(Handler), workers=4)
    clients = [dial(running) for _ in range(4)]
    for ws in clients:
        ws.send("meet")
    assert [ws.read() for ws in clients] == ["met"] * 4
    assert len(threads) == 4 and all(name.startswith("ushabti-worker-") for name in threads)


def test_socket_that_rests_holds_no_worker(serve, told: Told):
    router = told.router(on_message=lambda ws, message: ws.send(message))
    router.get("/hello", lambda request: "hello")
    running = serve(router, workers=1)
    resting = [dial(running) for _ in range(50)]
    told.wait("open", 50)
    assert running.get("/hello").body == b"hello"
    resting[0].send("still here")
    assert resting[0].read() == "still here"
    assert running.server.stats()["websockets_open"] == 50


@pytest.fixture
def told() -> Told:
    return Told()


class Flood(threading.Thread):
    """Sends the same message without end, until it is stopped or cannot."""

    def __init__(self, ws: Any, payload: bytes) -> None:
        super().__init__()
        self._ws, self._data = ws, frame(TEXT, payload) * 20
        self.halt = threading.Event()

    def run(self) -> None:
        try:
            while not self.halt.is_set():
                self._ws.raw.send(self._data)
        except OSError:
            pass  # The end of the test.


@pytest.mark.parametrize("workers", [1, 4])
def test_socket_that_chatters_without_end_does_not_starve_the_others(serve, workers: int):
    heard = threading.Semaphore(0)

    class Handler:
        def on_message(self, ws, message):
            if message.text == "chatter":
                heard.release()
            else:
                ws.send(message)

    router = sockets(Handler)
    router.get("/hello", lambda request: "hello")
    running = serve(router, workers=workers)
    chatty = dial(running)
    flood = Flood(chatty, b"chatter")
    flood.start()
    try:
        for _ in range(1000):
            assert heard.acquire(timeout=10)
        quiet = dial(running)
        for number in range(20):
            quiet.send(str(number))
            assert quiet.read() == str(number)
            assert running.get("/hello").body == b"hello"
        # It was heard all the while.
        while heard.acquire(blocking=False):
            pass
        assert heard.acquire(timeout=10)
    finally:
        flood.halt.set()
        chatty.raw.reset()
        flood.join()


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("size", [10, 60_000])
def test_client_that_sends_to_a_handler_that_hangs_is_not_read_from(serve, gate: Gate, size: int, blocking: bool):
    counts: list[int] = [0]
    last: list[Any] = []
    ended = threading.Event()

    def take(message: Any) -> None:
        if not counts[0]:
            gate(message)
        counts[0] += 1
        if message.is_text:
            last.append(message.text)

    class Handler:
        def on_message(self, ws, message):
            take(message)

        def on_close(self, ws, code, reason):
            ended.set()

    def loop(ws):
        for message in ws:
            take(message)
        ended.set()

    running = serve(sockets(loop if blocking else Handler, blocking=blocking))
    # What the system holds for the client is worked off in the end, message by message; so that it is little.
    ws = dial(running, timeout=30)
    ws.raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    per_push = max(1, 60_000 // size)
    one = frame(BINARY, b"x" * size)
    pusher = Pusher(ws, one * per_push)
    # The first message, whatever the system's buffers hold of the others.
    assert not pusher.push(len(one))
    gate.wait()
    before = memory_bytes()
    assert pusher.push(512 * 2**20), "the server reads on though nobody takes what it has read"
    assert memory_bytes() - before < 16 * 2**20
    # The others are served meanwhile.
    other = dial(running)
    assert other.answer.status == 101
    gate.open.set()
    sent = pusher.finish() * per_push
    ws.send("the last")
    ws.close()
    assert ended.wait(30)
    assert (counts[0], last) == (sent + 1, ["the last"])


def test_handler_that_hangs_gets_what_was_sent_when_it_goes_on_and_the_close(serve, gate: Gate, told: Told):
    def on_message(ws, message):
        if message.data == "hang":
            gate(message)

    running = serve(told.router(on_message=on_message))
    ws = dial(running)
    ws.send("hang", "more", "and more")
    gate.wait()
    ws.raw.send(frame(PING, b"there?"))
    # The IO thread answers and finishes the closing while the handler hangs.
    assert ws.read_frame().payload == b"there?"
    assert ws.close(4000, b"bored") == (4000, "")
    assert told.names == ["open", "message"]
    gate.open.set()
    told.wait("close")
    assert told.names == ["open", "message", "message", "message", "close"]
    assert told.all[-1] == ("close", 4000, "bored", True)


def test_answers_of_the_io_thread_do_not_wait_for_a_handler_that_works_off_its_messages(serve, told: Told):
    # Set by nobody: it is how a handler takes its time.
    pause = threading.Event()
    running = serve(told.router(on_message=lambda ws, message: pause.wait(0.001)))
    for number in range(1, 21):
        ws = dial(running)
        ws.send(*["work"] * 10)
        told.wait("message", 10 * number - 9)
        ws.raw.send(frame(PING, b"there?"))
        assert ws.read_frame() == (PONG, b"there?", True, 0)
        assert ws.close() == (1000, "")
        assert told.wait("close", number) == ("close", 1000, "", True)
    assert told.names.count("message") == 200


def test_handlers_that_hang_do_not_stop_the_others(serve, gate: Gate):
    class Handler:
        def on_message(self, ws, message):
            if message.text == "hang":
                gate(message)
            ws.send(message)

    running = serve(sockets(Handler))
    hanging = [dial(running) for _ in range(10)]
    for ws in hanging:
        ws.send("hang")
    gate.wait(10)
    for number in range(10):
        ws = dial(running)
        ws.send(str(number))
        assert ws.read() == str(number)
    gate.open.set()
    assert [ws.read() for ws in hanging] == ["hang"] * 10


HOLD = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"


def test_full_queue_of_requests_does_not_lose_events(serve, gate: Gate):
    router = Router()
    told = Told()
    router.websocket("/ws", told.handler())
    router.get("/hold", gate)
    running = serve(router, workers=1, max_queue=2)
    clients = [dial(running, "/ws") for _ in range(3)]
    told.wait("open", 3)
    held = [running.connect() for _ in range(3)]
    held[0].send(HOLD)
    gate.wait()
    held[1].send(HOLD)
    held[2].send(HOLD)
    eventually(lambda: running.server.stats()["queue_waiting"] == 2)
    assert running.ask(HOLD).status == 503
    for ws in clients:
        ws.send(*(str(number) for number in range(10)))
    for ws in clients:
        assert ws.close() == (1000, "")
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200] * 3
    told.wait("close", 3)
    assert told.names.count("message") == 30
