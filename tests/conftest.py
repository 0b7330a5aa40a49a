"""What holds for every test: a fresh native module, a time limit, and nothing left behind; and the server to test."""

import faulthandler
import gc
import os
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tools import native

if TYPE_CHECKING:
    from tests.support import Running

# One test. Most take milliseconds; a test that needs more says so with `@pytest.mark.time_limit(seconds)`.
TIME_LIMIT_S = 60.0
# What threads and descriptors get to go away in after a test; they are gone at once unless the machine is loaded.
LEAVE_S = 5.0

_TASKS = Path("/proc/self/task")
_DESCRIPTORS = Path("/proc/self/fd")

_stderr_key = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--effort", type=int, default=1, help="how many times the usual rounds stress tests do")
    parser.addoption("--switch-interval", type=float, help="seconds after which threads change under the GIL")


def pytest_configure(config: pytest.Config) -> None:
    problem = native.problem_with_the_installed_module()
    if problem:
        pytest.exit(problem, returncode=2)
    if interval := config.getoption("--switch-interval"):
        sys.setswitchinterval(interval)
    # A run under nohup ignores this, and so would each server that a test starts. What is handled is not inherited.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)
    # Tests run with standard error captured; a dump of all stacks must reach the terminal all the same.
    config.stash[_stderr_key] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)


def pytest_unconfigure(config: pytest.Config) -> None:
    descriptor = config.stash.get(_stderr_key, None)
    if descriptor is not None:
        os.close(descriptor)
        del config.stash[_stderr_key]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a run on a free-threaded interpreter in which something has switched the GIL on."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys._is_gil_enabled():  # type: ignore[attr-defined,unused-ignore]
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nthe GIL came on during the tests: something was imported that does not say it can do without")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Ends the run with the stacks of all threads when a test takes too long.

    The run and not the test: the thread that hangs may be a native one or one in a lock, and neither can be stopped.
    """
    marker = item.get_closest_marker("time_limit")
    limit = float(marker.args[0]) if marker else TIME_LIMIT_S
    faulthandler.dump_traceback_later(limit, exit=True, file=item.config.stash[_stderr_key])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test after which a thread or a descriptor is there that was not before."""
    threads, descriptors = _threads(), _descriptors()
    # The pool of a server that several tests share may grow at any time; such a worker belongs to that server.
    shared = "ushabti-pool" in threads.values()
    yield
    until = time.monotonic() + LEAVE_S
    while True:
        left = [
            f"thread {name}"
            for number, name in _threads().items()
            if number not in threads and not (shared and name.startswith("ushabti-worker-"))
        ]
        left += [
            f"descriptor {number} ({target})"
            for number, target in _descriptors().items()
            if descriptors.get(number) != target
        ]
        if not left:
            return
        if time.monotonic() > until:
            pytest.fail(f"left behind: {', '.join(sorted(left))}", pytrace=False)
        # An object in a reference cycle closes its descriptor only now, and says so in a ResourceWarning.
        gc.collect()
        time.sleep(0.01)


@pytest.fixture
def hectic() -> Iterator[None]:
    """Threads change so often that every order of events happens."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def effort(request: pytest.FixtureRequest) -> int:
    """By what a stress test multiplies its rounds: 1 in a plain run, more in ``make stress``."""
    return int(request.config.getoption("--effort"))


@pytest.fixture
def descriptors() -> Iterator[int]:
    """How many descriptors this process can have, after it was granted all that it may."""
    resource = pytest.importorskip("resource", reason="this system has no limits of descriptors")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield sys.maxsize if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def serve() -> Iterator[Callable[..., "Running"]]:
    """Starts servers: ``running = serve(app, **options)``; ``bind=[...]`` chooses addresses.

    Each has ``port``, ``url``, ``server``, ``connect()``, ``ask()``, ``get()`` and ``exchange()``, and is stopped when
    the test is over.
    """
    # Here and not above: without a native module this file must still load, to say so.
    from tests.support import Running

    started: list[Running] = []

    def start(app: Any, **options: Any) -> "Running":
        running = Running.start(app, **options)
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


def _threads() -> dict[int, str]:
    """The threads of this process by the system's number: Python's, and native ones where the system lists them."""
    threads = {thread.native_id or 0: thread.name for thread in threading.enumerate()}
    if _TASKS.is_dir():
        for task in os.listdir(_TASKS):
            try:
                name = (_TASKS / task / "comm").read_text().strip()
            except OSError:
                continue  # It ended in between.
            threads.setdefault(int(task), name)
    return threads


def _descriptors() -> dict[int, str]:
    """What is open, by descriptor; nothing where the system does not list it."""
    if not _DESCRIPTORS.is_dir():
        return {}
    found = {}
    for number in os.listdir(_DESCRIPTORS):
        try:
            found[int(number)] = str((_DESCRIPTORS / number).readlink())
        except OSError:
            continue  # The one that this listing was read through.
    return found
