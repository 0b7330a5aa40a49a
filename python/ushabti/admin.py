"""What the option ``admin`` serves to the operator: thread dump, statistics, metrics, health."""

from typing import Any, Protocol

from ushabti._core import Request
from ushabti.dump import Dump
from ushabti.errors import HTTPError
from ushabti.metrics import CONTENT_TYPE, exposition
from ushabti.responses import Response
from ushabti.routing import Router

__all__ = ["Watched", "admin_router"]

# What is true now is not true when it is asked for again.
_FRESH = {"Cache-Control": "no-store"}


class Watched(Protocol):
    """The server that is looked after."""

    @property
    def state(self) -> str:
        """``running``, or what else it is."""

    def stats(self) -> dict[str, Any]:
        """Its counters."""

    def dump(self) -> Dump:
        """What its threads do."""


def admin_router(server: Watched) -> Router:
    """The routes of the admin address of a server."""
    routes = Router()

    @routes.get("/dump")
    def show_dump(request: Request) -> Response:
        match request.query.get("format", "text"):
            case "text":
                return Response(server.dump().as_text(), 200, _FRESH, content_type="text/plain; charset=utf-8")
            case "json":
                return Response(server.dump().as_json(), 200, _FRESH, content_type="application/json")
        raise HTTPError(400, "the format is text or json")

    @routes.get("/stats")
    def show_stats(_request: Request) -> tuple[dict[str, Any], int, dict[str, str]]:
        return server.stats(), 200, _FRESH

    @routes.get("/metrics")
    def show_metrics(_request: Request) -> Response:
        return Response(exposition(server.stats()), 200, _FRESH, content_type=CONTENT_TYPE)

    @routes.get("/health")
    def show_health(_request: Request) -> tuple[dict[str, str], int, dict[str, str]]:
        state = server.state
        return {"status": state}, 200 if state == "running" else 503, _FRESH

    return routes
