"""The long judges, in short: they pass where all is well, and find what they are there to find."""

import signal

import pytest

from tools import stop_load


@pytest.mark.attack
def test_no_request_is_lost_when_a_loaded_server_is_told_to_stop() -> None:
    line, problems = stop_load.judge(5000, 0.01, with_wrk=False)
    assert problems == []
    assert int(line.split()[0]) >= 5000


@pytest.mark.attack
def test_requests_lost_are_found() -> None:
    _, problems = stop_load.judge(5000, 0.01, with_wrk=False, number=signal.SIGKILL)
    assert any("requests on a connection" in problem for problem in problems), problems
