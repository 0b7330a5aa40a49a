"""Asks a router without a socket: the native table finds the route, and its endpoint is called as a worker does."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from ushabti import _core
from ushabti.responses import Response
from ushabti.routing import Router

__all__ = ["answer", "ask", "body", "fail", "hello"]


def ask(router: Router, path: str = "/", method: str = "GET", target: str = "") -> Response | None:
    """Answers a request as the IO thread and a worker do; ``None``: the handler has sent its answer itself."""
    frozen = router.freeze()
    request: Any = SimpleNamespace(
        method=method, path=unquote(path), target=target or f"{path}?q=/x/y", allow="", responded=False, state={}
    )
    request.deferred = False
    request.respond = lambda *_: setattr(request, "responded", True)
    parameters: dict[str, Any] = {}
    match _core.RouteTable(frozen.routes).find(method, path):
        case ("route", number, parameters):
            endpoint = frozen.endpoints[number]
        case ("not found",) if frozen.not_found:
            endpoint = frozen.not_found
        case ("method not allowed", allow) if frozen.method_not_allowed:
            request.allow = allow
            endpoint = frozen.method_not_allowed
        case found:
            return Response(f"from the IO thread: {found[0]}")
    try:
        value = endpoint(request, **parameters)
        return None if value is None and request.responded else frozen.as_response(value)
    except Exception as problem:
        if not frozen.failures.takes(request, problem):
            raise
        return frozen.failures.answer(request, problem)


def body(router: Router, path: str = "/", method: str = "GET") -> str:
    """The body of the answer to a request."""
    response = ask(router, path, method)
    assert response is not None and isinstance(response.body, bytes)
    return response.body.decode()


def hello(request: Any) -> str:
    """A handler."""
    return "hello"


def answer(text: str) -> Callable[..., str]:
    """A handler of anything, which returns a text."""
    return lambda *_, **__: text


def fail(problem: Exception) -> Callable[..., object]:
    """A handler that raises."""

    def handler(request: Any) -> object:
        raise problem

    return handler
