"""The options of TLS: a part of the schema of :mod:`ushabti.options`; and what they come to together."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from ushabti.schema import Option
from ushabti.values import ADDRESSES, HOSTS, PATH, PATHS, choice, count, or_none, refusal

__all__ = ["TLSOptions", "read_together", "with_hosts_of"]

_Path = str | os.PathLike[str]


class TLSOptions(TypedDict, total=False):
    """What ``Server(app, **options)`` takes of TLS, and command line, environment and file as well.

    With ``tls_cert`` or ``tls_self_signed``, every address that the server listens on speaks TLS, but for ``admin``.
    """

    tls_cert: Annotated[
        _Path | Sequence[_Path] | None,
        Option(
            PATHS,
            None,
            "TLS",
            "PEM file of a certificate and its issuers'; several are told apart by the names in them (SNI), and the "
            "first is shown where none fits",
            "without a certificate there is no TLS",
        ),
    ]
    tls_key: Annotated[
        _Path | Sequence[_Path] | None,
        Option(
            PATHS,
            None,
            "TLS",
            "PEM file of the key; one for each tls_cert, in the same order",
            "a key that is named nowhere is looked for in the file of its certificate",
        ),
    ]
    tls_self_signed: Annotated[
        bool | str | Sequence[str],
        Option(
            HOSTS,
            "off",
            "TLS",
            "Make a certificate at the start, for development: on, or its hosts and addresses, with commas",
            "no client trusts it unasked; on is for localhost, its addresses and this machine's name",
        ),
    ]
    tls_client_ca: Annotated[
        _Path | None,
        Option(
            PATH,
            None,
            "TLS",
            "PEM file of the authorities whose certificates clients may show",
            "whom to trust is the operator's to say; the system's authorities name servers, and no clients",
        ),
    ]
    tls_client_auth: Annotated[
        Literal["off", "optional", "required"],
        Option(
            choice("off", "optional", "required"),
            "off",
            "TLS",
            "Whether clients are asked for a certificate (optional), and let in without one (not if required)",
            "browsers ask their user which one to show as soon as a server asks for one",
        ),
    ]
    tls_redirect: Annotated[
        str | list[str] | tuple[str, ...] | None,
        Option(
            or_none(ADDRESSES),
            None,
            "TLS",
            "Addresses, as for bind, where plain HTTP is told to come by TLS (308)",
            "a port more is a choice; who types a name without https:// asks port 80",
        ),
    ]
    tls_redirect_port: Annotated[
        int | None,
        Option(
            or_none(count(1, 65_535)),
            None,
            "TLS",
            "Port that clients of tls_redirect are sent to, where it is not the one that this server listens on",
            "the port that this server speaks TLS on is the clients' too, unless something stands between",
        ),
    ]
    max_handshakes: Annotated[
        int,
        Option(
            count(1, 1_000_000),
            1000,
            "TLS",
            "TLS handshakes unfinished at once; one more cuts the oldest, if that began more than a second ago",
            "some seconds' work of one core; who means it has finished by then, and who does not keeps nobody out",
        ),
    ]


def read_together(values: dict[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Takes the options of TLS, each read, out of ``values``; returns them as ``Settings`` has them.

    Raises:
        ConfigError: One does not fit the others.
    """

    def refuse(name: str, advice: str) -> None:
        shown = taken[name] if isinstance(taken[name], str | int) else ", ".join(taken[name])
        raise refusal(labels.get(name, name), shown, advice)

    taken = {name: values.pop(name) for name in TLSOptions.__annotations__}
    certificates, keys, hosts = taken["tls_cert"], taken["tls_key"], taken["tls_self_signed"]
    ca, auth = taken["tls_client_ca"], taken["tls_client_auth"]
    if hosts and certificates:
        refuse(
            "tls_cert",
            f"a certificate is there, so none has to be made; leave out {_called('tls_self_signed', labels)}",
        )
    if keys and not certificates:
        refuse("tls_key", f"write {_called('tls_cert', labels)} along with it")
    if keys and len(keys) != len(certificates):
        refuse("tls_key", f"write one key for each certificate; there are {len(certificates)} certificates")
    if not certificates and not hosts:
        advice = f"there is no TLS without {_called('tls_cert', labels)} or {_called('tls_self_signed', labels)}"
        for name in ("tls_client_ca", "tls_redirect"):
            if taken[name]:
                refuse(name, advice)
        if auth != "off":
            refuse("tls_client_auth", advice)
    if auth != "off" and not ca:
        refuse("tls_client_auth", f"whose certificates? Write {_called('tls_client_ca', labels)}")
    if ca and auth == "off":
        refuse(
            "tls_client_ca", f"nobody is asked for a certificate; write {_called('tls_client_auth', labels)} as well"
        )
    if taken["tls_redirect_port"] and not taken["tls_redirect"]:
        refuse("tls_redirect_port", f"nobody is sent there; write {_called('tls_redirect', labels)} as well")
    for address in taken["tls_redirect"] or ():
        if ":" not in address:
            advice = 'write addresses such as "0.0.0.0:80", "[::]:80", "unix:app.sock" or "fd://3"'
            raise refusal(labels.get("tls_redirect", "tls_redirect"), address, advice)
    return {
        "tls_certificates": tuple(zip(certificates, keys or certificates, strict=True)),
        "tls_self_signed": hosts or None,
        # Absolute, as the paths of certificates are.
        "tls_client_ca": os.path.abspath(ca) if ca else None,
        "tls_client_auth": auth,
        "tls_redirect": tuple(taken["tls_redirect"] or ()),
        "tls_redirect_port": taken["tls_redirect_port"],
        "max_handshakes": taken["max_handshakes"],
    }


def with_hosts_of(addresses: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """The hosts, and those that addresses to listen on name: clients of these would ask for no other."""
    named = [
        address.rpartition(":")[0].strip("[]") for address in addresses if not address.startswith(("unix:", "fd:"))
    ]
    return list(dict.fromkeys((*hosts, *(host for host in named if host not in ("", "0.0.0.0", "::")))))


def _called(name: str, labels: Mapping[str, str]) -> str:
    """What the operator would call another option than the one that is wrong: as that is called."""
    is_line = any(label.startswith("--") for label in labels.values())
    return labels.get(name) or ("--" + name.replace("_", "-") if is_line else name)
