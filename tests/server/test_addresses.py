"""Where a server listens: TCP of both kinds, Unix sockets, inherited descriptors, several at once."""

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.support import Raw, needs_ipv6
from ushabti.errors import BindError
from ushabti.server import Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def ask(where: tuple[str, int] | str) -> bytes:
    with Raw(where) as raw:
        raw.send(GET)
        return raw.read_response().body


def whoever(request) -> str:
    return f"{request.client} {request.peer}"


@needs_ipv6
def test_ipv6(serve):
    running = serve(whoever, bind=["[::1]:0"])
    assert running.address.host == "::1" and running.url == f"http://[::1]:{running.port}"
    client, peer = ask(("::1", running.port)).decode().split()
    assert client == "::1" and peer.startswith("[::1]:")


def test_unix_socket_is_made_and_removed(serve, tmp_path: Path):
    path = tmp_path / "app.sock"
    running = serve(whoever, bind=[f"unix:{path}"])
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert ask(str(path)) == b"unix unix"
    assert (running.address.port, running.address.url, str(running.address)) == (0, "", f"unix:{path}")
    running.stop()
    assert not path.exists()


def test_unix_socket_that_a_dead_server_has_left_is_taken_over(serve, tmp_path: Path):
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    serve(whoever, bind=[f"unix:{path}"])
    assert ask(str(path)) == b"unix unix"


def test_unix_socket_of_a_living_server_is_not_taken(serve, tmp_path: Path):
    path = tmp_path / "app.sock"
    serve(whoever, bind=[f"unix:{path}"])
    with pytest.raises(BindError, match="stop it or choose another path"):
        Server(whoever).start(bind=[f"unix:{path}"])
    assert ask(str(path)) == b"unix unix"


def test_file_that_is_no_socket_is_not_removed(tmp_path: Path):
    path = tmp_path / "app.sock"
    path.write_text("precious")
    with pytest.raises(BindError):
        Server(whoever).start(bind=[f"unix:{path}"])
    assert path.read_text() == "precious"


def test_inherited_descriptor(serve):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        serve(whoever, bind=[f"fd://{os.dup(listener.fileno())}"])
    assert ask(("127.0.0.1", port)).startswith(b"127.0.0.1 ")


def test_several_addresses_are_one_server(serve, tmp_path: Path):
    path = tmp_path / "app.sock"
    running = serve(whoever, bind=["127.0.0.1:0", f"unix:{path}", "127.0.0.1:0"])
    first, unix, third = running.server.addresses
    assert ask(("127.0.0.1", first.port)).startswith(b"127.0.0.1 ")
    assert ask(str(path)) == b"unix unix"
    assert ask(("127.0.0.1", third.port)).startswith(b"127.0.0.1 ")
    assert first.port != third.port and unix.port == 0
    assert running.server.stats()["connections_accepted"] == 3


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.0.0.1:port", "127.0.0.1:65536", "fd://x", "fd://999", "unix:", "256.1.1.1:0", "http://a:80", ""],
)
def test_address_that_cannot_be_is_refused_by_name(address: str):
    with pytest.raises(BindError) as caught:
        Server(whoever).start(bind=[address])
    assert repr(address)[1:-1] in str(caught.value)


def test_addresses_beside_those_of_the_server_are_refused_by_the_name_of_their_option():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BindError, match=f"^admin: cannot listen on {where}"):
            Server(whoever, admin=where).start(port=0)
        with pytest.raises(BindError, match=f"^tls_redirect: cannot listen on {where}"):
            Server(whoever, tls_self_signed=True, tls_redirect=where).start(port=0)


def test_taken_port_is_refused_and_nothing_is_left_open(serve, tmp_path: Path):
    running = serve(whoever)
    path = tmp_path / "app.sock"
    with pytest.raises(BindError, match=f"127.0.0.1:{running.port}"):
        Server(whoever).start(bind=[f"unix:{path}", f"127.0.0.1:{running.port}"])
    assert not path.exists()
    assert ask(("127.0.0.1", running.port)).startswith(b"127.0.0.1 ")


def test_port_can_be_taken_again_at_once_after_a_stop(serve):
    running = serve(whoever)
    ask(("127.0.0.1", running.port))
    running.stop()
    again = serve(whoever, bind=[f"127.0.0.1:{running.port}"])
    assert again.port == running.port
    ask(("127.0.0.1", again.port))
