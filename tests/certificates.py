"""Certificates for tests, made by the program ``openssl``; whoever needs them is skipped where that is missing."""

import shutil
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

__all__ = ["Authority", "Identity", "trusting"]

DAY_S = 24 * 3600

_CONFIG = """
[ca]
default_ca = here
[here]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
organizationName = optional
[req]
prompt = no
distinguished_name = name
[name]
CN = {common_name}
O = Thebes
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:false
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = {usage}
{names}
"""

_KEYS = {
    "ecdsa": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
}


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path

    @property
    def options(self) -> dict[str, Any]:
        """What a server takes to show it."""
        return {"tls_cert": str(self.certificate), "tls_key": str(self.key)}

    @property
    def flags(self) -> tuple[str, ...]:
        """The same for the command line."""
        return ("--tls-cert", str(self.certificate), "--tls-key", str(self.key))

    @property
    def der(self) -> bytes:
        """The certificate as a client gets it."""
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())

    def copy_to(self, other: "Identity") -> None:
        """Puts the files in the place of others', as a program does that renews certificates."""
        for source, target in ((self.certificate, other.certificate), (self.key, other.key)):
            fresh = target.with_name(f"{target.name}.new")
            shutil.copy(source, fresh)
            fresh.replace(target)


class Authority:
    """Issues certificates."""

    def __init__(self, folder: Path, common_name: str = "Authority") -> None:
        if not shutil.which("openssl"):
            pytest.skip("openssl is not installed")
        self.folder = folder / common_name.lower()
        self.folder.mkdir()
        (self.folder / "index.txt").touch()
        self.certificate, self._key = self.folder / "authority.pem", self.folder / "authority.key"
        self._make_key(self._key, "ecdsa")
        config = self._configure(common_name)
        self._run(
            *("req", "-x509", "-new", "-config", config, "-extensions", "authority", "-days", "3650"),
            *("-key", self._key, "-out", self.certificate),
        )

    def issue(
        self,
        name: str,
        *hosts: str,
        holds: tuple[float, float] = (-1, 90),
        usage: Literal["serverAuth", "clientAuth"] = "serverAuth",
        key: Literal["ecdsa", "rsa"] = "ecdsa",
    ) -> Identity:
        """A certificate.

        Args:
            name: The common name, and the beginning of the files' names.
            hosts: For which it is, as ``openssl`` writes them: ``DNS:localhost``, ``IP:127.0.0.1``.
            holds: From when to when, in days from now.
            usage: Whom it is to name.
            key: The kind of key.
        """
        made = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request = self.folder / f"{name}.csr"
        self._make_key(made.key, key)
        config = self._configure(name, usage, hosts)
        self._run("req", "-new", "-config", config, "-key", made.key, "-out", request)
        dates = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * DAY_S)) for days in holds]
        self._run(
            *("ca", "-batch", "-notext", "-config", config, "-extensions", "leaf", "-startdate", dates[0]),
            *("-enddate", dates[1], "-cert", self.certificate, "-keyfile", self._key, "-in", request),
            *("-out", made.certificate),
        )
        return made

    def _configure(self, common_name: str, usage: str = "serverAuth", hosts: tuple[str, ...] = ()) -> Path:
        names = f"subjectAltName = {','.join(hosts)}" if hosts else ""
        config = self.folder / f"{common_name}.cnf"
        config.write_text(_CONFIG.format(folder=self.folder, common_name=common_name, usage=usage, names=names))
        return config

    def _make_key(self, path: Path, kind: str) -> None:
        self._run("genpkey", *_KEYS[kind], "-out", path)

    def _run(self, *arguments: str | Path) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def trusting(authority: Authority, identity: Identity | None = None) -> ssl.SSLContext:
    """A client that trusts the authority, and shows a certificate if it has one."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context
