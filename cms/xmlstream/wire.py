"""
The interfaces of a stream: the wire that carries it, and the handler of its events.

A L{Wire} is bytes of TCP (L{XMLStream<cms.xmlstream.stream.XMLStream>}), or frames of a
WebSocket (L{WebSocketStream<cms.websocket.stream.WebSocketStream>}).  The L{StreamHandler}
handles its events: first a negotiation, then a session or a link.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.flow import READ_BYTES, Carrier, Party
from cms.xmlstream.limits import Limits
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.stanza import Slice, Stanza


class StreamHandler:
    """
    Handles the events of a stream; this base class ignores them.

    @ivar content_namespace: What we declare as the default namespace.
    @ivar a_turn: How many stanzas that ask for more than to be forwarded are handled in
        one turn of the reactor; the rest of what was read waits for the next.
    """

    content_namespace: str = ns.CLIENT
    a_turn: int = sys.maxsize

    def opened(self, wire: Wire) -> None:
        """There is a connection."""

    def secured(self) -> None:
        """The TLS handshake is complete and the peer is verified."""

    def stream_started(self, start: StreamStart) -> None:
        """The peer opened its stream."""

    def stanza_received(self, stanza: Stanza) -> None:
        """The peer sent a top-level element."""

    def slices_received(self, slices: list[Slice]) -> list[Slice]:
        """
        The peer sent stanzas that were not looked into (L{cms.xmlstream.splice}).

        @return: Those that must wait for the next turn of the reactor.
        """
        return []

    def asked(self) -> None:
        """The peer asks how many of its stanzas were handled (XEP-0198 4): unexpectedly."""
        self.stanza_received(Stanza(Element((ns.MANAGEMENT, "r"))))

    def acknowledges(self, handled: int) -> None:
        """The peer says how many of ours it has handled (XEP-0198 4): unexpectedly."""
        self.stanza_received(Stanza(Element((ns.MANAGEMENT, "a"), attribs={"h": str(handled)})))

    def peer_closed(self) -> None:
        """The peer closes its stream; so will the wire."""

    def stream_broken(self, error: StreamError) -> None:
        """The peer's XML is bad; say so and end."""

    def unexpected(self, problem: Exception) -> None:
        """An error of this program, which the log has; the wire ends, and no other."""

    def deadline_passed(self) -> None:
        """The time of L{Wire.set_deadline} is over."""

    def overflowed(self) -> None:
        """The peer does not read; the wire ends."""

    def shut_down(self) -> None:
        """Our side stops: tell the peer, so that it tries another server at once."""

    def stream_closing(self) -> None:
        """
        Nothing is sent any more, because our side closes or the connection is gone.  Called
        once; nothing may be delivered to this stream afterwards.
        """

    def stream_lost(self, reason: Failure) -> None:
        """The connection is gone, for whatever reason; called once, last."""

    def error_header(self) -> dict[str, str | None]:
        """The header sent when a stream ends before it began (RFC 6120 4.9.1.2)."""
        return {}


class Wire(Carrier, Protocol):
    """
    Carries a stream.

    @ivar transport: The transport, for facts about its TLS (L{cms.trust.connection}).
    @ivar party: The party that speaks over it.
    @ivar closing: We have closed our side.
    @ivar write: Sends one element of our own; see L{Party.write}.  A wire of TCP takes
        several, joined.
    @ivar bytes_received: Grows whenever the peer sends anything at all.
    @ivar on_trusted: Called when the peer is authenticated, with C{guest=True} if it is a
        guest; whether there is a place for it.
    @ivar on_waiting: Called when the peer begins, or ends, to wait for something of ours.
    @ivar ping: Asks the peer below XMPP whether it lives; C{None} where nothing does so.
    """

    clock: IReactorTime
    transport: Any
    party: Party
    closing: bool
    write: Callable[[bytes], None]
    bytes_received: int
    stanzas_received: int
    on_trusted: Callable[..., bool]
    on_waiting: Callable[[bool], object]
    ping: Callable[[], None] | None

    @property
    def bytes_sent(self) -> int: ...

    @property
    def stanzas_sent(self) -> int: ...

    @property
    def held(self) -> bool:
        """We do not read from the peer."""
        ...

    @property
    def peer_text(self) -> str:
        """The peer's address for logs."""
        ...

    @property
    def peer_host(self) -> str:
        """The peer's IP address, or C{"local"} for a UNIX socket."""
        ...

    @property
    def heard(self) -> bytes:
        """What the peer sent in place of a TLS handshake or a stream header."""
        ...

    @property
    def at_boundary(self) -> bool:
        """Whether nothing but white space came with the stanza being handled."""
        ...

    def stand_still(self) -> None:
        """Handle nothing more of what the peer sends, read or not, until L{go_on}."""

    def go_on(self) -> None:
        """Handle what came meanwhile, and what comes."""

    def take_over(self, handler: StreamHandler, party: Party) -> None:
        """Let a session or a link continue the stream after its negotiation."""

    def send_header(self, attributes: Mapping[str, str | None]) -> None:
        """Open our side of the stream (RFC 6120 4.7)."""

    def start_tls(self, creator: object) -> None:
        """Begin the handshake; L{StreamHandler.secured} follows."""

    def reset(self, limits: Limits) -> None:
        """Expect a new stream header: after STARTTLS and after SASL."""

    def set_limits(self, limits: Limits) -> None:
        """Use these limits from now on."""

    def splice(self, limits: Limits, at_once: int = READ_BYTES) -> None:
        """The peer is authenticated: read the fast way from the next read on."""

    def set_deadline(self, seconds: float | None) -> None:
        """Call L{StreamHandler.deadline_passed} in so many seconds; C{None}: never."""

    def later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        """Call something in so many seconds, unless the connection is gone by then."""

    def close(self, error: StreamError | None = None) -> None:
        """Close our side properly, with an error if there is one."""

    def dismiss(self, error: StreamError | None) -> None:
        """
        What this carried goes on elsewhere: close our side, and nobody is told.

        @param error: C{None}: what comes is not heard any more, until L{abort}.
        """

    def peer_failed(self, error: Element) -> None:
        """The peer ended its stream with an error."""

    def abort(self) -> None:
        """Drop the connection without waiting for anything."""
