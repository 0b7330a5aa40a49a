"""``make stop-load``: a server is told to stop under full load, ten times, and not one accepted request may be lost.

Each time a server is loaded by ``wrk`` and by a client of our own until it has given 100,000 answers, and some random
milliseconds later it gets SIGTERM. Both loads go on until nobody can connect any more.

**Accepted** is a request whose last byte was written to an established connection, unless that was

- behind an answer of the same connection that says ``Connection: close``: whatever follows it was not begun, which the
  client knows, so that it can ask again (RFC 9112 section 9.6);
- on a connection that was made after the signal and ended without a byte: the system completes connects by itself, so
  that these may have met a listener that was just closing. The server answers whoever waited before that.

``wrk`` cannot tell a lost request from one on a connection that was refused, so the judge is our own client: it knows
for each connection what was written before the signal, and what was answered. Beside it the books must balance: the
server's count of answers is the sum of what the clients have read whole, none of them discarded, and no request was
given to a worker that is not among them. Without wrk, which is said then, the server has not accepted a connection
either that our client knows nothing of.
"""

import argparse
import json
import logging
import random
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tools.steps import ROOT
from ushabti import Request, Router, Server

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CONNECTIONS = 24
# So many requests are written at once, by every other connection; and so often, until it is given up for a new one.
DEPTH = 4
ROUNDS = 50
PATIENCE_S = 60.0
# A stopping server waits for a request on its way, but no longer than this.
GRACE_S = 0.2


@dataclass
class Connection:
    """One connection of our client."""

    socket: socket.socket
    depth: int
    is_late: bool
    written: int = 0
    written_before_signal: int = 0
    answered: int = 0
    buffer: bytearray = field(default_factory=bytearray)
    said_close: bool = False
    connected_at: float = field(default_factory=time.monotonic)
    hesitated: bool = False


