"""The server that is attacked, in a process of its own.

Run as ``python -m tests.attacks.program OPTIONS``, the options of ``Server`` as a JSON object. It prints a JSON line
for each event: ``{"port": ...}`` when it serves, ``{"clean": ...}`` when it has stopped. Of the lines on standard
input, ``go`` lets go what is held, and ``stats`` prints the counters.
"""

import json
import resource
import sys
import threading
from pathlib import Path
from typing import Any

from tests.server.program import say
from ushabti import Message, Request, Router, Server, WebSocket

PIECE = b"x" * 2**16


def system_takes() -> int:
    """The most bytes that the system takes for a peer that reads none of them (tcp_wmem, tcp(7))."""
    try:
        return int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    except FileNotFoundError:
        return 2**22


# However much of it the system takes, and a peer before it says how little it wants: something is left to wait for.
BIG_BYTES = 2 * system_takes()
BIG = b"x" * BIG_BYTES


def router(let_go: threading.Event) -> Router:
    routes = Router()
    routes.get("/hello", lambda request: "hello")
    routes.get("/big", lambda request: BIG)
    routes.post("/echo", lambda request: request.body)

    @routes.get("/stream")
    def stream(request: Request):
        for _ in range(BIG_BYTES // len(PIECE)):
            yield PIECE

    @routes.get("/hold")
    @routes.post("/hold")
    def hold(request: Request) -> str:
        let_go.wait()
        return "let go"

    @routes.websocket("/ws")
    class Echo:
        def on_message(self, ws: WebSocket, message: Message) -> None:
            ws.send(message)

    @routes.websocket("/room")
    class Room:
        def on_open(self, ws: WebSocket) -> None:
            ws.subscribe("room")

        def on_message(self, ws: WebSocket, message: Message) -> None:
            routes.hub.publish("room", message)

    return routes


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    let_go = threading.Event()
    options: dict[str, Any] = {"stop_timeout": 10, **json.loads(sys.argv[1])}
    server = Server(router(let_go), **options)

    def listen() -> None:
        for line in sys.stdin:
            match line.strip():
                case "go":
                    let_go.set()
                case "stats":
                    say(**server.stats())

    threading.Thread(target=listen, daemon=True).start()
    is_clean = server.serve(port=0, ready=lambda server: say(port=server.address.port))
    say(clean=is_clean)


if __name__ == "__main__":
    main()
