"""What the fuzz targets begin with: the bytes of the wire cases, and a few inputs of what those cases do not have.

A fuzzer finds the grammar of HTTP by itself, given days. From requests that reach each rule it starts behind them.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.wire.case import Case, Send
from tools.steps import ROOT

CASES = ROOT / "tests" / "wire" / "cases"

# The first four bytes of most inputs are settings: see fuzz/src/settings.rs. Zeros are the plainest ones, the last bit
# cuts everywhere, the first ones choose tight limits.
_SETTINGS = (b"\0\0\0\0", b"\x05\0\0\x80", b"\x03\0\0\0")
# A masking key, as clients send one with each frame.
_KEY = b"\x37\xfa\x21\x3d"

_TEXTS = (b"", b"Hello", "grüß dich, 世界".encode(), b"a" * 300, b"abcabcabcabc" * 20, bytes(range(256)))

_ROUTES = (
    "GET /\nGET /a/b\nPOST /a/b\n\nGET /\nHEAD /a/b\nPUT /a/b\nOPTIONS /a/b\nOPTIONS *\nGET /a%2Fb\nGET /%zz\n",
    "GET /users/me\nPOST,PUT /users/{id}\n* /any\nPURGE /users/**\n\nGET /users/me\nPOST /users/me\nBREW /any\n"
    "DELETE /users/me\nOPTIONS /users/7\n",
    "GET /p/1.0\nGET /p/{x:0}\nGET /p/{x:float}\nGET /p/{x:int}\nGET /p/{x}0\nGET /p/1*\nGET /p/*.*\nGET /p/{x:path}\n"
    "\nGET /p/1.0\nGET /p/10\nGET /p/a/b\n",
    "GET /{a:path}/x/{b:path}\nGET /w/{a:path}/{n:int}\nGET /**/{u:uuid}\n\nGET /1/x/2/x/3\nGET /w/1/2/3\n"
    "GET /a/00112233-4455-6677-8899-aabbccddeeff\n",
    "GET /{x:1}/b\nHEAD /{y:2}/b\nGET /*mid*/b\nGET /pre*suf/**\nGET /{s:slug}.json\n\nHEAD /ab/b\nGET /a-mid-z/b\n"
    "GET /presuf/b/c\nGET /a_b.json\n",
)

_HANDSHAKES = (
    b"permessage-deflate; client_max_window_bits",
    b"permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits=15",
    b'permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits="1\\0"',
    b"foo; bar=baz ;qux , permessage-deflate;server_max_window_bits=8;client_max_window_bits=8",
    b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat, superchat\r\n",
)

_QUERIES = (
    b"a=1&b=%20&c=x+y&&d&e=%zz&f=%C3%A9&%ff=%e2%82",
    b"/a%2Fb/c//d/%E4%B8%96",
    b"example.com:8080",
    b"[2001:db8::1]:443",
    b"[v1f.a:b]",
    b"%41.example:0",
)


def seeds(target: str) -> Iterator[bytes]:
    """Inputs for a target, each a different one."""
    # Of deflate, the second byte chooses who compresses.
    made: dict[str, Iterator[bytes]] = {
        "head": _with_settings(_heads()),
        "chunked": _with_settings(_chunked_bodies()),
        "http": _with_settings(_requests()),
        "http2": (bytes([kind, 0, 0, 0]) + data for kind, data in _http2()),
        "handshake": _with_settings(iter(_HANDSHAKES)),
        "websocket": _with_settings(_frames()),
        "deflate": (bytes([0, mode, 0, 0]) + data for mode in range(3) for data in (*_TEXTS, *map(_deflated, _TEXTS))),
        "uri": iter(_QUERIES),
        "routes": (text.encode() for text in _ROUTES),
    }
    yield from dict.fromkeys(made[target])


def write(target: str, folder: Path) -> None:
    """Puts the seeds of a target into its corpus, beside what was found before."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (folder / f"seed-{number:03}").write_bytes(seed)


