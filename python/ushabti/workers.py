"""The threads that run handlers: how many there are, how they start and end, and what each may keep for itself.

A worker is an ordinary ``threading.Thread``: names, thread-locals, debuggers and profilers work. It enters the native
loop once (``_core.Server.run_worker``) and leaves it when the server stops, or when it has been idle for long while
enough others are there.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from ushabti import _core
from ushabti._core import current
from ushabti.telling import surely

__all__ = ["Hook", "PerThread", "WorkerPool", "Workers", "current", "run_hooks", "run_thread_ends"]

logger = logging.getLogger("ushabti")

T = TypeVar("T")
Hook = Callable[[], object]

# In a forked child: the request whose handler has forked.
_request_of_the_parent: _core.Request | None = None


def _after_fork() -> None:
    """A child has none of these threads, and sockets that belong to its parent."""
    global _request_of_the_parent
    _core.in_forked_child()
    # Never dropped: a request that is dropped unanswered is answered 500, over the parent's connection.
    _request_of_the_parent = current()


os.register_at_fork(after_in_child=_after_fork)


class PerThread(Generic[T]):
    """A value for each thread, made when that thread first asks for it: a database connection, for example.

    Call it to get the calling thread's value. ``close`` is called with the value when its worker thread ends in good
    order, and by :meth:`close` for the calling thread. The values of two threads are never the same object.

    Args:
        make: Makes the value; called by the thread that will use it. What it raises, the caller gets, and the next
            call tries again.
        close: Disposes of a value, called by the thread that has used it. ``None``: the value is only dropped.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], object] | None = None) -> None:
        self._make = make
        self._close = close
        self._local = threading.local()

    def __call__(self) -> T:
        """Returns the calling thread's value."""
        try:
            value: T = self._local.value
        except AttributeError:
            value = self._local.value = self._make()
            _thread_ends.append(self.close)
        return value

    def close(self) -> None:
        """Disposes of the calling thread's value, if it has one."""
        try:
            value: T = self._local.value
        except AttributeError:
            return
        del self._local.value
        if self._close is not None:
            self._close(value)


class _ThreadEnds(threading.local):
    """What is to be called when the present thread ends."""

    def __init__(self) -> None:
        self.calls: list[Hook] = []

    def append(self, call: Hook) -> None:
        if call not in self.calls:
            self.calls.append(call)


_thread_ends = _ThreadEnds()


def run_hooks(hooks: Iterable[Hook]) -> None:
    """Calls each hook and logs what it raises: a worker that lacks something still beats none."""
    for hook in hooks:
        try:
            hook()
        except BaseException:  # noqa: BLE001  (SystemExit, too: the thread has more to do)
            surely(logger.exception, "%r failed in %s", hook, threading.current_thread().name)


def run_thread_ends(hooks: Iterable[Hook]) -> None:
    """Disposes of what the calling thread has kept for itself, then calls the hooks. It is about to end."""
    run_hooks([*reversed(_thread_ends.calls), *hooks])
    _thread_ends.calls.clear()


class WorkerPool:
    """The worker threads of one lane.

    Starts the minimum at once and lets the native queue say when more are wanted: one thread of its own waits for
    that, because starting a thread needs the interpreter and the IO thread never takes it.

    Args:
        core: The native server.
        application: What the workers call.
        lane: The number of the lane.
        name: What the threads are called, before their number.
        minimum: Threads to start with.
        on_failure: Called by a thread of the pool when the native server has ended by a fault of its own.
        on_thread_start: Called in each worker before its first request.
        on_thread_stop: Called in each worker after its last one.
    """

    def __init__(
        self,
        core: _core.Server,
        application: _core.Application,
        lane: int,
        name: str,
        minimum: int,
        on_failure: Hook,
        on_thread_start: Iterable[Hook] = (),
        on_thread_stop: Iterable[Hook] = (),
    ) -> None:
        self._core = core
        self._application = application
        self._lane = lane
        self._name = name
        self._minimum = minimum
        self._on_failure = on_failure
        self._on_thread_start = tuple(on_thread_start)
        self._on_thread_stop = tuple(on_thread_stop)
        self._process = os.getpid()
        # Guards `_threads` and `_count`; held for a list operation.
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._count = 0
        self._grower = threading.Thread(target=self._grow, name=f"{name}-pool", daemon=True)

    def start(self) -> None:
        """Starts the minimum of workers and the thread that adds to them."""
        for _ in range(self._minimum):
            self._add()
        self._grower.start()

    def is_worker(self, thread: threading.Thread) -> bool:
        """Whether this is one of the pool's threads."""
        with self._lock:
            return thread in self._threads

    def join(self, timeout: float) -> list[threading.Thread]:
        """Waits for every thread to end, after the native server was closed; returns those that did not in time."""
        until = time.monotonic() + timeout
        while True:
            with self._lock:
                threads = [*self._threads, self._grower]
            alive = [thread for thread in threads if thread.is_alive() and thread is not threading.current_thread()]
            if not alive:
                return []
            left = until - time.monotonic()
            if left <= 0:
                return alive
            alive[0].join(left)

    def _add(self) -> None:
        with self._lock:
            self._count += 1
            # Daemon threads: a handler that never returns must not keep the process from ending after `stop`.
            thread = threading.Thread(target=self._work, name=f"{self._name}-worker-{self._count}", daemon=True)
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._threads.discard(thread)
            raise

    def _grow(self) -> None:
        while (wanted := self._core.wait_to_grow(self._lane)) is not None:
            started = 0
            try:
                while started < wanted:
                    self._add()
                    started += 1
            except RuntimeError as problem:
                self._core.workers_not_started(self._lane, wanted - started)
                # The system gives no more threads; those that are there go on. Asked again at once it would say so
                # again.
                surely(logger.warning, "cannot start another worker: %s", problem)
                time.sleep(1.0)
        if self._core.has_failed():
            self._on_failure()

    def _work(self) -> None:
        is_ready = False
        try:
            run_hooks(self._on_thread_start)
            is_ready = True
            self._core.run_worker(self._application, self._lane)
        finally:
            if not is_ready:
                self._core.workers_not_started(self._lane, 1)
            # In a child that a handler has forked, what the hooks would close is the parent's, and the lock may have
            # been held by a thread that is not there.
            if os.getpid() == self._process:
                run_thread_ends(self._on_thread_stop)
                with self._lock:
                    self._threads.discard(threading.current_thread())


class Workers:
    """The workers of all lanes of one server; see :class:`WorkerPool`.

    Args:
        core: The native server.
        application: What the workers call.
        lanes: Name, and the least and the most threads, of each lane.
        hooks: What each pool is given after that.
        name: What the threads' names begin with.
    """

    def __init__(
        self,
        core: _core.Server,
        application: _core.Application,
        lanes: Iterable[tuple[str, int, int]],
        *hooks: Any,
        name: str = "ushabti",
    ) -> None:
        self._pools = [
            WorkerPool(core, application, number, f"{name}-{lane}" if number else name, minimum, *hooks)
            for number, (lane, minimum, _) in enumerate(lanes)
        ]

    def start(self) -> None:
        """Starts the minimum of workers of each lane, and the threads that add to them."""
        for pool in self._pools:
            pool.start()

    def is_worker(self, thread: threading.Thread) -> bool:
        """Whether this is one of the workers."""
        return any(pool.is_worker(thread) for pool in self._pools)

    def join(self, timeout: float) -> list[threading.Thread]:
        """Waits for every thread to end, after the native server was closed; returns those that did not in time."""
        until = time.monotonic() + timeout
        return [thread for pool in self._pools for thread in pool.join(max(0.0, until - time.monotonic()))]
