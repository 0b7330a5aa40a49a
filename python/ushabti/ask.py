"""Asks the admin address of a running server, for the command line."""

import http.client
import socket

from ushabti.errors import ConfigError

__all__ = ["ask"]

# A server whose handlers compute gives its turn to the admin's threads late, but in seconds at worst.
_PATIENCE_S = 30.0

# Hosts that stand for every address of the machine, and what is asked instead.
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


class _Connection(http.client.HTTPConnection):
    """A connection of HTTP over whatever socket the address names."""

    def __init__(self, admin: str) -> None:
        super().__init__("admin", timeout=_PATIENCE_S)
        self._admin = admin

    def connect(self) -> None:
        if self._admin.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(_PATIENCE_S)
            self.sock.connect(self._admin.removeprefix("unix:"))
            return
        host, _, port = self._admin.rpartition(":")
        self.sock = socket.create_connection((_LOOPBACK.get(host, host).strip("[]"), int(port)), _PATIENCE_S)


def ask(admin: str, path: str) -> str:
    """What the server whose admin address this is answers to GET ``path``.

    Raises:
        ConfigError: Nobody answers there, or nobody who knows the path.
    """
    connection = _Connection(admin)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, ValueError, http.client.HTTPException) as problem:
        reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        raise ConfigError(f"no server answers at the admin address {admin}: {reason}") from problem
    finally:
        connection.close()
    if answer.status != 200:
        raise ConfigError(f"{admin} is no admin address of ushabti: it answers {answer.status} to {path}")
    return text
