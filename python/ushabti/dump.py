"""The thread dump by request: what every worker does, since when, for whom, and where in the code it is; and what waits
without a thread.

A dump is made while everything goes on. The workers' desks are looked at before and after the stacks are taken, so that
a stack is never shown under a request that its thread had left.

Without the GIL no stack of another thread is read: that thread runs on meanwhile, and CPython does not guard the frames
of :func:`sys._current_frames` against it. Read all the same, they end the interpreter now and then.
"""

import contextlib
import gc
import json
import linecache
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any, NamedTuple

__all__ = ["Activity", "Dump", "Pending", "Queued", "escaped", "stack_of"]

# What is shown of a target or a name: a client may send kilobytes. And of a place in the code.
_SHOWN_MAX = 200
_LINE_MAX = 1000
# Of a deeper stack the innermost frames are shown: they tell what recurs.
_FRAMES_MAX = 200

# What of the statistics stands at the head of a dump.
_HEAD = ("queue_waiting", "requests_deferred", "workers", "workers_busy", "connections_open", "websockets_open")

# Held while the garbage collector is off: it is the process's.
_collector = threading.Lock()

# Thread, number of the piece of work, and what that is: see `_core.Server.desks`.
_Task = tuple[str, str, str, int, float, float, float, bool]
_Desk = tuple[int, int, _Task | None]
# Code, and the line in it.
_Place = tuple[CodeType, int | None]
# Requests, how many more there are, and queues: see `_core.Server.waiting`.
_Waiting = tuple[list[tuple[str, str, str, int, float, float, bool]], int, list[tuple[str, int, float | None]]]


class Activity(NamedTuple):
    """What one thread has in hand.

    Attributes:
        thread: The thread's name.
        kind: ``request``, ``call`` (one that a request has spread over the workers), ``websocket``, or
            ``websocket thread`` for a blocking handler.
        subject: Method and target of the request; the event and the number of a socket.
        route: The route's pattern; empty if there is none.
        age: Since the request's head was complete, or the thread began with the socket, in seconds.
        waited: How long the request has waited for a worker, when it was complete.
        running: How long the thread has had it.
        is_connected: Whether the client is there.
        has_ended: It was over before the stack was taken.
        stack: Its Python stack, the outermost frame first, a line each for the place and the code.
    """

    thread: str
    kind: str
    subject: str
    route: str
    age: float
    waited: float
    running: float
    is_connected: bool
    has_ended: bool
    stack: list[str]


class Pending(NamedTuple):
    """A request that no thread has in hand.

    Attributes:
        place: ``deferred``, or ``gate`` where as many of its route run as its ``concurrency`` says.
        subject: Its method and target.
        route: The route's pattern; empty if there is none.
        age: Since the request's head was complete, in seconds.
        waited: How long it has been there.
        is_connected: Whether the client is there.
    """

    place: str
    subject: str
    route: str
    age: float
    waited: float
    is_connected: bool


class Queued(NamedTuple):
    """The queue of a lane.

    Attributes:
        lane: The lane.
        waiting: How many requests and WebSockets wait there for a worker.
        at_most: Nothing has been there for longer, in seconds; None if that is not known.
    """

    lane: str
    waiting: int
    at_most: float | None


