"""The application that the cases of ``cases/`` ask."""

from collections.abc import Iterator

from ushabti.responses import Response
from ushabti.routing import Router

__all__ = ["router"]


def router() -> Router:
    """Returns the routes.

    ``GET /hello``: ``hello``. ``POST`` or ``PUT /echo``: the body. ``/show``, any method: what of the request the
    server has understood, a line each. ``/status/{number}``: that status, without a body. ``GET /stream``: ``one``,
    ``two``, in pieces. ``GET /leave``: an answer that asks for the connection's end. ``POST /small``: the body, of at
    most 8 bytes. ``GET /jars/{name}``: the name.
    """
    routes = Router()

    @routes.get("/hello")
    def hello(request):
        return "hello"

    @routes.route("/echo", methods=["POST", "PUT"])
    def echo(request):
        return request.body

    @routes.route("/show")
    def show(request):
        lines = [
            f"{request.method} {request.target} {request.http_version}",
            f"path={request.path} query={request.query_string} host={request.host}",
            *(f"{name}={value}" for name, value in request.headers.pairs if name.lower().startswith("x-")),
            f"body={request.body.decode('latin-1')}",
        ]
        return "\n".join(lines)

    @routes.route("/status/{number:int}")
    def status(request, number: int):
        return b"", number

    @routes.get("/stream")
    def stream(request):
        def pieces() -> Iterator[str]:
            yield "one,"
            yield "two"

        return Response.stream(pieces())

    @routes.get("/leave")
    def leave(request):
        return "bye", 200, {"Connection": "close"}

    @routes.post("/small", max_body=8)
    def small(request):
        return request.body

    @routes.get("/jars/{name}")
    def jar(request, name: str):
        return name

    return routes
