"""``make fuzz``: lets libFuzzer search each target of ``fuzz/`` for a broken property, and tables what came of it.

Targets may be named: ``ARGS="http websocket --seconds 3600"``. The targets are built by cargo-fuzz, which is installed
if it is missing. Coverage is instrumented by the stable compiler; ``--sanitizer address`` needs a nightly one.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools import fuzz_seeds, native, rust
from tools.steps import ROOT, StepFailed, run

FUZZ = ROOT / "fuzz"
# The version with which these targets were built.
CARGO_FUZZ = "0.13.2"

# An input that takes longer is a finding, as is one for which so much memory is held.
INPUT_PATIENCE_S = 10
MEMORY_MB = 1024
INPUT_BYTES_MAX = 4096
# The time that the search has is counted without reading the corpus, and without an input that hangs.
GRACE_S = 300.0

# The dictionaries of the targets that read text.
_DICTIONARIES = {
    "head": "http",
    "chunked": "http",
    "http": "http",
    "http2": "http",
    "handshake": "handshake",
    "uri": "uri",
    "routes": "routes",
}

_HEADINGS = ("target", "executions", "per second", "coverage", "features", "corpus", "findings")


@dataclass
class Result:
    """What came of one target.

    Attributes:
        target: Its name.
        executions: How many inputs were read.
        per_second: The same for a second.
        coverage: Places in the code that were reached: ``cov`` of libFuzzer.
        features: Those, and how often, and by which comparisons: ``ft``.
        corpus: Inputs that reach something which no other does.
        finding: The end of the log, if a property was broken.
    """

    target: str
    executions: int = 0
    per_second: int = 0
    coverage: int = 0
    features: int = 0
    corpus: int = 0
    finding: str = ""

    def row(self) -> str:
        """One line of the table."""
        numbers = (self.executions, self.per_second, self.coverage, self.features, self.corpus, int(bool(self.finding)))
        return f"| {self.target} | {' | '.join(f'{number:,}' for number in numbers)} |"


def targets() -> list[str]:
    """The names of all targets, in the order of the manifest."""
    manifest = tomllib.loads((FUZZ / "Cargo.toml").read_text())
    return [target["name"] for target in manifest["bin"]]


def ensure() -> str:
    """Installs cargo-fuzz if it is missing; returns why there can be no fuzzing, or nothing."""
    if shutil.which("c++") is None:
        return "no C++ compiler (c++) was found, and libFuzzer is written in C++"
    if shutil.which("cargo-fuzz", path=rust.environment()["PATH"]):
        return ""
    print(f"fuzz: installing cargo-fuzz {CARGO_FUZZ}", flush=True)
    command = ["cargo", "install", "cargo-fuzz", "--locked", "--quiet", "--version", CARGO_FUZZ]
    done = subprocess.run(command, env={**os.environ, **rust.environment()}, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["cargo said nothing"]
        return f"cargo-fuzz could not be installed ({said[-1]})"
    return ""


def build(sanitizer: str) -> dict[str, Path]:
    """Builds the targets and returns their programs."""
    folder = native.target_folder() / "fuzz"
    run(
        f"fuzz: targets, sanitizer {sanitizer}",
        ["cargo", "fuzz", "build", "--sanitizer", sanitizer, "--target-dir", folder],
        env=rust.environment(),
        advice="a sanitizer needs a nightly compiler: RUSTUP_TOOLCHAIN=nightly" if sanitizer != "none" else "",
    )
    return {target: next(folder.glob(f"*/release/{target}")) for target in targets()}


def search(target: str, program: Path, seconds: int) -> Result:
    """Runs a target for so long, and leaves its log beside what it finds."""
    corpus, artifacts = FUZZ / "corpus" / target, FUZZ / "artifacts" / target
    fuzz_seeds.write(target, corpus)
    artifacts.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        program,
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_PATIENCE_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-artifact_prefix={artifacts}/",
        "-print_final_stats=1",
    ]
    if name := _DICTIONARIES.get(target):
        command.append(f"-dict={FUZZ / 'dictionaries' / name}.dict")
    log = artifacts / "run.log"
    with log.open("w") as output:
        status = subprocess.run(
            [*command, corpus],
            cwd=FUZZ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=seconds + GRACE_S,
        ).returncode
    return read_log(target, log.read_text(errors="replace"), status)


def read_log(target: str, log: str, status: int) -> Result:
    """Reads the figures of a run out of what libFuzzer has printed."""
    result = Result(target)
    # Each line of progress has them, so the last one counts, also where the run ended with a finding.
    if lines := re.findall(r"^#(\d+)\t.*\bcov: (\d+) ft: (\d+) corp: (\d+)/", log, re.MULTILINE):
        result.executions, result.coverage, result.features, result.corpus = map(int, lines[-1])
    for name, value in re.findall(r"^stat::(\w+):\s+(\d+)$", log, re.MULTILINE):
        if name == "number_of_executed_units":
            result.executions = int(value)
        elif name == "average_exec_per_sec":
            result.per_second = int(value)
    if status:
        # What a target says of a broken property comes first, libFuzzer's own words and the input behind it.
        begin = re.search(r"^(thread .* panicked at|==\d+== ?ERROR)", log, re.MULTILINE)
        result.finding = log[begin.start() :] if begin else log[-3000:] or f"status {status}"
    return result


def table(results: Iterable[Result]) -> str:
    """The figures of all targets."""
    rule = "|" + " --- |" + " ---: |" * (len(_HEADINGS) - 1)
    return "\n".join([f"| {' | '.join(_HEADINGS)} |", rule, *(result.row() for result in results)])


def main() -> int:
    """Builds the targets, runs them, prints the table, and returns 1 if there was a finding."""
    known = targets()
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(known)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="how long each target is run (60)")
    parser.add_argument("--jobs", type=int, default=1, help="how many targets are run side by side (1)")
    parser.add_argument("--sanitizer", default="none", choices=("none", "address"), help="none by default")
    options = parser.parse_args()
    if unknown := sorted(set(options.targets) - set(known)):
        parser.error(f"no target is called {', '.join(unknown)}; there are {', '.join(known)}")
    if problem := ensure():
        print(f"fuzz: nothing was run: {problem}")
        return 0
    programs = build(options.sanitizer)
    chosen = [target for target in known if target in options.targets or not options.targets]
    printing = threading.Lock()

    def searched(target: str) -> Result:
        result = search(target, programs[target], options.seconds)
        with printing:
            print(f"fuzz: {target}: {result.executions:,} executions" + (", a FINDING" if result.finding else ""))
            sys.stdout.flush()
        return result

    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(searched, chosen))
    print(table(results))
    for result in results:
        if result.finding:
            print(f"\n{result.target}:\n{result.finding.rstrip()}", file=sys.stderr)
            print("docs/fuzzing.md says how to keep it: minimise, then a regression test", file=sys.stderr)
    return int(any(result.finding for result in results))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StepFailed:
        # Told already.
        sys.exit(1)
