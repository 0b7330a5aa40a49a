"""A chat with rooms: what is said goes to everybody in the room, and who comes later sees the last lines.

Serve it with ``ushabti examples.chat:router``, or run this file, and open http://127.0.0.1:8080/ in two windows. The
page is ``chat.html``, beside this file. A room is a topic of the hub and some lines in memory; when the last one has
left it is forgotten.
"""

import itertools
import json
import threading
import time
from collections import deque
from pathlib import Path

from ushabti import HTTPError, Message, Request, Response, Router, Server, WebSocket

router = Router()

PAGE = Path(__file__).with_name("chat.html").read_text(encoding="utf-8")

HISTORY_LINES = 50
NAME_CHARACTERS_MAX = 24
TEXT_CHARACTERS_MAX = 500


class Room:
    """The last lines of a room, and how many people are in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.topic = f"room/{name}"
        # Guarded by the lock of all rooms.
        self.people = 0
        # Guards the rest. It is held while a line is kept and published, which waits for no client, so that whoever
        # comes in meanwhile sees each line once, and all see them in the same order.
        self._lock = threading.Lock()
        self._lines: deque[tuple[int, str]] = deque(maxlen=HISTORY_LINES)
        # They begin at the clock's microseconds, so that they grow on when the room, or the server, begins anew.
        self._numbers = itertools.count(time.time_ns() // 1_000)

    def enter(self, ws: WebSocket, after: int) -> None:
        """Sends the last lines behind line number ``after``; from here on the socket gets every new one."""
        with self._lock:
            for number, line in self._lines:
                if number > after:
                    ws.send(line)
            ws.subscribe(self.topic)

    def say(self, kind: str, name: str, text: str = "") -> None:
        """Tells everybody in the room."""
        with self._lock:
            number = next(self._numbers)
            line = json.dumps({"number": number, "at": time.time(), "kind": kind, "name": name, "text": text})
            self._lines.append((number, line))
            router.hub.publish(self.topic, line)


rooms: dict[str, Room] = {}
rooms_lock = threading.Lock()


def come(name: str) -> Room:
    """Returns the room, which stays until as many have gone as have come."""
    with rooms_lock:
        room = rooms.get(name)
        if room is None:
            room = rooms[name] = Room(name)
        room.people += 1
        return room


def go(room: Room) -> None:
    """Forgets the room if this was the last one in it."""
    with rooms_lock:
        room.people -= 1
        if not room.people:
            del rooms[room.name]


def name_in(request: Request) -> str:
    """Returns the name that somebody wants to have; refuses what is none."""
    name = " ".join(request.query.get("name", "").split())
    if not name:
        raise HTTPError(400, "A name is needed.")
    if len(name) > NAME_CHARACTERS_MAX:
        raise HTTPError(400, f"That name is too long: at most {NAME_CHARACTERS_MAX} characters.")
    if not name.isprintable():
        raise HTTPError(400, "A name has no control characters.")
    return name


@router.error(400)
def refused(request: Request, problem: HTTPError) -> dict[str, str]:
    return {"error": problem.detail}


@router.get("/")
def lobby(request: Request) -> Response:
    return Response.redirect("/rooms/lobby")


@router.get("/rooms/{room:slug}")
def page(request: Request, room: str) -> Response:
    return Response.html(PAGE)


@router.get("/name")
def name(request: Request) -> dict[str, str]:
    """Why a socket was refused: a browser does not tell its page what the server has answered to the handshake."""
    return {"name": name_in(request)}


@router.websocket("/rooms/{room:slug}/socket")
class Talk:
    """A connection of somebody in a room: ``?name=NAME``; who comes back adds ``&after=NUMBER`` of the last line."""

    def on_upgrade(self, request: Request, room: str) -> None:
        self.name = name_in(request)
        self.room_name = room
        try:
            self.after = int(request.query.get("after", "0"))
        except ValueError:
            raise HTTPError(400, "after is the number of a line.") from None

    def on_open(self, ws: WebSocket) -> None:
        # Here and not in on_upgrade: on_close comes after this alone, and what it undoes is done here.
        self.room = come(self.room_name)
        self.room.enter(ws, self.after)
        self.room.say("joined", self.name)

    def on_message(self, ws: WebSocket, message: Message) -> None:
        if not message.is_text:
            ws.close(1003, "only text is spoken here")
        elif len(message.text) > TEXT_CHARACTERS_MAX:
            ws.close(1009, f"at most {TEXT_CHARACTERS_MAX} characters")
        elif text := message.text.strip():
            self.room.say("said", self.name, text)

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        self.room.say("left", self.name)
        go(self.room)


if __name__ == "__main__":
    Server(router).serve(port=8080)
