"""Finds Chromium and its driver for the tests with a real browser, and installs them where they are missing.

``python -m tools.browser``, as root on a Debian; it does nothing where both are there.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tools.steps import run

__all__ = ["ADVICE", "ensure", "programs"]

_PACKAGES = ("chromium", "chromium-driver")
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_DRIVER = "chromedriver"
# Some 100 MB to fetch.
_PATIENCE_S = 600.0

ADVICE = (
    "install both, of the same version, and put them on PATH\n"
    "         (Debian: apt-get install chromium chromium-driver, as root)"
)


def programs() -> tuple[Path, Path] | None:
    """The paths of Chromium and of chromedriver; ``None`` unless both are on PATH."""
    chromium = next((path for name in _CHROMIUM if (path := shutil.which(name))), None)
    driver = shutil.which(_DRIVER)
    return (Path(chromium), Path(driver)) if chromium and driver else None


def ensure() -> None:
    """Installs both where one is missing; ends with a message if that cannot be done."""
    if programs():
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise SystemExit(f"browser: Chromium or chromedriver is missing: {ADVICE}")
    noninteractive = {"DEBIAN_FRONTEND": "noninteractive"}
    advice = f"without a browser some tests are skipped; {ADVICE}"
    run("browser: apt-get update", ["apt-get", "update"], env=noninteractive, advice=advice)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *_PACKAGES]
    run(f"browser: {' '.join(_PACKAGES)}", install, env=noninteractive, advice=advice, patience_s=_PATIENCE_S)
    found = programs()
    # Ubuntu's packages are empty and lead to snaps, which a container has not.
    if not found or subprocess.run([found[0], "--version"], capture_output=True).returncode != 0:
        raise SystemExit(f"browser: the packages have brought no Chromium that runs: {ADVICE}")


if __name__ == "__main__":
    ensure()
