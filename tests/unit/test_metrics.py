"""The text format of Prometheus, read by a small parser that knows its grammar."""

import re
from typing import Any, NamedTuple

import pytest

from ushabti.metrics import CONTENT_TYPE, exposition
from ushabti.server import Server

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"\}})? (\S+)')


class Family(NamedTuple):
    kind: str
    help: str
    samples: list[tuple[str, str, str, float]]


def parse(text: str) -> dict[str, Family]:
    """Families by name; each sample is its name, a label's name and value, and the number."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    name = helped = ""
    for line in text.splitlines():
        if match := re.fullmatch(rf"# HELP ({NAME}) (.+)", line):
            name, helped = match.groups()
            assert name not in families, f"{name} stands in two places"
        elif match := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram|summary)", line):
            assert match[1] == name, "TYPE follows HELP"
            families[name] = Family(match[2], helped, [])
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            suffixes = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
            allowed = [name + suffix for suffix in suffixes.get(families[name].kind, ("",))]
            assert match[1] in allowed, f"{match[1]} is no sample of {name}"
            families[name].samples.append((match[1], match[2] or "", match[3] or "", float(match[4])))
    return families


def stats() -> dict[str, Any]:
    return Server(lambda request: "").stats()


def test_everything_in_the_statistics_is_exported():
    families = parse(exposition(stats()))
    # The lanes have three figures each.
    assert len(families) == len(stats()) + 2
    assert all(name.startswith("ushabti_") for name in families)
    assert all(family.samples and family.help.endswith(".") for family in families.values())


def test_counters_and_they_alone_end_in_total():
    for name, family in parse(exposition(stats())).items():
        assert (family.kind == "counter") == name.endswith("_total"), name


def test_histogram_is_cumulative_and_ends_in_infinity():
    waits = {"count": 9, "sum": 1.25, "buckets": [(0.0001, 2), (0.5, 7)]}
    family = parse(exposition({"queue_waits": waits}))["ushabti_queue_wait_seconds"]
    assert family.kind == "histogram"
    assert family.samples == [
        ("ushabti_queue_wait_seconds_bucket", "le", "0.0001", 2),
        ("ushabti_queue_wait_seconds_bucket", "le", "0.5", 7),
        ("ushabti_queue_wait_seconds_bucket", "le", "+Inf", 9),
        ("ushabti_queue_wait_seconds_sum", "", "", 1.25),
        ("ushabti_queue_wait_seconds_count", "", "", 9),
    ]


def test_summary_has_no_buckets():
    family = parse(exposition({"gil_waits": {"count": 3, "sum": 5e-06}}))["ushabti_gil_wait_seconds"]
    assert [(name, value) for name, _, _, value in family.samples] == [
        ("ushabti_gil_wait_seconds_sum", 5e-06),
        ("ushabti_gil_wait_seconds_count", 3),
    ]


@pytest.mark.parametrize("label", ['a"b', "a\\b", "a\nb", "\\n"])
def test_labels_are_escaped(label: str):
    sample = parse(exposition({"answers": {label: 4}}))["ushabti_answers_total"].samples[0]
    unescaped = re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], sample[2])
    assert (unescaped, sample[3]) == (label, 4)


def test_content_type_names_the_version():
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
