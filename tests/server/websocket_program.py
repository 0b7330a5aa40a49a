"""A server in a process of its own, whose handlers compute and hold the GIL, for tests that take the time.

Run as ``python -m tests.server.websocket_program``. It prints a line with its port when it serves, and stops when
standard input ends.
"""

import sys
import threading
from typing import Any

from ushabti import Router, Server


def router(stop: threading.Event) -> Router:
    routes = Router()

    @routes.get("/compute")
    def compute(request: Any) -> str:
        while not stop.is_set():
            sum(range(1000))
        return "done"

    @routes.websocket("/ws")
    class Echo:
        def on_message(self, ws: Any, message: Any) -> None:
            ws.send(message)

    return routes


def main() -> None:
    stop = threading.Event()
    server = Server(router(stop), stop_timeout=5)
    print(server.start(port=0).port, flush=True)
    sys.stdin.read()
    stop.set()
    server.stop()


if __name__ == "__main__":
    main()
