"""What may be a handler, and what is said of that which may not."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.asking import ask, body, hello
from ushabti.errors import ConfigError
from ushabti.handlers import describe
from ushabti.routing import Router


class Counter:
    """Handlers in the forms that Python has."""

    def method(self, request: Any, jar: int) -> str:
        return f"method {jar}"

    def __call__(self, request: Any, jar: int) -> str:
        return f"object {jar}"

    @staticmethod
    def static(_: Any, *, jar: int) -> str:
        return f"static {jar}"


def with_database(handler: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(handler)
    def wrapper(request: Any, **parameters: Any) -> object:
        return handler(request, "db", **parameters)

    return wrapper


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (Counter().method, "method 7"),
        (Counter(), "object 7"),
        (Counter.static, "static 7"),
        (functools.partial(lambda request, jar, unit: f"{jar} {unit}", unit="l"), "7 l"),
        (functools.partial(lambda db, request, jar: f"{db} {jar}", "db"), "db 7"),
        (with_database(lambda request, db, jar: f"{db} {jar}"), "db 7"),
        (lambda request, **parameters: str(parameters), "{'jar': 7}"),
        (lambda *arguments, jar: str(jar), "7"),
        (lambda request, /, *, jar, unit="l": f"{jar} {unit}", "7 l"),
    ],
)
def test_handler_may_be_anything_callable(handler: Callable[..., object], text: str) -> None:
    router = Router()
    router.get("/{jar:int}", handler)
    assert body(router, "/7") == text


def test_builtin_without_a_signature_is_taken() -> None:
    router = Router()
    router.get("/", min)
    assert router.freeze().endpoints == [min]


def test_generator_function_is_a_handler() -> None:
    router = Router()

    @router.get("/")
    def count(request: Any) -> Iterator[str]:
        yield from "ab"

    response = ask(router)
    assert response is not None and list(response.body) == ["a", "b"]


async def coroutine_handler(request: Any) -> str:
    return ""


async def generator_handler(request: Any) -> Any:
    yield ""


class AsyncCall:
    async def __call__(self, request: Any) -> str:
        return ""


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (coroutine_handler, r"coroutine_handler \(.*\) is asynchronous: write a plain def .* ASGI"),
        (generator_handler, "is asynchronous"),
        (AsyncCall(), "AsyncCall .* is asynchronous"),
        (functools.partial(coroutine_handler), "is asynchronous"),
        (functools.partial(functools.partial(AsyncCall())), "is asynchronous"),
        ("text", "a handler is a function, not 'text'"),
        (Counter, "not the class .*Counter.*: pass an object of it"),
        (lambda: "", "takes no positional argument: the first one is the request"),
        (lambda *, request: "", "takes no positional argument"),
    ],
)
def test_what_cannot_be_a_handler_is_refused(handler: Any, message: str) -> None:
    for register in (Router().get("/"), Router.of):
        with pytest.raises(ConfigError, match=message):
            register(handler)


@pytest.mark.parametrize(
    ("pattern", "handler", "message"),
    [
        ("/{jar}", lambda request: "", r"'/\{jar\}' does not take the parameter \{jar\}: add an argument 'jar'"),
        ("/{request}", lambda request: "", r"first argument 'request' is the request, so rename the parameter"),
        ("/{jar}", lambda request, jar, /: "", "does not take the parameter"),
    ],
)
def test_handler_that_does_not_take_a_parameter_is_refused_at_once(
    pattern: str, handler: Callable[..., object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Router().get(pattern, handler)


def test_argument_that_the_pattern_does_not_give_is_refused_when_the_prefix_is_known() -> None:
    inner = Router()
    inner.get("/{jar}", lambda request, team, jar: f"{team} {jar}")
    with pytest.raises(
        ConfigError, match=r"'/\{jar\}' needs an argument 'team' that the pattern does not give: add \{team\}"
    ):
        inner.freeze()
    outer = Router()
    outer.mount("/{team}", inner)
    assert body(outer, "/a/b") == "a b"


def test_handler_that_does_not_take_a_parameter_of_the_prefix_is_refused() -> None:
    inner, outer = Router(), Router()
    inner.get("/x", hello)
    outer.mount("/{team}", inner)
    with pytest.raises(ConfigError, match=r"hello .* of '/\{team\}/x' does not take the parameter \{team\}"):
        outer.freeze()


def test_path_parameter_may_have_any_name() -> None:
    router = Router()
    router.get("/{request}/{self}/{handler}", lambda r, **parameters: "-".join(parameters.values()))
    router.middleware(lambda request, call_next: call_next(request))
    assert body(router, "/a/b/c") == "a-b-c"


def test_description_names_function_file_and_line() -> None:
    place = f"{hello.__code__.co_filename}:{hello.__code__.co_firstlineno}"
    assert describe(hello) == f"{hello.__module__}.hello ({place})"
    assert describe(functools.partial(functools.partial(hello), 1)) == f"{hello.__module__}.hello ({place})"
    assert re.fullmatch(rf"{__name__}.Counter \(.*py:\d+\)", describe(Counter()))
    assert re.fullmatch(rf"{__name__}.Counter.method \(.*py:\d+\)", describe(Counter().method))
    assert describe(min) == "builtins.min"
