"""``make stress-jitter``: the tests that look for races, with random delays at each hand-over between threads.

The core is built with the cfg ``ushabti_jitter`` into folders of its own, and Rust's tests of queue, gates and
connections are run on that; then the native module is, into a package beside the one that is installed, and the Python
tests that strain it are run with threads that change every microsecond. Run by the interpreter of
``.venv-free-threaded``, it does the same without the GIL. ``--rounds`` repeats the tests; what follows ``--`` goes to
pytest, instead of the tests that are chosen here.
"""

import argparse
import os
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

from tools import native, rust
from tools.steps import ROOT, run

# Those that put the hand-overs under strain. Others time what the delays make slow.
_TESTS = (
    "tests/server/test_strain.py",
    "tests/server/test_admission.py",
    "tests/server/test_defer.py",
    "tests/server/test_gather_strain.py",
    "tests/server/test_threads.py",
    "tests/server/test_vanishing.py",
    "tests/server/test_http2.py",
    "tests/server/test_websocket_http2.py",
    "tests/server/test_websocket_life.py",
    "tests/server/test_websocket_topics.py",
    "tests/server/test_websocket_turns.py",
)
_EFFORT = 3

_ABI = sysconfig.get_config_var("SOABI")
_BUILT = ROOT / "build" / f"jitter-{_ABI}"


def main() -> None:
    """Builds both, and runs the tests as often as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.jitter", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often the tests are run (1)")
    parser.add_argument("--effort", type=int, default=_EFFORT, help=f"the effort of the Python tests ({_EFFORT})")
    parser.add_argument("--only", choices=("rust", "python"), help="one half of it")
    parser.add_argument("pytest_arguments", nargs="*", metavar="-- ARGUMENT", help="for pytest")
    options = parser.parse_args()
    environment = {
        **rust.environment(),
        "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} --cfg ushabti_jitter".strip(),
        "CARGO_TARGET_DIR": str(native.target_folder() / "jitter"),
    }
    chosen = options.pytest_arguments or ["--effort", str(options.effort), *_TESTS]
    installed = _build_module(environment) if options.only != "rust" else {}
    for _ in range(options.rounds):
        if options.only != "python":
            command = ["cargo", "test", "--locked", "--quiet", "-p", "ushabti-core", "--lib"]
            run("jitter: core", [*command, "--test", "queue", "--test", "serve"], env=environment)
        if options.only != "rust":
            command = [sys.executable, "-m", "pytest", "-q", "--switch-interval", "1e-6", *chosen]
            run("jitter: pytest", command, env=installed, show_last_line=True)


def _build_module(environment: dict[str, str]) -> dict[str, str]:
    """Builds the package and unpacks it; returns the variables by which Python finds it before the installed one."""
    shutil.rmtree(_BUILT, ignore_errors=True)
    wheels, package = _BUILT / "wheels", _BUILT / "package"
    target = str(native.target_folder() / f"jitter-{_ABI}")
    run(
        "jitter: native module",
        [sys.executable, "-m", "maturin", "build", "--locked", "--profile", "dev", "-i", sys.executable, "-o", wheels],
        env={**environment, "VIRTUAL_ENV": sys.prefix, "CARGO_TARGET_DIR": target},
        advice="`make setup` installs what the build needs",
    )
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(package)
    found = run(
        "jitter: is what is imported",
        [sys.executable, "-c", "import ushabti; print(ushabti.__file__)"],
        env=_found_in(package),
    )
    if not Path(found.strip()).is_relative_to(package):
        raise SystemExit(f"jitter: {found.strip()} would be tested, and not {package}")
    return _found_in(package)


def _found_in(package: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(package), "TEST_INSTALLED": "1"}


if __name__ == "__main__":
    main()
