"""Every option, once: its name, type, default, reason and range; and the places that an operator may set it.

:class:`Options` is the schema. The constructor of ``Server``, the command line (``--max-queue``), the environment
(``USHABTI_MAX_QUEUE``) and a TOML file (``max_queue = 2048``) all read it, so that none of them has a default or a
check of its own. What comes out is a :class:`ushabti.config.Settings`. Those of TLS are in :mod:`ushabti.tls_options`.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Literal, TypedDict

from ushabti.schema import Option, schema_of
from ushabti.tls_options import TLSOptions
from ushabti.values import (
    ADDRESS,
    ADDRESSES,
    CONNECTIONS,
    FIELD,
    FLAG,
    LANES,
    ORIGINS,
    PATH,
    TEXT,
    WORKERS,
    choice,
    count,
    or_off,
    seconds,
    size,
)

__all__ = ["LAUNCH", "OPTIONS", "Launch", "Options"]

_DAY_S = 86_400.0


_PATIENCE = seconds(0.1, _DAY_S)


class Options(TLSOptions, total=False):
    """What ``Server(app, **options)`` takes, and command line, environment and file as well.

    Sizes are bytes or text (``"32 KiB"``), times are seconds or text (``"500 ms"``).
    """

    workers: Annotated[
        int | str | tuple[int, int],
        Option(
            WORKERS,
            "auto",
            "Workers",
            "Threads that run handlers: a number, a range, or auto",
            "auto keeps 4 and adds threads, up to 256, only when work waits while all are busy; handlers that wait for "
            "a database need many, handlers that compute need few",
        ),
    ]
    lanes: Annotated[
        Mapping[str, int | str | tuple[int, int]] | str,
        Option(
            LANES,
            "none",
            "Workers",
            "Lanes with workers and a queue of their own, for routes with lane=NAME: NAME=N or NAME=N-N, with commas",
            "one lane is enough until a few slow routes take the workers of all the others",
        ),
    ]
    thread_idle: Annotated[
        float | str,
        Option(
            _PATIENCE,
            30,
            "Workers",
            "How long a worker above the minimum stays without work",
            "long against the gaps of a bursty load, short against the memory that its stack holds",
        ),
    ]
    max_queue: Annotated[
        int,
        Option(
            count(1, 1_000_000),
            1024,
            "Limits",
            "Requests that may wait for a worker of their lane; one more is answered 503",
            "a second's work of a thousand short handlers; what waits longer has mostly been given up by its client",
        ),
    ]
    max_connections: Annotated[
        int | Literal["auto"] | None,
        Option(
            CONNECTIONS,
            "auto",
            "Limits",
            "Connections open at once; one more is answered 503 and closed",
            "auto is the system's limit of descriptors (ulimit -n) less 512, or less a quarter where there are few, "
            "which files and the application's own connections need",
        ),
    ]
    max_per_client: Annotated[
        int | str | None,
        Option(
            or_off(count(1, 1_000_000)),
            "off",
            "Limits",
            "Connections of one address, or IPv6 network of 64 bits; one more is answered 429 and closed",
            "behind a proxy all clients have the proxy's address; set it where clients connect directly",
        ),
    ]
    http2: Annotated[
        bool | str,
        Option(
            FLAG,
            "on",
            "Limits",
            "Whether clients may speak HTTP/2",
            "browsers and proxies send many requests over one connection with it, and to others nothing changes",
        ),
    ]
    http2_streams: Annotated[
        int,
        Option(
            count(1, 65_536),
            128,
            "Limits",
            "Requests that one connection of HTTP/2 may have open at once; more are refused, and may be sent again",
            "clients expect a hundred at least, and one connection is not to fill the queue by itself",
        ),
    ]
    max_headers: Annotated[
        int | str,
        Option(
            size(128, 2**24),
            "32 KiB",
            "Limits",
            "Largest request head; beyond it 431, or 414 if the target is at fault",
            "four times what browsers with many cookies send, and little enough to hold for every connection",
        ),
    ]
    max_fields: Annotated[
        int,
        Option(
            count(1, 10_000),
            128,
            "Limits",
            "Header fields of a request; beyond it 431",
            "browsers behind several proxies send about 40",
        ),
    ]
    max_body: Annotated[
        int | str,
        Option(
            size(0),
            "16 MiB",
            "Limits",
            "Largest request body where the route sets no other; beyond it 413",
            "bodies are held in memory until a worker takes them; uploads that need more say so at their route",
        ),
    ]
    backlog: Annotated[
        int,
        Option(
            count(1, 65_535),
            4096,
            "Limits",
            "Length of the system's queue of connections not yet accepted",
            "what Linux itself allows by default (net.core.somaxconn); a burst is queued instead of dropped",
        ),
    ]
    max_message: Annotated[
        int | str,
        Option(
            size(1, 2**31),
            "1 MiB",
            "WebSockets",
            "Largest message, its fragments together and inflated; beyond it close code 1009",
            "messages are held in memory until a worker takes them",
        ),
    ]
    websocket_ping: Annotated[
        float | str,
        Option(
            _PATIENCE,
            20,
            "WebSockets",
            "A client that is silent for so long is pinged",
            "proxies cut connections that are silent for a minute, some for half of one",
        ),
    ]
    websocket_idle: Annotated[
        float | str,
        Option(
            _PATIENCE,
            60,
            "WebSockets",
            "A client of which no byte comes for so long is closed",
            "three pings: a phone may sleep through one, and any byte is a sign of life",
        ),
    ]
    websocket_outbox: Annotated[
        int | str,
        Option(
            size(1024, 2**31),
            "1 MiB",
            "WebSockets",
            "Bytes that may wait for one client, beside one message",
            "enough for seconds of a busy feed, and a thousand clients that stand still take 1 GiB at most",
        ),
    ]
    websocket_overflow: Annotated[
        Literal["close", "drop", "wait"],
        Option(
            choice("close", "drop", "wait"),
            "close",
            "WebSockets",
            "Where more would wait: close with 1013, drop the message, or let the sender wait (write_timeout)",
            "a client that cannot keep up comes back and starts anew; a gap it would not notice, and waiting would let "
            "one slow reader hold up a sender",
        ),
    ]
    websocket_compress: Annotated[
        bool | str,
        Option(
            FLAG,
            "off",
            "WebSockets",
            "Compress messages with clients that can (permessage-deflate)",
            "it costs far more time than the message itself, and small messages gain little",
        ),
    ]
    websocket_origins: Annotated[
        str | list[str] | tuple[str, ...],
        Option(
            ORIGINS,
            "same",
            "WebSockets",
            "Origins whose pages may connect: same (that of the Host), any, or a list",
            "browsers send cookies along whatever page asks, and let it read what comes",
        ),
    ]
    websocket_threads: Annotated[
        int,
        Option(
            count(1, 10_000),
            64,
            "WebSockets",
            "Sockets with a blocking handler at once; one more is answered 503",
            "each has a thread of its own, for as long as it is open",
        ),
    ]
    header_timeout: Annotated[
        float | str,
        Option(
            _PATIENCE,
            10,
            "Time limits",
            "From a request's first byte, or the connect, to the end of its head; then 408",
            "a head is one packet or a few; ten seconds allow for two that were lost",
        ),
    ]
    body_timeout: Annotated[
        float | str,
        Option(
            _PATIENCE,
            30,
            "Time limits",
            "Longest silence within a request body; then 408",
            "every byte counts anew, so a slow line may take its time; min_rate bounds that",
        ),
    ]
    keep_alive: Annotated[
        float | str,
        Option(
            _PATIENCE,
            75,
            "Time limits",
            "How long a connection may rest between two requests",
            "longer than the 60 s of the usual proxies, so that the proxy closes first and no request is lost",
        ),
    ]
    write_timeout: Annotated[
        float | str,
        Option(
            _PATIENCE,
            30,
            "Time limits",
            "Longest time in which a client takes nothing of its answer",
            "a reader that stands still for so long is gone, and its answer fills memory",
        ),
    ]
    min_rate: Annotated[
        int | str,
        Option(
            size(0, 2**30),
            256,
            "Time limits",
            "Bytes a second that a client must send of a body (408), or take of an answer (cut), on average and beyond "
            "the timeout; 0: none",
            "a byte now and then would keep a connection for ever; the slowest modem that is left is far above it",
        ),
    ]
    queue_timeout: Annotated[
        float | str | None,
        Option(
            or_off(_PATIENCE),
            "off",
            "Time limits",
            "How long a request may wait for a worker; then 503, and it is not run",
            "how long an answer is still of use, the application knows; max_queue bounds what waits",
        ),
    ]
    deadline: Annotated[
        float | str | None,
        Option(
            or_off(seconds(0.01, _DAY_S)),
            "off",
            "Time limits",
            "From a request's last byte until its answer must have begun, where the route sets no other; then 504",
            "how long an answer is still of use, the application knows",
        ),
    ]
    stop_timeout: Annotated[
        float | str,
        Option(
            seconds(0, _DAY_S),
            30,
            "Time limits",
            "From the first signal until what still runs is cut off",
            "what supervisors grant before they kill",
        ),
    ]
    server_header: Annotated[
        str | None,
        Option(
            FIELD,
            "ushabti",
            "Answers and log",
            "Value of the Server field; empty for none",
            "says what answers, but no version",
        ),
    ]
    access_log: Annotated[
        Literal["off", "text", "json"],
        Option(
            choice("off", "text", "json"),
            "off",
            "Answers and log",
            "One line for each answer: combined log format, or JSON",
            "a proxy in front has a log of its own; a line costs time for each request",
        ),
    ]
    access_log_file: Annotated[
        str | os.PathLike[str] | None,
        Option(
            PATH,
            None,
            "Answers and log",
            "File to append access lines to (USR1 reopens it), instead of logging",
            "a container's log is its standard error",
        ),
    ]
    admin: Annotated[
        str | None,
        Option(
            ADDRESS,
            None,
            "Where to listen",
            "Where to serve /dump, /stats, /metrics and /health to the operator",
            "they show what clients ask for, so they are served only where told; a Unix socket is its owner's alone",
        ),
    ]


class Launch(TypedDict, total=False):
    """What is not the server's but its start's: only command line, environment and file take these."""

    bind: Annotated[
        list[str],
        Option(
            ADDRESSES,
            None,
            "Where to listen",
            "HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N; may be given several times",
            "host and port say the same for the usual single address",
        ),
    ]
    host: Annotated[
        str,
        Option(
            TEXT,
            "127.0.0.1",
            "Where to listen",
            "Address or host name",
            "a port that the world can reach is a choice, not a default",
        ),
    ]
    port: Annotated[
        int,
        Option(
            count(0, 65_535),
            8080,
            "Where to listen",
            "TCP port; 0 lets the system choose",
            "needs no rights",
        ),
    ]
    app_dir: Annotated[
        str,
        Option(
            TEXT,
            ".",
            "Other",
            "Where the application's module is looked for first",
            "the folder that one is in",
        ),
    ]
    log_level: Annotated[
        str,
        Option(
            choice("debug", "info", "warning", "error"),
            "info",
            "Answers and log",
            "The least grave messages that the server's own log shows",
            "a start, a stop and what peers did wrong are a few lines; requests are in the access log",
        ),
    ]


#: The schema of :class:`Options` by name.
OPTIONS: Mapping[str, Option] = schema_of(Options)
#: The schema of :class:`Launch` by name.
LAUNCH: Mapping[str, Option] = schema_of(Launch)
