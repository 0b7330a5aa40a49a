"""Finds the application that an operator names: ``module``, ``module:attribute`` or ``module:make()``."""

import importlib
import os
import re
import sys
import traceback
from types import ModuleType, TracebackType
from typing import Any

from ushabti.errors import ConfigError
from ushabti.routing import Router
from ushabti.values import nearest

__all__ = ["BrokenApplication", "application_frames", "find_application"]

# Tried in this order when no attribute is named.
_USUAL_NAMES = ("router", "app", "application")
_SPEC = re.compile(r"(?P<module>\w+(?:\.\w+)*)(?::(?P<attribute>\w+(?:\.\w+)*)(?P<call>\(\))?)?")


class BrokenApplication(Exception):
    """The application's own code raised while it was imported or made. The cause is the exception."""

    def __init__(self, what: str, problem: BaseException) -> None:
        super().__init__(f"{what} failed: {type(problem).__name__}: {problem}".rstrip(": "))
        self.problem = problem

    def report(self) -> str:
        """The traceback of the cause, from the application's first frame on."""
        trace = application_frames(self.problem.__traceback__)
        return "".join(traceback.format_exception(type(self.problem), self.problem, trace))


def application_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of the machinery that called the application."""
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_machinery(filename: str) -> bool:
    own = os.path.dirname(__file__) + os.sep
    return filename.startswith((own, "<frozen importlib")) or filename == importlib.__file__


def find_application(spec: str, folder: str) -> Any:
    """Imports the application: a ``Router``, or one handler for everything.

    Args:
        spec: ``module:attribute``, where the attribute may have dots and may be called: ``shop:make()``. Without an
            attribute, ``router``, ``app`` or ``application``.
        folder: Where the module is looked for first.

    Raises:
        ConfigError: There is no such thing, or it is no application.
        BrokenApplication: The application's own code raised.
    """
    match = _SPEC.fullmatch(spec)
    if match is None or spec.endswith(".py"):
        advice = "write MODULE:ATTRIBUTE, for example shop.web:router"
        if spec.endswith(".py") or "/" in spec:
            advice = "write the module's name and not its file, for example examples.hello:router"
        raise ConfigError(f"the application is {spec!r}: {advice}")
    if not os.path.isdir(folder):
        raise ConfigError(f"app_dir is {folder!r}: there is no such folder")
    folder = os.path.abspath(folder)
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    module = _import(match["module"], folder)
    found = _attribute(module, match["attribute"])
    if match["call"]:
        if not callable(found):
            raise ConfigError(f"{spec}: {type(found).__name__} cannot be called; write it without the brackets")
        try:
            found = found()
        except ConfigError as problem:
            raise _located(problem) from problem
        except Exception as problem:
            raise BrokenApplication(f"calling {spec}", problem) from problem
    if not isinstance(found, Router) and not callable(found):
        raise ConfigError(f"{spec} is {type(found).__name__} and no application: name a Router or a handler")
    return found


def _import(name: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        # A module that the application itself misses is the application's fault, and has a traceback.
        if problem.name is not None and (name == problem.name or name.startswith(problem.name + ".")):
            missing = problem.name
            near = nearest(missing, _modules_beside(missing, folder))
            advice = f"did you mean {near}?" if near else "name a module there, or another folder with --app-dir"
            raise ConfigError(f"there is no module {missing} in {folder}, nor installed: {advice}") from None
        raise BrokenApplication(f"importing {name}", problem) from problem
    except KeyboardInterrupt:
        raise
    except ConfigError as problem:
        raise _located(problem) from problem
    except BaseException as problem:
        # SystemExit too: a module that ends the program while it is imported cannot be served.
        raise BrokenApplication(f"importing {name}", problem) from problem


def _located(problem: ConfigError) -> ConfigError:
    """The same message with the place in the application's code that it is about."""
    frames = [frame for frame, _ in traceback.walk_tb(problem.__traceback__)]
    place = next((frame for frame in reversed(frames) if not _is_machinery(frame.f_code.co_filename)), None)
    if place is None:
        return problem
    return ConfigError(f"{place.f_code.co_filename}:{place.f_lineno}: {problem}")


def _modules_beside(name: str, folder: str) -> list[str]:
    """The names of the modules that are where one of this name would be."""
    *packages, _ = name.split(".")
    try:
        entries = os.listdir(os.path.join(folder, *packages))
    except OSError:
        return []
    return [".".join((*packages, entry.removesuffix(".py"))) for entry in entries if not entry.startswith((".", "_"))]


def _attribute(module: ModuleType, path: str | None) -> Any:
    name = module.__name__
    if path is None:
        for usual in _USUAL_NAMES:
            if hasattr(module, usual):
                return getattr(module, usual)
        routers = [each for each, value in vars(module).items() if isinstance(value, Router)]
        advice = f"write {name}:{routers[0]}" if routers else f"write {name}:ATTRIBUTE"
        raise ConfigError(f"module {name} has none of {', '.join(_USUAL_NAMES)}: {advice}")
    found: Any = module
    for step in path.split("."):
        if not hasattr(found, step):
            near = nearest(step, [each for each in dir(found) if not each.startswith("_")])
            advice = f"did you mean {near}?" if near else "name one that it has"
            raise ConfigError(f"{name} has no {step}: {advice}")
        found = getattr(found, step)
    return found
