"""Runs one command after another: a line each when all is well, everything that was printed when it is not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# No step takes a third of this on two cores, a first build included. A hang must not pass for work.
PATIENCE_S = 900.0

_WIDTH = 34


class StepFailed(SystemExit):
    """A step did not succeed. Its output and what to do have been printed."""


def run(
    title: str,
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    advice: str = "",
    show_last_line: bool = False,
    patience_s: float = PATIENCE_S,
) -> str:
    """Runs ``command`` in the root of the repository, without standard input, and prints one line with its time.

    Args:
        title: What the line says.
        command: Program and arguments.
        env: Variables beside those of this process.
        advice: What to do about a failure.
        show_last_line: Print the last line that came, too: the totals of a test run.
        patience_s: After so long the command and all that it started are ended, and the step has failed.

    Returns:
        What the command printed.

    Raises:
        StepFailed: The command failed.
    """
    print(f"{title:{_WIDTH}}", end="", flush=True)
    begun = time.monotonic()
    output, failed = _run([str(part) for part in command], {**os.environ, **(env or {})}, patience_s)
    took = time.monotonic() - begun
    if failed:
        print(f"{took:7.1f} s  FAILED\n")
        print(output.rstrip() + "\n")
        print(f"failed: {' '.join(str(part) for part in command)}", file=sys.stderr)
        if advice:
            print(f"        {advice}", file=sys.stderr)
        raise StepFailed(1)
    print(f"{took:7.1f} s")
    if show_last_line and output.strip():
        print(output.strip().splitlines()[-1])
    return output


def _run(command: list[str], env: dict[str, str], patience_s: float) -> tuple[str, bool]:
    """Returns what the command printed, and whether it failed."""
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A group of its own, so that what cargo or pytest has started can be ended with it.
            start_new_session=True,
        )
    except OSError as problem:
        return str(problem), True
    try:
        output, _ = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return f"{output}\nended after {patience_s:.0f} s", True
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return output, process.returncode != 0
