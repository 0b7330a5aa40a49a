"""How path patterns are written: what each spelling means, and what is said of those that mean nothing."""

import string
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ushabti import _core
from ushabti.errors import ConfigError
from ushabti.patterns import Part, Pattern


def found(parts: tuple[Part, ...], path: str) -> Any:
    """The parameters with which the native table matches a path; None if it does not."""
    result = _core.RouteTable([(0, None, parts, None)]).find("GET", path)
    return result[2] if result[0] == "route" else None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/", [("literal", "")]),
        ("/a/b", [("literal", "a"), ("literal", "b")]),
        ("/a/", [("literal", "a"), ("literal", "")]),
        ("/caf%C3%A9/é", [("literal", "café"), ("literal", "é")]),
        ("/a%2Fb/100%25/%7Bx%7D/%2A", [("literal", "a/b"), ("literal", "100%"), ("literal", "{x}"), ("literal", "*")]),
        ("/a b+c;d=e,f", [("literal", "a b+c;d=e,f")]),
        ("/a@b/@/%40ani/x:y/:", [("literal", text) for text in ("a@b", "@", "@ani", "x:y", ":")]),
        ("/{id}", [("param", "id", "text", "", "")]),
        ("/{_a1}/{größe}", [("param", "_a1", "text", "", ""), ("param", "größe", "text", "", "")]),
        (
            "/{a:int}/{b:float}/{c:slug}/{d:uuid}",
            [
                ("param", name, kind, "", "")
                for name, kind in zip("abcd", ("int", "float", "slug", "uuid"), strict=True)
            ],
        ),
        ("/@{user}", [("param", "user", "text", "@", "")]),
        ("/v{n:int}.json", [("param", "n", "int", "v", ".json")]),
        ("/%7B{n}%2F", [("param", "n", "text", "{", "/")]),
        ("/files/{rest:path}", [("literal", "files"), ("rest", "rest")]),
        ("/{p:path}/end", [("rest", "p"), ("literal", "end")]),
        ("/*", [("any",)]),
        ("/pre*", [("affix", "pre", "")]),
        ("/*suf", [("affix", "", "suf")]),
        ("/pre*s%2Auf", [("affix", "pre", "s*uf")]),
        ("/*mid*", [("contains", "mid")]),
        ("/**", [("rest", "")]),
        ("/a/**/z", [("literal", "a"), ("rest", ""), ("literal", "z")]),
        # The end of an expression is the parenthesis that closes it, wherever others are.
        ("/{x:re([a-z]+)}", [("param", "x", "re:[a-z]+", "", "")]),
        ("/{x:re((a|b)/(c))}/d", [("param", "x", "re:(a|b)/(c)", "", ""), ("literal", "d")]),
        ("/{x:re([0-9]{4}-{2})}.txt", [("param", "x", "re:[0-9]{4}-{2}", "", ".txt")]),
        (r"/{x:re(\)}\()}", [("param", "x", r"re:\)}\(", "", "")]),
        (r"/{x:re(\\)}", [("param", "x", r"re:\\", "", "")]),
        ("/{x:re([)}]+)}", [("param", "x", "re:[)}]+", "", "")]),
        ("/{x:re([])(]+)}", [("param", "x", "re:[])(]+", "", "")]),
        ("/{x:re([^])(]+)}", [("param", "x", "re:[^])(]+", "", "")]),
        (r"/{x:re([\])]+)}", [("param", "x", r"re:[\])]+", "", "")]),
        ("/{x:re([[:alpha:])]+)}", [("param", "x", "re:[[:alpha:])]+", "", "")]),
        ("/{x:re([a-z&&[^)]]+)}", [("param", "x", "re:[a-z&&[^)]]+", "", "")]),
        ("/{x:re(a%20*?#)}", [("param", "x", "re:a%20*?#", "", "")]),
        ("", []),
    ],
)
def test_pattern_is_read_into_parts(text: str, parts: list[Part]) -> None:
    pattern = Pattern.parse(text)
    assert pattern.parts == tuple(parts)
    assert pattern.text == text
    if parts:
        _core.RouteTable([(0, None, pattern.parts, None)])  # It knows all of them.


