"""Compressed messages (RFC 7692): what is agreed on, what is understood, and what is not inflated."""

import os
import threading
import zlib
from typing import Any

import pytest

from tests.server.websocketing import BINARY, CONTINUATION, PING, TEXT, Dialled, Told, dial, frame
from tests.support import Running

RSV1 = 4
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
LONG = "Here I am, said the shabti. " * 100


@pytest.fixture
def told() -> Told:
    return Told()


def deflate(data: bytes, bits: int = 15) -> bytes:
    """A message as it is sent (section 7.2.1): deflated, flushed, and without the four bytes that a flush ends in."""
    compressor = zlib.compressobj(9, wbits=-bits)
    deflated = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert deflated.endswith(b"\0\0\xff\xff")
    return deflated[:-4]


def inflate(payload: bytes, bits: int = 15) -> bytes:
    """The opposite (section 7.2.2), with nothing known of earlier messages."""
    inflater = zlib.decompressobj(wbits=-bits)
    return inflater.decompress(payload + b"\0\0\xff\xff")


def read(ws: Dialled, bits: int = 15) -> str | bytes:
    """The next message, compressed or not."""
    got = ws.read_frame()
    assert got.fin and got.rsv in (0, RSV1) and got.opcode in (TEXT, BINARY), got
    data = inflate(got.payload, bits) if got.rsv else got.payload
    return data.decode() if got.opcode == TEXT else data


def echo(serve: Any, told: Told, **options: Any) -> Running:
    return serve(told.router(on_message=lambda ws, message: ws.send(message)), websocket_compress=True, **options)


def extension(ws: Dialled) -> dict[str, str]:
    """The parameters that were agreed on."""
    name, *parameters = (ws.answer.field("sec-websocket-extensions") or "").split("; ")
    assert name == "permessage-deflate"
    return dict((*parameter.split("="), "")[:2] for parameter in parameters)  # type: ignore[misc]


def test_nothing_is_compressed_unless_both_sides_want_it(serve, told: Told):
    off = serve(told.router())
    assert dial(off, "/", OFFER).answer.field("sec-websocket-extensions") is None
    running = echo(serve, told)
    ws = dial(running)
    assert ws.answer.field("sec-websocket-extensions") is None
    ws.send(LONG)
    assert ws.read() == LONG
    # RSV1 has no meaning here (RFC 6455 section 5.2).
    ws.raw.send(frame(TEXT, deflate(b"x"), rsv=RSV1))
    assert ws.read_close()[0] == 1002


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        ("permessage-deflate", {}),
        ("permessage-deflate; client_max_window_bits", {}),
        ("permessage-deflate; client_max_window_bits=10", {"client_max_window_bits": "10"}),
        ("permessage-deflate; server_max_window_bits=10", {"server_max_window_bits": "10"}),
        ("permessage-deflate; server_max_window_bits=15", {"server_max_window_bits": "15"}),
        ('permessage-deflate; server_max_window_bits="9"', {"server_max_window_bits": "9"}),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", {}),
        ("x-unknown, permessage-deflate", {}),
        # The first that can be met: the ones before it are wrong, or ask for what cannot be.
        ("permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9", {"server_max_window_bits": "9"}),
        ("permessage-deflate; server_max_window_bits=16, permessage-deflate", {}),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", {}),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover, permessage-deflate", {}),
    ],
)
def test_offer_is_met(serve, told: Told, offer: str, agreed: dict[str, str]):
    ws = dial(echo(serve, told), "/", f"Sec-WebSocket-Extensions: {offer}")
    parameters = extension(ws)
    assert parameters.pop("server_no_context_takeover") == ""
    assert parameters.pop("client_no_context_takeover", "") == ""
    assert parameters == agreed
    bits = int(agreed.get("server_max_window_bits", "15"))
    ws.raw.send(frame(TEXT, deflate(LONG.encode(), int(agreed.get("client_max_window_bits", "15"))), rsv=RSV1))
    assert read(ws, bits) == LONG


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=016",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-bzip2",
    ],
)
def test_offer_that_cannot_be_met_is_declined(serve, told: Told, offer: str):
    ws = dial(echo(serve, told), "/", f"Sec-WebSocket-Extensions: {offer}")
    assert ws.answer.field("sec-websocket-extensions") is None
    ws.send("plain")
    assert ws.read() == "plain"


@pytest.mark.parametrize("data", ["", "a", "grüß 🏺", LONG, b"", b"\0" * 10_000, os.urandom(5000)], ids=len)
def test_message_goes_both_ways(serve, told: Told, data: str | bytes):
    ws = dial(echo(serve, told), "/", OFFER)
    raw = data.encode() if isinstance(data, str) else data
    opcode = TEXT if isinstance(data, str) else BINARY
    for _ in range(3):
        ws.raw.send(frame(opcode, deflate(raw), rsv=RSV1))
        assert read(ws) == data
    # Each message may be compressed or not (section 6).
    ws.raw.send(frame(opcode, raw))
    assert read(ws) == data


