"""Where the core's lines and notices go, and what happens when they cannot be written."""

import contextlib
import errno
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ushabti import logs
from ushabti.config import Settings
from ushabti.errors import ConfigError
from ushabti.logs import AccessWriter, FileWriter, LogThread, StandardErrorHandler


@contextlib.contextmanager
def bare_logging() -> Iterator[None]:
    """Logging as in a program that has not configured it: without pytest's own handlers."""
    loggers = [logging.getLogger(name) for name in ("", "ushabti", "ushabti.access")]
    before = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers[:] = []
        logger.setLevel(logging.WARNING if logger.name == "root" else logging.NOTSET)
    try:
        yield
    finally:
        for logger, handlers, level in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)


def writer_of(**options: Any) -> AccessWriter:
    return AccessWriter.from_settings(Settings.from_options(options))


# ---- the file


def test_a_batch_is_appended_in_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    path.write_text("old\n")
    writes: list[bytes] = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(bytes(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    writer = writer_of(access_log="text", access_log_file=path)
    writer.open()
    writer.write(["one", "two ü"])
    writer.close()
    assert writes == ["one\ntwo ü\n".encode()]
    assert path.read_text() == "old\none\ntwo ü\n"


def test_a_file_that_cannot_be_opened_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^access_log_file is '.*': Is a directory; give a file that can be written$"
    ):
        writer_of(access_log="text", access_log_file=tmp_path).open()


def test_only_owner_and_group_read_a_new_file(tmp_path: Path) -> None:
    writer = FileWriter(str(tmp_path / "access.log"))
    writer.open()
    writer.close()
    assert (tmp_path / "access.log").stat().st_mode & 0o007 == 0


def test_reopening_goes_on_in_a_new_file_under_the_old_name(tmp_path: Path) -> None:
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    writer = FileWriter(str(path))
    writer.open()
    writer.write(["one"])
    path.rename(old)
    writer.write(["two"])
    assert writer.reopen()
    writer.write(["three"])
    writer.close()
    assert old.read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_a_failure_is_reported_once_and_every_batch_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "access.log"
    writer = FileWriter(str(path))
    writer.open()
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    writer.write(["lost"])
    writer.write(["lost", "too"])
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "cannot be written" in caplog.text and "No space left" in caplog.text
    monkeypatch.setattr(os, "write", write)
    writer.write(["kept"])
    writer.write(["kept, too"])
    writer.close()
    assert path.read_text() == "kept\nkept, too\n"
    assert [record.getMessage() for record in caplog.records[1:]] == [
        "the access log can be written again; 3 lines were lost"
    ]


def test_a_line_that_was_cut_off_does_not_run_into_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    writer = FileWriter(str(path))
    writer.open()
    write = os.write
    calls: list[int] = []

    def nearly_full(descriptor: int, data: bytes) -> int:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[:3])

    monkeypatch.setattr(os, "write", nearly_full)
    writer.write(["interrupted"])
    monkeypatch.setattr(os, "write", write)
    writer.write(["whole"])
    writer.close()
    assert path.read_text() == "int\nwhole\n"


