"""What ``Server.stats()`` says, in the text format of Prometheus (version 0.0.4)."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["CONTENT_TYPE", "exposition"]

#: The value of ``Content-Type``.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Family(NamedTuple):
    """One metric: its key in the statistics, its name, kind and help, the label of a key that has several, and which
    part of each of these it is.
    """

    key: str
    name: str
    kind: str
    help: str
    label: str = ""
    part: str = ""


_FAMILIES = (
    _Family("connections", "connections", "gauge", "Open connections by what they are at.", "state"),
    _Family("connections_open", "connections_open", "gauge", "Open connections."),
    _Family("connections_accepted", "connections_accepted_total", "counter", "Connections accepted."),
    _Family("accept_pauses", "accept_pauses_total", "counter", "Pauses of accepting, for want of descriptors."),
    _Family("bytes_received", "received_bytes_total", "counter", "Bytes read of clients."),
    _Family("bytes_sent", "sent_bytes_total", "counter", "Bytes written to clients."),
    _Family("requests_dispatched", "requests_dispatched_total", "counter", "Requests given to the workers."),
    _Family(
        "answers", "answers_total", "counter", "Answers by class of status; discarded: the client was gone.", "class"
    ),
    _Family("answers_without_worker", "answers_without_worker_total", "counter", "Answers that took no worker."),
    _Family("requests_abandoned", "requests_abandoned_total", "counter", "Requests never run: the client had left."),
    _Family("refusals", "refusals_total", "counter", "Requests refused by the IO thread.", "reason"),
    _Family("queue_waiting", "queue_waiting", "gauge", "Requests and WebSockets that wait for a worker."),
    _Family("requests_deferred", "requests_deferred", "gauge", "Requests deferred by their handlers and not answered."),
    _Family("queue_waits", "queue_wait_seconds", "histogram", "From a request being complete to its handler."),
    _Family("workers", "workers", "gauge", "Worker threads."),
    _Family("workers_busy", "workers_busy", "gauge", "Worker threads that have something in hand."),
    _Family("workers_idle", "workers_idle", "gauge", "Worker threads that sleep."),
    _Family("lanes", "lane_queue_waiting", "gauge", "What waits for a worker of a lane.", "lane", "queue_waiting"),
    _Family("lanes", "lane_workers", "gauge", "Worker threads of a lane.", "lane", "workers"),
    _Family("lanes", "lane_workers_idle", "gauge", "Worker threads of a lane that sleep.", "lane", "workers_idle"),
    _Family("gil_waits", "gil_wait_seconds", "summary", "What workers waited for the interpreter."),
    _Family("websockets_open", "websockets_open", "gauge", "Open WebSockets."),
    _Family("websocket_messages", "websocket_messages_total", "counter", "Messages of WebSockets received."),
)


def exposition(stats: Mapping[str, Any]) -> str:
    """The statistics of a server as text for Prometheus. What they do not have is left out."""
    return "".join(f"{line}\n" for family in _FAMILIES if family.key in stats for line in _lines(family, stats))


def _lines(family: _Family, stats: Mapping[str, Any]) -> Iterator[str]:
    name, value = f"ushabti_{family.name}", stats[family.key]
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {family.kind}"
    if family.kind in ("histogram", "summary"):
        for bound, count in value.get("buckets", ()):
            yield f'{name}_bucket{{le="{bound!r}"}} {count}'
        if family.kind == "histogram":
            yield f'{name}_bucket{{le="+Inf"}} {value["count"]}'
        yield f"{name}_sum {value['sum']!r}"
        yield f"{name}_count {value['count']}"
    elif family.label:
        for label, count in value.items():
            number = count[family.part] if family.part else count
            yield f'{name}{{{family.label}="{_quoted(label)}"}} {number}'
    else:
        yield f"{name} {value}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
