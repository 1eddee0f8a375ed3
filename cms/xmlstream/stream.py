"""
One XML stream over a Twisted transport: the shell around the sans-I/O reader.

Both roles build on it.  The handler decides what a header, a stanza and an end mean.  This
class handles bytes, limits, deadlines and a proper end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
    ITLSTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.xish.domish import Element
from zope.interface import implementer

from cms.fast.tls import Layer, start_tls
from cms.fast.transport import set_buffer
from cms.process.cleanup import run_all
from cms.process.endpoints import plain_host
from cms.process.logs import Logger
from cms.xmlstream.flow import GONE, READ_BYTES, SEND_LIMITS, Party, SendLimits
from cms.xmlstream.gathering import Gathering
from cms.xmlstream.header import header, new_stream_id
from cms.xmlstream.limits import UNAUTHENTICATED, Limits
from cms.xmlstream.plainreader import PlainReader
from cms.xmlstream.reader import (
    AcknowledgementRead,
    Event,
    Reader,
    RequestRead,
    SlicesRead,
    StanzaRead,
    StreamBroken,
    StreamEnd,
    StreamStart,
)
from cms.xmlstream.serialize import quote_attribute, serialize
from cms.xmlstream.splice import SpliceReader
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Slice
from cms.xmlstream.wire import StreamHandler

CLOSE_TIMEOUT = 5.0  # seconds that a peer has for closing its side, RFC 6120 4.4
_LOCAL = "local", None  # the peer of a UNIX socket


class IStreamTransport(ITLSTransport, IConsumer, IPushProducer):
    """The transport of a stream: TCP, or a UNIX socket without TLS."""


@implementer(IHandshakeListener, IPushProducer)
class XMLStream(Protocol, StreamHandler):
    """
    An XML stream over TCP (RFC 6120 4): the L{Wire<cms.xmlstream.wire.Wire>} of its handler.

    @ivar handler: The handler of its events; a subclass may be its own handler.
    @ivar party: The party that speaks over it; see L{cms.xmlstream.flow}.
    @ivar write: Sends bytes of our own; see L{Party.write}.
    @ivar out: The way out.
    @ivar bytes_received: Grows whenever the peer sends anything at all; TLS is not counted.
    @ivar closing: We have closed our side.
    """

    log: ClassVar[Logger] = Logger()
    end_of_stream: ClassVar[bytes] = b"</stream:stream>"
    transport: IStreamTransport | None
    ping: Callable[[], None] | None = None

    def __init__(
        self,
        clock: IReactorTime,
        handler: StreamHandler | None = None,
        *,
        limits: SendLimits = SEND_LIMITS,
        is_shared: bool = False,
    ) -> None:
        self.clock = clock
        self.handler: StreamHandler = self if handler is None else handler
        self.party = Party(clock, limits, is_shared=is_shared)
        self.write: Callable[[bytes], None] = self.party.write
        self.out = Gathering()
        self.bytes_received = self.stanzas_received = 0
        self.closing = False
        self.ended: Deferred[None] = Deferred()
        self._reader: Reader = PlainReader(UNAUTHENTICATED)
        self._splice = False
        self._last_of_read = False
        self._rest: list[Event] = []  # of what was read, for the next turn
        self._stands = False
        self._layer: Layer | None = None
        self._header_sent = False
        self._losing = False
        self._left = False
        self._deadline: IDelayedCall | None = None
        self._calls: set[IDelayedCall] = set()
        self._known_address: tuple[str, object] | None = None
        self.on_trusted: Callable[..., bool] = _nobody_asks
        self.on_waiting: Callable[[bool], object] = _nobody_asks

    # What a subclass that is its own handler need not say

    def slices_received(self, slices: list[Slice]) -> list[Slice]:
        """See L{StreamHandler.slices_received}."""
        for piece in slices:
            if not self.closing:
                self.stanza_received(SplicedStanza(piece))
        return []

    def stream_broken(self, error: StreamError) -> None:
        """See L{StreamHandler.stream_broken}."""
        self.close(error)

    def deadline_passed(self) -> None:
        """See L{StreamHandler.deadline_passed}."""
        self.close(StreamError("connection-timeout"))

    def shut_down(self) -> None:
        """See L{StreamHandler.shut_down}."""
        self.close(StreamError("system-shutdown"))

    def error_header(self) -> dict[str, str | None]:
        """See L{StreamHandler.error_header}."""
        return {"id": new_stream_id(), "version": "1.0"}

    # Twisted's callbacks

    def connectionMade(self) -> None:
        """Watch for back-pressure."""
        if self.transport is not None:
            self.out.to = self.transport
            self.transport.registerProducer(self, True)
        self.party.attach(self)
        self.handler.opened(self)

    def handshakeCompleted(self) -> None:
        """From C{IHandshakeListener}."""
        self.handler.secured()

    def dataReceived(self, data: bytes) -> None:
        """Read stanzas and pass each on; the answers are sent together."""
        self.bytes_received += len(data)
        out = self.out
        if out.pieces is None:
            out.pieces = []
        try:
            events = self._reader.feed(data)
            if self._rest or self._stands:  # whose turn has not come yet
                self._rest += events
            else:
                self._handle(events)
            if self._splice and isinstance(self._reader, PlainReader):
                self._reader = SpliceReader(self._reader)
        except Exception as problem:  # noqa: BLE001 - one peer's stanza must not harm the others
            self.log.failure("unexpected error while reading from {peer}", peer=self.peer_text)
            self._unexpected(problem)
        finally:
            out.end()

    def _unexpected(self, problem: Exception) -> None:
        try:
            self.handler.unexpected(problem)
        finally:
            self.close(StreamError("internal-server-error"))

    def _handle(self, events: list[Event]) -> None:
        reader = self._reader
        for number, event in enumerate(events, 1):
            if reader is not self._reader:
                return  # a restarted stream believes nothing read before
            self._last_of_read = number == len(events)
            left = self._dispatch(event)
            if left and not self.closing:
                self.stanzas_received -= len(left)
                self._rest = [SlicesRead(left), *events[number:]]
            elif (self._stands or number >= self.handler.a_turn) and not self._last_of_read:
                self._rest = events[number:]
            if self._rest:
                self._wait_for_turn()
                return

    def _wait_for_turn(self) -> None:
        """Stop reading until the next turn, because the peer's stanzas cost more than its share."""
        self.read_no_further()
        if not self._stands:
            self.later(0, self._take_turn)

    def _take_turn(self) -> None:
        events, self._rest = self._rest, []
        if self.out.pieces is None:
            self.out.pieces = []
        try:
            self._handle(events)
        except Exception as problem:  # noqa: BLE001 - as while reading
            self.log.failure("unexpected error in what {peer} sent", peer=self.peer_text)
            self._unexpected(problem)
        finally:
            self.out.end()
        self.read_on()

    def _dispatch(self, event: Event) -> list[Slice]:
        kind = type(event)
        if kind is StreamEnd:
            self._peer_closed()
        elif self.closing:
            if kind is StreamBroken:
                self._lose_connection()  # no closing tag will be read any more
        elif isinstance(event, StanzaRead):
            self.stanzas_received += 1
            self.handler.stanza_received(event.stanza)
        elif isinstance(event, SlicesRead):
            self.stanzas_received += len(event.slices)
            return self.handler.slices_received(event.slices)
        elif isinstance(event, RequestRead):
            self.handler.asked()
        elif isinstance(event, AcknowledgementRead):
            self.handler.acknowledges(event.handled)
        elif isinstance(event, StreamStart):
            self.handler.stream_started(event)
        elif isinstance(event, StreamBroken):
            self.handler.stream_broken(event.error)
        return []

    def _peer_closed(self) -> None:
        """The peer closed its stream; close ours (RFC 6120 4.4)."""
        self.handler.peer_closed()
        self.close()
        self._lose_connection()

    def peer_failed(self, error: Element) -> None:
        """The peer ended its stream with an error, which no error answers (RFC 6120 4.9.1.1)."""
        condition = error.firstChildElement()
        self.log.info(
            "{peer} ended its stream with the error {condition}",
            peer=self.peer_text,
            condition="-" if condition is None else condition.name[:80],
        )
        self.close()
        self._lose_connection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        while self._rest:  # it came before the end
            self._take_turn()
        self.closing = True
        run_all(
            self.log,
            self.peer_text,
            self.out.flush,
            self._wait_no_more,
            self._leave,
            partial(self.handler.stream_lost, reason),
            partial(self.ended.callback, None),
        )
        self.handler = _NOBODY
        if not self.party.is_open:  # else it goes on over another connection
            # A link refers to its wire: both would wait for the garbage collector.
            self.party, self.write = GONE, GONE.write

    def _wait_no_more(self) -> None:
        self.set_deadline(None)
        for call in self._calls:
            if call.active():
                call.cancel()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            run_all(self.log, self.peer_text, self.handler.stream_closing)
            if self.party.carrier is self:  # else it has left, or goes on without us
                run_all(self.log, self.peer_text, self.party.leave)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self.party.pause()

    def resumeProducing(self) -> None:
        """The transport's buffer has drained."""
        self.party.resume()

    def stopProducing(self) -> None:
        """The transport will write no more; C{connectionLost} follows."""

    # For the flow

    @property
    def held(self) -> bool:
        """Whether the peer is not read, because a receiver of its stanzas is slow."""
        return bool(self._rest) or self._stands or self.party.held

    def read_no_further(self) -> None:
        """See L{Carrier<cms.xmlstream.flow.Carrier>}."""
        if self.transport is not None:
            self.transport.pauseProducing()

    def read_on(self) -> None:
        """See L{Carrier<cms.xmlstream.flow.Carrier>}."""
        if self.transport is not None and not (self._losing or self.held):
            self.transport.resumeProducing()

    def stand_still(self) -> None:
        """See L{Wire<cms.xmlstream.wire.Wire>}."""
        self._stands = True
        self.read_no_further()

    def go_on(self) -> None:
        """See L{Wire<cms.xmlstream.wire.Wire>}."""
        if self._stands:
            self._stands = False
            self.later(0, self._take_turn)

    def too_slow(self) -> None:
        """See L{Carrier<cms.xmlstream.flow.Carrier>}."""
        if not self.closing:
            self.handler.overflowed()
            # What waits would not leave any more: a session gives it back to its senders.
            self._close(StreamError("policy-violation", text="too slow to read"), b"")
            self.abort()

    @property
    def bytes_sent(self) -> int:
        """Bytes sent to the peer; TLS is not counted."""
        return self.out.bytes_sent

    @property
    def stanzas_sent(self) -> int:
        """Stanzas sent to the peer, or waiting for it."""
        return self.out.stanzas_sent

    # Actions

    @property
    def peer_text(self) -> str:
        """The peer's address for logs."""
        host, port = self._known_address or self._look_up()
        return f"{host} port {port}" if port is not None else "a local socket"

    @property
    def peer_host(self) -> str:
        """The peer's IP address, or C{"local"} for a UNIX socket."""
        return (self._known_address or self._look_up())[0]

    def _look_up(self) -> tuple[str, object]:
        if self.transport is None:
            return _LOCAL
        peer = self.transport.getPeer()
        host = getattr(peer, "host", None)
        port = getattr(peer, "port", 0) or "?"  # a proxy may say no port
        self._known_address = found = (plain_host(str(host)), port) if host else _LOCAL
        return found

    @property
    def heard(self) -> bytes:
        """
        The bytes that the peer sent instead of a TLS handshake or a stream header, for
        L{recognise<cms.xmlstream.otherprotocols.recognise>}.
        """
        early = self._layer.heard if self._layer is not None else b""
        return early or getattr(self._reader, "first", b"")

    @property
    def at_boundary(self) -> bool:
        """Whether nothing but white space came with the stanza being handled."""
        return self._last_of_read and self._reader.at_boundary

    def start_tls(self, creator: object) -> None:
        """
        Begin the handshake; L{StreamHandler.secured} follows.

        @param creator: See L{cms.fast.tls.start_tls}.
        """
        self.out.flush()
        self._layer = start_tls(self.transport, creator)
        if self._layer is not None:
            self.out.to = self._layer

    def set_deadline(self, seconds: float | None) -> None:
        """Call L{StreamHandler.deadline_passed} in so many seconds; C{None}: never."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.clock.callLater(seconds, self._too_late)

    def _too_late(self) -> None:
        self.handler.deadline_passed()

    def later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        """Call C{call} in C{seconds}, unless the connection is gone by then."""
        self._calls = {c for c in self._calls if c.active()}
        self._calls.add(self.clock.callLater(seconds, call, *args))

    def send_header(self, attributes: Mapping[str, str | None]) -> None:
        """Open our side of the stream (RFC 6120 4.7)."""
        self._header_sent = self.party.is_open = True
        more = dict(attributes)
        identifier = more.pop("id", None)
        start = header(self.handler.content_namespace, tuple(more.items()))
        end = ">" if identifier is None else f" id={quote_attribute(identifier)}>"
        self.write(f"{start}{end}".encode())

    def reset(self, limits: Limits) -> None:
        """Expect a new stream header: after STARTTLS and after SASL."""
        self._reader = PlainReader(limits)
        self._header_sent = self.party.is_open = False

    def take_over(self, handler: StreamHandler, party: Party) -> None:
        """Give the stream to another handler and party; see L{Wire}."""
        self.handler = handler
        before, self.party, self.write = self.party, party, party.write
        party.succeed(before)
        party.is_open = self._header_sent

    def splice(self, limits: Limits, at_once: int = READ_BYTES) -> None:
        """
        The peer is authenticated: read the fast way from the next read on.

        @param at_once: Bytes of each read, which is what one turn of the reactor does
            for this peer, and of what is written that may wait in the transport.
        """
        self.set_limits(limits)
        self._splice = True
        if self.transport is not None:
            set_buffer(self.transport, at_once)  # Twisted's own is 64 kB

    def set_limits(self, limits: Limits) -> None:
        """Use these limits from now on."""
        self._reader.limits = limits

    def close(self, error: StreamError | None = None) -> None:
        """
        Close our side properly: the error if any, the closing tag, and the
        connection when the peer has closed too, or does not within
        L{CLOSE_TIMEOUT}.
        """
        if self.closing or self.transport is None:
            return
        self._close(error, self.party.take_all())

    def _close(self, error: StreamError | None, rest: bytes) -> None:
        self.set_deadline(None)
        if not self._header_sent:
            self.send_header(self.handler.error_header())
        last = [self.end_of_stream]
        if error is not None:
            error.textLang = error.textLang or "en"  # RFC 6120 4.9.2
            last.insert(0, serialize(error.getElement()))
        if rest:  # no more comes: let it all leave with the connection
            self.out.flush()
        self.out.write(rest + self.out.join(last))
        self.closing = True
        self._leave()
        self.go_on()  # the end of its stream must be heard
        self.later(CLOSE_TIMEOUT, self.abort)
        if error is not None:
            self._lose_connection()

    def dismiss(self, error: StreamError | None) -> None:
        """See L{Wire<cms.xmlstream.wire.Wire>}."""
        self.handler, self.party = _NOBODY, Party(self.clock)
        self.write = self.party.write
        self.party.attach(self)
        if error is not None:
            self.close(error)

    def _lose_connection(self) -> None:
        if self.transport is not None and not self._losing:
            self._losing = True
            self.out.flush()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Drop the connection without waiting for anything."""
        if self.transport is not None:
            self.transport.abortConnection()


_NOBODY = StreamHandler()  # gets the events that still come when the connection is gone


def _nobody_asks(*_: object, **__: object) -> bool:
    """Stands for C{on_trusted} and C{on_waiting} where no listener limits connections."""
    return True
