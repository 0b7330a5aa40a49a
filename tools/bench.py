"""``make bench``: measures ``examples/bench.py`` and its peers side by side on this machine.

The comparison itself is kept beside this repository; arguments are passed on to it: ``--workloads hello,json``,
``--peers none``, ``--rounds 3``. See docs/performance.md for how to read the table.
"""

import shlex
import subprocess
import sys

from tools import native
from tools.steps import ROOT

COMPARE = ROOT.parent / "shared" / "bench" / "peers" / "compare"


def main() -> int:
    """Runs the comparison with this server in it, and returns its exit status."""
    if not COMPARE.is_file():
        print(f"bench: nothing was measured. The comparison is kept beside this repository, in {COMPARE}.")
        return 1
    profile = native.built_profile()
    if profile != "release" or native.problem_with_the_installed_module():
        print(f"bench: measures a release build, not {profile or 'an unknown one'}: run `make build` without PROFILE")
        return 1
    # No thread count: what is measured is what a user gets who sets no option.
    options = ["--bind", "127.0.0.1:{port}", "--access-log", "off"]
    own = [sys.executable, "-m", "ushabti", "examples.bench:router", *options]
    return subprocess.call([sys.executable, str(COMPARE), "--own", shlex.join(own), *sys.argv[1:]], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
