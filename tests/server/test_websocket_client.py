"""The WebSocket client of ``ushabti.testing`` against the server that it is made for."""

import threading

import pytest

from ushabti import Accept, HTTPError, Request, Router
from ushabti.testing import SocketClosed, UpgradeRefused, running

router = Router()


@router.websocket("/talk/{room:slug}")
class Talk:
    def on_upgrade(self, request, room):
        if room == "closed":
            raise HTTPError(403, "nobody may enter")
        self.room = room
        return Accept(["talk.v2", "talk.v1"], headers={"X-Room": room})

    def on_open(self, ws):
        ws.send_json({"room": self.room, "name": ws.request.query.get("name")})

    def on_message(self, ws, message):
        if message.data == "leave":
            ws.close(4000, "as you like")
        elif message.data == "break":
            raise ValueError("on purpose")
        else:
            ws.send(message)


def test_a_dialogue() -> None:
    with running(router) as client:
        with client.websocket("/talk/den", subprotocols=["talk.v1"], query={"name": "Ani"}) as ws:
            assert (ws.subprotocol, ws.headers["x-room"]) == ("talk.v1", "den")
            assert ws.receive_json() == {"room": "den", "name": "Ani"}
            for data in ("grüß", b"\0\xff", "x" * 200_000, ""):
                ws.send(data)
                assert ws.receive() == data
            ws.send_json([1])
            assert ws.receive_json() == [1]
            assert ws.ping() < 10
            with pytest.raises(TimeoutError):
                ws.receive(timeout=0.01)
        assert ws.close_code == 1000


def test_the_server_closes() -> None:
    with running(router) as client:
        ws = client.websocket("/talk/den")
        ws.send("leave")
        assert len(list(ws)) == 1
        assert (ws.close_code, ws.close_reason) == (4000, "as you like")
        ws = client.websocket("/talk/den")
        ws.send("break")
        ws.receive()
        with pytest.raises(SocketClosed) as caught:
            ws.receive()
        assert caught.value.code == 1011


def test_a_refusal_is_an_answer() -> None:
    with running(router) as client:
        for path, status in (("/talk/closed", 403), ("/none", 404)):
            with pytest.raises(UpgradeRefused) as caught:
                client.websocket(path)
            assert caught.value.answer.status == status
        with pytest.raises(UpgradeRefused) as caught:
            client.websocket("/talk/den", headers={"Origin": "http://elsewhere.example"})
        assert caught.value.answer.status == 403
        assert client.get("/talk/den").status == 426


def test_a_socket_that_is_left_open_does_not_hold_up_the_end() -> None:
    with running(router) as client:
        ws = client.websocket("/talk/den")
        ws.receive()
    assert ws.close_code == 1006


def test_clients_in_threads() -> None:
    plain = Router()

    @plain.websocket("/")
    class Everybody:
        def on_open(self, ws):
            ws.subscribe("all")
            ws.send("in")

    plain.post("/say", lambda request: {"reached": plain.hub.publish("all", request.text)})
    heard: list[list[str | bytes]] = []
    meeting = threading.Barrier(5)

    with running(plain) as client:

        def listen() -> None:
            with client.websocket("/") as ws:
                assert ws.receive() == "in"
                meeting.wait(10)
                heard.append([ws.receive(), ws.receive()])

        threads = [threading.Thread(target=listen) for _ in range(4)]
        for thread in threads:
            thread.start()
        meeting.wait(10)
        assert client.post("/say", body="one").json() == {"reached": 4}
        client.post("/say", body="two")
        for thread in threads:
            thread.join()
    assert heard == [["one", "two"]] * 4


def test_a_plain_handler_may_upgrade() -> None:
    def handler(request: Request) -> str | None:
        if request.path != "/ws":
            return "hello"
        request.upgrade()
        return None

    with running(handler, websocket_handler=lambda ws, event, message: message and ws.send(message)) as client:
        assert client.get("/").text == "hello"
        with client.websocket("/ws") as ws:
            ws.send("echo")
            assert ws.receive() == "echo"
