"""``examples/chat.py``: its rooms asked by our own client, and its page in a real browser."""

import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import examples.chat
from examples.chat import HISTORY_LINES, NAME_CHARACTERS_MAX, TEXT_CHARACTERS_MAX
from tests.interop.browser import Browser, Page, browsing
from tests.server.waiting import eventually
from ushabti.testing import Client, ClientSocket, SocketClosed, UpgradeRefused, running

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0


@pytest.fixture
def client() -> Iterator[Client]:
    with running(examples.chat.router) as client:
        yield client
    assert examples.chat.rooms == {}, "a room was not forgotten when everybody had left"


def enter(client: Client, name: str, room: str = "nile", **query: object) -> ClientSocket:
    return client.websocket(f"/rooms/{room}/socket", query={"name": name, **query})


def line(ws: ClientSocket) -> dict[str, Any]:
    return ws.receive_json()


def words(ws: ClientSocket) -> tuple[str, str, str]:
    """The next line without its number and time."""
    got = line(ws)
    return got["kind"], got["name"], got["text"]


# ---- rooms


def test_line_goes_to_everybody_in_the_room_and_to_nobody_else(client: Client):
    with enter(client, "Ani") as ani, enter(client, "Tutu") as tutu, enter(client, "Hunefer", "delta") as hunefer:
        assert words(ani) == ("joined", "Ani", "")
        assert words(ani) == ("joined", "Tutu", "")
        ani.send("  Hail!\n")
        assert words(ani) == ("said", "Ani", "Hail!")
        for wanted in (("joined", "Ani", ""), ("joined", "Tutu", ""), ("said", "Ani", "Hail!")):
            assert words(tutu) == wanted
        hunefer.send("the delta is quiet")
        assert words(hunefer) == ("joined", "Hunefer", "")
        assert words(hunefer) == ("said", "Hunefer", "the delta is quiet")


@pytest.mark.parametrize("is_polite", [True, False])
def test_who_leaves_is_told_to_the_others(client: Client, is_polite: bool):
    with enter(client, "Ani") as ani:
        assert words(ani) == ("joined", "Ani", "")
        tutu = enter(client, "Tutu")
        assert words(ani) == ("joined", "Tutu", "")
        tutu.close() if is_polite else tutu.abort()
        assert words(ani) == ("left", "Tutu", "")


def test_who_comes_later_sees_the_last_lines_and_who_comes_back_what_was_missed(client: Client):
    with enter(client, "Ani") as ani:
        for number in range(HISTORY_LINES + 10):
            ani.send(str(number))
        mine = [line(ani) for _ in range(HISTORY_LINES + 11)]
        with enter(client, "Tutu") as tutu:
            seen = [line(tutu) for _ in range(HISTORY_LINES + 1)]
            assert seen[:-1] == mine[-HISTORY_LINES:]
            assert (seen[-1]["kind"], seen[-1]["name"]) == ("joined", "Tutu")
        assert [words(ani)[0] for _ in range(2)] == ["joined", "left"]
        with enter(client, "Tutu", after=mine[-3]["number"]) as tutu:
            assert [line(tutu)["text"] for _ in range(2)] == [str(HISTORY_LINES + 8), str(HISTORY_LINES + 9)]
            assert [words(tutu)[:2] for _ in range(3)] == [("joined", "Tutu"), ("left", "Tutu"), ("joined", "Tutu")]


def test_numbers_of_lines_grow_when_a_room_begins_anew(client: Client):
    with enter(client, "Ani") as ani:
        before = line(ani)["number"]
    eventually(lambda: not examples.chat.rooms)
    with enter(client, "Ani", after=before) as ani:
        anew = line(ani)
        assert anew["number"] > before and anew["kind"] == "joined"


