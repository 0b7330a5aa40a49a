"""The client and the server that an application's own tests use."""

import socket
import threading
from typing import Any

import pytest

from tests.support import Raw
from ushabti import ConfigError, Request, Response, Router
from ushabti.testing import Client, running

router = Router()


@router.route("/seen")
def seen(request: Request) -> dict[str, Any]:
    """Everything that was sent."""
    return {
        "method": request.method,
        "query": request.query.pairs,
        "body": request.text,
        "fields": [[name.lower(), value] for name, value in request.headers.pairs],
        "peer": request.peer,
    }


@router.get("/latin")
def latin(request: Request) -> Response:
    return Response(
        "é".encode("latin-1"), headers=[("X-A", "1"), ("x-a", "2")], content_type="text/plain; charset=latin-1"
    )


def field(answer: Any, name: str) -> str | None:
    return dict(answer.json()["fields"]).get(name)


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_every_method_has_its_own_call(method: str) -> None:
    with running(router) as client:
        answer = getattr(client, method)("/seen", headers={"X-Test": "1"})
    assert (answer.status, answer.reason) == (200, "OK")
    assert answer.json()["method"] == method.upper()
    assert field(answer, "x-test") == "1"


def test_an_answer_to_head_has_no_body() -> None:
    with running(router) as client:
        answer = client.head("/latin")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "1")
        assert client.get("/latin").status == 200


@pytest.mark.parametrize(
    ("content", "body", "content_type", "framing"),
    [
        ({}, "", None, ("content-length", "0")),
        ({"json": {"a": "ü"}}, '{"a": "\\u00fc"}', "application/json", ("content-length", "15")),
        ({"json": []}, "[]", "application/json", ("content-length", "2")),
        ({"data": {"a": "1 2", "b": ["x", "y"]}}, "a=1+2&b=x&b=y", "application/x-www-form-urlencoded", None),
        ({"data": [("a", 1), ("a", 2)]}, "a=1&a=2", "application/x-www-form-urlencoded", None),
        ({"body": b"bytes"}, "bytes", None, ("content-length", "5")),
        ({"body": "té"}, "té", None, ("content-length", "3")),
        ({"body": (b"pie", b"ces")}, "pieces", None, ("transfer-encoding", "chunked")),
        ({"body": iter([b"once"])}, "once", None, ("transfer-encoding", "chunked")),
        ({"body": (b"12", b"34"), "headers": {"Content-Length": "4"}}, "1234", None, ("content-length", "4")),
    ],
)
def test_content_is_sent_in_its_own_form(
    content: dict[str, Any], body: str, content_type: str | None, framing: tuple[str, str] | None
) -> None:
    with running(router) as client:
        answer = client.post("/seen", **content)
    assert answer.json()["body"] == body
    assert field(answer, "content-type") == content_type
    if framing:
        assert field(answer, framing[0]) == framing[1]


def test_a_content_type_that_was_given_stays() -> None:
    with running(router) as client:
        answer = client.post("/seen", json=1, headers={"content-type": "application/vnd.test+json"})
    assert field(answer, "content-type") == "application/vnd.test+json"


def test_a_request_has_one_content() -> None:
    with running(router) as client, pytest.raises(ValueError, match="one content"):
        client.post("/seen", json=1, body=b"1")


def test_a_query_is_encoded_and_joined() -> None:
    with running(router) as client:
        assert client.get("/seen", query={"a": ["1", "ü&"], "b": 2}).json()["query"] == [
            ["a", "1"],
            ["a", "ü&"],
            ["b", "2"],
        ]
        assert client.get("/seen?a=1", query=[("b", "2")]).json()["query"] == [["a", "1"], ["b", "2"]]


def test_fields_may_be_repeated_and_replace_the_host() -> None:
    with running(router) as client:
        fields = client.get("/seen", headers=[("X-A", "1"), ("X-A", "2"), ("Host", "elsewhere")]).json()["fields"]
    assert [value for name, value in fields if name == "x-a"] == ["1", "2"]
    assert [value for name, value in fields if name == "host"] == ["elsewhere"]


def test_an_answer_is_read_without_regard_to_case_and_by_its_charset() -> None:
    with running(router) as client:
        answer = client.get("/latin")
    assert answer.headers["CONTENT-TYPE"] == "text/plain; charset=latin-1"
    assert answer.headers.all("x-a") == ["1", "2"]
    assert (answer.body, answer.text) == (b"\xe9", "é")
    assert repr(answer) == "<Answer 200 OK: 1 bytes>"
    with pytest.raises(ValueError):
        answer.json()


def test_a_thread_keeps_its_connection_and_another_has_its_own() -> None:
    with running(router) as client:
        mine = [client.get("/seen").json()["peer"] for _ in range(3)]
        others: list[str] = []
        thread = threading.Thread(target=lambda: others.append(client.get("/seen").json()["peer"]))
        thread.start()
        thread.join(10)
        assert len(set(mine)) == 1
        assert others and others[0] not in mine
        client.close()
        assert client.get("/seen").json()["peer"] not in mine


def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    with running(router) as client:
        assert client.get("/seen", headers={"Connection": "close"}).status == 200
        assert client.post("/seen", body=b"again").json()["body"] == "again"


def test_an_idle_connection_that_the_server_closes_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        closed = threading.Event()

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                closed.set()

        thread = threading.Thread(target=serve)
        thread.start()
        assert client.get("/").body == b"ok"
        assert closed.wait(10)
        assert client.post("/", body=b"not sent twice").body == b"ok"
        thread.join(10)
        client.close()


def test_the_answer_to_a_refused_body_is_read() -> None:
    with running(router, max_body=10) as client:
        answer = client.post("/seen", body=b"x" * 5_000_000)
        assert answer.status == 413
        assert client.post("/seen", body=b"small").status == 200


def test_a_base_may_have_a_path() -> None:
    outer = Router()
    outer.mount("/inner", router)
    with running(outer) as client, Client(f"{client.base}/inner/") as inner:
        assert inner.get("/seen").status == 200


@pytest.mark.parametrize("base", ["127.0.0.1:80", "ftp://127.0.0.1", "https://", "http://", "unix:x"])
def test_a_base_that_is_no_http_url_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Client(base)


def test_the_options_are_those_of_the_server() -> None:
    with running(lambda request: "one handler", server_header="test", stop_timeout=1) as client:
        assert client.server is not None
        assert client.server.settings.stop_timeout == 1
        answer = client.get("/any/path")
    assert (answer.text, answer.headers["server"]) == ("one handler", "test")
    misspelt: Any = {"max_quue": 1}
    with pytest.raises(ConfigError, match="there is no option max_quue"), running(router, **misspelt):
        pytest.fail("it has started")


def test_what_is_cut_off_at_the_end_fails_the_test() -> None:
    entered, release = threading.Event(), threading.Event()

    def stuck(request: Request) -> str:
        entered.set()
        release.wait(30)
        return ""

    def ask() -> None:
        with running(stuck, stop_timeout=0) as client:
            assert client.server is not None
            address = client.server.address
            with Raw((address.host, address.port)) as connection:
                connection.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                assert entered.wait(10)

    with pytest.raises(AssertionError, match="could not stop cleanly"):
        ask()
    release.set()


def test_what_a_block_raises_comes_through_and_the_server_stops() -> None:
    servers = []

    def fail() -> None:
        with running(router) as client:
            servers.append(client.server)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert servers[0] is not None
    assert servers[0].stopping.is_set()