class Judge:
    """Our client: one loop over its connections, which also sends the signal, so that it knows what came before.

    Attributes:
        answers: Answers read whole.
        connections_answered: Connections on which there was at least one.
        turned_away: Connections of after the signal that ended without a byte.
        to_repeat: Requests behind an answer that says close.
        hesitated: Those that were turned away whose request was written so late that the server need not have waited.
        lost: Accepted requests without an answer, and whatever else was wrong, in words.
    """

    def __init__(self, process: subprocess.Popen[str], port: int, delay_s: float, number: int) -> None:
        self._process, self._port, self._delay_s, self._number = process, port, delay_s, number
        self._selector = selectors.DefaultSelector()
        self._signalled = False
        self._slots = 0
        self.answers = 0
        self.connections_answered = 0
        self.turned_away = 0
        self.hesitated = 0
        self.to_repeat = 0
        self.lost: list[str] = []

    def run(self) -> dict[str, Any]:
        """Loads the server, sends the signal when the server says that it is time, and judges what came of it.

        Returns:
            The server's last word: whether it stopped in good order, and its counters.
        """
        assert self._process.stdout
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        for number in range(CONNECTIONS):
            self._open(DEPTH if number % 2 else 1)
        kill_at, until = None, time.monotonic() + PATIENCE_S
        while self._slots:
            if time.monotonic() > until:
                self.lost.append(f"{self._slots} connections were neither answered nor ended in {PATIENCE_S:.0f} s")
                break
            for key, _ in self._selector.select(0.001 if kill_at else 1):
                if isinstance(key.data, Connection):
                    self._read(key.data)
                elif kill_at is None:
                    self._process.stdout.readline()
                    kill_at = time.monotonic() + self._delay_s
                    self._selector.unregister(self._process.stdout)
            if kill_at and not self._signalled and time.monotonic() >= kill_at:
                self._process.send_signal(self._number)
                self._signalled = True
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, Connection):
                key.data.socket.close()
        self._selector.close()
        last: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        return last

    def _open(self, depth: int) -> None:
        try:
            connection = Connection(socket.create_connection(("127.0.0.1", self._port), 10), depth, self._signalled)
        except OSError as problem:
            if not self._signalled:
                self.lost.append(f"before the signal: {problem!r}")
            return
        self._slots += 1
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        connection.hesitated = not connection.written and time.monotonic() > connection.connected_at + GRACE_S
        try:
            connection.socket.sendall(REQUEST * connection.depth)
        except OSError:
            return  # It was not written; how the connection ended is read.
        connection.written += connection.depth
        if not self._signalled:
            connection.written_before_signal = connection.written

    def _read(self, connection: Connection) -> None:
        try:
            some = connection.socket.recv(65_536)
        except OSError:
            some = b""
        connection.buffer += some
        while connection.answered < connection.written and self._take_answer(connection):
            connection.answered += 1
            self.answers += 1
            self.connections_answered += connection.answered == 1
            if connection.said_close:
                break
        if connection.said_close or not some:
            self._end(connection)
        elif connection.answered == connection.written:
            if connection.written >= ROUNDS * connection.depth:
                self._end(connection)
            else:
                self._write(connection)

    def _take_answer(self, connection: Connection) -> bool:
        head, found, rest = connection.buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        if not head.startswith(b"HTTP/1.1 200 ") or not length:
            self.lost.append(f"answered {bytes(head)!r}")
            return False
        size = int(length[1])
        if len(rest) < size:
            return False
        connection.said_close = b"\r\nconnection: close" in head.lower()
        connection.buffer = rest[size:]
        return True

    def _end(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._slots -= 1
        missing = connection.written - connection.answered
        if missing and connection.said_close:
            self.to_repeat += missing
        elif missing:
            if connection.is_late and not connection.answered and not connection.buffer:
                self.turned_away += 1
                self.hesitated += connection.hesitated
            else:
                self.lost.append(
                    f"{missing} of {connection.written} requests on a connection, "
                    f"{connection.written_before_signal} of them written before the signal"
                )
        elif connection.buffer:
            self.lost.append(f"behind the last answer came {bytes(connection.buffer[:100])!r}")
        self._open(connection.depth)


@dataclass
class Wrk:
    """What wrk says at its end."""

    requests: int = 0
    others: int = 0
    errors: str = ""


def start_wrk(port: int) -> "subprocess.Popen[str]":
    """Starts wrk, which goes on until it is interrupted: a duration must be given, and is never reached."""
    command = ["wrk", "-t1", "-c32", f"-d{PATIENCE_S * 2:.0f}s", f"http://127.0.0.1:{port}/"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end_wrk(process: "subprocess.Popen[str]") -> Wrk:
    """Interrupts wrk and reads what it has counted."""
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    requests = re.search(r"(\d+) requests in", said)
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"Socket errors: (.+)", said)
    assert requests, f"wrk said: {said}"
    return Wrk(int(requests[1]), int(others[1]) if others else 0, errors[1] if errors else "none")


def judge(goal: int, delay_s: float, with_wrk: bool, number: int = signal.SIGTERM) -> tuple[str, list[str]]:
    """One server, loaded and stopped.

    Args:
        goal: How many answers it gives before.
        delay_s: So long after them it is told to stop.
        with_wrk: Whether wrk loads it, too.
        number: The signal. A test of this file sends another one.

    Returns:
        A line for the reader, and what was wrong.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.stop_load", "--serve", str(goal)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    wrk: subprocess.Popen[str] | None = None
    try:
        port = json.loads(process.stdout.readline())["port"]
        wrk = start_wrk(port) if with_wrk else None
        client = Judge(process, port, delay_s, number)
        last = client.run()
        status = process.wait(PATIENCE_S)
        counted = end_wrk(wrk) if wrk else Wrk()
    finally:
        for one in (process, wrk):
            if one and one.poll() is None:
                one.kill()
                one.wait()
        process.stdout.close()
    problems = client.lost
    if not last.get("clean") or status != 0:
        problems.append(f"it did not stop in good order: status {status}, {last}")
    else:
        problems += imbalances(last["stats"], client, counted, with_wrk)
    line = (
        f"{client.answers + counted.requests} answers; {client.to_repeat} requests behind a close, "
        f"{client.turned_away} late connections turned away"
    )
    return f"{line}; wrk: {counted.requests} answers, errors {counted.errors}" if with_wrk else line, problems


def imbalances(stats: dict[str, Any], client: Judge, wrk: Wrk, with_wrk: bool) -> list[str]:
    """Where the server's books and the clients' do not agree."""
    answers = stats["answers"]
    found = []
    if not (stats["requests_dispatched"] == answers["2xx"] == client.answers + wrk.requests):
        found.append(
            f"{stats['requests_dispatched']} requests with workers, {answers['2xx']} answers, "
            f"{client.answers} + {wrk.requests} read by clients"
        )
    if answers["discarded"] or wrk.others:
        found.append(f"{answers['discarded']} answers discarded, {wrk.others} of another status for wrk")
    unknown = stats["connections_accepted"] - client.connections_answered
    if not with_wrk and not 0 <= unknown <= client.hesitated:
        found.append(f"{unknown} connections accepted and not answered, {client.hesitated} of them hesitated")
    return found


def serve(goal: int) -> None:
    """The server: most handlers answer at once, some wait. It says when it has given ``goal`` answers."""
    logging.getLogger("ushabti").setLevel(logging.WARNING)
    router = Router()

    @router.get("/")
    def answer(request: Request) -> str:
        if random.random() < 0.01:
            time.sleep(0.003)
        return "hello " + request.path

    server = Server(router, stop_timeout=30)

    def watch() -> None:
        while server.stats()["answers"]["2xx"] < goal and not server.stopping.wait(0.01):
            pass
        print("reached", flush=True)

    def ready(server: Server) -> None:
        print(json.dumps({"port": server.address.port}), flush=True)
        threading.Thread(target=watch, daemon=True).start()

    is_clean = server.serve(port=0, ready=ready)
    print(json.dumps({"clean": is_clean, "stats": server.stats()}), flush=True)


def main() -> int:
    """Stops a loaded server some times, and says what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tools.stop_load", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--requests", type=int, default=100_000, help="answers before the signal")
    parser.add_argument("--without-wrk", action="store_true", help="our own client alone")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return 0
    with_wrk = not options.without_wrk and shutil.which("wrk") is not None
    if not with_wrk:
        print("stop-load: without wrk; our own client is the whole load")
    failed = 0
    for number in range(1, options.times + 1):
        begun = time.monotonic()
        line, problems = judge(options.requests, random.uniform(0, 0.1), with_wrk)
        print(f"{number:3} {time.monotonic() - begun:6.1f} s  {line}", flush=True)
        for problem in problems:
            print(f"    LOST: {problem}", file=sys.stderr)
        failed += bool(problems)
    print(f"stop-load: {f'{failed} of {options.times} FAILED' if failed else 'nothing was lost'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
