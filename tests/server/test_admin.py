"""The option ``admin``: a server beside the server that answers while all of its workers are stuck."""

import gc
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from tests.server.waiting import Gate, Log, eventually
from tests.support import HAS_GIL, Answer, Raw, Running
from ushabti import BindError, ConfigError, Server
from ushabti.cli import main
from ushabti.metrics import CONTENT_TYPE
from ushabti.routing import Router

HOLD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


def get(where: Path | tuple[str, int], target: str) -> Answer:
    with Raw(where if isinstance(where, tuple) else str(where)) as raw:
        raw.send(f"GET {target} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
        return raw.read_response()


def test_everything_is_served_on_a_unix_socket(serve, path: Path):
    running = serve(lambda request: "hello", admin=f"unix:{path}")
    assert running.get("/").body == b"hello"
    dump = get(path, "/dump")
    assert dump.status == 200 and dump.field("content-type") == "text/plain; charset=utf-8"
    assert dump.body.startswith(f"==== ushabti, pid {os.getpid()}, {running.url}: ".encode())
    dump = get(path, "/dump?format=json")
    assert dump.field("content-type") == "application/json" and json.loads(dump.body)["counts"]["workers"] >= 1
    stats = get(path, "/stats")
    assert json.loads(stats.body)["answers"]["2xx"] == 1
    metrics = get(path, "/metrics")
    assert metrics.field("content-type") == CONTENT_TYPE
    assert b'\nushabti_answers_total{class="2xx"} 1\n' in metrics.body
    health = get(path, "/health")
    assert (health.status, json.loads(health.body)) == (200, {"status": "running"})
    assert all(answer.field("cache-control") == "no-store" for answer in (dump, stats, metrics, health))
    assert get(path, "/dump?format=xml").status == 400
    assert get(path, "/").status == 404
    # Nothing of that is the application's, nor is the application served there.
    assert json.loads(get(path, "/stats").body)["connections_accepted"] == 1
    assert running.get("/dump").body == b"hello"


def test_tcp_address_with_a_port_that_the_system_chooses(serve):
    running = serve(lambda request: "hello", admin="127.0.0.1:0")
    address = running.server.admin_address
    assert address is not None and address.port not in (0, running.port)
    assert get((address.host, address.port), "/health").status == 200


def test_there_is_none_unless_it_is_asked_for(serve):
    running = serve(lambda request: "hello")
    assert running.server.admin_address is None
    assert not [thread for thread in threading.enumerate() if "admin" in thread.name]


@pytest.mark.parametrize("mask", [0, 0o077])
def test_unix_socket_is_its_owners_alone(serve, path: Path, mask: int):
    before = os.umask(mask)
    try:
        serve(lambda request: "hello", admin=f"unix:{path}")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_answers_while_every_worker_sleeps(serve, gate: Gate, path: Path):
    running = serve(gate, admin=f"unix:{path}", workers=2, max_queue=1)
    held = [running.connect() for _ in range(3)]
    for raw in held[:2]:
        raw.send(HOLD)
        gate.wait()
    held[2].send(HOLD)
    eventually(lambda: json.loads(get(path, "/stats").body)["queue_waiting"] == 1)
    assert running.get("/").status == 503
    text = get(path, "/dump").body.decode()
    assert text.count("request GET / (route /**)") == 2 and "idle workers: none" in text
    assert get(path, "/health").status == 200
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200] * 3


def test_it_answers_while_every_worker_computes(serve, path: Path):
    stop, entered = threading.Event(), threading.Semaphore(0)

    def compute(request: Any) -> str:
        entered.release()
        while not stop.is_set():
            sum(range(1000))
        return "done"

    running = serve(compute, admin=f"unix:{path}", workers=4)
    held = [running.connect() for _ in range(4)]
    try:
        for raw in held:
            raw.send(HOLD)
        for _ in held:
            assert entered.acquire(timeout=10)
        assert get(path, "/dump").body.decode().count(", in compute\n") == (4 if HAS_GIL else 0)
        assert json.loads(get(path, "/stats").body)["workers_busy"] == 4
    finally:
        stop.set()
    assert [raw.read_response().body for raw in held] == [b"done"] * 4


def test_it_is_stopped_last_and_says_what_is_going_on(serve, gate: Gate, path: Path):
    running = serve(gate, admin=f"unix:{path}")
    held = running.connect()
    held.send(HOLD)
    gate.wait()
    stopping = threading.Thread(target=running.server.stop)
    stopping.start()
    eventually(lambda: running.server.stopping.is_set())
    health = get(path, "/health")
    assert (health.status, json.loads(health.body)) == (503, {"status": "stopping"})
    assert b"request GET / (route /**)" in get(path, "/dump").body
    gate.open.set()
    assert held.read_response().body == b"let go"
    stopping.join()
    assert not path.exists()


