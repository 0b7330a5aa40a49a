"""Hostile connections, many at once, moved on by one loop so that thousands need no thread each."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Hostile", "assault", "crowd", "reset"]

# What one connection sends and reads in one turn of the loop, so that the others have their turn.
_TURN_BYTES = 2**18
_TURN_S = 0.02


@dataclass
class Hostile:
    """One hostile connection, and what became of it.

    Attributes:
        socket: Its socket, which does not block.
        got: What was read, up to 64 KiB.
        sent: How many bytes were sent.
        lasted: Seconds from its connect until the server had ended it; None while it is open.
        begun: When it connected.
    """

    socket: socket.socket
    got: bytearray = field(default_factory=bytearray)
    sent: int = 0
    lasted: float | None = None
    begun: float = field(default_factory=time.monotonic)

    @property
    def status(self) -> int:
        """The status of the first final answer that came; 0 if none did."""
        got = bytes(self.got)
        while got.startswith(b"HTTP/1.1 1"):
            # An interim answer (RFC 9110 section 15.2).
            _, _, got = got.partition(b"\r\n\r\n")
        return int(got[9:12]) if got.startswith(b"HTTP/1.1 ") else 0


@contextmanager
def crowd(port: int, count: int, opening: bytes = b"", *, room: int | None = None) -> Iterator[list[Hostile]]:
    """Opens connections and sends ``opening`` on each; closes them at the end of the block with a reset.

    Args:
        port: The server's.
        count: How many connections.
        opening: What each sends first.
        room: How many bytes each of them takes in without reading, as far as the system heeds it.
    """
    hostiles: list[Hostile] = []
    try:
        for _ in range(count):
            one = socket.socket()
            hostiles.append(Hostile(one))
            if room is not None:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            one.settimeout(20)
            one.connect(("127.0.0.1", port))
            one.sendall(opening)
            one.setblocking(False)
        yield hostiles
    finally:
        for hostile in hostiles:
            reset(hostile.socket)


def assault(
    hostiles: list[Hostile],
    piece: bytes = b"",
    *,
    seconds: float,
    every: float | None = None,
    takes: int = _TURN_BYTES,
    stubborn: bool = False,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Lets each connection send ``piece`` again and again, and read, until the server has ended all of them.

    Args:
        hostiles: The connections.
        piece: What is sent; a piece of which a part was sent is gone on with.
        seconds: After so long it is over, whatever is still open.
        every: Seconds between two pieces, and between two reads. None: as fast as the server takes them.
        takes: How much is read each time; 0 reads nothing, and sees an end only where it sends.
        stubborn: Goes on sending when the server has closed its side, until that is an error.
        until: Ends it earlier.
    """
    begun = time.monotonic()
    while time.monotonic() < begun + seconds and not until():
        open_ones = [hostile for hostile in hostiles if hostile.lasted is None]
        if not open_ones:
            return
        turn = time.monotonic()
        for hostile in open_ones:
            if not _go_on(hostile, piece, takes, once=every is not None, stubborn=stubborn):
                hostile.lasted = time.monotonic() - hostile.begun
        time.sleep(max(0.0, turn + (every or _TURN_S) - time.monotonic()))


def _go_on(hostile: Hostile, piece: bytes, takes: int, *, once: bool, stubborn: bool) -> bool:
    """Sends and reads what goes without waiting; False at the end of the connection."""
    is_open = True
    try:
        if piece and once:
            hostile.sent += hostile.socket.send(piece)
        most = hostile.sent + _TURN_BYTES
        while piece and not once and hostile.sent < most:
            at = hostile.sent % len(piece)
            hostile.sent += hostile.socket.send(memoryview(piece)[at:])
    except BlockingIOError:
        pass
    except OSError:
        # What the server said before is read all the same.
        is_open = False
    try:
        if takes:
            some = hostile.socket.recv(takes)
            hostile.got += some[: max(0, 65_536 - len(hostile.got))]
            return is_open and (stubborn or bool(some))
    except BlockingIOError:
        pass
    except OSError:
        return False
    return is_open


def reset(one: socket.socket) -> None:
    """Closes with a reset: nothing of the connection stays with the system, which thousands would use up."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
