"""The code blocks of the documents do what the documents say.

- ``python`` blocks run; one that makes a ``router`` is served for the ``console`` blocks that follow it.
- ``console`` blocks are commands after ``$`` and what they print. ``curl`` is run against the server of the block
  before, on its own port, and must print just that.
- ``bash`` blocks are commands that install, build or start something for good, so they are not run here (CI runs the
  same make targets in a clean clone): each must be a make target that exists, or be listed in ``KNOWN``.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Running
from tools.steps import ROOT
from ushabti import Router

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WRITTEN_PORT = "127.0.0.1:8080"

# Beginnings of commands in bash blocks, beside make.
KNOWN = ("git clone ", "cd ", "python -m venv ", ".venv/bin/pip install ", ".venv/bin/ushabti ")

DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if BLOCK.search(path.read_text())
)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_blocks_do_what_is_written(document: Path, serve: Callable[..., Running]) -> None:
    running: Running | None = None
    for language, code in BLOCK.findall(document.read_text()):
        match language:
            case "python":
                scope: dict[str, object] = {"__name__": "sample"}
                exec(compile(code, str(document), "exec"), scope)
                if isinstance(router := scope.get("router"), Router):
                    running = serve(router)
            case "console":
                check_console(code, running)
            case "bash":
                for line in code.splitlines():
                    check_command(line)
            case "text" | "toml":
                pass
            case _:
                pytest.fail(f"a block of {language}: say in this file how it is checked")


def check_console(code: str, running: Running | None) -> None:
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        arguments = shlex.split(command)
        assert arguments[0] == "curl", f"only curl is run in console blocks, not {arguments[0]}"
        assert running is not None, f"no router stands before: {command}"
        if not shutil.which("curl"):
            pytest.skip("curl is not installed")
        arguments = [argument.replace(WRITTEN_PORT, f"127.0.0.1:{running.port}") for argument in arguments]
        assert any(str(running.port) in argument for argument in arguments), f"asks somebody else: {command}"
        done = subprocess.run([*arguments, "--silent", "--max-time", "10"], capture_output=True, text=True)
        assert done.stdout.replace("\r\n", "\n").strip() == printed.strip(), command


def check_command(line: str) -> None:
    command = line.partition("#")[0].strip()
    if not command:
        return
    name, *arguments = shlex.split(command)
    if name == "make":
        assert {argument for argument in arguments if "=" not in argument} <= TARGETS, line
    else:
        assert command.startswith(KNOWN), f"{command}: is that a command?"


def test_there_are_blocks_to_check() -> None:
    assert ROOT / "README.md" in DOCUMENTS
