"""Raw bytes in, raw bytes out of a live server: every file in ``cases`` is a test, as a whole and byte by byte."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Answer, Raw, Running
from tests.wire.app import router
from tests.wire.case import Case, Close, Expected, Finish, Open, Send

CASES = [Case(path) for path in sorted(Path(__file__).with_name("cases").glob("*/*.http"))]

PROBE = b"GET /hello HTTP/1.1\r\nHost: probe\r\n\r\n"
# Long heads and bodies are cut into pieces of this size, which is no divisor of anything, instead of single bytes.
LONG_BYTES = 4096
PIECE_BYTES = 97

WAYS = ("whole", "byte by byte")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """One server for all cases: each must leave it as it was."""
    # As many threads at the end as at the start, so that no test seems to leave one behind.
    running = Running.start(router(), workers=2, max_headers="8 KiB", max_fields=32, max_body="64 KiB")
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("case", "way"),
    [
        pytest.param(case, way, id=f"{case.name}-{way.replace(' ', '-')}")
        for case in CASES
        for way in WAYS[: 1 if case.is_whole_only else 2]
    ],
)
def test_case(running: Running, case: Case, way: str) -> None:
    with running.connect() as raw:
        for step in case.steps:
            match step:
                case Send(data):
                    send(raw, data, way)
                case Expected():
                    check(raw.read_response(to_head=step.to_head), step)
                case Finish():
                    raw.finish()
                case Close():
                    assert raw.read_all() == b"", "the server said more"
                case Open():
                    raw.send(PROBE)
                    assert raw.read_response().body == b"hello"
    # Whatever that was, the server goes on.
    assert running.ask(PROBE).status == 200


def send(raw: Raw, data: bytes, way: str) -> None:
    size = len(data) if way == "whole" else PIECE_BYTES if len(data) > LONG_BYTES else 1
    try:
        for start in range(0, len(data), size):
            raw.send(data[start : start + size])
    except (BrokenPipeError, ConnectionResetError):
        # Refused before the end, and closed: what was answered shows in what can be read.
        pass


def check(answer: Answer, expected: Expected) -> None:
    seen = f"{answer.status} {answer.headers} {answer.body[:300]!r}"
    assert answer.status == expected.status, seen
    for name, value in expected.fields:
        given = answer.field(name)
        assert given is not None, f"no {name} in {seen}"
        if value.startswith("/") and value.endswith("/") and len(value) > 1:
            assert re.fullmatch(value[1:-1], given), f"{name} in {seen}"
        else:
            assert given == value, f"{name} in {seen}"
    for name in expected.absent:
        assert answer.all(name) == [], f"{name} in {seen}"
    if expected.body is not None:
        assert answer.body == expected.body, seen
    if expected.body_pattern is not None:
        assert re.search(expected.body_pattern, answer.body.decode("utf-8")), seen
