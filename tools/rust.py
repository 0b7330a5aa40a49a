"""Finds Rust, and installs it where it is missing: by its own installer, else from Debian's packages."""

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
import urllib.request
from pathlib import Path

from tools.steps import ROOT, run

_INSTALLER = "https://sh.rustup.rs"
_INSTALLER_PATIENCE_S = 20
# Debian's current compiler, and the newer one that stable releases carry beside it for web browsers.
_DEBIAN = (
    ("rustc", "cargo", "rustfmt", "rust-clippy"),
    ("rustc-web", "cargo-web", "rustfmt-web", "rust-web-clippy"),
)

Version = tuple[int, int]


def environment() -> dict[str, str]:
    """The variables with which cargo is found, also where Rust was installed a moment ago."""
    return {"PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), str(_cargo_home() / "bin")])}


def ensure() -> None:
    """Installs Rust if there is none that is new enough; ends with a message if that cannot be done."""
    oldest = _oldest()
    found = _installed()
    if found and found >= oldest:
        return
    if found is None and not _which("rustup"):
        if _install_by_rustup() or _install_by_apt(oldest):
            return
        problem = "no Rust compiler was found, and none could be installed"
    elif found is None:
        problem = "rustup is installed, but no toolchain of it"
    else:
        problem = f"Rust {found[0]}.{found[1]} is too old"
    raise SystemExit(
        f"setup: {problem}. Rust {oldest[0]}.{oldest[1]} or newer is needed, with cargo, clippy and rustfmt:\n"
        "       - with rustup:  rustup update stable && rustup default stable\n"
        "       - without:      the installer that https://rustup.rs describes\n"
        "       - Debian 12:    apt-get install rustc-web cargo-web rustfmt-web rust-web-clippy (as root)\n"
        "       - Debian 13:    apt-get install rustc cargo rustfmt rust-clippy (as root)"
    )


def _cargo_home() -> Path:
    return Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")


def _which(program: str) -> str | None:
    return shutil.which(program, path=environment()["PATH"])


def _oldest() -> Version:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    return _version(manifest["workspace"]["package"]["rust-version"])


def _version(text: str) -> Version:
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _installed() -> Version | None:
    """The version of the compiler that cargo would use; None without one."""
    if not _which("cargo") or not (rustc := _which("rustc")):
        return None
    # In the repository, where a rustup override may be in force.
    done = subprocess.run([rustc, "--version"], cwd=ROOT, capture_output=True, text=True)
    return _version(done.stdout) if done.returncode == 0 else None


def _install_by_rustup() -> bool:
    try:
        with urllib.request.urlopen(_INSTALLER, timeout=_INSTALLER_PATIENCE_S) as answer:
            script = answer.read()
    except OSError as problem:
        print(f"setup: Rust's own installer is out of reach ({problem})")
        return False
    with tempfile.NamedTemporaryFile(suffix=".sh") as file:
        file.write(script)
        file.flush()
        chosen = ["--profile", "minimal", "--component", "clippy", "--component", "rustfmt", "--no-modify-path"]
        run(
            f"setup: Rust, into {_cargo_home()}",
            ["sh", file.name, "-y", *chosen],
            # Another Rust on PATH is too old or broken, or this would not run.
            env={"RUSTUP_INIT_SKIP_PATH_CHECK": "yes"},
            advice="install Rust as https://rustup.rs describes, then run this again",
        )
    return True


def _install_by_apt(oldest: Version) -> bool:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return False
    noninteractive = {"DEBIAN_FRONTEND": "noninteractive"}
    run("setup: apt-get update", ["apt-get", "update"], env=noninteractive)
    for packages in _DEBIAN:
        policy = subprocess.run(["apt-cache", "policy", packages[0]], capture_output=True, text=True).stdout
        candidate = re.search(r"Candidate: (\S+)", policy)
        if candidate and _version(candidate[1]) >= oldest:
            install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
            run(f"setup: {' '.join(packages[:2])}", install, env=noninteractive)
            return True
    return False
