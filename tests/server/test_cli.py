"""The command ``ushabti``, as the process that an operator starts."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support import PATIENCE_S, Raw

APP = """
import threading, time
from ushabti import Router

router = Router()
entered, release = threading.Event(), threading.Event()

@router.get("/")
def hello(request):
    return "hello"

@router.get("/wait")
def wait(request):
    print("entered", flush=True)
    release.wait(30)
    return "waited"

@router.get("/release")
def free(request):
    release.set()
    return ""

def make():
    return lambda request: "made"

class Shop:
    web = router

number = 3
"""


class Command:
    """A running ``ushabti``. ``read_line`` waits for what it prints; ``stop`` sends SIGTERM and returns the status."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ushabti", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def read_line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"ended with {self.process.wait()} before it printed that: {self.errors()}")
        return line.rstrip("\n")

    def started(self) -> str:
        """Waits for the line of the start, and returns it."""
        line = self.read_line()
        if match := re.search(r"http://[^ ,]+:(\d+)", line):
            self.port = int(match[1])
        return line

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(30)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def read_error(self) -> str:
        """Waits for the next line of standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def errors(self) -> str:
        """What it wrote to standard error and was not read yet; after its end."""
        assert self.process.stderr is not None
        return self.process.stderr.read()


@pytest.fixture
def ushabti(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    (tmp_path / "shop.py").write_text(APP)
    commands: list[Command] = []

    def start(*arguments: str, **environment: str) -> Command:
        commands.append(Command(tmp_path, *arguments, **environment))
        return commands[-1]

    yield start
    for command in commands:
        command.__exit__()


@pytest.fixture
def run(ushabti: Callable[..., Command]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command to its end: status, standard output, standard error."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        command = ushabti(*arguments, **environment)
        output, errors = command.process.communicate(timeout=30)
        return command.process.returncode, output, errors

    return run


def test_it_says_where_it_listens_and_answers(ushabti) -> None:
    command = ushabti("shop:router", "--port", "0", "--workers", "2-8")
    line = command.started()
    assert re.fullmatch(
        rf"ushabti \d+\.\d+\.\d+\S*: listening on http://127\.0\.0\.1:{command.port} "
        rf"\(workers 2-8, pid {command.process.pid}\)",
        line,
    )
    assert command.get("/") == (200, "hello")
    assert command.stop() == 0
    assert "SIGTERM: stopping" in command.errors()


@pytest.mark.parametrize(
    ("spec", "path", "body"),
    [("shop", "/", "hello"), ("shop:Shop.web", "/", "hello"), ("shop:make()", "/any", "made")],
)
def test_an_application_may_be_named_in_several_ways(ushabti, spec: str, path: str, body: str) -> None:
    command = ushabti(spec, "--port", "0")
    command.started()
    assert command.get(path) == (200, body)
    assert command.stop() == 0


def test_the_module_may_stand_in_another_folder(ushabti, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "other.py").write_text("def app(request): return 'other'")
    command = ushabti("other", "--app-dir", "inner", "--port=0")
    command.started()
    assert command.get("/") == (200, "other")
    assert command.stop() == 0


def test_several_addresses_and_a_unix_socket(ushabti, tmp_path: Path) -> None:
    command = ushabti("shop:router", "--bind", "127.0.0.1:0", "--bind", "unix:shop.sock")
    assert "unix:shop.sock" in command.started()
    assert command.get("/") == (200, "hello")
    with Raw(str(tmp_path / "shop.sock")) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert raw.read_response().body == b"hello"
    assert command.stop() == 0
    assert not (tmp_path / "shop.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_request_end(ushabti, number: int) -> None:
    command = ushabti("shop:router", "--port", "0")
    command.started()
    with Raw(("127.0.0.1", command.port)) as waiting, Raw(("127.0.0.1", command.port)) as other:
        waiting.send(b"GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert command.read_line() == "entered"
        # Its request has begun, so that the drain waits for it, too.
        other.send(b"GET /release HTTP/1.1\r\n")
        other.send(b"Host: shop\r\n")
        command.signal(number)
        other.send(b"\r\n")
        assert other.read_response().status == 200
        answer = waiting.read_response()
        assert (answer.status, answer.body) == (200, b"waited")
    assert command.wait() == 0


@pytest.mark.parametrize("thread", ["threading.get_ident()", "threading.main_thread().ident"], ids=["other", "main"])
def test_signals_are_obeyed_whichever_thread_the_system_gives_them_to(ushabti, tmp_path: Path, thread: str) -> None:
    """Of two signals in a row Linux gives the second to another thread, if the main one has not woken up yet."""
    (tmp_path / "signalled.py").write_text(
        "import signal, threading\n"
        "def told(request):\n"
        f"    signal.pthread_kill({thread}, signal.SIGHUP)\n"
        f"    signal.pthread_kill({thread}, signal.SIGTERM)\n"
        "    return 'told'\n"
    )
    command = ushabti("signalled:told", "--port", "0")
    command.started()
    assert command.get("/") == (200, "told")
    assert command.wait() == 0
    errors = command.errors()
    assert "SIGHUP: there are no certificates" in errors and "SIGTERM: stopping" in errors


def test_a_second_signal_stops_at_once_and_says_so_in_the_status(ushabti) -> None:
    command = ushabti("shop:router", "--port", "0")
    command.started()
    with Raw(("127.0.0.1", command.port)) as raw:
        raw.send(b"GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert command.read_line() == "entered"
        command.signal(signal.SIGINT)
        assert "SIGINT: stopping" in command.read_error()
        command.signal(signal.SIGINT)
        assert command.wait() == 1
    errors = command.errors()
    assert "1 connections cut" in errors
    assert "Traceback" not in errors and "Fatal" not in errors


def test_what_outlasts_the_stop_timeout_is_cut_off(ushabti) -> None:
    command = ushabti("shop:router", "--port", "0", "--stop-timeout", "200 ms")
    command.started()
    with Raw(("127.0.0.1", command.port)) as raw:
        raw.send(b"GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert command.read_line() == "entered"
        assert command.stop() == 1
    assert "left behind" in command.errors()


def test_a_handler_that_computes_for_ever_does_not_make_the_end_a_crash(ushabti, tmp_path: Path) -> None:
    (tmp_path / "hog.py").write_text("def app(request):\n    print('entered', flush=True)\n    while True: pass\n")
    command = ushabti("hog", "--port", "0", "--stop-timeout", "0.1")
    command.started()
    with Raw(("127.0.0.1", command.port)) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: hog\r\n\r\n")
        assert command.read_line() == "entered"
        assert command.stop() == 1
    assert "Fatal" not in command.errors()


def test_usr1_opens_the_access_log_again(ushabti, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    command = ushabti("shop:router", "--port", "0", "--access-log", "json", "--access-log-file", str(log))
    command.started()
    old = tmp_path / "access.log.1"
    log.rename(old)
    command.signal(signal.SIGUSR1)
    wait_for(log.exists)
    assert command.get("/") == (200, "hello")
    assert command.stop() == 0
    lines = log.read_text().splitlines()
    assert [json.loads(line)["target"] for line in lines] == ["/"]
    assert old.read_text() == ""


def test_the_access_log_goes_to_standard_error(ushabti) -> None:
    command = ushabti("shop:router", "--port", "0", "--access-log", "text", "--log-level", "error")
    command.started()
    command.get("/?a=1")
    assert command.stop() == 0
    assert re.fullmatch(r'127\.0\.0\.1 - - \[.*\] "GET /\?a=1 HTTP/1\.1" 200 5 .*\n', command.errors())


def test_an_application_that_configures_logging_keeps_it(ushabti, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import logging\nlogging.basicConfig(format='own %(name)s %(message)s', level=logging.INFO)\n"
        "from shop import router\n"
    )
    command = ushabti("own", "--port", "0", "--access-log", "text")
    command.started()
    command.get("/")
    assert command.stop() == 0
    lines = command.errors().splitlines()
    assert all(line.startswith("own ushabti") for line in lines)
    assert sum("GET / " in line for line in lines) == 1


def test_a_taken_port_is_one_sentence(run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, output, errors = run("shop:router", "--port", str(port))
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"ushabti: cannot listen on 127\.0\.0\.1:{port}: another process listens there; .*\n", errors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no application was named: write MODULE:ATTRIBUTE"),
        (["shpo:router"], "there is no module shpo in .*: did you mean shop"),
        (["shop.py"], "write the module's name and not its file"),
        (["shop:rooter"], r"shop has no rooter: did you mean router\?"),
        (["shop:number"], "shop:number is int and no application: name a Router or a handler"),
        (["shop:number()"], "int cannot be called"),
        (["nothing"], "module nothing has none of router, app, application: write nothing:ATTRIBUTE"),
        (["named"], "module named has none of .*: write named:web"),
        (["shop", "--zebra=1"], "there is no option --zebra: see ushabti --help"),
        (["shop", "--max-quue", "5"], r"there is no option --max-quue: did you mean --max-queue\?"),
        (["shop", "--max-queue", "0"], "--max-queue is '0': write a whole number from 1"),
        (["shop", "--port"], "--port: expected one argument"),
        (["shop", "--port", "99999"], "--port is '99999': write a whole number from 0 to 65535"),
        (["shop", "--bind", "8080"], 'cannot listen on "8080": there is no port'),
        (["shop", "--bind", ":0", "--port", "1"], "--bind and --port both say where to listen"),
        (["shop", "--config", "none.toml"], "the configuration file none.toml cannot be read: No such file"),
        (["shop", "--app-dir", "nowhere"], "app_dir is 'nowhere': there is no such folder"),
        (["shop", "--access-log", "text", "--access-log-file", "no/such"], "access_log_file is 'no/such': No such"),
        (["routes"], "routes of which application: write ushabti routes MODULE:ATTRIBUTE"),
        (["serve", "shop"], "there is no command serve"),
        (["a", "b", "c"], "one application at a time"),
        (["conflict"], "two routes answer this"),
        (["pattern"], r"pattern\.py:3: .*"),
        (["asynchronous"], "is asynchronous"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_of_the_operator_is_one_sentence_and_status_2(
    run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "nothing.py").write_text("")
    (tmp_path / "named.py").write_text("from ushabti import Router\nweb = Router()\n")
    (tmp_path / "pattern.py").write_text(
        "from ushabti import Router\nrouter = Router()\n@router.get('no-slash')\ndef f(request): return ''\n"
    )
    (tmp_path / "conflict.py").write_text(
        "from ushabti import Router\nrouter = Router()\nf = lambda request, **_: ''\n"
        "router.get('/{a}', f)\nrouter.get('/{b}', f)\n"
    )
    (tmp_path / "asynchronous.py").write_text("async def app(request): return ''\n")
    status, output, errors = run(*arguments)
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"ushabti: .*({message}).*\n", errors), errors


def test_a_failing_module_shows_its_own_frames_and_no_others(run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import inner\n")
    (tmp_path / "inner.py").write_text("def f():\n    return 1 / 0\nf()\n")
    status, output, errors = run("broken")
    assert (status, output) == (2, "")
    assert errors.splitlines()[-1] == "ushabti: importing broken failed: ZeroDivisionError: division by zero"
    files = re.findall(r'File "(.*)", line', errors)
    assert [Path(file).name for file in files if "importlib" not in file] == ["broken.py", "inner.py", "inner.py"]
    assert Path(files[0]).name == "broken.py"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import not_installed_anywhere", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
        ("def f(:", "SyntaxError: .*"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_a_module_raises_while_it_is_imported_is_shown(run, tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "broken.py").write_text(code + "\n")
    status, _, errors = run("broken")
    assert status == 2
    assert "broken.py" in errors
    assert re.fullmatch(f"ushabti: importing broken failed: {message}", errors.splitlines()[-1])


def test_a_failing_start_hook_shows_its_traceback_and_status_1(run, tmp_path: Path) -> None:
    (tmp_path / "hooked.py").write_text(
        "from ushabti import Router\nrouter = Router()\n@router.on_start\n"
        "def connect(server): raise OSError('no database')\n"
    )
    status, output, errors = run("hooked", "--port", "0")
    assert (status, output) == (1, "")
    assert "hooked.py" in errors and "ushabti/server.py" not in errors
    assert errors.splitlines()[-1] == "ushabti: hooked could not be served: OSError: no database"


def test_a_signal_ends_a_start_that_hangs(ushabti, tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(
        "import time\nfrom ushabti import Router\nrouter = Router()\n"
        "@router.on_start\ndef connect(server):\n    print('connecting', flush=True)\n    time.sleep(60)\n"
    )
    command = ushabti("hanging", "--port", "0")
    assert command.read_line() == "connecting"
    assert command.stop() == 0
    assert "stopped while starting" in command.errors()


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(run, tmp_path: Path) -> None:
    (tmp_path / "ushabti.toml").write_text('max_queue = 1\nmax_fields = 1\nmax_body = "1 KiB"\nport = 1\n')
    status, output, errors = run(
        "check",
        "shop",
        "--config",
        "ushabti.toml",
        "--max-queue=3",
        USHABTI_MAX_QUEUE="2",
        USHABTI_MAX_FIELDS="2",
        USHABTI_MAX_FIELSD="2",
    )
    assert status == 0
    rows = {line.split()[0]: re.split(r"\s{2,}", line)[1:] for line in output.splitlines() if line}
    assert rows["max_queue"] == ["3", "command line"]
    assert rows["max_fields"] == ["2", "environment"]
    assert rows["max_body"] == ["1 KiB", "ushabti.toml"]
    assert rows["port"] == ["1", "ushabti.toml"]
    assert rows["keep_alive"] == ["75 s", "default"]
    assert re.fullmatch(r"\d+ of \d+ descriptors", rows["max_connections"][0])
    assert "USHABTI_MAX_FIELSD is no option and does nothing; did you mean USHABTI_MAX_FIELDS?" in errors


def test_check_opens_no_socket(run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, output, _ = run("check", "shop:router", "--port", str(taken.getsockname()[1]))
    assert status == 0
    assert output.startswith("shop:router: 3 routes, ready to be served\n")


def test_routes_are_listed_with_their_handlers(run) -> None:
    status, output, _ = run("routes", "shop:router")
    assert status == 0
    rows = [re.split(r"\s{2,}", line) for line in output.splitlines()]
    assert rows[0] == ["METHODS", "PATTERN", "HANDLER"]
    assert [row[:2] for row in rows[1:]] == [["GET", "/"], ["GET", "/wait"], ["GET", "/release"]]
    assert rows[1][2].startswith("shop.hello (")


def test_help_names_every_option_with_its_default_and_is_narrow(run) -> None:
    status, output, errors = run("--help", COLUMNS="200")
    assert (status, errors) == (0, "")
    assert max(map(len, output.splitlines())) < 100
    for words in ("--max-body SIZE", "(default 16 MiB)", "--workers N|N-N|auto", "(default 30 s)", "USHABTI_MAX_QUEUE"):
        assert words in output


def test_the_version_is_that_of_the_package(run) -> None:
    status, output, _ = run("--version")
    assert status == 0
    assert re.fullmatch(r"ushabti \d+\.\d+\.\d+\S*\n", output)


def wait_for(condition: Callable[[], bool]) -> None:
    """For what another process does and cannot tell: asks until it is so; the time limit of the test ends it."""
    pause = __import__("threading").Event()
    while not condition():
        pause.wait(0.01)
