"""Responses: what a handler may return, and how each of these values becomes status, header fields and body.

Text and bytes need nothing of this: the native side converts them itself, because most handlers return them. It reads
``status``, ``headers.pairs`` and ``body`` of a :class:`Response`, frames the body, and refuses what cannot be sent.
"""

import json.encoder
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from inspect import isasyncgen, iscoroutine
from typing import Any, Literal, Self
from urllib.parse import quote

from ushabti.errors import HTTPError

__all__ = ["Headers", "Response", "as_response", "converter", "from_error", "json_text"]

TEXT_TYPE = "text/plain; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"
BYTES_TYPE = "application/octet-stream"
JSON_TYPE = "application/json"

Body = str | bytes | bytearray | memoryview | Iterable[str | bytes]
HeaderSource = Mapping[str, str] | Iterable[tuple[str, str]]
Dumps = Callable[[Any], str | bytes]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
# The control characters that the native encoder refuses; horizontal tab is none of them (RFC 9110 section 5.5).
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_REDIRECTS = (301, 302, 303, 307, 308)
# Everything that a URI may hold (RFC 3986 section 2). The percent sign stays: a URL is encoded already, or nearly.
_URI_SAFE = "!#$%&'()*+,/:;=?@[]-._~"

_COOKIE_VALUE = re.compile(r'[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*|"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"')
_COOKIE_PATH = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")
_COOKIE_DOMAIN = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z.-]*[0-9A-Za-z])?")
# Longer ones are dropped by browsers without a word.
_COOKIE_BYTES_MAX = 4096

_WHAT_TO_RETURN = (
    "return str, bytes, dict, list, (body, status), (body, status, headers), an iterator of str or bytes, or a Response"
)

_encoder = json.encoder.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ascii_encoder = json.encoder.JSONEncoder(allow_nan=False, separators=(",", ":"))


def json_text(value: Any) -> bytes:
    """Encodes a value as JSON (RFC 8259), compact and in UTF-8.

    Raises:
        TypeError: Something in it has no form in JSON.
        ValueError: A number is not finite.
        RecursionError: The value contains itself.
    """
    text = "".join(_iterate_json(value, 0))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate, which came from JSON most likely, can only be written as an escape.
        return _ascii_encoder.encode(value).encode()


def _json_iterator() -> Callable[[Any, int], Iterable[str]]:
    """The native half of ``_encoder``, made once.

    ``JSONEncoder.encode`` makes it anew for each value, which takes three times as long as encoding a small one: 1.8 us
    against 0.4 us. It is made without the record of what is being encoded, because threads would share that.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return lambda value, _: _encoder.iterencode(value)
    made: Callable[[Any, int], Iterable[str]] = make(
        None,
        _encoder.default,
        json.encoder.encode_basestring,
        None,
        ":",
        ",",
        False,
        False,
        False,
    )
    return made


_iterate_json = _json_iterator()


class Headers(MutableMapping[str, str]):
    """Header fields: a mapping in which a name may stand several times and its case does not matter.

    ``h[name]`` and :meth:`get` give the first value, :meth:`all` every one. ``h[name] = value`` replaces every field
    of that name, :meth:`add` adds one. Names and values are checked when they are put in.

    Attributes:
        pairs: All fields in the order in which they are sent. Read it; what is written here is checked only when the
            response is sent.
    """

    __slots__ = ("pairs",)

    def __init__(self, fields: HeaderSource | None = None) -> None:
        self.pairs: list[tuple[str, str]] = []
        if fields is not None:
            for name, value in _pairs(fields):
                self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Adds a field behind those that there are.

        Raises:
            TypeError: The name or the value is not text.
            ValueError: The name is no token, or the value holds a control character, such as a line break.
        """
        self.pairs.append(_field(name, value))

    def set(self, name: str, value: str) -> None:
        """Puts one field in place of all that have this name. Raises what :meth:`add` raises."""
        pair = _field(name, value)
        wanted = name.lower()
        for at, (other, _) in enumerate(self.pairs):
            if other.lower() == wanted:
                self.pairs[at:] = [pair, *(pair for pair in self.pairs[at + 1 :] if pair[0].lower() != wanted)]
                return
        self.pairs.append(pair)

    def all(self, name: str) -> list[str]:
        """Returns every value of a name, in order."""
        wanted = name.lower()
        return [value for other, value in self.pairs if other.lower() == wanted]

    def __getitem__(self, name: str) -> str:
        wanted = name.lower()
        for other, value in self.pairs:
            if other.lower() == wanted:
                return value
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        wanted = name.lower()
        left = [pair for pair in self.pairs if pair[0].lower() != wanted]
        if len(left) == len(self.pairs):
            raise KeyError(name)
        self.pairs[:] = left

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(other.lower() == name.lower() for other, _ in self.pairs)

    def __iter__(self) -> Iterator[str]:
        """The distinct names, in order, each as it was first written."""
        return iter(self._distinct().values())

    def __len__(self) -> int:
        return len(self._distinct())

    def __repr__(self) -> str:
        return f"Headers({self.pairs!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return super().__eq__(other)
        return [(name.lower(), value) for name, value in self.pairs] == [
            (name.lower(), value) for name, value in other.pairs
        ]

    def _distinct(self) -> dict[str, str]:
        distinct: dict[str, str] = {}
        for name, _ in self.pairs:
            distinct.setdefault(name.lower(), name)
        return distinct


