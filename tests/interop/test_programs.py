"""curl, wrk, and the clients of Go and Node, each as a program of its own. Skipped where it is missing."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import Running

TEXT = "Here I am, grüß.\n"
STREAM = "".join(f"line {number}\n" for number in range(5))
CLIENTS = Path(__file__).with_name("clients")

# What the programs of Go and Node print when all went well.
ACCOUNT = {
    "text": TEXT,
    "answer": 42,
    "echo": "papyrus",
    "chunked_echo": "one,two",
    "stream": STREAM,
    "head_length": len(TEXT.encode()),
    "head_body": 0,
    "large": 2**20,
    "missing": 404,
    "continued": "patient",
    "connections": 1,
}


def tool(name: str) -> str:
    """The program's path; skips the test if there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on PATH")
    return path


def run(*command: str, timeout: float = 30, **options) -> str:
    done = subprocess.run(command, capture_output=True, timeout=timeout, check=False, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def curl(*arguments: str, **options) -> str:
    return run(tool("curl"), "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", *arguments, **options)


def test_curl_reads_text_json_stream_and_head(running: Running):
    assert curl(f"{running.url}/text") == TEXT
    assert json.loads(curl(f"{running.url}/json"))["answer"] == 42
    assert curl(f"{running.url}/stream") == STREAM
    assert curl("--http1.0", f"{running.url}/stream") == STREAM
    head = curl("--head", f"{running.url}/text")
    assert head.startswith("HTTP/1.1 200 OK\r\n") and f"Content-Length: {len(TEXT.encode())}\r\n" in head


def test_curl_keeps_its_connection(running: Running):
    peers = curl("--write-out", "\n%{num_connects}\n", *[f"{running.url}/peer"] * 3).split()
    assert peers[::2] == [peers[0]] * 3
    assert peers[1::2] == ["1", "0", "0"]


def test_curl_sends_data(running: Running):
    assert curl("--data", "a=1&b=2", f"{running.url}/echo") == "a=1&b=2"
    assert curl("--data-binary", "@-", f"{running.url}/echo", input=b"\r\n\0") == "\r\n\0"


def test_curl_uploads_in_chunks(running: Running):
    said = curl(
        "--header", "Transfer-Encoding: chunked", "--data-binary", "@-", f"{running.url}/echo", input=b"x" * 99_999
    )
    assert said == "x" * 99_999


def test_curl_waits_for_the_continue(running: Running):
    def ask(path: str) -> str:
        options = ("--include", "--expect100-timeout", "15", "--header", "Expect: 100-continue", "--data", "abc")
        return curl(*options, running.url + path)

    answer = ask("/echo")
    assert answer.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") and answer.endswith("\r\n\r\nabc")
    # And is told at once where the body is not wanted.
    assert ask("/none").startswith("HTTP/1.1 404 Not Found\r\n")


def test_curl_over_a_unix_socket(serve, tmp_path: Path):
    from tests.interop.app import router

    path = tmp_path / "sock"
    serve(router(), bind=[f"unix:{path}"])
    assert curl("--unix-socket", str(path), "http://local/text") == TEXT


@pytest.mark.parametrize("target", ["/text", "/stream"])
def test_wrk_finds_no_error(running: Running, target: str):
    said = run(tool("wrk"), "-t1", "-c16", "-d1s", f"{running.url}{target}")
    found = re.search(r"([0-9]+) requests in", said)
    assert found and int(found[1]) > 100, said
    assert "Non-2xx" not in said and "Socket errors" not in said, said


@pytest.fixture(scope="session")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program in Go, compiled once."""
    path = tmp_path_factory.mktemp("go") / "client"
    run(tool("go"), "build", "-o", str(path), str(CLIENTS / "client.go"), timeout=180)
    return str(path)


@pytest.mark.time_limit(200)
def test_go(running: Running, go_client: str):
    assert json.loads(run(go_client, running.url)) == ACCOUNT


def test_node(running: Running):
    assert json.loads(run(tool("node"), str(CLIENTS / "client.mjs"), running.url)) == ACCOUNT
