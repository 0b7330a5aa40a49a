"""``make soak``: mixed load on one server, and whether it still holds what it held in the beginning.

HTTP with and without keep-alive, bodies of known and of unknown length, errors, streamed answers, WebSockets that are
echoed and that share a topic, clients that leave anywhere in good order or with a reset: 150 operations a second by
default, which leaves room for other work on the machine. Each second's memory, threads, descriptors, connections and
rates go into a CSV, and at the end into an SVG beside it.

It exits with 1 if an answer was wrong, if the server did not stop in good order, or if something has grown. The rule:
the medians of two spans of the run are compared, that from a sixth to a third of it (of 30 minutes, those from 5 to 10)
with that of the last sixth (25 to 30). The first sixth is left out: in it caches fill and the allocator's arenas
settle. Grown has what is later more than before by

- memory (VmRSS): 3 percent and 1 MiB, which is what the allocator keeps now and then;
- threads: 1, as the pool breathes with the load;
- descriptors: 3, as many connections as chance leaves open between two samples.

``ARGS="--minutes 5 --rate 500"`` changes the length and the pressure. Linux alone tells what is sampled (/proc).
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tools.soak.chart import Panel, draw
from tools.soak.load import Load
from tools.steps import ROOT

FIRST = (1 / 6, 1 / 3)
LAST = (5 / 6, 1.0)
# By how much each may grow, as a share and in its own unit.
TOLERANCE = {"memory_kib": (0.03, 1024), "threads": (0.0, 1), "descriptors": (0.0, 3)}
SAMPLE_S = 1.0
STOP_S = 30.0


class Sample(NamedTuple):
    """One row of the CSV."""

    second: float
    memory_kib: int
    threads: int
    descriptors: int
    connections: int
    websockets: int
    requests_per_s: float
    messages_per_s: float
    processor_share: float


class Target:
    """The server, in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.soak.app"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Every handler that fails on purpose leaves a traceback there.
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._proc = Path("/proc") / str(self._process.pid)
        self.port: int = self._read()["port"]
        self._before: tuple[float, int, int, float] | None = None

    def sample(self, begun: float) -> Sample:
        """What it holds now, and what it has done since the last time."""
        now = time.monotonic()
        stats = self.stats()
        status = dict(line.split(":", 1) for line in (self._proc / "status").read_text().splitlines())
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        processor = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        answers = sum(stats["answers"].values())
        messages = stats["websocket_messages"]
        before = self._before or (now - SAMPLE_S, answers, messages, processor)
        self._before = (now, answers, messages, processor)
        passed = now - before[0]
        return Sample(
            second=round(now - begun, 1),
            memory_kib=int(status["VmRSS"].split()[0]),
            threads=int(status["Threads"]),
            descriptors=len(os.listdir(self._proc / "fd")),
            connections=stats["connections_open"],
            websockets=stats["websockets_open"],
            requests_per_s=round((answers - before[1]) / passed, 1),
            messages_per_s=round((messages - before[2]) / passed, 1),
            processor_share=round((processor - before[3]) / passed, 3),
        )

    def stats(self) -> dict[str, Any]:
        """The server's own counters."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        facts: dict[str, Any] = json.loads(self._process.stdout.readline())
        return facts

    def stop(self) -> int | None:
        """Sends SIGTERM and returns the exit status; None if it had to be killed."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None
        finally:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    pipe.close()


def grown(samples: Sequence[Sample]) -> list[str]:
    """What has grown, by the rule at the head of this file, in words."""
    found = []
    for name, (share, extra) in TOLERANCE.items():
        values = [getattr(sample, name) for sample in samples]
        first, last = (median(_span(values, span)) for span in (FIRST, LAST))
        print(f"{name}: median {first:,.0f} from a sixth to a third of the time, {last:,.0f} in the last sixth")
        if last > first * (1 + share) + extra:
            found.append(f"{name} grew from {first:,.0f} to {last:,.0f}")
    return found


def _span(values: Sequence[float], span: tuple[float, float]) -> Sequence[float]:
    begin, end = (round(part * len(values)) for part in span)
    return values[begin : max(end, begin + 1)]


def soak(minutes: float, rate: float, threads: int) -> tuple[list[Sample], list[str], Load]:
    """Loads a server for some minutes. Returns the samples, what went wrong, and the load with its counts."""
    target = Target()
    load = Load(target.port, rate, threads)
    samples: list[Sample] = []
    problems = []
    try:
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + minutes * 60 and not load.problems:
            samples.append(target.sample(begun))
            time.sleep(max(0.0, now + SAMPLE_S - time.monotonic()))
    finally:
        load.stop()
        status = target.stop()
    problems += load.problems
    if status != 0:
        problems.append(f"the server ended with status {status}" if status else "the server did not stop in time")
    return samples, problems, load


def main() -> int:
    """Runs the soak, writes both files and says what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=150, help="operations a second, all together")
    parser.add_argument("--threads", type=int, default=12, help="clients at once")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="folder for soak.csv and soak.svg")
    options = parser.parse_args()
    if not Path("/proc/self/status").exists():
        print("soak: nothing was run. What is sampled is read from /proc, which this system does not have.")
        return 0
    samples, problems, load = soak(options.minutes, options.rate, options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "soak.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Sample._fields)
        writer.writerows(samples)
    panels = [
        Panel("memory of the process, MiB", [sample.memory_kib / 1024 for sample in samples]),
        Panel("threads", [sample.threads for sample in samples]),
        Panel("descriptors", [sample.descriptors for sample in samples]),
        Panel("connections", [sample.connections for sample in samples]),
        Panel("answers a second", [sample.requests_per_s for sample in samples]),
        Panel("WebSocket messages a second", [sample.messages_per_s for sample in samples]),
    ]
    title = f"Mixed load, {options.rate:g} operations a second; compared are the two shaded spans"
    (options.out / "soak.svg").write_text(draw(title, panels, [FIRST, LAST], options.minutes))
    print(f"visits: {', '.join(f'{count} {kind}' for kind, count in sorted(load.counts.items()))}")
    problems += grown(samples)
    for problem in problems:
        print(f"soak: {problem}", file=sys.stderr)
    print(f"soak: {'FAILED' if problems else 'all well'}; samples and picture are in {options.out}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
