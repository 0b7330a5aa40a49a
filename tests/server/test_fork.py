"""A handler that forks: the parent goes on as if nothing had happened, and the child touches no connection."""

import multiprocessing
import os
import subprocess
import sys
import threading
from urllib.request import urlopen

import pytest

from tests.server.waiting import eventually
from ushabti.errors import ServerStateError
from ushabti.server import Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # Newer Pythons warn of what these tests are about.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def wait_for(child: int) -> int:
    """The exit status of a child, waited for by a thread that can be given up."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(os.waitpid(child, 0)[1]))
    thread.start()
    thread.join(20)
    if thread.is_alive():
        os.kill(child, 9)
        thread.join()
        pytest.fail("the child did not end")
    return os.waitstatus_to_exitcode(statuses[0])


def test_child_that_returns_from_the_handler_answers_nothing_and_ends(serve):
    children: list[int] = []

    def handler(request):
        child = os.fork()
        if child:
            children.append(child)
            return "parent"
        return "child"

    running = serve(handler)
    with running.connect() as raw:
        for number in range(3):
            raw.send(GET)
            assert raw.read_response().body == b"parent"
            assert wait_for(children[number]) == 0
        raw.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert raw.read_response().body == b"parent"
        # Nothing of the child, and the end of the connection although the child has had a copy of it.
        assert raw.read_all() == b""
        assert wait_for(children[3]) == 0


@pytest.mark.parametrize("how", ["raise", "respond", "stop", "exit"])
def test_child_may_try_anything_and_disturbs_nobody(serve, how: str):
    children: list[int] = []
    servers: list[Server] = []

    def handler(request):
        child = os.fork()
        if child:
            children.append(child)
            return "parent"
        if how == "raise":
            raise ValueError("in the child")
        if how == "respond":
            request.respond(200, None, "child")
        if how == "stop":
            servers[0].stop()
        if how == "exit":
            sys.exit(3)
        return "child"

    running = serve(handler)
    servers.append(running.server)
    with running.connect() as raw:
        raw.send(GET)
        assert raw.read_response().body == b"parent"
        assert wait_for(children[0]) is not None
        raw.send(GET)
        assert raw.read_response().body == b"parent", "the child has sent something, or shut the connection down"
        wait_for(children[1])
    assert running.get("/").body == b"parent"
    wait_for(children[2])
    assert running.server.stop(5) is True


def test_child_that_ends_itself_disturbs_nobody(serve):
    def handler(request):
        child = os.fork()
        if not child:
            os._exit(7)
        return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with serve(handler).connect() as raw:
        for _ in range(5):
            raw.send(GET)
            assert raw.read_response().body == b"7"


def test_subprocesses_inherit_no_socket(serve):
    program = "import os; print(sorted(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else [])"

    def handler(request):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, close_fds=False, check=True
        )
        return done.stdout

    running = serve(handler)
    with running.connect():
        found = eval(running.get("/").body)
    # Standard streams, and the folder that was listed; sockets close themselves on exec.
    assert all(int(number) < 3 or int(number) in _inheritable(found) for number in found), found


def _inheritable(numbers: list[str]) -> set[int]:
    """Those that the test run itself has made inheritable, and the one that lists them."""
    inheritable = {int(numbers[-1]), int(max(numbers, key=int))}
    for number in numbers:
        try:
            if os.get_inheritable(int(number)):
                inheritable.add(int(number))
        except OSError:
            inheritable.add(int(number))  # It is not open here, so it is none of the server's.
    return inheritable


def test_multiprocessing_by_fork_works_in_a_handler(serve):
    context = multiprocessing.get_context("fork")

    def handler(request):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=sender.send, args=(6 * 7,))
        process.start()
        result = receiver.recv()
        process.join(10)
        receiver.close()
        sender.close()
        code = process.exitcode
        process.close()
        return {"result": result, "code": code}

    running = serve(handler)
    for _ in range(3):
        assert running.get("/").body == b'{"result":42,"code":0}'


def test_server_of_the_parent_cannot_be_used_in_the_child():
    server = Server(lambda request: "x")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            server.start(port=0)
            result = b"started"
        except ServerStateError:
            result = b"refused"
        except BaseException as problem:
            result = repr(problem).encode()
        os.write(writer, result)
        os._exit(0)
    os.close(writer)
    assert wait_for(child) == 0
    assert os.read(reader, 1000) == b"refused"
    os.close(reader)
    server.stop()


def serve_in_a_child() -> str:
    """What a server answers that a forked child makes, starts and asks."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            with Server(lambda request: "from the child", workers=1).start(port=0) as address:
                result = urlopen(address.url, timeout=10).read()
        except BaseException as problem:
            result = repr(problem).encode()
        os.write(writer, result)
        os._exit(0)
    os.close(writer)
    try:
        assert wait_for(child) == 0
        return os.read(reader, 1000).decode()
    finally:
        os.close(reader)


def test_child_may_serve_by_itself():
    # The usual way to more processes: load the application, fork, serve in each child.
    assert serve_in_a_child() == "from the child"


def test_child_of_a_handler_may_serve_by_itself(serve):
    assert serve(lambda request: serve_in_a_child()).get("/").body == b"from the child"


def test_child_of_a_stream_sends_nothing(serve):
    children: list[int] = []

    def handler(request):
        yield "one,"
        child = os.fork()
        if child:
            children.append(child)
            wait_for(child)
            yield "two"
        else:
            yield "from the child,"

    with serve(handler).connect() as raw:
        raw.send(GET * 2)
        assert [raw.read_response().body for _ in range(2)] == [b"one,two"] * 2


def test_fork_beside_a_running_server_leaves_it_alone(serve):
    running = serve(lambda request: "hello")
    with running.connect() as raw:
        for _ in range(10):
            child = os.fork()
            if not child:
                os._exit(0)
            assert wait_for(child) == 0
            raw.send(GET)
            assert raw.read_response().body == b"hello"
    eventually(lambda: running.server.stats()["connections_open"] == 0)