def test_client_that_keeps_its_connection_does_not_hold_up_the_stop(serve, path: Path, log: Log):
    running = serve(lambda request: "hello", admin=f"unix:{path}")
    with Raw(str(path)) as raw:
        raw.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.read_response().status == 200
        began = time.monotonic()
        assert running.stop()
        assert time.monotonic() - began < 5
    assert "WARNING" not in log.text()


def test_failure_to_bind_comes_before_anything_is_opened(tmp_path: Path):
    started: list[object] = []
    router = Router.of(lambda request: "hello")
    router.on_start(started.append)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(router, admin=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(BindError):
            server.start(bind=[f"unix:{tmp_path}/app.sock"])
    assert started == [] and list(tmp_path.iterdir()) == []


def test_failure_to_bind_the_application_closes_the_admin_address(path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BindError):
        Server(lambda request: "hello", admin=f"unix:{path}").start(taken.getsockname()[1])
    assert not path.exists()


@pytest.mark.parametrize("admin", [9100, "9100", "fd://3", ["127.0.0.1:1"]])
def test_what_is_no_address_is_refused(admin: Any):
    with pytest.raises(ConfigError, match=r"unix:admin\.sock"):
        Server(lambda request: "hello", admin=admin)


@pytest.mark.parametrize("is_started", [False, True])
def test_admin_address_does_not_keep_its_server_alive(path: Path, is_started: bool):
    server = Server(lambda request: "hello", admin=f"unix:{path}")
    if is_started:
        server.start(0)
        assert get(path, "/health").status == 200
        server.stop()
    left = weakref.ref(server)
    del server

    def is_gone() -> bool:
        gc.collect()
        return left() is None

    eventually(is_gone)


# ---- ushabti dump


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    assert not (captured.out and captured.err)
    return status, captured.out + captured.err


def test_dump_asks_a_running_server(serve, path: Path, capsys, monkeypatch):
    serve(lambda request: "hello", admin=f"unix:{path}")
    status, text = told(capsys, "dump", "--admin", f"unix:{path}")
    assert status == 0 and text.startswith("==== ushabti, pid ") and text.endswith("==== end of dump\n")
    monkeypatch.setenv("USHABTI_ADMIN", f"unix:{path}")
    assert told(capsys, "dump")[0] == 0


def test_dump_over_tcp(serve, capsys):
    address = serve(lambda request: "hello", admin="127.0.0.1:0").server.admin_address
    status, text = told(capsys, "dump", f"--admin=:{address.port}")
    assert status == 0 and "==== end of dump" in text


def test_dump_says_what_is_wrong(serve, path: Path, capsys, monkeypatch):
    monkeypatch.delenv("USHABTI_ADMIN", raising=False)
    running: Running = serve(lambda request: ("not here", 404))
    for arguments, part in [
        ([], "dump of which server"),
        (["--admin", "nowhere"], "--admin"),
        (["--admin", f"unix:{path}"], f"no server answers at the admin address unix:{path}: No such file"),
        (["--admin", f"unix:{path.parent}/{'x' * 200}"], "no server answers"),
        (["--admin", "127.0.0.1:port"], "no server answers"),
        (["--admin", f"127.0.0.1:{running.port}"], "is no admin address of ushabti: it answers 404 to /dump"),
        (["shop:app"], "not an application"),
    ]:
        status, text = told(capsys, "dump", *arguments)
        assert (status, text.count("\n")) == (2, 1), text
        assert part in text


def test_dump_says_when_what_answers_speaks_no_http(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b"220 mail\r\n")
                client.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        status, text = told(capsys, "dump", "--admin", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert status == 2 and "no server answers" in text


def test_command_serves_the_admin_address_and_dumps_itself(tmp_path: Path):
    (tmp_path / "shop.py").write_text("def app(request):\n    return 'hello'\n")
    environment = {**os.environ, "USHABTI_ADMIN": "unix:admin.sock"}
    command = [sys.executable, "-m", "ushabti"]
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True}
    with subprocess.Popen(
        [*command, "shop:app", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    ) as process:
        try:
            assert process.stdout is not None
            assert "listening on" in process.stdout.readline()
            done = subprocess.run([*command, "dump"], capture_output=True, timeout=30, **options)
        finally:
            process.terminate()
            _, log = process.communicate(timeout=30)
    assert (process.returncode, done.returncode, done.stderr) == (0, 0, "")
    assert f"==== ushabti, pid {process.pid}, " in done.stdout
    assert "admin: listening on unix:admin.sock" in log
    assert not (tmp_path / "admin.sock").exists()


def test_state_tells_where_the_server_is_in_its_life(serve):
    server = Server(lambda request: "hello")
    assert server.state == "starting"
    with server.start(0):
        assert server.state == "running"
    assert server.state == "stopping"


def test_scraper_that_keeps_its_connection_is_served_again_and_again(serve, path: Path):
    running = serve(lambda request: "hello", admin="127.0.0.1:0")
    address = running.server.admin_address
    connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
    for _ in range(20):
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200 and b"ushabti_workers " in answer.read()
    connection.close()
