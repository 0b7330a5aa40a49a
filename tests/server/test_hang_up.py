"""SIGHUP to a server that has no certificates to read again: with a terminal, without one, and under ``nohup``."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.test_cli import APP, Command
from tests.support import Raw

SERVE = "; os.execv(sys.executable, [sys.executable, '-m', 'ushabti', 'shop:router', '--port', '0'])"
PLAINLY = "import os, sys"
WITHOUT_HANG_UPS = PLAINLY + ", signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
WITH_TERMINAL = PLAINLY + ", fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"


class Launched(Command):
    """A running ``ushabti``, of a process that has done something before it became that."""

    def __init__(self, folder: Path, before: str, stdin: int) -> None:
        (folder / "shop.py").write_text(APP)
        self.process = subprocess.Popen(
            [sys.executable, "-c", before + SERVE],
            cwd=folder,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    commands: list[Launched] = []

    def start(before: str, stdin: int = subprocess.DEVNULL) -> Launched:
        commands.append(Launched(tmp_path, before, stdin))
        return commands[-1]

    yield start
    for command in commands:
        command.__exit__()


def test_it_is_logged_and_ignored(launch: Callable[..., Launched]) -> None:
    command = launch(PLAINLY)
    with Raw(("127.0.0.1", command.port)) as waiting:
        waiting.send(b"GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert command.read_line() == "entered"
        command.signal(signal.SIGHUP)
        # Of two signals that are on their way the second may be the first to be told of.
        assert "SIGHUP: there are no certificates to read again" in command.read_error()
        assert command.get("/release")[0] == 200
        assert waiting.read_response().body == b"waited"
    assert command.stop() == 0


def test_one_that_is_ignored_stays_so(launch: Callable[..., Launched]) -> None:
    command = launch(WITHOUT_HANG_UPS)
    command.signal(signal.SIGHUP)
    assert command.get("/") == (200, "hello")
    assert command.stop() == 0
    assert "SIGHUP" not in command.errors()


def test_a_terminal_that_hangs_up_stops_it_when_all_is_answered(launch: Callable[..., Launched]) -> None:
    master, slave = os.openpty()
    try:
        command = launch(WITH_TERMINAL, slave)
        with Raw(("127.0.0.1", command.port)) as waiting, Raw(("127.0.0.1", command.port)) as other:
            waiting.send(b"GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n")
            assert command.read_line() == "entered"
            other.send(b"GET /release HTTP/1.1\r\n")
            other.send(b"Host: shop\r\n")
            os.close(slave)
            slave = -1
            os.close(master)
            master = -1
            # A shell tells its jobs once more, which is no second word to stop at once.
            command.signal(signal.SIGHUP)
            command.signal(signal.SIGHUP)
            other.send(b"\r\n")
            assert other.read_response().status == 200
            assert waiting.read_response().body == b"waited"
        assert command.wait() == 0
        assert "SIGHUP: stopping" in command.errors()
    finally:
        for one in (master, slave):
            if one >= 0:
                os.close(one)
