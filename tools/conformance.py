"""``make conformance``: lets the black-box HTTP/1.1 cases judge ``examples/conformance.py``, over loopback.

Arguments are passed on to the judge: ``--only chunk``, ``-v``, ``--strict``.
"""

import subprocess
import sys

from tools.steps import ROOT

JUDGE = ROOT.parent / "shared" / "conformance" / "http1"


def main() -> int:
    """Starts the example on a free port, runs the judge, and returns its exit status."""
    if not JUDGE.is_file():
        print(f"conformance: nothing was run. The cases are kept beside this repository: {JUDGE} is not there.")
        return 0
    from examples.conformance import router
    from ushabti import Server

    with Server(router).start(port=0) as address:
        return subprocess.call([sys.executable, str(JUDGE), "--url", address.url, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
