"""
Frames to stanzas, without I/O: what comes over a WebSocket (RFC 6455 5, RFC 7395 3.3).

L{Frames} turns bytes into the text of whole messages.  L{FrameReader} turns the text of one
message, which is one element, into an event of the stream.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from twisted.words.protocols.jabber.error import StreamError
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SERVER, Protocol, State

from cms.xmlstream import ns
from cms.xmlstream.limits import Limits
from cms.xmlstream.plainreader import read_elements
from cms.xmlstream.reader import (
    Context,
    Event,
    StanzaRead,
    StreamBroken,
    StreamEnd,
    StreamStart,
    TreeReader,
)
from cms.xmlstream.splice import SpliceReader
from cms.xmlstream.stanza import Stanza

FRAMING: Final = ns.FRAMING
MOST_FRAGMENTS = 256  # of one message
PIECE = 2_048  # bytes that are looked at together: so many small frames may be in them
_DECLARED = 512  # bytes of a message above those of its stanza, for declarations
_CONTEXT = Context("r", ns.CLIENT, {"": ns.CLIENT})  # no prefix is bound outside of a frame
_LOG = logging.getLogger("cms.websocket")  # one for all: nothing is logged to it
_LOG.disabled = True


class Frames:
    """
    The frames of one connection.

    @ivar problem: Why the connection was failed (RFC 6455 7.1.7), as the stream error that
        says the same; nothing is read after that.
    """

    def __init__(self, limits: Limits) -> None:
        self._protocol = Protocol(SERVER, logger=_LOG)
        self.limits = limits
        self.problem: StreamError | None = None
        self._fragments: list[bytes] = []

    @property
    def limits(self) -> Limits:
        """What a message may hold."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._protocol.max_message_size = limits.stanza_bytes + _DECLARED

    @property
    def is_over(self) -> bool:
        """Whether nothing is read any more: failed, or the peer's close frame has come."""
        return self._protocol.eof_sent

    def receive(self, data: bytes) -> tuple[list[bytes], int]:
        """
        Take bytes.

        @return: The messages that are complete, and how many frames have come.
        """
        protocol = self._protocol
        protocol.receive_data(data)
        events = protocol.events_received()
        messages: list[bytes] = []
        for frame in events:
            if isinstance(frame, Frame) and self.problem is None:
                self._take(frame, messages)
        if protocol.parser_exc is not None and self.problem is None:
            if isinstance(protocol.parser_exc, PayloadTooBig):
                self.problem = StreamError("policy-violation", text="stanza too long")
            else:
                self.problem = StreamError("bad-format", text="no frame of a WebSocket client")
        return messages, len(events)

    def _take(self, frame: Frame, messages: list[bytes]) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT and frame.fin:
            messages.append(bytes(frame.data))
        elif opcode is Opcode.TEXT or opcode is Opcode.CONT:
            fragments = self._fragments
            fragments.append(bytes(frame.data))
            if len(fragments) > MOST_FRAGMENTS:
                self.fail(CloseCode.POLICY_VIOLATION, "policy-violation", "too many fragments")
            elif frame.fin:
                messages.append(b"".join(fragments))
                fragments.clear()
        elif opcode is Opcode.BINARY:
            self.fail(CloseCode.UNSUPPORTED_DATA, "bad-format", "a binary frame")

    def fail(self, code: CloseCode, condition: str, text: str) -> None:
        """Read nothing more, because the peer breaks a rule (RFC 6455 7.1.7)."""
        if self.problem is None:
            self.problem = StreamError(condition, text=text)
            if not self.is_over:  # by what came after it
                self._protocol.fail(code, text)

    def answers(self) -> list[bytes]:
        """Control frames that are to be sent: pings, pongs and at last a close frame."""
        return [frame for frame in self._protocol.data_to_send() if frame]

    def ping(self) -> None:
        """Ask whether the peer lives (RFC 6455 5.5.2)."""
        self._protocol.send_ping(b"")

    def close(self, code: CloseCode) -> None:
        """Send a close frame, if none was sent (RFC 6455 7.1.2)."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)


class FrameReader:
    """
    Reads the elements of one stream, each the text of a whole message.

    @ivar limits: What a stanza may hold.
    @ivar last: The text of the last message that was read alone.
    """

    at_boundary = True  # between two frames nothing is left over

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._is_open = self._is_over = False
        self.last = b""
        self._fast: SpliceReader | None = None

    def splice(self) -> None:
        """Read the fast way from now on."""
        if self._fast is None:
            self._fast = SpliceReader(TreeReader(self.limits, _CONTEXT))

    def feed(self, data: bytes) -> list[Event]:
        """Take the text of one message; see L{read}."""
        return self.read([data])

    def read(self, messages: Sequence[bytes]) -> list[Event]:
        """Take the texts of whole messages; returns their events, and nothing after the last."""
        events = self._read_fast(messages)
        if events is not None:
            return events
        events = []
        for message in messages:
            if not self._is_over:
                event = self._read(message)
                events.append(event)
                self._is_over = isinstance(event, (StreamBroken, StreamEnd))
                self.last = message
        return events

    def _read_fast(self, messages: Sequence[bytes]) -> list[Event] | None:
        fast = self._fast
        if fast is None or self._is_over or not all(m.startswith(b"<") for m in messages):
            return None
        fast.limits = self.limits
        return fast.read_apart(messages)

    def _read(self, data: bytes) -> Event:
        if not data.startswith(b"<"):
            return _broken("bad-format", "a frame begins with an element")
        events, whole = self._read_slowly(data)
        if events and isinstance(events[-1], StreamBroken):
            return events[-1]
        if not whole or len(events) != 1 or not isinstance(events[0], StanzaRead):
            return _broken("not-well-formed", "a frame is one element")
        return self._judge(events[0])

    def _read_slowly(self, data: bytes) -> tuple[list[Event], bool]:
        elements = read_elements(data, ns.CLIENT)
        if elements is not None:
            return [StanzaRead(Stanza(element)) for element in elements], True
        tree = TreeReader(self.limits, _CONTEXT)
        events = tree.feed(data)
        return events, tree.at_boundary

    def _judge(self, read: StanzaRead) -> Event:
        """C{open} and C{close} are the header and the end of a stream (RFC 7395 3.4, 3.6)."""
        element = read.stanza.element
        if element.uri == FRAMING and element.name == "close":
            return StreamEnd()
        if self._is_open:
            if element.uri == FRAMING:
                return _broken("unsupported-stanza-type", "the stream is open")
            return read
        if element.uri != FRAMING or element.name != "open":
            return _broken("invalid-namespace", "open comes first")
        self._is_open = True
        return StreamStart(ns.STREAMS, "stream", ns.CLIENT, element.attributes)


def _broken(condition: str, text: str) -> StreamBroken:
    return StreamBroken(StreamError(condition, text=text))