@pytest.mark.parametrize(
    ("text", "place", "advice"),
    [
        ("users", "character 1 ('users')", "write '/users'"),
        ("*", "character 1", "write '/*'"),
        ("//a", "character 1", "write one slash"),
        ("/a//b", "character 3 ('//b')", "write one slash"),
        ("/a//", "character 3", "write one slash"),
        ("/a/{id", "character 4 ('{id')", "%7B"),
        ("/a/{id/x", "character 4", "not closed"),
        ("/{id:int", "character 2", "not closed"),
        ("/a}", "character 3 ('}')", "%7D"),
        ("/{a}}", "character 5", "%7D"),
        ("/{a}{b}", "character 5 ('{b}')", "slash between"),
        ("/{a}-{b}", "character 6", "one parameter at most"),
        ("/{a}*", "character 2", "not both"),
        ("/*{a}", "character 2", "not both"),
        ("/{}", "character 2", "write {name}"),
        ("/{:int}", "character 2", "needs a name"),
        ("/{1a}", "character 2", "'1a' is no Python name"),
        ("/{a b}", "character 2", "no Python name"),
        ("/{class}", "character 2", "write {class_}"),
        ("/{rest...}", "character 2", "write {rest:path}"),
        ("/{a}/{a:int}", "character 6", "already"),
        ("/{a:imt}", "character 5 ('imt}')", "write {a:int}"),
        ("/{a: int}", "character 5", "write {a:int}"),
        ("/{a:INT}", "character 5", "write {a:int}"),
        ("/{a:str}", "character 5", "write {a}"),
        ("/{a:regex([0-9])}", "character 5", "write {a:re(...)}"),
        ("/{a:re}", "character 5", "write {a:re(...)}"),
        ("/{a:}", "character 5", "int, float, slug, uuid, path and re(...)"),
        ("/{a:colour}", "character 5", "int, float, slug, uuid, path and re(...)"),
        ("/{a:re(x}", "character 2", "close it with )}"),
        ("/{a:re([)}", "character 2", "close it with )}"),
        ("/{a:re(x\\", "character 2", "close it with )}"),
        ("/{a:re(x)", "character 9 (')')", "no closing brace"),
        ("/{a:re(x)y)}", "character 9", r"\)"),
        ("/{a:re()}", "character 8", "empty"),
        ("/x{a:path}", "character 2", "put slashes around it"),
        ("/{a:path}.txt", "character 2", "whole segments"),
        ("/a**", "character 2", "put slashes around **"),
        ("/***", "character 2", "put slashes around **"),
        ("/a*b*", "character 2", "{name:re(...)}"),
        ("/*a*b", "character 2", "*mid*"),
        ("/users/@id", "character 8 ('@id')", "write {id}, or %40id"),
        ("/users/:id", "character 8 (':id')", "write {id}, or %3Aid"),
        ("/users/<id>", "character 8", "write {id}"),
        ("/users/<int:id>/x", "character 8", "write {id:int}"),
        ("/users/<string:id>", "character 8", "write {id}"),
        ("/a?b=c", "character 3 ('?b=c')", "%3F"),
        ("/a#b", "character 3 ('#b')", "%23"),
        ("/100%", "character 5 ('%')", "%25"),
        ("/a/x%2", "character 5 ('%2')", "%25"),
        ("/%zz{a}", "character 2", "%25"),
        ("/%ff", "character 2", "no UTF-8"),
        ("/a\nb", "character 3", "control characters"),
        ("/a\ud800", "character 3", "surrogate"),
    ],
)
def test_malformed_pattern_is_refused_with_place_and_advice(text: str, place: str, advice: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Pattern.parse(text)
    message = str(refused.value)
    assert message.startswith(f"pattern {text!r}, at ")
    assert place in message
    assert advice in message


def test_pattern_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a pattern is a str .* not b'/a' \(bytes\)"):
        Pattern.parse(b"/a")  # type: ignore[arg-type]


def test_name_is_normalized_as_python_does_with_identifiers() -> None:
    assert Pattern.parse("/{ﬁle}").names == ("file",)
    with pytest.raises(ConfigError, match="already"):
        Pattern.parse("/{ﬁle}/{file}")


@pytest.mark.parametrize(
    ("prefix", "pattern", "text", "paths"),
    [
        ("/api", "/x", "/api/x", {"/api/x": {}, "/x": None}),
        ("/api", "/", "/api/", {"/api/": {}, "/api": None}),
        ("/api", "", "/api", {"/api": {}, "/api/": None}),
        ("/", "/x", "/x", {"/x": {}}),
        ("", "/x", "/x", {"/x": {}}),
        ("/{team}/v{n:int}", "/{id}", "/{team}/v{n:int}/{id}", {"/a/v2/c": {"team": "a", "n": 2, "id": "c"}}),
    ],
)
def test_prefix_stands_before_a_pattern(prefix: str, pattern: str, text: str, paths: dict[str, Any]) -> None:
    whole = Pattern.parse(pattern).under(Pattern.parse_prefix(prefix))
    assert whole.text == text
    for path, parameters in paths.items():
        assert found(whole.parts, path) == parameters


def test_prefix_with_a_slash_at_its_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"write '/api'"):
        Pattern.parse_prefix("/api/")


