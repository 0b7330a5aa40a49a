"""Stopping: whatever was accepted is answered, under a bound, and what is cut is logged."""

import contextlib
import logging
import signal
import socket
import threading
import time

import pytest

from tests.server.process import Process
from tests.server.waiting import Gate, Log, eventually
from tests.support import BadAnswer, Raw, Running
from ushabti.errors import ServerStateError
from ushabti.routing import Router

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Stopping:
    """A stop that runs beside the test."""

    def __init__(self, running: Running, timeout: float = 10) -> None:
        self.is_clean: bool | None = None

        def stop() -> None:
            self.is_clean = running.server.stop(timeout)

        self._thread = threading.Thread(target=stop)
        self._thread.start()
        # When nobody can connect any more, the drain has begun.
        eventually(lambda: running.server.stopping.is_set() and not can_connect(running.port))

    def result(self) -> bool | None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.is_clean


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def test_running_request_is_answered_and_told_that_the_connection_closes(serve, gate: Gate):
    running = serve(gate)
    with running.connect() as raw:
        raw.send(GET)
        gate.wait()
        stopping = Stopping(running)
        gate.open.set()
        answer = raw.read_response()
        assert (answer.body, answer.field("connection")) == (b"let go", "close")
        assert raw.read_all() == b""
    assert stopping.result() is True


def test_queued_requests_are_answered(serve, gate: Gate):
    running = serve(gate, workers=1)
    connections = [running.connect() for _ in range(20)]
    for raw in connections:
        raw.send(GET)
    gate.wait()
    eventually(lambda: running.server.stats()["queue_waiting"] == 19)
    stopping = Stopping(running)
    gate.open.set()
    for raw in connections:
        answer = raw.read_response()
        assert (answer.body, answer.field("connection")) == (b"let go", "close")
        raw.close()
    assert stopping.result() is True


def test_pipelined_requests_are_answered(serve, gate: Gate):
    running = serve(gate)
    with running.connect() as raw:
        raw.send(GET * 3)
        gate.wait()
        stopping = Stopping(running)
        gate.open.set()
        answers = [raw.read_response() for _ in range(3)]
        assert [answer.body for answer in answers] == [b"let go"] * 3
        assert [answer.field("connection") for answer in answers] == [None, None, "close"]
        assert raw.read_all() == b""
    assert stopping.result() is True


def test_client_that_pipelines_without_end_does_not_hold_up_the_stop(serve):
    running = serve(lambda request: "hello")
    # So large that the server has read dozens of them when it is stopped, and not thousands: each waits for a worker.
    large = GET.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 4000 + b"\r\n\r\n")
    with running.connect() as raw:
        stop = threading.Event()

        def flood() -> None:
            try:
                while not stop.is_set():
                    raw.send(large)
            except OSError:
                pass  # The end that is waited for.

        def drink() -> None:
            try:
                while raw.socket.recv(65_536):
                    pass
            except OSError:
                pass

        threads = [threading.Thread(target=flood), threading.Thread(target=drink)]
        for thread in threads:
            thread.start()
        eventually(lambda: running.server.stats()["answers"]["2xx"] > 100)
        began = time.monotonic()
        # What was read before the stop is owed an answer; what comes after it is not, or the stop would have no end.
        is_clean = running.server.stop(20)
        took = time.monotonic() - began
        stop.set()
        with contextlib.suppress(OSError):
            raw.socket.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
    assert is_clean is True, f"cut after {took:.1f} s"


def test_request_whose_bytes_are_on_their_way_is_answered(serve):
    running = serve(lambda request: request.body)
    with running.connect() as begun, running.connect() as fresh:
        begun.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
        eventually(lambda: running.server.stats()["connections_open"] == 2)
        stopping = Stopping(running)
        # One is in the middle of its request; the other has connected before the stop and says something only now.
        fresh.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfresh")
        assert fresh.read_response().body == b"fresh"
        begun.send(b"dy")
        answer = begun.read_response()
        assert (answer.body, answer.field("connection")) == (b"body", "close")
    assert stopping.result() is True


