"""Sending to a WebSocket: from any thread, at any time, and what becomes of it when the client does not read."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.waiting import Log, eventually
from tests.server.websocketing import CLOSE, PING, Dialled, Pusher, Told, dial, frame, sockets
from ushabti import Message, Router

# What a client that does not read leaves to the system: its own buffers are no part of the outbox.
SYSTEM_BYTES_MAX = 32 * 2**20


@pytest.fixture
def told() -> Told:
    return Told()


def echo() -> Router:
    class Echo:
        def on_message(self, ws, message):
            ws.send(message)

    return sockets(Echo)


@pytest.mark.parametrize(
    "data", ["", "grüß 🏺", b"", b"\0\xff", "x" * 70_000, b"x" * 2**20], ids=lambda data: len(data)
)
def test_message_is_echoed_as_what_it_is(serve, data: str | bytes):
    ws = dial(serve(echo()))
    ws.send(data)
    assert ws.read() == data


def test_message_tells_what_it_is(serve):
    seen: list[Any] = []

    class Handler:
        def on_message(self, ws, message):
            assert type(message) is Message
            seen.append((message.data, message.is_text, message.bytes, len(message), repr(message)))
            try:
                seen.append((message.text, message.json()))
            except ValueError as problem:
                seen.append(type(problem))

    ws = dial(serve(sockets(Handler)))
    ws.send('["ü"]', b"[1]", b"\xff", "{")
    eventually(lambda: len(seen) == 8)
    assert seen[:4] == [
        ('["ü"]', True, '["ü"]'.encode(), 6, "<Message text, 6 bytes>"),
        ('["ü"]', ["ü"]),
        (b"[1]", False, b"[1]", 3, "<Message binary, 3 bytes>"),
        ("[1]", [1]),
    ]
    assert seen[4][:3] == (b"\xff", False, b"\xff") and issubclass(seen[5], ValueError)
    assert seen[6][0] == "{" and issubclass(seen[7], ValueError)


def test_everything_that_may_be_sent(serve, told: Told):
    ws = dial(serve(told.router()))
    socket = told.socket()
    for data in ("text", b"bytes", bytearray(b"array"), memoryview(b"view")[1:3]):
        assert socket.send(data) is True
    assert socket.send_json({"a": ["ü", None]}) is True
    assert socket.ping(b"there?") is True and socket.ping("text") is True and socket.ping() is True
    assert [ws.read() for _ in range(4)] == ["text", b"bytes", b"array", b"ie"]
    assert ws.read() == '{"a":["ü",null]}'
    assert [ws.read_frame()[:2] for _ in range(3)] == [(PING, b"there?"), (PING, b"text"), (PING, b"")]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda ws: ws.send(5), TypeError),
        (lambda ws: ws.send(None), TypeError),
        (lambda ws: ws.send(["a"]), TypeError),
        (lambda ws: ws.send("\ud800"), UnicodeEncodeError),
        (lambda ws: ws.send_json(object()), TypeError),
        (lambda ws: ws.send("x", wait=-1), ValueError),
        (lambda ws: ws.send("x", wait=float("nan")), ValueError),
        (lambda ws: ws.ping(b"x" * 126), ValueError),
        (lambda ws: ws.ping(5), TypeError),
        (lambda ws: ws.close(-1), ValueError),
        (lambda ws: ws.close(0), ValueError),
        (lambda ws: ws.close(999), ValueError),
        (lambda ws: ws.close(1005), ValueError),
        (lambda ws: ws.close(1006), ValueError),
        (lambda ws: ws.close(1015), ValueError),
        (lambda ws: ws.close(2000), ValueError),
        (lambda ws: ws.close(5000), ValueError),
        (lambda ws: ws.close(70_000), ValueError),
        (lambda ws: ws.close(1000, "ü" * 62), ValueError),
        (lambda ws: ws.receive(), RuntimeError),
        (lambda ws: next(iter(ws)), RuntimeError),
        (lambda ws: setattr(ws, "name", "mine"), AttributeError),
    ],
)
def test_what_cannot_be_is_refused_and_costs_nothing(
    serve, told: Told, call: Callable[[Any], object], problem: type[Exception]
):
    ws = dial(serve(told.router()))
    socket = told.socket()
    with pytest.raises(problem):
        call(socket)
    assert socket.open and socket.send("still open")
    assert ws.read() == "still open"


def test_longest_reason_is_counted_in_bytes(serve, told: Told):
    ws = dial(serve(told.router()))
    assert told.socket().close(4000, "ü" * 61 + "x") is True
    assert ws.read_close() == (4000, "ü" * 61 + "x")


def test_frames_of_many_threads_keep_their_order(serve, told: Told):
    # No echo is lost to a full outbox, however slowly this client reads: senders wait.
    ws = dial(serve(told.router(), websocket_overflow="wait"))
    socket = told.socket()
    refused: list[Any] = []

    def work(number: int) -> None:
        for turn in range(60):
            data: str | bytes = f"{number} {turn}" if turn % 3 else f"{number} {turn} ".encode() + b"x" * 50_000
            if not socket.send(data):
                refused.append(data)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    seen: dict[str, list[int]] = {}
    for _ in range(8 * 60):
        message = ws.read()
        text = message if isinstance(message, str) else message[:20].decode().rstrip("x")
        number, turn = text.split()
        assert isinstance(message, bytes) == (int(turn) % 3 == 0)
        seen.setdefault(number, []).append(int(turn))
    for thread in threads:
        thread.join()
    assert refused == []
    assert seen == {str(number): list(range(60)) for number in range(8)}


def upgrading(handler: Any, *, before: Callable[[Any], object], hold: threading.Event | None = None) -> Router:
    """A plain handler that upgrades, does something with the socket, and may stay a while."""
    router = Router()

    @router.get("/")
    def upgrade(request):
        ws = request.upgrade(handler())
        before(ws)
        if hold is not None:
            assert hold.wait(10)

    return router


def test_message_may_be_sent_before_open(serve, told: Told):
    hold = threading.Event()
    running = serve(
        upgrading(
            told.handler(on_open=lambda ws: ws.send("open")),
            before=lambda ws: (ws.send("before"), ws.subscribe("t")),
            hold=hold,
        )
    )
    ws = dial(running)
    assert ws.read() == "before"
    assert running.server.hub.publish("t", "by topic") == 1
    assert ws.read() == "by topic"
    ws.send("early")
    assert told.all == []
    hold.set()
    assert ws.read() == "open"
    told.wait("message")
    assert told.all == [("open",), ("message", "early")]


def test_socket_may_be_closed_before_open(serve, told: Told):
    hold = threading.Event()
    ws = dial(serve(upgrading(told.handler(), before=lambda ws: ws.close(4000, "no"), hold=hold)))
    hold.set()
    assert ws.read_close() == (4000, "no")
    told.wait("close")
    assert told.all == [("open",), ("close", 4000, "no", True)]


@pytest.mark.parametrize("end", ["client closes", "server closes", "reset"])
def test_send_to_a_closed_socket_is_false_and_never_raises(serve, told: Told, end: str):
    ws = dial(serve(told.router()))
    socket = told.socket()
    stop = threading.Event()
    problems: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                socket.send("text")
                socket.send(b"x" * 20_000)
                socket.send_json([1])
                socket.ping()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    ws.read_frame()
    if end == "client closes":
        ws.close()
    elif end == "server closes":
        socket.close(4000)
        while ws.read_frame().opcode != CLOSE:
            pass
        ws.raw.close()
    else:
        ws.raw.reset()
    told.wait("close")
    assert not any([socket.send("x"), socket.send(b"x" * 100_000), socket.send_json(1), socket.ping(), socket.open])
    assert not any([socket.close(), socket.subscribe("t"), socket.unsubscribe("t")])
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []


def test_sockets_are_members_of_sets_and_keys(serve, told: Told):
    running = serve(told.router())
    dial(running)
    dial(running)
    one, other = told.socket(1), told.socket(2)
    assert one == one and one != other and one.id != other.id and one != one.id
    assert len({one, other, one}) == 2 and {one: "a"}[one] == "a"
    assert f"<WebSocket {one.id} / open>" == repr(one)
    one.state["name"] = "Ani"
    assert (one.state, other.state) == ({"name": "Ani"}, {})


# ---- clients that do not read


def fill(socket: Any, data: bytes = b"x" * 65_536) -> int:
    """Sends until something is refused; returns how many bytes were taken."""
    taken = 0
    while socket.send(data):
        taken += len(data)
        assert taken < SYSTEM_BYTES_MAX, "nothing bounds what waits for a client"
    return taken


def test_full_outbox_closes_with_1013(serve, told: Told):
    ws = dial(serve(told.router(), websocket_outbox="256 KiB"))
    socket = told.socket()
    taken = fill(socket)
    assert not socket.open and socket.close_code == 1013
    assert socket.buffered <= 256 * 1024
    # What was taken is delivered, if the client comes to read, and then it is told why this was the end.
    for _ in range(taken // 65_536):
        assert ws.read() == b"x" * 65_536
    assert ws.read_close() == (1013, "too much waits to be read")
    assert told.wait("close") == ("close", 1013, "too much waits to be read", True)


def test_full_outbox_drops_where_that_is_wanted(serve, told: Told):
    ws = dial(serve(told.router(), websocket_outbox="256 KiB", websocket_overflow="drop"))
    socket = told.socket()
    count = fill(socket) // 65_536
    assert socket.open and 0 < socket.buffered <= 256 * 1024
    assert socket.send(b"x" * 65_536) is False
    for _ in range(count):
        assert ws.read() == b"x" * 65_536
    eventually(lambda: socket.buffered == 0)
    assert socket.send("room again") is True
    assert ws.read() == "room again"
    assert ws.close() == (1000, "")


def test_full_outbox_waits_where_that_is_wanted(serve, told: Told):
    ws = dial(serve(told.router(), websocket_outbox="256 KiB", websocket_overflow="wait"))
    socket = told.socket()
    sent: list[bool] = []
    count = SYSTEM_BYTES_MAX // 65_536

    def work() -> None:
        sent.extend(socket.send(number.to_bytes(4) + b"x" * 65_536) for number in range(count))

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: socket.buffered > 128 * 1024)
    for number in range(count):
        message = ws.read()
        assert isinstance(message, bytes) and message[:4] == number.to_bytes(4)
        assert socket.buffered <= 256 * 1024
    thread.join()
    assert sent == [True] * count
    assert ws.close() == (1000, "")


@pytest.mark.parametrize("overflow", ["close", "drop", "wait"])
def test_send_may_wait_for_room_for_a_while(serve, told: Told, overflow: str):
    ws = dial(serve(told.router(), websocket_outbox="128 KiB", websocket_overflow=overflow))
    socket = told.socket()
    data = b"x" * 65_536
    while socket.send(data, wait=0.2):
        pass
    # A time that was given drops, whatever the option says.
    assert socket.open
    began = time.monotonic()
    assert socket.send(data, wait=0.3) is False
    assert 0.3 <= time.monotonic() - began < 5
    sent: list[bool] = []
    thread = threading.Thread(target=lambda: sent.append(socket.send("last", wait=10)))
    thread.start()
    while (message := ws.read()) != "last":
        assert message == data
    thread.join()
    assert sent == [True]


def test_sender_that_waits_is_let_go_when_the_socket_closes(serve, told: Told):
    ws = dial(serve(told.router(), websocket_outbox="128 KiB"))
    socket = told.socket()
    while socket.send(b"x" * 65_536, wait=0.01):
        pass
    sent: list[bool] = []
    threads = [threading.Thread(target=lambda: sent.append(socket.send(b"x" * 65_536, wait=30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    ws.raw.reset()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    assert sent == [False] * 3
    assert time.monotonic() - began < 5
    assert told.wait("close")[1] == 1006


def test_message_longer_than_the_outbox_is_sent_when_nothing_waits(serve, told: Told):
    ws = dial(serve(told.router(), websocket_outbox="64 KiB"))
    socket = told.socket()
    data = b"x" * 20 * 2**20
    assert socket.send(data) is True
    assert ws.read() == data
    assert socket.open


def test_client_that_takes_nothing_is_cut_after_the_write_timeout(serve, told: Told, log: Log):
    ws = dial(serve(told.router(), write_timeout=0.3, websocket_overflow="drop"))
    socket = told.socket()
    # More than once, as the system's buffers may grow meanwhile and take what waits.
    eventually(lambda: fill(socket) == 0 and not socket.open)
    _, code, _, clean = told.wait("close")
    assert (code, clean) == (1006, False)
    assert told.names == ["open", "error", "close"]
    assert told.wait("error")[1].code == 1006 and "took no byte for" in told.wait("error")[1].reason
    assert log.wait("took no byte for").levelname == "INFO"
    assert not socket.open and not socket.send("x")
    with pytest.raises((EOFError, ConnectionResetError)):
        read_on(ws)


def read_on(ws: Dialled) -> None:
    while True:
        ws.read_frame()


def test_client_that_pings_and_does_not_read_is_not_read_from(serve, told: Told):
    running = serve(told.router(), websocket_outbox="64 KiB")
    ws = dial(running)
    told.socket()
    assert Pusher(ws, frame(PING, b"x" * 125) * 500).push(8 * SYSTEM_BYTES_MAX), "pongs are heaped up without end"
    assert running.get("/none").status == 404
    ws.raw.reset()
    told.wait("close")
