"""Path patterns: from the text that a route is registered with to the plain parts that the native route table takes.

One part stands for one segment of the path, or for a run of segments; ``crates/ushabti-core/src/routes.rs`` says which
paths a part matches and which of two patterns wins. Here is only how patterns are written:

======================  ================================================================================
``/a/b``                these segments; ``/a/`` and ``/a`` are different paths
``{name}``              one segment, not empty, handed to the handler as ``name``
``{name:int}``          the same, converted: ``int``, ``float``, ``uuid``; or only checked: ``slug``
``{name:re(...)}``      the same, matching this regular expression as a whole (the syntax of Rust's regex crate)
``v{name:int}.json``    fixed text around one parameter
``{name:path}``         one or more segments, joined by slashes
``*``                   one segment, whatever it is
``pre*suf`` ``*mid*``   one segment that begins, ends, or has in it what is written
``**``                  one or more segments
======================  ================================================================================

Text is percent-decoded, so that ``%2A`` is a star and ``%7B`` a brace that stand for themselves.

Nothing here compiles an expression or knows a handler, and the module imports nothing of the package but its errors.
"""

import difflib
import keyword
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from ushabti.errors import ConfigError

__all__ = ["Part", "Pattern"]

Part = tuple[str, ...]

_KINDS = ("int", "float", "slug", "uuid", "path")
# What other routers call the same things.
_OTHER_KINDS = {
    "str": "{%s}",
    "string": "{%s}",
    "text": "{%s}",
    "any": "{%s}",
    "integer": "{%s:int}",
    "number": "{%s:float}",
    "decimal": "{%s:float}",
    "re": "{%s:re(...)}",
    "regex": "{%s:re(...)}",
    "regexp": "{%s:re(...)}",
}

_MUMMY_NAME = re.compile(r"@([^\W\d]\w*)")
_EXPRESS_NAME = re.compile(r":([^\W\d]\w*)")
_FLASK_NAME = re.compile(r"<(?:(\w+)(?:\([^)]*\))?:)?([^\W\d]\w*)>")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path pattern that has been read.

    Attributes:
        text: As it was written; for a pattern under a prefix, both together.
        parts: What the native route table takes, one for each segment or run of segments. Empty only for the empty
            text, which stands for the prefix itself under which a router is mounted.
        names: The names of the parameters, in order.
    """

    text: str
    parts: tuple[Part, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Reads a pattern.

        Raises:
            ConfigError: It is malformed. The message names the pattern, the place, and what to write instead.
        """
        if not isinstance(text, str):
            raise ConfigError(f"a pattern is a str such as '/users/{{id}}', not {text!r} ({type(text).__name__})")
        reader = _Reader(text)
        parts = tuple(reader.segments()) if text else ()
        return cls(text, parts, tuple(reader.names))

    @classmethod
    def parse_prefix(cls, text: str) -> "Pattern":
        """Reads the prefix under which a router is mounted: a pattern without a slash at its end; ``/`` is no prefix.

        Raises:
            ConfigError: It is malformed.
        """
        if text == "/":
            text = ""
        prefix = cls.parse(text)
        if text.endswith("/"):
            raise ConfigError(
                f"prefix {text!r} ends with a slash, and the patterns under it begin with one: write {text[:-1]!r}"
            )
        return prefix

    def under(self, prefix: "Pattern") -> "Pattern":
        """Returns this pattern with ``prefix`` before it.

        Raises:
            ConfigError: Both have a parameter of the same name.
        """
        if not prefix.parts:
            return self
        for name in self.names:
            if name in prefix.names:
                raise ConfigError(
                    f"pattern {self.text!r} under the prefix {prefix.text!r}: both have a parameter {name!r}; "
                    "rename one of them"
                )
        return Pattern(prefix.text + self.text, prefix.parts + self.parts, prefix.names + self.names)

    @property
    def shape(self) -> tuple[Part, ...]:
        """The parts without the names of parameters: equal for two patterns that match the same paths by one rule."""
        return tuple((part[0], "", *part[2:]) if part[0] in ("param", "rest") else part for part in self.parts)

    def build(self, values: Mapping[str, object]) -> str:
        """Returns the path, percent-encoded, that this pattern matches with these parameters.

        Whether the values have the form that the kinds of the parameters ask for is not checked.

        Raises:
            ValueError: A parameter is missing, empty or unknown, or the pattern is empty or has a nameless wildcard.
        """
        if not self.parts:
            raise ValueError("the path '' is that of the prefix: ask the router in which this one is mounted")
        for name in values:
            if name not in self.names:
                raise ValueError(f"pattern {self.text!r} has no parameter {name!r}")
        segments: list[str] = []
        for part in self.parts:
            segments += self._build_segments(part, values)
        if not {".", ".."}.isdisjoint(segments):
            raise ValueError(f"pattern {self.text!r} with {dict(values)!r}: clients remove '.' and '..' from a path")
        return "/" + "/".join(segments)

    def _build_segments(self, part: Part, values: Mapping[str, object]) -> list[str]:
        match part:
            case ("literal", literal):
                return [quote(literal, safe=_SEGMENT_SAFE)]
            case ("param", name, _, prefix, suffix):
                return [quote(f"{prefix}{self._value(name, values)}{suffix}", safe=_SEGMENT_SAFE)]
            case ("rest", name) if name:
                return [quote(segment, safe=_SEGMENT_SAFE) for segment in self._value(name, values).split("/")]
        raise ValueError(f"pattern {self.text!r} has a wildcard without a name, so no path can be built from it")

    def _value(self, name: str, values: Mapping[str, object]) -> str:
        if name not in values:
            raise ValueError(f"pattern {self.text!r} needs a value for its parameter {name!r}")
        value = str(values[name])
        if not value:
            raise ValueError(f"pattern {self.text!r}: the value of {name!r} is empty, which no parameter matches")
        return value


