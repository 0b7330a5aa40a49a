"""What a handler may return, and what a response makes of it."""

import inspect
import io
import json
from collections import OrderedDict, namedtuple
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ushabti.errors import HTTPError
from ushabti.responses import Headers, Response, as_response, converter, from_error, json_text

TEXT = ("content-type", "text/plain; charset=utf-8")
BYTES = ("content-type", "application/octet-stream")
JSON = ("content-type", "application/json")

Pair = namedtuple("Pair", "body status")


class Words(str):
    __slots__ = ()


def pieces() -> Iterator[str]:
    yield "a"
    yield "b"


@pytest.mark.parametrize(
    ("value", "status", "pairs", "body"),
    [
        ("é", 200, [TEXT], "é".encode()),
        (Words("a"), 200, [TEXT], b"a"),
        (b"a", 200, [BYTES], b"a"),
        (bytearray(b"a"), 200, [BYTES], b"a"),
        (memoryview(b"a"), 200, [BYTES], b"a"),
        ({"a": [1, None]}, 200, [JSON], b'{"a":[1,null]}'),
        (OrderedDict(a=1), 200, [JSON], b'{"a":1}'),
        ([1, "é"], 200, [JSON], '[1,"é"]'.encode()),
        (("a", 201), 201, [TEXT], b"a"),
        (("a", HTTPStatus.CREATED), 201, [TEXT], b"a"),
        (({"a": 1}, 404), 404, [JSON], b'{"a":1}'),
        (([], 200), 200, [JSON], b"[]"),
        ((b"", 204), 204, [], b""),
        (("", 204), 204, [], b""),
        (("a", 200, {"X-A": "1"}), 200, [TEXT, ("X-A", "1")], b"a"),
        (("a", 200, [("X-A", "1"), ("X-A", "2")]), 200, [TEXT, ("X-A", "1"), ("X-A", "2")], b"a"),
        (("a", 200, Headers({"X-A": "1"})), 200, [TEXT, ("X-A", "1")], b"a"),
        (("<p>", 200, {"Content-Type": "text/html"}), 200, [("Content-Type", "text/html")], b"<p>"),
        (
            (Response("a", 200, {"X-A": "1", "X-B": "1"}), 202, {"x-a": "2"}),
            202,
            [("X-B", "1"), TEXT, ("x-a", "2")],
            b"a",
        ),
    ],
)
def test_value_becomes_a_response(value: object, status: int, pairs: list[tuple[str, str]], body: bytes) -> None:
    response = as_response(value)
    assert (response.status, response.headers.pairs, response.body) == (status, pairs, body)
    assert type(response.status) is int and type(response.body) is bytes


def test_response_is_taken_as_it_is() -> None:
    response = Response("a")
    assert as_response(response) is response


def test_response_in_a_tuple_stays_unchanged() -> None:
    shared = Response("a", 200, {"X-A": "1"})
    as_response((shared, 500, {"X-A": "2"}))
    assert (shared.status, shared.headers["X-A"]) == (200, "1")