class Response:
    """The answer to a request: status, header fields and body (RFC 9110 section 6.4).

    Args:
        body: Text is sent as UTF-8. An iterable of text or bytes is sent piece by piece, as it gives them.
        status: The status code, 200 to 599.
        headers: Header fields, as a mapping or as pairs. Content-Length is written by the server.
        content_type: In place of the one that follows from the body: ``text/plain`` for text and for pieces,
            ``application/octet-stream`` for bytes. One among ``headers`` wins over that, too.

    Attributes:
        status: The status code.
        headers: The header fields; change them as you like until the handler returns.

    Raises:
        TypeError: The body is none, or a header field is not text.
        ValueError: A header field cannot be sent.
    """

    __slots__ = ("_body", "headers", "status")

    status: int
    headers: Headers
    _body: bytes | Iterable[str | bytes]

    def __init__(
        self,
        body: Body = b"",
        status: int = 200,
        headers: HeaderSource | None = None,
        content_type: str | None = None,
    ) -> None:
        self.status = _checked_status(status)
        self.headers = Headers(headers)
        self.body = body
        if content_type is not None:
            self.headers.set("content-type", content_type)
        elif self._body and "content-type" not in self.headers:
            is_bytes = isinstance(body, bytes | bytearray | memoryview)
            self.headers.pairs.append(("content-type", BYTES_TYPE if is_bytes else TEXT_TYPE))

    @property
    def body(self) -> bytes | Iterable[str | bytes]:
        """The body's bytes, or the iterable that gives them. Text that is assigned becomes bytes."""
        return self._body

    @body.setter
    def body(self, body: Body) -> None:
        if isinstance(body, bytes):
            self._body = body
        elif isinstance(body, str):
            self._body = body.encode()
        elif isinstance(body, bytearray | memoryview):
            self._body = bytes(body)
        elif isinstance(body, dict | list | tuple):
            raise TypeError(f"a body is no {type(body).__name__}: use Response.json(...), or Response.stream(...)")
        elif hasattr(body, "__iter__"):
            self._body = body
        else:
            raise TypeError(
                f"a body is str, bytes, or an iterable of them, not {type(body).__name__}"
                + ("; write b'' for an empty one" if body is None else "")
            )

    def __repr__(self) -> str:
        body = f"{len(self._body)} bytes" if isinstance(self._body, bytes) else type(self._body).__name__
        return f"<Response {self.status}, {body}>"

    def copy(self) -> "Response":
        """Returns a response that may be changed without changing this one. A body in pieces is shared."""
        response = Response(b"", self.status)
        response.headers.pairs = self.headers.pairs.copy()
        response._body = self._body
        return response

    @classmethod
    def html(cls, text: str, status: int = 200, headers: HeaderSource | None = None) -> Self:
        """Returns a response of HTML text."""
        return cls(text, status, headers, HTML_TYPE)

    @classmethod
    def json(
        cls,
        value: Any,
        status: int = 200,
        headers: HeaderSource | None = None,
        *,
        content_type: str = JSON_TYPE,
        dumps: Dumps = json_text,
    ) -> Self:
        """Returns a response of any value that JSON can express. ``dumps`` encodes it, as text or bytes."""
        return cls(dumps(value), status, headers, content_type)

    @classmethod
    def redirect(cls, url: str, status: int = 303, headers: HeaderSource | None = None) -> Self:
        """Returns a response that sends the client to another URL (RFC 9110 section 15.4).

        With 303 the client asks there with GET, whatever the method was; 307 and 308 keep the method. Characters that
        no URL may hold are percent-encoded; what is encoded already stays.

        Raises:
            ValueError: The status is no redirection, or the URL is empty or holds control characters.
        """
        if status not in _REDIRECTS:
            raise ValueError(f"a redirection has one of the statuses {_REDIRECTS}, not {status!r}")
        if not url or _CONTROL(url) or "\t" in url:
            raise ValueError(f"a redirection needs a URL without control characters, not {url!r}")
        response = cls(b"", status, headers)
        response.headers.set("location", quote(url, safe=_URI_SAFE))
        return response

    @classmethod
    def stream(
        cls,
        pieces: Iterable[str | bytes],
        status: int = 200,
        headers: HeaderSource | None = None,
        *,
        content_type: str = TEXT_TYPE,
    ) -> Self:
        """Returns a response whose body is sent piece by piece, as ``pieces`` gives them.

        The worker thread is taken for as long as that lasts. ``close()`` of ``pieces``, if it has one, is called at the
        end, also when the client leaves early. With a ``Content-Length`` among the headers the body has that length.
        """
        if isinstance(pieces, str | bytes | bytearray | memoryview) or not hasattr(pieces, "__iter__"):
            raise TypeError(f"stream takes an iterable of str or bytes, not {type(pieces).__name__}")
        response = cls(b"", status, headers, content_type)
        response._body = pieces
        return response

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | timedelta | None = None,
        expires: datetime | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        http_only: bool = True,
        same_site: Literal["Strict", "Lax", "None"] | None = "Lax",
    ) -> None:
        """Adds a cookie (RFC 6265 section 4.1).

        Args:
            name: Its name, a token.
            value: ASCII without white space, quotes, commas, semicolons and backslashes; encode anything else, with
                ``urllib.parse.quote`` for example.
            max_age: Seconds until the client drops it; without this and ``expires``, it does when it ends.
            expires: When the client drops it; with a time zone. ``max_age`` wins.
            path: Where it is sent: to paths under this one.
            domain: A domain whose hosts all get it. ``None``: this host alone.
            secure: Send it over TLS only.
            http_only: Hide it from scripts.
            same_site: Whether it goes along when another site links here (RFC 6265bis).

        Raises:
            ValueError: Something would break the cookie's grammar, or is what browsers silently refuse.
        """
        if not _TOKEN(name):
            raise ValueError(f"a cookie's name is a token (letters, digits, hyphens ...), not {name!r}")
        if not _COOKIE_VALUE.fullmatch(value):
            raise ValueError(
                f"the value of cookie {name!r} is {value!r}: white space, quotes, commas, semicolons, backslashes and "
                "what is not ASCII must be encoded, with urllib.parse.quote for example"
            )
        if len(name) + len(value) > _COOKIE_BYTES_MAX:
            raise ValueError(f"cookie {name!r} is {len(name) + len(value)} bytes long; browsers drop it above 4096")
        attributes = [f"{name}={value}"]
        if max_age is not None:
            seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else max_age
            attributes.append(f"Max-Age={int(seconds)}")
        if expires is not None:
            if expires.tzinfo is None:
                raise ValueError(f"cookie {name!r}: expires needs a time zone: datetime.now(UTC) + timedelta(days=1)")
            attributes.append(f"Expires={format_datetime(expires.astimezone(UTC), usegmt=True)}")
        if domain is not None:
            if not _COOKIE_DOMAIN.fullmatch(domain):
                raise ValueError(f"cookie {name!r}: the domain is a host name such as 'example.org', not {domain!r}")
            attributes.append(f"Domain={domain}")
        if path is not None:
            if not _COOKIE_PATH.fullmatch(path):
                raise ValueError(f"cookie {name!r}: the path begins with / and is ASCII without ';', not {path!r}")
            attributes.append(f"Path={path}")
        attributes += ["Secure"] * secure + ["HttpOnly"] * http_only
        if same_site is not None:
            if same_site not in ("Strict", "Lax", "None"):
                raise ValueError(f"cookie {name!r}: same_site is 'Strict', 'Lax', 'None' or None, not {same_site!r}")
            attributes.append(f"SameSite={same_site}")
        prefix = name.lower()
        if not secure and (same_site == "None" or prefix.startswith(("__secure-", "__host-"))):
            raise ValueError(f"cookie {name!r}: browsers refuse it without secure=True")
        if prefix.startswith("__host-") and (domain is not None or path != "/"):
            raise ValueError(f"cookie {name!r}: browsers refuse this name with a domain or a path but '/'")
        self.headers.add("set-cookie", "; ".join(attributes))

    def delete_cookie(
        self, name: str, *, path: str | None = "/", domain: str | None = None, secure: bool = False
    ) -> None:
        """Tells the client to drop a cookie. Path and domain must be those with which it was set."""
        epoch = datetime.fromtimestamp(0, UTC)
        self.set_cookie(name, "", max_age=0, expires=epoch, path=path, domain=domain, secure=secure)


