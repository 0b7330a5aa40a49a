"""``make setup``: what the other targets need. A virtual environment with pinned tools, and Rust.

Does nothing, within a tenth of a second, where all is there.
"""

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from tools import rust
from tools.steps import ROOT, run

REQUIREMENTS = ROOT / "tools" / "requirements-dev.txt"


def ensure(venv: Path, requirements: Path = REQUIREMENTS, python: str = sys.executable) -> Path:
    """Makes the virtual environment and installs the pinned tools, if that has not been done; returns its Python."""
    inside = venv / "bin" / "python"
    mark = venv / "installed.sha256"
    wanted = _digest(requirements)
    if mark.is_file() and mark.read_text() == wanted and _runs(inside):
        return inside
    if not _runs(inside):
        if python == sys.executable and not importlib.util.find_spec("ensurepip"):
            raise SystemExit(
                f"setup: {python} comes without ensurepip, so it can make no virtual environment.\n"
                "       On Debian and Ubuntu: apt-get install python3-venv (as root), then run this again."
            )
        run(
            f"setup: {venv.relative_to(ROOT)}",
            [python, "-m", "venv", "--clear", venv],
            advice="on Debian and Ubuntu: apt-get install python3-venv (as root)",
        )
    run(
        "setup: pinned Python tools",
        [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements],
        advice="a package index must be reachable; pip's settings (proxy, index, certificates) are obeyed",
    )
    mark.write_text(wanted)
    return inside


def main() -> None:
    """Sets up ``.venv`` and Rust."""
    parser = argparse.ArgumentParser(prog="python -m tools.setup", description=__doc__)
    parser.parse_args()
    ensure(ROOT / ".venv")
    rust.ensure()
    if not shutil.which("cc"):
        raise SystemExit(
            "setup: no C compiler (cc) was found; Rust links with it.\n"
            "       Debian and Ubuntu: apt-get install gcc libc6-dev (as root); macOS: xcode-select --install"
        )


def _digest(requirements: Path) -> str:
    """Stands for the file and for those that it includes."""
    digest = hashlib.sha256(requirements.read_bytes())
    for line in requirements.read_text().splitlines():
        if line.startswith("-r "):
            digest.update(_digest(requirements.parent / line[3:].strip()).encode())
    return digest.hexdigest()


def _runs(python: Path) -> bool:
    """False too where the interpreter that the environment was made of is gone."""
    return python.exists() and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
