"""Python's own clients, and httpx."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import httpx
import pytest

from tests.support import Running

TEXT = "Here I am, grüß.\n"
STREAM = "".join(f"line {number}\n" for number in range(5))


@pytest.fixture
def connection(running: Running) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    yield connection
    connection.close()


def test_http_client_asks_all_over_one_connection(connection: http.client.HTTPConnection):
    def ask(method: str, target: str, body: object = None, **options: object) -> tuple[http.client.HTTPResponse, bytes]:
        connection.request(method, target, body, **options)  # type: ignore[arg-type]
        response = connection.getresponse()
        return response, response.read()

    _, first = ask("GET", "/peer")
    response, body = ask("GET", "/text")
    assert (response.status, response.reason, body.decode()) == (200, "OK", TEXT)
    response, body = ask("GET", "/json")
    assert json.loads(body)["answer"] == 42
    response, body = ask("POST", "/echo", b"\0\xff", headers={"Content-Type": "a/b"})
    assert (body, response.getheader("Content-Type")) == (b"\0\xff", "a/b")
    response, body = ask("POST", "/echo", iter([b"one,", b"two"]), encode_chunked=True)
    assert body == b"one,two"
    response, body = ask("GET", "/stream")
    assert (response.getheader("Transfer-Encoding"), body.decode()) == ("chunked", STREAM)
    response, body = ask("HEAD", "/text")
    assert (response.getheader("Content-Length"), body) == (str(len(TEXT.encode())), b"")
    response, body = ask("GET", "/none")
    assert (response.status, response.reason) == (404, "Not Found")
    response, body = ask("DELETE", "/text")
    assert response.status == 405
    _, last = ask("GET", "/peer")
    assert first == last


def test_http_client_asks_for_a_continue(connection: http.client.HTTPConnection):
    connection.putrequest("POST", "/echo")
    connection.putheader("Content-Length", "3")
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    connection.send(b"abc")
    # It skips the interim response.
    assert connection.getresponse().read() == b"abc"


def test_urllib(running: Running):
    with urllib.request.urlopen(f"{running.url}/text", timeout=10) as response:
        assert (response.status, response.read().decode()) == (200, TEXT)
    with urllib.request.urlopen(f"{running.url}/stream", timeout=10) as response:
        assert response.read().decode() == STREAM
    request = urllib.request.Request(f"{running.url}/echo", data=b"x" * 200_000, headers={"Content-Type": "a/b"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert (response.headers["Content-Type"], len(response.read())) == ("a/b", 200_000)
    with urllib.request.urlopen(urllib.request.Request(f"{running.url}/text", method="HEAD"), timeout=10) as response:
        assert response.headers["Content-Length"] == str(len(TEXT.encode()))
    with pytest.raises(urllib.error.HTTPError, match="404: Not Found") as caught:
        urllib.request.urlopen(f"{running.url}/none", timeout=10)
    caught.value.close()


def test_httpx(running: Running):
    with httpx.Client(base_url=running.url, trust_env=False) as client:
        first = client.get("/peer").text
        assert client.get("/text").text == TEXT
        assert client.get("/json").json() == {"answer": 42, "words": ["here", "I", "am"]}
        assert client.post("/echo", json={"a": 1}).json() == {"a": 1}
        assert client.post("/echo", content=iter([b"one,", b"two"])).content == b"one,two"
        assert client.head("/text").headers["content-length"] == str(len(TEXT.encode()))
        with client.stream("GET", "/stream") as response:
            assert list(response.iter_lines()) == STREAM.splitlines()
        assert len(client.get("/large").content) == 2**20
        assert client.options("/echo").headers["allow"]
        assert client.put("/text").status_code == 405
        assert client.get("/peer").text == first


def test_httpx_over_a_unix_socket(tmp_path, serve):
    from tests.interop.app import router

    path = str(tmp_path / "sock")
    serve(router(), bind=[f"unix:{path}"])
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://local") as client:
        assert client.get("/text").text == TEXT
        assert client.get("/peer").text == "unix"
