"""What the comparison with other servers asks: ``ushabti examples.bench:router``, then ``make bench``."""

import time

from ushabti import Message, Request, Router, WebSocket

router = Router()

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
SLEEP_S = 0.010
HOG_S = 0.050


@router.get("/")
def hello(request: Request) -> str:
    return "Hello, World!"


@router.get("/sleep")
def sleep(request: Request) -> str:
    """A handler that waits, as for a database."""
    time.sleep(SLEEP_S)
    return ALPHABET


@router.get("/users/{number}")
def user(request: Request, number: str) -> dict[str, str]:
    return {"id": number, "limit": request.query.get("limit", "")}


@router.get("/hog")
def hog(request: Request) -> str:
    """A handler that computes for ``HOG_S`` and does not give the interpreter's lock away by itself."""
    spin(turns_of_a_hog)
    return "done"


@router.websocket("/ws")
class Socket:
    """Sends back what it gets; with ``?topic=NAME``, sends it to all subscribers of that topic instead."""

    __slots__ = ("topic",)  # An object with a dictionary takes some 200 bytes more, and there may be 50,000.

    def on_upgrade(self, request: Request) -> None:
        self.topic = request.query.get("topic")

    def on_open(self, ws: WebSocket) -> None:
        if self.topic:
            ws.subscribe(self.topic)

    def on_message(self, ws: WebSocket, message: Message) -> None:
        if self.topic:
            router.hub.publish(self.topic, message)
        else:
            ws.send(message)


@router.websocket("/publish")
class Publisher:
    def on_message(self, ws: WebSocket, message: Message) -> None:
        router.hub.publish("bench", message)


def spin(turns: int) -> int:
    x = 1
    for i in range(turns):
        x = (x * 31 + i) & 0xFFFFFFFF
    return x


def calibrate() -> int:
    """How many turns of ``spin`` take ``HOG_S`` of CPU on this machine when nothing else runs."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        spin(100_000)
        took.append(time.perf_counter() - begun)
    return int(100_000 * HOG_S / min(took))


turns_of_a_hog = calibrate()
