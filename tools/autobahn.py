"""``make autobahn``: lets the Autobahn testsuite judge ``examples/conformance.py``, over loopback.

The suite is run by a script kept beside this repository, which installs it once; it needs Python 2.7. Arguments are
passed on: ``--full`` adds large messages and compression and takes a quarter of an hour, ``--cases "7.*"`` chooses.
``--tls`` and ``--http2`` are ours: the same over TLS, and over streams of HTTP/2.
"""

import contextlib
import shutil
import subprocess
import sys

from tools.bridge import bridging
from tools.steps import ROOT

JUDGE = ROOT.parent / "shared" / "conformance" / "autobahn"
# What the script says where there is no Python 2.7.
NO_PYTHON = 3
# The largest messages of the suite, and some of them at a time.
SIZE = "64 MiB"
# What the script has for its URL.
_PLAIN = '"url":"ws://127.0.0.1:'


def main() -> int:
    """Starts the example on a free port, runs the judge, and returns its exit status."""
    if not JUDGE.is_file() or shutil.which("bash") is None:
        print(f"autobahn: nothing was run. The suite is kept beside this repository: {JUDGE} is not there.")
        return 0
    from examples.conformance import router
    from ushabti import Server

    arguments = [argument for argument in sys.argv[1:] if argument not in ("--tls", "--http2")]
    script, is_tls = JUDGE.read_text(), "--tls" in sys.argv
    if is_tls and "--http2" in sys.argv:
        print("autobahn: the bridge to HTTP/2 speaks no TLS: choose one of --tls and --http2")
        return 2
    if is_tls:
        if _PLAIN not in script:
            print(f"autobahn: {JUDGE} does not write its URL as {_PLAIN}; --tls cannot change it")
            return 1
        script = script.replace(_PLAIN, _PLAIN.replace("ws:", "wss:"))
    server = Server(router, max_message=SIZE, websocket_outbox=SIZE, websocket_compress=True, tls_self_signed=is_tls)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(server.start(port=0)).port
        if "--http2" in sys.argv:
            port = stack.enter_context(bridging(port))
        command = ["bash", "-s", "--", *arguments, str(port)]
        status = subprocess.run(command, input=script, text=True).returncode
    if status == NO_PYTHON:
        print("autobahn: nothing was run: the suite needs Python 2.7 (by pyenv, on PATH, or named by PYTHON27)")
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
