"""``make build``: builds the native module for the running interpreter, if its sources have changed.

Each build leaves a stamp in ``build/``, one for each interpreter: what was read, what was made, and how. Tests refuse
to run when the stamp does not fit (an edited crate changes nothing until it is built, and everything stays green),
and the benchmark refuses a ``dev`` build.

Variables: ``PROFILE=dev`` builds in a fraction of the time, without link-time optimisation. ``TEST_INSTALLED=1`` lets
the tests run on an installed wheel, whatever the source tree holds.
"""

import argparse
import fcntl
import hashlib
import json
import os
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tools import rust
from tools.steps import ROOT, run

PROFILES = ("release", "dev")

_ABI = sysconfig.get_config_var("SOABI")
_MODULE = ROOT / "python" / "ushabti" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
STAMP = ROOT / "build" / f"native-{_ABI}.json"


def build(profile: str = "release") -> None:
    """Builds the module and installs the package into the running interpreter's environment, unless that is done."""
    if profile not in PROFILES:
        raise SystemExit(f"build: PROFILE={profile} is not a profile: write {' or '.join(PROFILES)}")
    if _stamp() == stamp_of(profile):
        return
    STAMP.parent.mkdir(exist_ok=True)
    # maturin moves what it has built from one folder to the next, and two of it would take it from each other.
    with STAMP.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build(profile)


def _build(profile: str) -> None:
    # Taken before the build: an edit during the build leaves a stale stamp, as it should.
    fresh = stamp_of(profile)
    if _stamp() == fresh:
        return
    STAMP.unlink(missing_ok=True)
    run(
        f"build: native module ({profile})",
        [sys.executable, "-m", "maturin", "develop", "--locked", "--profile", profile],
        env={
            **rust.environment(),
            "VIRTUAL_ENV": sys.prefix,
            # One folder for each interpreter: shared, PyO3 would be compiled anew at every change of interpreter.
            "CARGO_TARGET_DIR": str(target_folder() / f"native-{_ABI}"),
        },
        advice="`make setup` installs what the build needs",
    )
    STAMP.write_text(json.dumps({**fresh, "module": _digest_of(_MODULE)}, indent=2) + "\n")


def stamp_of(profile: str) -> dict[str, str]:
    """The stamp of the module that is there, if it was built by this profile of the sources that are there."""
    return {
        "sources": _sources_digest(),
        "module": _digest_of(_MODULE),
        "profile": profile,
        "prefix": sys.prefix,
    }


def problem_with_the_installed_module() -> str | None:
    """Says why tests on the module that is there would prove nothing; None when they would."""
    if os.environ.get("TEST_INSTALLED"):
        return None
    stamp = _stamp()
    if not stamp or not _MODULE.is_file():
        return f"the native module was not built for {sys.executable} by this tree: run `make build`"
    if stamp["sources"] != _sources_digest():
        return "the sources of the native module have changed since it was built: run `make build`"
    if stamp["module"] != _digest_of(_MODULE):
        return f"{_MODULE.relative_to(ROOT)} is not the module that `make build` made: run `make build`"
    return None


def built_profile() -> str | None:
    """The profile of the module that is there; None if it was not built by this file."""
    return _stamp().get("profile")


def target_folder() -> Path:
    """Where cargo builds; below it each interpreter has a folder of its own."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")


def _sources() -> Iterator[Path]:
    """Every file of this repository that the build reads, but for ``pyproject.toml``."""
    yield ROOT / "Cargo.toml"
    yield ROOT / "Cargo.lock"
    for crate in sorted((ROOT / "crates").iterdir()):
        yield from (path for path in (crate / "Cargo.toml", crate / "build.rs") if path.is_file())
        yield from sorted(path for path in (crate / "src").rglob("*") if path.is_file())
    for name in ("rust-toolchain.toml", ".cargo/config.toml"):
        if (ROOT / name).is_file():
            yield ROOT / name


def _sources_digest() -> str:
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path.relative_to(ROOT)}\0{_digest_of(path)}\n".encode())
    # Only what the build reads of it: a changed lint must not cost a build.
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    read = [settings["build-system"], settings["project"], settings["tool"]["maturin"]]
    digest.update(json.dumps(read, sort_keys=True).encode())
    return digest.hexdigest()


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _stamp() -> dict[str, str]:
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tools.native", description=__doc__).parse_args()
    build(os.environ.get("PROFILE") or "release")
