"""
A client's session: what the router, presence and the Callbridge know of a bound resource.

It begins when its negotiation has bound the resource (RFC 6120 7).  It takes over the wire,
and ends once, with a reason.  Stanzas that wait for it belong to the session
(L{cms.xmlstream.flow.Party}) and not to the wire, which may be lost and replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.protocols.jabber.jid import JID

from cms.process.cleanup import run_all
from cms.process.logs import Logger
from cms.xmlstream import limits, ns
from cms.xmlstream import managementelements as elements
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.management import AcknowledgedTooManyError, Ledger
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.requests import Requests
from cms.xmlstream.stanza import Slice, Stanza
from cms.xmlstream.wire import StreamHandler, Wire
from cms.xmpp import clientheader, csi
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.csi import PatientParty
from cms.xmpp.endings import error_of
from cms.xmpp.forward import A_TURN, Forwarder
from cms.xmpp.sessions import ADMINISTRATOR, REPLACED

_LOOKED_INTO = frozenset({b"presence"})
_COPIED = _LOOKED_INTO | {b"message"}  # while another session wants copies (XEP-0280)
_ALL = _COPIED | {b"iq"}  # while the user has blocked anybody (XEP-0191)
READ_BYTES = 32_768  # at once: a client is one of many, and its stanzas may cost work


class ClientSession(PatientParty, StreamHandler):
    """
    One bound resource; a L{Session<cms.xmpp.sessions.Session>} of this server's.

    @ivar wire: What it speaks over; C{None} when that is gone.
    @ivar language: The C{xml:lang} of its header.
    @ivar is_guest: Anybody can be that: see L{ConnectionLimiter
        <cms.protection.connections.ConnectionLimiter>}.
    @ivar peer_text: Where it connected from, for logs.
    @ivar peer_host: The IP address of that.
    """

    log = Logger()
    content_namespace = ns.CLIENT
    a_turn = A_TURN
    is_copied = False
    node, since = "", 0.0  # of this node
    _is_guarded = False  # its user has blocked somebody

    def __init__(
        self,
        policy: ClientPolicy,
        jid: JID,
        *,
        authority: str,
        language: str | None,
        ids: dict[str, str],
        is_guest: bool = False,
    ) -> None:
        super().__init__(policy.clock, policy.send_limits)
        self.jid = jid
        self.authority = authority
        self.is_guest = is_guest
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
        self._heard = 0  # bytes, when it began to be slow
        self._previd: str | None = None  # for its resumption, if it can be resumed
        self._forwarder = Forwarder(
            policy.router,
            self,
            own,
            owns=lambda sender: sender == own,
            general=self._route,
            most=A_TURN,
            looked_into=_LOOKED_INTO,
            language=language,
        )
        # not a method that calls it: that would be a call for each read
        self.slices_received = self._forwarder.forward  # type: ignore[method-assign]

    def begin(self, wire: Wire, answer: Stanza | None) -> None:
        """
        Use a wire from now on, and announce the session.

        @param answer: The answer that tells the client that the resource is bound, if it
            was not told otherwise.
        """
        self._go_on(wire)
        if answer is not None:
            self.send(answer)
        self._policy.service.began(self)

    def begin_among_others(self, wire: Wire, answer: Callable[[], Stanza | None]) -> None:
        """
        The same in a cluster: the client is told when the other nodes know of the session, so
        that whom it writes to can answer.  What it has sent without waiting comes after that.

        @param answer: Makes the answer, or gives it.
        """
        self._go_on(wire)
        self.pause()  # what is for it goes behind that
        wire.stand_still()
        known = self._policy.service.began(self)

        def tell(_: object) -> None:
            if not (self.is_open and self.wire is wire):
                return
            bound = answer()
            if bound is not None:
                self.send(bound)
            self.resume()
            wire.go_on()

        if known is not None:
            known.addCallback(tell)

    def _go_on(self, wire: Wire) -> None:
        policy = self._policy
        self.wire = wire
        self._heard = wire.bytes_received
        self.peer_text, self.peer_host = wire.peer_text, wire.peer_host
        self._keepalive = Keepalive(
            policy.clock,
            wire,
            ping=wire.ping or self._ping,
            interval=policy.settings.ping_interval,
            timeout=policy.settings.ping_timeout,
            dead=self._silent,
        )
        wire.take_over(self, self)
        wire.set_deadline(None)
        # Not before: an account has few resources, but may log in often.
        if not wire.on_trusted(guest=self.is_guest):
            policy.clock.callLater(0, self._give_place, wire)
        wire.splice(limits.CLIENT, READ_BYTES)
        self._keepalive.start()

    def _give_place(self, wire: Wire) -> None:
        """There are too many guests."""
        if self.wire is wire:
            self.fail(StreamError("resource-constraint", text="there are too many guests"))

    def _pause(self, since: float) -> None:
        if not self._paused and self.wire is not None:
            self._heard = self.wire.bytes_received
        super()._pause(since)

    # from the wire

    def stanza_received(self, stanza: Stanza) -> None:
        """Route a stanza that was read into a tree."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self._reason = "error"
            if self.wire is not None:
                self.wire.peer_failed(stanza.element)
            return
        if stanza.uri == ns.MANAGEMENT:
            self._manage(stanza)
            return
        if stanza.uri == csi.NS:
            self.indicate(stanza.name == "inactive")
            return
        if self.language is not None:
            stanza.in_language(self.language)
        if self.ledger is not None:
            self.ledger.count_handled(1)  # even if it ends the session
        self._route(stanza)

    def peer_closed(self) -> None:
        """The client closed its stream."""
        self._reason = "closed"

    def stream_broken(self, error: StreamError) -> None:
        """The client's XML is bad."""
        self.fail(error)

    def overflowed(self) -> None:
        """
        The client reads too slowly, or never acknowledges.

        One that says nothing either may have lost its network: then its session waits for it.
        """
        wire = self.wire
        if self.ledger is None or (wire is not None and wire.bytes_received != self._heard):
            self._reason = "error"

    def unexpected(self, problem: Exception) -> None:
        """A fault of ours ends it: a client that resumed would send the same again."""
        self._reason = "error"

    def stream_closing(self) -> None:
        """Nothing leaves over this wire any more: the session ends, or waits for another."""
        self._keepalive.stop()
        if self._previd is not None and self._reason == "lost":
            self._go_away()
        else:
            self._end()

    def _end(self) -> None:
        policy = self._policy
        parts: list[Callable[[], object]] = [
            self.leave,
            self.requests.lost,
            partial(policy.router.forget, self),
            partial(policy.service.ended, self, self._reason),
        ]
        if self._previd is not None:
            parts.append(partial(policy.resumptions.forget, self))
        if self.is_slow or self.ledger is not None:
            parts.append(partial(policy.undelivered.add, self.take_stanzas()))
        run_all(self.log, self.peer_text, *parts)
        if self.wire is None:
            self._part()

    def stream_lost(self, reason: Failure) -> None:
        """The wire is gone."""
        self.wire = None
        if not self.is_open:
            self._part()

    def _part(self) -> None:
        """What held the parts of the session together goes."""
        if hasattr(self, "_keepalive"):  # not of one that has never had a connection here
            del self._keepalive
        del self._forwarder, self.slices_received
        self.forget_held()

    def error_header(self) -> dict[str, str | None]:
        """See L{StreamHandler.error_header}."""
        return clientheader.unasked(self._policy.domain)

    # ends

    def _close(self, reason: str, error: StreamError) -> None:
        self._reason = reason
        if self.is_away:  # perhaps its old wire is not gone yet
            self._end()
        elif self.wire is not None:
            self.wire.close(error)

    def fail(self, error: StreamError) -> None:
        """End it with an error that the client caused, and log it."""
        self._policy.note_end(self.log, self._full, error, self.peer_text, self.ids)
        self._close("error", error)

    def replace(self) -> None:
        """The same resource was bound by a newer session (RFC 6120 7.7.2.2)."""
        self.end(REPLACED)

    def end(self, why: str = ADMINISTRATOR) -> None:
        """See L{Session<cms.xmpp.sessions.Session>}."""
        self._close("administrator" if why == ADMINISTRATOR else why, error_of(why))

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
        elif self._is_guarded and not policy.router.may_send(stanza, self):
            return
        elif stanza.name == "presence":
            policy.service.presence(self, stanza)
        else:
            if stanza.name == "message" and stanza.to is None:
                stanza.address(self.jid.userhost())  # RFC 6120 10.3.1
            if self.is_copied and stanza.name == "message":
                policy.router.copy_sent(stanza, self)
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
        if self._previd is None:
            self.fail(StreamError("connection-timeout", text="no answer to a ping"))
        if self.wire is not None:
            self.wire.abort()

    # carbons, XEP-0280

    def set_copied(self, copied: bool) -> None:
        """See L{Session<cms.xmpp.sessions.Session>}."""
        self.is_copied = copied
        self._look()
        self._policy.router.forget(self)

    def set_guarded(self, guarded: bool) -> None:
        """See L{Session<cms.xmpp.sessions.Session>}."""
        self._is_guarded = guarded
        self._look()

    def _look(self) -> None:
        copied = _COPIED if self.is_copied else _LOOKED_INTO
        self._forwarder.looked_into = _ALL if self._is_guarded else copied

    # stream management, XEP-0198

    def _manage(self, stanza: Stanza) -> None:
        element = stanza.element
        if element.name == "enable":
            self.write(self.manage(resumable=elements.wants_resumption(element)))
        elif element.name == "r":
            self.asked()
        elif element.name == "a":
            try:
                self.acknowledges(elements.counter(element))
            except ValueError:
                self.write(elements.failed("bad-request"))
        else:
            self.write(elements.failed("unexpected-request"))

    def manage(self, *, resumable: bool) -> bytes:
        """
        Count, and keep what is sent until it is acknowledged, from now on.

        @param resumable: Whether the client wants to be able to resume it.
        @return: The answer to the client.
        """
        if self.ledger is not None:
            return elements.failed("unexpected-request")
        resumptions = self._policy.resumptions
        if resumable and resumptions.seconds:
            self._previd = resumptions.issue(self)
        self._count(Ledger())
        return elements.enabled(self._previd, resumptions.seconds)

    def _count(self, ledger: Ledger) -> None:
        self.ledger, forwarder, resumptions = ledger, self._forwarder, self._policy.resumptions

        def count(slices: list[Slice]) -> list[Slice]:
            left = forwarder.forward_counted(slices, ledger)
            if self._previd is not None and not self.is_open:  # it ended amid these
                resumptions.remember(self, self._previd)
            return left

        self.slices_received = count  # type: ignore[method-assign]

    def asked(self) -> None:
        """The client asks how many of its stanzas were handled."""
        ledger = self.ledger
        if ledger is None:
            self.write(elements.failed("unexpected-request"))
        else:
            self.write(elements.acknowledgement(ledger.handled))

    def acknowledges(self, handled: int) -> None:
        """The client says how many of ours it has handled."""
        if self.ledger is None:
            self.write(elements.failed("unexpected-request"))
            return
        try:
            self.acknowledged(self.ledger, handled)
        except AcknowledgedTooManyError as error:
            self.fail(elements.too_many(error))

    def may_keep(self, size: int) -> bool:
        """See L{Party}."""
        return self._policy.resumptions.has_room(self, size)

    def keeps(self, size: int) -> None:
        """See L{Party}."""
        self._policy.resumptions.keeps(self, size)

    def _go_away(self) -> None:
        """The connection is gone: wait for another."""
        policy = self._policy
        self.detach()
        policy.resumptions.leaves(self)
        policy.service.left(self)
        self.log.info(
            "{jid} lost its connection from {peer}: it is kept for {seconds:.0f} s",
            jid=self._full,
            peer=self.peer_text,
            seconds=policy.resumptions.seconds,
            **self.ids,
        )

    def return_over(self, wire: Wire, answer: bytes) -> None:
        """
        Go on over another wire, which has logged in as this account again.

        What the client has handled meanwhile was acknowledged before.

        @param answer: Tells the client that this session goes on.
        """
        old, ledger = self.wire, self.ledger
        assert ledger is not None  # noqa: S101 - it has an id
        away = self.away_seconds
        if old is not None:
            self._keepalive.stop()
            self.detach()
            old.dismiss(StreamError("conflict", text="resumed by another connection"))
        self.indicate(inactive=False)  # which is not resumed (XEP-0352 6)
        again = ledger.unacknowledged
        with wire.out.together():  # xmpp.js 0.14 fails at a second piece
            wire.write(answer)
            for stanza in ledger.waiting():
                wire.write(stanza)
            self._go_on(wire)
            if ledger.unacknowledged:
                self.ask()
        self._policy.resumptions.returns(self)
        self._policy.service.resumed(self, away, again)

    def expire(self) -> None:
        """Nobody came back."""
        self._end()

    # another node, docs/design/cluster.md

    @property
    def previd(self) -> str | None:
        """The id by which it can be resumed, if it can."""
        return self._previd

    def hand_over(self) -> Callable[[], object]:
        """
        It goes on at another node.  Nobody is told: who knew it finds it there.

        @return: Ends the connection, so that its client looks for it.
        """
        policy, wire = self._policy, self.wire
        self.indicate(inactive=False)  # which is not resumed
        if wire is not None and self.carrier is not None:
            self._keepalive.stop()
            self.detach()
            wire.dismiss(None)
        self.leave()
        self.requests.lost()
        policy.router.forget(self)
        policy.resumptions.move(self)
        self.wire = None
        self._part()
        return (lambda: None) if wire is None else wire.abort

    def adopt(self, previd: str, ledger: Ledger, peer: str) -> None:
        """
        Go on in place of another node's session, without a connection at first.

        @param peer: Where its client was connected from.
        """
        policy = self._policy
        self._previd, self.peer_host, self.peer_text = previd, peer, peer
        self._count(ledger)
        self.is_open = True
        self.detach()
        policy.resumptions.enter(previd, self)
        policy.resumptions.leaves(self)
