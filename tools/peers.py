"""This server and its peers, one after the other on a free port of this machine, with what their processes use."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from tools import native
from tools.steps import ROOT, StepFailed, run

# Cores that other processes may use before a run is called noisy; the same as in the comparison of `make bench`.
NOISE = 0.15
START_PATIENCE_S = 15.0
STOP_PATIENCE_S = 10.0
SETTLE_PATIENCE_S = 5.0

_TICKS = os.sysconf("SC_CLK_TCK")


class Unavailable(Exception):
    """A server cannot be measured here; the text says why."""


class Failed(Exception):
    """A server or the load did not do its part; the text says what happened."""


@dataclass(frozen=True)
class Server:
    """How a server is made ready, its command line, and what its environment has beside ours.

    ``{port}`` stands for the port.
    """

    prepare: Callable[[], None]
    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


def prepare_own() -> None:
    """Refuses a module that is stale or slow: its figures would be read as this tree's."""
    profile = native.built_profile()
    problem = native.problem_with_the_installed_module()
    if problem is None and profile != "release":
        problem = f"a release build is measured, not {profile or 'an unknown one'}: run `make build` without PROFILE"
    if problem:
        raise Unavailable(problem)


class Measured(Protocol):
    """A run of a server."""

    @property
    def other(self) -> float:
        """The cores that anything else used meanwhile."""


_Run = TypeVar("_Run", bound=Measured)


def quiet_ones(runs: list[_Run]) -> tuple[list[_Run], str]:
    """The runs that nothing disturbed, or all where each was; and what a table has behind the server's name then."""
    quiet = [run for run in runs if run.other <= NOISE]
    return quiet or runs, "" if quiet else " (noisy)"


class Meter:
    """CPU seconds of the server, of the load and of everything else, from now on."""

    def __init__(self, server: int, load: int) -> None:
        self._pids = (server, load)
        self._begun = time.monotonic()
        self._before = self._read()

    def stop(self) -> tuple[float, float, float]:
        """CPU seconds of the server, CPU seconds of the load, and cores that everything else used."""
        took = time.monotonic() - self._begun
        machine, server, load = (now - then for now, then in zip(self._read(), self._before, strict=True))
        return server, load, max(0.0, machine - server - load) / took

    def _read(self) -> tuple[float, float, float]:
        server, load = map(cpu_seconds, self._pids)
        return busy_seconds(), server, load


@contextmanager
def running(server: Server, log: Path) -> Iterator[tuple[int, int]]:
    """Yields process id and port of a server that accepts connections, and ends it afterwards.

    What it prints is in ``log``.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [part.replace("{port}", str(port)) for part in server.command]
    env = {**os.environ, **server.env}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_until_it_accepts(process, port, log)
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_accepts(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    said = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
    raise Failed(f"it accepts no connection: {said}")


def wait_until_quiet(pid: int) -> None:
    """Returns when a process has used no CPU for a while."""
    end = time.monotonic() + SETTLE_PATIENCE_S
    before, now = -1.0, cpu_seconds(pid)
    while now != before and time.monotonic() < end:
        time.sleep(0.3)
        before, now = now, cpu_seconds(pid)


def make(title: str, command: list[str | Path]) -> None:
    """Builds or installs a part of a peer."""
    try:
        run(title, command)
    except StepFailed as problem:
        raise Unavailable("it could not be built") from problem


def is_newer(target: Path, sources: list[Path]) -> bool:
    """Whether ``target`` is there and none of its sources has changed since."""
    return target.is_file() and target.stat().st_mtime >= max(source.stat().st_mtime for source in sources)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_seconds() -> float:
    """What the whole machine has worked: user, nice, system, irq and softirq of proc_stat(5)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / _TICKS


def memory(pid: int) -> int:
    """Bytes of memory that a process has for itself, shared pages by their share (Pss)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError as problem:
        raise Failed(f"nothing says what the server weighs: {problem}") from problem
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
