"""The options of one server, read and checked: what came from constructor, command line, environment and file alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from ushabti.options import OPTIONS
from ushabti.tls_options import read_together
from ushabti.values import DEFAULT_LANE, refusal, unknown_name

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one server, checked and complete: sizes in bytes, times in seconds.

    The attributes bear the names of :class:`Options`, but for ``workers``, which is the first of the ``lanes``,
    ``max_connections``, which is resolved, and ``tls_cert`` with ``tls_key``.

    Attributes:
        lanes: Name, and the least and the most threads, of each lane; the first is that of routes which name none.
        tls_certificates: Paths of each certificate and its key.
        tls_self_signed: The hosts that a certificate is made for.
    """

    lanes: tuple[tuple[str, int, int], ...]
    connections_max: int
    thread_idle: float
    max_queue: int
    queue_timeout: float | None
    deadline: float | None
    max_per_client: int | None
    http2: bool
    http2_streams: int
    min_rate: int
    max_headers: int
    max_fields: int
    max_body: int
    backlog: int
    max_message: int
    websocket_ping: float
    websocket_idle: float
    websocket_outbox: int
    websocket_overflow: Literal["close", "drop", "wait"]
    websocket_compress: bool
    websocket_origins: tuple[str, ...]
    websocket_threads: int
    header_timeout: float
    body_timeout: float
    keep_alive: float
    write_timeout: float
    stop_timeout: float
    server_header: str | None
    access_log: Literal["off", "text", "json"]
    access_log_file: str | None
    admin: str | None
    tls_certificates: tuple[tuple[str, str], ...]
    tls_self_signed: tuple[str, ...] | None
    tls_client_ca: str | None
    tls_client_auth: Literal["off", "optional", "required"]
    tls_redirect: tuple[str, ...]
    tls_redirect_port: int | None
    max_handshakes: int

    @classmethod
    def from_options(cls, options: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Self:
        """Checks the options given and fills in the others.

        Args:
            options: Values by the names of :class:`Options`.
            labels: What messages call an option, where that is not its name: ``--max-queue``.

        Raises:
            ConfigError: A name is not known or a value cannot be.
        """
        labels = labels or {}
        for name in options:
            if name not in OPTIONS:
                raise unknown_name(name, OPTIONS)
        values = {
            name: option.kind.read(options.get(name, option.default), labels.get(name, name))
            for name, option in OPTIONS.items()
        }
        if values["access_log_file"] and "access_log" not in options:
            name = labels.get("access_log_file", "access_log_file")
            raise refusal(name, values["access_log_file"], "set access_log to text or json along with it")
        if values["websocket_idle"] <= values["websocket_ping"]:
            name, other = (labels.get(one, one) for one in ("websocket_idle", "websocket_ping"))
            raise refusal(
                name, options.get("websocket_idle", OPTIONS["websocket_idle"].default), f"must be longer than {other}"
            )
        values.update(read_together(values, labels))
        lanes = ((DEFAULT_LANE, *values.pop("workers")), *values.pop("lanes"))
        return cls(lanes=lanes, connections_max=values.pop("max_connections"), **values)

    @property
    def is_tls(self) -> bool:
        """Whether the server speaks TLS."""
        return bool(self.tls_certificates or self.tls_self_signed)

    def shown(self) -> dict[str, str]:
        """Every option that an operator may set, by name, as text."""
        resolved = {
            "workers": self.lanes[0][1:],
            "lanes": self.lanes[1:],
            "max_connections": self.connections_max,
            "tls_cert": [certificate for certificate, _ in self.tls_certificates],
            "tls_key": [key for _, key in self.tls_certificates],
            "tls_self_signed": self.tls_self_signed or (),
        }
        return {
            name: option.kind.show(resolved[name] if name in resolved else getattr(self, name))
            for name, option in OPTIONS.items()
        }
