"""Who answers what a handler raises, and what no route answers."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from tests.unit.asking import answer, ask, body, fail, hello
from ushabti.errors import ConfigError, HTTPError, RouteConflict
from ushabti.responses import Response, from_error
from ushabti.routing import Router


class Odd(ValueError):
    """A class for handlers by inheritance."""


class Gone(HTTPError):
    """An HTTPError with a class of its own."""


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (HTTPError(404), "by status"),
        (Gone(404), "by status"),
        (Gone(410), "Gone"),
        (HTTPError(410), "HTTPError"),
        (Odd(), "ValueError"),
        (KeyError(), "LookupError"),
        (OSError(), "Exception"),
    ],
)
def test_most_specific_error_handler_answers(problem: Exception, text: str) -> None:
    router = Router()
    router.get("/", fail(problem))
    for kind in (Exception, LookupError, ValueError, HTTPError, Gone):
        router.error(kind)(answer(kind.__name__))
    router.error(HTTPStatus.NOT_FOUND)(answer("by status"))
    assert body(router) == text


def test_handler_of_exception_gets_no_http_error() -> None:
    router = Router()
    router.get("/", fail(HTTPError(410)))
    router.error(Exception)(answer("failed"))
    assert body(router) == "410 Gone\n"
    assert body(router, "/none") == "from the IO thread: not found"


def test_handler_of_an_http_error_may_be_any_value_and_gets_the_exception() -> None:
    router = Router()
    router.get("/", fail(HTTPError(409, "taken")))
    router.error(409)(lambda request, problem: ({"detail": problem.detail}, problem.status))
    response = ask(router)
    assert response is not None and (response.status, response.body) == (409, b'{"detail":"taken"}')


@pytest.mark.parametrize(
    ("problem", "value", "status"),
    [
        (HTTPError(409), "text", 409),
        (HTTPError(409), {"a": 1}, 409),
        (HTTPError(409), ("text", 200), 200),
        (HTTPError(409), Response("text"), 200),
        (ValueError(), "text", 500),
        (ValueError(), [1], 500),
        (ValueError(), ("text", 422), 422),
    ],
)
def test_value_without_a_status_has_that_of_the_problem(problem: Exception, value: object, status: int) -> None:
    router = Router()
    router.get("/", fail(problem))
    for kind in (HTTPError, ValueError):
        router.error(kind)(lambda request, problem: value)
    response = ask(router)
    assert response is not None and response.status == status


def test_what_has_no_handler_is_left_to_the_server() -> None:
    router = Router()
    router.get("/", fail(ValueError("mine")))
    router.error(KeyError)(answer("key"))
    with pytest.raises(ValueError, match="mine"):
        ask(router)


def test_handler_of_500_answers_what_nobody_takes_and_the_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    router = Router()
    problem = ValueError("mine")
    router.get("/", fail(problem))
    router.error(500)(lambda request, error: f"{error.status} {error.__cause__!r}")
    assert body(router) == "500 ValueError('mine')"
    assert [(record.getMessage(), record.exc_info and record.exc_info[1]) for record in caplog.records] == [
        ("GET / failed", problem)
    ]


def test_error_handler_may_answer_by_raising_an_http_error() -> None:
    router = Router()
    router.get("/", fail(KeyError("x")))

    @router.error(KeyError)
    def missing(request: Any, problem: KeyError) -> object:
        raise HTTPError(404, f"no {problem.args[0]}") from problem

    assert body(router) == "404 Not Found: no x\n"
    other = Router()
    other.mount("/in", router)
    other.error(404)(lambda request, problem: f"page: {problem.detail}")
    assert body(other, "/in/") == "page: no x"


def test_error_handler_that_raises_again_leaves_it_to_the_next() -> None:
    router, inner = Router(), Router()
    inner.get("/", fail(Odd()))
    called: list[str] = []

    def decline(name: str) -> Callable[..., object]:
        def handler(request: Any, problem: Exception) -> object:
            called.append(name)
            raise problem

        return handler

    inner.error(Odd)(decline("inner Odd"))
    inner.error(ValueError)(decline("inner ValueError"))
    inner.middleware(lambda request, call_next: call_next(request))
    router.error(Odd)(decline("outer Odd"))
    router.error(Exception)(answer("outer Exception"))
    router.mount("/in", inner)
    assert body(router, "/in/") == "outer Exception"
    assert called == ["inner Odd", "inner ValueError", "outer Odd"]


@pytest.mark.parametrize("has_middleware", [False, True])
def test_error_handlers_that_all_decline_are_called_once_and_the_failure_is_logged(
    caplog: pytest.LogCaptureFixture, has_middleware: bool
) -> None:
    router = Router()
    router.get("/", fail(ValueError("mine")))
    if has_middleware:
        router.middleware(lambda request, call_next: call_next(request))
    called: list[int] = []

    @router.error(ValueError)
    def decline(request: Any, problem: ValueError) -> object:
        called.append(1)
        raise problem

    assert body(router) == "500 Internal Server Error\n"
    assert called == [1]
    assert [record.getMessage() for record in caplog.records] == ["GET / failed"]


@pytest.mark.parametrize("broken", [fail(KeyError("broken")), answer("")])
def test_error_handler_that_fails_is_logged_and_answered_with_500(
    caplog: pytest.LogCaptureFixture, broken: Callable[..., object]
) -> None:
    router = Router()
    router.get("/", fail(ValueError("mine")))
    called: list[int] = []

    @router.error(Exception)
    def handler(request: Any, problem: Exception) -> object:
        called.append(1)
        return broken(request) or None

    assert body(router) == "500 Internal Server Error\n"
    assert called == [1]
    (record,) = caplog.records
    assert re.fullmatch(r"the error handler .*handler \(.*\) of GET / failed", record.getMessage())


def test_error_handler_may_answer_by_respond() -> None:
    router, inner = Router(), Router()
    for each in (router, inner):
        each.get("/", fail(ValueError()))
        each.error(ValueError)(lambda request, problem: request.respond(500))
    router.mount("/in", inner)
    assert ask(router, "/in/") is None
    assert ask(router) is None


def test_failure_after_the_answer_goes_to_the_server() -> None:
    inner, router = Router(), Router()

    @inner.get("/")
    def handler(request: Any) -> object:
        request.respond()
        raise ValueError("late")

    inner.error(ValueError)(answer("not to be called"))
    router.mount("/in", inner)
    with pytest.raises(ValueError, match="late"):
        ask(router, "/in/")


def test_second_error_handler_for_the_same_is_refused() -> None:
    router = Router()
    for problem in (404, ValueError):
        router.error(problem)(answer(""))
        with pytest.raises(ConfigError, match=r"has an error handler already, .*lambda.*: remove that or .*lambda"):
            router.error(problem)(answer(""))


def test_error_handlers_of_a_mounted_router_come_first() -> None:
    router, inner = Router(), Router()
    inner.get("/value", fail(Odd()))
    inner.get("/key", fail(KeyError()))
    inner.get("/none", lambda request: None)
    inner.error(ValueError)(answer("inner"))
    inner.error(TypeError)(answer("inner type"))
    router.get("/value", fail(Odd()))
    router.error(Odd)(answer("outer odd"))
    router.error(KeyError)(answer("outer key"))
    router.mount("/in", inner)
    paths = ["/in/value", "/in/key", "/in/none", "/value"]
    assert [body(router, path) for path in paths] == ["inner", "outer key", "inner type", "outer odd"]


def test_404_and_405_are_left_to_the_io_thread_without_a_handler() -> None:
    router = Router()
    router.middleware(lambda request, call_next: call_next(request))
    router.error(Exception)(answer(""))
    router.error(500)(answer(""))
    assert (router.freeze().not_found, router.freeze().method_not_allowed) == (None, None)


def test_handler_of_404_answers_unknown_paths_and_raised_404() -> None:
    router = Router()
    router.get("/", fail(HTTPError(404, "raised")))
    router.error(404)(lambda request, problem: (f"none: {problem.detail}", problem.status))
    assert body(router, "/") == "none: raised"
    response = ask(router, "/x")
    assert response is not None and (response.status, response.body) == (404, b"none: ")
    assert router.freeze().method_not_allowed is None


def test_handler_of_http_error_answers_404_and_405() -> None:
    router = Router()
    router.get("/a", hello)
    router.error(HTTPError)(lambda request, problem: ({"error": problem.status}, problem.status))
    assert body(router, "/x") == '{"error":404}'
    assert body(router, "/a", "PUT") == '{"error":405}'


@pytest.mark.parametrize(
    ("value", "allow"),
    [
        ("no", ["GET, HEAD, OPTIONS"]),
        (("no", 405, {"Allow": "GET"}), ["GET"]),
        (Response("no"), ["GET, HEAD, OPTIONS"]),
    ],
)
@pytest.mark.parametrize("has_middleware", [False, True])
def test_answer_of_405_has_an_allow_field(value: object, allow: list[str], has_middleware: bool) -> None:
    router = Router()
    router.get("/a", hello)
    router.error(405)(lambda request, problem: value)
    if has_middleware:
        router.middleware(lambda request, call_next: call_next(request))
    response = ask(router, "/a", "PUT")
    assert response is not None and response.headers.all("allow") == allow
    assert response.status == (200 if isinstance(value, Response) else 405)
    # What the handler returns may be its own for other answers, too.
    assert not isinstance(value, Response) or "allow" not in value.headers


def test_handler_of_405_that_declines_gives_the_default_with_allow() -> None:
    router = Router()
    router.get("/a", hello)

    @router.error(405)
    def decline(request: Any, problem: HTTPError) -> object:
        raise problem

    response = ask(router, "/a", "PUT")
    assert response is not None and response.body == b"405 Method Not Allowed\n"
    assert response.headers.all("allow") == ["GET, HEAD, OPTIONS"]


def routers_with_404() -> Router:
    router, shop, cart, plain = Router(), Router(), Router(), Router()
    router.error(404)(answer("root"))
    shop.error(404)(lambda request, problem: f"shop {problem.status}")
    cart.error(HTTPError)(lambda request, problem: f"cart {problem.status}")
    shop.middleware(lambda request, call_next: call_next(request).body + b"!")
    cart.get("/x", lambda request, **_: "")
    shop.mount("/cart", cart)
    router.mount("/shop", shop)
    router.mount("/plain", plain)
    router.mount("/{team:int}/a%2Fb", cart)
    return router


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "root"),
        ("/none", "root"),
        ("/shopping", "root"),
        ("/plain/x", "root"),
        ("/shop", "shop 404!"),
        ("/shop/", "shop 404!"),
        ("/shop/x/y", "shop 404!"),
        ("/%73hop/x", "shop 404!"),
        ("/shop/cart", "cart 404!"),
        ("/shop/cart/none", "cart 404!"),
        ("/shop/carts", "shop 404!"),
        ("/7/a%2Fb/none", "cart 404"),
        ("/7/a/b/none", "root"),
        ("/seven/a%2Fb/none", "root"),
    ],
)
def test_404_is_answered_by_the_router_with_the_most_specific_prefix(path: str, text: str) -> None:
    assert body(routers_with_404(), path) == text


def test_405_is_answered_by_the_router_with_the_most_specific_prefix() -> None:
    response = ask(routers_with_404(), "/shop/cart/x", "PUT")
    assert response is not None
    assert (response.body, response.headers["allow"]) == (b"cart 405!", "GET, HEAD, OPTIONS")
    response = ask(routers_with_404(), "/3/a%2Fb/x", "PUT")
    assert response is not None and response.body == b"cart 405"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("http://example.org/shop/x?y=/", "shop 404!"),
        ("http://example.org", "root"),
        ("http://example.org?x=/shop/y", "root"),
        ("/shop?x", "shop 404!"),
        ("/x?y=/shop/", "root"),
    ],
)
def test_prefix_is_found_in_every_form_of_target(target: str, text: str) -> None:
    response = ask(routers_with_404(), "/none", target=target)
    assert response is not None and response.body == text.encode()


def test_404_outside_a_prefix_is_the_default_if_only_the_mounted_router_has_a_handler() -> None:
    router, inner = Router(), Router()
    inner.error(404)(answer("inner"))
    router.mount("/in", inner)
    assert body(router, "/in/x") == "inner"
    assert body(router, "/x").encode() == from_error(HTTPError(404)).body


def test_two_routers_with_404_handlers_in_the_same_place_conflict() -> None:
    router, inner = Router(), Router()
    router.error(404)(answer("root"))
    inner.error(404)(answer("inner"))
    router.mount("/", inner)
    with pytest.raises(RouteConflict, match="the routers at '/' and '/' both have error handlers for 404"):
        router.freeze()
