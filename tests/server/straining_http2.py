"""The clients of :mod:`tests.server.straining`, where each request has a stream and the connection has many."""

import contextlib
from typing import NamedTuple

import h2.events

from tests.server.http2_peer import Peer, Tunnel
from tests.server.straining import KINDS, Client, load
from tests.support import Raw

__all__ = ["StreamClient"]


class Asked(NamedTuple):
    """A request on its way."""

    kind: str
    number: int
    stream: int
    rest: bytes  # Of its body.


class StreamClient(Client):
    """Asks for several things together, takes some of them back, and leaves in some way at some point."""

    def visit(self, raw: Raw) -> None:
        peer = Peer(raw)
        # Only then it knows how many streams it may have.
        peer.wait(h2.events.RemoteSettingsChanged)
        choose = self._random
        for _ in range(choose.choice((1, 1, 2, 4))):
            with peer.together() if choose.random() < 0.7 else contextlib.nullcontext():
                asked = [self._begin(peer) for _ in range(choose.choice((1, 1, 3, 8)))]
            if self._leaves and choose.random() < 0.2:
                self._leave_all(peer, asked)
                return
            choose.shuffle(asked)
            for each in asked:
                self._go_on(peer, each)

    def _begin(self, peer: Peer) -> Asked:
        """Sends a request, or as much of one as is sent at once."""
        choose, number = self._random, self._next()
        if choose.random() < 0.1:
            return Asked("socket", number, peer.ask_for_socket(f"/socket/{number}"), b"")
        kind = choose.choice(KINDS)
        if kind != "load":
            return Asked(kind, number, peer.ask(f"/{kind}/{number}"), b"")
        body = load(number)
        at = choose.randrange(len(body) + 1)
        length = [("content-length", str(len(body)))] if choose.random() < 0.5 else []
        stream = peer.ask(f"/load/{number}", *length, method="POST", ends=False)
        peer.send(stream, body[:at])
        return Asked(kind, number, stream, body[at:])

    def _go_on(self, peer: Peer, asked: Asked) -> None:
        """Sends what is left to send, and reads the answer; or takes it back."""
        choose, (kind, number, stream, rest) = self._random, asked
        if self._leaves and choose.random() < 0.3:
            self._dawdle()
            peer.reset(stream)
            return
        if kind == "load":
            peer.end(stream, rest)
        status, _ = peer.answer(stream)
        if kind == "socket" and status == 200:
            self._book.note("tunnelled", number)
            if self._converse(Tunnel(peer, stream), number):
                peer.reset(stream)
        elif kind == "socket":
            assert status in (503, 504), (kind, number, status, peer.body(stream))
            peer.end(stream)
        else:
            self._answered(kind, number, status, peer.body(stream))

    def _leave_all(self, peer: Peer, asked: list[Asked]) -> None:
        """Leaves with all of its streams open."""
        choose = self._random
        self._dawdle()
        with contextlib.suppress(OSError):
            if choose.random() < 0.3 and all(each.kind not in ("load", "socket") for each in asked):
                # What was asked is answered before the server ends the connection (RFC 9113 section 6.8).
                peer.h2.close_connection()
                peer.flush()
                peer.raw.read_all()
            elif choose.random() < 0.6:
                peer.raw.reset()
