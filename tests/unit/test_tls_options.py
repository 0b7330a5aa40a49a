"""The options of TLS, and how they go together."""

import re
from pathlib import Path
from typing import Any

import pytest

from ushabti.config import Settings
from ushabti.errors import ConfigError
from ushabti.tls_options import with_hosts_of


def read(**options: Any) -> Settings:
    return Settings.from_options(options)


def test_there_is_no_tls_unless_asked_for() -> None:
    settings = read()
    assert not settings.is_tls
    assert (settings.tls_certificates, settings.tls_self_signed, settings.tls_redirect) == ((), None, ())
    assert settings.shown()["tls_cert"] == settings.shown()["tls_key"] == "none"
    assert settings.shown()["tls_self_signed"] == "off"


@pytest.mark.parametrize(
    ("certificates", "keys", "pairs"),
    [
        ("/a.pem", "/a.key", [("/a.pem", "/a.key")]),
        (Path("/a.pem"), Path("/a.key"), [("/a.pem", "/a.key")]),
        ("/a.pem", None, [("/a.pem", "/a.pem")]),
        ("/a.pem, /b.pem", "/a.key,/b.key", [("/a.pem", "/a.key"), ("/b.pem", "/b.key")]),
        (["/a.pem", Path("/b.pem")], ("/a.key", "/b.key"), [("/a.pem", "/a.key"), ("/b.pem", "/b.key")]),
        (["/a,1.pem"], ["/a 1.key"], [("/a,1.pem", "/a 1.key")]),
    ],
)
def test_certificates_and_keys_go_in_pairs(certificates: Any, keys: Any, pairs: Any) -> None:
    settings = read(tls_cert=certificates, tls_key=keys)
    assert settings.is_tls
    assert list(settings.tls_certificates) == pairs
    assert settings.shown()["tls_cert"] == ", ".join(certificate for certificate, _ in pairs)


def test_paths_hold_wherever_the_process_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read(tls_cert="a.pem", tls_client_ca="ca.pem", tls_client_auth="required")
    assert settings.tls_certificates == ((str(tmp_path / "a.pem"),) * 2,)
    assert settings.tls_client_ca == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tls_key": "/a.key"}, "tls_key is '/a.key': write tls_cert along with it"),
        ({"tls_cert": ["/a", "/b"], "tls_key": "/a.key"}, "tls_key is '/a.key': write one key for each certificate"),
        ({"tls_cert": "/a", "tls_self_signed": True}, "tls_cert is '/a': a certificate is there"),
        (
            {"tls_client_ca": "/ca", "tls_client_auth": "required"},
            "tls_client_ca is '/ca': there is no TLS without tls_cert or tls_self_signed",
        ),
        (
            {"tls_client_auth": "required"},
            "tls_client_auth is 'required': there is no TLS without tls_cert or tls_self_signed",
        ),
        (
            {"tls_redirect": "127.0.0.1:80"},
            "tls_redirect is '127.0.0.1:80': there is no TLS without tls_cert or tls_self_signed",
        ),
        ({"tls_self_signed": True, "tls_redirect": "bad address"}, "tls_redirect is 'bad': write addresses such as"),
        (
            {"tls_cert": "/a", "tls_client_auth": "optional"},
            "tls_client_auth is 'optional': whose certificates? Write tls_client_ca",
        ),
        (
            {"tls_cert": "/a", "tls_client_ca": "/ca"},
            "tls_client_ca is '/ca': nobody is asked for a certificate; write tls_client_auth as well",
        ),
        ({"tls_cert": 1}, "tls_cert is 1: write the path of a file"),
        ({"tls_cert": "/a,,/b"}, "tls_cert is '/a,,/b': write paths of files, with commas between them"),
        ({"tls_cert": "/a\0"}, "tls_cert is '/a\\x00': write the path of a file"),
        ({"tls_self_signed": "so/so"}, "tls_self_signed is 'so/so': that is no host name and no address"),
        ({"tls_self_signed": []}, "tls_self_signed is []: write on, off, or hosts and addresses"),
        ({"tls_self_signed": 1}, "tls_self_signed is 1: write on, off, or hosts and addresses"),
        ({"tls_self_signed": True, "tls_redirect": 80}, "tls_redirect is 80: write addresses such as"),
        (
            {"tls_self_signed": True, "tls_redirect_port": 443},
            "tls_redirect_port is 443: nobody is sent there; write tls_redirect as well",
        ),
        ({"tls_redirect_port": 70000}, "tls_redirect_port is 70000: write a whole number from 1 to 65535"),
        ({"tls_client_auth": "yes"}, "tls_client_auth is 'yes': write one of off, optional, required"),
        ({"max_handshakes": 0}, "max_handshakes is 0: write a whole number from 1 to 1000000"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(sentence)):
        read(**options)


