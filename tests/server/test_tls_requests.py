"""What clients see of a server that speaks TLS, and its handlers of them."""

import hashlib
import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority, Identity, trusting
from tests.support import unverified
from ushabti import Request, Router
from ushabti.testing import Client, running

router = Router()


@router.get("/tls")
def tls(request: Request) -> dict[str, Any]:
    """Everything that a handler may know."""
    found = request.tls
    if found is None:
        return {"scheme": request.scheme, "tls": None}
    client = found.client_certificate
    names = ("subject", "common_name", "names", "issuer", "serial", "not_before", "not_after", "fingerprint")
    return {
        "scheme": request.scheme,
        "tls": {name: getattr(found, name) for name in ("version", "cipher", "server_name", "protocol")},
        "client": client and {**{name: getattr(client, name) for name in names}, "der": client.der.hex()},
        "shown": repr(found),
    }


@router.post("/echo")
def echo(request: Request) -> bytes:
    return request.body


@router.websocket("/ws")
def chat(ws: Any, event: Any, message: Any) -> None:
    if message is not None:
        ws.send(ws.request.tls.version if message.data == "version" else message)


def shown_to(port: int, name: str | None, context: ssl.SSLContext) -> bytes:
    """The certificate that a client is shown which asks for ``name``."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


def test_a_handler_sees_what_was_agreed_on(authority: Authority, identity: Identity) -> None:
    context = trusting(authority)
    context.set_alpn_protocols(["http/1.1"])
    with running(router, **identity.options, tls=context) as client:
        assert client.base.startswith("https://127.0.0.1:")
        seen = client.get("/tls").json()
    assert seen["scheme"] == "https"
    assert seen["tls"]["version"] == "1.3"
    assert seen["tls"]["cipher"].startswith("TLS_")
    assert (seen["tls"]["server_name"], seen["tls"]["protocol"], seen["client"]) == (None, "http/1.1", None)
    assert seen["shown"].startswith("<TLSInfo 1.3 TLS_")


def test_without_tls_there_is_nothing_to_see() -> None:
    with running(router) as client:
        assert client.get("/tls").json() == {"scheme": "http", "tls": None}


def test_the_name_that_the_client_asks_for_is_seen(authority: Authority, identity: Identity) -> None:
    with running(router, **identity.options) as client:
        base = client.base.replace("127.0.0.1", "localhost")
        with Client(base, tls=trusting(authority)) as named:
            assert named.get("/tls").json()["tls"]["server_name"] == "localhost"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("key", ["ecdsa", "rsa"])
def test_both_versions_are_spoken_with_both_kinds_of_key(authority: Authority, version: str, key: Any) -> None:
    made = authority.issue(f"{key}-{version}", "DNS:localhost", "IP:127.0.0.1", key=key)
    context = trusting(authority)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with running(router, **made.options, tls=context) as client:
        assert client.get("/tls").json()["tls"]["version"] == version[-3:].replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_old_versions_are_refused(identity: Identity) -> None:
    context = unverified()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with running(router, **identity.options) as client, pytest.raises(ssl.SSLError):
        shown_to(client.server.address.port, None, context)  # type: ignore[union-attr]


def test_bodies_of_any_size_go_both_ways(authority: Authority, identity: Identity) -> None:
    with running(router, **identity.options, tls=trusting(authority)) as client:
        for size in (0, 1, 16_383, 16_384, 16_385, 1_000_000):
            body = hashlib.shake_128(b"%d" % size).digest(size)
            assert client.post("/echo", body=body).body == body


def test_websockets_are_spoken_too(authority: Authority, identity: Identity) -> None:
    with running(router, **identity.options, tls=trusting(authority)) as client, client.websocket("/ws") as ws:
        for message in ("hello", "x" * 100_000, b"\0" * 70_000, ""):
            ws.send(message)
            assert ws.receive() == message
        # The request of a socket is packed away, and its TLS with it.
        ws.send("version")
        assert ws.receive() == "1.3"


def test_certificates_are_chosen_by_name(authority: Authority, identity: Identity) -> None:
    other = authority.issue("other", "DNS:other.example", "DNS:*.wild.example")
    options: dict[str, Any] = {
        "tls_cert": [identity.certificate, str(other.certificate)],
        "tls_key": f"{identity.key},{other.key}",
    }
    with running(router, **options) as client:
        port = client.server.address.port  # type: ignore[union-attr]
        for name, wanted in (
            ("localhost", identity),
            ("other.example", other),
            ("www.wild.example", other),
            ("wild.example", identity),
            ("a.b.wild.example", identity),
            ("unknown.example", identity),
            (None, identity),
        ):
            assert shown_to(port, name, unverified()) == wanted.der, name


def test_the_certificate_of_a_client_is_seen(authority: Authority, identity: Identity) -> None:
    ani = authority.issue("ani", "DNS:ani.example", "email:ani@example.com", usage="clientAuth")
    options = {**identity.options, "tls_client_ca": authority.certificate, "tls_client_auth": "required"}
    with running(router, **options, tls=trusting(authority, ani)) as client:
        seen = client.get("/tls").json()["client"]
    assert seen["subject"] == "O=Thebes,CN=ani" or seen["subject"] == "CN=ani,O=Thebes"
    assert seen["common_name"] == "ani"
    assert seen["names"] == ["ani.example", "ani@example.com"]
    assert "CN=Authority" in seen["issuer"]
    assert bytes.fromhex(seen["der"]) == ani.der
    assert seen["fingerprint"] == hashlib.sha256(ani.der).hexdigest()
    assert seen["not_after"] - seen["not_before"] == 91 * 24 * 3600
    int(seen["serial"], 16)


def test_who_shows_no_certificate_or_a_stranger_is_let_in_where_it_may(
    authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "Stranger").issue("eve", usage="clientAuth")
    ani = authority.issue("ani2", usage="clientAuth")
    late = authority.issue("late", usage="clientAuth", holds=(-9, -1))
    for auth, shows, is_let_in in (
        ("off", None, True),
        ("off", stranger, True),
        ("optional", None, True),
        ("optional", ani, True),
        ("optional", stranger, False),
        ("required", ani, True),
        ("required", None, False),
        ("required", stranger, False),
        ("required", late, False),
        # A certificate that names a server names no client.
        ("required", identity, False),
    ):
        asked: dict[str, Any] = (
            {} if auth == "off" else {"tls_client_ca": authority.certificate, "tls_client_auth": auth}
        )
        with running(router, **identity.options, **asked, tls=trusting(authority, shows)) as client:
            if is_let_in:
                seen = client.get("/tls").json()["client"]
                assert (seen is not None) == (auth != "off" and shows is not None), (auth, shows)
            else:
                # TLS 1.3: the client learns of it when it reads.
                with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                    client.get("/tls")


def test_a_certificate_for_development_is_made_at_the_start() -> None:
    with running(router, tls_self_signed=True) as client:
        server = client.server
        assert server is not None
        made = server._core.tls_self_signed_certificate()
        assert made == shown_to(server.address.port, None, unverified())
        assert hashlib.sha256(made or b"").hexdigest() in server._greeting()
        assert client.get("/tls").json()["scheme"] == "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=made)
        for host in ("localhost", "127.0.0.1"):
            with Client(client.base.replace("127.0.0.1", host), tls=context) as strict:
                assert strict.get("/tls").status == 200


def test_a_plain_listener_sends_clients_to_tls(authority: Authority, identity: Identity) -> None:
    with running(router, **identity.options, tls_redirect="127.0.0.1:0", tls=trusting(authority)) as client:
        server = client.server
        assert server is not None
        [plain] = server.redirect_addresses
        assert (plain.scheme, server.address.scheme) == ("http", "https")
        assert str(plain) in server._greeting()
        with Client(plain.url) as other:
            answer = other.post("/echo?a=%20b", body=b"lost")
            assert (answer.status, answer.headers["location"]) == (308, f"{client.base}/echo?a=%20b")
            assert other.get("/tls").status == 308
        assert client.get("/tls").status == 200


def test_clients_are_sent_to_the_port_that_they_know(identity: Identity) -> None:
    options = {**identity.options, "tls_redirect": "127.0.0.1:0", "tls_redirect_port": 8443}
    with running(router, **options) as client:
        assert client.server is not None
        [plain] = client.server.redirect_addresses
        with Client(plain.url) as other:
            assert other.get("/tls").headers["location"] == "https://127.0.0.1:8443/tls"


def test_plain_http_on_the_port_of_tls_is_told_so(identity: Identity) -> None:
    with running(router, **identity.options) as client, Client(client.base.replace("https", "http")) as plain:
        answer = plain.get("/tls")
        assert answer.status == 400
        assert "https://" in answer.text


def test_the_admin_address_stays_plain(authority: Authority, identity: Identity) -> None:
    with running(router, **identity.options, admin="127.0.0.1:0", tls=trusting(authority)) as client:
        server = client.server
        assert server is not None
        assert server.admin_address is not None
        with Client(server.admin_address.url) as admin:
            assert admin.get("/health").status == 200
        assert json.loads(client.get("/tls").body)["scheme"] == "https"