def test_who_comes_while_lines_are_said_misses_none_and_sees_none_twice(client: Client, hectic: None):
    is_over = threading.Event()

    def talk(ws: ClientSocket) -> None:
        with ws:
            while not is_over.is_set():
                ws.send("on and on")
                line(ws)

    talking = [threading.Thread(target=talk, args=(enter(client, f"Ani {number}"),)) for number in range(3)]
    for thread in talking:
        thread.start()
    try:
        for _ in range(40):
            with enter(client, "Tutu") as tutu:
                numbers = [line(tutu)["number"] for _ in range(HISTORY_LINES + 20)]
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    finally:
        is_over.set()
        for thread in talking:
            thread.join()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "A name is needed."),
        (" \t", "A name is needed."),
        ("x" * (NAME_CHARACTERS_MAX + 1), "too long"),
        ("An\0i", "no control characters"),
    ],
)
def test_name_that_is_none_is_refused_to_the_socket_and_to_the_page_alike(client: Client, name: str, why: str):
    with pytest.raises(UpgradeRefused) as caught:
        enter(client, name)
    assert caught.value.answer.status == 400
    assert why in caught.value.answer.json()["error"]
    answer = client.get("/name", query={"name": name})
    assert (answer.status, answer.json()) == (400, caught.value.answer.json())


def test_name_is_told_in_its_short_form(client: Client):
    assert client.get("/name", query={"name": "  Nebet \t Het "}).json() == {"name": "Nebet Het"}


def test_number_that_is_none_is_refused(client: Client):
    with pytest.raises(UpgradeRefused) as caught:
        enter(client, "Ani", after="yesterday")
    assert caught.value.answer.status == 400


@pytest.mark.parametrize(("message", "code"), [(b"bytes", 1003), ("x" * (TEXT_CHARACTERS_MAX + 1), 1009)])
def test_message_that_the_page_would_not_send_closes_the_socket(client: Client, message: str | bytes, code: int):
    with enter(client, "Ani") as ani:
        line(ani)
        ani.send(message)
        with pytest.raises(SocketClosed) as caught:
            line(ani)
        assert caught.value.code == code


def test_empty_line_is_not_told(client: Client):
    with enter(client, "Ani") as ani:
        ani.send(" ")
        ani.send("after it")
        assert [words(ani) for _ in range(2)] == [("joined", "Ani", ""), ("said", "Ani", "after it")]


def test_other_pages_may_not_open_sockets(client: Client):
    with pytest.raises(UpgradeRefused) as caught:
        client.websocket("/rooms/nile/socket", query={"name": "Ani"}, headers={"Origin": "https://elsewhere.example"})
    assert caught.value.answer.status == 403


def test_root_leads_to_a_room(client: Client):
    answer = client.get("/")
    assert (answer.status, answer.headers["location"]) == (303, "/rooms/lobby")
    answer = client.get("/rooms/lobby")
    assert answer.headers["content-type"] == "text/html; charset=utf-8" and "<h1" in answer.text


# ---- the page in a browser