def test_stream_that_has_begun_is_finished(serve):
    go_on = threading.Event()

    def handler(request):
        yield "one,"
        assert go_on.wait(10)
        yield "two"

    running = serve(handler)
    with running.connect() as raw:
        raw.send(GET)
        eventually(lambda: running.server.stats()["requests_dispatched"] == 1)
        stopping = Stopping(running)
        go_on.set()
        assert raw.read_response().body == b"one,two"
        assert raw.read_all() == b""
    assert stopping.result() is True


def test_resting_connections_are_closed_soon(serve):
    running = serve(lambda request: "hello")
    connections = [running.connect() for _ in range(50)]
    for raw in connections[:25]:
        raw.send(GET)
        assert raw.read_response().status == 200
    eventually(lambda: running.server.stats()["connections_open"] == 50)
    began = time.monotonic()
    stopping = Stopping(running)
    assert [raw.read_all() for raw in connections] == [b""] * 50
    assert stopping.result() is True
    assert time.monotonic() - began < 5


def test_handler_that_does_not_end_is_cut_at_the_timeout_and_logged(serve, gate: Gate, log: Log):
    running = serve(gate)
    with running.connect() as raw:
        raw.send(GET)
        gate.wait()
        began = time.monotonic()
        assert running.server.stop(0.3) is False
        assert 0.3 <= time.monotonic() - began < 5
        with pytest.raises(EOFError):
            raw.read_response()
    assert log.wait("stopped before all was served: 1 connections cut, 0 requests never begun").levelname == "WARNING"
    assert log.wait("is still in a handler; it is left behind").levelname == "WARNING"


def test_requests_that_no_worker_takes_before_the_timeout_are_counted(serve, gate: Gate, log: Log):
    running = serve(gate, workers=1)
    connections = [running.connect() for _ in range(5)]
    for raw in connections:
        raw.send(GET)
    gate.wait()
    eventually(lambda: running.server.stats()["queue_waiting"] == 4)
    assert running.server.stop(0.2) is False
    log.wait("stopped before all was served: 5 connections cut, 4 requests never begun")
    for raw in connections:
        with pytest.raises(EOFError):
            raw.read_response()
    gate.open.set()
    eventually(lambda: running.server.stats()["workers"] == 0)
    # The one that was running is the only one that ever ran.
    assert not gate.entered.acquire(blocking=False)


def test_slow_reader_is_waited_for(serve):
    size = 2**24
    running = serve(lambda request: b"x" * size)
    with running.connect() as raw:
        raw.send(GET)
        raw.socket.recv(1)
        stopping = Stopping(running)
        time.sleep(0.3)
        assert stopping.is_clean is None
        rest = raw.read_all()
        assert rest.count(b"x") >= size - 1
    assert stopping.result() is True


