"""What a handler reads of its request."""

import gc
import json
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.waiting import eventually
from tests.support import Running
from ushabti._core import MultiDict
from ushabti.errors import AlreadyResponded
from ushabti.routing import Router

Read = Callable[[Any], Any]


def post(body: bytes, *fields: str, target: str = "/") -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *fields, "", ""]).encode("latin-1")


@pytest.fixture
def read(serve):
    """Has a server read something of a request: ``read(data, what)`` returns ``what(request)``, or raises as it did."""

    def read(data: bytes, what: Read) -> Any:
        found: list[Any] = []

        def handler(request):
            try:
                found.append(what(request))
            except BaseException as problem:
                found.append(problem)
            return "ok"

        assert serve(handler).ask(data).status == 200
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    return read


@pytest.mark.parametrize(
    ("data", "what", "expected"),
    [
        pytest.param(get("/"), lambda r: r.method, "GET", id="method"),
        pytest.param(b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", lambda r: r.method, "M-SEARCH", id="any method"),
        pytest.param(get("/a%20b?c=%20"), lambda r: r.target, "/a%20b?c=%20", id="target as it came"),
        pytest.param(get("/a%20b/%C3%BC?c"), lambda r: r.path, "/a b/ü", id="path decoded"),
        pytest.param(get("/a+b"), lambda r: r.path, "/a+b", id="plus in a path is a plus"),
        pytest.param(get("/?a=1&b"), lambda r: r.query_string, "a=1&b", id="query as it came"),
        pytest.param(get("/"), lambda r: r.query_string, "", id="no query"),
        pytest.param(get("/"), lambda r: r.http_version, "1.1", id="version"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", lambda r: r.http_version, "1.0", id="older version"),
        pytest.param(get("/"), lambda r: r.host, "a", id="host"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", lambda r: r.host, "", id="no host"),
        pytest.param(get("http://b:81/"), lambda r: r.host, "b:81", id="host of the target"),
        pytest.param(get("/"), lambda r: r.scheme, "http", id="scheme"),
        pytest.param(get("/"), lambda r: r.client, "127.0.0.1", id="client"),
        pytest.param(get("/"), lambda r: r.peer.rpartition(":")[0], "127.0.0.1", id="peer"),
        pytest.param(get("/"), lambda r: r.body, b"", id="no body"),
        pytest.param(post(b"\0\xff"), lambda r: r.body, b"\0\xff", id="body"),
        pytest.param(post(b"x"), lambda r: r.body is r.body, True, id="one body object"),
        pytest.param(get("/"), lambda r: r.path_params, {}, id="no path parameters"),
        pytest.param(get("/"), lambda r: r.allow, "", id="no allow"),
        pytest.param(get("/"), lambda r: r.responded, False, id="not responded"),
        pytest.param(get("/"), lambda r: r.disconnected, False, id="not disconnected"),
        pytest.param(get("/"), lambda r: r.state, {}, id="empty state"),
        pytest.param(get("/a?b"), repr, "<Request GET /a?b>", id="repr"),
        pytest.param(
            get("/"), lambda r: r.state.update(user=1) or (r.state["user"], r.state is r.state), (1, True), id="state"
        ),
    ],
)
def test_attribute(read, data: bytes, what: Read, expected: object):
    assert read(data, what) == expected


def test_request_is_read_only(read):
    with pytest.raises(AttributeError):
        read(get("/"), lambda request: setattr(request, "method", "PUT"))
    with pytest.raises(AttributeError):
        read(get("/"), lambda request: setattr(request, "user", "me"))


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        ("a=x+y%21", [("a", "x y!")]),
        ("a", [("a", "")]),
        ("a=&=b&&", [("a", ""), ("", "b")]),
        ("a=b=c", [("a", "b=c")]),
        ("a=%zz%", [("a", "%zz%")]),
        ("a=%C3%BC", [("a", "ü")]),
        ("a=%ff", [("a", "\ufffd")]),
        ("a%5B%5D=1", [("a[]", "1")]),
        ("A=1&a=2", [("A", "1"), ("a", "2")]),
        ("", []),
    ],
)
def test_query_is_read_as_a_form(read, query: str, pairs: list[tuple[str, str]]):
    assert read(get(f"/?{query}"), lambda request: request.query.pairs) == pairs


def test_query_is_a_mapping_of_first_values(read):
    query = read(get("/?a=1&b=2&a=3"), lambda request: request.query)
    assert (query["a"], query.get("b"), query.get("c"), query.get("c", "d")) == ("1", "2", None, "d")
    assert (query.all("a"), query.all("c")) == (["1", "3"], [])
    assert (list(query), len(query), dict(query)) == (["a", "b"], 2, {"a": "1", "b": "2"})
    assert (list(query.keys()), list(query.values()), list(query.items())) == (
        ["a", "b"],
        ["1", "2"],
        [("a", "1"), ("b", "2")],
    )
    assert "a" in query and "A" not in query and 1 not in query
    assert repr(query) == "MultiDict([('a', '1'), ('b', '2'), ('a', '3')])"
    with pytest.raises(KeyError, match="c"):
        query["c"]
    assert read(get("/?a"), lambda request: request.query is request.query)


def test_header_names_have_no_case_and_keep_the_one_they_came_in(read):
    headers = read(get("/", "X-One: a", "x-one: b", "X-Two: \xe9"), lambda request: request.headers)
    assert isinstance(headers, MultiDict)
    assert (headers["X-ONE"], headers.all("x-one"), headers.get("none")) == ("a", ["a", "b"], None)
    assert headers["x-two"] == "é"
    assert headers.pairs == [("Host", "a"), ("X-One", "a"), ("x-one", "b"), ("X-Two", "é")]
    assert list(headers) == ["Host", "X-One", "X-Two"] and len(headers) == 3
    assert "host" in headers and "hos" not in headers


@pytest.mark.parametrize(
    ("fields", "cookies"),
    [
        ([], {}),
        (["Cookie: a=1; b=2"], {"a": "1", "b": "2"}),
        (["Cookie: a=1; a=2"], {"a": "1"}),
        (["Cookie: a=1", "Cookie: b=2"], {"a": "1", "b": "2"}),
        (['Cookie: a="1 2"; b=""'], {"a": "1 2", "b": ""}),
        (["Cookie: a=b=c"], {"a": "b=c"}),
        (["Cookie: a=1;b=2;  c = 3 "], {"a": "1", "b": "2", "c": "3"}),
        (["Cookie: junk; a=1; ; ="], {"a": "1", "": ""}),
    ],
)
def test_cookies(read, fields: list[str], cookies: dict[str, str]):
    assert read(get("/", *fields), lambda request: request.cookies) == cookies


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("grüß".encode(), None, "grüß"),
        ("grüß".encode(), "text/plain", "grüß"),
        ("grüß".encode("latin-1"), "text/plain; charset=ISO-8859-1", "grüß"),
        ("grüß".encode("utf-16"), 'text/plain; a=b; Charset="utf-16"', "grüß"),
        (b"", "text/plain; charset=", ""),
        (b"", None, ""),
    ],
)
def test_text_follows_the_charset(read, body: bytes, content_type: str | None, text: str):
    fields = [f"Content-Type: {content_type}"] if content_type else []
    assert read(post(body, *fields), lambda request: request.text) == text


