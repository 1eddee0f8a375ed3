"""
A client's session: what the router, presence and the Callbridge know of a bound resource.

It begins when its negotiation has bound the resource (RFC 6120 7).  It takes over the wire,
and ends once, with a reason.  Stanzas that wait for it belong to the session
(L{cms.xmlstream.flow.Party}) and not to the wire, which may be lost and replaced.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.protocols.jabber.jid import JID

from cms.process.cleanup import run_all
from cms.process.logs import Logger
from cms.xmlstream import limits, ns
from cms.xmlstream.flow import Party
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.requests import Requests
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.wire import StreamHandler, Wire
from cms.xmpp import clientheader
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.forward import A_TURN, Forwarder

READ_BYTES = 32_768  # at once: a client is one of many, and its stanzas may cost work


class ClientSession(Party, StreamHandler):
    """
    One bound resource; a L{Session<cms.xmpp.sessions.Session>} of this server's.

    @ivar wire: What it speaks over; C{None} when that is gone.
    @ivar language: The C{xml:lang} of its header.
    @ivar peer_text: Where it connected from, for logs.
    @ivar peer_host: The IP address of that.
    """

    log = Logger()
    content_namespace = ns.CLIENT
    a_turn = A_TURN

    def __init__(
        self,
        policy: ClientPolicy,
        jid: JID,
        *,
        authority: str,
        language: str | None,
        ids: dict[str, str],
    ) -> None:
        super().__init__(policy.clock, policy.send_limits)
        self.jid = jid
        self.authority = authority
        self.language = language
        self.ids = ids
        self.presence: Stanza | None = None
        self.priority = 0
        self.directed: set[str] = set()
        self.wire: Wire | None = None
        self.peer_text = self.peer_host = ""
        self.requests = Requests(policy.clock, self.send, own=policy.domain, most=10)
        self._policy = policy
        self._full = own = jid.full()
        self._reason = "lost"
        forwarder = Forwarder(
            policy.router,
            self,
            own,
            owns=lambda sender: sender == own,
            general=self._route,
            most=A_TURN,
            looked_into=frozenset({b"presence"}),
            language=language,
        )
        # not a method that calls it: that would be a call for each read
        self.slices_received = forwarder.forward  # type: ignore[method-assign]

    def begin(self, wire: Wire, answer: Stanza) -> None:
        """
        Use a wire from now on, and announce the session.

        @param answer: The answer that tells the client that the resource is bound.
        """
        policy = self._policy
        self.wire = wire
        self.peer_text, self.peer_host = wire.peer_text, wire.peer_host
        wire.take_over(self, self)
        wire.set_deadline(None)
        wire.on_trusted()  # not before: an account has few resources, but may log in often
        wire.splice(limits.CLIENT, READ_BYTES)
        self.send(answer)
        self._keepalive = Keepalive(
            policy.clock,
            wire,
            ping=self._ping,
            interval=policy.settings.ping_interval,
            timeout=policy.settings.ping_timeout,
            dead=self._silent,
        )
        self._keepalive.start()
        policy.service.began(self)

    # from the wire

    def stanza_received(self, stanza: Stanza) -> None:
        """Route a stanza that was read into a tree."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self._reason = "error"
            if self.wire is not None:
                self.wire.peer_failed(stanza.element)
            return
        if self.language is not None:
            stanza.in_language(self.language)
        self._route(stanza)

    def peer_closed(self) -> None:
        """The client closed its stream."""
        self._reason = "closed"

    def stream_broken(self, error: StreamError) -> None:
        """The client's XML is bad."""
        self.fail(error)

    def overflowed(self) -> None:
        """The client reads too slowly."""
        self._reason = "error"

    def stream_closing(self) -> None:
        """Nothing can be delivered any more: end the session."""
        policy = self._policy
        run_all(
            self.log,
            self.peer_text,
            self.leave,
            self._keepalive.stop,
            self.requests.lost,
            partial(policy.router.forget, self),
            partial(policy.service.ended, self, self._reason),
        )

    def stream_lost(self, reason: Failure) -> None:
        """The wire is gone: drop the references between the parts of the session."""
        self.wire = None
        del self._keepalive, self.slices_received

    def error_header(self) -> dict[str, str | None]:
        """See L{StreamHandler.error_header}."""
        return clientheader.unasked(self._policy.domain)

    # ends

    def _close(self, reason: str, error: StreamError) -> None:
        self._reason = reason
        if self.wire is not None:
            self.wire.close(error)

    def fail(self, error: StreamError) -> None:
        """End it with an error that the client caused, and log it."""
        self._policy.note_end(self.log, self._full, error, self.peer_text, self.ids)
        self._close("error", error)

    def replace(self) -> None:
        """The same resource was bound by a newer session (RFC 6120 7.7.2.2)."""
        text = "this resource was bound by another connection"
        self._close("replaced", StreamError("conflict", text=text))

    def end(self) -> None:
        """An administrator ends it."""
        text = "ended by an administrator"
        self._close("closed", StreamError("policy-violation", text=text))

    def shut_down(self) -> None:
        """The server stops."""
        self._close("shutdown", StreamError("system-shutdown"))

    # stanzas, RFC 6120 8

    def _route(self, stanza: Stanza) -> None:
        if not stanza.is_stanza:
            self.fail(StreamError("unsupported-stanza-type"))
            return
        if stanza.sender is not None and not self._is_self(stanza.sender):
            self.fail(StreamError("invalid-from"))
            return
        policy = self._policy
        stanza.stamp(self._full)
        if stanza.flaw is not None:
            policy.router.bounce(stanza, "bad-request", text=stanza.flaw)
        elif stanza.is_answer and (stanza.to is None or policy.is_ours(stanza.to)):
            self.requests.take(stanza)  # no to, as many have it, is the server (RFC 6120 10.3)
        elif stanza.name == "presence":
            policy.service.presence(self, stanza)
        else:
            if stanza.name == "message" and stanza.to is None:
                stanza.address(self.jid.userhost())  # RFC 6120 10.3.1
            policy.router.route(stanza, self)

    def _is_self(self, sender: str) -> bool:
        try:
            claimed = parse_jid(sender)
        except MalformedJID:
            return False
        return claimed.full() in (self._full, self.jid.userhost())

    def _ping(self) -> Deferred[Stanza]:
        ping = request("get", self._policy.domain, self._full, ping_payload())
        return self.requests.ask(ping, self._policy.settings.ping_timeout)

    def _silent(self) -> None:
        self.fail(StreamError("connection-timeout", text="no answer to a ping"))
        if self.wire is not None:
            self.wire.abort()