def test_an_operator_is_told_in_the_words_of_the_command_line() -> None:
    labels = {"tls_key": "--tls-key"}
    with pytest.raises(ConfigError, match=r"^--tls-key is '/a\.key': write --tls-cert along with it$"):
        Settings.from_options({"tls_key": "/a.key"}, labels)
    labels = {"tls_redirect": "--tls-redirect"}
    with pytest.raises(ConfigError, match=r"^--tls-redirect is '80': there is no TLS without --tls-cert or --tls-self"):
        Settings.from_options({"tls_redirect": "80"}, labels)
    with pytest.raises(ConfigError, match=r"^--tls-redirect is '80': write addresses such as \"0\.0\.0\.0:80\""):
        Settings.from_options({"tls_self_signed": True, "tls_redirect": "80"}, labels)


@pytest.mark.parametrize("on", [True, "on", "true"])
def test_a_certificate_for_development_is_for_this_machine(on: Any) -> None:
    settings = read(tls_self_signed=on)
    assert settings.is_tls
    assert settings.tls_self_signed is not None
    assert settings.tls_self_signed[:3] == ("localhost", "127.0.0.1", "::1")


@pytest.mark.parametrize("off", [False, "off", "false"])
def test_none_is_made_where_that_is_off(off: Any) -> None:
    assert not read(tls_self_signed=off).is_tls


@pytest.mark.parametrize(
    ("hosts", "wanted"),
    [
        ("a.example, 192.0.2.7", ("a.example", "192.0.2.7")),
        (["*.a.example", "2001:db8::1", "*.a.example"], ("*.a.example", "2001:db8::1")),
    ],
)
def test_its_hosts_can_be_chosen(hosts: Any, wanted: Any) -> None:
    settings = read(tls_self_signed=hosts)
    assert settings.tls_self_signed == wanted
    assert settings.shown()["tls_self_signed"] == ", ".join(wanted)


def test_hosts_that_are_listened_on_are_among_them() -> None:
    addresses = [
        "192.0.2.7:443",
        "my_host:80",
        "[2001:db8::1]:443",
        "0.0.0.0:80",
        "[::]:80",
        ":81",
        "unix:app.sock",
        "fd://3",
    ]
    assert with_hosts_of(addresses, ("localhost", "192.0.2.7")) == ["localhost", "192.0.2.7", "my_host", "2001:db8::1"]


@pytest.mark.parametrize("where", ["127.0.0.1:80", ["127.0.0.1:80"], ("127.0.0.1:80",)])
def test_addresses_that_redirect_are_read_as_all_addresses(where: Any) -> None:
    settings = read(tls_self_signed=True, tls_redirect=where)
    assert settings.tls_redirect == ("127.0.0.1:80",)
    assert settings.shown()["tls_redirect"] == "127.0.0.1:80"
    assert settings.shown()["tls_redirect_port"] == "none"


def test_the_port_that_clients_are_sent_to_can_be_told() -> None:
    settings = read(tls_self_signed=True, tls_redirect="127.0.0.1:80", tls_redirect_port="443")
    assert settings.tls_redirect_port == 443
    assert settings.shown()["tls_redirect_port"] == "443"
