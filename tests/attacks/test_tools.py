"""The long judges, in short: they pass where all is well, and find what they are there to find."""

import signal
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.attacks.siege import needs_linux
from tools import stop_load
from tools.soak import __main__ as soak
from tools.soak.chart import Panel, draw


def samples(**slopes: float) -> list[soak.Sample]:
    """Half an hour of samples in which some quantities change from one second to the next."""
    start = soak.Sample(0, 20_000, 9, 16, 8, 3, 100.0, 30.0, 0.1)
    return [
        start._replace(
            second=second, **{name: getattr(start, name) + round(by * second) for name, by in slopes.items()}
        )
        for second in range(1800)
    ]


def test_soak_finds_nothing_in_what_stays_as_it_is() -> None:
    assert soak.grown(samples()) == []
    assert soak.grown(samples(memory_kib=-1, threads=-0.001, descriptors=-0.001)) == []


@pytest.mark.parametrize(
    ("name", "by"), [("memory_kib", 2.0), ("threads", 0.003), ("descriptors", 0.01)], ids=lambda value: str(value)
)
def test_soak_finds_what_grows(name: str, by: float) -> None:
    (found,) = soak.grown(samples(**{name: by}))
    assert found.startswith(f"{name} grew from ")


def test_soak_is_not_alarmed_by_what_settles_in_the_beginning() -> None:
    settled = [sample._replace(memory_kib=min(30_000, 20_000 + 50 * number)) for number, sample in enumerate(samples())]
    assert soak.grown(settled) == []


def test_chart_is_well_formed_and_keeps_its_lines_inside() -> None:
    text = draw("A < B", [Panel("one", [0, 5, 3] * 700), Panel("none", [])], [(0.1, 0.2)], 30)
    root = ElementTree.fromstring(text)
    _, _, width, height = (float(part) for part in root.attrib["viewBox"].split())
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    points = [point.split(",") for line in lines for point in line.attrib["points"].split()]
    assert len(lines) == 2 and 100 < len(points) <= 2 * 400
    assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)


@needs_linux
@pytest.mark.attack
def test_soak_of_some_seconds_is_all_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["soak", "--minutes", "0.1", "--rate", "400", "--out", str(tmp_path)])
    # So short a time says nothing of growth.
    monkeypatch.setattr(soak, "grown", lambda samples: [])
    assert soak.main() == 0
    rows = (tmp_path / "soak.csv").read_text().splitlines()
    assert rows[0].startswith("second,memory_kib,threads,descriptors,connections") and len(rows) > 3
    assert "<polyline" in (tmp_path / "soak.svg").read_text()


@pytest.mark.attack
def test_no_request_is_lost_when_a_loaded_server_is_told_to_stop() -> None:
    line, problems = stop_load.judge(5000, 0.01, with_wrk=False)
    assert problems == []
    assert int(line.split()[0]) >= 5000


@pytest.mark.attack
def test_requests_lost_are_found() -> None:
    _, problems = stop_load.judge(5000, 0.01, with_wrk=False, number=signal.SIGKILL)
    assert any("requests on a connection" in problem for problem in problems), problems