def converter(dumps: Dumps) -> Callable[[object], Response]:
    """Returns a function that makes a :class:`Response` of whatever a handler may return, with JSON made by ``dumps``.

    It raises ``TypeError`` for what a handler may not return, with words for the one who wrote the handler.
    """

    def as_response(value: object) -> Response:
        """Makes a response of what a handler has returned; raises ``TypeError`` if that is no answer."""
        if isinstance(value, Response):
            return value
        if isinstance(value, dict | list):
            return _plain(dumps(value), JSON_TYPE)
        if isinstance(value, str):
            return _plain(value, TEXT_TYPE)
        if isinstance(value, bytes | bytearray | memoryview):
            return _plain(bytes(value), BYTES_TYPE)
        if type(value) is tuple:
            return _from_tuple(value, as_response)
        if hasattr(value, "__next__"):
            return Response(value)  # type: ignore[arg-type]  # An iterator; of what, shows only when it runs.
        raise _no_answer(value)

    return as_response


as_response = converter(json_text)


def from_error(problem: HTTPError) -> Response:
    """Returns the answer to an error for which no handler is registered: one line of text, and its header fields."""
    detail = f": {problem.detail}" if problem.detail else ""
    return Response(f"{problem.status} {problem.phrase}{detail}\n", problem.status, problem.headers)


