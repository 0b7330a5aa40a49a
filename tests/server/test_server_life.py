"""The life of a server: started and stopped once, by whomever, with nothing left behind."""

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import Raw, Running, needs_ipv6
from tools.steps import ROOT
from ushabti import BindError, ConfigError, Router, Server, ServerStateError

HELLO = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


def hello(request: Any) -> str:
    return "hello"


class Gate:
    """A handler that says when it has been entered, and waits until it may go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def __call__(self, request: Any) -> str:
        self.entered.set()
        self.release.wait(30)
        return "released"


def in_thread(call: Callable[[], object]) -> Callable[[], Any]:
    """Calls in a thread of its own; what is returned waits for the result, which may be an exception."""
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as problem:
            results.append(problem)

    thread = threading.Thread(target=work)
    thread.start()

    def result() -> Any:
        thread.join(30)
        return results[0]

    return result


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


# ---- start


def test_the_address_is_a_block_at_whose_end_the_server_has_stopped() -> None:
    server = Server(hello)
    with server.start(port=0) as address:
        assert address is server.address
        assert str(address) == address.url == f"http://127.0.0.1:{address.port}"
        with Raw((address.host, address.port)) as raw:
            raw.send(HELLO)
            assert raw.read_response().body == b"hello"
        assert server.wait_ready(0)
    assert server.stopping.is_set()
    assert not server.wait_ready(0)
    assert port_is_free(address.port)


def test_an_address_before_the_start_is_an_error() -> None:
    server = Server(hello)
    assert server.addresses == ()
    with pytest.raises(ServerStateError, match="has not been started"):
        _ = server.address


@needs_ipv6
def test_several_addresses_are_served_ipv6_and_unix_among_them(serve, tmp_path: Path) -> None:
    path = tmp_path / "life.sock"
    running: Running = serve(hello, bind=["127.0.0.1:0", "[::1]:0", f"unix:{path}"])
    four, six, unix = running.server.addresses
    assert (six.host, six.url) == ("::1", f"http://[::1]:{six.port}")
    assert (unix.host, unix.port, unix.url, str(unix)) == (str(path), 0, "", f"unix:{path}")
    for where in ((four.host, four.port), (six.host, six.port), str(path)):
        with Raw(where) as raw:
            raw.send(HELLO)
            assert raw.read_response().body == b"hello"
    running.stop()
    assert not path.exists()


@needs_ipv6
def test_an_ipv6_host_needs_no_brackets() -> None:
    with Server(hello).start(port=0, host="::1") as address:
        assert address.host == "::1"


def test_an_address_for_everybody_is_shown_as_bound_and_asked_over_loopback() -> None:
    with Server(hello).start(port=0, host="0.0.0.0") as address:
        assert str(address) == f"http://0.0.0.0:{address.port}"
        assert address.url == f"http://127.0.0.1:{address.port}"


def test_a_taken_port_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as other:
            free = other.getsockname()[1]
        server = Server(hello)
        with pytest.raises(BindError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            server.start(bind=[f"127.0.0.1:{free}", f"127.0.0.1:{port}"])
        assert caught.value.errno == errno.EADDRINUSE
        assert port_is_free(free)
    assert not server.wait_ready(60)
    with pytest.raises(ServerStateError, match="make another one"):
        server.start(port=0)


@pytest.mark.parametrize("problem", [RuntimeError("no database"), KeyboardInterrupt(), SystemExit(3)])
def test_a_start_hook_that_raises_leaves_nothing_open(problem: BaseException) -> None:
    router = Router.of(hello)
    ports = []

    @router.on_start
    def fail(server: Server) -> None:
        ports.append(server.address.port)
        raise problem

    server = Server(router)
    with pytest.raises(type(problem)):
        server.start(port=0)
    assert port_is_free(ports[0])
    assert server.stop()


def test_an_access_log_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    server = Server(hello, access_log="json", access_log_file=tmp_path / "no" / "log")
    with pytest.raises(ConfigError, match=r"access_log_file is .*: No such file or directory"):
        server.start(port=0)


def test_a_server_starts_once(serve) -> None:
    running = serve(hello)
    with pytest.raises(ServerStateError, match="can be started once"):
        running.server.start(port=0)
    assert running.get("/").body == b"hello"


def test_hooks_run_before_the_first_and_after_the_last_answer() -> None:
    events: list[str] = []
    router = Router()

    @router.get("/")
    def answer(request: Any) -> str:
        events.append("answer")
        return ""

    router.on_start(lambda server: events.append("start"))
    router.on_stop(lambda server: events.append("stop"))
    router.on_thread_start(lambda: events.append("thread start"))
    router.on_thread_stop(lambda: events.append("thread stop"))
    with Server(router, workers=1).start(port=0) as address, Raw((address.host, address.port)) as raw:
        raw.send(HELLO)
        raw.read_response()
    assert events == ["start", "thread start", "answer", "thread stop", "stop"]


def test_a_stop_hook_that_raises_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    router = Router.of(hello)
    called = []
    router.on_stop(lambda server: called.append(1))
    router.on_stop(lambda server: 1 / 0)
    with Server(router).start(port=0):
        pass
    assert called == [1]
    assert "failed while the server stopped" in caplog.text


# ---- stop


def test_a_server_that_was_stopped_does_not_start() -> None:
    server = Server(hello)
    assert server.stop()
    assert server.stop()
    with pytest.raises(ServerStateError, match="not after stop"):
        server.start(port=0)
    with pytest.raises(ServerStateError):
        server.serve(port=0)


def test_all_threads_that_stop_a_server_wait_for_the_one_stop() -> None:
    gate = Gate()
    calls: list[int] = []
    router = Router.of(gate)
    router.on_stop(lambda server: calls.append(1))
    server = Server(router)
    address = server.start(port=0)
    with Raw((address.host, address.port)) as raw:
        raw.send(HELLO)
        assert gate.entered.wait(10)
        stops = [in_thread(server.stop) for _ in range(4)]
        assert server.stopping.wait(10)
        assert calls == []
        gate.release.set()
        assert raw.read_response().body == b"released"
        assert [stop() for stop in stops] == [True] * 4
    assert calls == [1]


def test_the_shortest_timeout_of_all_stops_holds(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    server = Server(gate)
    address = server.start(port=0)
    with Raw((address.host, address.port)) as raw:
        raw.send(HELLO)
        assert gate.entered.wait(10)
        patient = in_thread(lambda: server.stop(60))
        assert server.stopping.wait(10)
        assert server.stop(0) is False
        assert patient() is False
        with pytest.raises((EOFError, ConnectionError)):
            raw.read_response()
    assert "1 connections cut" in caplog.text
    assert "still in a handler" in caplog.text
    assert server.workers_left() == 1
    gate.release.set()


def test_a_handler_that_goes_on_after_its_answer_is_waited_for() -> None:
    gate, ended = Gate(), threading.Event()

    def answer_first(request: Any) -> None:
        request.respond(body=b"early")
        gate(request)
        ended.set()

    server = Server(answer_first)
    address = server.start(port=0)
    with Raw((address.host, address.port)) as raw:
        raw.send(HELLO)
        assert raw.read_response().body == b"early"
        assert gate.entered.wait(10)
        stop = in_thread(server.stop)
        assert server.stopping.wait(10)
        gate.release.set()
        assert stop() is True
    assert ended.is_set()


def test_a_handler_may_not_stop_its_server_but_a_thread_of_it_may(serve) -> None:
    router = Router()
    problems: list[Exception] = []

    @router.get("/wrong")
    def wrong(request: Any) -> str:
        try:
            running.server.stop()
        except ServerStateError as problem:
            problems.append(problem)
        return "refused"

    @router.get("/right")
    def right(request: Any) -> str:
        threading.Thread(target=running.server.stop).start()
        return "stopping"

    running: Running = serve(router)
    assert running.get("/wrong").body == b"refused"
    assert "from a thread of its own" in str(problems[0])
    assert not running.server.stopping.is_set()
    assert running.get("/right").body == b"stopping"
    assert running.server.stop()


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
def test_a_hook_may_not_stop_its_server(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    router = Router.of(hello)
    getattr(router, hook)(lambda server: server.stop())
    server = Server(router)
    if hook == "on_start":
        with pytest.raises(ServerStateError, match="a hook"):
            server.start(port=0)
    else:
        server.start(port=0)
        assert server.stop()
        assert "a hook" in caplog.text


def test_a_stop_during_the_start_ends_both() -> None:
    gate = Gate()
    router = Router.of(hello)
    router.on_start(gate)
    server = Server(router)
    start = in_thread(lambda: server.start(port=0))
    assert gate.entered.wait(10)
    stop = in_thread(server.stop)
    assert server.stopping.wait(10)
    gate.release.set()
    assert stop() is True
    assert isinstance(start(), ServerStateError)
    assert not server.wait_ready(0)


def test_serve_in_a_thread_is_ended_by_stop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ushabti")
    server = Server(hello)
    served = in_thread(lambda: server.serve(port=0))
    assert server.wait_ready()
    with Raw((server.address.host, server.address.port)) as raw:
        raw.send(HELLO)
        assert raw.read_response().body == b"hello"
    assert server.stop()
    assert served() is True
    assert f"listening on {server.address}" in caplog.text


def test_serve_stops_when_its_ready_function_raises() -> None:
    server = Server(hello)
    with pytest.raises(ZeroDivisionError):
        server.serve(port=0, ready=lambda server: 1 / 0)
    assert port_is_free(server.address.port)


def test_serve_gives_the_signals_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    others, mine = socket.socketpair()
    mine.setblocking(False)
    signal.set_wakeup_fd(mine.fileno())
    server = Server(hello)
    during: list[Any] = []

    def ready(server: Server) -> None:
        during.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
        os.kill(os.getpid(), signal.SIGTERM)

    assert server.serve(port=0, ready=ready) is True
    assert during[0] == during[1] != before[1]
    assert signal.set_wakeup_fd(-1) == mine.fileno()
    others.close()
    mine.close()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_stats_count_what_was_served(serve) -> None:
    running = serve(hello, workers=2)
    assert running.get("/").status == 200
    assert running.server.stats()["workers"] == 2
    # A worker counts an answer after it has sent it.
    running.stop()
    stats = running.server.stats()
    assert stats["answers"]["2xx"] == stats["requests_dispatched"] == stats["connections_accepted"] == 1
    assert stats["connections_open"] == stats["queue_waiting"] == stats["workers"] == 0


# ---- the end of the process


def script(code: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of its own to its end."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)


def test_a_program_that_ends_while_it_serves_ends() -> None:
    done = script(
        "import threading\n"
        "from ushabti import Server\n"
        "server = Server(lambda request: 'hello')\n"
        "threading.Thread(target=server.serve, kwargs={'port': 0}, daemon=True).start()\n"
        "assert server.wait_ready()\n"
        "second = Server(lambda request: 'hello')\n"
        "second.start(port=0)\n"
        "print('end')\n"
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_dropped_unstarted_costs_nothing() -> None:
    done = script("from ushabti import Server\nfor _ in range(3): Server(lambda request: '')\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_a_block_that_serves_and_a_second_one_its_stop() -> None:
    code = (
        "import signal, threading, time\n"
        "from ushabti import Server\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # Who runs in the background may ignore it.
        "entered = threading.Event()\n"
        "def handler(request):\n"
        "    print('entered', flush=True)\n"
        "    time.sleep(30)\n"
        "server = Server(handler)\n"
        "def tell():\n"
        "    server.stopping.wait()\n"
        "    print('stopping', flush=True)\n"
        "threading.Thread(target=tell, daemon=True).start()\n"
        "try:\n"
        "    with server.start(port=0) as address:\n"
        "        print(address.port, flush=True)\n"
        "        time.sleep(30)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', server.stop(), flush=True)\n"
        "import os; os._exit(0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with Raw(("127.0.0.1", int(process.stdout.readline()))) as raw:
                raw.send(HELLO)
                assert process.stdout.readline() == "entered\n"
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "stopping\n"
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "interrupted False\n"
            assert process.wait(30) == 0
        finally:
            process.kill()


FORK = """
import os, sys
from ushabti import Server, ServerStateError
server = Server(lambda request: str(os.getpid()))
address = server.start(port=0)
child = os.fork()
if child == 0:
    assert server.stop() is True
    try:
        server.start(port=0)
    except ServerStateError as problem:
        assert "forked" in str(problem)
    else:
        os._exit(3)
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
import http.client
for _ in range(20):
    connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == str(os.getpid()).encode()
    connection.close()
assert server.stop() is True
print("served")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_ends_and_leaves_the_server_to_its_parent() -> None:
    done = script(FORK)
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr


FORK_IN_HANDLER = """
import os
from ushabti import PerThread, Router
from ushabti.testing import running

parent = os.getpid()
router = Router()

def close(value):
    print("closed in", "parent" if os.getpid() == parent else "child", flush=True)

thing = PerThread(lambda: "connection", close)

@router.get("/")
def fork(request):
    thing()
    child = os.fork()
    if child == 0:
        return "child"
    _, status = os.waitpid(child, 0)
    return f"{os.waitstatus_to_exitcode(status)}"

with running(router, workers=1) as client:
    print(client.get("/").text, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_handler_that_forks_is_answered_by_the_parent_alone() -> None:
    done = script(FORK_IN_HANDLER)
    assert (done.returncode, done.stdout) == (0, "0\nclosed in parent\n"), done.stderr
