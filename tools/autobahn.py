"""``make autobahn``: lets the Autobahn testsuite judge ``examples/conformance.py``, over loopback.

The suite is run by a script kept beside this repository, which installs it once; it needs Python 2.7. Arguments are
passed on: ``--full`` adds large messages and compression and takes a quarter of an hour, ``--cases "7.*"`` chooses.
"""

import shutil
import subprocess
import sys

from tools.steps import ROOT

JUDGE = ROOT.parent / "shared" / "conformance" / "autobahn"
# What the script says where there is no Python 2.7.
NO_PYTHON = 3
# The largest messages of the suite, and some of them at a time.
SIZE = "64 MiB"


def main() -> int:
    """Starts the example on a free port, runs the judge, and returns its exit status."""
    if not JUDGE.is_file() or shutil.which("bash") is None:
        print(f"autobahn: nothing was run. The suite is kept beside this repository: {JUDGE} is not there.")
        return 0
    from examples.conformance import router
    from ushabti import Server

    server = Server(router, max_message=SIZE, websocket_outbox=SIZE, websocket_compress=True)
    with server.start(port=0) as address:
        status = subprocess.call(["bash", str(JUDGE), *sys.argv[1:], str(address.port)])
    if status == NO_PYTHON:
        print("autobahn: nothing was run: the suite needs Python 2.7 (by pyenv, on PATH, or named by PYTHON27)")
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
