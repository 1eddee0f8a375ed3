"""The other end of a WebSocket, by another library (wsproto), in memory."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.address import IPv4Address
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    CloseConnection,
    Ping,
    Pong,
    TextMessage,
)

from cms.websocket.incoming import FRAMING
from cms.websocket.stream import WebSocketStream
from cms.xmpp import clientstates
from cms.xmpp.loginrelay import NOTICE_DELAY
from tests.support import MemoryTransport
from tests.xmppserver import DOMAIN, Peer, Server

HANDSHAKE = {
    "Host": "meet.example.com",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "xmpp",
}


def framed(text: str) -> bytes:
    """A message in a frame of a client."""
    return Connection(ConnectionType.CLIENT).send(TextMessage(data=text))


def request(path: str = "/xmpp-websocket", method: str = "GET", **changes: Any) -> bytes:
    """An opening handshake (RFC 6455 4.1), with some of its fields changed or left out."""
    fields = {**HANDSHAKE, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


class WebSocketPeer(Peer):
    """
    A client that speaks XMPP over WebSocket.

    @ivar closed: The code of the close frame that came.
    @ivar pongs: What pongs held.
    @ivar pinged: Pings that came.
    """

    def __init__(self, stream: Any, transport: MemoryTransport) -> None:
        self.stream = stream
        self.transport = transport
        self.content = ""
        self.offered = ""
        self._handler = stream.handler
        self._frames = Connection(ConnectionType.CLIENT)
        self.closed: int | None = None
        self.pongs: list[bytes] = []
        self.pinged = 0
        transport.take = lambda: "".join(self._arrived())  # type: ignore[method-assign]

    def give(self, data: bytes) -> None:
        """Send bytes."""
        if not self.transport.lost:
            self._handler = self.handler
            self.transport.protocol.dataReceived(data)

    def say(self, xml: str | bytes) -> None:
        """Send one message."""
        text = xml.decode() if isinstance(xml, bytes) else xml
        self.give(self._frames.send(TextMessage(data=text)))

    def send(self, *events: Any) -> None:
        """Send these in one read."""
        self.give(b"".join(map(self._frames.send, events)))

    def frames(self) -> list[str]:
        """The text of each message that came since the last time."""
        clock: Any = self.stream.clock
        clock.advance(NOTICE_DELAY)
        return self._arrived()

    def _arrived(self) -> list[str]:
        data = self.transport.value()
        self.transport.clear()
        self._frames.receive_data(data)
        told: list[str] = []
        for event in self._frames.events():
            if isinstance(event, TextMessage):
                assert event.message_finished
                told.append(event.data)
            elif isinstance(event, CloseConnection):
                self.closed = event.code
            elif isinstance(event, Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, Ping):
                self.pinged += 1
                if not self.transport.lost:
                    self.give(self._frames.send(event.response()))
        return told

    def heard(self) -> str:
        """All of them."""
        return "".join(self.frames())

    def open(self, **attributes: str) -> str:
        """Open a stream; what the server answers."""
        attributes = {"to": DOMAIN, "version": "1.0"} | attributes
        written = "".join(f" {key}='{value}'" for key, value in attributes.items() if value)
        self.say(f"<open xmlns='{FRAMING}'{written}/>")
        heard = self.heard()
        found = re.search(" id='([^']*)'", heard)
        self.stream_id = "" if found is None else found[1]
        return heard

    def close(self) -> None:
        """Send a close frame, or answer one."""
        answer = CloseConnection(code=self.closed or 1000)
        self.give(self._frames.send(answer))


class WebServer(Server):
    """A server whose clients come over WebSocket, which is open already."""

    def client(self, tls: object = None, **options: Any) -> WebSocketPeer:
        """A connection."""
        negotiation = clientstates.begin(self.clients, None)
        stream = WebSocketStream(self.clients.clock, negotiation)
        transport = MemoryTransport("198.51.100.9")
        transport.connect(stream)
        return WebSocketPeer(stream, transport)


def connect(factory: Any, sent: bytes, host: str = "198.51.100.9") -> tuple[str, MemoryTransport]:
    """Send a request to a listener; the head of its answer, and the connection."""
    transport = MemoryTransport(host)
    transport.connect(factory.buildProtocol(IPv4Address("TCP", host, 40000)))
    transport.protocol.dataReceived(sent)
    head, _, rest = transport.value().partition(b"\r\n\r\n")
    transport.clear()
    if rest:
        transport.write(rest)
    return head.decode("latin-1"), transport
