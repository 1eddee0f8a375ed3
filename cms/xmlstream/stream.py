"""
One XML stream over a Twisted transport: the shell around the sans-I/O reader.

Both roles build on it.  A subclass says what a header, a stanza and an ending
mean; this class sees to bytes, limits, deadlines and a proper end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
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
from cms.process.cleanup import finish
from cms.process.endpoints import plain_host
from cms.process.logs import Logger
from cms.xmlstream import ns
from cms.xmlstream.backlog import Backlog, Item
from cms.xmlstream.limits import UNAUTHENTICATED, Limits
from cms.xmlstream.plainreader import PlainReader
from cms.xmlstream.reader import (
    Event,
    Reader,
    SlicesRead,
    StanzaRead,
    StreamBroken,
    StreamEnd,
    StreamStart,
)
from cms.xmlstream.serialize import quote_attribute, serialize
from cms.xmlstream.splice import SpliceReader
from cms.xmlstream.spliced import SplicedStanza
from cms.xmlstream.stanza import Slice, Stanza

STALL_TIMEOUT = 30.0  # seconds that a peer may read nothing of what waits for it
PATIENCE = 5.0  # seconds of that for which others wait, and after which it counts as stalled
READ_BYTES = 131_072  # at most read at once; more than this waiting for a peer makes it slow
HOLD_BYTES = 65_536  # of one source that wait, before it is read no further
DRAIN_BYTES = 65_536  # of what waits, given to the transport at once
BURST_BYTES = 2 * READ_BYTES  # that may be given to it at once where nothing waits
GATHERED_BYTES = 65_536  # no more waits for the end of a read or of a turn
CLOSE_TIMEOUT = 5.0  # seconds that a peer has for closing its side, RFC 6120 4.4
_TURN = "turn"  # what a stream holds itself for
_LOCAL = "local", None  # the peer of a UNIX socket


class IStreamTransport(ITLSTransport, IConsumer, IPushProducer):
    """What a stream needs of its transport: TCP, or UNIX where TLS is not used."""

    bufferSize: int


@implementer(IHandshakeListener, IPushProducer)
class XMLStream(Protocol):
    """
    An XML stream (RFC 6120 4), before anything is known of its purpose.

    @cvar content_namespace: What we declare as the default namespace.
    @cvar is_shared: Many speak through this stream: it is never held for one of those
        that they speak to, and the stanzas that are sent within one turn of the reactor
        leave together.
    @cvar a_turn: How many stanzas that ask for more than to be forwarded are handled in
        one turn of the reactor; the rest of what was read waits for the next.
    @ivar send_limit: How many bytes of others may wait for a peer that does not read;
        L{Backlog} shares them out.  What this side says itself may be as much again.
    @ivar bytes_received: Grows whenever the peer sends anything at all.
    @ivar bytes_sent: What was written for it; TLS is not counted in either.
    @ivar closing: We have closed our side.
    """

    log: ClassVar[Logger] = Logger()
    content_namespace: ClassVar[str] = ns.CLIENT
    is_shared: ClassVar[bool] = False
    a_turn: ClassVar[int] = sys.maxsize
    transport: IStreamTransport | None

    def __init__(self, clock: IReactorTime, *, send_limit: int = 1024 * 1024) -> None:
        self.clock = clock
        self.send_limit = send_limit
        self.bytes_received = self.bytes_sent = 0
        self.stanzas_received = self.stanzas_sent = 0
        self.closing = False
        self.ended: Deferred[None] = Deferred()
        self._reader: Reader = PlainReader(UNAUTHENTICATED)
        self._splice = False
        self._last_of_read = False
        self._rest: list[Event] = []  # of what was read, for the next turn
        self._gathered: list[bytes] | None = None  # what leaves when the read, or the turn, ends
        self._gathered_bytes = 0
        self._turn: IDelayedCall | None = None
        self._layer: Layer | None = None
        self._header_sent = False
        self._backlog: Backlog | None = None  # while something waits
        self._paused = False
        self._paused_at = 0.0
        self._watching_stall = False
        self._holding: dict[object, XMLStream] = {}  # for each source that waits, who is held
        self._held_by: set[tuple[XMLStream, object]] = set()
        self._losing = False
        self._left = False
        self._deadline: IDelayedCall | None = None
        self._calls: set[IDelayedCall] = set()
        self._known_address: tuple[str, object] | None = None
        self.on_trusted: Callable[[], object] = _nobody_asks
        self.on_waiting: Callable[[bool], object] = _nobody_asks

    # For subclasses

    def stream_started(self, start: StreamStart) -> None:
        """The peer opened its stream."""

    def stanza_received(self, stanza: Stanza) -> None:
        """The peer sent a top-level element."""

    def slices_received(self, slices: list[Slice]) -> list[Slice]:
        """
        The peer sent stanzas that were not looked into (L{cms.xmlstream.splice}).

        @return: Those that must wait for the next turn of the reactor.
        """
        for piece in slices:
            if not self.closing:
                self.stanza_received(SplicedStanza(piece))
        return []

    def secured(self) -> None:
        """The TLS handshake is complete and the peer is verified."""

    def stream_closing(self) -> None:
        """
        Nothing is sent any more, because our side closes or the connection is
        gone; called once, so that nobody delivers to this stream any longer.
        """

    def stream_lost(self, reason: Failure) -> None:
        """The connection is gone, however it ended; called once, last."""

    def deadline_passed(self) -> None:
        """What was awaited with L{set_deadline} did not come."""
        self.close(StreamError("connection-timeout"))

    def overflowed(self) -> None:
        """The peer reads nothing, or not even what this side itself has to say."""
        self._backlog = None
        self.close(StreamError("policy-violation", text="too slow to read"))
        self.abort()

    def unexpected(self, problem: Exception) -> None:
        """An error of this program, which the log has, ends this stream and no other."""
        self.close(StreamError("internal-server-error"))

    # Twisted's callbacks

    def connectionMade(self) -> None:
        """Watch for back-pressure."""
        if self.transport is not None:
            self.transport.registerProducer(self, True)

    def handshakeCompleted(self) -> None:
        """From C{IHandshakeListener}."""
        self.secured()

    def dataReceived(self, data: bytes) -> None:
        """Read stanzas and hand each on; what is answered leaves together."""
        self.bytes_received += len(data)
        if self._gathered is None:
            self._gathered = []
        try:
            events = self._reader.feed(data)
            if self._rest:  # whose turn has not come yet
                self._rest += events
            else:
                self._handle(events)
            if self._splice and isinstance(self._reader, PlainReader):
                self._reader = SpliceReader(self._reader)
        except Exception as problem:  # noqa: BLE001 - one peer's stanza must not harm the others
            self.log.failure("unexpected error while reading from {peer}", peer=self.peer_text)
            self.unexpected(problem)
        finally:
            self._end_read()

    def _end_read(self) -> None:
        if self._gathered or self._turn is not None:
            self._write_gathered()
        self._gathered, self._gathered_bytes = None, 0

    def _handle(self, events: list[Event]) -> None:
        reader = self._reader
        for number, event in enumerate(events, 1):
            if reader is not self._reader:
                return  # a restarted stream believes nothing read before
            self._last_of_read = number == len(events)
            left = self._dispatch(event)
            if left:
                self.stanzas_received -= len(left)
                self._rest = [SlicesRead(left), *events[number:]]
            elif number >= self.a_turn and not self._last_of_read:
                self._rest = events[number:]
            if self._rest:
                self._wait_for_turn()
                return

    def _wait_for_turn(self) -> None:
        """What the peer sends asks for more work than one of many should cost in a turn."""
        self._held_by.add((self, _TURN))
        if self.transport is not None:
            self.transport.pauseProducing()
        self.later(0, self._take_turn)

    def _take_turn(self) -> None:
        events, self._rest = self._rest, []
        if self._gathered is None:
            self._gathered = []
        try:
            self._handle(events)
        except Exception as problem:  # noqa: BLE001 - as while reading
            self.log.failure("unexpected error in what {peer} sent", peer=self.peer_text)
            self.unexpected(problem)
        finally:
            self._end_read()
        if not self._rest:
            self._held_by.discard((self, _TURN))
            self._read_again()

    def _dispatch(self, event: Event) -> list[Slice]:
        kind = type(event)
        if kind is StreamEnd:
            self.peer_closed()
        elif self.closing:
            if kind is StreamBroken:
                self._lose_connection()  # no closing tag will be read any more
        elif isinstance(event, StanzaRead):
            self.stanzas_received += 1
            self.stanza_received(event.stanza)
        elif isinstance(event, SlicesRead):
            self.stanzas_received += len(event.slices)
            return self.slices_received(event.slices)
        elif isinstance(event, StreamStart):
            self.stream_started(event)
        elif isinstance(event, StreamBroken):
            self.stream_broken(event.error)
        return []

    def peer_closed(self) -> None:
        """The peer closed its stream; close ours (RFC 6120 4.4)."""
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

    def stream_broken(self, error: StreamError) -> None:
        """The peer's XML is bad; say so and end."""
        self.close(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        while self._rest:  # it came before the end
            self._take_turn()
        self.closing = True
        finish(
            self.log,
            self.peer_text,
            self._write_gathered,
            self._wait_no_more,
            self._leave,
            lambda: self.stream_lost(reason),
            lambda: self.ended.callback(None),
        )

    def _wait_no_more(self) -> None:
        self._backlog = None
        self.set_deadline(None)
        for call in self._calls:
            if call.active():
                call.cancel()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            finish(self.log, self.peer_text, self._let_go, self.stream_closing)

    def _let_go(self) -> None:
        for source in list(self._holding):
            self._release(source)
        for receiver, source in list(self._held_by):
            receiver._release(source)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True
        self._paused_at = self.clock.seconds()
        if not self._watching_stall:
            self._watch_stall(PATIENCE)

    def _watch_stall(self, seconds: float) -> None:
        self._watching_stall = True
        self.later(seconds, self._judge_stall)

    def _judge_stall(self) -> None:
        self._watching_stall = False
        if not self._paused or self.closing:
            return
        since = self.clock.seconds() - self._paused_at
        if since >= STALL_TIMEOUT:
            self.overflowed()
            return
        if since >= PATIENCE:
            for source, held in list(self._holding.items()):
                if held is not self:
                    self._release(source)
        self._watch_stall((STALL_TIMEOUT if since >= PATIENCE else PATIENCE) - since)

    def resumeProducing(self) -> None:
        """The transport's buffer has drained."""
        self._paused = False
        if self._backlog is not None:
            self.drain()

    def stopProducing(self) -> None:
        """The transport will write no more; C{connectionLost} follows."""

    # Back-pressure: whoever writes for himself is read no further until the peer has read

    @property
    def is_slow(self) -> bool:
        """The peer does not read as fast as it is written to."""
        return self._backlog is not None

    @property
    def is_stalled(self) -> bool:
        """The peer has read nothing for L{PATIENCE}, so nobody waits for it."""
        return self._paused and self.clock.seconds() - self._paused_at >= PATIENCE

    @property
    def is_full(self) -> bool:
        """So much of what this side says itself waits that it should ask nothing more."""
        return self._backlog is not None and self._backlog.first_size >= self.send_limit // 2

    @property
    def waiting_bytes(self) -> int:
        """How much waits for the peer to read."""
        return 0 if self._backlog is None else self._backlog.first_size + self._backlog.size

    @property
    def held(self) -> bool:
        """We do not read from the peer, because others do not keep up with it."""
        return bool(self._held_by)

    def _hold(self, source: object) -> None:
        """
        Much of C{source} waits: read no more of whoever it comes from.

        What a stream that speaks for many has written to a client, the client has asked
        for, or must read first.
        """
        if isinstance(source, XMLStream) and not source.is_shared:
            held = source
        elif not self.is_shared:
            held = self
        else:
            return
        if source in self._holding or held.closing or (self.is_stalled and held is not self):
            return
        self._holding[source] = held
        held._held_by.add((self, source))
        if held.transport is not None:
            held.transport.pauseProducing()

    def _release(self, source: object) -> None:
        held = self._holding.pop(source, None)
        if held is not None:
            held._held_by.discard((self, source))
            held._read_again()

    def _read_again(self) -> None:
        if not (self._held_by or self._losing) and self.transport is not None:
            self.transport.resumeProducing()

    # Actions

    @property
    def peer_text(self) -> str:
        """The peer's address for logs."""
        host, port = self._peer_address
        return f"{host} port {port}" if port is not None else "a local socket"

    @property
    def peer_host(self) -> str:
        """The peer's IP address, or C{"local"} for a UNIX socket."""
        return self._peer_address[0]

    @property
    def _peer_address(self) -> tuple[str, object]:
        if self._known_address is None:
            if self.transport is None:
                return _LOCAL
            peer = self.transport.getPeer()
            host = getattr(peer, "host", None)
            port = getattr(peer, "port", "?")
            self._known_address = (plain_host(str(host)), port) if host else _LOCAL
        return self._known_address

    @property
    def heard(self) -> bytes:
        """
        What the peer sent in place of a TLS handshake, or of a plain stream header; for
        L{recognise<cms.xmlstream.otherprotocols.recognise>}, when that was the end of it.
        """
        early = self._layer.heard if self._layer is not None else b""
        return early or getattr(self._reader, "first", b"")

    @property
    def can_send(self) -> bool:
        """Whether a stanza sent now would leave for the peer."""
        return self._header_sent and not self.closing

    @property
    def at_boundary(self) -> bool:
        """Whether nothing but white space came with the stanza being handled."""
        return self._last_of_read and self._reader.at_boundary

    def write(self, data: bytes) -> None:
        """
        Send bytes of our own, before what others have written and the peer has not read.

        Where even they are not read, at C{send_limit}, the stream ends.
        """
        if self.transport is None:
            return
        if not self._paused:
            self._write(data)
            return
        backlog = self._backlog = self._backlog or Backlog(self.send_limit)
        backlog.put_first(data)
        if backlog.first_size > self.send_limit and not self.closing:
            self.overflowed()

    def _write(self, data: bytes) -> None:
        self.bytes_sent += len(data)
        if self._gathered is None:
            (self._layer or self.transport).write(data)  # type: ignore[union-attr]
            return
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= GATHERED_BYTES:  # only what was written can make it slow
            self._write_gathered()

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """
        Send the bytes of stanzas that others have written, in their order.

        @param source: Whose turn it is when they have to wait: the stream that they came
            from, C{None} for the server's answers to this peer.
        @return: Those for which there is no room; their senders must be told.
        """
        if not self._header_sent or self.closing or self.transport is None:
            return ()
        if self._backlog is None and not self._paused:
            data = b"".join(raws)
            if len(data) <= BURST_BYTES:
                self.stanzas_sent += len(raws)
                self._write(data)
                return ()
        nothing_waited = self._backlog is None
        refused = [raw for raw in raws if not self.queue(raw, source)]
        if nothing_waited and not self._paused:
            self.drain()
        return refused

    def queue(self, item: Item, source: object) -> bool:
        """
        Let a stanza wait for its turn: until the peer reads, or L{drain} is called.

        @return: Whether there is room for it.
        """
        if not self.can_send:
            return True
        waits = self._wait(item, source)
        if not waits and not self._paused:
            self.drain()
            waits = self._wait(item, source)
        self.stanzas_sent += waits
        return waits

    def _wait(self, item: Item, source: object) -> bool:
        backlog = self._backlog = self._backlog or Backlog(self.send_limit)
        waits = backlog.put(source, item)
        if not backlog:
            self._backlog = None
        elif self._paused and backlog.waiting(source) >= HOLD_BYTES:
            self._hold(source)
        return waits

    def drain(self, most: int | None = None) -> int:
        """
        Send of what waits as much as the peer takes.

        @param most: Bytes; one more stanza may go.
        @return: How many bytes were sent.
        """
        sent = 0
        self._write_gathered()
        while (backlog := self._backlog) is not None and not self._paused:
            if most is not None and sent >= most:
                break
            step = DRAIN_BYTES if most is None else min(DRAIN_BYTES, most - sent)
            data, emptied = backlog.take(step)
            if not backlog:
                self._backlog = None
            sent += len(data)
            self._write(data)
            for source in emptied:
                self._release(source)
        return sent

    def _write_gathered(self) -> None:
        gathered, self._gathered, self._gathered_bytes = self._gathered, None, 0
        if self._turn is not None:
            turn, self._turn = self._turn, None
            if turn.active():
                turn.cancel()
        if gathered and self.transport is not None:
            (self._layer or self.transport).write(b"".join(gathered))

    def start_tls(self, creator: object) -> None:
        """
        Begin the handshake; L{secured} follows.

        @param creator: See L{cms.fast.tls.start_tls}.
        """
        self._write_gathered()
        self._layer = start_tls(self.transport, creator)

    def set_deadline(self, seconds: float | None) -> None:
        """Call L{deadline_passed} in so many seconds; C{None}: never."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = (
            None if seconds is None else self.clock.callLater(seconds, self.deadline_passed)
        )

    def later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        """Call something in so many seconds, unless the connection is gone by then."""
        self._calls = {c for c in self._calls if c.active()}
        self._calls.add(self.clock.callLater(seconds, call, *args))

    def send(self, stanza: Stanza) -> None:
        """Send a stanza; after our side is closed, nothing."""
        if self.can_send:
            self.stanzas_sent += 1
            if self.is_shared and self._gathered is None:
                self._gathered = []
                self._turn = self.clock.callLater(0, self._write_gathered)
            self.write(stanza.raw)

    def send_header(self, attributes: Mapping[str, str | None]) -> None:
        """Open our side of the stream (RFC 6120 4.7)."""
        self._header_sent = True
        more = dict(attributes)
        identifier = more.pop("id", None)
        start = _header(self.content_namespace, tuple(more.items()))
        end = ">" if identifier is None else f" id={quote_attribute(identifier)}>"
        self.write(f"{start}{end}".encode())

    def reset(self, limits: Limits) -> None:
        """Expect a new stream header: after STARTTLS and after SASL."""
        self._reader = PlainReader(limits)
        self._header_sent = False

    def splice(self, limits: Limits, at_once: int = READ_BYTES) -> None:
        """
        The peer is authenticated: read the fast way from the next read on.

        @param at_once: Bytes of each read, which is what one turn of the reactor does
            for this peer, and of what is written that may wait in the transport.
        """
        self.set_limits(limits)
        self._splice = True
        if self.transport is not None:
            self.transport.bufferSize = at_once  # Twisted's own is 64 kB

    def set_limits(self, limits: Limits) -> None:
        """Allow the stream as much as C{limits}, from now on."""
        self._reader.limits = limits

    def close(self, error: StreamError | None = None) -> None:
        """
        Close our side properly: the error if any, the closing tag, and the
        connection when the peer has closed too, or does not within
        L{CLOSE_TIMEOUT}.
        """
        if self.closing or self.transport is None:
            return
        self.set_deadline(None)
        if not self._header_sent:
            self.send_header(self.error_header())
        last = b"</stream:stream>"
        if error is not None:
            error.textLang = error.textLang or "en"  # RFC 6120 4.9.2
            last = serialize(error.getElement()) + last
        backlog, self._backlog = self._backlog, None
        if backlog is not None:  # no more comes: let it all leave with the connection
            self._write_gathered()
            last = backlog.take()[0] + last
        self._write(last)
        self.closing = True
        self._leave()
        self.later(CLOSE_TIMEOUT, self.abort)
        if error is not None:
            self._lose_connection()

    def shut_down(self) -> None:
        """Our side stops: say so, so that the peer looks elsewhere at once."""
        self.close(StreamError("system-shutdown"))

    def error_header(self) -> dict[str, str | None]:
        """The header sent when a stream ends before it began (RFC 6120 4.9.1.2)."""
        return {"id": new_stream_id(), "version": "1.0"}

    def _lose_connection(self) -> None:
        if self.transport is not None and not self._losing:
            self._losing = True
            self._write_gathered()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Drop the connection without waiting for anything."""
        if self.transport is not None:
            self.transport.abortConnection()


def _nobody_asks(*_: object) -> None:
    """Whether the peer is trusted, or waits, without a listener that has few places."""


@lru_cache(maxsize=256)
def _header(namespace: str, attributes: tuple[tuple[str, str | None], ...]) -> str:
    written = "".join(
        f" {key}={quote_attribute(value)}" for key, value in attributes if value is not None
    )
    return (
        f"<?xml version='1.0'?><stream:stream xmlns='{namespace}'"
        f" xmlns:stream='{ns.STREAMS}'{written}"
    )


def new_stream_id() -> str:
    """An identifier nobody can guess (RFC 6120 4.7.3)."""
    return os.urandom(16).hex()
