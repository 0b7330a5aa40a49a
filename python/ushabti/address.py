"""Where a server listens, as a value that can be shown, asked, and used to end the server."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, Self

__all__ = ["Address", "listening"]

# Hosts that stand for every address of the machine, and what a client on it asks instead.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


class Address:
    """Where a started server listens. As a context manager it stops the server at the end of the block.

    Attributes:
        scheme: ``https`` where TLS is spoken, else ``http``.
        host: The IP address, without brackets; the path for a Unix socket.
        port: The port; 0 for a Unix socket.
        url: What a client on this machine asks for: ``http://127.0.0.1:8080``; empty for a Unix socket.
    """

    __slots__ = ("_shown", "_stop", "host", "port", "scheme", "url")

    def __init__(self, bound: str, stop: Callable[[], object], scheme: Literal["http", "https"] = "http") -> None:
        self.scheme = scheme
        self._stop = stop
        self._shown = bound
        if bound.startswith(("unix:", "fd:")):
            self.host, self.port, self.url = bound.removeprefix("unix:"), 0, ""
            return
        host, _, port = bound.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        self.url = f"{scheme}://{_LOOPBACK.get(host, host)}:{port}"
        self._shown = f"{scheme}://{bound}"

    def __str__(self) -> str:
        """The address as it was bound: ``http://0.0.0.0:8080`` or ``unix:app.sock``."""
        return self._shown

    def __repr__(self) -> str:
        return f"<Address {self}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()


def listening(addresses: Sequence[Address], redirects: Sequence[Address], fingerprint: str | None) -> str:
    """What an operator is told of a server that has started.

    Args:
        addresses: Where it listens.
        redirects: Where it sends clients to these.
        fingerprint: By which to know the certificate that was made for it, if one was.
    """
    text = f"listening on {', '.join(map(str, addresses))}"
    if redirects:
        text += f", redirecting from {', '.join(map(str, redirects))}"
    if fingerprint is not None:
        text += f", with a self-signed certificate (SHA-256 {fingerprint})"
    return text
