"""An XMPP stream over a WebSocket (RFC 7395): the shell around the sans-I/O frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError
from websockets.frames import CloseCode

from cms.websocket.incoming import FRAMING, PIECE, FrameReader, Frames
from cms.websocket.outgoing import FramedGathering
from cms.xmlstream.flow import SEND_LIMITS, SendLimits
from cms.xmlstream.limits import UNAUTHENTICATED, Limits
from cms.xmlstream.reader import Event, StreamBroken
from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.stream import XMLStream
from cms.xmlstream.wire import StreamHandler

A_TURN = 64  # frames of a client that are read in one turn of the reactor
_CODES: Final = {  # of close frames, RFC 6455 7.4.1
    "system-shutdown": CloseCode.GOING_AWAY,
    "policy-violation": CloseCode.POLICY_VIOLATION,
    "internal-server-error": CloseCode.INTERNAL_ERROR,
}


class WebSocketStream(XMLStream):
    """
    The L{Wire<cms.xmlstream.wire.Wire>} of a WebSocket whose opening handshake is over.

    What is the same as over TCP is inherited: limits, deadlines, flow control, turns.
    """

    end_of_stream: ClassVar[bytes] = f"<close xmlns='{FRAMING}'/>".encode()
    _reader: FrameReader
    # Defaults of the class: a stream that is silent has none of these.
    _unread = b""  # of what came, for the next turn
    _full = False  # the transport's buffer is
    _pong = b""  # for when it is not full any more
    _code = CloseCode.NORMAL_CLOSURE
    _last = b""  # the close frame, when nothing is read any more

    def __init__(
        self, clock: IReactorTime, handler: StreamHandler, *, limits: SendLimits = SEND_LIMITS
    ) -> None:
        super().__init__(clock, handler, limits=limits)
        self.out = FramedGathering()
        self._reader = FrameReader(UNAUTHENTICATED)
        self._frames = Frames(UNAUTHENTICATED)

    # reading

    def dataReceived(self, data: bytes) -> None:
        """Read frames, within the share of a turn."""
        self.bytes_received += len(data)
        waits = bool(self._rest or self._unread or self._stands)
        self._unread = self._unread + data if waits else data
        if not waits:
            self._read()

    def _read(self) -> None:
        out = self.out
        if out.pieces is None:
            out.pieces = []
        try:
            self._handle(self._receive())
            if self._splice:
                self._reader.splice()
            self._end_if_over()
            if self._unread and not self._rest:
                self._wait_for_turn()
        except Exception as problem:  # noqa: BLE001 - as in XMLStream
            self.log.failure("unexpected error while reading from {peer}", peer=self.peer_text)
            self._unread = b""
            self._unexpected(problem)
        finally:
            out.end()

    def _receive(self) -> list[Event]:
        """The events of one turn; what is left of the bytes waits for the next."""
        data, frames, reader = self._unread, self._frames, self._reader
        texts: list[bytes] = []
        position = count = 0
        while position < len(data) and count < A_TURN:
            messages, seen = frames.receive(data[position : position + PIECE])
            position += PIECE
            count += seen
            texts += messages
            if frames.is_over:
                position = len(data)
        self._unread = data[position:]
        events = reader.read(texts) if texts else []
        is_broken = bool(events) and isinstance(events[-1], StreamBroken)
        if is_broken and not _is_text(reader.last):
            events.pop()
            is_broken = False
            frames.fail(CloseCode.INVALID_DATA, "bad-format", "a text frame is not UTF-8")
        if frames.problem is not None and not is_broken:
            events.append(StreamBroken(frames.problem))
        self._answer()
        return events

    def _answer(self) -> None:
        """Send control frames; of pongs for a peer that does not read only the newest."""
        for frame in self._frames.answers():
            kind = frame[0] & 0x0F
            if kind == 0x8 and self._frames.is_over:
                self._last = frame  # it follows what is still said
            elif kind == 0xA and self._full:
                self._pong = frame
            else:
                self.out.write(frame)

    def _take_turn(self) -> None:
        super()._take_turn()
        if not self._rest:
            if self._unread:
                self._read()
                self.read_on()
            else:
                self._end_if_over()

    @property
    def held(self) -> bool:
        """See L{XMLStream.held}."""
        return bool(self._unread) or super().held

    def _end_if_over(self) -> None:
        """The peer closed the WebSocket: what it sent before was handled (RFC 6455 5.5.1)."""
        if self._frames.is_over and not self._rest:
            self._lose_connection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        while self._unread:  # it came before the end
            self._take_turn()
        super().connectionLost(reason)

    # writing

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._full = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """The transport's buffer has drained."""
        self._full = False
        if self._pong:
            pong, self._pong = self._pong, b""
            self.out.write(pong)
        super().resumeProducing()

    def ping(self) -> None:
        """Ask whether the peer lives; every program answers this (RFC 6455 5.5.2)."""
        self._frames.ping()
        self._answer()

    def send_header(self, attributes: Mapping[str, str | None]) -> None:
        """Open our side of the stream (RFC 7395 3.4)."""
        self._header_sent = self.party.is_open = True
        written = "".join(
            f" {key}={quote_attribute(value)}"
            for key, value in attributes.items()
            if value is not None
        )
        self.write(f"<open xmlns='{FRAMING}'{written}/>".encode())

    def reset(self, limits: Limits) -> None:
        """Expect a new C{open} (RFC 7395 3.7)."""
        self._reader = FrameReader(limits)
        self._frames.limits = limits
        self._header_sent = self.party.is_open = False

    def set_limits(self, limits: Limits) -> None:
        """Use these limits from now on."""
        super().set_limits(limits)
        self._frames.limits = limits

    def _close(self, error: StreamError | None, rest: bytes) -> None:
        if error is not None:
            self._code = _CODES.get(error.condition, CloseCode.NORMAL_CLOSURE)
        super()._close(error, rest)

    def _lose_connection(self) -> None:
        """Close the WebSocket; when the peer has done so too, the connection ends."""
        if self._losing or self.transport is None:
            return
        self._frames.close(self._code)
        self._answer()
        if self._frames.is_over:
            self.out.write(self._last)
            super()._lose_connection()
            self.out.to = None  # nothing may follow a close frame


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
