"""docs/protocol.md has every section of an RFC that the sources cite, and every source is cited where it matters."""

import re

from tools.steps import ROOT

ROW = re.compile(r"^\| RFC (\d+) section ([\d.]+) \|", re.MULTILINE)
CITED = re.compile(r"RFC[\s/]+(\d+),?[\s/]+section[\s/]+(\d+(?:\.\d+)*)")
SOURCES = sorted([*(ROOT / "crates").glob("*/src/**/*.rs"), *(ROOT / "python" / "ushabti").glob("*.py")])


def is_covered(section: str, rows: set[str]) -> bool:
    """Whether there is a row for the section, for one that holds it, or for a part of it."""
    return any(f"{row}.".startswith(f"{section}.") or f"{section}.".startswith(f"{row}.") for row in rows)


def test_every_section_that_a_source_cites_has_a_row() -> None:
    rows: dict[str, set[str]] = {}
    for number, section in ROW.findall((ROOT / "docs" / "protocol.md").read_text()):
        rows.setdefault(number, set()).add(section)
    missing = {
        f"RFC {number} section {section}": str(path.relative_to(ROOT))
        for path in SOURCES
        for number, section in CITED.findall(path.read_text())
        if not is_covered(section, rows.get(number, set()))
    }
    assert len(rows) > 3
    assert missing == {}
