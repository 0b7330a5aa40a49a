"""The threads of blocking WebSocket handlers, which wait for the messages of one socket each.

A thread costs some 20 KiB of memory and its share of the interpreter's attention, so their number is bounded: sockets
that should be many have a handler of events instead.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ushabti.errors import HTTPError
from ushabti.workers import Hook, run_hooks, run_thread_ends

__all__ = ["SocketThreads"]

logger = logging.getLogger("ushabti")

T = TypeVar("T")


class SocketThreads:
    """A bounded number of threads, each started for one socket and ended with its handler.

    Args:
        limit: How many there may be at once.
        on_thread_start: Called in each before its handler.
        on_thread_stop: Called in each after it.
    """

    def __init__(self, limit: int, on_thread_start: Iterable[Hook] = (), on_thread_stop: Iterable[Hook] = ()) -> None:
        self._limit = limit
        self._on_thread_start = tuple(on_thread_start)
        self._on_thread_stop = tuple(on_thread_stop)
        self._process = os.getpid()
        # Guards the rest; held for a few assignments.
        self._lock = threading.Lock()
        self._taken = 0
        self._started = 0
        # With what each was started for, and when.
        self._threads: dict[threading.Thread, tuple[object, float]] = {}

    def reserve(self) -> None:
        """Takes a thread, to be started or given back. Raises ``HTTPError`` 503 if there is none left."""
        with self._lock:
            if self._taken < self._limit:
                self._taken += 1
                return
        raise HTTPError(503, "all threads for WebSockets are taken", [("retry-after", "5")])

    def give_back(self) -> None:
        """Gives back a thread that was not started."""
        with self._lock:
            self._taken -= 1

    def start(self, function: Callable[[T], object], argument: T) -> None:
        """Starts the thread that was taken; it is given back when ``function`` has returned, or cannot be started.

        Raises:
            RuntimeError: The system gives no more threads.
        """
        with self._lock:
            self._started += 1
            # A daemon, as workers are: a handler that never returns must not keep the process from ending.
            thread = threading.Thread(
                target=self._work,
                args=(function, argument),
                name=f"ushabti-websocket-{self._started}",
                daemon=True,
            )
            self._threads[thread] = (argument, time.monotonic())
        try:
            thread.start()
        except RuntimeError:
            self._end(thread)
            raise

    def contains(self, thread: threading.Thread) -> bool:
        """Whether this is one of the threads."""
        with self._lock:
            return thread in self._threads

    def at_work(self) -> list[tuple[int, Any, float]]:
        """The threads that run: number, what each was started for, and when by the monotonic clock."""
        with self._lock:
            threads = list(self._threads.items())
        return [(thread.ident, argument, since) for thread, (argument, since) in threads if thread.ident is not None]

    def join(self, timeout: float) -> list[threading.Thread]:
        """Waits for every thread to end; returns those that did not in time."""
        until = time.monotonic() + timeout
        while True:
            with self._lock:
                alive = [thread for thread in self._threads if thread is not threading.current_thread()]
            left = until - time.monotonic()
            if not alive or left <= 0:
                return alive
            started = [thread for thread in alive if thread.ident is not None]
            if started:
                started[0].join(left)
            else:
                time.sleep(min(left, 0.01))

    def _end(self, thread: threading.Thread) -> None:
        with self._lock:
            self._threads.pop(thread, None)
            self._taken -= 1

    def _work(self, function: Callable[[T], object], argument: T) -> None:
        try:
            run_hooks(self._on_thread_start)
            function(argument)
        finally:
            # In a child that the handler has forked, what the hooks would close is the parent's.
            if os.getpid() == self._process:
                run_thread_ends(self._on_thread_stop)
                self._end(threading.current_thread())