@pytest.mark.parametrize(
    ("body", "charset", "status"),
    [
        (b"\xff", "utf-8", 400),
        (b"\xe9", "ascii", 400),
        (b"x", "klingon", 415),
        (b"x", "rot13", 415),
        (b"x", "base64", 415),
        # Codecs that raise something else than a UnicodeDecodeError.
        (b"x", "undefined", 415),
        (b"\xff", "idna", 400),
        (b"\xff", "punycode", 400),
    ],
)
def test_text_that_is_none_is_the_clients_fault(serve, body: bytes, charset: str, status: int):
    answer = serve(lambda request: request.text).ask(post(body, f"Content-Type: text/plain; charset={charset}"))
    assert answer.status == status


def test_json(read):
    value = {"a": [1, 2.5, None, "ü"]}
    assert read(post(json.dumps(value).encode()), lambda request: request.json()) == value


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"{'a': 1}", b'{"a": 1} x', b"[" * 100_000, b"1" * 10_000])
def test_json_that_is_none_is_the_clients_fault(serve, body: bytes):
    answer = serve(lambda request: {"got": str(request.json())}).ask(post(body))
    assert answer.status == 400
    assert answer.body.startswith(b"400 Bad Request: ")


def test_json_is_decoded_by_the_routers_loads(serve):
    router = Router(loads=lambda data: [data.decode()])
    router.post("/", lambda request: request.json())
    assert serve(router).ask(post(b"{]")).body == b'["{]"]'


