"""``make check``: everything that CI does, one step after another, the cheap ones first; stops at the first failure.

``--only NAME,NAME`` runs some of the steps, ``--fix`` formats and mends instead of complaining. What follows ``--``
goes to pytest.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

from tools import native, rust
from tools.steps import ROOT, run

# Clippy looks at the extension module too, and PyO3 asks an interpreter what it is: always this one, so that nothing
# is compiled twice.
_CARGO_ENV = {**rust.environment(), "PYO3_PYTHON": sys.executable}

# The fuzz targets are a workspace of their own, with a crate that not everybody compiles.
_FUZZ = ("--manifest-path", "fuzz/Cargo.toml")

_MEND = "`make fix` mends this"
_ALONE = "alone: .venv/bin/python -m tools.check --only {}"


def rust_format() -> None:
    """Rust is formatted."""
    run("cargo fmt", ["cargo", "fmt", "--all", "--check"], env=_CARGO_ENV, advice=_MEND)
    run("cargo fmt, fuzz", ["cargo", "fmt", *_FUZZ, "--check"], env=_CARGO_ENV, advice=_MEND)


def python_format() -> None:
    """Python is formatted."""
    run("ruff format", [sys.executable, "-m", "ruff", "format", "--check", "."], advice=_MEND)


def python_lint() -> None:
    """Python's lints."""
    run("ruff check", [sys.executable, "-m", "ruff", "check", "."], advice="`make fix` mends some of this")


def rust_lint() -> None:
    """Rust's lints, in all three crates and their tests."""
    run(
        "cargo clippy",
        ["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"],
        env=_CARGO_ENV,
        advice=_ALONE.format("clippy"),
    )


def rust_test() -> None:
    """The tests of proto and core: no Python takes part."""
    run("cargo test", ["cargo", "test", "--locked", "--quiet"], env=_CARGO_ENV, advice=_ALONE.format("cargo-test"))


def types() -> None:
    """Type annotations hold."""
    run("mypy", [sys.executable, "-m", "mypy"], advice=_ALONE.format("mypy"))


def build() -> None:
    """The module that the steps after this one import."""
    native.build(os.environ.get("PROFILE") or "release")


def stubs() -> None:
    """The stub of the extension module says what the module has."""
    command = [sys.executable, "-m", "mypy.stubtest", "ushabti._core", "--mypy-config-file", "pyproject.toml"]
    run("stubtest", command, advice=_ALONE.format("build,stubtest"))


def python_test(*arguments: str) -> None:
    """The Python tests."""
    run(
        "pytest",
        [sys.executable, "-m", "pytest", "-q", *arguments],
        advice=_ALONE.format("build,pytest"),
        show_last_line=True,
    )


def fix() -> None:
    """Formats, and applies the linters' safe fixes."""
    run("cargo fmt", ["cargo", "fmt", "--all"], env=_CARGO_ENV)
    run("cargo fmt, fuzz", ["cargo", "fmt", *_FUZZ], env=_CARGO_ENV)
    run("ruff check --fix", [sys.executable, "-m", "ruff", "check", "--fix", "--exit-zero", "--quiet", "."])
    run("ruff format", [sys.executable, "-m", "ruff", "format", "."])


STEPS: dict[str, Callable[..., None]] = {
    "fmt": rust_format,
    "ruff-format": python_format,
    "ruff": python_lint,
    "mypy": types,
    "clippy": rust_lint,
    "cargo-test": rust_test,
    "build": build,
    "stubtest": stubs,
    "pytest": python_test,
}


def main() -> None:
    """Runs the steps that the command line asks for; all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m tools.check", description=__doc__)
    parser.add_argument("--only", metavar="NAME,NAME", help=f"of: {', '.join(STEPS)}")
    parser.add_argument("--fix", action="store_true", help="format and mend, check nothing")
    parser.add_argument("pytest_arguments", nargs="*", metavar="-- ARGUMENT", help="for pytest")
    options = parser.parse_args()
    if options.fix:
        fix()
        return
    names = options.only.split(",") if options.only else list(STEPS)
    if unknown := [name for name in names if name not in STEPS]:
        parser.error(f"no step is called {', '.join(unknown)}; there are {', '.join(STEPS)}")
    os.chdir(ROOT)
    begun = time.monotonic()
    for name in names:
        STEPS[name](*(options.pytest_arguments if name == "pytest" else ()))
    print(f"all well, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
