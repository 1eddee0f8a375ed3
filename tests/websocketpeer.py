"""The other end of a WebSocket, by another library (wsproto), in memory."""

from __future__ import annotations

import re
from typing import Any, cast
from weakref import ref
from xml.parsers import expat

from twisted.internet.address import IPv4Address
from websockets.frames import Frame, Opcode
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    CloseConnection,
    Ping,
    Pong,
    TextMessage,
)

from cms.websocket.incoming import FRAMING
from cms.websocket.stream import WebSocketStream
from cms.xmlstream import ns
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


def masked(data: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    """A frame of a client, whatever is in it."""
    return Frame(opcode, data, fin).serialize(mask=True)


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
        self.content = ns.CLIENT
        self.offered = ""
        self._handler = stream.handler
        self._frames = Connection(ConnectionType.CLIENT)
        self.closed: int | None = None
        self.pongs: list[bytes] = []
        self.pinged = 0
        this = ref(self)  # so that nothing keeps what a test drops
        transport.take = lambda: "".join(alive(this)._arrived())  # type: ignore[method-assign]

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
        if data:  # else it would be the end
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


def alive(this: ref[WebSocketPeer]) -> WebSocketPeer:
    """What is not gone."""
    peer = this()
    assert peer is not None
    return peer


class TranslatingPeer(WebSocketPeer):
    """
    Says over a WebSocket what a test says over TCP, and tells what it hears in the same way:
    so that tests of what is above the wire are tests of both.
    """

    def __init__(self, stream: Any, transport: MemoryTransport) -> None:
        self._kept: list[str] = []
        super().__init__(stream, transport)

    def say(self, xml: str | bytes) -> None:
        """Each element in a frame, all in one read."""
        data = xml if isinstance(xml, bytes) else xml.encode()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.give(masked(data))
            return
        if not self.transport.lost:
            # White space is a sign of life there, a ping here.
            self.send(*([TextMessage(x) for x in elements(text)] if text.strip() else [Ping()]))

    def _arrived(self) -> list[str]:
        told = [*self._kept, *map(as_over_tcp, super()._arrived())]
        self._kept = []
        if self.closed is not None and not self.transport.lost:
            self.close()
        return told

    @property
    def lost(self) -> bool:
        """Whether the server has ended the connection; this side closes it when it hears so."""
        self._kept = self._arrived()
        return self.transport.lost

    def writes(self) -> list[bytes]:
        """What is written from now on, write by write."""
        pieces: list[bytes] = []

        def write(data: bytes) -> None:
            MemoryTransport.write(self.transport, data)
            pieces.append("".join(self._arrived()).encode())

        self.transport.write = write  # type: ignore[method-assign]
        return pieces


def elements(text: str) -> list[str]:
    """The elements, if C{text} is well-formed within a stream; else it is one."""
    text = text.replace("</stream:stream>", f"<close xmlns='{FRAMING}'/>")
    root = f"<r xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'>"
    data = f"{root}{text}</r>".encode()
    parser = expat.ParserCreate("UTF-8")
    begins: list[int] = []
    depth = 0

    def start(*_: object) -> None:
        nonlocal depth
        if depth == 1:
            begins.append(parser.CurrentByteIndex)
        depth += 1

    def end(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(data, True)
    except expat.ExpatError:
        return [text]
    if not begins:
        return [text]
    pieces = zip(begins, [*begins[1:], len(data) - len("</r>")], strict=True)
    return [data[begin:end].decode() for begin, end in pieces]


def as_over_tcp(text: str) -> str:
    """What is the same over TCP."""
    if text == f"<close xmlns='{FRAMING}'/>":
        return "</stream:stream>"
    for declared in (f" xmlns='{ns.CLIENT}'", f" xmlns:stream='{ns.STREAMS}'"):
        text = text.replace(declared, "", 1)
    return text


class WebServer(Server):
    """
    A server whose clients come over WebSocket, which is open already.

    @cvar peer: What they are.
    """

    peer = WebSocketPeer

    def client(self, tls: object = None, **options: Any) -> WebSocketPeer:
        """A connection."""
        negotiation = clientstates.begin(self.clients, None)
        stream = WebSocketStream(self.clients.clock, negotiation)
        transport = MemoryTransport("198.51.100.9")
        transport.connect(stream)
        return self.peer(stream, transport)

    def bound(
        self, callbridge: Peer, user: str = "alice", resource: str = "r", **header: str
    ) -> WebSocketPeer:
        """See L{Server.bound}."""
        return cast("WebSocketPeer", super().bound(callbridge, user, resource, **header))


class TranslatingServer(WebServer):
    """For tests of what is above the wire."""

    peer = TranslatingPeer


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