@pytest.mark.parametrize("value", [pieces(), iter([b"a", "b"]), io.BytesIO(b"a\nb"), (piece for piece in "ab")])
def test_iterator_is_streamed(value: Any) -> None:
    response = as_response(value)
    assert response.body is value
    assert response.headers.pairs == [TEXT]
    assert as_response((value, 206, {"content-type": "text/csv"})).headers.pairs == [("content-type", "text/csv")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "returned None .* was a return forgotten"),
        (1, "returned int"),
        (True, "returned bool"),
        (object(), "returned object"),
        ({1, 2}, "returned set"),
        (range(3), "returned range"),
        (str, "returned type"),
        (Pair("a", 200), "returned Pair"),
        ((), r"a tuple is no \(\)"),
        (("a",), r"a tuple is no \(str\)"),
        (("a", "200"), r"a tuple is no \(str, str\), but \(body, status\) or \(body, status, headers\)"),
        ((200, "a"), r"a tuple is no \(int, str\)"),
        (("a", {"x": "y"}), r"a tuple is no \(str, dict\)"),
        (("a", 200, "text/html"), r"a tuple is no \(str, int, str\)"),
        (("a", 200, {}, 1), "a tuple is no"),
        (("a", True), "a status is a number such as 200, not True"),
        ((None, 204), r"write \(b'', status\)"),
        ((1, 200), "returned int"),
        ({"a": object()}, "object is not JSON serializable"),
    ],
)
def test_what_is_no_answer_is_refused_by_name(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        as_response(value)


def test_coroutine_is_closed_and_refused_with_a_hint() -> None:
    async def handler() -> str:
        return "a"

    coroutine = handler()
    with pytest.raises(TypeError, match="a coroutine: handlers are plain functions"):
        as_response(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_async_generator_is_refused_with_a_hint() -> None:
    async def handler() -> AsyncIterator[str]:
        yield "a"

    with pytest.raises(TypeError, match="an async generator"):
        as_response(handler())


@pytest.mark.parametrize("status", [0, 99, 100, 199, 600, -1])
def test_status_that_no_response_has_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"200 to 599, not {status}"):
        Response("a", status)
    with pytest.raises(ValueError, match=f"200 to 599, not {status}"):
        as_response(("a", status))


def test_headers_in_the_place_of_the_status_are_refused() -> None:
    with pytest.raises(TypeError, match="a status is a number such as 200"):
        Response("a", {"x": "y"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "pairs"),
    [
        ({}, []),
        ({"body": ""}, []),
        ({"body": "a"}, [TEXT]),
        ({"body": b"a"}, [BYTES]),
        ({"body": iter("ab")}, [TEXT]),
        ({"body": "a", "content_type": "text/css"}, [("content-type", "text/css")]),
        ({"body": "a", "headers": {"Content-Type": "text/css"}}, [("Content-Type", "text/css")]),
        ({"body": "a", "headers": [("X", "1"), ("X", "2")]}, [("X", "1"), ("X", "2"), TEXT]),
        ({"headers": {"Content-Type": "a/b"}, "content_type": "c/d"}, [("content-type", "c/d")]),
    ],
)
def test_content_type_follows_from_the_body_unless_it_is_said(
    arguments: dict[str, Any], pairs: list[tuple[str, str]]
) -> None:
    assert Response(**arguments).headers.pairs == pairs


def test_body_may_be_replaced() -> None:
    response = Response("a")
    response.body = "é"
    assert response.body == "é".encode()  # type: ignore[comparison-overlap]  # What comes out is not what went in.
    response.body = bytearray(b"b")
    assert type(response.body) is bytes
    stream = pieces()
    response.body = stream
    assert response.body is stream


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "not NoneType; write b''"),
        (1, "not int"),
        ({"a": 1}, "no dict: use Response.json"),
        (["a"], r"no list: use Response.json\(...\), or Response.stream"),
    ],
)
def test_body_of_another_type_is_refused(body: Any, message: str) -> None:
    response = Response("a")
    for change in (lambda: Response(body), lambda: setattr(response, "body", body)):
        with pytest.raises(TypeError, match=message):
            change()
    assert response.body == b"a"


def test_copy_shares_nothing_that_can_change() -> None:
    first = Response("a", 201, {"X": "1"})
    second = first.copy()
    second.status = 500
    second.headers["X"] = "2"
    assert (first.status, first.headers["X"], second.body) == (201, "1", b"a")


def test_html_and_json_name_their_types() -> None:
    assert Response.html("<p>é", 404).headers.pairs == [("content-type", "text/html; charset=utf-8")]
    response = Response.json([1, 2], 201, {"X": "1"})
    assert (response.status, response.body, response.headers.pairs) == (201, b"[1,2]", [("X", "1"), JSON])
    problem = Response.json({}, content_type="application/problem+json", dumps=lambda value: "other")
    assert (problem.body, problem.headers["content-type"]) == (b"other", "application/problem+json")


def test_stream_takes_any_iterable_but_text() -> None:
    response = Response.stream(["a", b"b"], content_type="text/csv")
    assert response.body == ["a", b"b"]
    assert response.headers.pairs == [("content-type", "text/csv")]
    for wrong in ("text", b"bytes", 1, None):
        with pytest.raises(TypeError, match="stream takes an iterable of str or bytes"):
            Response.stream(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/a?b=c&d=%20#e", "/a?b=c&d=%20#e"),
        ("https://example.org/", "https://example.org/"),
        ("/é", "/%C3%A9"),
        ("/a b", "/a%20b"),
        ("/\\evil.example", "/%5Cevil.example"),
        ('/"<>`{|}^', "/%22%3C%3E%60%7B%7C%7D%5E"),
    ],
)
def test_redirect_percent_encodes_what_no_url_may_hold(url: str, location: str) -> None:
    response = Response.redirect(url)
    assert (response.status, response.headers.pairs, response.body) == (303, [("location", location)], b"")


@pytest.mark.parametrize("url", ["", "/a\r\nx: y", "/a\n", "/\t", "/\x7f"])
def test_redirect_refuses_control_characters(url: str) -> None:
    with pytest.raises(ValueError, match="without control characters"):
        Response.redirect(url)