def _with_settings(inputs: Iterator[bytes]) -> Iterator[bytes]:
    for data in inputs:
        for settings in _SETTINGS:
            yield settings + data


def _requests() -> Iterator[bytes]:
    """All that each wire case sends on its connection."""
    for path in sorted(CASES.glob("*/*.http")):
        sent = b"".join(step.data for step in Case(path).steps if isinstance(step, Send))
        # Cases of limits send as much as the limit allows, in which there is nothing to be found but time.
        if len(sent) <= 4000:
            yield sent


def _heads() -> Iterator[bytes]:
    for sent in _requests():
        head, end, _ = sent.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        yield head + end


def _chunked_bodies() -> Iterator[bytes]:
    for sent in _requests():
        head, _, body = sent.partition(b"\r\n\r\n")
        if b"chunked" in head.lower():
            yield body


def _http2() -> Iterator[tuple[int, bytes]]:
    """What is read, and as what: 0 is a request's head, 1 an answer's, 2 frames."""
    for head in _heads():
        request_line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        method, _, rest = request_line.partition(b" ")
        fields = [b" ".join(line.lower().split(b": ", 1)) for line in lines]
        yield 0, b"\n".join([b":method " + method, b":path " + rest.partition(b" ")[0], *fields])
        yield 1, b"\n".join(fields)
    yield 0, b":method CONNECT\n:authority a:1"
    yield (
        0,
        b":method CONNECT\n:protocol websocket\n:path /ws\n:authority a\nhost A\ncookie a=1\nte trailers\ncookie b=2",
    )
    # A field block in three frames, a ping, content, the end of a stream, and settings of which half is there.
    headers = _http2_frame(1, 0, b"\x82") + _http2_frame(9, 0, b"\x86") + _http2_frame(9, 4, b"\x84")
    data = _http2_frame(0, 0, b"") + _http2_frame(0, 0, b"abc") + _http2_frame(0, 1, b"")
    yield 2, headers + _http2_frame(6, 0, bytes(8)) + data + _http2_frame(4, 0, bytes(12))[:15]
    yield 2, headers[:-3]


def _http2_frame(kind: int, flags: int, payload: bytes) -> bytes:
    """RFC 9113 section 4.1, on stream 1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags, 0, 0, 0, 1]) + payload


def _frames() -> Iterator[bytes]:
    hello = _frame(0x81, b"Hello")
    yield hello
    yield _frame(0x01, b"Hel") + _frame(0x89, b"ping") + _frame(0x80, b"lo") + _frame(0x88, b"\x03\xe8bye")
    yield _frame(0x82, bytes(200)) + _frame(0x8A, b"") + hello
    yield _frame(0x02, b"") + _frame(0x00, "ü".encode()[:1]) + _frame(0x80, "ü".encode()[1:])
    for text in _TEXTS:
        deflated = _deflated(text)
        half = len(deflated) // 2
        yield _frame(0xC2, deflated) + hello
        yield _frame(0x42, deflated[:half]) + _frame(0x89, b"") + _frame(0x80, deflated[half:]) + _frame(0xC1, deflated)
    yield from (_frame(first, b"\x03\xe8") for first in (0x88, 0x83, 0xA1, 0xC8, 0x08, 0x80))
    yield _frame(0x88, b"\x03") + hello
    yield _frame(0x88, b"\x03\xed") + hello
    # Not masked, and a length in more bytes than it needs.
    yield b"\x81\x05Hello"
    yield b"\x81\xfe\0\x05" + _KEY + _masked(b"Hello")


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    return bytes([first]) + size + _KEY + _masked(payload)


def _masked(payload: bytes) -> bytes:
    return bytes(byte ^ _KEY[at % 4] for at, byte in enumerate(payload))


def _deflated(text: bytes) -> bytes:
    """A compressed message (RFC 7692 section 7.2.1)."""
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