class Dump(NamedTuple):
    """What all threads of a process do, and how much waits for them.

    Attributes:
        title: Which server.
        counts: Figures for the head of the dump, by name.
        busy: What is in hand, the oldest first.
        pending: Requests that were deferred or wait at the gate of their route, the oldest first: at most a hundred.
        pending_more: How many more of these there are.
        queues: The lanes in which something waits for a worker.
        idle: Names of the workers that wait for work.
        others: Name and stack of every other Python thread.
        has_stacks: False where the interpreter runs without the GIL: the stacks of other threads cannot be read there.
    """

    title: str
    counts: dict[str, int]
    busy: list[Activity]
    pending: list[Pending]
    pending_more: int
    queues: list[Queued]
    idle: list[str]
    others: list[tuple[str, list[str]]]
    has_stacks: bool

    @classmethod
    def take(
        cls,
        title: str,
        stats: Mapping[str, Any],
        desks: Callable[[], Sequence[_Desk]],
        sockets: Callable[[], Iterable[tuple[int, Any, float]]],
        waiting: Callable[[], _Waiting],
        patterns: Sequence[str],
    ) -> "Dump":
        """Looks at all threads, and at what waits for one.

        Args:
            title: Which server.
            stats: What `Server.stats` says.
            desks: Looks at the workers.
            sockets: Looks at the threads of blocking WebSocket handlers: number, socket, since when (monotonic).
            waiting: Looks at what no thread has in hand.
            patterns: The routes' patterns by their numbers.
        """
        before = {thread: (number, task) for thread, number, task in desks()}
        blocking = {thread: (socket, since) for thread, socket, since in sockets()}
        with _uncollected():
            places = {thread: _places(frame) for thread, frame in _frames().items()}
        after = {thread: number for thread, number, task in desks() if task is not None}
        still = {thread: since for thread, _, since in sockets()}
        requests, more, queues = waiting()
        names = {thread.ident: thread.name for thread in threading.enumerate() if thread.ident is not None}
        now = time.monotonic()
        linecache.checkcache()
        stacks = {thread: _lines(some) for thread, some in places.items()}
        has_stacks = _has_gil()
        if not has_stacks:
            stacks = {thread: stacks.get(thread, []) for thread in names}

        def name_of(thread: int) -> str:
            return names.get(thread, f"thread {thread}")

        def route_of(number: int) -> str:
            # Behind the routes stand the handlers of 404 and 405.
            return patterns[number] if number < len(patterns) else ""

        busy: list[Activity] = []
        idle: list[str] = []
        for thread, (number, task) in before.items():
            name, stack = name_of(thread), stacks.pop(thread, [])
            if task is None:
                idle.append(name)
                continue
            kind, verb, target, place, age, waited, running, is_connected = task
            if kind in ("request", "call"):
                subject, route = f"{verb} {target}", route_of(place)
            else:
                subject, route = f"{verb} of socket {place}", ""
            has_ended = after.get(thread) != number
            stack = [] if has_ended else stack
            busy.append(Activity(name, kind, subject, route, age, waited, running, is_connected, has_ended, stack))
        for thread, (socket, since) in blocking.items():
            name, stack, age = name_of(thread), stacks.pop(thread, []), now - since
            has_ended = still.get(thread) != since
            stack = [] if has_ended else stack
            kind, subject = "websocket thread", repr(socket)
            busy.append(Activity(name, kind, subject, "", age, 0.0, age, socket.open, has_ended, stack))
        busy.sort(key=lambda activity: -activity.age)
        others = sorted((name_of(thread), stack) for thread, stack in stacks.items())
        return cls(
            title,
            {name: stats[name] for name in _HEAD if name in stats},
            busy,
            [
                Pending(where, f"{verb} {target}", route_of(number), age, waited, is_connected)
                for where, verb, target, number, age, waited, is_connected in requests
            ],
            more,
            [Queued(*queue) for queue in queues],
            sorted(idle),
            others,
            has_stacks,
        )

    def as_text(self) -> str:
        """The dump for people. What clients sent is escaped: it cannot command a terminal."""
        return "\n".join(self._text()) + "\n"

    def _text(self) -> Iterator[str]:
        counts = ", ".join(f"{name} {number}" for name, number in self.counts.items())
        yield f"==== {escaped(self.title)}: {counts}"
        if not self.has_stacks:
            yield "without stacks: they cannot be read while threads run without the GIL"
        for activity in self.busy:
            yield ""
            yield from _text_of(activity)
        yield from self._text_of_waiting()
        yield ""
        yield f"idle workers: {', '.join(map(escaped, self.idle)) or 'none'}"
        for name, stack in self.others:
            yield ""
            yield f"other thread {escaped(name)}"
            yield from _indented(stack)
        yield "==== end of dump"

    def _text_of_waiting(self) -> Iterator[str]:
        for request in self.pending:
            yield ""
            yield f"no thread: request {escaped(request.subject)}{escaped(_named(request.route))}"
            there = "deferred" if request.place == "deferred" else "at the gate of its route"
            client = _client(request.is_connected)
            yield f"    {request.age:.3f} s old; {there} for {request.waited:.3f} s; {client}"
        if self.pending_more:
            yield ""
            yield f"no thread: {self.pending_more} more requests"
        for queue in self.queues:
            bound = "" if queue.at_most is None else f", none for longer than {queue.at_most:.3f} s"
            yield ""
            yield f"queue of lane {escaped(queue.lane)}: {queue.waiting} wait for a worker{bound}"

    def as_json(self) -> str:
        """The dump for programs."""
        plain: dict[str, Any] = self._asdict()
        for name in ("busy", "pending", "queues"):
            plain[name] = [one._asdict() for one in plain[name]]
        plain["others"] = [{"thread": name, "stack": stack} for name, stack in self.others]
        return json.dumps(plain)


