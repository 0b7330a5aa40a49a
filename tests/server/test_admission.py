"""What is run, what waits and what is refused when there is more than the workers can do."""

import socket
import threading

import pytest

from tests.server.http2_peer import Peer
from tests.server.waiting import Gate, Log, eventually
from tests.support import Raw
from ushabti import ConfigError, Request, Router, Server

HOLD = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"


class Counted:
    """A handler that counts its calls, and waits for a gate."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.lock = threading.Lock()
        self.calls = self.running = self.most = 0

    def __call__(self, request: object) -> str:
        with self.lock:
            self.calls += 1
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self.gate(request)
        finally:
            with self.lock:
                self.running -= 1


def waiting(running, count: int) -> None:
    eventually(lambda: running.server.stats()["queue_waiting"] == count)


def hold(running, count: int, request: bytes = HOLD) -> list[Raw]:
    held = [running.connect() for _ in range(count)]
    for raw in held:
        raw.send(request)
    return held


# ---- lanes


def test_lanes_have_workers_and_a_queue_of_their_own(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate)
    router.get("/hello", lambda request: threading.current_thread().name, lane="quick")
    running = serve(router, workers=1, max_queue=2, lanes={"quick": 2})
    held = hold(running, 1)
    gate.wait(1)
    held += hold(running, 2)
    waiting(running, 2)
    assert running.get("/hold").status == 503
    # The second of its workers comes when the first is slow.
    assert {running.get("/hello").body[:-1] for _ in range(5)} == {b"ushabti-quick-worker-"}
    lanes = running.server.stats()["lanes"]
    assert lanes["default"] == {"queue_waiting": 2, "workers": 1, "workers_idle": 0}
    assert lanes["quick"]["queue_waiting"] == 0
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200] * 3


def test_the_reserved_lane_answers_when_all_others_are_stuck(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate)
    router.get("/slow", gate, lane="slow")
    router.get("/health", lambda request: "well", lane="reserved")
    running = serve(router, workers=1, max_queue=1, lanes="slow=1")
    slow = HOLD.replace(b"hold", b"slow")
    held = hold(running, 1) + hold(running, 1, slow)
    gate.wait(2)
    held += hold(running, 1) + hold(running, 1, slow)
    waiting(running, 2)
    assert running.get("/health").body == b"well"
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200] * 4


def test_a_lane_grows_to_its_share(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate, lane="slow")
    running = serve(router, lanes={"slow": 3})
    held = hold(running, 5)
    gate.wait(3)
    eventually(lambda: running.server.stats()["lanes"]["slow"]["workers"] == 3)
    waiting(running, 2)
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200] * 5


def test_a_lane_that_there_is_not_is_told_before_anything_is_opened() -> None:
    router = Router()
    router.get("/years/{year:int}", lambda request, year: "", lane="reprots")
    with pytest.raises(ConfigError) as caught:
        Server(router, lanes={"reports": 4})
    assert str(caught.value) == (
        'route GET /years/{year:int}: there is no lane "reprots": the server has default, reports; '
        'make it with lanes={"reprots": 4}, or --lanes reprots=4'
    )
    router = Router()
    router.websocket("/live", lambda ws, event, message: None, lane="feeds")
    with pytest.raises(
        ConfigError, match=r'^route websocket /live: there is no lane "feeds": the server has default; '
    ):
        Server(router)


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        ({"reserved": 2}, "other than default and reserved"),
        ({"": 2}, "a lane has a name"),
        ({"a": 0}, "lanes: a is 0"),
        ("a", "reports=4,uploads=2-8"),
        (3, "write names with a number of threads"),
    ],
)
def test_lanes_that_cannot_be(lanes: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Server(Router(), lanes=lanes)  # type: ignore[arg-type]


# ---- concurrency of a route


def test_a_route_runs_so_many_at_once_and_the_rest_wait_without_a_thread(serve, gate: Gate) -> None:
    counted = Counted(gate)
    router = Router()
    router.get("/hold", counted, concurrency=2)
    router.get("/hello", lambda request: "hello")
    running = serve(router, workers=4)
    held = hold(running, 6)
    gate.wait(2)
    waiting(running, 4)
    assert [running.get("/hello").body for _ in range(3)] == [b"hello"] * 3
    assert counted.running == 2
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200] * 6
    assert (counted.calls, counted.most) == (6, 2)


def test_beyond_its_queue_a_route_answers_503(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate, concurrency=1, queue=1)
    running = serve(router, workers=4)
    held = hold(running, 2)
    gate.wait(1)
    waiting(running, 1)
    answer = running.get("/hold")
    assert (answer.status, answer.field("retry-after")) == (503, "1")
    assert running.server.stats()["refusals"]["queue_full"] == 1
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200] * 2


def test_who_has_left_holds_no_place_in_the_line_of_a_route(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate, concurrency=1, queue=2)
    running = serve(router, workers=4)
    held = hold(running, 1)
    gate.wait(1)
    leaving = hold(running, 2)
    waiting(running, 2)
    for raw in leaving:
        raw.reset()
    eventually(lambda: running.server.stats()["connections_open"] == 1)
    held += hold(running, 2)
    # The two that came later have taken the places of the two that left.
    eventually(lambda: running.server.stats()["requests_abandoned"] == 2)
    assert running.get("/hold").status == 503
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200] * 3


def test_a_handler_that_raises_gives_its_place_to_the_next(serve) -> None:
    router = Router()

    @router.get("/fail", concurrency=1)
    def fail(request):
        raise ZeroDivisionError

    running = serve(router)
    raws = hold(running, 20, HOLD.replace(b"hold", b"fail"))
    assert [raw.read_response().status for raw in raws] == [500] * 20


# ---- clients that leave, and requests that wait too long


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_requests_of_clients_that_left_are_never_run(serve, gate: Gate, log: Log, leave: str) -> None:
    counted = Counted(gate)
    router = Router()
    router.get("/hold", gate)
    router.get("/counted", counted)
    running = serve(router, workers=1, access_log="text")
    held = hold(running, 1)
    gate.wait(1)
    leaving = hold(running, 5, HOLD.replace(b"hold", b"counted"))
    waiting(running, 5)
    for raw in leaving:
        getattr(raw, leave)()
    # A close is only known to be one when the client has been asked.
    eventually(lambda: running.server.stats()["connections_open"] == 1)
    gate.open.set()
    assert held[0].read_response().status == 200
    eventually(lambda: running.server.stats()["requests_abandoned"] == 5)
    assert counted.calls == 0
    assert running.server.stats()["answers"]["discarded"] == 5
    eventually(lambda: log.count('"GET /counted HTTP/1.1" 499') == 5)


def test_a_client_that_has_only_closed_its_side_gets_its_answer(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate)
    running = serve(router, workers=1)
    held = hold(running, 2)
    gate.wait(1)
    waiting(running, 1)
    held[1].finish()
    # It is asked whether it is there still, and is.
    assert held[1].read_response().status == 100
    gate.open.set()
    assert [raw.read_response().status for raw in held] == [200, 200]
    assert held[1].read_all() == b""


def test_a_client_of_http_1_0_is_not_asked(serve, gate: Gate) -> None:
    router = Router()
    router.get("/hold", gate)
    running = serve(router)
    raw = running.connect()
    raw.send(b"GET /hold HTTP/1.0\r\n\r\n")
    gate.wait(1)
    raw.finish()
    other = running.connect()
    other.send(HOLD)
    gate.wait(1)
    other.finish()
    assert other.read_response().status == 100  # By now the first would have been asked as well.
    gate.open.set()
    assert raw.read_response().status == 200


def test_a_request_that_waits_too_long_is_answered_503_and_never_run(serve, gate: Gate, log: Log) -> None:
    counted = Counted(gate)
    router = Router()
    router.get("/hold", gate)
    router.get("/counted", counted)
    running = serve(router, workers=1, queue_timeout=0.2)
    held = hold(running, 1)
    gate.wait(1)
    late = hold(running, 2, HOLD.replace(b"hold", b"counted"))
    for raw in late:
        answer = raw.read_response()
        assert (answer.status, answer.field("retry-after")) == (503, "1")
    log.wait("GET /counted: no worker was free in time; answered 503")
    gate.open.set()
    assert held[0].read_response().status == 200
    assert running.server.stats()["refusals"]["queue_timeout"] == 2
    # Their connections go on, and the answer that comes next is the one to what is asked next.
    counted.gate.open.set()
    for raw in late:
        raw.send(HOLD)
        assert raw.read_response().body == b"let go"
    assert counted.calls == 0


# ---- what was given up does not wait


COUNTED = HOLD.replace(b"hold", b"counted")
LEAVES = ("reset", "close", "queue_timeout", "deadline")


def held_with_room_for_two(serve, gate: Gate, way: str, **options: object):
    """A server whose only worker is held, room for two that wait, and a handler that is never to be called."""
    counted = Counted(gate)
    router = Router()
    router.get("/hold", gate, deadline="off")
    router.get("/counted", counted, deadline=0.2 if way == "deadline" else "off")
    options = {"queue_timeout": 0.2} | options if way == "queue_timeout" else options
    running = serve(router, workers=1, max_queue=2, access_log="text", **options)
    held = hold(running, 1)
    gate.wait(1)
    return running, held[0], counted


@pytest.mark.parametrize("way", LEAVES)
def test_what_was_given_up_leaves_its_room_to_others(serve, gate: Gate, log: Log, way: str) -> None:
    running, held, counted = held_with_room_for_two(serve, gate, way)
    status = {"queue_timeout": 503, "deadline": 504}.get(way, 499)
    for _ in range(3):
        leaving = hold(running, 2, COUNTED)
        if status == 499:
            waiting(running, 2)
            for raw in leaving:
                getattr(raw, way)()
        else:
            assert [raw.read_response().status for raw in leaving] == [status] * 2
        waiting(running, 0)
    # The worker has not come by.
    stats = running.server.stats()
    assert stats["workers_idle"] == 0
    assert stats["requests_abandoned"] == (6 if status == 499 else 0)
    assert stats["refusals"]["queue_full"] == 0
    assert stats["lanes"]["default"]["queue_waiting"] == 0
    eventually(lambda: log.count(f'"GET /counted HTTP/1.1" {status}') == 6)
    gate.open.set()
    assert held.read_response().status == 200
    assert running.get("/hold").status == 200
    log.wait('"GET /hold HTTP/1.1" 200')
    assert counted.calls == 0
    stats = running.server.stats()
    assert sum(stats["answers"].values()) == 8
    assert stats["answers"]["discarded"] == (6 if status == 499 else 0)
    assert log.count('"GET /counted HTTP/1.1"') == 6


def test_streams_that_were_reset_leave_their_room_to_others(serve, gate: Gate, log: Log) -> None:
    running, held, counted = held_with_room_for_two(serve, gate, "reset")
    with running.connect() as raw:
        peer = Peer(raw)
        for _ in range(3):
            streams = [peer.ask("/counted"), peer.ask("/counted")]
            waiting(running, 2)
            for stream in streams:
                peer.reset(stream)
            waiting(running, 0)
        assert running.server.stats()["requests_abandoned"] == 6
        # What is taken back with the same bytes that ask for it was never waited for.
        with peer.together():
            peer.reset(peer.ask("/counted"))
        others = [peer.ask("/hold"), peer.ask("/hold")]
        waiting(running, 2)
        assert running.get("/hold").status == 503
        gate.open.set()
        assert [peer.answer(stream)[0] for stream in others] == [200, 200]
    assert held.read_response().status == 200
    assert counted.calls == 0
    eventually(lambda: log.count('"GET /counted HTTP/2" 499') == 7)


def test_a_connection_that_ends_gives_up_all_its_streams(serve, gate: Gate) -> None:
    running, held, counted = held_with_room_for_two(serve, gate, "reset")
    raw = running.connect()
    peer = Peer(raw)
    for _ in range(2):
        peer.ask("/counted")
    waiting(running, 2)
    raw.reset()
    waiting(running, 0)
    assert running.server.stats()["requests_abandoned"] == 2
    gate.open.set()
    assert held.read_response().status == 200
    assert counted.calls == 0


def test_those_that_wait_keep_their_order_when_others_give_up(serve, gate: Gate) -> None:
    order: list[str] = []
    router = Router()
    router.get("/hold", gate)

    @router.get("/note/{name}")
    def note(request: Request, name: str) -> str:
        order.append(name)
        return name

    running = serve(router, workers=1)
    held = hold(running, 1)
    gate.wait(1)
    staying: list[Raw] = []
    leaving: list[Raw] = []
    for name in range(40):
        asked = hold(running, 1, HOLD.replace(b"hold", b"note/%d" % name))
        waiting(running, name + 1)
        (leaving if name % 3 == 1 else staying).extend(asked)
    for raw in leaving:
        raw.reset()
    waiting(running, len(staying))
    gate.open.set()
    assert [raw.read_response().status for raw in held + staying] == [200] * (1 + len(staying))
    assert order == [str(name) for name in range(40) if name % 3 != 1]


# ---- clients with many connections


def test_one_client_has_so_many_connections(serve) -> None:
    router = Router()
    router.get("/hello", lambda request: "hello")
    running = serve(router, max_per_client=2)
    first, second = running.connect(), running.connect()
    for raw in (first, second):
        raw.send(HELLO)
        assert raw.read_response().status == 200
    third = running.connect()
    answer = third.read_response()
    assert (answer.status, answer.field("connection")) == (429, "close")
    assert third.read_all() == b""
    assert running.server.stats()["refusals"]["client"] == 1
    first.close()

    def is_served() -> bool:
        with running.connect() as raw:
            raw.send(HELLO)
            return raw.read_response().status == 200

    eventually(is_served)
    second.send(HELLO)
    assert second.read_response().status == 200


def test_a_client_far_beyond_its_bound_is_closed_unanswered(serve) -> None:
    router = Router()
    router.get("/hello", lambda request: "hello")
    running = serve(router, max_per_client=1)
    first = running.connect()
    first.send(HELLO)
    assert first.read_response().status == 200
    address = running.server.address
    others = [socket.create_connection((address.host, address.port), 10) for _ in range(12)]
    said = [one.recv(1000)[:12] for one in others]
    for one in others:
        one.close()
    assert said.count(b"HTTP/1.1 429") == 8
    assert said.count(b"") == 4