def test_long_message_is_sent_compressed(serve, told: Told):
    ws = dial(echo(serve, told), "/", OFFER)
    ws.send(LONG)
    got = ws.read_frame()
    assert (got.rsv, got.fin) == (RSV1, True) and len(got.payload) < len(LONG) / 10
    assert inflate(got.payload).decode() == LONG


def test_fragments_are_inflated_together(serve, told: Told):
    ws = dial(echo(serve, told), "/", OFFER)
    deflated = deflate(LONG.encode())
    parts = [deflated[at : at + 7] for at in range(0, len(deflated), 7)]
    data = frame(TEXT, parts[0], rsv=RSV1, fin=False)
    for part in parts[1:]:
        data += frame(CONTINUATION, part, fin=False) + frame(PING)
    ws.raw.send(data + frame(CONTINUATION))
    while (got := ws.read_frame()).opcode not in (TEXT, BINARY):
        pass
    assert inflate(got.payload).decode() == LONG


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(TEXT, fin=False) + frame(CONTINUATION, b"x", rsv=RSV1), 1002, id="RSV1 on a continuation"),
        pytest.param(frame(PING, b"x", rsv=RSV1), 1002, id="RSV1 on a ping"),
        pytest.param(frame(TEXT, b"x", rsv=2), 1002, id="RSV2"),
        pytest.param(frame(TEXT, b"\xff\xff\xff\xff", rsv=RSV1), 1007, id="no deflate"),
        pytest.param(frame(BINARY, deflate(b"x" * 1000)[:-2], rsv=RSV1), 1007, id="cut off"),
        pytest.param(frame(TEXT, deflate(b"\xff"), rsv=RSV1), 1007, id="text that is no UTF-8"),
        pytest.param(frame(TEXT, deflate("ü".encode()[:1]), rsv=RSV1), 1007, id="text that ends in a character"),
        pytest.param(frame(BINARY, deflate(b"\0" * 10_001), rsv=RSV1), 1009, id="too long inflated"),
        pytest.param(frame(BINARY, deflate(b"\0" * 50_000_000), rsv=RSV1), 1009, id="bomb"),
        pytest.param(
            frame(BINARY, deflate(b"\0" * 12_000)[:10], rsv=RSV1, fin=False)
            + frame(CONTINUATION, deflate(b"\0" * 12_000)[10:]),
            1009,
            id="too long in fragments",
        ),
        pytest.param(frame(BINARY, length=1_000_000, rsv=RSV1), 1009, id="too long as it is"),
    ],
)
def test_fault_fails_the_connection(serve, told: Told, data: bytes, code: int):
    ws = dial(echo(serve, told, max_message=10_000), "/", OFFER)
    ws.raw.send(data)
    assert ws.read_close(answer=False)[0] == code
    assert told.wait("error")[1].code == code
    assert told.wait("close")[1] == code
    assert told.names == ["open", "error", "close"]


def test_inflated_message_at_the_limit_is_delivered(serve, told: Told):
    ws = dial(echo(serve, told, max_message=10_000), "/", OFFER)
    ws.raw.send(frame(BINARY, deflate(b"\0" * 10_000), rsv=RSV1))
    assert read(ws) == b"\0" * 10_000


def test_one_publish_serves_every_kind_of_subscriber(serve, told: Told):
    running = serve(told.router(on_open=lambda ws: ws.subscribe("a") and ws.send("in")), websocket_compress=True)
    clients = [
        (dial(running), 15),
        (dial(running, "/", OFFER), 15),
        (dial(running, "/", OFFER), 15),
        (dial(running, "/", f"{OFFER}; server_max_window_bits=9"), 9),
    ]
    for ws, bits in clients:
        assert read(ws, bits) == "in"
    for text in (LONG, "short", LONG[::-1]):
        assert running.server.hub.publish("a", text) == 4
        for ws, bits in clients:
            assert read(ws, bits) == text


def test_many_threads_send_compressed(serve, told: Told):
    ws = dial(echo(serve, told, websocket_overflow="wait"), "/", OFFER)
    socket = told.socket()

    def work(number: int) -> None:
        for turn in range(30):
            socket.send(f"{number} {turn} " + LONG)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    seen: dict[str, list[int]] = {}
    for _ in range(4 * 30):
        number, turn, rest = str(read(ws)).split(" ", 2)
        assert rest == LONG
        seen.setdefault(number, []).append(int(turn))
    for thread in threads:
        thread.join()
    assert seen == {str(number): list(range(30)) for number in range(4)}
