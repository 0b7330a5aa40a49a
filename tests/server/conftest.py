"""The server's log and a handler that can be held, for the tests that want them."""

import logging
from collections.abc import Iterator

import pytest

from tests.server.waiting import Gate, Log


@pytest.fixture
def log() -> Iterator[Log]:
    """What is logged during the test."""
    log = Log()
    logger = logging.getLogger("ushabti")
    before = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    yield log
    logger.removeHandler(log)
    logger.setLevel(before)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A handler that holds its workers; whatever it still holds at the end of the test is let go."""
    gate = Gate()
    yield gate
    gate.open.set()
