"""Topics: who is subscribed, what one publish reaches, and that a slow subscriber holds up nobody."""

import gc
import threading
import weakref
from typing import Any

import pytest

from tests.server.waiting import eventually
from tests.server.websocketing import Dialled, Told, dial
from tests.support import Running
from ushabti import ConfigError, Hub, Router, Server


@pytest.fixture
def told() -> Told:
    return Told()


def subscribing(told: Told, *topics: str) -> Router:
    """A router whose sockets subscribe to these topics, or to those of ``?topic=``."""

    def on_open(ws):
        for topic in topics or ws.request.query.all("topic"):
            assert ws.subscribe(topic) is True
        ws.send("subscribed")

    return told.router(on_open=on_open)


def join(running: Running, *topics: str) -> Dialled:
    """A client that is subscribed when this returns."""
    query = "&".join(f"topic={topic}" for topic in topics)
    ws = dial(running, f"/?{query}")
    assert ws.read() == "subscribed"
    return ws


def test_publish_reaches_those_who_are_subscribed_and_counts_them(serve, told: Told):
    running = serve(subscribing(told))
    hub = running.server.hub
    both, one, none = join(running, "a", "b"), join(running, "a"), join(running)
    assert (hub.count("a"), hub.count("b"), hub.count("c"), sorted(hub.topics)) == (2, 1, 0, ["a", "b"])
    assert (hub.publish("a", "to a"), hub.publish("b", b"to b"), hub.publish("c", "to nobody")) == (2, 1, 0)
    assert [both.read(), both.read(), one.read()] == ["to a", b"to b", "to a"]
    told.socket(3).send("last")
    assert none.read() == "last"


def test_subscribing_says_whether_it_changed_something(serve, told: Told):
    running = serve(told.router())
    dial(running)
    socket, hub = told.socket(), running.server.hub
    assert (socket.subscribe("a"), socket.subscribe("a"), socket.subscribe("ü b")) == (True, False, True)
    assert sorted(socket.topics) == ["a", "ü b"] and hub.count("a") == 1
    assert (socket.unsubscribe("a"), socket.unsubscribe("a"), socket.unsubscribe("never")) == (True, False, False)
    assert socket.topics == ["ü b"] and hub.topics == ["ü b"] and hub.count("a") == 0
    assert hub.publish("a", "x") == 0


def test_unsubscribed_socket_hears_no_more(serve, told: Told):
    running = serve(subscribing(told, "a"))
    ws, hub = join(running), running.server.hub
    hub.publish("a", "one")
    told.socket().unsubscribe("a")
    hub.publish("a", "two")
    told.socket().send("end")
    assert [ws.read(), ws.read()] == ["one", "end"]


def test_skip_leaves_one_out(serve, told: Told):
    running = serve(subscribing(told, "a"))
    clients, hub = [join(running) for _ in range(3)], running.server.hub
    assert hub.publish("a", "not to the second", skip=told.socket(2)) == 2
    assert hub.publish("a", "to all", skip=None) == 3
    assert [ws.read() for ws in clients] == ["not to the second", "to all", "not to the second"]


@pytest.mark.parametrize("end", ["client closes", "server closes", "reset", "fault"])
def test_closing_leaves_all_topics(serve, told: Told, end: str):
    running = serve(subscribing(told, "a", "b"))
    ws, stays, hub = join(running), join(running), running.server.hub
    if end == "client closes":
        ws.close()
    elif end == "server closes":
        told.socket(1).close()
        ws.read_close()
    elif end == "reset":
        ws.raw.reset()
    else:
        ws.raw.send(b"\xff\xff")
        ws.read_close()
    told.wait("close")
    assert (hub.count("a"), hub.count("b")) == (1, 1)
    assert told.socket(1).topics == [] and told.socket(1).subscribe("a") is False
    assert hub.publish("a", "x") == 1
    assert stays.read() == "x"
    stays.close()
    told.wait("close", 2)
    assert hub.topics == []


