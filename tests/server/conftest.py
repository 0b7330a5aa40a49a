"""The server's log and a handler that can be held, for the tests that want them."""

import logging
from collections.abc import Iterator

import pytest

from tests.certificates import Authority, Identity
from tests.server.waiting import Gate, Log

LOOPBACK = ("DNS:localhost", "IP:127.0.0.1", "IP:0:0:0:0:0:0:0:1")


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


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the clients of these tests trust."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def identity(authority: Authority) -> Identity:
    """A server's certificate for loopback."""
    return authority.issue("server", *LOOPBACK)
