"""Carries WebSockets of HTTP/1.1 over HTTP/2 (RFC 8441), from clients that speak the one to servers that speak both.

Each connection that comes in goes out as one of HTTP/2 with one stream, and ends as that ends: by a reset, or in good
order. It is made for judges of the WebSocket protocol, which shall see the server's own bytes and ends: nothing of what
passes is looked at behind the handshake.
"""

import base64
import contextlib
import hashlib
import select
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import h2.exceptions

__all__ = ["bridging"]

_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Of the connection; others may not be sent over HTTP/2 (RFC 9113 section 8.2.2), or have no use there.
_DROPPED = {"connection", "upgrade", "host", "sec-websocket-key", "content-length", "transfer-encoding"}
_READ_AT_ONCE = 65536
_HEAD_BYTES_MAX = 65536


class _Bridge:
    """One connection, in a thread of its own."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
        self.stream = 0
        # Read from the client, and not sent for want of window.
        self.pending = bytearray()
        self.key = b""
        self.client_ended = self.end_sent = self.server_ended = False

    def run(self) -> None:
        self.h2.initiate_connection()
        self.flush()
        self.ask(self.read_head())
        while not (self.server_ended and self.client_ended):
            reads_client = not self.client_ended and not self.pending
            sources = [self.server, self.client] if reads_client else [self.server]
            for source in select.select(sources, [], [])[0]:
                some = source.recv(_READ_AT_ONCE)
                if source is self.client:
                    self.pending += some
                    self.client_ended = not some
                elif not some:
                    raise ConnectionResetError
                else:
                    for event in self.h2.receive_data(some):
                        self.take(event)
            self.pass_on()
            self.flush()

    def read_head(self) -> list[str]:
        head = bytearray()
        while b"\r\n\r\n" not in head:
            some = self.client.recv(_READ_AT_ONCE)
            if not some or len(head) > _HEAD_BYTES_MAX:
                raise ConnectionResetError
            head += some
        lines, _, self.pending = head.partition(b"\r\n\r\n")
        return lines.decode("latin-1").split("\r\n")

    def ask(self, lines: list[str]) -> None:
        method, target, _ = lines[0].split(" ")
        parts = (line.partition(":") for line in lines[1:])
        fields = [(name.lower(), value.strip()) for name, _, value in parts]
        named = dict(fields)
        self.key = named.get("sec-websocket-key", "").encode()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", named["host"]), (":path", target)]
        if named.get("upgrade", "").lower() == "websocket":
            pseudo[0] = (":method", "CONNECT")
            pseudo.append((":protocol", "websocket"))
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, pseudo + [field for field in fields if field[0] not in _DROPPED])
        self.flush()

    def take(self, event: h2.events.Event) -> None:
        """Passes on what the server has said."""
        if isinstance(event, h2.events.ResponseReceived):
            self.answer({str(name): str(value) for name, value in event.headers})
        elif isinstance(event, h2.events.DataReceived):
            self.client.sendall(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, self.stream)
        elif isinstance(event, h2.events.StreamEnded):
            self.server_ended = True
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_WR)
        elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
            raise ConnectionResetError

    def answer(self, fields: dict[str, str]) -> None:
        status = fields.pop(":status")
        lines = [f"HTTP/1.1 {status} "]
        if status == "200":
            accept = base64.b64encode(hashlib.sha1(self.key + _KEY_SUFFIX).digest()).decode()
            lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
            lines.append(f"Sec-WebSocket-Accept: {accept}")
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self.client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def pass_on(self) -> None:
        """Sends what the client has said, as the windows allow."""
        while self.pending and (room := self.h2.local_flow_control_window(self.stream)) > 0:
            count = min(room, self.h2.max_outbound_frame_size, len(self.pending))
            self.h2.send_data(self.stream, bytes(self.pending[:count]))
            del self.pending[:count]
        if self.client_ended and not self.pending and not self.end_sent:
            self.end_sent = True
            self.h2.end_stream(self.stream)

    def flush(self) -> None:
        self.server.sendall(self.h2.data_to_send())


class _Handler(socketserver.BaseRequestHandler):
    server: "_Server"

    def handle(self) -> None:
        client: socket.socket = self.request
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with socket.create_connection(self.server.target) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                _Bridge(client, server).run()
            except (OSError, h2.exceptions.H2Error):
                # As it ended on the one side, it ends on the other.
                for end in (client, server):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Server(socketserver.ThreadingTCPServer):
    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target


@contextlib.contextmanager
def bridging(port: int) -> Iterator[int]:
    """Bridges to a server on this port of 127.0.0.1, and yields the port to connect to.

    It ends when all connections have.
    """
    with _Server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="bridge")
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