def test_closing_socket_is_not_counted_by_publish(serve, told: Told):
    running = serve(subscribing(told, "a"))
    ws, hub = join(running), running.server.hub
    told.socket().close(4000)
    assert hub.publish("a", "too late") == 0
    assert ws.read_close() == (4000, "")


@pytest.mark.parametrize(
    ("data", "received"),
    [
        ("text", "text"),
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        ("", ""),
        ("x" * 70_000, "x" * 70_000),
        (b"x" * 500_000, b"x" * 500_000),
    ],
    ids=lambda value: f"{type(value).__name__} {len(value)}",
)
@pytest.mark.parametrize("count", [1, 7])
def test_everything_that_may_be_published(serve, told: Told, data: Any, received: Any, count: int):
    running = serve(subscribing(told, "a"))
    clients = [join(running) for _ in range(count)]
    assert running.server.hub.publish("a", data) == count
    assert [ws.read() for ws in clients] == [received] * count


@pytest.mark.parametrize("data", [5, None, ["a"], {"a": 1}])
def test_what_is_no_message_is_not_published(serve, told: Told, data: Any):
    running = serve(subscribing(told, "a"))
    ws, hub = join(running), running.server.hub
    with pytest.raises(TypeError):
        hub.publish("a", data)
    with pytest.raises(TypeError):
        hub.publish("a", "x", skip=data or 5)
    hub.publish("a", "fine")
    assert ws.read() == "fine"


def test_message_of_a_client_is_published_as_it_is_by_its_handler(serve, told: Told):
    def on_message(ws, message):
        hub.publish("a", message, skip=ws)

    router = told.router(on_open=lambda ws: ws.subscribe("a") and ws.send("in"), on_message=on_message)
    hub = router.hub
    running = serve(router)
    assert running.server.hub is hub
    speaker, listener = dial(running), dial(running)
    assert [speaker.read(), listener.read()] == ["in", "in"]
    speaker.send("text", b"\xff")
    assert [listener.read(), listener.read()] == ["text", b"\xff"]
    listener.send("answer")
    assert speaker.read() == "answer"


