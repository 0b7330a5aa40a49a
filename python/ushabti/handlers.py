"""What may be registered as a handler, and what it is called in messages.

Handlers are checked when they are registered, so that a wrong one is reported where it stands and before a socket is
open, and so that no request costs a look at a signature.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from inspect import Parameter

from ushabti.errors import ConfigError

__all__ = ["check_arguments", "check_callable", "check_handler", "describe", "returned_nothing"]


def describe(function: object) -> str:
    """Returns the qualified name of something callable, and where it stands: ``shop.cart (/srv/shop.py:12)``."""
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    inner = inspect.unwrap(inner) if callable(inner) else inner
    if not hasattr(inner, "__qualname__"):
        inner = type(inner)
    name = f"{getattr(inner, '__module__', None) or '?'}.{getattr(inner, '__qualname__', '?')}"
    called = getattr(inner, "__call__", None) if inspect.isclass(inner) else inner  # noqa: B004  (not a test)
    code = getattr(called, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def returned_nothing(function: object) -> TypeError:
    """The error for a function that was to return an answer and returned ``None``, with nothing answered."""
    return TypeError(
        f"{describe(function)} returned None and nothing has been answered: was a return forgotten? "
        "Return b'' for an empty answer"
    )


def check_callable(function: object, what: str) -> None:
    """Refuses what cannot be called as it is, blocking, by a worker thread.

    Raises:
        ConfigError: ``function`` is not callable, is a class, or is asynchronous. ``what`` names its office.
    """
    if not callable(function):
        raise ConfigError(f"{what} is a function, not {function!r} ({type(function).__name__})")
    if inspect.isclass(function):
        raise ConfigError(
            f"{what} is a function, not the class {describe(function)}: pass an object of it that has __call__"
        )
    inner: object = function
    while isinstance(inner, partial):
        inner = inner.func
    # A decorator may well have made a plain function of an asynchronous one, so what it wraps is not looked at.
    for called in (inner, type(inner).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise ConfigError(
                f"{what} {describe(function)} is asynchronous: write a plain def with blocking calls, which holds up "
                "no other request, because each has a thread of its own; applications that must have an event loop "
                "speak ASGI"
            )


def check_arguments(function: Callable[..., object], what: str, arguments: tuple[str, ...]) -> None:
    """Refuses a function that cannot be called with these positional arguments.

    Raises:
        ConfigError: It cannot.
    """
    check_callable(function, what)
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # A builtin, which does not tell.
    try:
        signature.bind(*arguments)
    except TypeError as problem:
        raise ConfigError(
            f"{what} {describe(function)} must take ({', '.join(arguments)}), and takes {signature}: {problem}"
        ) from None


def check_handler(
    handler: Callable[..., object],
    pattern: str,
    names: Iterable[str],
    *,
    is_whole: bool = True,
    first: str = "the request",
) -> None:
    """Refuses a handler that could not be called with a request and the parameters of its pattern.

    Args:
        handler: The handler.
        pattern: The pattern's text, for messages.
        names: The pattern's parameters, which become keyword arguments.
        is_whole: Whether these are all. Those of the prefix of a mounted router are not known before that is mounted.
        first: What it is called with before them.

    Raises:
        ConfigError: It could not.
    """
    check_callable(handler, "a handler")
    try:
        # Not that of a function which a decorator wraps: the decorator may add arguments or keep some to itself.
        parameters = list(inspect.signature(handler, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):
        return  # A builtin, which does not tell.
    who = f"handler {describe(handler)} of {pattern!r}"
    positional = [one for one in parameters if one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    takes_any_name = any(one.kind is Parameter.VAR_KEYWORD for one in parameters)
    if not positional and not any(one.kind is Parameter.VAR_POSITIONAL for one in parameters):
        raise ConfigError(f"{who} takes no positional argument: the first one is {first}")
    leading = positional[0] if positional else None
    names = tuple(names)
    for name in names:
        if leading and leading.kind is Parameter.POSITIONAL_OR_KEYWORD and leading.name == name:
            raise ConfigError(f"{who}: its first argument {name!r} is {first}, so rename the parameter {{{name}}}")
    others = [one for one in parameters if one is not leading]
    by_name = {one.name for one in others if one.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)}
    for name in names:
        if name not in by_name and not takes_any_name:
            raise ConfigError(f"{who} does not take the parameter {{{name}}}: add an argument {name!r} to it")
    if not is_whole:
        return
    for one in others:
        is_required = one.default is Parameter.empty and one.kind not in (
            Parameter.VAR_POSITIONAL,
            Parameter.VAR_KEYWORD,
        )
        if is_required and not (one.name in names and one.name in by_name):
            raise ConfigError(
                f"{who} needs an argument {one.name!r} that the pattern does not give: "
                f"add {{{one.name}}} to the pattern, or a default to the argument"
            )
