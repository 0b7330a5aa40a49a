"""The server of the soak, in a process of its own: ``python -m tools.soak.app``.

It prints a JSON line with its port when it serves, and its counters for each line that comes on standard input.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator

from ushabti import Message, Request, Router, Server, WebSocket

PIECE = b"x" * 20_000
PIECES = 20
ROOM = "room"

router = Router()


@router.get("/hello")
def hello(request: Request) -> str:
    return "hello"


@router.get("/users/{number:int}")
def user(request: Request, number: int) -> dict[str, object]:
    return {"id": number, "limit": request.query.get("limit", ""), "agent": request.headers.get("user-agent", "")}


@router.get("/wait")
def wait(request: Request) -> str:
    """As for a database: what makes the pool grow, and shrink again."""
    time.sleep(0.02)
    return "waited"


@router.post("/echo", max_body="256 KiB")
def echo(request: Request) -> bytes:
    return request.body


@router.get("/stream")
def stream(request: Request) -> Iterator[bytes]:
    for _ in range(PIECES):
        yield PIECE


@router.get("/fail")
def fail(request: Request) -> str:
    raise ValueError("on purpose")


@router.websocket("/ws")
class Echo:
    def on_message(self, ws: WebSocket, message: Message) -> None:
        ws.send(message)


@router.websocket("/room")
class Room:
    def on_open(self, ws: WebSocket) -> None:
        ws.subscribe(ROOM)

    def on_message(self, ws: WebSocket, message: Message) -> None:
        router.hub.publish(ROOM, message)


def main() -> None:
    """Serves until a signal comes."""
    server = Server(router, access_log="text", thread_idle=5, stop_timeout=10)

    def listen() -> None:
        for _ in sys.stdin:
            print(json.dumps(server.stats()), flush=True)

    threading.Thread(target=listen, daemon=True).start()
    server.serve(port=0, ready=lambda server: print(json.dumps({"port": server.address.port}), flush=True))


if __name__ == "__main__":
    main()
