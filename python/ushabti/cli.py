"""The command ``ushabti``: serves an application, lists its routes, checks that it would start, or asks a running one.

Exit status: 0 after a clean stop; 1 when something was cut off or failed while serving; 2 for what the operator has to
mend, which is told in one sentence, with a traceback only if the application's own code raised.
"""

import argparse
import atexit
import contextlib
import itertools
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import ushabti
from ushabti import logs
from ushabti.ask import ask
from ushabti.config import Settings
from ushabti.endpoints import Scope
from ushabti.errors import ConfigError
from ushabti.handlers import describe
from ushabti.locate import BrokenApplication, application_frames, find_application
from ushabti.options import OPTIONS
from ushabti.routing import Router
from ushabti.server import Server
from ushabti.sources import SCHEMA, Given, from_environment, from_file, likely_mistakes, where_to_listen
from ushabti.tls_options import with_hosts_of
from ushabti.values import ADDRESSES, PATHS, descriptors_max, nearest

__all__ = ["main"]

logger = logging.getLogger("ushabti")

_COMMANDS = ("routes", "check")
_WIDTH_MAX = 99
_GROUPS = ("Where to listen", "TLS", "Workers", "Limits", "Time limits", "WebSockets", "Answers and log", "Other")

_USAGE = """\
ushabti MODULE:ATTRIBUTE [options]           serve an application
       ushabti routes MODULE:ATTRIBUTE [options]    list its routes
       ushabti check MODULE:ATTRIBUTE [options]     build it, open no socket, show all settings
       ushabti dump --admin ADDRESS                 show what a running server's threads do"""

_DESCRIPTION = """\
MODULE:ATTRIBUTE names a Router, or one handler for everything: shop.web:router, or shop.web:make()
for what a function returns. Without an attribute, router, app or application is taken."""

_EPILOG = """\
Every option can also be set in the environment, as USHABTI_MAX_QUEUE=2048, and in the file of
--config, as max_queue = 2048. The command line wins over the environment, that over the file.

SIGTERM and SIGINT (Ctrl-C) stop the server when all is answered, a second one at once; SIGUSR1
opens the access log's file again, SIGQUIT writes what all threads do to standard error. SIGHUP
reads the certificates again; without --tls-cert it stops a server whose standard input is a
terminal, and does nothing to others. Exit status: 0 clean stop, 1 something was cut off or failed
(an on_start hook too), 2 mistake in the call or the application."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    Args:
        arguments: What stands behind the command's name; ``None``: what this process was called with.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except BrokenApplication as problem:
        sys.stderr.write(problem.report())
        _complain(problem)
    except ConfigError as problem:
        _complain(problem)
    except BrokenPipeError:
        # Whoever reads the list has seen enough: `ushabti routes ... | head`.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return 2


def _complain(problem: object) -> None:
    print(f"ushabti: {problem}", file=sys.stderr)


def _run(arguments: Sequence[str]) -> int:
    parser = _parser()
    known, unknown = parser.parse_known_intermixed_args(_spelt_out(arguments))
    for word in unknown:
        flag = word.partition("=")[0]
        near = nearest(flag, parser.flags())
        advice = f"did you mean {near}?" if near else "see ushabti --help"
        raise ConfigError(f"there is no option {flag}: {advice}")
    command, spec = _command(known.words)
    sources = _sources(known)
    given = {**sources[2], **sources[1], **sources[0]}
    if command == "dump":
        return _dump(given.get("admin"))
    for name in ("bind", "host", "port"):
        given.pop(name, None)
    given.update(where_to_listen(sources))
    return _Launch(spec, given).run(command)


def _spelt_out(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--tls-self-signed=on`` where that option stands by itself.

    As an option whose value may be left out, argparse would have it take the application's name for the value.
    """
    flag, words = SCHEMA["tls_self_signed"].flag, [*arguments, ""]
    return [
        f"{word}=on" if word == flag and follower not in ("on", "off") else word
        for word, follower in itertools.pairwise(words)
    ]


def _command(words: list[str]) -> tuple[str, str]:
    """What is to be done, and with which application."""
    match words:
        case []:
            raise ConfigError("no application was named: write MODULE:ATTRIBUTE, for example shop.web:router")
        case ["dump"]:
            return "dump", ""
        case ["dump", *_]:
            raise ConfigError("dump asks a server that runs, not an application: write ushabti dump --admin ADDRESS")
        case [word] if word in _COMMANDS:
            advice = f"write ushabti {word} MODULE:ATTRIBUTE, or, to serve a module of that name, {word}:router"
            raise ConfigError(f"{word} of which application: {advice}")
        case [spec]:
            return "serve", spec
        case [word, spec] if word in _COMMANDS:
            return word, spec
        case [word, _]:
            raise ConfigError(f"there is no command {word}: write routes, check, dump, or MODULE:ATTRIBUTE alone")
    raise ConfigError(f"one application at a time, not {', '.join(words)}")


def _sources(known: argparse.Namespace) -> list[dict[str, Given]]:
    """What command line, environment and file set, the strongest first."""
    line = {
        name: Given(value, option.flag, "command line")
        for name, option in SCHEMA.items()
        if (value := getattr(known, name)) is not None
    }
    file = known.config or os.environ.get("USHABTI_CONFIG")
    return [line, from_environment(os.environ), from_file(file) if file else {}]


