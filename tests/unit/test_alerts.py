"""The thread that tells what happens to requests: nothing that it calls ends it."""

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from ushabti import _core
from ushabti.alerts import AlertThread


class Core:
    """Alerts, one after the other; the last one says that there will be no more."""

    def __init__(self, *alerts: list[Callable[[], object]]) -> None:
        self._alerts: list[Any] = [*alerts, None]

    def take_alert(self, _application: object) -> Any:
        return self._alerts.pop(0)


class Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError(f"cannot show {record.getMessage()!r}")


@pytest.mark.parametrize("is_log_broken", [False, True], ids=["told", "with a broken log"])
@pytest.mark.parametrize("problem", [ValueError("broken"), SystemExit(1)])
def test_what_a_callback_raises_keeps_no_other_from_being_called(
    problem: BaseException, is_log_broken: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise problem

    called: list[int] = []
    core = Core([fail, lambda: called.append(1)], [lambda: called.append(2)])
    thread = AlertThread(cast(_core.Server, core), cast(_core.Application, None))
    broken = Broken()
    if is_log_broken:
        logging.getLogger("ushabti").addHandler(broken)
    try:
        thread.start()
        thread.join(10)
    finally:
        logging.getLogger("ushabti").removeHandler(broken)
    assert not thread.is_alive()
    assert called == [1, 2]
    told = capsys.readouterr().err if is_log_broken else caplog.text
    assert "which was to be called when a client leaves" in told
