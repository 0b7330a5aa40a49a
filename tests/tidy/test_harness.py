"""The guards of tests/conftest.py catch what they are there for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import native
from tools.steps import ROOT

LEAKS = """
import os, socket, threading, warnings

from tests import conftest

# What is left on purpose is not waited for as long as what may be about to go.
conftest.LEAVE_S = 0.5

release = threading.Event()

def test_leaves_a_descriptor():
    global kept
    kept = os.open(os.devnull, os.O_RDONLY)

def test_leaves_a_thread():
    threading.Thread(target=release.wait, name="forgotten", daemon=True).start()

def test_waits_for_a_thread_that_is_leaving():
    threading.Timer(0.2, lambda: None).start()

def test_warns():
    warnings.warn("old", DeprecationWarning)

def test_drops_an_open_socket():
    socket.socket()

def test_thread_fails():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
"""

HANGS = """
import pytest, threading

@pytest.mark.time_limit(0.5)
def test_waits_for_ever():
    threading.Event().wait()
"""


def run(tmp_path: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest on ``tests`` with the settings and the conftest of this repository."""
    (tmp_path / "test_inner.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    return subprocess.run(
        [*command, "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path / "test_inner.py")],
        cwd=ROOT,
        # What these tests are about is not the native module, which may be edited while they run.
        env={**os.environ, "TEST_INSTALLED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_a_test_leaves_behind_fails_it(tmp_path: Path) -> None:
    output = run(tmp_path, LEAKS).stdout
    assert "left behind: descriptor" in output
    assert "left behind: thread forgotten" in output
    failed = {line.split("::")[1].split(" ")[0] for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))}
    assert failed == {
        "test_leaves_a_descriptor",
        "test_leaves_a_thread",
        "test_warns",
        "test_drops_an_open_socket",
        "test_thread_fails",
    }


def test_a_test_that_hangs_ends_the_run_with_every_stack(tmp_path: Path) -> None:
    done = run(tmp_path, HANGS)
    assert done.returncode != 0
    assert "Timeout (0:00:00.500000)!" in done.stderr
    assert "in test_waits_for_ever" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sources": "0"}, "the sources of the native module have changed since it was built: run `make build`"),
        ({"module": "0"}, "is not the module that `make build` made: run `make build`"),
    ],
)
def test_a_stale_module_is_not_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], said: str
) -> None:
    if os.environ.get("TEST_INSTALLED"):
        pytest.skip("an installed wheel is tested")
    stamp = tmp_path / "stamp.json"
    stamp.write_text(json.dumps(native.stamp_of("release")))
    monkeypatch.setattr(native, "STAMP", stamp)
    assert native.problem_with_the_installed_module() is None
    stamp.write_text(json.dumps({**native.stamp_of("release"), **change}))
    assert said in (native.problem_with_the_installed_module() or "")


def test_a_module_that_was_never_built_is_not_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_INSTALLED", raising=False)
    monkeypatch.setattr(native, "STAMP", tmp_path / "none.json")
    assert "was not built" in (native.problem_with_the_installed_module() or "")


def test_an_installed_wheel_is_tested_whatever_the_tree_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "STAMP", tmp_path / "none.json")
    monkeypatch.setenv("TEST_INSTALLED", "1")
    assert native.problem_with_the_installed_module() is None