def _plain(body: str | bytes, content_type: str) -> Response:
    """A 200 without the checks that it cannot fail: what most answers are."""
    response = Response.__new__(Response)
    response.status = 200
    headers = response.headers = Headers.__new__(Headers)
    headers.pairs = [("content-type", content_type)]
    response._body = body.encode() if isinstance(body, str) else body
    return response


def _from_tuple(value: tuple[object, ...], as_response: Callable[[object], Response]) -> Response:
    match value:
        case (body, int(status)):
            given = Headers()
        case (body, int(status), Mapping() | list() | tuple() as headers):
            given = Headers(headers)
        case _:
            shape = ", ".join(type(item).__name__ for item in value)
            raise TypeError(f"a tuple is no ({shape}), but (body, status) or (body, status, headers)")
    if body is None:
        raise TypeError("the body in a tuple is None: write (b'', status) for an empty one")
    response = as_response(body)
    if response is body:
        # It may be used again, by another thread as well, so it stays as it is.
        response = response.copy()
    elif response.body == b"":
        # No body needs no type: (b"", 204).
        response.headers.pairs.clear()
    response.status = _checked_status(status)
    response.headers.pairs = [pair for pair in response.headers.pairs if pair[0] not in given] + given.pairs
    return response


def _no_answer(value: object) -> TypeError:
    """The error for a value that is no answer."""
    if value is None:
        return TypeError(
            "the handler returned None and nothing has been answered: was a return forgotten? "
            "Return b'' for an empty answer"
        )
    kind = type(value).__name__
    if iscoroutine(value):
        value.close()
        return TypeError(f"the handler returned a coroutine: handlers are plain functions; {_WHAT_TO_RETURN}")
    if isasyncgen(value):
        return TypeError(f"the handler returned an async generator, which cannot be sent; {_WHAT_TO_RETURN}")
    return TypeError(f"the handler returned {kind}, which is no answer; {_WHAT_TO_RETURN}")


def _checked_status(status: int) -> int:
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"a status is a number such as 200, not {status!r}")
    if not 200 <= status <= 599:
        raise ValueError(f"a response has a status of 200 to 599, not {status}")
    return int(status)


def _pairs(fields: HeaderSource) -> Iterable[tuple[str, str]]:
    if isinstance(fields, Headers):
        return fields.pairs
    return fields.items() if isinstance(fields, Mapping) else fields


def _field(name: str, value: str) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(
            f"header {name!r}: name and value are str, not {type(name).__name__} and {type(value).__name__}"
        )
    if not _TOKEN(name):
        raise ValueError(f"header name {name!r} is not a token: use letters, digits and hyphens")
    if found := _CONTROL(value):
        raise ValueError(
            f"value of header {name!r} holds the control character {found[0]!r}: remove line breaks from it"
        )
    return name, value
