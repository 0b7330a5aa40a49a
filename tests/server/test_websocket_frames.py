"""Frames of clients, right and wrong (RFC 6455 sections 5 to 8): each fault fails the connection with its code."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.waiting import eventually
from tests.server.websocketing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Dialled,
    Frame,
    Told,
    close_frame,
    dial,
    frame,
    handshake,
)
from tests.support import Running
from ushabti import WebSocketError


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[Running, Told]]:
    """One server for all of the module: each test looks at its own connection."""
    told = Told()
    running = Running.start(told.router(on_message=lambda ws, message: ws.send(message)), max_message=100_000)
    yield running, told
    running.stop()


BEGUN = frame(TEXT, b"begun", fin=False)


def wrong() -> list[Any]:
    """Name, bytes, close code."""
    cases: list[tuple[str, bytes, int]] = []

    def add(code: int, name: str, data: bytes) -> None:
        cases.append((name, data, code))

    for rsv in (1, 2, 4, 7):
        add(1002, f"reserved bits {rsv}", frame(TEXT, b"x", rsv=rsv))
        add(1002, f"reserved bits {rsv} of a ping", frame(PING, b"x", rsv=rsv))
    for opcode in (*range(3, 8), *range(0xB, 0x10)):
        add(1002, f"opcode {opcode:#x}", frame(opcode, b"x"))
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
        add(1002, f"no mask on {opcode:#x}", frame(opcode, b"\x03\xe8", masked=False))
    add(1002, "no mask on a continuation", BEGUN + frame(CONTINUATION, b"x", masked=False))
    for opcode in (CLOSE, PING, PONG):
        add(1002, f"fragmented {opcode:#x}", frame(opcode, b"\x03\xe8", fin=False))
        add(1002, f"126 bytes in {opcode:#x}", frame(opcode, b"\x03\xe8" + b"x" * 124))
        add(1002, f"length of {opcode:#x} in 2 bytes", frame(opcode, b"\x03\xe8", length_bytes=2))
        add(1002, f"length of {opcode:#x} in 8 bytes", frame(opcode, b"\x03\xe8", length_bytes=8))
    for length, length_bytes in ((0, 2), (1, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65_535, 8)):
        data = frame(BINARY, b"x" * length, length_bytes=length_bytes)
        add(1002, f"length {length} in {length_bytes} bytes", data)
    for length in (2**63, 2**64 - 1):
        add(1002, f"length {length:#x}", frame(BINARY, length=length))
    for length in (100_001, 2**31, 2**32, 2**62, 2**63 - 1):
        add(1009, f"length {length:#x}", frame(BINARY, length=length))
    add(1009, "fragments that are too long together", frame(BINARY, b"x" * 60_000, fin=False) + frame(0, b"x" * 60_000))
    add(1002, "continuation of nothing", frame(CONTINUATION, b"x"))
    add(1002, "continuation of nothing, not final", frame(CONTINUATION, b"x", fin=False))
    add(1002, "continuation after a whole message", frame(TEXT, b"whole") + frame(CONTINUATION, b"x"))
    for opcode in (TEXT, BINARY):
        add(1002, f"{opcode:#x} within a message", BEGUN + frame(opcode, b"x"))
        add(1002, f"{opcode:#x} within a message, not final", BEGUN + frame(opcode, b"x", fin=False))
    add(1002, "Close of one byte", frame(CLOSE, b"\x03"))
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        add(1002, f"close code {code}", close_frame(code))
    add(1007, "close reason that is no UTF-8", close_frame(1000, b"\xff"))
    add(1007, "close reason cut within a character", close_frame(1000, "ü".encode()[:1]))
    for name, text in (
        ("a stray byte", b"\xff"),
        ("a stray continuation", b"ok \x80"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("an overlong slash", b"\xc0\xaf"),
        ("a character beyond Unicode", b"\xf4\x90\x80\x80"),
        ("a character cut at the end", "grüß".encode()[:-1]),
        ("bytes of Latin-1", "grüß".encode("latin-1")),
    ):
        add(1007, f"text with {name}", frame(TEXT, text))
        fragments = [frame(CONTINUATION, bytes([byte]), fin=False) for byte in text[1:]]
        parts = frame(TEXT, text[:1], fin=False) + b"".join(fragments) + frame(CONTINUATION)
        add(1007, f"fragments with {name}", parts)
    return [pytest.param(data, code, id=name) for name, data, code in cases]


@pytest.mark.parametrize(("data", "code"), wrong())
def test_fault_fails_the_connection(echo, data: bytes, code: int):
    running, told = echo
    begin = len(told.all)
    with dial(running) as ws:
        ws.send("before")
        assert ws.read() == "before"
        ws.raw.send(data)
        got = ws.read_frame()
        if got == Frame(TEXT, b"whole"):
            got = ws.read_frame()
        assert (got.opcode, int.from_bytes(got.payload[:2])) == (CLOSE, code)
        reason = got.payload[2:].decode()
        assert reason
        ws.read_end()
    eventually(lambda: told.names[begin:].count("close") == 1)
    entries = told.all[begin:]
    (_, problem), close = entries[-2:]
    assert type(problem) is WebSocketError and (problem.code, problem.reason) == (code, reason)
    assert close == ("close", code, reason, False)
    assert [entry for entry in entries[:-2] if entry != ("message", "whole")] == [("open",), ("message", "before")]


def test_invalid_text_is_found_before_the_message_ends(echo):
    running, _ = echo
    with dial(running) as ws:
        # The rest of the frame never comes.
        ws.raw.send(frame(TEXT, b"ok\xff", length=1000))
        assert ws.read_close()[0] == 1007


def right() -> list[Any]:
    """Name, bytes, what is echoed."""
    text = "Größe: 10 µm, 中文, 🏺"
    return [
        pytest.param(frame(TEXT, text.encode()), [text], id="text"),
        pytest.param(frame(TEXT, b""), [""], id="empty text"),
        pytest.param(frame(BINARY, b""), [b""], id="no bytes"),
        pytest.param(frame(BINARY, b"\xff\0"), [b"\xff\0"], id="bytes that are no text"),
        pytest.param(frame(TEXT, b"abc", mask=b"\0\0\0\0"), ["abc"], id="mask of zeros"),
        pytest.param(frame(TEXT, b"abc", mask=b"\xff\xff\xff\xff"), ["abc"], id="mask of ones"),
        *(pytest.param(frame(BINARY, b"x" * size), [b"x" * size], id=f"{size} bytes") for size in (125, 126, 127)),
        *(pytest.param(frame(BINARY, b"x" * size), [b"x" * size], id=f"{size} bytes") for size in (65_535, 65_536)),
        pytest.param(frame(BINARY, b"x" * 100_000), [b"x" * 100_000], id="as long as may be"),
        pytest.param(frame(TEXT, b"a") * 100, ["a"] * 100, id="hundred in a row"),
        pytest.param(
            frame(TEXT, b"a", fin=False) + frame(0, b"b", fin=False) + frame(0, b"c"), ["abc"], id="fragments"
        ),
        pytest.param(frame(TEXT, fin=False) + frame(0, fin=False) * 50 + frame(0), [""], id="empty fragments"),
        pytest.param(
            frame(BINARY, fin=False) + b"".join(frame(0, bytes([n]), fin=False) for n in range(256)) + frame(0),
            [bytes(range(256))],
            id="fragments of a byte",
        ),
        pytest.param(
            b"".join(frame(0 if at else TEXT, bytes([byte]), fin=False) for at, byte in enumerate(text.encode()))
            + frame(0),
            [text],
            id="characters cut into bytes",
        ),
        pytest.param(
            frame(PONG, b"unasked") + frame(PONG) + frame(TEXT, b"a"), ["a"], id="pongs that nobody asked for"
        ),
        pytest.param(frame(PING) + frame(TEXT, b"a"), [Frame(PONG, b""), "a"], id="ping"),
        pytest.param(frame(PING, b"x" * 125), [Frame(PONG, b"x" * 125)], id="longest ping"),
        pytest.param(frame(PING, b"1") * 3, [Frame(PONG, b"1")] * 3, id="every ping is answered"),
        pytest.param(
            frame(TEXT, b"a", fin=False) + frame(PING, b"!") + frame(PONG) + frame(0, b"b"),
            [Frame(PONG, b"!"), "ab"],
            id="control frames within a message",
        ),
    ]


def read_all(ws: Any, expected: list[Any]) -> None:
    got = [ws.read_frame() for _ in expected]
    kinds = {TEXT: lambda payload: payload.decode(), BINARY: bytes}
    seen = [kinds[one.opcode](one.payload) if one.opcode in kinds else one for one in got]
    # A pong is written by the IO thread, an echo by a worker: their order is not given.
    assert sorted(seen, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize(("data", "expected"), right())
def test_message_is_understood(echo, data: bytes, expected: list[Any]):
    running, _ = echo
    with dial(running) as ws:
        ws.raw.send(data)
        read_all(ws, expected)
        assert ws.close() == (1000, "")


@pytest.mark.parametrize(("data", "expected"), [case for case in right() if len(case.values[0]) < 3000])
def test_message_is_understood_byte_by_byte(echo, data: bytes, expected: list[Any]):
    running, _ = echo
    with dial(running) as ws:
        for byte in data:
            ws.raw.send(bytes([byte]))
        read_all(ws, expected)
        assert ws.close() == (1000, "")


def test_frames_right_behind_the_handshake_are_read(echo):
    running, _ = echo
    whole = handshake() + frame(TEXT, b"early")
    for cut in (len(whole) - 11, len(whole) - 5, len(whole) - 1):
        with running.connect() as raw:
            raw.send(whole[:cut])
            raw.send(whole[cut:])
            assert Dialled(raw).read() == "early"
