"""One server for all clients of a module."""

from collections.abc import Iterator

import pytest

from tests.interop.app import router
from tests.support import Running


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """A server with :func:`tests.interop.app.router`."""
    # As many threads at the end of a test as at its start, so that none seems to be left behind.
    running = Running.start(router(), workers=4)
    yield running
    running.stop()
