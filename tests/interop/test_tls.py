"""Other programs over TLS, verifying the server: curl, openssl, nghttp, httpx, and the clients of Go and Node."""

import json
import os
import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.certificates import Authority, Identity, trusting
from tests.interop.app import router
from tests.interop.test_programs import ACCOUNT, CLIENTS, STREAM, TEXT, curl, go_client, run, tool
from tests.support import Running

__all__ = ["go_client"]

LOOPBACK = ("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the clients trust."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    """The server's certificate."""
    return authority.issue("server", *LOOPBACK)


@pytest.fixture(scope="module")
def secure(authority: Authority, identity: Identity) -> Iterator[Running]:
    """A server that speaks TLS, and asks clients for a certificate."""
    options = {**identity.options, "tls_client_ca": authority.certificate, "tls_client_auth": "optional"}
    running = Running.start(router(), workers=4, **options)
    yield running
    running.stop()


def s_client(running: Running, *arguments: str, said: str = "") -> str:
    """What ``openssl s_client`` tells of a connection on which ``said`` is typed."""
    command = (tool("openssl"), "s_client", "-connect", f"127.0.0.1:{running.port}", *arguments)
    done = subprocess.run(command, input=said.encode(), capture_output=True, timeout=30)
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("tls", ["--tlsv1.3", "--tls-max=1.2"])
def test_curl(secure: Running, authority: Authority, version: str, tls: str) -> None:
    flags = ("--cacert", str(authority.certificate), version, *tls.split("="))
    assert secure.url.startswith("https://")
    assert curl(*flags, f"{secure.url}/text") == TEXT
    assert curl(*flags, f"{secure.url}/stream") == STREAM
    assert curl(*flags, "--data-binary", "@-", f"{secure.url}/echo", input=b"x" * 300_000) == "x" * 300_000


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("length", [(), ("--header", "Transfer-Encoding: chunked")], ids=["told", "untold"])
@pytest.mark.parametrize(("path", "refusal"), [("/echo", "413 Content Too Large"), ("/nowhere", "404 Not Found")])
def test_curl_reads_why_its_upload_is_cut_off(
    serve, identity: Identity, authority: Authority, version: str, length: tuple[str, ...], path: str, refusal: str
) -> None:
    running = serve(router(), max_body="1MB", **identity.options)
    flags = ("--cacert", str(authority.certificate), version, *length, "--data-binary", "@-")
    assert curl(*flags, f"{running.url}{path}", input=b"x" * 20_000_000).startswith(refusal)


def test_curl_shows_its_certificate_and_is_refused_with_a_strange_one(
    secure: Running, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ani = authority.issue("ani", usage="clientAuth")
    eve = Authority(tmp_path_factory.mktemp("eve"), "Stranger").issue("eve", usage="clientAuth")
    flags = ("--cacert", str(authority.certificate), f"{secure.url}/text")
    assert curl("--cert", str(ani.certificate), "--key", str(ani.key), *flags) == TEXT
    with pytest.raises(AssertionError, match=r"alert|SSL"):
        curl("--cert", str(eve.certificate), "--key", str(eve.key), *flags)


def test_curl_does_not_trust_a_certificate_for_development(serve, authority: Authority) -> None:
    running = serve(router(), tls_self_signed=True)
    with pytest.raises(AssertionError, match="certificate"):
        curl(f"{running.url}/text")
    assert curl("--insecure", f"{running.url}/text") == TEXT


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes_its_sessions(secure: Running, authority: Authority, tmp_path, version: str) -> None:
    session = str(tmp_path / "session")
    ask = "GET /text HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    flags = (version, "-CAfile", str(authority.certificate), "-verify_return_error", "-ign_eof")
    first = s_client(secure, *flags, "-sess_out", session, said=ask)
    assert "Verify return code: 0 (ok)" in first
    assert "New, TLSv1." in first
    assert TEXT in first
    again = s_client(secure, *flags, "-sess_in", session, said=ask)
    assert "Reused, TLSv1." in again
    assert TEXT in again


def test_nothing_is_negotiated_twice(secure: Running) -> None:
    # A line that begins with R has s_client ask for it.
    said = s_client(secure, "-tls1_2", said="R\n")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    assert "Secure Renegotiation IS supported" in said


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(secure: Running, version: str) -> None:
    said = s_client(secure, version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert re.search("alert (?:protocol version|handshake failure)", said)
    assert "Cipher is (NONE)" in said


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "NULL", "DHE-RSA-AES128-GCM-SHA256"])
def test_weak_suites_are_refused(secure: Running, cipher: str) -> None:
    assert "handshake failure" in s_client(secure, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")


def test_nghttp(secure: Running) -> None:
    said = run(tool("nghttp"), "--verbose", "--no-verify-peer", f"{secure.url}/text")
    assert "negotiated protocol: h2" in said
    assert TEXT.strip() in said


def test_httpx(secure: Running, authority: Authority) -> None:
    with httpx.Client(verify=trusting(authority), trust_env=False) as client:
        assert client.get(f"{secure.url}/text").text == TEXT
        assert client.post(f"{secure.url}/echo", content=b"\0\xff" * 50_000).content == b"\0\xff" * 50_000


@pytest.mark.time_limit(200)
def test_go(secure: Running, authority: Authority, go_client: str) -> None:
    environment = {**os.environ, "SSL_CERT_FILE": str(authority.certificate)}
    said = json.loads(run(go_client, secure.url, "protocol", env=environment))
    assert said == {**ACCOUNT, "protocol": "HTTP/2.0"}


def test_node(secure: Running, authority: Authority) -> None:
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(authority.certificate)}
    assert json.loads(run(tool("node"), str(CLIENTS / "client.mjs"), secure.url, env=environment)) == ACCOUNT