def _text_of(activity: Activity) -> Iterator[str]:
    yield f"{escaped(activity.thread)}: {activity.kind} {escaped(activity.subject)}{escaped(_named(activity.route))}"
    facts = [f"{activity.age:.3f} s old"]
    if activity.kind == "request":
        facts.append(f"{activity.waited:.3f} s in the queue, {activity.running:.3f} s with the worker")
    facts.append(_client(activity.is_connected))
    if activity.has_ended:
        facts.append("has ended meanwhile")
    yield f"    {'; '.join(facts)}"
    yield from _indented(activity.stack)


def _named(route: str) -> str:
    return f" (route {route})" if route else ""


def _client(is_connected: bool) -> str:
    return "the client is there" if is_connected else "the client has left"


def _indented(stack: Iterable[str]) -> Iterator[str]:
    for line in stack:
        yield f"    {escaped(line, _LINE_MAX)}"


def escaped(text: str, most: int = _SHOWN_MAX) -> str:
    """Text of others in one line of a terminal: characters that are not printed are escaped, a long rest is cut."""
    if len(text) > most:
        text = text[:most] + "..."
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def stack_of(thread: int) -> list[str]:
    """The Python stack of a thread by its number (``threading.get_ident``), the outermost frame first.

    Returns:
        Lines without their ends, two for a frame where the source is there; none if there is no such thread, or if it
        cannot be read without the GIL.
    """
    with _uncollected():
        places = _places(_frames().get(thread))
    return _lines(places)


def _has_gil() -> bool:
    # It may come on later, with a module that needs it, and never goes.
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def _frames() -> dict[int, FrameType]:
    """Where every thread stands; without the GIL, only where this one does."""
    return sys._current_frames() if _has_gil() else {threading.get_ident(): sys._getframe()}


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keeps the garbage collector off.

    Before Python 3.12 it may start whenever a frame of another thread is asked for, be it by ``f_back``. If a finalizer
    gives the GIL away then, that thread goes on, and the frame is one of memory that is used otherwise; and who begins
    or ends a thread meanwhile may stop the process for ever (python/cpython#106883). Later versions collect between two
    instructions.
    """
    if sys.version_info >= (3, 12):
        yield
        return
    with _collector:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


def _places(frame: FrameType | None) -> list[_Place]:
    """Where a stack stands, the outermost frame first. Quick: its thread may run on meanwhile."""
    places: list[_Place] = []
    while frame is not None and len(places) < _FRAMES_MAX:
        places.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    # How a thread began tells nothing.
    while places and places[-1][0].co_filename == threading.__file__:
        places.pop()
    places.reverse()
    return places


def _lines(places: list[_Place]) -> list[str]:
    lines = []
    for code, number in places:
        lines.append(f'File "{code.co_filename}", line {number}, in {code.co_name}')
        if number is not None and (source := linecache.getline(code.co_filename, number).strip()):
            lines.append(f"  {source}")
    return lines