def test_stop_by_many_threads_is_one_stop(serve):
    running = serve(lambda request: "hello")
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(running.server.stop(5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


class Client(threading.Thread):
    """Sends request after request until the server is gone, and keeps an account.

    What must hold for each connection: every request that was sent completely has a complete answer, up to the answer
    that says ``Connection: close``; after that one the connection ends, and the client makes another. A connection may
    end without any answer only if no byte of it was ever read: the system completes connects by itself and drops those
    that wait in its queue when the listener closes, and one that was accepted is waited for only so long. A request
    that was read and not answered shows in the server's own count.
    """

    def __init__(self, port: int, depth: int) -> None:
        super().__init__()
        self._port, self._depth = port, depth
        self.connections_answered = 0
        self.connections_unanswered = 0
        self.answers = 0
        self.problems: list[str] = []

    def run(self) -> None:
        while True:
            try:
                raw = Raw(("127.0.0.1", self._port))
            except OSError:
                return
            with raw:
                self._converse(raw)

    def _converse(self, raw: Raw) -> None:
        answered = 0
        try:
            while True:
                raw.send(GET * self._depth)
                for _ in range(self._depth):
                    answer = raw.read_response()
                    self.answers += 1
                    self.connections_answered += not answered
                    answered += 1
                    if answer.body != b"hello":
                        self.problems.append(f"answered {answer}")
                    if answer.field("connection") == "close":
                        return
        except (OSError, EOFError, BadAnswer) as problem:
            if answered or isinstance(problem, BadAnswer | TimeoutError):
                self.problems.append(f"after {answered} answers on a connection: {problem!r}")
            self.connections_unanswered += not answered


@pytest.mark.parametrize("depth", [1, 4], ids=["one by one", "pipelined"])
def test_no_request_is_lost_when_a_loaded_server_stops(serve, depth: int):
    def handler(request):
        time.sleep(0.001)
        return "hello"

    running = serve(handler)
    clients = [Client(running.port, depth) for _ in range(16)]
    for client in clients:
        client.start()
    eventually(lambda: running.server.stats()["answers"]["2xx"] > 500)
    assert running.server.stop(10) is True
    for client in clients:
        client.join(20)
    assert [problem for client in clients for problem in client.problems] == []
    stats = running.server.stats()
    assert sum(client.answers for client in clients) == stats["answers"]["2xx"] == stats["requests_dispatched"]
    answered = sum(client.connections_answered for client in clients)
    unanswered = sum(client.connections_unanswered for client in clients)
    assert answered <= stats["connections_accepted"] <= answered + unanswered
    assert stats["answers"]["discarded"] == 0
    assert stats["connections_open"] == 0


def test_connections_that_wait_to_be_accepted_are_served(serve):
    router = Router()
    router.get("/", lambda request: "hello")
    running = serve(router)
    # A burst of clients that have connected, so far as they can tell, in the moment of the stop.
    connections = [running.connect() for _ in range(300)]
    stop = threading.Thread(target=running.server.stop)
    stop.start()
    for raw in connections:
        raw.send(GET)
    assert [raw.read_response().body for raw in connections] == [b"hello"] * 300
    for raw in connections:
        raw.close()
    stop.join(10)


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_signal_stops_when_everything_is_answered(number: int):
    with Process() as process, process.connect() as raw:
        raw.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        assert process.read() == {"held": True}
        process.signal(number)
        eventually(lambda: not can_connect(process.port))
        assert process.process.poll() is None
        process.let_go()
        answer = raw.read_response()
        assert (answer.body, answer.field("connection")) == (b"let go", "close")
        raw.close()
        assert process.read() == {"clean": True}
        assert process.wait() == 0
        assert f"{signal.Signals(number).name}: stopping" in process.log


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_second_signal_stops_at_once(second: int):
    with Process() as process, process.connect() as raw:
        raw.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        assert process.read() == {"held": True}
        process.signal(signal.SIGTERM)
        eventually(lambda: not can_connect(process.port))
        began = time.monotonic()
        process.signal(second)
        assert process.read() == {"clean": False}
        assert process.wait() == 0
        assert time.monotonic() - began < 8
        with pytest.raises((EOFError, ConnectionResetError)):
            raw.read_response()
        assert "1 connections cut" in process.log


def test_signal_to_a_server_at_rest_ends_it_soon():
    with Process() as process, process.connect() as raw:
        raw.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.read_response().body == b"hello"
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < 5
        assert raw.read_all() == b""


def test_a_handler_of_logging_may_not_stop_the_server_whose_log_it_writes(serve):
    problems: list[BaseException] = []
    told = threading.Event()

    class Stopper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                running.server.stop()
            except BaseException as problem:
                problems.append(problem)
            told.set()

    running = serve(lambda request: "hello", access_log="text", admin="127.0.0.1:0")
    stopper = Stopper()
    logging.getLogger("ushabti.access").addHandler(stopper)
    try:
        assert running.get("/").body == b"hello"
        assert told.wait(10)
    finally:
        logging.getLogger("ushabti.access").removeHandler(stopper)
    assert [type(problem) for problem in problems] == [ServerStateError]
    assert running.get("/").body == b"hello"