def test_redirect_refuses_what_is_no_redirection() -> None:
    assert Response.redirect("/", 308).status == 308
    for status in (200, 304, 404):
        with pytest.raises(ValueError, match=f"not {status}"):
            Response.redirect("/", status)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "n=v; Path=/; HttpOnly; SameSite=Lax"),
        ({"path": None, "http_only": False, "same_site": None}, "n=v"),
        ({"max_age": 60}, "n=v; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"),
        ({"max_age": timedelta(hours=1)}, "n=v; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"expires": datetime(2030, 1, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1)))},
            "n=v; Expires=Wed, 02 Jan 2030 03:04:05 GMT; Path=/; HttpOnly; SameSite=Lax",
        ),
        (
            {"domain": "example.org", "path": "/a b", "secure": True, "same_site": "None"},
            "n=v; Domain=example.org; Path=/a b; Secure; HttpOnly; SameSite=None",
        ),
    ],
)
def test_cookie_is_written_with_its_attributes(arguments: dict[str, Any], field: str) -> None:
    response = Response("a")
    response.set_cookie("n", "v", **arguments)
    assert response.headers.all("set-cookie") == [field]


def test_cookies_add_up() -> None:
    response = Response()
    response.set_cookie("a", "1")
    response.set_cookie("b", '"2"')
    assert [field.split(";")[0] for field in response.headers.all("set-cookie")] == ["a=1", 'b="2"']


def test_deleted_cookie_is_over() -> None:
    response = Response()
    response.delete_cookie("n", path="/x", domain="example.org", secure=True)
    assert response.headers["set-cookie"] == (
        "n=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; "
        "Domain=example.org; Path=/x; Secure; HttpOnly; SameSite=Lax"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "name is a token"),
        ({"name": "a=b"}, "name is a token"),
        ({"name": "a\r\n"}, "name is a token"),
        ({"value": "a; Domain=evil.example"}, "must be encoded"),
        ({"value": "a b"}, "must be encoded"),
        ({"value": "a,b"}, "must be encoded"),
        ({"value": "é"}, "must be encoded"),
        ({"value": '"a'}, "must be encoded"),
        ({"value": "a\nb"}, "must be encoded"),
        ({"value": "x" * 4096}, "4097 bytes"),
        ({"path": "x"}, "path begins with /"),
        ({"path": "/; Secure"}, "path begins with /"),
        ({"path": "/\r\n"}, "path begins with /"),
        ({"domain": "example.org; Path=/"}, "domain is a host name"),
        ({"domain": "example.org\n"}, "domain is a host name"),
        ({"domain": ""}, "domain is a host name"),
        ({"expires": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001  (what is refused)
        ({"same_site": "lax"}, "same_site is 'Strict'"),
        ({"same_site": "None"}, "secure=True"),
        ({"name": "__Secure-a"}, "secure=True"),
        ({"name": "__Host-a"}, "secure=True"),
        ({"name": "__Host-a", "secure": True, "path": "/x"}, "path but '/'"),
        ({"name": "__Host-a", "secure": True, "domain": "example.org"}, "a domain"),
    ],
)
def test_cookie_that_would_break_or_be_dropped_is_refused(arguments: dict[str, Any], message: str) -> None:
    response = Response()
    with pytest.raises(ValueError, match=message):
        response.set_cookie(**{"name": "n", "value": "v", **arguments})
    assert response.headers.pairs == []


@given(st.text(), st.text())
def test_no_cookie_brings_attributes_of_its_own(name: str, value: str) -> None:
    response = Response()
    try:
        response.set_cookie(name, value, path=None, http_only=False, same_site=None)
    except ValueError:
        return
    assert response.headers.pairs == [("set-cookie", f"{name}={value}")]
    assert not set(f"{name}{value}") & set(";, \t\r\n\0")


def test_error_becomes_one_line_of_text_with_its_headers() -> None:
    plain = from_error(HTTPError(404))
    assert (plain.status, plain.body, plain.headers.pairs) == (404, b"404 Not Found\n", [TEXT])
    full = from_error(HTTPError(503, "the granary is closed", {"Retry-After": "5"}))
    assert full.body == b"503 Service Unavailable: the granary is closed\n"
    assert full.headers.pairs == [("Retry-After", "5"), TEXT]
    assert from_error(HTTPError(499)).body == b"499 Error\n"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_json_comes_back_as_it_was(value: object) -> None:
    assert json.loads(json_text(value)) == value


def test_json_is_compact_utf_8() -> None:
    assert json_text({"é": [1, 2], "b": "\n"}) == '{"é":[1,2],"b":"\\n"}'.encode()


def test_json_escapes_a_lone_surrogate() -> None:
    assert json_text(["é", "\ud800"]) == b'["\\u00e9","\\ud800"]'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_numbers_that_it_cannot_express(number: float) -> None:
    with pytest.raises(ValueError):
        json_text([number])


def test_json_refuses_a_value_that_contains_itself() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(RecursionError):
        json_text(value)


@pytest.mark.parametrize("result", ["text", b"text"])
def test_converter_uses_the_encoder_that_it_is_given(result: str | bytes) -> None:
    convert = converter(lambda value: result)
    assert convert({"a": 1}).body == b"text"
    assert convert(([1], 201)).body == b"text"
