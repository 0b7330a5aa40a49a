"""``Headers``: a mapping in which a name may stand several times and its case does not matter."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ushabti.responses import Headers


def test_first_value_is_found_in_any_case() -> None:
    headers = Headers([("Accept", "a"), ("X-One", "1"), ("accept", "b")])
    assert headers["ACCEPT"] == headers.get("accept") == "a"
    assert headers.all("aCCept") == ["a", "b"]
    assert "x-one" in headers and "x-two" not in headers
    assert 1 not in headers  # type: ignore[comparison-overlap]
    assert headers.get("x-two") is None and headers.get("x-two", "none") == "none" and headers.all("x-two") == []
    with pytest.raises(KeyError):
        headers["x-two"]


def test_names_are_iterated_once_as_first_written() -> None:
    headers = Headers([("B", "1"), ("a", "2"), ("b", "3")])
    assert list(headers) == ["B", "a"]
    assert len(headers) == 2
    assert list(headers.items()) == [("B", "1"), ("a", "2")]
    assert headers.pairs == [("B", "1"), ("a", "2"), ("b", "3")]


def test_set_replaces_every_field_of_the_name_in_the_place_of_the_first() -> None:
    headers = Headers([("a", "1"), ("B", "2"), ("c", "3"), ("b", "4")])
    headers["b"] = "5"
    assert headers.pairs == [("a", "1"), ("b", "5"), ("c", "3")]
    headers.set("d", "6")
    assert headers.pairs[-1] == ("d", "6")


def test_add_keeps_what_is_there() -> None:
    headers = Headers({"Vary": "accept"})
    headers.add("vary", "cookie")
    assert headers.pairs == [("Vary", "accept"), ("vary", "cookie")]


def test_delete_removes_every_field_of_the_name() -> None:
    headers = Headers([("a", "1"), ("b", "2"), ("A", "3")])
    del headers["A"]
    assert headers.pairs == [("b", "2")]
    with pytest.raises(KeyError):
        del headers["a"]
    assert headers.pop("B") == "2" and headers.pairs == []


def test_headers_are_equal_if_all_fields_are_equal_but_for_case() -> None:
    assert Headers([("A", "1"), ("a", "2")]) == Headers([("a", "1"), ("A", "2")])
    assert Headers([("A", "1"), ("a", "2")]) != Headers([("A", "1")])
    assert Headers({"a": "1"}) == {"a": "1"}
    assert Headers({"a": "1"}) != 1


def test_copy_is_of_its_own() -> None:
    first = Headers([("a", "1"), ("a", "2")])
    second = Headers(first)
    second.add("b", "3")
    assert first.pairs == [("a", "1"), ("a", "2")]
    assert second.pairs == [("a", "1"), ("a", "2"), ("b", "3")]


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("a", "b\r\nset-cookie: c", ValueError, r"control character '\\r'"),
        ("a", "b\nc", ValueError, r"control character '\\n'"),
        ("a", "b\0", ValueError, "control character"),
        ("a", "b\x7f", ValueError, "control character"),
        ("a b", "c", ValueError, "not a token"),
        ("a:", "c", ValueError, "not a token"),
        ("a\r\n", "c", ValueError, "not a token"),
        ("é", "c", ValueError, "not a token"),
        ("", "c", ValueError, "not a token"),
        ("Retry-After", 5, TypeError, "header 'Retry-After': name and value are str, not str and int"),
        (b"a", "c", TypeError, "not bytes and str"),
    ],
)
def test_field_that_cannot_be_sent_is_refused(name: str, value: str, error: type[Exception], message: str) -> None:
    headers = Headers({"a": "1"})
    for change in (
        lambda: headers.add(name, value),
        lambda: headers.set(name, value),
        lambda: Headers([(name, value)]),
    ):
        with pytest.raises(error, match=message):
            change()
    assert headers.pairs == [("a", "1")]


def test_tab_and_latin_1_may_stand_in_a_value() -> None:
    assert Headers({"a": "b\tc é"})["a"] == "b\tc é"


names = st.sampled_from(["a", "A", "b", "B", "x-c"])
changes = st.lists(st.tuples(st.sampled_from(["add", "set", "del"]), names, st.sampled_from("123")))


@given(changes)
def test_headers_behave_as_a_dictionary_of_lists(steps: list[tuple[str, str, str]]) -> None:
    headers = Headers()
    model: dict[str, list[str]] = {}
    for step, name, value in steps:
        key = name.lower()
        if step == "add":
            headers.add(name, value)
            model.setdefault(key, []).append(value)
        elif step == "set":
            headers[name] = value
            model[key] = [value]
        elif key in model:
            del headers[name]
            del model[key]
    assert {name.lower(): headers.all(name) for name in headers} == model
    assert len(headers) == len(model)
    assert Counter(name.lower() for name, _ in headers.pairs) == {name: len(values) for name, values in model.items()}
