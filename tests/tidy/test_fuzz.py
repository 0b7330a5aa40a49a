"""The fuzz targets are all listed, begin with something, and a finding does not pass for a run without one."""

import pytest

from tools import fuzz, fuzz_seeds
from tools.steps import ROOT

LOG = """\
INFO: Seed: 1
#2\tINITED cov: 250 ft: 251 corp: 1/1b exec/s: 0 rss: 28Mb
#65536\tNEW    cov: 1318 ft: 3605 corp: 1314/33Kb lim: 4096 exec/s: 32768 rss: 28Mb L: 153/2653 MS: 1 EraseBytes-
"""
DONE = """\
#81920\tDONE   cov: 1320 ft: 3610 corp: 1316/33Kb lim: 4096 exec/s: 32768 rss: 28Mb
Done 81920 runs in 2 second(s)
stat::number_of_executed_units: 81920
stat::average_exec_per_sec:     40960
"""
PANIC = """\
thread '<unnamed>' (1) panicked at src/head.rs:43:5:
assertion failed
==1== ERROR: libFuzzer: deadly signal
stat::number_of_executed_units: 65540
stat::average_exec_per_sec:     0
artifact_prefix='artifacts/'; Test unit written to artifacts/crash-1
"""


@pytest.mark.parametrize("target", fuzz.targets())
def test_target_is_documented_and_has_seeds(target: str) -> None:
    assert f"| `{target}` |" in (ROOT / "docs" / "fuzzing.md").read_text()
    assert f"| [`{target}`] |" in (ROOT / "fuzz" / "src" / "lib.rs").read_text()
    seeds = list(fuzz_seeds.seeds(target))
    assert len(seeds) >= 5
    assert all(len(seed) <= fuzz.INPUT_BYTES_MAX for seed in seeds)


@pytest.mark.parametrize("name", set(fuzz._DICTIONARIES.values()))
def test_dictionary_is_there(name: str) -> None:
    assert (ROOT / "fuzz" / "dictionaries" / f"{name}.dict").read_text().count('"') > 20


def test_figures_are_those_of_the_end_of_the_log() -> None:
    assert fuzz.read_log("head", LOG + DONE, 0).row() == "| head | 81,920 | 40,960 | 1,320 | 3,610 | 1,316 | 0 |"


def test_finding_is_told_with_what_the_target_says() -> None:
    result = fuzz.read_log("head", LOG + PANIC, 77)
    assert result.row() == "| head | 65,540 | 0 | 1,318 | 3,605 | 1,314 | 1 |"
    assert result.finding.startswith("thread '<unnamed>' (1) panicked at src/head.rs:43:5:\n")
    assert "crash-1" in result.finding


@pytest.mark.parametrize("log", ["", LOG])
def test_run_that_fails_otherwise_is_a_finding_too(log: str) -> None:
    assert fuzz.read_log("head", log, -9).finding