@pytest.mark.parametrize("part", ["path_params", "query", "body", "state"])
def test_finalizer_that_runs_while_a_part_is_made_may_ask_for_it(serve, part: str):
    finalized: list[object] = []
    router = Router()

    @router.get("/{number:int}")
    def handler(request, number):
        class Cyclic:
            def __init__(self) -> None:
                self.itself = self

            def __del__(self) -> None:
                finalized.append(getattr(request, part))

        gc.collect()
        thresholds = gc.get_threshold()
        Cyclic()
        gc.set_threshold(1)
        try:
            found = getattr(request, part)
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        return str(all(each == found for each in finalized) and len(finalized))

    assert serve(router).get("/1?a=b").body == b"1"


def test_path_parameters_are_converted_and_named(serve):
    router = Router()

    @router.get("/{town:slug}/{number:int}/{rest:path}")
    def handler(request, town: str, number: int, rest: str):
        assert request.path_params == {"town": town, "number": number, "rest": rest}
        assert request.path_params is request.path_params
        return [town, number, rest]

    assert serve(router).get("/thebes/7/a%2Fb/c").body == b'["thebes",7,"a/b/c"]'


def test_respond_sends_at_once_while_the_handler_goes_on(serve):
    may_end = threading.Event()
    facts: list[object] = []

    def handler(request):
        request.respond(201, {"X-One": "a"}, "early")
        facts.append(request.responded)
        may_end.wait(10)
        facts.append("ended")

    running = serve(handler)
    try:
        answer = running.ask(get("/"))
        assert (answer.status, answer.field("x-one"), answer.body) == (201, "a", b"early")
        # The client may well have the answer before the handler goes on.
        eventually(lambda: facts == [True])
    finally:
        may_end.set()
    eventually(lambda: facts == [True, "ended"])


@pytest.mark.parametrize(
    ("arguments", "status", "body"),
    [
        ((), 200, b""),
        ((204,), 204, b""),
        ((200, None, b"bytes"), 200, b"bytes"),
        ((200, [("X", "y")], {"a": 1}), 200, b'{"a":1}'),
        ((404, {}, iter(["a", b"b"])), 404, b"ab"),
    ],
)
def test_respond_takes_what_a_handler_may_return(serve, arguments: tuple, status: int, body: bytes):
    answer = serve(lambda request: request.respond(*arguments)).ask(get("/"))
    assert (answer.status, answer.body) == (status, body)


def test_second_respond_raises_and_sends_nothing(serve):
    problems: list[BaseException] = []

    def handler(request):
        request.respond(200, None, "first")
        try:
            request.respond(200, None, "second")
        except AlreadyResponded as problem:
            problems.append(problem)

    with serve(handler).connect() as raw:
        raw.send(get("/") + get("/", "Connection: close"))
        assert [raw.read_response().body, raw.read_response().body] == [b"first", b"first"]
        assert raw.read_all() == b""
    eventually(lambda: len(problems) == 2)
    assert {str(problem) for problem in problems} == {"this request has been answered already"}


def test_respond_after_a_handler_that_returned_none_comes_too_late(serve):
    problems: list[BaseException] = []
    answered = threading.Event()
    threads: list[threading.Thread] = []

    def late(request):
        answered.wait(10)
        try:
            request.respond(200, None, "late")
        except AlreadyResponded as problem:
            problems.append(problem)

    def handler(request):
        threads.append(threading.Thread(target=late, args=(request,)))
        threads[-1].start()

    with serve(handler).connect() as raw:
        raw.send(get("/"))
        assert raw.read_response().status == 500
        answered.set()
        threads[0].join()
        assert len(problems) == 1
        raw.finish()
        assert raw.read_all() == b""


