"""Calls that a request spreads over the workers, and waits for: ``request.gather()``.

The calls of one block stand in a list. Workers are told by way of their queue that there is something to take up, as
they are told of requests; each that comes runs one call, and comes again behind the requests that wait by then. The
thread of the block helps: at the end of the block it runs whatever nobody has begun.

Why there is no deadlock, also with one worker, and with every worker inside of such a block:

- Nobody waits for a call that has not begun. Who needs one, by ``result()`` or at the end of the block, begins it and
  runs it, whatever the limit is and whether or not any worker comes.
- So a thread waits only for a call that another thread has begun. Say that a call *needs* another if it asks for its
  result, or if that belongs to a block which it has opened. On the stack of each thread every call is needed by the one
  below it: workers take up calls with an empty stack alone, and a thread that waits within a call takes up nothing but
  the very call that it asks for. Only the thread of a block, outside of the block's calls, takes up others of the same
  block, all of which it needs. Thus the topmost call of the thread that is waited for is needed, by way of others, by
  the one that waits.
- Follow that from thread to thread: unless calls need each other in a circle, which no scheduler could serve, the way
  ends at a call that waits for no other. It runs on, and with its end the way gets shorter.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from ushabti import _core
from ushabti.errors import DeadlineExceeded, Disconnected, ServerStateError, UshabtiError
from ushabti.handlers import describe

__all__ = ["Call", "Gather"]

logger = logging.getLogger("ushabti")

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")

_WAITING, _BEGUN, _OVER = range(3)


class _Stack(threading.local):
    """How many calls of blocks the present thread is in."""

    depth = 0


_stack = _Stack()


class Call(Generic[T]):
    """One call of a block, made by :meth:`Gather.call`. Any thread may ask it, also after the block."""

    __slots__ = ("_function", "_gather", "_problem", "_state", "_value", "_work")

    def __init__(self, gather: "Gather", function: Callable[..., T], work: Callable[[Context], T]) -> None:
        self._gather = gather
        self._function = function
        # Emptied when it has begun: what the call was given is not kept for its result.
        self._work: tuple[Context, Callable[[Context], T]] | None = (copy_context(), work)
        self._state = _WAITING
        self._value: T
        self._problem: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has returned or raised, or will never begin."""
        return self._state == _OVER

    def result(self) -> T:
        """Returns what the function has returned; runs it if nobody has begun it, and waits for whoever has.

        Raises:
            BaseException: What the function has raised; of a call that was never begun, what the block ends with.
        """
        self._gather._settle(self)
        if self._problem is not None:
            try:
                raise self._problem
            finally:
                # The traceback has this frame: without it, the exception would refer to itself by way of the call.
                del self
        return self._value

    def exception(self) -> BaseException | None:
        """Returns what :meth:`result` would raise, or ``None``. Waits as that does."""
        self._gather._settle(self)
        return self._problem

    def __repr__(self) -> str:
        return f"<Call {describe(self._function)}>"


