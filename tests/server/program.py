"""A server in a process of its own, for tests that signal it, starve it, or look at its processor time.

Run as ``python -m tests.server.program [descriptors]``. It prints a JSON line for each event: ``{"port": ...}`` when
it serves, ``{"held": ...}`` when a request is held, ``{"clean": ...}`` when it has stopped. A line ``go`` on standard
input lets go what is held.
"""

import json
import os
import resource
import sys
import threading
from typing import Any

from ushabti.routing import Router
from ushabti.server import Server


def say(**facts: Any) -> None:
    # One write, so that the lines of two threads do not mix.
    os.write(1, json.dumps(facts).encode() + b"\n")


def router(let_go: threading.Event) -> Router:
    routes = Router()

    @routes.get("/hello")
    def hello(request):
        return "hello"

    @routes.get("/hold")
    def hold(request):
        say(held=True)
        let_go.wait()
        return "let go"

    @routes.get("/cpu")
    def cpu(request):
        times = os.times()
        return {"seconds": times.user + times.system}

    return routes


def main() -> None:
    options: dict[str, Any] = {"stop_timeout": 30}
    if len(sys.argv) > 1:
        descriptors = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        options["max_connections"] = descriptors
    let_go = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "go":
                let_go.set()

    threading.Thread(target=listen, daemon=True).start()
    server = Server(router(let_go), **options)
    is_clean = server.serve(port=0, ready=lambda server: say(port=server.address.port))
    say(clean=is_clean)


if __name__ == "__main__":
    main()