# What a segment may hold as it is: pchar without percent-encoding (RFC 3986 section 3.3).
_SEGMENT_SAFE = "-._~!$&'()*+,;=:@"


class _Reader:
    """Reads one pattern from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[str] = []
        self.at = 0

    def error(self, at: int, problem: str, advice: str) -> ConfigError:
        near = self.text[at : at + 20]
        place = f"at character {at + 1} ({near!r})" if near else "at its end"
        return ConfigError(f"pattern {self.text!r}, {place}: {problem}; {advice}")

    def segments(self) -> list[Part]:
        if not self.text.startswith("/"):
            raise self.error(0, "a pattern begins with a slash", f"write {'/' + self.text!r}")
        parts = []
        while self.at < len(self.text):
            self.at += 1
            start = self.at
            part = self.segment()
            if part == ("literal", "") and self.at < len(self.text):
                raise self.error(start - 1, "two slashes enclose an empty segment", "write one slash")
            parts.append(part)
        return parts

    def segment(self) -> Part:
        """Reads up to the next slash that is none of an expression's, or to the end."""
        start = self.at
        fixed = [""]  # Between the stars, or around the parameter.
        param: tuple[str, str] | None = None
        while self.at < len(self.text) and (character := self.text[self.at]) != "/":
            if character == "{":
                if param:
                    raise self.error(self.at, "a segment has one parameter at most", "put a slash between the two")
                param = self.parameter()
                fixed.append("")
                continue
            if character == "}":
                raise self.error(self.at, "this brace was not opened", "write %7D if it stands for itself")
            if character in "?#":
                meaning = "a query" if character == "?" else "a fragment"
                raise self.error(
                    self.at,
                    f"{meaning} is no part of a path",
                    f"leave it out, or write %{ord(character):02X} for the character itself",
                )
            if character == "*":
                fixed.append("")
            else:
                fixed[-1] += character
            self.at += 1
        raw = self.text[start : self.at]
        if param:
            return self.around(start, param, fixed)
        if len(fixed) > 1:
            return self.stars(start, raw, fixed)
        self.refuse_other_spellings(start, raw)
        return ("literal", self.decode(start, raw))

    def around(self, start: int, param: tuple[str, str], fixed: list[str]) -> Part:
        """The part of a segment with a parameter in it."""
        name, kind = param
        if len(fixed) > 2:
            raise self.error(
                start, "a segment has a parameter or stars, not both", "make the parameter a segment of its own"
            )
        prefix, suffix = (self.decode(start, text) for text in fixed)
        if kind != "path":
            return ("param", name, kind, prefix, suffix)
        if prefix or suffix:
            raise self.error(start, f"{{{name}:path}} stands for whole segments", "put slashes around it")
        return ("rest", name)

    def stars(self, start: int, raw: str, fixed: list[str]) -> Part:
        """The part of a segment with stars in it."""
        match [self.decode(start, text) for text in fixed]:
            case ["", ""]:
                return ("any",)
            case [prefix, suffix]:
                return ("affix", prefix, suffix)
            case ["", "", ""]:
                return ("rest", "")
            case ["", middle, ""]:
                return ("contains", middle)
            case _ if "**" in raw:
                raise self.error(
                    start, "two stars stand for whole segments", "put slashes around **, or write one star"
                )
            case _:
                raise self.error(
                    start, "these stars are not one of *, pre*, *suf, pre*suf, *mid*", "use {name:re(...)}"
                )

    def refuse_other_spellings(self, start: int, raw: str) -> None:
        """Refuses what names a parameter elsewhere: taken as text, it would match nothing that anybody means."""
        if found := _MUMMY_NAME.fullmatch(raw):
            raise self.error(
                start,
                "parameters are not written with @",
                f"write {{{found[1]}}}, or %40{found[1]} for a path that has the @ in it",
            )
        if found := _EXPRESS_NAME.fullmatch(raw):
            raise self.error(
                start,
                "parameters are not written with a colon",
                f"write {{{found[1]}}}, or %3A{found[1]} for a path that has the colon in it",
            )
        if found := _FLASK_NAME.fullmatch(raw):
            name, kind = found[2], found[1]
            spelling = f"{{{name}:{kind}}}" if kind in _KINDS else _OTHER_KINDS.get(kind, "{%s}") % name
            raise self.error(start, "parameters are not written in angle brackets", f"write {spelling}")

    def decode(self, start: int, raw: str) -> str:
        """Decodes fixed text of the segment that begins at ``start``."""
        at = self.text.find(raw, start)
        if found := _CONTROL.search(raw):
            raise self.error(at + found.start(), "a path has no control characters", "remove it")
        if "%" not in raw:
            return self.encodable(at, raw)
        if found := _BARE_PERCENT.search(raw):
            raise self.error(
                at + found.start(),
                "a percent sign begins an encoded byte, two hexadecimal digits",
                "write %25 if it stands for itself",
            )
        try:
            return unquote_to_bytes(self.encodable(at, raw)).decode()
        except UnicodeDecodeError:
            raise self.error(at, "the encoded bytes are no UTF-8", "write the characters themselves") from None

    def encodable(self, at: int, raw: str) -> str:
        try:
            raw.encode()
        except UnicodeEncodeError as problem:
            raise self.error(at + problem.start, "a surrogate is no character", "remove it") from None
        return raw

    def parameter(self) -> tuple[str, str]:
        """Reads a parameter from its opening brace to its closing one; returns name and kind."""
        start = self.at
        self.at += 1
        name = self.until(start, ":}/")
        kind = "text"
        if self.text[self.at] == ":":
            self.at += 1
            kind = self.expression(start) if self.text.startswith("re(", self.at) else self.kind(start, name)
        self.at += 1
        return self.checked_name(start, name), kind

    def until(self, start: int, ends: str) -> str:
        """Reads up to one of ``ends``, of which the slash means that a brace is missing."""
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in ends:
            self.at += 1
        if self.at == len(self.text) or self.text[self.at] == "/":
            raise self.error(start, "this brace is not closed", "write {name}, or %7B if the brace stands for itself")
        return self.text[begin : self.at]

    def kind(self, start: int, name: str) -> str:
        begin = self.at
        kind = self.until(start, "}/")
        if kind in _KINDS:
            return kind
        word = kind.strip().lower().partition("(")[0]
        if word in _OTHER_KINDS:
            advice = "write " + _OTHER_KINDS[word] % name
        elif near := difflib.get_close_matches(word, _KINDS, n=1):
            advice = f"write {{{name}:{near[0]}}}"
        else:
            advice = f"write {{{name}}}, or one of {', '.join(_KINDS)} and re(...) after the colon"
        raise self.error(begin, f"{kind!r} is no kind of parameter", advice)

    def expression(self, start: int) -> str:
        """Reads ``re(...)``, whose end is the parenthesis that matches the first one: not escaped, in no class."""
        begin = self.at = self.at + len("re(")
        parentheses = brackets = 0
        while self.at < len(self.text):
            match self.text[self.at]:
                case "\\":
                    self.at += 1
                case "[":
                    brackets += 1
                    # Right after the opening, a closing bracket is one of the characters.
                    if self.text.startswith("^", self.at + 1):
                        self.at += 1
                    if self.text.startswith("]", self.at + 1):
                        self.at += 1
                case "]" if brackets:
                    brackets -= 1
                case "(" if not brackets:
                    parentheses += 1
                case ")" if not brackets and parentheses:
                    parentheses -= 1
                case ")" if not brackets:
                    return self.ended_expression(begin)
            self.at += 1
        raise self.error(
            start,
            "the expression has no end",
            r"close it with )}, and write \( or \[ for a parenthesis or bracket that stands for itself",
        )

    def ended_expression(self, begin: int) -> str:
        expression = self.text[begin : self.at]
        if not self.text.startswith("}", self.at + 1):
            raise self.error(
                self.at,
                "the expression ends at this parenthesis, and no closing brace follows",
                r"write )} there, or \) if the parenthesis stands for itself",
            )
        if not expression:
            raise self.error(
                begin, "the expression is empty, so it would match nothing", "write one, or leave :re() out"
            )
        self.at += 1
        return f"re:{self.encodable(begin, expression)}"

    def checked_name(self, start: int, name: str) -> str:
        # As Python does with the names in its source, of which this is to be one.
        normal = unicodedata.normalize("NFKC", name)
        if not name:
            raise self.error(start, "a parameter needs a name", "write {name} or {name:int}")
        if name.endswith("..."):
            raise self.error(start, "a run of segments is not written with dots", f"write {{{name[:-3]}:path}}")
        if not normal.isidentifier():
            raise self.error(start, f"{name!r} is no Python name", "use letters, digits and _, beginning with a letter")
        if keyword.iskeyword(normal):
            raise self.error(start, f"{name!r} is a keyword, which no argument can be named", f"write {{{name}_}}")
        if normal in self.names:
            raise self.error(start, f"there is a parameter {name!r} already", "give each parameter its own name")
        self.names.append(normal)
        return normal
