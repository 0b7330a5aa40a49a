"""``make free-threaded``: the Python tests on a CPython without the GIL, which must stay off.

The interpreter is ``$FREE_THREADED_PYTHON``, or is built from source by the script that is kept beside this
repository (minutes, once). The native module is built for it in a virtual environment of its own. Arguments are passed
on to pytest.
"""

import os
import subprocess
import sys

from tools import rust
from tools.environment import ensure
from tools.steps import ROOT, run

BUILDER = ROOT.parent / "shared" / "tools" / "free-threaded-python"
VENV = ROOT / ".venv-free-threaded"
REQUIREMENTS = ROOT / "tools" / "requirements-test.txt"

# Importing what does not declare itself safe switches the GIL on, with a warning only.
_PROBE = "import sys, ushabti, ushabti._core; sys.exit('the GIL came on' if sys._is_gil_enabled() else 0)"


def main() -> int:
    """Builds what is missing and runs the tests; returns their exit status."""
    if "PYTHON_GIL" in os.environ:
        print("free-threaded: unset PYTHON_GIL: the GIL must stay off without being told to")
        return 2
    python = os.environ.get("FREE_THREADED_PYTHON") or _built()
    inside = ensure(VENV, REQUIREMENTS, python)
    rust.ensure()
    native = subprocess.call([inside, "-m", "tools.native"], cwd=ROOT)
    if native != 0:
        return native
    run("the GIL stays off", [inside, "-c", _PROBE])
    # conftest.py looks again when the last test has run.
    return subprocess.call([inside, "-m", "pytest", "-q", *sys.argv[1:]], cwd=ROOT)


def _built() -> str:
    if not BUILDER.is_file():
        raise SystemExit(
            f"free-threaded: {BUILDER} is not there.\n"
            "               Name an interpreter: make free-threaded FREE_THREADED_PYTHON=/path/to/python3.13t"
        )
    return run("free-threaded CPython", [BUILDER]).strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
