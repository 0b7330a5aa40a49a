"""From what a handler returns, or raises, to what the client reads."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.server.waiting import Log, eventually
from ushabti.errors import HTTPError
from ushabti.responses import Response
from ushabti.routing import Router

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"

HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"


def pieces(*parts: str | bytes) -> Iterator[str | bytes]:
    yield from parts


VALUES: list[Any] = [
    pytest.param(lambda: "grüß", 200, TEXT, "grüß".encode(), id="str"),
    pytest.param(lambda: "", 200, TEXT, b"", id="empty str"),
    pytest.param(lambda: type("Text", (str,), {})("sub"), 200, TEXT, b"sub", id="class derived from str"),
    pytest.param(lambda: b"\0\xff", 200, BYTES, b"\0\xff", id="bytes"),
    pytest.param(lambda: bytearray(b"ab"), 200, BYTES, b"ab", id="bytearray"),
    pytest.param(lambda: memoryview(b"ab"), 200, BYTES, b"ab", id="memoryview"),
    pytest.param(lambda: {"a": [1, "ü"]}, 200, JSON, '{"a":[1,"ü"]}'.encode(), id="dict"),
    pytest.param(lambda: [1, None], 200, JSON, b"[1,null]", id="list"),
    pytest.param(lambda: ("made", 201), 201, TEXT, b"made", id="body and status"),
    pytest.param(lambda: ({"a": 1}, 418), 418, JSON, b'{"a":1}', id="dict and status"),
    pytest.param(lambda: ("x", 200, {"content-type": "text/csv"}), 200, "text/csv", b"x", id="with fields"),
    pytest.param(lambda: (b"", 204), 204, None, b"", id="nothing"),
    pytest.param(lambda: Response("x", 202, content_type="a/b"), 202, "a/b", b"x", id="Response"),
    pytest.param(lambda: Response.html("<p>"), 200, "text/html; charset=utf-8", b"<p>", id="html"),
    pytest.param(lambda: Response.json([1]), 200, JSON, b"[1]", id="json"),
    pytest.param(lambda: Response.redirect("/b"), 303, None, b"", id="redirect"),
    pytest.param(lambda: pieces("a", b"b", "", "ü"), 200, TEXT, "abü".encode(), id="generator"),
    pytest.param(lambda: iter(["a", "b"]), 200, TEXT, b"ab", id="iterator"),
    pytest.param(lambda: (pieces("a"), 201, {"X": "y"}), 201, TEXT, b"a", id="generator and status"),
    pytest.param(lambda: Response.stream(["a"], content_type="text/csv"), 200, "text/csv", b"a", id="stream"),
    pytest.param(lambda: pieces(), 200, TEXT, b"", id="empty generator"),
    pytest.param(lambda: b"x" * 16_385, 200, BYTES, b"x" * 16_385, id="more than is copied"),
]


@pytest.mark.parametrize(("make", "status", "content_type", "body"), VALUES)
def test_value_is_answered(serve, make: Callable[[], object], status: int, content_type: str | None, body: bytes):
    with serve(lambda request: make()).connect() as raw:
        raw.send(GET * 2)
        for _ in range(2):
            answer = raw.read_response()
            assert (answer.status, answer.field("content-type"), answer.body) == (status, content_type, body)


@pytest.mark.parametrize(("make", "status", "content_type", "body"), VALUES)
def test_head_has_the_same_head_and_no_body(
    serve, make: Callable[[], object], status: int, content_type: str | None, body: bytes
):
    with serve(lambda request: make()).connect() as raw:
        raw.send(HEAD + GET)
        to_head = raw.read_response(to_head=True)
        to_get = raw.read_response()
        assert (to_head.status, to_head.field("content-type")) == (status, content_type)
        assert to_head.field("content-length") == to_get.field("content-length")
        assert to_head.field("transfer-encoding") == to_get.field("transfer-encoding")


@pytest.mark.parametrize(("make", "status", "content_type", "body"), VALUES)
def test_http_1_0_reads_the_same(serve, make: Callable[[], object], status: int, content_type: str | None, body: bytes):
    with serve(lambda request: make()).connect() as raw:
        raw.send(GET_1_0)
        answer = raw.read_response()
        assert (answer.status, answer.field("content-type"), answer.body) == (status, content_type, body)
        assert answer.field("transfer-encoding") is None
        assert raw.read_all() == b""


def test_own_fields_are_sent_in_order_and_as_often_as_given(serve):
    fields = [("Set-Cookie", "a=1"), ("X-One", "ü"), ("Set-Cookie", "b=2"), ("X-Tab", "a\tb"), ("X-Empty", "")]
    answer = serve(lambda request: ("x", 200, fields)).ask(GET)
    assert [pair for pair in answer.headers if pair[0] in dict(fields)] == fields


def test_own_date_and_server_win(serve):
    fields = {"Date": "Thu, 01 Jan 1970 00:00:00 GMT", "Server": "mine"}
    answer = serve(lambda request: ("x", 200, fields)).ask(GET)
    assert (answer.field("date"), answer.field("server")) == ("Thu, 01 Jan 1970 00:00:00 GMT", "mine")


def test_304_may_say_the_length_that_get_would_have(serve):
    with serve(lambda request: (b"", 304, {"Content-Length": "5", "ETag": '"a"'})).connect() as raw:
        raw.send(GET + GET)
        for _ in range(2):
            answer = raw.read_response()
            assert (answer.status, answer.field("content-length"), answer.field("etag")) == (304, "5", '"a"')


@pytest.mark.parametrize("status", [204, 205, 304])
def test_body_with_a_status_that_has_none_is_the_handlers_fault(serve, log: Log, status: int):
    assert serve(lambda request: ("x", status)).ask(GET).status == 500
    log.wait("GET / failed")


# ---- what goes wrong


def named_handler(request):
    pass


def test_none_is_500_and_the_log_names_the_handler(serve, log: Log):
    answer = serve(named_handler).ask(GET)
    assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    record = log.wait("GET / failed")
    assert record.levelname == "ERROR"
    assert "named_handler" in log.text(), log.text()
    assert "None" in log.text()


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.5,
        True,
        object(),
        {1, 2},
        ("x",),
        ("x", "200"),
        ("x", 200, {}, 1),
        (None, 200),
        {"a": object()},
        {"a": float("nan")},
        "\ud800",
        ("x", 99),
        ("x", 1000),
        ("x", 100),
        ("x", 101),
    ],
    ids=repr,
)
def test_nonsense_is_500_and_a_line_in_the_log(serve, log: Log, value: object):
    with serve(lambda request: value).connect() as raw:
        raw.send(GET * 2)
        for _ in range(2):
            answer = raw.read_response()
            assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    log.wait("GET / failed")
    assert "Error: " in log.text()


def test_async_generator_and_coroutine_are_500(serve, log: Log):
    async def coroutine():
        return "never"

    router = Router()
    router.get("/", lambda request: coroutine())
    assert serve(router).ask(GET).status == 500
    assert "coroutine" in log.text()


def test_exception_is_500_with_a_traceback_in_the_log_and_a_clean_body(serve, log: Log):
    def handler(request):
        secret = "the password is 1234"
        raise ValueError(secret)

    with serve(handler).connect() as raw:
        raw.send(GET * 2)
        for _ in range(2):
            answer = raw.read_response()
            assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    log.wait("GET / failed")
    assert "ValueError: the password is 1234" in log.text() and "in handler" in log.text()


@pytest.mark.parametrize("problem", [SystemExit(1), SystemExit("bye"), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_exception_that_would_end_a_program_ends_no_server(serve, log: Log, problem: BaseException):
    def handler(request):
        raise problem

    running = serve(handler, workers=1)
    for _ in range(3):
        answer = running.ask(GET)
        assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
    assert repr(problem) in log.text() or type(problem).__name__ in log.text()


def test_sys_exit_ends_no_server(serve, log: Log):
    running = serve(lambda request: sys.exit(3), workers=1)
    assert [running.ask(GET).status for _ in range(3)] == [500] * 3
    assert "ends no server" in log.text()


def test_recursion_without_end_is_500(serve, log: Log):
    def handler(request):
        return handler(request)

    assert serve(handler).ask(GET).status == 500
    assert "RecursionError" in log.text()


@pytest.mark.parametrize(
    ("problem", "status", "body", "fields"),
    [
        (HTTPError(404), 404, b"404 Not Found\n", {}),
        (HTTPError(404, "no jar 7"), 404, b"404 Not Found: no jar 7\n", {}),
        (HTTPError(503, "later", {"Retry-After": "5"}), 503, b"503 Service Unavailable: later\n", {"retry-after": "5"}),
        (HTTPError(599), 599, b"599 Error\n", {}),
        (HTTPError(400, "grüß"), 400, "400 Bad Request: grüß\n".encode(), {}),
    ],
    ids=str,
)
def test_http_error_is_its_answer_and_no_failure(
    serve, log: Log, problem: HTTPError, status: int, body: bytes, fields: dict[str, str]
):
    def handler(request):
        raise problem

    answer = serve(handler).ask(GET)
    assert (answer.status, answer.body, answer.field("content-type")) == (status, body, TEXT)
    assert {name: answer.field(name) for name in fields} == fields
    assert log.count("failed") == 0


def test_value_after_respond_is_an_error_in_the_log(serve, log: Log):
    def handler(request):
        request.respond(200, None, "first")
        return "second"

    with serve(handler).connect() as raw:
        raw.send(GET * 2)
        assert [raw.read_response().body for _ in range(2)] == [b"first"] * 2
    assert log.wait("returned str after it had called request.respond()").levelname == "ERROR"


def test_exception_after_respond_is_logged_and_sends_nothing(serve, log: Log):
    def handler(request):
        request.respond(200, None, "first")
        raise ValueError("too late")

    with serve(handler).connect() as raw:
        raw.send(GET * 2)
        assert [raw.read_response().body for _ in range(2)] == [b"first"] * 2
    log.wait("GET / failed")
    eventually(lambda: "ValueError: too late" in log.text())


@pytest.mark.parametrize(
    "fields",
    [
        {"X": "a\r\nSet-Cookie: evil=1"},
        {"X": "a\nb"},
        {"X": "a\rb"},
        {"X": "a\0b"},
        {"X": "\x7f"},
        {"X\r\nSet-Cookie": "evil=1"},
        {"X Y": "a"},
        {"": "a"},
        {"X:": "a"},
        {"X": "€"},
        {"X": 1},
        {"Transfer-Encoding": "chunked"},
        {"Content-Length": "7"},
        {"Content-Length": "1, 1"},
        {"Trailer": "X"},
        {"Upgrade": "h2c"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("way", ["tuple", "pairs behind the back", "HTTPError"])
def test_field_that_would_break_the_answer_is_refused(serve, log: Log, fields: dict[Any, Any], way: str):
    def handler(request):
        if way == "tuple":
            return "x", 200, fields
        if way == "HTTPError":
            raise HTTPError(404, "x", fields)
        response = Response("x")
        response.headers.pairs.extend(fields.items())
        return response

    with serve(handler).connect() as raw:
        raw.send(GET * 2)
        for _ in range(2):
            answer = raw.read_response()
            assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
            assert answer.field("set-cookie") is None and answer.field("x") is None
    # The way in which it fails differs; that the operator is told does not.
    eventually(lambda: "ERROR" in log.text())


def test_body_that_says_how_long_it_is_may_say_the_truth(serve):
    answer = serve(lambda request: ("abc", 200, {"Content-Length": "3"})).ask(GET)
    assert (answer.status, answer.all("content-length"), answer.body) == (200, ["3"], b"abc")


def test_error_answer_that_fails_too_is_500(serve, log: Log):
    router = Router()

    @router.get("/")
    def handler(request):
        raise ValueError("one")

    @router.error(ValueError)
    def failing(request, problem):
        raise KeyError("two")

    assert serve(router).ask(GET).status == 500
    eventually(lambda: "KeyError: 'two'" in log.text())


def test_handler_may_return_the_same_response_again(serve):
    response = Response("same", headers={"X": "y"})
    with serve(lambda request: response).connect() as raw:
        raw.send(GET * 3)
        answers = [raw.read_response() for _ in range(3)]
    assert [(answer.body, answer.field("x")) for answer in answers] == [(b"same", "y")] * 3
