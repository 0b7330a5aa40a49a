"""Measures fan-out: one publisher and N WebSocket subscribers of a topic, this server beside peers in Go and Node.

``python -m tools.publish_bench`` starts one server after the other on a free port of this machine, lets
``bench/publish/load.rs`` drive it, and prints a table. ``--idle N`` instead opens N subscribers that do nothing, weighs
them, and publishes to all of them. What is measured, and how to read it: ``bench/publish/README.md``.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools import rust
from tools.peers import (
    NOISE,
    Failed,
    Meter,
    Server,
    Unavailable,
    is_newer,
    make,
    memory,
    prepare_own,
    quiet_ones,
    running,
    wait_until_quiet,
)
from tools.steps import ROOT, run

SOURCES = ROOT / "bench" / "publish"
BUILT = ROOT / "build" / "publish"

# Descriptors that a server needs beside its connections: files, listeners, and what it holds back for applications.
SPARE_DESCRIPTORS = 600
LOAD_LIMIT_S = 120


@dataclass(frozen=True)
class Fanout:
    """One run: every message went to every subscriber."""

    rate: float
    p50_ms: float
    p99_ms: float
    server_us: float
    load_us: float
    other: float


@dataclass(frozen=True)
class Idle:
    """One run with subscribers that wait. Bytes are those of the server's process."""

    opened_s: float
    connection_bytes: float
    published_bytes: float
    total_bytes: int
    receipt_ms: float


def build_load() -> Path:
    """Builds the load, if its source has changed."""
    source, program = SOURCES / "load.rs", BUILT / "load"
    if not is_newer(program, [source]):
        run("build: load", ["rustc", "--edition", "2024", "-O", source, "-o", program], env=rust.environment())
    return program


def prepare_go() -> None:
    """Builds the peer in Go, if its sources have changed."""
    folder, program = SOURCES / "go", BUILT / "go-server"
    if not shutil.which("go"):
        raise Unavailable("there is no Go here")
    if not is_newer(program, list(folder.iterdir())):
        make("build: Go peer", ["go", "build", "-C", folder, "-o", program, "."])


