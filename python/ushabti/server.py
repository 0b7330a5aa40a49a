"""The server: puts settings, routes, native core and worker threads together, and takes them down again in order."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from ushabti import _core, exits, signals
from ushabti.address import Address, listening
from ushabti.admin import admin_router
from ushabti.alerts import AlertThread
from ushabti.assembly import assemble, with_reserved_lane
from ushabti.config import Settings
from ushabti.dump import Dump
from ushabti.errors import ConfigError, ServerStateError
from ushabti.logs import AccessWriter, LogThread, set_up
from ushabti.options import Options
from ushabti.orders import STOP, Orders
from ushabti.patterns import Pattern
from ushabti.phase import Phase
from ushabti.routing import Router
from ushabti.socket_threads import SocketThreads
from ushabti.websocket import Binder
from ushabti.workers import Workers

__all__ = ["Address", "Server"]

logger = logging.getLogger("ushabti")

# How often a wait comes back to Python, so that a second signal or a shorter timeout is seen.
_SLICE_S = 0.1
# What threads get to end in after the last answer was sent; they only have to leave their loop.
_LEAVE_S = 5.0
# The same after a stop that had to cut something off: a handler that still runs will not end in time anyway.
_LEAVE_CUT_S = 0.5


class Server:
    """Serves an application: a :class:`Router`, or one handler for everything.

    A server is started and stopped once. All methods may be called by any thread.

    Args:
        app: What answers the requests.
        websocket_handler: What handles the WebSockets of ``request.upgrade()``: a function of ``(ws, event, message)``.
        hub: The topics of the WebSockets. ``None``: those of the router.
        options: See :class:`ushabti.options.Options`. The environment is not read; that is for the command line.

    Attributes:
        settings: The options, checked and complete.
        router: The router.
        stopping: Set when the server begins to stop: background threads wait on it instead of sleeping.

    Raises:
        ConfigError: An option or the application cannot work. Nothing has been opened then.
    """

    _is_private = False
    _thread_name = "ushabti"

    def __init__(
        self,
        app: Router | Callable[..., object],
        *,
        websocket_handler: object = None,
        hub: _core.Hub | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.settings = Settings.from_options(options)
        self.router = app if isinstance(app, Router) else Router.of(app)
        self.stopping = threading.Event()
        if hub is not None:
            self.router.join_hub(hub)
        self._frozen = self.router.freeze()
        self._process = os.getpid()
        # Guards the phase and who has brought it about.
        self._lock = threading.Lock()
        self._phase = Phase.NEW
        self._actor = 0
        self._settled = threading.Event()
        self._stopped = threading.Event()
        self._until = float("inf")
        self._is_clean = True
        self._left = 0
        # Signals and calls of `stop`, for the thread in `serve`.
        self._orders = Orders()
        self._addresses: tuple[Address, ...] = ()
        self._redirects: tuple[Address, ...] = ()

        self.settings = with_reserved_lane(self.settings, self._frozen)
        self._socket_threads = SocketThreads(
            self.settings.websocket_threads, self._frozen.on_thread_start, self._frozen.on_thread_stop
        )
        bind = Binder(websocket_handler, self._socket_threads)
        self._core, application = assemble(self._frozen, self.settings, bind)
        self._workers = Workers(
            self._core,
            application,
            self.settings.lanes,
            self._on_failure,
            self._frozen.on_thread_start,
            self._frozen.on_thread_stop,
            name=self._thread_name,
        )
        self._admin: Server | None = None
        if self.settings.admin is not None:
            # It must not keep this server alive, which the garbage collector would not see.
            self._admin = _AdminServer(admin_router(weakref.proxy(self)), workers=(1, 2), max_connections=64)
        self._access = AccessWriter.from_settings(self.settings)
        self._log = LogThread(self._core, self._access)
        self._alerts = AlertThread(self._core, application)

    @property
    def hub(self) -> _core.Hub:
        """The topics of its WebSockets."""
        return self._frozen.hub

    @property
    def address(self) -> Address:
        """The first address that the server listens on."""
        if not self._addresses:
            raise ServerStateError("the server has not been started, so it has no address")
        return self._addresses[0]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every address that the server listens on; empty before the start."""
        return self._addresses

    @property
    def redirect_addresses(self) -> tuple[Address, ...]:
        """Where the option ``tls_redirect`` is served; empty before the start, and without it."""
        return self._redirects

    @property
    def admin_address(self) -> Address | None:
        """Where the option ``admin`` is served; None before the start, and without it."""
        return self._admin._addresses[0] if self._admin is not None and self._admin._addresses else None

    @property
    def state(self) -> str:
        """``starting``, ``running``, ``stopping`` from the first moment of a stop on, or ``failed``."""
        now = "stopping" if self.stopping.is_set() else "running" if self._settled.is_set() else "starting"
        return "failed" if self._core.has_failed() else now

    def stats(self) -> dict[str, Any]:
        """Counters of this moment.

        Returns:
            ``connections_open``, ``connections_accepted``; ``connections``, how many are ``idle`` between two requests,
            ``reading`` one, ``handling`` (a worker has it, or will), ``writing``, ``websocket`` or ``closing``;
            ``accept_pauses`` (for want of descriptors or memory); ``bytes_received``, ``bytes_sent``;
            ``requests_dispatched`` (given to workers), ``requests_abandoned`` (of these, never run because the client
            had left), ``answers_without_worker``; ``refusals``, a dictionary by reason; ``answers``, one by class of
            status (``"2xx"``), and ``"discarded"`` where the client was gone; ``queue_waiting``; ``queue_waits``,
            from a request being complete to its handler: ``count``, ``sum`` in seconds, and ``buckets``, each a bound
            and how many were no longer; ``gil_waits`` of workers for the interpreter: ``count`` and ``sum``;
            ``requests_deferred``, which are not answered yet;
            ``workers``, ``workers_busy``, ``workers_idle``; ``lanes``, the queue and the workers of each;
            ``websockets_open``, ``websocket_messages`` received.
        """
        return self._core.stats()

    def dump(self) -> Dump:
        """What every thread does at this moment: for which request or WebSocket, since when, and where in the code; and
        which requests hang without a thread.
        """
        where = ", ".join(map(str, self._addresses)) or "not started"
        patterns = [pattern.text for _, pattern in self.router._names(Pattern("", (), ()))]
        title = f"ushabti, pid {os.getpid()}, {where}"
        core = self._core
        return Dump.take(title, self.stats(), core.desks, self._socket_threads.at_work, core.waiting, patterns)

    def workers_left(self) -> int:
        """How many workers are still in a handler after the server has stopped; 0 while it runs."""
        return self._left

    def start(self, port: int = 8080, host: str = "127.0.0.1", *, bind: Sequence[str] | None = None) -> Address:
        """Opens the sockets, starts the threads and returns at once.

        Args:
            port: TCP port; 0 lets the system choose one.
            host: Address or host name. Loopback, unless told otherwise: an open port is a choice.
            bind: Addresses to listen on instead: ``"0.0.0.0:80"``, ``"[::]:80"``, ``"unix:app.sock"``, ``"fd://3"``.

        Returns:
            The first address, a context manager that stops the server.

        Raises:
            BindError: An address cannot be listened on.
            ConfigError: The access log's file cannot be opened.
            ServerStateError: The server has been started or stopped before.
            Exception: What a hook of ``on_start`` raises.

            In each case nothing is left open, no thread has stayed, and the server is of no further use.
        """
        if not self._begin(port, host, bind):
            raise ServerStateError("the server was stopped while it started")
        return self.address

    def _begin(self, port: int, host: str, bind: Sequence[str] | None) -> bool:
        """Starts; False if the server was stopped meanwhile, so that it has stopped again."""
        if bind is None:
            bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
        elif isinstance(bind, str):
            bind = [bind]
        if os.getpid() != self._process:
            raise ServerStateError(
                "this server was made before this process was forked; make one of its own in the child"
            )
        # As in `stop`.
        is_mine = False
        try:
            with self._lock:
                if self._phase is not Phase.NEW:
                    raise ServerStateError("a server can be started once, and not after stop(); make another one")
                is_mine = True
                self._phase, self._actor = Phase.STARTING, threading.get_ident()
            self._open(bind)
            exits.remember(self, min(self.settings.stop_timeout, _LEAVE_S))
            with self._lock:
                self._phase, self._actor = Phase.RUNNING, 0
                is_stopped = self.stopping.is_set()
            self._settled.set()
        except BaseException:
            if is_mine:
                try:
                    self._shut()
                except BaseException:
                    self._shut()
                    raise
            raise
        if is_stopped:
            self.stop()
        return not is_stopped

    def _open(self, bind: Sequence[str]) -> None:
        if self._admin is not None and self.settings.admin is not None:
            logger.info("admin: listening on %s", self._admin.start(bind=[self.settings.admin]))
        self._addresses = self._bind(bind, "tls" if self.settings.is_tls else "plain")
        self._redirects = self._bind(self.settings.tls_redirect, "redirect")
        self._access.open()
        self._log.start()
        for hook in self._frozen.on_start:
            self._orders.is_in_hook = True
            try:
                hook(self)
            finally:
                self._orders.is_in_hook = False
        self._alerts.start()
        self._workers.start()
        self._core.start()

    def _bind(self, addresses: Sequence[str], kind: str) -> tuple[Address, ...]:
        bound = [one for address in addresses for one in self._core.bind(address, kind=kind, private=self._is_private)]
        return tuple(Address(one, self.stop, "https" if kind == "tls" else "http") for one in bound)

    def wait_ready(self, timeout: float = 10.0) -> bool:
        """Waits until the server answers requests.

        Returns:
            False if it does not after ``timeout`` seconds, or will never again: its start failed, or it was stopped.
        """
        return self._settled.wait(timeout) and self._phase is Phase.RUNNING

    def serve(
        self,
        port: int = 8080,
        host: str = "127.0.0.1",
        *,
        bind: Sequence[str] | None = None,
        ready: Callable[["Server"], object] | None = None,
    ) -> bool:
        """Serves until told to stop, and returns when everything that was accepted has been answered.

        SIGTERM and SIGINT (Ctrl-C) stop the server, if this is the main thread; a second one stops it at once. SIGUSR1
        opens the access log's file again, if there is one; SIGHUP reads the certificates again. If these are no files,
        it stops a server whose standard input is a terminal, and does nothing to others. SIGQUIT writes :meth:`dump` to
        standard error. :meth:`stop` may be called by any thread. What the server logs is shown on standard error,
        unless the application has configured logging.

        Args:
            port: See :meth:`start`.
            host: See :meth:`start`.
            bind: See :meth:`start`.
            ready: Called when the server answers requests. ``None``: the addresses are logged.

        Returns:
            True if all was served, False if something was cut off because ``stop_timeout`` was over.

        Raises:
            Exception: What :meth:`start` raises.
        """
        set_up()
        with self._orders.awaited(signals.Obeyed.by(self.settings.access_log_file, self.settings.tls_certificates)):
            try:
                if not self._begin(port, host, bind):
                    return self._is_clean
            except KeyboardInterrupt:
                if not self._orders.stops:
                    raise
                logger.info("stopped while starting")
                return True
            try:
                if ready is None:
                    logger.info("%s", self._greeting())
                else:
                    ready(self)
                self._wait_for_orders()
            finally:
                is_clean = self.stop()
            return is_clean

    def _greeting(self) -> str:
        return listening(self._addresses, self._redirects, self._core.tls_fingerprint())

    def _wait_for_orders(self) -> None:
        while (order := self._orders.get()) not in (STOP, *self._orders.obeyed.stop):
            if order in signals.DUMP:
                self._write_dump()
            elif order in signals.RELOAD and not self.settings.tls_certificates:
                logger.info("SIGHUP: there are no certificates to read again")
            elif order in signals.RELOAD:
                with contextlib.suppress(ConfigError):  # The log has been told.
                    self.reload_tls()
            else:
                self._reopen_log_beside()
        if order != STOP:
            logger.info("%s: stopping", signal.Signals(order).name)

    def _reopen_log_beside(self) -> None:
        # A pipe that nobody reads, for example, must not keep this thread from the next order.
        try:
            threading.Thread(target=self.reopen_log, name="ushabti-reopen", daemon=True).start()
        except RuntimeError as problem:
            logger.error("SIGUSR1: the access log cannot be opened again: %s", problem)

    def _write_dump(self) -> None:
        """Writes what all threads do to standard error, if a signal has asked for that since the last time."""
        if self._orders.take_dump():
            try:
                print(self.dump().as_text(), end="", file=sys.stderr, flush=True)
            except Exception:
                logger.exception("what all threads do could not be written")

    def _on_failure(self) -> None:
        """The IO thread has failed, which the log tells: nothing is served any more, so nothing should wait for it."""
        self._is_clean = False
        threading.Thread(target=self.stop, args=(0.0,), name="ushabti-stop", daemon=True).start()

    def reload_tls(self) -> None:
        """Reads the certificates, keys and authorities again, which is also done by itself when the files change.

        New connections have them from then on, and those that are open keep what they have; the log says so.

        Raises:
            ConfigError: One of the files is not what it should be. The old ones stay.
            ServerStateError: The server speaks no TLS.
        """
        self._core.reload_tls()

    def reopen_log(self) -> bool:
        """Opens the access log's file by its name again, after it was renamed. False: there is no file."""
        return self._access.reopen()

    def stop(self, timeout: float | None = None) -> bool:
        """Stops: accepts nothing new, answers what was accepted, ends the threads.

        Called again, or by several threads, it waits for the one stop there is; the shortest timeout holds. A server
        that is just being started is stopped when it has started. In a forked child there is nothing to stop, and
        nothing is done.

        Args:
            timeout: Seconds until what is still running is cut off. ``None``: the ``stop_timeout`` of the server.

        Returns:
            True if nothing was cut off.

        Raises:
            ServerStateError: The caller is a handler or a hook, or a handler of logging that the server calls, and the
                stop would wait for it. Let it start a thread that calls ``stop``, or wait for nothing:
                ``threading.Thread(target=server.stop).start()``.
        """
        if os.getpid() != self._process:
            return True
        me = threading.get_ident()
        # Ctrl-C may come at any moment. Whoever makes the phase go on answers for the end, from before it does so.
        is_mine = False
        try:
            with self._lock:
                self._refuse_own_threads(me)
                found = self._phase
                is_mine = found in (Phase.NEW, Phase.RUNNING)
                self.stopping.set()
                self._until = min(
                    self._until, time.monotonic() + (self.settings.stop_timeout if timeout is None else timeout)
                )
                if is_mine:
                    self._phase, self._actor = Phase.STOPPING, me
            if found is Phase.RUNNING:
                self._orders.put(STOP)
                self._drain()
        except BaseException:
            if is_mine:
                self._is_clean = False
            raise
        finally:
            if is_mine:
                try:
                    self._shut()
                except BaseException:
                    # Interrupted: each of its steps may be taken again.
                    self._shut()
                    raise
        while self._phase is not Phase.STOPPED:
            self._stopped.wait(_SLICE_S)
        return self._is_clean

    def _refuse_own_threads(self, me: int) -> None:
        is_hook = self._actor == me and self._phase in (Phase.STARTING, Phase.STOPPING)
        if is_hook or self._has(threading.current_thread()):
            raise ServerStateError(
                "stop() was called by a handler, a hook or a callback of the server, and would wait for that to end: "
                "call it from a thread of its own, threading.Thread(target=server.stop).start()"
            )

    def _has(self, thread: threading.Thread) -> bool:
        """Whether a stop waits for this thread."""
        is_own = thread in (self._alerts, self._log) or self._workers.is_worker(thread)
        is_own = is_own or self._socket_threads.contains(thread)
        return is_own or (self._admin is not None and self._admin._has(thread))

    def _drain(self) -> None:
        self._core.drain()
        is_drained = False
        while not is_drained and (left := self._until - time.monotonic()) > 0 and self._orders.stops < 2:
            is_drained = self._core.wait_drained(min(left, _SLICE_S))
            self._write_dump()
        cut = 0 if is_drained else self._core.stats()["connections_open"]
        dropped = self._core.close()
        if cut or dropped:
            self._is_clean = False
            logger.warning("stopped before all was served: %d connections cut, %d requests never begun", cut, dropped)
        # A handler may go on after its answer; it has the rest of the time.
        least = time.monotonic() + (_LEAVE_S if is_drained else _LEAVE_CUT_S)
        while threads := self._join_threads(_SLICE_S):
            self._write_dump()
            if self._orders.stops > 1 or time.monotonic() >= max(least, self._until):
                break
        self._left = len(threads)
        for thread in threads:
            self._is_clean = False
            logger.warning("%s is still in a handler; it is left behind", thread.name)
        for hook in self._frozen.on_stop:
            try:
                hook(self)
            except Exception:
                logger.exception("%r failed while the server stopped", hook)

    def _join_threads(self, timeout: float) -> list[threading.Thread]:
        until = time.monotonic() + timeout
        return self._workers.join(timeout) + self._socket_threads.join(max(0.0, until - time.monotonic()))

    def _shut(self) -> None:
        """Closes whatever is open, and says that the server has stopped. Does nothing that waits for a handler."""
        over = Phase.STOPPED
        try:
            self.stopping.set()
            self._orders.put(STOP)
            self._core.close()
            self._join_threads(_LEAVE_CUT_S)
            if self._alerts.ident is not None:
                self._alerts.join(_LEAVE_CUT_S)
            self._core.close_journal()
            if self._log.ident is not None:
                self._log.join(_LEAVE_S)
            if not self._log.is_alive():
                self._access.close()
            if self._admin is not None:
                self._admin.stop(_LEAVE_CUT_S)
        finally:
            # Whatever has gone wrong: nobody is to wait for ever. An assignment is what nothing interrupts.
            self._phase, self._actor = over, 0
            exits.forget(self)
            self._settled.set()
            self._stopped.set()


class _AdminServer(Server):
    """A server beside the server, for the option ``admin``: it answers while all workers of that one are stuck."""

    _is_private = True
    _thread_name = "ushabti-admin"
