"""A browser over TLS: pages and WebSockets by HTTP/2, on one connection."""

from collections.abc import Iterator

import pytest

import examples.chat
from tests.interop.browser import Browser, browsing


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.mark.time_limit(150)
def test_pages_and_sockets_share_a_connection(serve, browser: Browser):
    running = serve(examples.chat.router, tls_self_signed=True)
    url = running.url
    assert url.startswith("https://")
    with browser.page(f"{url}/rooms/nile") as page:
        loaded = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert page.run(loaded) == "h2"
        assert page.run("return isSecureContext")
        page.type("#name", "Ani\n")
        page.until_shown("#status", "connected")
        page.type("#text", "Hail!\n")
        page.until_shown("#lines", "Ani: Hail!")
        # It is a stream of the page's own connection (RFC 8441): none is a WebSocket as a whole.
        stats = running.server.stats()
        assert (stats["websockets_open"], stats["connections"]["websocket"]) == (1, 0)
        # Many at once on the one connection.
        script = "const all = [...Array(50)].map(() => fetch('/rooms/nile').then((answer) => answer.text()));"
        assert page.run(f"{script} return Promise.all(all).then((texts) => new Set(texts).size)") == 1
    assert examples.chat.rooms.keys() <= {"nile"}
