r"""The language of the cases: raw bytes in, raw bytes out, and what becomes of the connection.

A case is a file; what it proves is its name. Lines that begin with ``#`` say why, and are skipped anywhere. Sections
follow one another, and are gone through in order on one connection::

    >>>                          bytes to send: what the next lines say, without their line ends
    POST /echo HTTP/1.1\r\n
    Host: a\r\n
    Content-Length: 5\r\n
    \r\n
    hello
    <<<                          one answer, interim ones included; ``<<< HEAD`` for the answer to a HEAD request
    200                          its status
    Content-Length: 5            a field that comes once, with this value
    Allow: /.*GET.*/             or with a value that matches this expression as a whole
    !Transfer-Encoding           a field that does not come
    = hello                      the body; ``=`` without more is the empty one
    ~ ^h.llo$                    or an expression that is found in it
    finish                       nothing more will be sent, but read (a half-closed connection)
    close                        the server has nothing more to say, and closes
    open                         the server goes on to answer on this connection

The last line of a case is ``close`` or ``open``. Bytes are written ``\r``, ``\n``, ``\t``, ``\0``, ``\\``, ``\s`` for a
space at a line's end, ``\xFF`` for any, and ``\{text*1000}`` for many. A first line ``# whole only: why`` keeps a case
from being sent byte by byte.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Case", "Close", "Expected", "Finish", "Open", "Send"]

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|\{(.*?)\*([0-9]+)\}|(.))", re.DOTALL)
_SIMPLE = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "s": " ", "\\": "\\"}


@dataclass
class Send:
    """Bytes to send."""

    data: bytes = b""


@dataclass
class Expected:
    """What one answer has to be."""

    to_head: bool
    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    body: bytes | None = None
    body_pattern: str | None = None


@dataclass
class Finish:
    """The client half-closes."""


@dataclass
class Close:
    """The server closes, and says nothing before."""


@dataclass
class Open:
    """The server answers another request."""


Step = Send | Expected | Finish | Close | Open


class Case:
    """One file, read.

    Attributes:
        name: The file's name with its folder: ``length/given_twice``.
        steps: What to do and to expect.
        is_whole_only: Whether the case means something only when its bytes come in one piece.

    Raises:
        ValueError: The file is not in this language.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"{path.parent.name}/{path.stem}"
        self.steps: list[Step] = []
        self.is_whole_only = False
        for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
            if line.startswith("#"):
                self.is_whole_only |= line.startswith("# whole only: ")
                continue
            try:
                self._read(line)
            except ValueError as problem:
                raise ValueError(f"{path.name}:{number}: {problem}") from problem
        if not self.steps or not isinstance(self.steps[-1], Close | Open):
            raise ValueError(f"{path.name}: the last line is 'close' or 'open'")

    def _read(self, line: str) -> None:
        sections: dict[str, Step] = {
            ">>>": Send(),
            "<<<": Expected(to_head=False),
            "<<< HEAD": Expected(to_head=True),
            "finish": Finish(),
            "close": Close(),
            "open": Open(),
        }
        last = self.steps[-1] if self.steps else None
        if line in sections:
            self.steps.append(sections[line])
        elif isinstance(last, Send):
            last.data += unescape(line)
        elif isinstance(last, Expected):
            _read_expectation(last, line)
        elif line:
            raise ValueError(f"{line!r} stands in no section")


def _read_expectation(expected: Expected, line: str) -> None:
    if not expected.status:
        expected.status = int(line)
    elif line.startswith("!"):
        expected.absent.append(line[1:])
    elif line.startswith("= ") or line == "=":
        expected.body = unescape(line[2:])
    elif line.startswith("~ "):
        expected.body_pattern = line[2:]
    elif ": " in line:
        name, _, value = line.partition(": ")
        expected.fields.append((name, value))
    else:
        raise ValueError(f"{line!r} is no expectation; an empty body is '='")


def unescape(text: str) -> bytes:
    """The bytes that a line stands for."""

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[3]:
            return unescape(match[2]).decode("latin-1") * int(match[3])
        if match[4] not in _SIMPLE:
            raise ValueError(f"there is no escape \\{match[4]}")
        return _SIMPLE[match[4]]

    return _ESCAPE.sub(replace, text).encode("latin-1")
