"""Tracked files: how long they are, and what they must not name."""

import re
import subprocess
from pathlib import Path

import pytest

from tools.steps import ROOT

LINES_MAX = 500
# Files that may be longer, each with its reason. Empty, and meant to stay so: a file has one subject.
LONGER: dict[str, str] = {}

# Written in two halves, so that this file does not name them either.
FORBIDDEN = {
    "a machine's path": ["/ro" + "ot/", "/wo" + "rk/", "/home/" + r"[a-z]", "/Us" + "ers/", "/tmp/" + r"[a-z]/"],
    "a registry's host": [
        "py" + r"pi\.org",
        "pythonhos" + r"ted\.org",
        "crates" + r"\.io/",
        "npm" + r"js\.org",
        "deb" + r"\.debian\.org",
        "proxy\\.gol" + r"ang\.org",
        "maven\\.apa" + r"che\.org",
    ],
}


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """What git tracks or would track; nothing to look at where the source came without git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository, or no git")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_source_file_is_longer_than_one_subject_needs(tracked: list[Path]) -> None:
    sources = [path for path in tracked if path.suffix in (".py", ".pyi", ".rs")]
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources
        if (count := path.read_text().count("\n")) >= LINES_MAX and str(path.relative_to(ROOT)) not in LONGER
    }
    assert sources
    assert long == {}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(tracked: list[Path], what: str) -> None:
    pattern = re.compile("|".join(FORBIDDEN[what]))
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked
        # Cargo itself writes where a crate comes from.
        if path.name != "Cargo.lock"
        for match in pattern.finditer(path.read_text(errors="replace"))
    ]
    assert found == []


def test_everything_tracked_is_text(tracked: list[Path]) -> None:
    assert [str(path.relative_to(ROOT)) for path in tracked if b"\0" in path.read_bytes()] == []