def test_a_file_that_was_closed_is_not_reopened(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = FileWriter(str(path))
    writer.open()
    writer.close()
    path.unlink()
    assert writer.reopen()
    assert not path.exists()


def test_a_file_that_cannot_be_reopened_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = FileWriter(str(folder / "access.log"))
    writer.open()
    folder.rename(tmp_path / "away")
    assert writer.reopen()
    assert "cannot be opened again" in caplog.text
    folder.mkdir()
    writer.write(["back"])
    writer.close()
    assert (folder / "access.log").read_text() == "back\n"


# ---- logging


def test_without_a_log_nothing_is_set_up() -> None:
    with bare_logging():
        writer = writer_of()
        writer.open()
        assert not writer.reopen()
        writer.close()
        assert logging.getLogger("ushabti").handlers == []


def test_lines_go_to_standard_error_where_nothing_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    with bare_logging():
        writer = writer_of(access_log="text")
        writer.open()
        writer.write(["one", "100 %s"])
        assert capsys.readouterr().err == "one\n100 %s\n"


def test_lines_go_where_the_application_sends_them_and_only_there(capsys: pytest.CaptureFixture[str]) -> None:
    with bare_logging():
        writer = writer_of(access_log="text")
        writer.open()
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        logging.getLogger().addHandler(handler)
        writer.write(["one", "100 %s"])
        logging.getLogger("ushabti").warning("a message")
        assert stream.getvalue() == "one\n100 %s\na message\n"
        assert capsys.readouterr().err == ""


def test_a_handler_for_the_access_log_alone_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with bare_logging():
        stream = io.StringIO()
        logging.getLogger("ushabti.access").addHandler(logging.StreamHandler(stream))
        writer = writer_of(access_log="text")
        writer.open()
        writer.write(["one"])
        assert stream.getvalue() == "one\n"
        assert capsys.readouterr().err == ""


def test_messages_are_shown_from_info_on_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    with bare_logging():
        logger = logging.getLogger("ushabti")
        logs.set_up()
        logs.set_up()
        logger.debug("debug")
        logger.info("info")
        assert [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()] == ["info"]
        logs.set_up("error")
        logger.warning("warning")
        logger.error("error")
        assert [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()] == ["error"]
        assert len(logger.handlers) == 1


def test_the_level_of_an_application_that_has_configured_logging_is_left_alone() -> None:
    with bare_logging():
        logging.getLogger().addHandler(logging.NullHandler())
        logs.set_up()
        assert logging.getLogger("ushabti").level == logging.NOTSET


def test_a_process_without_standard_error_logs_nothing_and_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    StandardErrorHandler().write(["one"])


# ---- the thread


class Journal:
    """Batches, one after another, and then the end."""

    def __init__(self, *batches: tuple[list[str], int, list[tuple[int, str]]]) -> None:
        self._batches = iter(batches)

    def take_journal(self) -> tuple[list[str], int, list[tuple[int, str]]] | None:
        return next(self._batches, None)


class Kept(AccessWriter):
    def __init__(self, problem: BaseException | None = None) -> None:
        super().__init__(True)
        self.lines: list[str] = []
        self.problem = problem

    def write(self, lines: list[str]) -> None:
        if self.problem:
            problem, self.problem = self.problem, None
            raise problem
        self.lines += lines


def run(journal: Journal, writer: AccessWriter) -> None:
    thread = LogThread(journal, writer)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_lines_and_notices_of_each_batch_are_handed_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ushabti")
    writer = Kept()
    run(Journal((["a", "b"], 0, []), ([], 0, [(20, "100 %s"), (40, "bad")]), (["c"], 7, [])), writer)
    assert writer.lines == ["a", "b", "c"]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "100 %s"),
        ("ERROR", "bad"),
        ("WARNING", "7 lines of the access log were lost: it cannot be written as fast"),
    ]


@pytest.mark.parametrize("problem", [ValueError("broken"), SystemExit(1)])
def test_a_failure_of_the_log_does_not_end_the_log(problem: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    writer = Kept(problem)
    run(Journal((["a"], 0, []), (["b"], 0, [])), writer)
    assert writer.lines == ["b"]
    assert "writing the log failed" in caplog.text


def test_a_handler_of_logging_that_raises_keeps_nothing_else_out_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError(f"cannot show {record.getMessage()!r}")

    writer, broken = Kept(SystemExit(1)), Broken()
    logging.getLogger("ushabti").addHandler(broken)
    try:
        run(Journal((["a"], 7, [(40, "one"), (40, "two")]), (["b"], 0, [(40, "three")])), writer)
    finally:
        logging.getLogger("ushabti").removeHandler(broken)
    assert writer.lines == ["b"]
    errors = capsys.readouterr().err
    for message in ("one", "two", "writing the log failed", "three"):
        assert f"cannot show '{message}'" in errors
    assert "cannot show '7 lines" in errors