def _dump(admin: Given | None) -> int:
    address = SCHEMA["admin"].kind.read(admin.value, admin.label) if admin is not None else None
    if address is None:
        raise ConfigError("dump of which server: write ushabti dump --admin ADDRESS, or set USHABTI_ADMIN")
    print(ask(address, "/dump"), end="")
    return 0


class _Parser(argparse.ArgumentParser):
    """Tells mistakes as ``ConfigError``, in one sentence, instead of printing how to call the command."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}; see ushabti --help")

    def flags(self) -> list[str]:
        """Every option's spelling."""
        return [flag for action in self._actions for flag in action.option_strings]


class _Version(argparse.Action):
    """Prints the version. The standard action wants it when the parser is made, and it takes a while to find."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"ushabti {ushabti.__version__}")
        parser.exit()


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(shutil.get_terminal_size().columns, _WIDTH_MAX)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=width)


def _parser() -> _Parser:
    parser = _Parser(
        prog="ushabti",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_formatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    groups = {title: parser.add_argument_group(title) for title in _GROUPS}
    for name, option in SCHEMA.items():
        default = "" if option.default is None else f" (default {option.kind.show_default(option.default)})"
        groups[option.group].add_argument(
            option.flag,
            dest=name,
            metavar=option.kind.metavar,
            action="append" if option.kind in (ADDRESSES, PATHS) else "store",
            help=(option.help + default).replace("%", "%%"),
        )
    other = groups["Other"]
    other.add_argument("--config", metavar="FILE", help="TOML file with options")
    other.add_argument("--version", nargs=0, action=_Version, help="show the version and exit")
    other.add_argument("--help", "-h", action="help", help="show this and exit")
    return parser


class _Launch:
    """One call of the command: the application, and what was set for it."""

    def __init__(self, spec: str, given: Mapping[str, Given]) -> None:
        self._spec = spec
        self._given = given
        self._options = {name: each.value for name, each in given.items() if name in OPTIONS}
        labels = {name: each.label for name, each in given.items()}
        # Checked here as well, so that a message names an option as the operator has written it.
        self._settings = Settings.from_options(self._options, labels)
        self._launch: dict[str, Any] = {
            name: option.kind.read(given[name].value, given[name].label) if name in given else option.default
            for name, option in SCHEMA.items()
            if name not in OPTIONS
        }
        if self._settings.tls_self_signed:
            where = self._launch["bind"] or [f"{self._launch['host']}:0"]
            self._options["tls_self_signed"] = with_hosts_of(where, self._settings.tls_self_signed)

    def run(self, command: str) -> int:
        app = find_application(self._spec, self._launch["app_dir"])
        logs.set_up(self._launch["log_level"] if "log_level" in self._given else None)
        for mistake in likely_mistakes(os.environ):
            logger.warning("%s", mistake)
        if command == "routes":
            return self._routes(app if isinstance(app, Router) else Router.of(app))
        server = Server(app, **self._options)
        return self._check(server) if command == "check" else self._serve(server)

    def _serve(self, server: Server) -> int:
        try:
            is_clean = server.serve(
                self._launch["port"], self._launch["host"], bind=self._launch["bind"], ready=self._announce
            )
        except ConfigError:
            raise
        except Exception as problem:  # noqa: BLE001  (shown just below)
            trace = application_frames(problem.__traceback__) or problem.__traceback__
            traceback.print_exception(type(problem), problem, trace)
            _complain(f"{self._spec} could not be served: {type(problem).__name__}: {problem}")
            is_clean = False
        if server.workers_left():
            _exit_now(1)
        return 0 if is_clean else 1

    def _announce(self, server: Server) -> None:
        workers = self._settings.shown()["workers"]
        print(f"ushabti {ushabti.__version__}: {server._greeting()} (workers {workers}, pid {os.getpid()})", flush=True)

    def _routes(self, router: Router) -> int:
        rows = [(methods, pattern, describe(handler)) for methods, pattern, handler in _listing(router)]
        _print_table([("METHODS", "PATTERN", "HANDLER"), *rows])
        return 0

    def _check(self, server: Server) -> int:
        print(f"{self._spec}: {len(_listing(server.router))} routes, ready to be served")
        print()
        shown = {
            **{name: "-" if value is None else SCHEMA[name].kind.show(value) for name, value in self._launch.items()},
            **server.settings.shown(),
        }
        for warning in server._core.tls_warnings():
            print(f"{warning}\n")
        shown["max_connections"] += f" of {descriptors_max()} descriptors"
        silent = ("host", "port") if "bind" in self._given else ("bind",)
        rows = [
            (name, value, self._given[name].origin if name in self._given else "default")
            for name, value in shown.items()
            if name not in silent
        ]
        _print_table([("OPTION", "VALUE", "SET BY"), *rows])
        return 0


def _listing(router: Router) -> list[tuple[str, str, Callable[..., object]]]:
    """Methods as text, whole pattern and handler of every route, those of mounted routers included."""
    outermost = Scope.outermost(router._errors, router._middleware, router.freeze().as_response)
    return [
        (
            "websocket" if route.socket else "any" if route.methods is None else " ".join(route.methods),
            route.pattern.under(scope.prefix).text,
            route.handler,
        )
        for place, scope in router._places(outermost)
        for route in place._routes
    ]


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _exit_now(status: int) -> NoReturn:
    """Ends the process although threads still run handlers.

    CPython before 3.14 unwinds such threads while it ends, which native code below a handler answers with an abort.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)