class Program:
    """The chat as a process of its own, as a user starts it."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, "-m", "ushabti", "examples.chat:router", "--bind", f"127.0.0.1:{port}"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        said = self._process.stdout.readline() if select.select([self._process.stdout], [], [], PATIENCE_S)[0] else ""
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", said)
        if not found:
            self._process.kill()
            raise AssertionError(f"{said!r}, {self._process.communicate()}")
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops it in good order. May be called again. What it has logged must be nothing grave."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            log = self._process.communicate(timeout=PATIENCE_S)[1]
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        assert self._process.returncode == 0 and "ERROR" not in log, log


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def enter_page(page: Page, name: str) -> None:
    page.type("#name", f"{name}\n")
    page.until_shown("#status", "connected")


def lines(page: Page) -> list[str]:
    """What the page shows as lines, without the times."""
    return page.run(
        "const said = (li) => [...li.childNodes].filter((node) => node.nodeName !== 'TIME').map((n) => n.textContent);"
        "return [...document.querySelectorAll('#lines li')].map((li) => said(li).join('').trim());"
    )


@pytest.mark.time_limit(150)
def test_two_pages_talk_and_one_leaves(browser: Browser):
    with Program() as program, browser.page(program.url) as ani:
        ani.until_shown("#room", "lobby")
        enter_page(ani, "Ani")
        with browser.page(f"{program.url}/rooms/lobby") as tutu:
            enter_page(tutu, "Tutu")
            ani.until_shown("#lines", "Tutu joined")
            ani.type("#text", "Hail!\n")
            tutu.until_shown("#lines", "Ani: Hail!")
            # Nobody's line becomes part of the page.
            tutu.type("#text", "<b>Hail</b> & well met, grüß\n")
            for page in (ani, tutu):
                page.until_shown("#lines", "Tutu: <b>Hail</b> & well met, grüß")
            assert ani.run("return document.querySelectorAll('#lines b').length") == 0
            said = ["Ani joined", "Tutu joined", "Ani: Hail!", "Tutu: <b>Hail</b> & well met, grüß"]
            assert lines(ani) == lines(tutu) == said
        # Its window was closed.
        ani.until_shown("#lines", "Tutu left")
        with browser.page(f"{program.url}/rooms/lobby") as tutu:
            enter_page(tutu, "Tutu")
            tutu.until("return document.querySelectorAll('#lines li').length === 6")
            assert lines(tutu) == [*said, "Tutu left", "Tutu joined"]
            tutu.click("#leave")
            ani.until("return document.querySelectorAll('#lines li').length === 7")
            assert lines(ani)[-1] == "Tutu left"
            # Who comes back gets what was missed, and nothing again.
            tutu.click("#enter button")
            tutu.until("return document.querySelectorAll('#lines li').length >= 8")
            assert lines(tutu) == [*said, "Tutu left", "Tutu joined", "Tutu left", "Tutu joined"]


@pytest.mark.time_limit(150)
def test_refused_name_is_shown_and_may_be_mended(browser: Browser):
    with Program() as program, browser.page(f"{program.url}/rooms/nile") as page:
        page.type("#name", "x" * (NAME_CHARACTERS_MAX + 1) + "\n")
        page.until_shown("#problem", f"That name is too long: at most {NAME_CHARACTERS_MAX} characters.")
        page.until_shown("#enter", "Enter")
        assert page.text("#status") == "" and lines(page) == []
        page.clear("#name")
        enter_page(page, "Ani")
        page.until_shown("#lines", "Ani joined")
        assert page.text("#problem") == ""


@pytest.mark.time_limit(150)
def test_what_is_typed_while_the_socket_closes_is_kept(browser: Browser):
    with Program() as program, browser.page(program.url) as page:
        enter_page(page, "Ani")
        # A state that lasts too short a time to be met.
        page.run("Object.defineProperty(WebSocket.prototype, 'readyState', {get: () => WebSocket.CLOSING})")
        page.type("#text", "kept\n")
        assert page.run("return document.querySelector('#text').value") == "kept"


@pytest.mark.time_limit(150)
def test_pages_come_back_when_the_server_is_started_again(browser: Browser):
    with Program() as program, browser.page(program.url) as ani, browser.page(program.url) as tutu:
        enter_page(ani, "Ani")
        enter_page(tutu, "Tutu")
        ani.until_shown("#lines", "Tutu joined")
        ani.type("#text", "before\n")
        tutu.until_shown("#lines", "Ani: before")
        program.stop()
        for page in (ani, tutu):
            page.until_shown("#status", "connection lost, trying again")
        # What is typed meanwhile is not lost, and not sent to nobody.
        ani.type("#text", "after\n")
        assert ani.run("return document.querySelector('#text').value") == "after"
        with Program(program.port):
            for page in (ani, tutu):
                page.until_shown("#status", "connected")
            ani.type("#text", "\n")
            tutu.until_shown("#lines", "Ani: after")
            tutu.type("#text", "welcome back\n")
            for page in (ani, tutu):
                page.until_shown("#lines", "Tutu: welcome back")
                # Nothing of what was shown before is gone or shown twice.
                shown = lines(page)
                assert shown.count("Ani: before") == shown.count("Ani: after") == 1
                assert shown.index("Ani: before") < shown.index("Ani: after") < shown.index("Tutu: welcome back")