def prepare_node() -> None:
    """Installs what the peer in Node needs, below ``build``."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise Unavailable("there is no Node here, or no npm")
    wanted, installed = SOURCES / "node" / "package.json", BUILT / "package.json"
    complete = (BUILT / "node_modules" / "ws").is_dir() and installed.is_file()
    if not complete or installed.read_bytes() != wanted.read_bytes():
        shutil.copyfile(wanted, installed)
        make("install: Node peer", ["npm", "install", "--silent", "--no-package-lock", "--prefix", BUILT])


# No option that a user would not set: what is measured is what is served by default.
_OWN = [sys.executable, "-m", "ushabti", "examples.bench:router", "--app-dir", str(ROOT), "--bind", "127.0.0.1:{port}"]
SERVERS = {
    "own": Server(prepare_own, _OWN),
    "go": Server(prepare_go, [str(BUILT / "go-server"), "{port}", "loop"]),
    "go-channels": Server(prepare_go, [str(BUILT / "go-server"), "{port}", "channels"]),
    "node": Server(
        prepare_node,
        ["node", str(SOURCES / "node" / "server.js"), "{port}"],
        {"NODE_PATH": str(BUILT / "node_modules")},
    ),
}


class Load:
    """The load program, which stops after each phase until it is told to go on."""

    def __init__(self, program: Path, port: int, **options: int) -> None:
        settings = {"port": port, "limit": LOAD_LIMIT_S, **options}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def facts(self) -> dict[str, float]:
        """Waits for the end of the phase; the load's own limit of time ends the wait."""
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip()
            raise Failed(said or f"the load ended with status {self._process.wait()}")
        facts: dict[str, float] = json.loads(line)
        return facts

    def go_on(self) -> None:
        """Lets the next phase begin."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended, and `facts` will say why.

    def end(self) -> None:
        """Ends the load and with it all connections."""
        self._process.kill()
        self._process.communicate()


def measure_fanout(server: Server, name: str, program: Path, options: argparse.Namespace) -> Fanout:
    """Runs the workload once."""
    with running(server, BUILT / f"{name}.log") as (pid, port), _load(program, port, options) as load:
        load.facts()
        load.go_on()
        load.facts()
        meter = Meter(pid, load.pid)
        load.go_on()
        facts = load.facts()
        server_s, load_s, other = meter.stop()
    count = facts["deliveries"]
    return Fanout(
        rate=count / facts["seconds"],
        p50_ms=facts["p50_us"] / 1e3,
        p99_ms=facts["p99_us"] / 1e3,
        server_us=server_s / count * 1e6,
        load_us=load_s / count * 1e6,
        other=other,
    )


def measure_idle(server: Server, name: str, program: Path, options: argparse.Namespace) -> Idle:
    """Opens the subscribers, weighs the server, and publishes once to all."""
    with running(server, BUILT / f"{name}.log") as (pid, port):
        before = memory(pid)
        with _load(program, port, options) as load:
            opened = load.facts()
            # A server may still be at work for connections whose 101 has left.
            wait_until_quiet(pid)
            open_bytes = memory(pid)
            load.go_on()
            facts = load.facts()
            published_bytes = memory(pid)
    return Idle(
        opened_s=opened["seconds"],
        connection_bytes=(open_bytes - before) / options.subscribers,
        published_bytes=(published_bytes - before) / options.subscribers,
        total_bytes=open_bytes,
        receipt_ms=facts["p50_us"] / 1e3,
    )


def print_fanout(runs: dict[str, list[Fanout]]) -> None:
    """A row for each server: medians of its quiet runs, or of all where none was quiet."""
    print("\n| server | delivered/s | lowest to highest | p50 ms | p99 ms | server CPU us | load CPU us | other CPU |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, all_runs in runs.items():
        used, noisy = quiet_ones(all_runs)
        rates = [one.rate for one in used]
        print(
            f"| {name}{noisy} | {statistics.median(rates):,.0f} "
            f"| {min(rates):,.0f} to {max(rates):,.0f} | {statistics.median(one.p50_ms for one in used):.2f} "
            f"| {statistics.median(one.p99_ms for one in used):.2f} "
            f"| {statistics.median(one.server_us for one in used):.2f} "
            f"| {statistics.median(one.load_us for one in used):.2f} | {max(one.other for one in used):.2f} |"
        )
    print(
        "\nTimes are from a publish to the last receipt, CPU is for one delivery, other CPU is the most that anything "
        f"else used, in cores.\nRuns with more than {NOISE} of it are left out where there are others."
    )


def print_idle(runs: dict[str, list[Idle]]) -> None:
    """A row for each server: medians of its runs."""
    print("\n| server | opened in s | KiB each | KiB each after a publish | process MiB | last receipt ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, used in runs.items():
        print(
            f"| {name} | {statistics.median(one.opened_s for one in used):.2f} "
            f"| {statistics.median(one.connection_bytes for one in used) / 1024:.2f} "
            f"| {statistics.median(one.published_bytes for one in used) / 1024:.2f} "
            f"| {statistics.median(one.total_bytes for one in used) / 2**20:.1f} "
            f"| {statistics.median(one.receipt_ms for one in used):.1f} |"
        )


def main() -> int:
    """Measures what the command line asks for; returns 1 if a server failed."""
    options = _options()
    BUILT.mkdir(parents=True, exist_ok=True)
    program = build_load()
    names = []
    for name in options.servers:
        try:
            SERVERS[name].prepare()
            names.append(name)
        except Unavailable as problem:
            print(f"{name} is left out: {problem}")
    fanouts: dict[str, list[Fanout]] = {}
    idles: dict[str, list[Idle]] = {}
    failed = False
    for _ in range(options.rounds):
        for name in names:
            try:
                if options.idle:
                    idle = measure_idle(SERVERS[name], name, program, options)
                    idles.setdefault(name, []).append(idle)
                    print(f"{name}: {idle.connection_bytes / 1024:.2f} KiB each", flush=True)
                else:
                    fanout = measure_fanout(SERVERS[name], name, program, options)
                    fanouts.setdefault(name, []).append(fanout)
                    print(f"{name}: {fanout.rate:,.0f}/s, other CPU {fanout.other:.2f}", flush=True)
            except Failed as problem:
                print(f"{name} failed: {problem}", flush=True)
                failed = True
    if fanouts:
        print_fanout(fanouts)
    if idles:
        print_idle(idles)
    return 1 if failed or not names else 0


def _options() -> argparse.Namespace:
    """The command line; ``subscribers``, ``messages`` and ``warmup`` are those that the load is given."""
    parser = argparse.ArgumentParser(prog="python -m tools.publish_bench", description=__doc__)
    parser.add_argument("--subscribers", type=int, default=1000, metavar="N", help="connections (default 1000)")
    parser.add_argument("--messages", type=int, default=1000, metavar="M", help="messages a run (default 1000)")
    parser.add_argument("--window", type=int, default=1, metavar="W", help="messages in flight, up to 256 (default 1)")
    parser.add_argument("--rounds", type=int, default=3, metavar="R", help="runs of each server (default 3)")
    parser.add_argument("--idle", type=int, default=0, metavar="N", help="weigh N subscribers instead")
    parser.add_argument("--servers", default="own,go,node", help=f"of {','.join(SERVERS)} (default own,go,node)")
    options = parser.parse_args()
    options.servers = options.servers.split(",")
    if unknown := [name for name in options.servers if name not in SERVERS]:
        parser.error(f"no server is called {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    options.warmup = 50
    if options.idle:
        # The one publish is the first that the server sees: that is the case in question.
        options.subscribers, options.messages, options.window, options.warmup = options.idle, 1, 1, 0
    if min(options.subscribers, options.messages, options.rounds) < 1 or not 1 <= options.window <= 256:
        parser.error("counts begin at 1, and the window ends at 256")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Inherited by the servers and by the load.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and options.subscribers + SPARE_DESCRIPTORS > most:
        allowed = most - SPARE_DESCRIPTORS
        parser.error(f"this system lets a process open {most} files (ulimit -Hn): {allowed} subscribers at most")
    return options


@contextmanager
def _load(program: Path, port: int, options: argparse.Namespace) -> Iterator[Load]:
    names = ("subscribers", "messages", "window", "warmup")
    load = Load(program, port, **{name: getattr(options, name) for name in names})
    try:
        yield load
    finally:
        load.end()


if __name__ == "__main__":
    sys.exit(main())