def test_prefix_and_pattern_with_the_same_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'/\{id\}' under the prefix '/x/\{id:int\}': both have a parameter 'id'"):
        Pattern.parse("/{id}").under(Pattern.parse_prefix("/x/{id:int}"))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("/{a}", "/{b}", True),
        ("/**", "/{b:path}", True),
        ("/{a:int}", "/{a}", False),
        ("/x{a}", "/{a}", False),
        ("/{a:re(x)}", "/{a:re(y)}", False),
        ("/*", "/{a}", False),
        ("/a", "/a/", False),
        ("/%61", "/a", True),
    ],
)
def test_names_do_not_distinguish_patterns(one: str, other: str, is_same: bool) -> None:
    assert (Pattern.parse(one).shape == Pattern.parse(other).shape) is is_same


@pytest.mark.parametrize(
    ("pattern", "values", "path"),
    [
        ("/", {}, "/"),
        ("/a/", {}, "/a/"),
        ("/é%2F/{x}", {"x": "a/b c"}, "/%C3%A9%2F/a%2Fb%20c"),
        ("/v{n:int}.json", {"n": 12}, "/v12.json"),
        ("/files/{p:path}", {"p": "a/b c/d"}, "/files/a/b%20c/d"),
        ("/{u:uuid}", {"u": UUID(int=1)}, "/00000000-0000-0000-0000-000000000001"),
        ("/@{user}", {"user": "ani"}, "/@ani"),
    ],
)
def test_path_is_built_from_parameters(pattern: str, values: dict[str, object], path: str) -> None:
    whole = Pattern.parse(pattern)
    assert whole.build(values) == path
    assert found(whole.parts, path) == values


@pytest.mark.parametrize(
    ("pattern", "values", "problem"),
    [
        ("/{a}", {}, "needs a value for its parameter 'a'"),
        ("/{a}", {"a": ""}, "is empty"),
        ("/{a}", {"a": 1, "b": 2}, "has no parameter 'b'"),
        ("/{a}", {"a": ".."}, "clients remove"),
        ("/{a:path}", {"a": "x/./y"}, "clients remove"),
        ("/*", {}, "wildcard without a name"),
        ("/**", {}, "wildcard without a name"),
    ],
)
def test_path_that_cannot_be_built_is_refused(pattern: str, values: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Pattern.parse(pattern).build(values)


# Any text of which a segment can consist; the dots alone are what clients remove.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text not in (".", ".."))


@given(st.lists(texts, min_size=1, max_size=5))
def test_any_encoded_text_matches_itself(segments: list[str]) -> None:
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    parts = Pattern.parse(path).parts
    assert parts == tuple(("literal", segment) for segment in segments)
    assert found(parts, path) == {}


@given(texts, texts, texts)
def test_any_parameter_comes_back_from_the_path_that_was_built_of_it(prefix: str, value: str, rest: str) -> None:
    pattern = Pattern.parse(f"/{quote(prefix, safe='')}{{a}}/{{b:path}}")
    path = pattern.build({"a": value, "b": f"x{rest}"})
    assert found(pattern.parts, path) == {"a": value, "b": f"x{rest}"}


@given(st.text(st.sampled_from("/{}()[]:*@%?#<>\\^ab1.re" + string.digits[:2])))
def test_any_text_is_read_or_refused(text: str) -> None:
    message = ""
    try:
        pattern = Pattern.parse(text)
        if pattern.parts:
            _core.RouteTable([(0, None, pattern.parts, None)])
    except ConfigError as refused:
        message = str(refused)
    assert message == "" or repr(text) in message or "does not compile" in message
