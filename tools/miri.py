"""``make miri``: runs Rust's tests in Miri, which sees undefined behaviour and data races that no test would.

It runs what needs no socket: the protocol, and the core's queue, inboxes, alerts and desks with their threads, whose
memory Miri makes as weak as the language allows. It needs a nightly toolchain with the components ``miri`` and
``rust-src``, and runs code some hundred times slower. ``--seeds N`` runs the core's tests with so many orders of
events.
"""

import argparse
import subprocess
import sys

from tools import native, rust
from tools.steps import run

_TOOLCHAIN = "+nightly"
# It forbids unsafe code, so there is only what it calls; cases that are cut everywhere take hours.
_PROTO = (("--test", "fields"), ("--test", "uri"), ("--test", "websocket", "--", "closing"))
# Compiled patterns and megabytes of lines take hours there; sockets it has none, nor the assembly of ring.
_LEFT_OUT = ("--", "--skip", "routes", "--skip", "journal", "--skip", "listener", "--skip", "tls::")
_CORE = (("--lib", *_LEFT_OUT), ("--test", "queue"))
# The machine's clock: by Miri's own, half a second would take hours. And parking_lot keeps pointers in words.
_FLAGS = "-Zmiri-disable-isolation -Zmiri-permissive-provenance"
_PATIENCE_S = 3600.0


def main() -> None:
    """Runs the tests of both crates, or says what is missing."""
    parser = argparse.ArgumentParser(prog="python -m tools.miri", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="orders of events for the core's tests (1)")
    parser.add_argument("--only", choices=("proto", "core"), help="one of the two crates")
    options = parser.parse_args()
    environment = {**rust.environment(), "CARGO_TARGET_DIR": str(native.target_folder() / "miri")}
    found = subprocess.run(["cargo", _TOOLCHAIN, "miri", "--version"], capture_output=True, text=True)
    if found.returncode != 0:
        print("miri: there is no Miri here: rustup component add miri rust-src --toolchain nightly", file=sys.stderr)
        raise SystemExit(2)
    for crate, tests, seeds in (("core", _CORE, options.seeds), ("proto", _PROTO, 1)):
        if options.only not in (None, crate):
            continue
        for chosen in tests:
            for seed in range(seeds):
                run(
                    f"miri: {crate} {chosen[1] if chosen[0] == '--test' else 'lib'}"
                    + (f", seed {seed}" if seeds > 1 else ""),
                    ["cargo", _TOOLCHAIN, "miri", "test", "--locked", "-p", f"ushabti-{crate}", *chosen],
                    env={**environment, "MIRIFLAGS": f"{_FLAGS} -Zmiri-seed={seed}"},
                    patience_s=_PATIENCE_S,
                )


if __name__ == "__main__":
    main()
