"""How the value of an option is read, whichever source it comes from, and how it is shown again.

Each reader takes what somebody wrote and the name to call it by, and returns the value or raises ``ConfigError`` with
the name, the value and what to write instead.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ushabti.errors import ConfigError

__all__ = [
    "ADDRESS",
    "ADDRESSES",
    "CONNECTIONS",
    "DEFAULT_LANE",
    "FIELD",
    "FLAG",
    "HOSTS",
    "LANES",
    "ORIGINS",
    "PATH",
    "PATHS",
    "RESERVED_LANE",
    "TEXT",
    "WORKERS",
    "Kind",
    "choice",
    "count",
    "descriptors_max",
    "nearest",
    "or_none",
    "or_off",
    "parse_seconds",
    "parse_size",
    "refusal",
    "seconds",
    "size",
    "unknown_name",
]

# Threads of a pool that says "auto". The minimum answers a light load with warm caches; the maximum is what handlers
# that wait may take: of 256 stacks some 20 MB are really used.
_WORKERS_AUTO = (4, 256)
_WORKERS_MAX = 10_000
# Descriptors that connections leave alone: files, database connections and pipes of the application.
_DESCRIPTORS_KEPT = 512
_SIZE_MAX = 2**63 - 1

#: The lane of routes that name none, which ``workers`` is for.
DEFAULT_LANE = "default"
#: The lane with one worker for what must be answered when all others are busy. It is there as soon as a route names it.
RESERVED_LANE = "reserved"

_SIZE = re.compile(r"\s*([0-9]+)\s*([A-Za-z]*)\s*")
_UNITS = {"": 1, "b": 1, "bytes": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-z]*)\s*")
_TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HOST = re.compile(r"(?:\*\.)?(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,126}")
_LANE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?")


def parse_size(value: int | str, name: str) -> int:
    """Reads a size in bytes: a number, or text with a unit such as ``"32 KiB"``, ``"16MiB"`` or ``"5 MB"``.

    Args:
        value: What the user wrote.
        name: What it was written for; begins the message of the error.

    Raises:
        ConfigError: It is no size.
    """
    number = -1
    if _is_whole(value):
        number = int(value)
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)) and match[2].lower() in _UNITS:
        # Longer numbers are out of range whatever the unit, and Python refuses to convert very long ones.
        number = int(match[1]) * _UNITS[match[2].lower()] if len(match[1]) < 20 else -1
    if not 0 <= number <= _SIZE_MAX:
        raise refusal(name, value, 'write bytes as a whole number, or text such as "32 KiB", "16 MiB" or "2 GB"')
    return number


def parse_seconds(value: float | str, name: str) -> float:
    """Reads a time in seconds: a number, or text such as ``"10"``, ``"1.5 s"``, ``"500 ms"`` or ``"2 min"``.

    Args:
        value: What the user wrote.
        name: What it was written for; begins the message of the error.

    Raises:
        ConfigError: It is no time, negative, infinite or not a number.
    """
    time = -1.0
    if _is_whole(value) or isinstance(value, float):
        # A whole number may be too large for a float.
        time = float(value) if -1 <= value <= _SIZE_MAX else -1.0  # type: ignore[operator]
    elif isinstance(value, str) and (match := _SECONDS.fullmatch(value)) and match[2] in _TIMES:
        time = float(match[1]) * _TIMES[match[2]]
    if not 0 <= time < math.inf:
        raise refusal(name, value, 'write seconds as a number, or text such as "10 s", "500 ms" or "2 min"')
    return time


def refusal(name: str, value: object, advice: str) -> ConfigError:
    """The error for a value that cannot be."""
    return ConfigError(f"{name} is {value!r}: {advice}")


def unknown_name(name: str, known: Iterable[str], where: str = "") -> ConfigError:
    """The error for an option that does not exist, with the nearest one that does."""
    known = list(known)
    near = nearest(name, known)
    advice = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
    return ConfigError(f"there is no option {name}{where}: {advice}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` is most likely meant to be; None if it resembles none."""
    import difflib  # Only ever needed to explain a mistake.

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of value.

    Attributes:
        metavar: What stands for the value in ``--help``.
        read: From what was written, and the name to use in a message, to the value. Raises ``ConfigError``.
        show: From the value to text that could be written again.
    """

    metavar: str
    read: Callable[[Any, str], Any]
    show: Callable[[Any], str] = str

    def show_default(self, default: object) -> str:
        """The default of an option, as ``--help`` tells it."""
        return str(default) if default == "auto" else self.show(self.read(default, ""))


def count(low: int, high: int) -> Kind:
    """A whole number from ``low`` to ``high``."""

    def read(value: Any, name: str) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) else value
        if not _is_whole(number) or not low <= number <= high:
            raise refusal(name, value, f"write a whole number from {low} to {high}")
        return int(number)

    return Kind("N", read)


def size(low: int, high: int = _SIZE_MAX) -> Kind:
    """A size in bytes, from ``low`` to ``high``."""

    def read(value: Any, name: str) -> int:
        number = parse_size(value, name)
        if not low <= number <= high:
            raise refusal(name, value, f"write a size from {_show_size(low)} to {_show_size(high)}")
        return number

    return Kind("SIZE", read, _show_size)


def seconds(low: float, high: float) -> Kind:
    """A time in seconds, from ``low`` to ``high``."""

    def read(value: Any, name: str) -> float:
        time = parse_seconds(value, name)
        if not low <= time <= high:
            raise refusal(name, value, f"write seconds from {low:g} to {high:g}")
        return time

    return Kind("SECONDS", read, lambda value: f"{value:g} s")


def or_off(kind: Kind) -> Kind:
    """The same, or ``"off"`` or ``None`` for none."""

    def read(value: Any, name: str) -> Any:
        return None if value is None or value == "off" else kind.read(value, name)

    return Kind(f"{kind.metavar}|off", read, lambda value: "off" if value is None else kind.show(value))


def or_none(kind: Kind) -> Kind:
    """The same, or ``None`` or empty text for none."""

    def read(value: Any, name: str) -> Any:
        return None if value is None or value == "" else kind.read(value, name)

    return Kind(kind.metavar, read, lambda value: kind.show(value) if value else "none")


def choice(*words: str) -> Kind:
    """One of these words."""

    def read(value: Any, name: str) -> str:
        if value not in words:
            raise refusal(name, value, f"write one of {', '.join(words)}")
        return str(value)

    return Kind("|".join(words), read)


def descriptors_max() -> int:
    """How many descriptors the system lets this process have open (``ulimit -n``)."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**20


