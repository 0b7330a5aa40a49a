"""The thread dump, made of what is put into it by hand."""

import gc
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import stands_in
from ushabti.dump import Dump, escaped, stack_of


class Sleeper:
    """A thread that stands in a function of a known name."""

    def __init__(self) -> None:
        self.entered, self.wake = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.stand_here, name="sleeper\x1b[2J")
        self.thread.start()
        assert self.entered.wait(10) and self.thread.ident is not None
        self.number: int = self.thread.ident

    def stand_here(self) -> None:
        self.entered.set()
        self.wake.wait(10)

    def task(self, kind: str = "request", **changed: Any) -> tuple[Any, ...]:
        task = {"verb": "GET", "target": "/", "place": 0, "age": 2.0, "waited": 0.5, "running": 1.5, "there": True}
        return (kind, *{**task, **changed}.values())


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    sleeper = Sleeper()
    yield sleeper
    sleeper.wake.set()
    sleeper.thread.join()


def none_waits() -> Any:
    return [], 0, []


def take(*looks: Any, patterns: tuple[str, ...] = ("/{name}",)) -> Dump:
    """A dump of what the desks show, look after look; the last one again and again."""
    left = list(looks)
    return Dump.take(
        "a test", {"workers": 7}, lambda: left.pop(0) if len(left) > 1 else left[0], list, none_waits, patterns
    )


def test_request_is_shown_with_its_stack(sleeper: Sleeper):
    dump = take([(sleeper.number, 3, sleeper.task(target="/ani?x=1"))])
    [activity] = dump.busy
    assert (activity.kind, activity.subject, activity.route) == ("request", "GET /ani?x=1", "/{name}")
    assert (activity.age, activity.waited, activity.running, activity.is_connected) == (2.0, 0.5, 1.5, True)
    assert stands_in("in stand_here", activity.stack) and stands_in("  self.wake.wait(10)", activity.stack)
    assert not any(threading.__file__ in line for line in activity.stack[:1]), "how it began tells nothing"
    text = dump.as_text()
    assert "request GET /ani?x=1 (route /{name})" in text
    assert "2.000 s old; 0.500 s in the queue, 1.500 s with the worker; the client is there" in text
    assert text.startswith("==== a test: workers 7\n") and text.endswith("==== end of dump\n")


def test_handlers_behind_the_routes_have_no_pattern(sleeper: Sleeper):
    [activity] = take([(sleeper.number, 3, sleeper.task(place=1))]).busy
    assert activity.route == ""


@pytest.mark.parametrize("then", [[], "another", "idle"])
def test_stack_of_another_piece_of_work_is_not_shown(sleeper: Sleeper, then: Any):
    row = (sleeper.number, 3, sleeper.task())
    after = {"another": [(sleeper.number, 4, sleeper.task())], "idle": [(sleeper.number, 3, None)]}.get(str(then), [])
    dump = take([row], after)
    assert dump.busy[0].has_ended and dump.busy[0].stack == []
    assert "has ended meanwhile" in dump.as_text()
    assert "stand_here" not in dump.as_text()


def test_oldest_comes_first(sleeper: Sleeper):
    rows = [(number, 1, sleeper.task(age=age)) for number, age in ((-1, 1.0), (-2, 9.0), (-3, 3.0))]
    assert [activity.age for activity in take(rows).busy] == [9.0, 3.0, 1.0]


def test_idle_workers_are_one_line(sleeper: Sleeper):
    dump = take([(sleeper.number, 0, None), (-1, 0, None)])
    assert dump.busy == [] and len(dump.idle) == 2
    assert [line for line in dump.as_text().splitlines() if line.startswith("idle workers: ")] == [
        "idle workers: sleeper\\x1b[2J, thread -1"
    ]


def test_text_that_clients_chose_cannot_command_a_terminal(sleeper: Sleeper):
    text = take([(sleeper.number, 3, sleeper.task(target="/\x1b]0;title\x07\x9b2J\r\n==== end of dump"))]).as_text()
    assert "/\\x1b]0;title\\x07\\x9b2J\\r\\n==== end of dump" in text
    assert text.replace("\n", "").isprintable()
    assert text.splitlines().count("==== end of dump") == 1


def test_long_targets_are_cut_in_the_text_and_whole_in_json(sleeper: Sleeper):
    dump = take([(sleeper.number, 3, sleeper.task(target="/" + "x" * 30_000))])
    assert max(map(len, dump.as_text().splitlines())) < 1100
    assert json.loads(dump.as_json())["busy"][0]["subject"] == "GET /" + "x" * 30_000


