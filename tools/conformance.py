"""``make conformance``: lets black-box cases judge ``examples/conformance.py``: HTTP/1.1, HTTP/2, and that over TLS.

Arguments are passed on to the judge of HTTP/1.1, which is the only one then: ``--only chunk``, ``-v``, ``--strict``.
"""

import re
import shutil
import subprocess
import sys

from tools.steps import ROOT

JUDGES = ROOT.parent / "shared" / "conformance"

# What h2spec finds wrong and is meant to be so, each with the reason.
MEANT = {
    "Sends invalid connection preface": "on a plain port what is no preface is HTTP/1.1, and is answered so; GOAWAY "
    "may be left out, since the peer does not speak HTTP/2 (RFC 9113 section 3.4)",
}

_MISS = re.compile(r"^\s*\u00d7 \d+: (.+)$", re.MULTILINE)
_SUM = re.compile(r"^\d+ tests, .*$", re.MULTILINE)


def judge_http1(url: str, arguments: list[str]) -> bool:
    """Lets the cases of HTTP/1.1 be run; whether they pass."""
    return subprocess.call([sys.executable, str(JUDGES / "http1"), "--url", url, *arguments]) == 0


def judge_http2(port: int, *options: str) -> bool:
    """Lets h2spec ask; whether nothing is wrong but what is meant to be so."""
    done = subprocess.run([JUDGES / "h2spec", *options, str(port)], capture_output=True, text=True, check=False)
    misses, total = set(_MISS.findall(done.stdout)), _SUM.search(done.stdout)
    print(f"h2spec {' '.join(options)}: {total[0] if total else done.stderr}")
    for miss in sorted(misses):
        print(f"  {miss}: {MEANT.get(miss, 'not meant to be so')}")
    if misses - set(MEANT):
        print(done.stdout)
    return total is not None and misses <= set(MEANT)


def main() -> int:
    """Starts the example on a free port, runs the judges, and returns 0 if nothing is wrong."""
    if not JUDGES.is_dir():
        print(f"conformance: nothing was run. The cases are kept beside this repository: {JUDGES} is not there.")
        return 0
    from examples.conformance import router
    from ushabti import Server

    arguments = sys.argv[1:]
    with Server(router).start(port=0) as address:
        passed = judge_http1(address.url, arguments)
        if not arguments and shutil.which("go"):
            passed &= judge_http2(address.port) & judge_http2(address.port, "--strict")
            with Server(router, tls_self_signed=True).start(port=0) as secure:
                passed &= judge_http2(secure.port, "--tls", "--strict")
        elif not arguments:
            print("conformance: HTTP/2 was not asked: go, by which h2spec is built, is not on PATH")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
