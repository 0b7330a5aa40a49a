"""What is answered and logged when a handler does wrong. Called by workers, attached."""

import logging
from collections.abc import Callable

from ushabti import _core
from ushabti.errors import DeadlineExceeded, Disconnected, HTTPError
from ushabti.frozen import Frozen
from ushabti.handlers import describe
from ushabti.responses import Response, from_error

__all__ = ["Faults", "cut", "dropped", "surplus"]

logger = logging.getLogger("ushabti")


class Faults:
    """Finds the answer to what a handler has raised: the application's own, that of an ``HTTPError``, or 500."""

    def __init__(self, frozen: Frozen) -> None:
        self._frozen = frozen

    def __call__(self, request: _core.Request, problem: BaseException) -> Response | None:
        failures = self._frozen.failures
        if isinstance(problem, Exception):
            try:
                if failures.takes(request, problem):
                    # None: an error handler has answered, or deferred its answer.
                    return failures.answer(request, problem)
            except Exception:
                logger.exception("the error handler of %s %s failed", request.method, request.path)
        if isinstance(problem, HTTPError):
            return from_error(problem)
        if isinstance(problem, Disconnected | DeadlineExceeded):
            # Mostly there is nobody to tell, or the IO thread has told it.
            logger.info("%s %s: %s", request.method, request.path, problem)
            return from_error(HTTPError(504 if isinstance(problem, DeadlineExceeded) else 500))
        if isinstance(problem, SystemExit | KeyboardInterrupt):
            logger.error(
                "%s %s: the handler raised %r, which ends no server; call server.stop() from another thread",
                request.method,
                request.path,
                problem,
            )
        else:
            logger.error("%s %s failed", request.method, request.path, exc_info=problem)
        return from_error(HTTPError(500))


def surplus(request: _core.Request, value: object) -> None:
    """Reports a value that came after an answer."""
    logger.error(
        "%s %s: the handler returned %s after it had called request.respond(); the value was dropped",
        request.method,
        request.path,
        type(value).__name__,
    )


def dropped(endpoint: Callable[..., object], method: str, target: str) -> None:
    """Reports a request whose answer was deferred and never given."""
    logger.error(
        "%s %s: %s deferred its answer, and the request was dropped without one; answered 500",
        method,
        target,
        describe(endpoint),
    )


def cut(request: _core.Request, problem: BaseException) -> None:
    """Reports a streamed body that failed after its head was sent."""
    logger.error("%s %s: the streamed body failed; connection cut", request.method, request.path, exc_info=problem)