@pytest.mark.parametrize(
    "arguments",
    [
        (99,),
        (600,),
        (200, {"X": "a\r\nY: b"}),
        (200, {"X:": "a"}),
        (200, {"X": 1}),
        (200, None, object()),
        (204, {}, "x"),
    ],
)
def test_respond_that_cannot_be_sent_leaves_the_request_open(serve, arguments: tuple):
    def handler(request):
        with pytest.raises((ValueError, TypeError)):
            request.respond(*arguments)
        assert not request.responded
        return "still here"

    answer = serve(handler).ask(get("/"))
    assert (answer.status, answer.body) == (200, b"still here")


def test_respond_from_another_thread(serve):
    def handler(request):
        thread = threading.Thread(target=request.respond, args=(200, None, "from beside"))
        thread.start()
        thread.join()

    assert serve(handler).ask(get("/")).body == b"from beside"


def test_of_many_threads_that_respond_one_succeeds(serve):
    outcomes: list[bool] = []

    def handler(request):
        barrier = threading.Barrier(8)

        def answer():
            barrier.wait()
            try:
                request.respond(200, None, "one")
                outcomes.append(True)
            except AlreadyResponded:
                outcomes.append(False)

        threads = [threading.Thread(target=answer) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    answer = serve(handler).get("/")
    assert (answer.status, answer.body) == (200, b"one")
    eventually(lambda: len(outcomes) == 8)
    assert sorted(outcomes) == [False] * 7 + [True]


def test_request_is_of_use_to_another_thread_after_the_handler(serve):
    answered = threading.Event()
    facts: list[object] = []

    def later(request):
        answered.wait(10)
        facts.append((request.method, request.path, request.query["a"], request.headers["x-one"], request.json()))
        facts.append((request.responded, request.cookies, request.path_params, request.state, repr(request)))

    threads: list[threading.Thread] = []

    def handler(request):
        request.state["user"] = "me"
        thread = threading.Thread(target=later, args=(request,))
        thread.start()
        threads.append(thread)
        return "done"

    try:
        assert serve(handler).ask(post(b"[1]", "X-One: b", target="/p?a=1")).body == b"done"
    finally:
        answered.set()
    threads[0].join()
    assert facts == [
        ("POST", "/p", "1", "b", [1]),
        (True, {}, {}, {"user": "me"}, "<Request POST /p?a=1>"),
    ]


def await_freed(running: Running, references: list[weakref.ref]) -> None:
    """Asks twice, the second time to take the worker's last request from it, and waits for the first to be freed."""
    running.get("/")
    running.get("/")

    def is_freed() -> bool:
        gc.collect()
        return references[0]() is None

    eventually(is_freed, 2)


def test_request_is_freed_when_nobody_has_it(serve):
    references: list[weakref.ref] = []

    def handler(request):
        references.append(weakref.ref(request))
        return "ok"

    await_freed(serve(handler), references)


@pytest.mark.parametrize("through", ["state", "headers in state"])
def test_request_that_refers_to_itself_is_freed(serve, through: str):
    references: list[weakref.ref] = []

    def handler(request):
        # What middleware does that keeps a session object, which knows its request, in the state.
        request.state["back"] = request if through == "state" else request.headers
        references.append(weakref.ref(request))
        return "ok"

    await_freed(serve(handler), references)


@pytest.mark.parametrize("leave", ["close", "reset", "finish"])
def test_disconnected_tells_that_the_client_has_left(serve, leave: str):
    began, seen = threading.Event(), threading.Event()

    def handler(request):
        assert not request.disconnected
        began.set()
        eventually(lambda: request.disconnected)
        seen.set()
        return "nobody reads this"

    with serve(handler).connect() as raw:
        raw.send(get("/"))
        assert began.wait(10)
        getattr(raw, leave)()
        assert seen.wait(10)


def test_disconnected_tells_also_while_the_answer_is_streamed(serve):
    seen = threading.Event()

    def handler(request):
        def pieces():
            yield "first"
            eventually(lambda: request.disconnected, 3)
            seen.set()

        return pieces()

    with serve(handler).connect() as raw:
        raw.send(get("/"))
        assert raw.read_some()
        raw.close()
        assert seen.wait(3), "request.disconnected stays False while the body is streamed"


def test_peer_of_a_unix_socket(serve, tmp_path):
    running = serve(lambda request: f"{request.client} {request.peer}", bind=[f"unix:{tmp_path / 'sock'}"])
    assert running.get("/").body == b"unix unix"