def _is_whole(value: object) -> bool:
    # True and False are ints to Python, and a mistake here.
    return isinstance(value, int) and not isinstance(value, bool)


def _show_size(number: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        many, rest = divmod(number, _UNITS[unit.lower()])
        if many and not rest:
            return f"{many} {unit}"
    return f"{number} bytes"


def _read_workers(value: Any, name: str) -> tuple[int, int]:
    if value == "auto":
        return _WORKERS_AUTO
    low = high = value
    if isinstance(value, str) and (match := _RANGE.fullmatch(value)):
        low, high = int(match[1]), int(match[2] or match[1])
    elif isinstance(value, tuple | list) and len(value) == 2:
        low, high = value
    if not _is_whole(low) or not _is_whole(high) or not 1 <= low <= high <= _WORKERS_MAX:
        advice = f'write "auto", a number of threads, or a range such as "4-64", from 1 to {_WORKERS_MAX}'
        raise refusal(name, value, advice)
    return low, high


def _show_workers(value: tuple[int, int]) -> str:
    low, high = value
    return str(low) if low == high else f"{low}-{high}"


def _read_lanes(value: Any, name: str) -> tuple[tuple[str, int, int], ...]:
    if isinstance(value, str):
        pairs = [] if value == "none" else [one.split("=") for one in value.replace(",", " ").split()]
        if not all(len(pair) == 2 for pair in pairs):
            raise refusal(name, value, 'write names with a number of threads, such as "reports=4,uploads=2-8"')
        value = dict(pairs)
    if not isinstance(value, Mapping):
        raise refusal(name, value, 'write names with a number of threads, such as {"reports": 4}')
    lanes = []
    for lane, threads in value.items():
        if not isinstance(lane, str) or not _LANE.fullmatch(lane) or lane in (DEFAULT_LANE, RESERVED_LANE):
            advice = f"a lane has a name of letters, digits, - and _, other than {DEFAULT_LANE} and {RESERVED_LANE}"
            raise refusal(name, lane, advice)
        low, high = _read_workers(threads, f"{name}: {lane}")
        # A single number is the lane's share: it need not be taken up all the time.
        is_single = _is_whole(threads) or (isinstance(threads, str) and "-" not in threads and threads != "auto")
        lanes.append((lane, 1 if is_single else low, high))
    return tuple(lanes)


def _show_lanes(value: tuple[tuple[str, int, int], ...]) -> str:
    return ", ".join(f"{lane}={_show_workers((low, high))}" for lane, low, high in value) or "none"


def _read_connections(value: Any, name: str) -> int:
    descriptors = descriptors_max()
    if value is None or value == "auto":
        # Where there are few descriptors altogether, a quarter is left.
        return max(1, descriptors - min(_DESCRIPTORS_KEPT, descriptors // 4))
    number: int = count(1, 10_000_000).read(value, name)
    if number > descriptors:
        advice = f"this process may have {descriptors} descriptors open; raise that (ulimit -n) or write less"
        raise refusal(name, value, advice)
    return number


def _read_text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise refusal(name, value, "write text")
    return value


def _read_field(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value):
        raise refusal(name, value, "write printable ASCII text, or empty text for no field")
    return value


def _read_path(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    try:
        path = os.fsdecode(value)
    except TypeError:
        path = "\0"
    if "\0" in path:
        raise refusal(name, value, "write the path of a file")
    return path


def _read_paths(value: Any, name: str) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    # Absolute: they are read again later, and the process may be in another folder then.
    paths = [
        os.path.abspath(path)
        for one in given
        if (path := _read_path(one.strip() if isinstance(one, str) else one, name))
    ]
    if len(paths) != len(given):
        raise refusal(name, value, "write paths of files, with commas between them")
    return tuple(paths)


def _read_hosts(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, bool) or value in ("on", "off", "true", "false"):
        return _own_hosts() if _read_flag(value, name) else ()
    hosts = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(hosts, list | tuple) or not hosts or not all(isinstance(host, str) for host in hosts):
        raise refusal(name, value, 'write on, off, or hosts and addresses such as "localhost, 192.168.1.7"')
    for host in hosts:
        if not _HOST.fullmatch(host) and not _is_ip(host):
            raise refusal(name, host, "that is no host name and no address")
    return tuple(dict.fromkeys(hosts))


def _own_hosts() -> tuple[str, ...]:
    """By which names a server of this machine is reached by whoever develops it."""
    import socket  # Only ever needed for a certificate of development.

    machine = socket.gethostname().lower()
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", *([machine] if _HOST.fullmatch(machine) else []))))


def _is_ip(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _read_addresses(value: Any, name: str) -> list[str]:
    addresses = value.replace(",", " ").split() if isinstance(value, str) else value
    if (
        not isinstance(addresses, list | tuple)
        or not addresses
        or not all(isinstance(one, str) and one for one in addresses)
    ):
        raise refusal(name, value, 'write addresses such as "0.0.0.0:80", "[::]:80", "unix:app.sock" or "fd://3"')
    return list(addresses)


def _read_address(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or ":" not in value or value.startswith("fd:"):
        raise refusal(name, value, 'write an address such as "unix:admin.sock" or "127.0.0.1:9100"')
    return value


def _read_flag(value: Any, name: str) -> bool:
    read = {"true": True, "on": True, "false": False, "off": False}.get(value) if isinstance(value, str) else value
    if not isinstance(read, bool):
        raise refusal(name, value, "write on or off")
    return read


def _read_origins(value: Any, name: str) -> tuple[str, ...]:
    origins = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(origins, list | tuple) or not origins or not all(isinstance(one, str) for one in origins):
        raise refusal(name, value, 'write "same", "any", or origins such as "https://shop.example"')
    origins = tuple(origin.lower() for origin in origins)
    if origins in (("same",), ("any",)):
        return origins
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise refusal(name, origin, 'an origin is a scheme and a host, such as "https://shop.example:8443"')
    # Browsers leave the scheme's own port out (RFC 6454 section 6.2).
    return tuple(origin.removesuffix(_DEFAULT_PORTS.get(origin.partition("://")[0], "")) for origin in origins)


#: One listening address; empty for none.
ADDRESS = Kind("unix:PATH|HOST:PORT", _read_address, lambda value: value or "none")
#: Listening addresses: a list, or text with blanks or commas between them.
ADDRESSES = Kind("ADDRESS", _read_addresses, ", ".join)
#: A number of connections that the system's limit of descriptors allows; "auto" derives it from that.
CONNECTIONS = Kind("N|auto", _read_connections)
#: The value of a header field; empty for none.
FIELD = Kind("TEXT", _read_field, lambda value: value or "none")
#: Yes or no.
FLAG = Kind("on|off", _read_flag, lambda value: "on" if value else "off")
#: Host names and IP addresses, with "on" for those of this machine: a list, or text with blanks or commas; or "off".
HOSTS = Kind("[=on|off|HOST]", _read_hosts, lambda value: ", ".join(value) or "off")
#: Names of lanes with the least and the most threads of each: a dictionary, or text.
LANES = Kind("NAME=N", _read_lanes, _show_lanes)
#: Where pages come from (RFC 6454): a list, or text with blanks or commas between them; or one of two words.
ORIGINS = Kind("same|any|ORIGIN", _read_origins, ", ".join)
#: The path of a file; empty for none.
PATH = Kind("PATH", _read_path, lambda value: value or "none")
#: Paths of files: a list, or text with commas between them; made absolute, none if it is empty.
PATHS = Kind("PATH", _read_paths, lambda value: ", ".join(value) or "none")
#: Any text but the empty one.
TEXT = Kind("TEXT", _read_text)
#: The least and the most threads of a pool.
WORKERS = Kind("N|N-N|auto", _read_workers, _show_workers)