def test_json_has_what_the_text_has(sleeper: Sleeper):
    plain = json.loads(take([(sleeper.number, 3, sleeper.task()), (-1, 0, None)]).as_json())
    assert plain["title"] == "a test" and plain["counts"] == {"workers": 7}
    assert plain["busy"][0]["thread"] == "sleeper\x1b[2J"
    assert plain["idle"] == ["thread -1"]
    assert "MainThread" in [other["thread"] for other in plain["others"]]


def test_thread_of_a_socket_is_shown_with_the_socket(sleeper: Sleeper):
    class Socket:
        open = False

        def __repr__(self) -> str:
            return "<WebSocket 7 /live open>"

    sockets = [(sleeper.number, Socket(), 0.0)]
    [activity] = Dump.take("a test", {}, list, lambda: sockets, none_waits, ()).busy
    assert (activity.kind, activity.subject) == ("websocket thread", "<WebSocket 7 /live open>")
    assert not activity.is_connected and stands_in("stand_here", activity.stack)


def test_what_waits_without_a_thread_is_shown_with_its_place_and_client():
    rows = [
        ("deferred", "GET", "/oracle\x1b", 0, 31.0, 30.5, True),
        ("gate", "POST", "/reports", 1, 2.0, 1.5, False),
        ("deferred", "GET", "/nowhere", 2, 1.0, 0.5, True),
    ]
    waiting = (rows, 12, [("default", 3, 9.25), ("reports", 1, None)])
    dump = Dump.take("a test", {"requests_deferred": 13}, list, list, lambda: waiting, ("/oracle", "/reports"))
    text = dump.as_text()
    assert text.startswith("==== a test: requests_deferred 13\n")
    shown = text.partition("\n\n")[2].partition("\n\nidle workers")[0]
    assert shown.split("\n\n") == [
        "no thread: request GET /oracle\\x1b (route /oracle)\n"
        "    31.000 s old; deferred for 30.500 s; the client is there",
        "no thread: request POST /reports (route /reports)\n"
        "    2.000 s old; at the gate of its route for 1.500 s; the client has left",
        "no thread: request GET /nowhere\n    1.000 s old; deferred for 0.500 s; the client is there",
        "no thread: 12 more requests",
        "queue of lane default: 3 wait for a worker, none for longer than 9.250 s",
        "queue of lane reports: 1 wait for a worker",
    ]
    plain = json.loads(dump.as_json())
    assert plain["pending"][1] == {
        "place": "gate",
        "subject": "POST /reports",
        "route": "/reports",
        "age": 2.0,
        "waited": 1.5,
        "is_connected": False,
    }
    assert plain["pending_more"] == 12
    assert plain["queues"][1] == {"lane": "reports", "waiting": 1, "at_most": None}


def test_stack_of_one_thread(sleeper: Sleeper):
    assert stands_in("in stand_here", stack_of(sleeper.number))
    assert stack_of(-1) == []


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this version collects garbage between two instructions")
@pytest.mark.parametrize("was_enabled", [True, False])
def test_no_garbage_is_collected_while_frames_are_looked_at(was_enabled: bool):
    """What it finalises may let the thread of a frame run on just when the object of that frame is made."""
    entered, wake = threading.Event(), threading.Event()
    collected_in: list[str] = []

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        else:
            entered.set()
            wake.wait(10)

    def note(phase: str, info: dict[str, int]) -> None:
        collected_in.append(sys._getframe(1).f_code.co_name)

    thread = threading.Thread(target=dive, args=(100,))
    thread.start()
    before = gc.get_threshold()
    try:
        assert entered.wait(10) and thread.ident is not None
        gc.callbacks.append(note)
        gc.set_threshold(1)
        if not was_enabled:
            gc.disable()
        assert "in dive" in "\n".join(stack_of(thread.ident))
        assert take([]).others
        assert gc.isenabled() == was_enabled
    finally:
        gc.enable()
        gc.set_threshold(*before)
        gc.callbacks.remove(note)
        wake.set()
        thread.join()
    assert "_places" not in collected_in
    assert bool(collected_in) == was_enabled


def test_deep_stack_is_cut_at_its_outer_end():
    def dive(depth: int) -> list[str]:
        return dive(depth - 1) if depth else stack_of(threading.get_ident())

    lines = dive(300)
    assert len(lines) <= 400 and lines[0].endswith("in dive") and "dump.py" in lines[-2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a b", "/a b"),
        ("/\t", "/\\t"),
        ("\u202e", "\\u202e"),
        ("\udc80", "\\udc80"),
        ("é", "é"),
        ("x" * 201, "x" * 200 + "..."),
    ],
)
def test_escaped(text: str, shown: str):
    assert escaped(text) == shown
