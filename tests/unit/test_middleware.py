"""What stands around handlers, and what it sees."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.asking import ask, body, fail, hello
from ushabti.errors import HTTPError
from ushabti.responses import Response
from ushabti.routing import Router


def test_middleware_wraps_every_handler_the_first_one_outermost() -> None:
    router, inner = Router(), Router()
    seen: list[str] = []

    def note(name: str) -> Callable[..., object]:
        def middleware(request: Any, call_next: Any) -> object:
            seen.append(f"{name} in")
            response = call_next(request)
            assert isinstance(response, Response)
            response.headers.add("x-by", name)
            seen.append(f"{name} out")
            return response

        return middleware

    for each, name in ((router, "1"), (inner, "3"), (router, "2")):
        each.middleware(note(name))
    inner.get("/x", hello)
    router.get("/", hello)
    router.mount("/in", inner)
    response = ask(router, "/in/x")
    assert response is not None and response.headers.all("x-by") == ["3", "2", "1"] and response.body == b"hello"
    assert seen == ["1 in", "2 in", "3 in", "3 out", "2 out", "1 out"]
    response = ask(router, "/")
    assert response is not None and response.headers.all("x-by") == ["2", "1"]


def test_middleware_may_answer_itself_with_any_value() -> None:
    router = Router()
    router.get("/", fail(AssertionError("not to be called")))
    router.middleware(lambda request, call_next: ({"who": "are you"}, 401))
    response = ask(router)
    assert response is not None and (response.status, response.body) == (401, b'{"who":"are you"}')


def test_middleware_sees_the_answers_to_errors() -> None:
    router = Router()
    router.get("/http", fail(HTTPError(418)))
    router.get("/value", fail(ValueError()))
    router.error(ValueError)(lambda request, problem: ("bad value", 400))
    seen: list[int] = []

    @router.middleware
    def note(request: Any, call_next: Any) -> object:
        response = call_next(request)
        seen.append(response.status)
        return response

    assert body(router, "/http") == "418 I'm a Teapot\n"
    assert body(router, "/value") == "bad value"
    assert seen == [418, 400]


def test_exception_without_a_handler_passes_through_middleware() -> None:
    router = Router()
    problem = ValueError("mine")
    router.get("/", fail(problem))
    seen: list[Exception] = []

    @router.middleware
    def note(request: Any, call_next: Any) -> object:
        try:
            return call_next(request)
        except ValueError as caught:
            seen.append(caught)
            raise

    with pytest.raises(ValueError, match="mine"):
        ask(router)
    assert seen == [problem]


def test_exceptions_of_middleware_are_answered_before_the_next_one_outside() -> None:
    router = Router()
    seen: list[int] = []

    @router.middleware
    def outer(request: Any, call_next: Any) -> object:
        response = call_next(request)
        seen.append(response.status)
        return response

    @router.middleware
    def inner(request: Any, call_next: Any) -> object:
        raise HTTPError(401, "who are you?")

    router.get("/", hello)
    assert body(router) == "401 Unauthorized: who are you?\n"
    assert seen == [401]


def test_call_next_gives_none_where_the_handler_has_answered() -> None:
    router = Router()
    seen: list[object] = []

    @router.middleware
    def note(request: Any, call_next: Any) -> object:
        seen.append(call_next(request))
        return seen[-1]

    router.get("/", lambda request: request.respond())
    assert ask(router) is None
    assert seen == [None]


def test_forgotten_return_names_the_function() -> None:
    router = Router()
    router.middleware(lambda request, call_next: call_next(request))
    router.get("/", lambda request: None)
    with pytest.raises(TypeError, match=r"lambda.*test_middleware.py:\d+\) returned None .* was a return forgotten"):
        ask(router)


def test_middleware_stands_around_handlers_of_404() -> None:
    router = Router()
    router.error(404)(lambda request, problem: "nothing here")
    router.middleware(lambda request, call_next: call_next(request).body + b"!")
    assert body(router, "/none") == "nothing here!"
