"""WebSockets that send back what they get, in the three styles in which one may be written.

Serve it with ``ushabti examples.echo:router``, or run this file; then, in the console of a browser that shows the page:

    ws = new WebSocket("ws://127.0.0.1:8080/function")
    ws.onmessage = (event) => console.log(event.data)
    ws.send("Hail!")
"""

import logging

from ushabti import Event, Message, Request, Router, Server, WebSocket

router = Router()
logger = logging.getLogger(__name__)


@router.get("/")
def page(request: Request) -> str:
    return "Open a WebSocket at /function, /object or /loop.\n"


@router.websocket("/function")
def function(ws: WebSocket, event: Event, message: Message | None) -> None:
    """One function for every event of every socket."""
    if event is Event.MESSAGE and message is not None:
        ws.send(message)


@router.websocket("/object")
class Echo:
    """An object for each socket, which may keep what it needs: here it counts the messages."""

    def on_open(self, ws: WebSocket) -> None:
        self.count = 0

    def on_message(self, ws: WebSocket, message: Message) -> None:
        self.count += 1
        ws.send(message)

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        logger.info("closed with %d after %d messages", code, self.count)


@router.websocket("/loop", blocking=True)
def loop(ws: WebSocket) -> None:
    """A thread for each socket: the simplest to read, and meant for few."""
    for message in ws:
        ws.send(message)


if __name__ == "__main__":
    Server(router).serve(port=8080)
