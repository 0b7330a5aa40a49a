"""What the conformance suite asks of a server: ``ushabti examples.conformance:router``, then ``make conformance``."""

from ushabti import Message, Request, Response, Router, WebSocket

router = Router()

# Autobahn sends messages of 16 MiB: serve with `--max-message 16MiB`.

BIG = b"x" * (16 * 1024 * 1024)


@router.get("/hello")
def hello(request: Request) -> str:
    return "hello"


@router.route("/echo", methods=("POST", "PUT"))
def echo(request: Request) -> bytes:
    return request.body


@router.route("/header")
def header(request: Request) -> bytes:
    """The field ``X-Test`` as it was received, byte by byte; repeated fields as one list (RFC 9110 section 5.3)."""
    values = request.headers.all("X-Test")
    return ", ".join(values).encode("latin-1") if values else b"-"


@router.get("/status/{code:int}")
def status(request: Request, code: int) -> Response:
    return Response(status=code)


@router.websocket("/ws")
class Echo:
    def on_message(self, ws: WebSocket, message: Message) -> None:
        # A client may send more than it reads at a time.
        ws.send(message, wait=30)


@router.get("/big")
def big(request: Request) -> bytes:
    return BIG
