"""``make run``: serves the hello example and says how to ask it."""

import os
import sys

from tools.steps import ROOT

PORT = os.environ.get("PORT") or "8080"

if __name__ == "__main__":
    os.chdir(ROOT)
    print(f"try:  curl http://127.0.0.1:{PORT}/     (Ctrl-C stops the server)", flush=True)
    # In place of this process, so that signals reach the server itself.
    os.execv(sys.executable, [sys.executable, "-m", "ushabti", "examples.hello:router", "--bind", f"127.0.0.1:{PORT}"])
