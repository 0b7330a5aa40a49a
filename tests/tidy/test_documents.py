"""Documents say what is there: files, defaults, examples."""

import re
from pathlib import Path

import pytest

from tools.steps import ROOT
from ushabti.options import LAUNCH, OPTIONS
from ushabti.schema import Option

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "__init__")

PATH = re.compile(r"`((?:crates|python|tests|tools|docs|examples|benches|fuzz|\.ci)/[A-Za-z0-9_./-]+)`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@each_document
def test_document_names_only_files_that_exist(document: Path) -> None:
    text = document.read_text()
    missing = [name for name in PATH.findall(text) if not (ROOT / name).exists()]
    missing += [name for name in LINK.findall(text) if not (document.parent / name).exists()]
    assert missing == []


def test_code_map_names_every_source_folder_and_module() -> None:
    """A file that ARCHITECTURE.md does not place is one that a reader cannot find."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    modules = [path.relative_to(ROOT) for path in (ROOT / "python" / "ushabti").glob("*.py")]
    crates = [path.relative_to(ROOT) for path in (ROOT / "crates").iterdir() if path.is_dir()]
    assert [str(path) for path in [*modules, *crates] if path.name not in text] == []


@pytest.mark.parametrize("option", [*OPTIONS.values(), *LAUNCH.values()], ids=lambda option: option.name)
def test_default_is_stated_and_explained(option: Option) -> None:
    text = (ROOT / "docs" / "defaults.md").read_text()
    row = re.search(rf"^\| `{option.name}` \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert row is not None, f"docs/defaults.md has no row for {option.name}"
    stated = row[1].strip("`")
    assert stated == ("none" if option.default is None else str(option.default))
    assert len(row[3]) > 20, f"the reason of {option.name} is too short to be one"


def test_defaults_names_no_option_that_is_gone() -> None:
    text = (ROOT / "docs" / "defaults.md").read_text()
    stated = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    assert stated - set(OPTIONS) - set(LAUNCH) == set()


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_is_listed_and_has_a_test(example: str) -> None:
    assert f"examples/{example}.py" in (ROOT / "README.md").read_text()
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert any(re.search(rf"\bexamples\.{example}\b", path.read_text()) for path in tests), "no test starts it"


def test_there_are_examples() -> None:
    assert "hello" in EXAMPLES


def test_changelog_begins_with_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    documented = set(re.findall(r"^([a-z-]+):.*## .+$", text, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony is not None
    assert documented == set(phony[1].split())


def test_no_target_is_longer_than_three_lines() -> None:
    targets = re.split(r"\n(?=[a-z-]+:)", (ROOT / "Makefile").read_text())
    assert [target for target in targets if len(re.findall(r"^\t", target, re.MULTILINE)) > 3] == []


def test_every_section_that_an_error_cites_is_in_the_protocol_table() -> None:
    cited = set(re.findall(r'"(RFC \d+ section [\d.]+)"', (ROOT / "crates/ushabti-proto/src/error.rs").read_text()))
    rows = set(re.findall(r"^\| (RFC \d+ section [\d.]+) \|", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE))
    assert len(cited) > 10
    assert cited - rows == set()
