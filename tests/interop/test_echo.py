"""``examples/echo.py``, asked by our own client, by the library ``websockets``, and by a real browser."""

import logging
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import examples.echo
from tests.interop.browser import Browser, browsing
from tests.server.waiting import eventually
from tests.support import Running
from ushabti.testing import Client

PATHS = ("/function", "/object", "/loop")
each_style = pytest.mark.parametrize("path", PATHS)

MESSAGES: list[str | bytes] = ["Hail!", "", "grüß 𓀀", b"", bytes(range(256)), "x" * 100_000]

# Sends text and bytes, reads each back, and closes; returns what it has seen.
IN_THE_BROWSER = """
const [path, long] = arguments;
const sent = ["Hail!", "", "grüß 𓀀", new Uint8Array([0, 255, 10]), "x".repeat(long)];
const seen = [];
const socket = new WebSocket(location.href.replace("http", "ws") + path.slice(1));
socket.binaryType = "arraybuffer";
return new Promise((resolve) => {
  socket.onopen = () => sent.forEach((each) => socket.send(each));
  socket.onmessage = ({ data }) => {
    seen.push(typeof data === "string" ? (data.length < 100 ? data : data.length) : [...new Uint8Array(data)]);
    if (seen.length === sent.length) socket.close(4000, "enough");
  };
  socket.onclose = ({ code, wasClean }) => resolve({ seen, code, wasClean });
});
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    # As many threads at the end of a test as at its start, so that none seems to be left behind.
    running = Running.start(examples.echo.router, workers=4)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@each_style
def test_own_client_gets_back_what_it_sends(running: Running, path: str):
    with Client(running.url) as client, client.websocket(path) as ws:
        for message in MESSAGES:
            ws.send(message)
        assert [ws.receive() for _ in MESSAGES] == MESSAGES


@each_style
def test_websockets_library_gets_back_what_it_sends(running: Running, path: str):
    with connect(f"ws://127.0.0.1:{running.port}{path}", proxy=None) as ws:
        for message in MESSAGES:
            ws.send(message)
        assert [ws.recv(10) for _ in MESSAGES] == MESSAGES
        # Fragments come back as the one message that they are.
        ws.send(iter(["in ", "three ", "parts"]))
        assert ws.recv(10) == "in three parts"
        assert ws.ping().wait(10)
        ws.close(4000, "enough")
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(10)
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 4000


def test_object_counts_the_messages_of_its_own_socket(running: Running, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "examples.echo")
    with Client(running.url) as client, client.websocket("/object") as one, client.websocket("/object") as other:
        for ws in (one, other, one, one):
            ws.send("counted")
            assert ws.receive() == "counted"
        one.close(4001)
        other.close(4002)
    # The handlers are told after the clients.
    wanted = ["closed with 4001 after 3 messages", "closed with 4002 after 1 messages"]
    eventually(lambda: sorted(message for message in caplog.messages if "400" in message) == wanted)


@pytest.mark.time_limit(150)
def test_browser_gets_back_what_it_sends(serve, browser: Browser):
    # A server of its own: the browser keeps its connections open.
    running = serve(examples.echo.router)
    with browser.page(f"{running.url}/") as page:
        for path in PATHS:
            assert page.run(IN_THE_BROWSER, path, 100_000) == {
                "seen": ["Hail!", "", "grüß 𓀀", [0, 255, 10], 100_000],
                "code": 4000,
                "wasClean": True,
            }
