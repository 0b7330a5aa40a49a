"""Handlers that still run when the interpreter has ended."""

import pytest

from tests.server.test_server_life import script

OUTLIVING = """
import socket, threading, time
from ushabti import Router, Server

inside = threading.Event()
router = Router()

def stay(*_):
    inside.set()
    while True:
        time.sleep(0.0001)

class Pieces:
    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def close(self):
        stay()

@router.get("/handler")
def handler(request):
    stay()

@router.get("/error")
def error(request):
    raise ValueError

router.error(ValueError)(stay)

@router.get("/close")
def close(request):
    return Pieces()

server = Server(router)
address = server.start(port=0)
with socket.create_connection((address.host, address.port)) as client:
    client.sendall(b"GET /%s HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n")
    assert inside.wait(10)
    server.stop(0)
print("end")
"""


@pytest.mark.parametrize("where", ["handler", "error", "close"])
def test_a_worker_that_outlives_the_interpreter_does_not_abort_the_process(where: str) -> None:
    done = script(OUTLIVING % where)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
