"""``make tls-bench``: measures hello over TLS, by HTTP/1.1 and HTTP/2, beside net/http of Go.

The load is ``h2load`` of nghttp2 (Debian: nghttp2-client); certificates are made by ``openssl``. One server runs after
the other on a free port of this machine. ``--idle N`` opens N connections that rest, instead, and weighs them;
``--handshakes`` has clients connect, ask once and leave.
"""

import argparse
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tools.peers import (
    Failed,
    Meter,
    Server,
    Unavailable,
    is_newer,
    make,
    memory,
    prepare_own,
    quiet_ones,
    running,
    wait_until_quiet,
)
from tools.steps import ROOT

SOURCES = ROOT / "bench" / "tls"
BUILT = ROOT / "build" / "tls"

# Clients and streams of each, as in the issue that asked for these figures.
WORKLOADS = {
    "h1": ["--h1", "-c", "64"],
    "h2x1": ["-c", "16", "-m", "1"],
    "h2x32": ["-c", "4", "-m", "32"],
}
HANDSHAKES = 2000
LOAD_LIMIT_S = 120
_ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Run:
    """Requests a second, server CPU in us for each, and the cores that anything else used."""

    rate: float
    server_us: float
    other: float


def prepare_go() -> None:
    """Builds the peer, if its source has changed."""
    if not shutil.which("go"):
        raise Unavailable("there is no Go here")
    if not is_newer(BUILT / "go-server", list((SOURCES / "go").iterdir())):
        make("build: Go peer", ["go", "build", "-C", SOURCES / "go", "-o", BUILT / "go-server", "."])


def make_certificate(kind: str) -> tuple[Path, Path]:
    """A certificate for localhost of the kind ``rsa`` or ``ec``, and its key; for some days."""
    certificate, key = BUILT / f"{kind}.pem", BUILT / f"{kind}.key"
    new = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", *new, "-nodes", "-days", "3", *names]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def servers(kind: str) -> dict[str, Server]:
    """The servers with a certificate of that kind. No option that a user would not set."""
    certificate, key = map(str, make_certificate(kind))
    own = [
        sys.executable,
        "-m",
        "ushabti",
        "examples.bench:router",
        "--app-dir",
        str(ROOT),
        "--bind",
        "127.0.0.1:{port}",
    ]
    return {
        "own": Server(prepare_own, [*own, "--tls-cert", certificate, "--tls-key", key]),
        "go": Server(prepare_go, [str(BUILT / "go-server"), "{port}", certificate, key]),
    }


def measure(server: Server, name: str, arguments: list[str], *, requests: int = 0, seconds: int = 0) -> Run:
    """Runs the load once: for so many requests, or so long."""
    extent = ["-n", str(requests)] if requests else ["-D", str(seconds), "--warm-up-time", "1"]
    with running(server, BUILT / f"{name}.log") as (pid, port):
        load = subprocess.Popen(
            ["h2load", "-t", "1", *extent, *arguments, f"https://localhost:{port}/"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert load.stdout is not None
        meter = Meter(pid, load.pid)
        limit = threading.Timer(LOAD_LIMIT_S, load.kill)
        limit.start()
        said = load.stdout.read()
        # It has ended, and is not waited for yet: so there is still to be read what it used.
        server_s, _, other = meter.stop()
        load.wait()
        load.stdout.close()
        limit.cancel()
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", said)
    counts = re.search(r"requests: (\d+) total.*?(\d+) succeeded, (\d+) failed", said)
    if not rate or not counts or int(counts[3]) or not int(counts[2]):
        raise Failed(said.strip()[-500:])
    warmed = 0 if requests else 1 / seconds
    done = int(counts[2]) * (1 + warmed)
    return Run(float(rate[1]), server_s / done * 1e6, other)


def weigh(server: Server, name: str, count: int) -> float:
    """Bytes of the server for each connection that has had one answer and rests."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with running(server, BUILT / f"{name}.log") as (pid, port), ExitStack() as connections:

        def connect() -> None:
            plain = socket.create_connection(("127.0.0.1", port), timeout=LOAD_LIMIT_S)
            connection = connections.enter_context(context.wrap_socket(plain))
            connection.sendall(_ASK)
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise Failed("it does not answer")

        connect()
        wait_until_quiet(pid)
        before = memory(pid)
        for _ in range(count):
            connect()
        wait_until_quiet(pid)
        return (memory(pid) - before) / count


def print_runs(title: str, runs: dict[str, list[Run]]) -> None:
    """A row for each server: medians of its quiet runs, or of all where none was quiet."""
    print(f"\n{title}\n| server | requests/s | lowest to highest | server CPU us | other CPU |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, all_runs in runs.items():
        used, noisy = quiet_ones(all_runs)
        rates = [one.rate for one in used]
        print(
            f"| {name}{noisy} | {statistics.median(rates):,.0f} "
            f"| {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {statistics.median(one.server_us for one in used):.2f} | {max(one.other for one in used):.2f} |"
        )


def compare(title: str, chosen: dict[str, Server], rounds: int, arguments: list[str], **extent: int) -> None:
    """Measures the servers in turn, round after round."""
    runs: dict[str, list[Run]] = {}
    for _ in range(rounds):
        for name, server in chosen.items():
            run = measure(server, name, arguments, **extent)
            runs.setdefault(name, []).append(run)
            print(f"{title} {name}: {run.rate:,.0f}/s, {run.server_us:.2f} us, other CPU {run.other:.2f}", flush=True)
    print_runs(title, runs)


def main() -> int:
    """Measures what the command line asks for; returns 1 if a server failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.tls_bench", description=__doc__)
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help=f"of {', '.join(WORKLOADS)}; all by default")
    parser.add_argument("--servers", default="own,go", help="of own, go; both by default")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server (3)")
    parser.add_argument("--seconds", type=int, default=4, help="length of a run, after one to warm up (4)")
    parser.add_argument("--handshakes", action="store_true", help="a connection for each request, RSA and P-256")
    parser.add_argument("--idle", type=int, default=0, metavar="N", help="weigh N resting connections instead")
    options = parser.parse_args()
    BUILT.mkdir(parents=True, exist_ok=True)
    if missing := [tool for tool in ("h2load", "openssl") if not shutil.which(tool)]:
        print(f"tls-bench: nothing was measured: {', '.join(missing)} is missing (Debian: nghttp2-client, openssl)")
        return 1
    names = options.servers.split(",")
    try:
        for kind in ("rsa", "ec") if options.handshakes else ("ec",):
            chosen = {name: server for name, server in servers(kind).items() if name in names}
            for server in chosen.values():
                server.prepare()
            if options.idle:
                for name, server in chosen.items():
                    print(f"{name}: {weigh(server, name, options.idle) / 1024:.2f} KiB each", flush=True)
            elif options.handshakes:
                arguments = ["--h1", "-c", str(HANDSHAKES)]
                compare(f"handshakes, {kind}", chosen, options.rounds, arguments, requests=HANDSHAKES)
            else:
                for title in options.workloads.split(","):
                    compare(title, chosen, options.rounds, WORKLOADS[title], seconds=options.seconds)
    except (Failed, Unavailable) as problem:
        print(f"tls-bench: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
