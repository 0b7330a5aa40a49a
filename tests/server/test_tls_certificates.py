"""Certificates that are wrong, from the start or later on, and what becomes of a server that has them."""

import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority, Identity, trusting
from tests.server.conftest import LOOPBACK
from tests.server.test_cli import Command
from tests.server.waiting import Log, eventually
from tests.support import unverified
from ushabti import ConfigError, Server, ServerStateError
from ushabti.testing import Client, running

# The start of an encrypted key; more of it is never looked at.
ENCRYPTED = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"


def hello(request: object) -> str:
    return "hello"


def shown_by(client: Client) -> bytes:
    """The certificate that a new connection is shown."""
    address = client.server.address  # type: ignore[union-attr]
    with (
        socket.create_connection((address.host, address.port), 10) as plain,
        unverified().wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


@pytest.fixture
def fresh(authority: Authority, identity: Identity, tmp_path: Path) -> Identity:
    """A certificate in files that a test may change."""
    copy = Identity(tmp_path / "fresh.pem", tmp_path / "fresh.key")
    shutil.copy(identity.certificate, copy.certificate)
    shutil.copy(identity.key, copy.key)
    return copy


def break_missing(fresh: Identity, _: Authority) -> str:
    fresh.certificate.unlink()
    return r"fresh\.pem: there is no such file"


def break_unreadable(fresh: Identity, _: Authority) -> str:
    fresh.key.unlink()
    fresh.key.mkdir()
    return r"fresh\.key: it is not a regular file"


def break_form(fresh: Identity, _: Authority) -> str:
    fresh.certificate.write_bytes(fresh.der)
    return r"fresh\.pem: it is not in PEM form"


def break_kind(fresh: Identity, _: Authority) -> str:
    fresh.certificate.write_text(fresh.key.read_text())
    return r"fresh\.pem: there is no certificate in it"


def break_key(fresh: Identity, _: Authority) -> str:
    fresh.key.write_text(fresh.certificate.read_text())
    return r"fresh\.key: there is no private key in it"


def break_lock(fresh: Identity, _: Authority) -> str:
    fresh.key.write_text(ENCRYPTED)
    return r"fresh\.key: the key is encrypted"


def break_pair(fresh: Identity, authority: Authority) -> str:
    shutil.copy(authority.issue("mismatched", *LOOPBACK).key, fresh.key)
    return r"fresh\.pem: the key in .*fresh\.key belongs to another certificate"


def break_order(fresh: Identity, authority: Authority) -> str:
    fresh.certificate.write_text(authority.certificate.read_text() + fresh.certificate.read_text())
    return r"fresh\.pem: the server's certificate has to stand first, and its key fits number 2"


def break_end(fresh: Identity, authority: Authority) -> str:
    authority.issue("expired", *LOOPBACK, holds=(-9, -1)).copy_to(fresh)
    return r"fresh\.pem: the certificate has expired on 20..-..-..T..:..:..Z"


def break_beginning(fresh: Identity, authority: Authority) -> str:
    authority.issue("early", *LOOPBACK, holds=(1, 9)).copy_to(fresh)
    return r"fresh\.pem: the certificate holds from 20..-..-..T..:..:..Z on, and not yet"


BREAKS: list[Callable[[Identity, Authority], str]] = [
    break_missing,
    break_unreadable,
    break_form,
    break_kind,
    break_key,
    break_lock,
    break_pair,
    break_order,
    break_end,
    break_beginning,
]
each_break = pytest.mark.parametrize("spoil", BREAKS, ids=lambda spoil: spoil.__name__.removeprefix("break_"))


@each_break
def test_a_wrong_certificate_is_refused_before_a_socket_is_opened(
    spoil: Callable[[Identity, Authority], str], fresh: Identity, authority: Authority
) -> None:
    sentence = spoil(fresh, authority)
    with pytest.raises(ConfigError, match=f"^cannot use .*{sentence}"):
        Server(hello, **fresh.options)


@each_break
def test_a_wrong_certificate_leaves_the_old_one_and_the_log_says_why(
    spoil: Callable[[Identity, Authority], str], fresh: Identity, authority: Authority, log: Log
) -> None:
    before = fresh.der
    with running(hello, **fresh.options, tls=trusting(authority)) as client:
        sentence = spoil(fresh, authority)
        with pytest.raises(ConfigError, match=sentence):
            client.server.reload_tls()  # type: ignore[union-attr]
        record = log.wait("the old ones stay")
        assert record.levelname == "ERROR"
        assert re.search(sentence, record.getMessage())
        assert shown_by(client) == before
        client.close()
        assert client.get("/").text == "hello"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read_is_refused(fresh: Identity) -> None:
    fresh.key.chmod(0)
    with pytest.raises(ConfigError, match=r"fresh\.key: this user may not read it"):
        Server(hello, **fresh.options)


def test_authorities_of_clients_are_read_at_the_start(fresh: Identity) -> None:
    for path, sentence in (("/nowhere/ca.pem", "no such file"), (str(fresh.key), "no certificate in it")):
        with pytest.raises(ConfigError, match=f"^cannot use {path}: .*{sentence}"):
            Server(hello, **fresh.options, tls_client_ca=path, tls_client_auth="required")


def test_new_certificates_are_for_new_connections_and_disturb_no_old_one(
    fresh: Identity, authority: Authority, log: Log
) -> None:
    other = authority.issue("renewed", *LOOPBACK)
    with running(hello, **fresh.options, tls=trusting(authority)) as client:
        assert client.get("/").text == "hello"
        accepted = client.server.stats()["connections_accepted"]  # type: ignore[union-attr]
        other.copy_to(fresh)
        client.server.reload_tls()  # type: ignore[union-attr]
        log.wait("the certificates were read again and are used")
        assert client.get("/").text == "hello"
        assert client.server.stats()["connections_accepted"] == accepted  # type: ignore[union-attr]
        assert shown_by(client) == other.der


def test_changed_files_are_seen_by_themselves(fresh: Identity, authority: Authority, log: Log) -> None:
    other = authority.issue("noticed", *LOOPBACK)
    with running(hello, **fresh.options, tls=trusting(authority)) as client:
        other.copy_to(fresh)
        log.wait("the certificates were read again and are used")
        assert shown_by(client) == other.der
        fresh.certificate.write_text("rubbish")
        record = log.wait("the old ones stay")
        assert "fresh.pem: it is not in PEM form" in record.getMessage()
        assert shown_by(client) == other.der
        # It says so once, and not at every look: there are some before the next change is taken notice of.
        fresh.certificate.write_text(fresh.key.read_text())
        log.wait("there is no certificate in it")
        assert log.count("it is not in PEM form") == 1


def test_a_certificate_that_ends_soon_is_warned_of(authority: Authority, log: Log) -> None:
    ending = authority.issue("ending", *LOOPBACK, holds=(-1, 13))
    with running(hello, **ending.options, tls=trusting(authority)) as client:
        assert log.wait("ending.pem ends on 20").levelname == "WARNING"
        assert client.get("/").text == "hello"


def test_a_client_that_is_trusted_no_more_is_not_let_in_by_its_ticket(
    fresh: Identity, authority: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(authority.certificate, ca)
    context = trusting(authority, authority.issue("leaver", usage="clientAuth"))
    options: dict[str, Any] = {"tls_client_ca": ca, "tls_client_auth": "required"}
    with running(hello, **fresh.options, **options) as client:
        address = client.server.address  # type: ignore[union-attr]

        def ask(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
            with (
                socket.create_connection((address.host, address.port), 10) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as wrapped,
            ):
                wrapped.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while some := wrapped.recv(65536):
                    answer += some
                assert answer.endswith(b"hello")
                return wrapped.session, bool(wrapped.session_reused)

        session, is_resumed = ask(None)
        assert not is_resumed
        session, is_resumed = ask(session)
        assert is_resumed
        ca.write_text(Authority(tmp_path, "Successor").certificate.read_text())
        client.server.reload_tls()  # type: ignore[union-attr]
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            ask(session)


def test_there_is_nothing_to_read_again_without_tls() -> None:
    with running(hello) as client, pytest.raises(ServerStateError, match="speaks no TLS"):
        client.server.reload_tls()  # type: ignore[union-attr]


APP = "def hello(request):\n    return 'hello'\n"


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Starts ``ushabti app:hello`` with arguments."""
    (tmp_path / "app.py").write_text(APP)
    commands: list[Command] = []

    def start(*arguments: str) -> Command:
        commands.append(Command(tmp_path, *arguments))
        return commands[-1]

    yield start
    for one in commands:
        one.__exit__()


def listening_port(line: str) -> int:
    match = re.search(r"https://127\.0\.0\.1:(\d+)", line)
    assert match, line
    return int(match[1])


@each_break
def test_the_command_ends_with_2_and_one_sentence(
    spoil: Callable[[Identity, Authority], str], command: Any, fresh: Identity, authority: Authority
) -> None:
    sentence = spoil(fresh, authority)
    with socket.socket() as taken:
        # Was a socket opened first, it would be this that is complained of.
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        started = command("app:hello", "--port", str(taken.getsockname()[1]), *fresh.flags)
        output, errors = started.process.communicate(timeout=30)
    assert started.process.returncode == 2
    assert output == ""
    [line] = errors.splitlines()
    assert re.match(f"ushabti: cannot use .*{sentence}", line)


def test_the_command_speaks_tls_and_reads_certificates_again_on_a_signal(
    command: Any, fresh: Identity, authority: Authority
) -> None:
    other = authority.issue("signalled", *LOOPBACK)
    started = command("app:hello", "--port", "0", *fresh.flags)
    port = listening_port(started.read_line())
    with Client(f"https://127.0.0.1:{port}", tls=trusting(authority)) as client:
        assert client.get("/").text == "hello"
    other.copy_to(fresh)
    started.signal(signal.SIGHUP)
    eventually(lambda: ssl.get_server_certificate(("127.0.0.1", port)) == other.certificate.read_text())
    assert started.stop() == 0


@pytest.mark.parametrize(
    "spelling", [("--tls-self-signed",), ("--tls-self-signed", "on"), ("--tls-self-signed=a.test",)]
)
def test_the_command_makes_a_certificate_and_tells_its_fingerprint(command: Any, spelling: tuple[str, ...]) -> None:
    started = command(*spelling, "app:hello", "--port", "0", "--tls-redirect", "127.0.0.1:0")
    line = started.read_line()
    port = listening_port(line)
    match = re.search(
        r"redirecting from http://127\.0\.0\.1:\d+, with a self-signed certificate \(SHA-256 (\w+)\)", line
    )
    assert match, line
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))
    assert hashlib.sha256(der).hexdigest() == match[1]
    started.signal(signal.SIGHUP)
    assert "SIGHUP: there are no certificates to read again" in started.read_error()
    assert started.stop() == 0


def test_check_reads_the_certificates_and_warns(command: Any, authority: Authority) -> None:
    ending = authority.issue("checked", *LOOPBACK, holds=(-1, 2))
    process = command("check", "app:hello", *ending.flags).process
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "checked.pem ends on 20" in output
    assert re.search(r"tls_cert +/.*checked\.pem +command line", output)