def test_publish_from_an_http_handler_and_a_plain_thread(serve, told: Told):
    router = subscribing(told, "a")
    router.post("/say", lambda request: {"reached": router.hub.publish("a", request.text)})
    running = serve(router)
    clients = [join(running) for _ in range(3)]
    answer = running.ask(b"POST /say HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert answer.body == b'{"reached":3}'
    thread = threading.Thread(target=router.hub.publish, args=("a", "from a thread"))
    thread.start()
    assert [[ws.read(), ws.read()] for ws in clients] == [["hello", "from a thread"]] * 3
    thread.join()


def test_every_subscriber_gets_every_message_in_order(serve, told: Told):
    running = serve(subscribing(told, "a"))
    clients, hub = [join(running) for _ in range(100)], running.server.hub
    for number in range(50):
        assert hub.publish("a", str(number)) == 100
    for ws in clients:
        assert [ws.read() for _ in range(50)] == [str(number) for number in range(50)]


def test_publishes_of_several_threads_keep_each_its_order(serve, told: Told):
    running = serve(subscribing(told, "a"))
    clients, hub = [join(running) for _ in range(5)], running.server.hub

    def work(number: int) -> None:
        for turn in range(100):
            hub.publish("a", f"{number} {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for ws in clients:
        seen: dict[str, list[int]] = {}
        for _ in range(400):
            number, turn = str(ws.read()).split()
            seen.setdefault(number, []).append(int(turn))
        assert seen == {str(number): list(range(100)) for number in range(4)}
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("overflow", ["close", "drop", "wait"])
def test_subscriber_that_does_not_read_holds_up_nobody(serve, told: Told, overflow: str):
    running = serve(subscribing(told, "a"), websocket_outbox="128 KiB", websocket_overflow=overflow)
    slow, quick, hub = join(running), join(running), running.server.hub
    data = b"x" * 65_536
    rounds = 0
    while hub.publish("a", data) == 2:
        assert quick.read() == data
        rounds += 1
        assert rounds < 1000, "nothing bounds what waits for a client"
    assert quick.read() == data
    for _ in range(20):
        assert hub.publish("a", data) == 1
        assert quick.read() == data
    assert told.socket(1).open == (overflow == "drop")
    assert told.socket(1).buffered <= 128 * 1024
    if overflow == "drop":
        for _ in range(rounds):
            assert slow.read() == data
        eventually(lambda: told.socket(1).buffered == 0)
        assert hub.publish("a", "room again") == 2
        assert slow.read() == "room again"
    else:
        for _ in range(rounds):
            assert slow.read() == data
        assert slow.read_close() == (1013, "too much waits to be read")
        eventually(lambda: hub.count("a") == 1)


def test_hub_may_be_shared_by_servers(serve):
    hub = Hub()
    one, other = Told(), Told()
    first = serve(subscribing(one, "a"), hub=hub)
    second = serve(subscribing(other, "a"), hub=hub)
    assert first.server.hub is hub and second.server.hub is hub
    clients = [join(first), join(second)]
    assert hub.publish("a", "to both") == 2
    assert [ws.read() for ws in clients] == ["to both"] * 2
    first.server.stop(0.1)
    eventually(lambda: hub.count("a") == 1)
    assert hub.publish("a", "to one") == 1
    assert clients[1].read() == "to one"


def test_hub_is_that_of_the_router_or_the_servers_own():
    hub, router = Hub(), Router()
    assert Router(hub=hub).hub is hub
    assert router.hub is router.hub
    assert isinstance(Server(lambda request: "x").hub, Hub)
    assert Server(Router(hub=hub), hub=hub).hub is hub
    with pytest.raises(ConfigError, match="hub"):
        Server(Router(hub=hub), hub=Hub())


def test_closed_sockets_are_not_kept_by_the_hub(serve):
    hub, kept = Hub(), []

    class Handler:
        def on_open(self, ws):
            ws.subscribe("a")
            kept.append(weakref.ref(ws))
            ws.send("in")

    router = Router(hub=hub)
    router.websocket("/", Handler)
    running = serve(router)
    clients = [dial(running) for _ in range(5)]
    for ws in clients:
        assert ws.read() == "in"
    hub.publish("a", "listed")
    for ws in clients:
        ws.raw.close()

    def are_gone() -> bool:
        gc.collect()
        return all(one() is None for one in kept)

    eventually(are_gone)
    assert hub.count("a") == 0 and hub.topics == []


@pytest.mark.stress
@pytest.mark.time_limit(600)
def test_subscribing_publishing_and_leaving_at_once_come_out_even(serve, effort: int):
    told = Told()

    def on_message(ws, message):
        topic = f"t{message.text}"
        if not ws.subscribe(topic):
            ws.unsubscribe(topic)
        hub.publish(topic, "news")

    router = told.router(on_message=on_message)
    hub = router.hub
    running = serve(router, workers=4, websocket_overflow="drop")
    problems: list[BaseException] = []
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            hub.publish(f"t{number % 5}", "x")
            assert hub.count(f"t{number % 5}") <= 8

    def visit(seed: int) -> None:
        try:
            for turn in range(15 * effort):
                with dial(running) as ws:
                    ws.send(*(str((seed + turn + number) % 5) for number in range(20)))
                    if turn % 3 == 0:
                        ws.raw.reset()
                    elif turn % 3 == 1:
                        ws.close()
        except BaseException as problem:
            problems.append(problem)

    publisher = threading.Thread(target=publish)
    publisher.start()
    visitors = [threading.Thread(target=visit, args=(seed,)) for seed in range(8)]
    for thread in visitors:
        thread.start()
    for thread in visitors:
        thread.join()
    stop.set()
    publisher.join()
    assert problems == []
    eventually(lambda: running.server.stats()["websockets_open"] == 0)
    told.wait("close", told.names.count("open"))
    assert hub.topics == []
