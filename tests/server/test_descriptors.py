"""Out of descriptors: accepting pauses, costs next to nothing meanwhile, says so, and goes on when there are some."""

import json
import socket
import sys
import time

import pytest

from tests.server.process import Process
from tests.server.waiting import eventually
from tests.support import Raw

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of descriptors are set by resource")

LIMIT = 64
CPU = b"GET /cpu HTTP/1.1\r\nHost: a\r\n\r\n"


def cpu_seconds(raw: Raw) -> float:
    raw.send(CPU)
    return json.loads(raw.read_response().body)["seconds"]


def test_server_without_descriptors_pauses_and_recovers():
    with Process(str(LIMIT)) as process, process.connect() as raw:
        assert cpu_seconds(raw) > 0
        # More than there are descriptors for. The system completes the connects; the server cannot take them.
        crowd = [socket.create_connection(("127.0.0.1", process.port), 10) for _ in range(LIMIT * 2)]
        try:
            eventually(lambda: "accepting on" in process.log and "pauses" in process.log)
            assert "raise the limit (ulimit -n) or set max_connections" in process.log
            # Whoever is in is served all the same, and the server does not spin.
            before, began = cpu_seconds(raw), time.monotonic()
            time.sleep(1.0)
            used, passed = cpu_seconds(raw) - before, time.monotonic() - began
            assert used < 0.2 * passed, f"{used:.2f} s of processor time in {passed:.2f} s of pause"
        finally:
            for connection in crowd:
                connection.close()
        eventually(lambda: "accepting again on" in process.log)
        with process.connect() as other:
            other.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
            assert other.read_response().body == b"hello"
        # Told once for each time, not for each try.
        assert process.log.count("pauses") <= 2
        process.process.terminate()
        raw.close()
        assert process.wait() == 0


def test_stop_works_while_accepting_pauses():
    with Process(str(LIMIT)) as process:
        crowd = [socket.create_connection(("127.0.0.1", process.port), 10) for _ in range(LIMIT * 2)]
        eventually(lambda: "pauses" in process.log)
        process.process.terminate()
        began = time.monotonic()
        # The drain takes those that wait as the others go.
        for connection in crowd:
            connection.close()
        assert process.wait() == 0
        assert time.monotonic() - began < 10
