"""The language of the wire cases is strict: a case that says nothing, or says it wrong, is an error."""

from pathlib import Path

import pytest

from tests.wire.case import Case, Close, Expected, Send, unescape


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "case.http"
        path.write_text(text)
        return path

    return write


def test_case_is_read_in_order(write):
    case = Case(write("# why\n>>>\nGET\\s/ \\r\\n\n\\{a\\xff*2}\n<<< HEAD\n204\nAllow: GET\n!Date\n= x\n~ y\nclose\n"))
    assert case.steps == [
        Send(b"GET / \r\na\xffa\xff"),
        Expected(True, 204, [("Allow", "GET")], ["Date"], b"x", "y"),
        Close(),
    ]
    assert not case.is_whole_only


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "last line"),
        (">>>\nGET\n<<<\n200\n", "last line"),
        ("stray\nclose\n", "stands in no section"),
        (">>>\n\\q\nclose\n", "no escape"),
        ("<<<\nfine\nclose\n", "invalid literal"),
        ("<<<\n200\nAllow\nclose\n", "is no expectation"),
    ],
)
def test_malformed_case_is_refused_with_its_place(write, text: str, problem: str):
    with pytest.raises(ValueError, match=f"case.http:.*{problem}"):
        Case(write(text))


def test_every_escape_is_one_byte():
    assert unescape(r"\r\n\t\0\s\\\x41") == b"\r\n\t\0 \\A"
