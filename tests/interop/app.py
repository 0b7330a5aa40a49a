"""The application that other people's clients ask."""

from collections.abc import Iterator

from ushabti.routing import Router

__all__ = ["router"]


def router() -> Router:
    """Returns the routes.

    ``GET /text``, ``GET /json``, ``POST /echo`` (the body, with its type), ``GET /stream`` (chunked), ``GET /large``
    (1 MiB), ``GET /peer`` (the client's address and port: two answers that are equal came over one connection).
    """
    routes = Router()
    routes.get("/text", lambda request: "Here I am, grüß.\n")
    routes.get("/json", lambda request: {"answer": 42, "words": ["here", "I", "am"]})
    routes.get("/peer", lambda request: request.peer)
    routes.get("/large", lambda request: b"0123456789abcdef" * 65_536)

    @routes.post("/echo")
    def echo(request):
        return request.body, 200, {"Content-Type": request.headers.get("content-type", "application/octet-stream")}

    @routes.get("/stream")
    def stream(request) -> Iterator[str]:
        for number in range(5):
            yield f"line {number}\n"

    return routes