class Gather:
    """A block of calls that run side by side: ``with request.gather() as calls:``.

    A call begins as soon as a worker is free, and at the end of the block at the latest: there the calling thread runs
    what nobody has begun, and waits for what others run. After the block every call is over. Each runs in a copy of the
    context variables (:mod:`contextvars`) as they were when it was made, and for the same request, which is
    ``ushabti.current()`` there.

    A call that raises ends the block: calls that have not begun are never begun, those that run are waited for, and the
    block raises the first exception, with a note for each other. So it is when the connection is lost
    (``request.lost``) or the deadline passes before the answer has begun: the block looks before each call, and at its
    end. What the block's own code raises goes before; what calls have raised is logged then.

    It may be used by any thread, and within calls of other such blocks; once.

    Args:
        request: The request for which the calls are made.
        limit: How many run at once, that of the calling thread included. ``None``: as many as there may be workers.
        tickets: Brings the workers.
    """

    def __init__(self, request: _core.Request, limit: int | None, tickets: _core.Tickets) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"gather(limit={limit}): at least one call runs at a time, so the limit is 1 or more")
        self._request = request
        self._tickets = tickets
        self._limit = limit
        self._helpers_max = 0
        # The thread of the block, and how many calls it was in when it opened that.
        self._owner = 0
        self._depth = 0
        self._process = os.getpid()
        # Guards what follows, and the states of the calls; held for some assignments, never while a call runs.
        self._lock = threading.Lock()
        self._is_open = False
        # Those that have not begun, and some that have.
        self._list: deque[Call[Any]] = deque()
        self._unbegun = 0
        self._running = 0
        # Tickets in the queue, and workers that run a call for one.
        self._sent = 0
        self._helping = 0
        # Why no call is begun any more.
        self._reason: BaseException | None = None
        self._failed: list[Call[Any]] = []
        # Made by the first who waits.
        self._changed: threading.Condition | None = None

    def __enter__(self) -> Self:
        if self._owner:
            raise RuntimeError("a block of calls is entered once; request.gather() makes another")
        self._owner = threading.get_ident()
        self._depth = _stack.depth
        workers = self._tickets.workers
        if _core.current() is self._request:
            workers -= 1  # This thread is one of them.
        self._helpers_max = workers if self._limit is None else min(workers, self._limit - 1)
        self._is_open = True
        self._tickets.open(self._help)
        return self

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Call[T]:
        """Has a worker call the function; it begins as soon as one is free.

        Calls may be added by the block's calls too.

        Raises:
            RuntimeError: The block has not begun or has ended.
        """
        call = Call(self, function, lambda context: context.run(function, *args, **kwargs))
        with self._lock:
            if not self._is_open:
                raise RuntimeError("calls are made within the block: with request.gather() as calls: calls.call(...)")
            if self._reason is not None:
                self._drop(call, self._reason)
                return call
            self._list.append(call)
            self._unbegun += 1
            is_wanted = self._sent < self._unbegun and self._sent + self._helping < self._helpers_max
            self._sent += is_wanted
            if self._changed is not None:
                self._changed.notify_all()
        if is_wanted and not self._tickets.send():
            with self._lock:
                # None will come for the others either.
                self._sent -= 1
                self._helpers_max = 0
        return call

    def map(self, function: Callable[[A], T], iterable: Iterable[A]) -> list[T]:
        """Calls the function with each item, side by side, and returns the results in the order of the items.

        Raises:
            BaseException: What a call has raised; the first one, if it is asked by the block itself.
        """
        calls = [self.call(function, item) for item in iterable]
        return [call.result() for call in calls]

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if problem is not None:
                self._drop_all(problem)
            self._run_out(lambda: self._running == 0, is_helping=True)
        except BaseException as interruption:
            self._drop_all(interruption)
            raise
        finally:
            with self._lock:
                self._is_open = False
            self._tickets.close()
        if problem is not None:
            self._log_failed(seen=problem)
            return
        if self._reason is None:
            _refuse_if_over(self._request)
            return
        for call in self._failed:
            if call._problem is not self._reason:
                self._reason.add_note(f"{describe(call._function)} has raised as well: {call._problem!r}")
        raise self._reason

    def _log_failed(self, seen: BaseException) -> None:
        """Logs what the calls have raised, but for what the exception tells that the block ends with."""
        told = {id(problem) for problem in _chain(seen)}
        for call in self._failed:
            if id(call._problem) not in told:
                logger.error(
                    "%s %s: the call of %s failed, in a block that had failed already",
                    self._request.method,
                    self._request.path,
                    describe(call._function),
                    exc_info=call._problem,
                )

    def _help(self) -> bool:
        """Runs one call. A worker with a ticket; the answer is whether it is to come again."""
        with self._lock:
            self._sent -= 1
            call = self._begin()
            if call is None:
                return False
            self._helping += 1
        self._run(call)
        with self._lock:
            self._helping -= 1
            is_wanted = self._unbegun > self._sent
            self._sent += is_wanted
        return is_wanted

    def _settle(self, call: Call[Any]) -> None:
        """Brings the call to its end, or waits for that."""
        if call._state == _OVER:
            return
        with self._lock:
            mine = self._begin(call) if call._state == _WAITING else None
        if mine is not None:
            self._run(mine)
            return
        is_helping = threading.get_ident() == self._owner and _stack.depth == self._depth
        self._run_out(lambda: call._state == _OVER, is_helping)

    def _run_out(self, is_over: Callable[[], bool], is_helping: bool) -> None:
        """Runs what nobody has begun, if it ``is_helping``, and waits until ``is_over``, asked under the lock."""
        while True:
            with self._lock:
                while (call := self._begin() if is_helping else None) is None:
                    if is_over():
                        return
                    if os.getpid() != self._process:
                        raise ServerStateError(
                            "this is a forked child: the threads that run the other calls are not here"
                        )
                    if self._changed is None:
                        self._changed = threading.Condition(self._lock)
                    self._changed.wait()
            self._run(call)

    def _begin(self, call: Call[Any] | None = None) -> Call[Any] | None:
        """Takes a call to be run by the calling thread: this one, which waits, or the first. Under the lock."""
        if not self._unbegun:
            return None
        try:
            _refuse_if_over(self._request)
        except UshabtiError as problem:
            self._drop_waiting(problem)
            return None
        while call is None or call._state != _WAITING:
            call = self._list.popleft()
        call._state = _BEGUN
        self._unbegun -= 1
        self._running += 1
        return call

    def _run(self, call: Call[T]) -> None:
        work, call._work = call._work, None
        assert work is not None, "a call is begun once"
        context, function = work
        _stack.depth += 1
        before = _core.work_for(self._request)
        problem: BaseException | None = None
        try:
            call._value = function(context)
        except BaseException as raised:  # noqa: BLE001  (it is the caller's, and raised there)
            # Without the frames of this module, by which it would come to refer to itself.
            inner = raised.__traceback__ and raised.__traceback__.tb_next and raised.__traceback__.tb_next.tb_next
            problem = raised.with_traceback(inner)
        finally:
            _core.work_for(before)
            _stack.depth -= 1
            with self._lock:
                call._problem = problem
                call._state = _OVER
                self._running -= 1
                if problem is not None:
                    self._failed.append(call)
                    self._drop_waiting(problem)
                if self._changed is not None:
                    self._changed.notify_all()

    def _drop_all(self, reason: BaseException) -> None:
        with self._lock:
            self._drop_waiting(reason)

    def _drop_waiting(self, reason: BaseException) -> None:
        """Sees to it that no call is begun any more. Under the lock."""
        if self._reason is None:
            self._reason = reason
        for call in self._list:
            if call._state == _WAITING:
                self._drop(call, self._reason)
        self._list.clear()
        self._unbegun = 0
        if self._changed is not None:
            self._changed.notify_all()

    def _drop(self, call: Call[Any], reason: BaseException) -> None:
        call._work = None
        call._problem = reason
        call._state = _OVER


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it has come of, as a traceback would show them."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [problem]
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [one.__cause__, one.__context__]


def _refuse_if_over(request: _core.Request) -> None:
    """As ``request.check()``, but that a client which has only closed its side still waits for its answer."""
    if request.lost:
        raise Disconnected("the client has left")
    if request.remaining() == 0.0 and not request.responded:
        raise DeadlineExceeded("the deadline of the request has passed")
