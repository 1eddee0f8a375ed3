"""
An XML stream of a client over a WebSocket (RFC 7395).

L{WebSocketLayer} stands between a connection and a stream that knows nothing of it.  Frames
become the bytes that the stream would read from TCP, and its bytes become frames: C{<open/>}
is the stream's header, C{<close/>} its end.  This is for one log-in, so it need not be fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.words.xish.domish import Element
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from cms.xmlstream import ns
from cms.xmlstream.limits import CLIENT
from cms.xmlstream.plainreader import PlainReader
from cms.xmlstream.reader import Event, StanzaRead, StreamEnd, StreamStart
from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import XMLStream

SUBPROTOCOL = "xmpp"
MOST_FRAME = 256 * 1024  # bytes of a message; no answer to a log-in comes near
_HEADER = (
    f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'%b>"
).encode()
_TEXTS = (Opcode.TEXT, Opcode.CONT)


@frozen
class Upgrade:
    """
    The answer to the request for a WebSocket.

    @ivar status: Of HTTP; 101 if it is one now, 0 if what came is no HTTP.
    @ivar headers: The first of each, by the name in lower case.
    @ivar body: In which a refusal says why.
    @ivar problem: Why this client does not accept it; empty if it does.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    problem: str = ""

    @property
    def subprotocol(self) -> str:
        """What the server chose; empty if it chose nothing."""
        return self.headers.get("sec-websocket-protocol", "")


class WebSocketLayer(Protocol):
    """
    One WebSocket, the protocol of a connection and the transport of its stream.

    @param url: Such as C{wss://meet.example.com/xmpp-websocket}.
    @param origin: Of the page that opens it; C{None} for a program that is no browser.
    @ivar upgraded: Fires with the answer; fails if the connection is lost before it.
    """

    transport: Any

    def __init__(self, url: str, origin: str | None) -> None:
        self._frames = ClientProtocol(
            parse_uri(url),
            origin=None if origin is None else Origin(origin),
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            max_size=MOST_FRAME,
        )
        self.upgraded: Deferred[Upgrade] = Deferred()
        self._stream: XMLStream | None = None
        self._reader: PlainReader | None = None
        self._message = b""

    def connectionMade(self) -> None:
        """Ask for the upgrade."""
        self._frames.send_request(self._frames.connect())
        self._flush()

    def carry(self, stream: XMLStream) -> None:
        """Let a stream begin, once this is a WebSocket."""
        self._stream = stream
        stream.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        """HTTP, then frames."""
        self._frames.receive_data(data)
        for event in self._frames.events_received():
            if isinstance(event, Response):
                self._answered(event)
            elif isinstance(event, Frame) and event.opcode in _TEXTS:
                self._message += bytes(event.data)
                if event.fin:
                    message, self._message = self._message, b""
                    self._heard(message)
        if self._frames.handshake_exc is not None and not self.upgraded.called:
            self._settle(Upgrade(0, {}, problem=str(self._frames.handshake_exc)))
        self._flush()

    def _answered(self, response: Response) -> None:
        problem = self._frames.handshake_exc
        headers = {
            name.lower(): value for name, value in reversed(list(response.headers.raw_items()))
        }
        body = bytes(response.body or b"")
        refused = str(problem) if isinstance(problem, InvalidHandshake) else ""
        self._settle(Upgrade(response.status_code, headers, body, refused))

    def _settle(self, upgrade: Upgrade) -> None:
        if not self.upgraded.called:
            self.upgraded.callback(upgrade)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, also of the stream."""
        self._frames.receive_eof()
        if not self.upgraded.called:
            self.upgraded.errback(reason)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.connectionLost(reason)

    def _flush(self) -> None:
        for data in self._frames.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.loseConnection()

    # The stream's bytes from frames (RFC 7395 3.3)

    def _heard(self, message: bytes) -> None:
        stream = self._stream
        if stream is None:
            return
        if message.startswith(b"<open"):
            message = _header(message)
        elif message.startswith(b"<close"):
            message = b"</stream:stream>"
        stream.dataReceived(message)

    # Frames from the stream's bytes: the transport of the stream

    def write(self, data: bytes) -> None:
        """Send each element of these bytes as a frame."""
        if data.startswith((b"<?xml", b"<stream:stream")):
            self._reader = PlainReader(CLIENT)
        if self._reader is None or self._frames.state is not State.OPEN:
            return
        for event in self._reader.feed(data):
            frame = _frame(event)
            if frame:
                self._frames.send_text(frame)
        self._flush()

    def writeSequence(self, data: Sequence[bytes]) -> None:
        """The same."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close the WebSocket, and with it the connection."""
        if self._frames.state is State.OPEN:
            self._frames.send_close(1000)
            self._flush()
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """A stream that logs in writes little: it need not be told to wait."""

    def unregisterProducer(self) -> None:
        """See L{registerProducer}."""

    def pauseProducing(self) -> None:
        """Read nothing more for now."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self.transport.resumeProducing()

    def getPeer(self) -> Any:
        """The server's address."""
        return self.transport.getPeer()

    def getHandle(self) -> Any:
        """The TLS connection, if there is one."""
        return self.transport.getHandle()


def _header(opened: bytes) -> bytes:
    """The header for an C{<open/>}; what is none is passed on, and breaks the stream."""
    reader = PlainReader(CLIENT)
    reader.feed(_HEADER % b"")
    for event in reader.feed(opened):
        element = event.stanza.element if isinstance(event, StanzaRead) else None
        if element is None or (element.uri, element.name) != (ns.FRAMING, "open"):
            break
        given = {name: value for name, value in element.attributes.items() if isinstance(name, str)}
        attributes = "".join(f" {name}={quote_attribute(value)}" for name, value in given.items())
        return _HEADER % attributes.encode()
    return opened


def _frame(event: Event) -> bytes:
    if isinstance(event, StreamStart):
        opening = Element((ns.FRAMING, "open"))
        for name in ("to", "from", "version"):
            value = event.get(name)
            if value:
                opening[name] = value
        return Stanza(opening).raw
    if isinstance(event, StreamEnd):
        return Stanza(Element((ns.FRAMING, "close"))).raw
    if not isinstance(event, StanzaRead):
        return b""
    raw = event.stanza.raw
    if event.stanza.uri != ns.CLIENT:
        return raw
    start = event.stanza.name.encode()  # alone in its frame, it says what its namespace is
    return b"<%b xmlns='%b'%b" % (start, ns.CLIENT.encode(), raw[1 + len(start) :])
