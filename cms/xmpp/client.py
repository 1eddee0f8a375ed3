"""
Steps 1 and 12 on the XMPP server: one client's stream (RFC 6120 4 to 7).

    greeting -> offering TLS -> securing -> greeting (secure) -> waiting
        -> choosing -> authenticating (refused: choosing)
        -> greeting (logged in) -> binding -> bound

C{waiting} lasts until there is a Callbridge, C{authenticating} as long as a
L{SaslExchange}; every state can go to closed.  The table at the end of this module is
the machine; what each transition does is a method of L{ClientStream}.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Protocol

from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError, StreamError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from cms import faults
from cms.fast.machines import Machine, release
from cms.linkprotocol import login as lp
from cms.process.cleanup import finish
from cms.process.logs import login_id
from cms.process.proxyheader import begins_header
from cms.trust.connection import connection_of, explain_handshake, only_looked, tls_exporter
from cms.trust.server import ServerTrust
from cms.xmlstream import limits, ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.replies import error_reply, ping_payload, request
from cms.xmlstream.requests import Requests
from cms.xmlstream.serialize import escape_text, quote_attribute
from cms.xmlstream.stanza import Slice, Stanza
from cms.xmlstream.stream import XMLStream, new_stream_id
from cms.xmlstream.toldfault import ToldFault, as_condition
from cms.xmlstream.wrongpeer import peer_without_tls, peer_without_xmpp
from cms.xmpp import features, sasl
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.forward import A_TURN, Forwarder
from cms.xmpp.loginrelay import Refusal
from cms.xmpp.saslexchange import SaslExchange, await_callbridge, note_refusal

HANDSHAKE = 20.0  # seconds from the connection to the end of the TLS handshake
READ_BYTES = 32_768  # at once: a client is one of many, and what it sends may ask for work
MOST_TRIES = 5  # log-ins on one stream, RFC 6120 6.4.5
# What a stream's xml:lang may be; RFC 5646 4.4.1 has the length that is enough.
_LANGUAGE = re.compile(r"(?=.{1,35}$)[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")


class _Inputs(Protocol):
    """What can happen to a client's stream before it is bound."""

    def header(self, start: StreamStart) -> None:
        """The client opened a stream whose header is good."""

    def stanza(self, stanza: Stanza) -> None:
        """The client sent an element."""

    def starting_tls(self) -> None:
        """The client asked for TLS."""

    def secured(self) -> None:
        """The TLS handshake is complete."""

    def offered(self) -> None:
        """There is a Callbridge, and the client knows its mechanisms."""

    def began(self) -> None:
        """The client began to log in."""

    def refused(self) -> None:
        """The log-in failed; the client may try again."""

    def logged_in(self) -> None:
        """The Callbridge said yes."""

    def bind(self) -> None:
        """A resource is bound."""

    def ended(self) -> None:
        """The stream is closed, by either side."""


class ClientStream(XMLStream):
    """
    A client's stream; once bound, its session.

    @ivar account: The bare address, once logged in.
    @ivar jid: The full address, once bound.
    @ivar direct: TLS from the first byte (XEP-0368) in place of STARTTLS.
    @ivar tls: C{None} on a plain listener, where a proxy has seen to TLS.
    """

    content_namespace = ns.CLIENT
    a_turn = A_TURN
    jid: JID

    def __init__(
        self,
        policy: ClientPolicy,
        tls: ServerTrust | None,
        *,
        direct: bool = False,
    ) -> None:
        super().__init__(policy.clock)
        self.policy = policy
        self.tls = tls
        self.direct = direct
        self.account: JID | None = None
        self.presence: Stanza | None = None
        self.priority = 0
        self.directed: set[str] = set()
        self.authority = ""
        self.requests = Requests(policy.clock, self.send, own=policy.domain, most=10)
        self._exchange: SaslExchange | None = None
        self._waiting: Deferred[None] | None = None
        self._login_exchange = self._connection_id = ""
        self._mechanism = ""
        self._tries = 0
        self._bound = False
        self._end_reason = "lost"
        self._language: str | None = None
        self.channel_binding: tuple[str, bytes] | None = None
        self._securing = direct
        self._machine = _machine(self)
        self._keepalive = Keepalive(
            policy.clock,
            self,
            ping=self._ping,
            interval=policy.ping_interval,
            timeout=policy.ping_timeout,
            dead=self._silent,
        )

    @property
    def ids(self) -> dict[str, str]:
        """What ties its lines in the log together: the connection, and the last log-in."""
        self._connection_id = self._connection_id or os.urandom(6).hex()
        ids = {"connection_id": self._connection_id}
        login = (self._exchange.id if self._exchange is not None else "") or self._login_exchange
        if login:
            ids["login_id"] = login_id(login)
        return ids

    # from XMLStream

    def connectionMade(self) -> None:
        """Wait for the header, or shake hands first."""
        super().connectionMade()
        self._late_at = self.clock.seconds() + self.policy.login_timeout
        self.set_deadline(self.policy.login_timeout if self.tls is None else HANDSHAKE)
        if self.tls is None or self.direct:
            self._machine.starting_tls()
            if self.tls is None:
                self._machine.secured()
            else:
                self._start_tls()

    def secured(self) -> None:
        """The TLS handshake is complete."""
        if self.closing:
            return
        self._securing = False
        self.set_deadline(max(0.0, self._late_at - self.clock.seconds()))
        data = tls_exporter(connection_of(self.transport))
        self.channel_binding = None if data is None else ("tls-exporter", data)
        self._machine.secured()

    def stream_started(self, start: StreamStart) -> None:
        """A header came: judge it, answer it, then offer what comes next."""
        error = self._judge(start)
        if error is not None:
            self.fail(error)
            return
        client = start.get("from")
        language = start.attributes.get((ns.XML, "lang"), "")
        self._language = language if _LANGUAGE.fullmatch(language) else None
        self.send_header(
            {
                "id": new_stream_id(),
                "from": self.policy.domain,
                "to": client,
                "version": "1.0",
                "xml:lang": "en",
            }
        )
        self._machine.header(start)

    def _judge(self, start: StreamStart) -> StreamError | None:
        """RFC 6120 4.7 and 4.8; 4.9.3 has the conditions."""
        if (start.uri, start.name) != (ns.STREAMS, "stream"):
            return StreamError("invalid-namespace")
        if start.default_namespace != ns.CLIENT:
            return StreamError("invalid-namespace")
        to = start.get("to")
        if to is not None and not self._is_ours(to):
            return StreamError("host-unknown")
        version = (start.get("version") or "0.9").partition(".")[0]
        if not version.isdecimal() or int(version[:9]) < 1:
            return StreamError("unsupported-version")
        return None

    def _is_ours(self, to: str) -> bool:
        try:
            return bool(parse_jid(to).full() == self.policy.domain)
        except MalformedJID:
            return False

    def stanza_received(self, stanza: Stanza) -> None:
        """Route what a bound client sends; negotiate with the others."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self.peer_failed(stanza.element)
        elif self._bound:
            if self._language is not None:
                stanza.in_language(self._language)
            self._route(stanza)
        else:
            self._machine.stanza(stanza)

    def error_header(self) -> dict[str, str | None]:
        """Who speaks, in every header (RFC 6120 4.7.1)."""
        return {**super().error_header(), "from": self.policy.domain}

    def stream_broken(self, error: StreamError) -> None:
        """Bad XML, or no XMPP at all."""
        self._judge_beginning()
        stranger = peer_without_xmpp(self.heard, peer=self.peer_text)
        if stranger is not None and self._is_told:
            self.log.info("client: {cause} {cure}", **stranger.fields, **self.ids)
        self.fail(error)

    def peer_closed(self) -> None:
        """The client left properly."""
        self._end_reason = "closed"
        super().peer_closed()

    def peer_failed(self, error: Element) -> None:
        """The client found a fault with us."""
        self._end_reason = "error"
        super().peer_failed(error)
        self._machine.ended()

    def deadline_passed(self) -> None:
        """The client did not log in and bind in time."""
        self.fail(StreamError("connection-timeout"))

    def overflowed(self) -> None:
        """The client reads too slowly."""
        self._end_reason = "error"
        super().overflowed()

    def stream_closing(self) -> None:
        """Nothing can be delivered any more: end the session, forget the exchange."""
        parts: list[Callable[[], object]] = [self._keepalive.stop, self.requests.lost]
        if self._exchange is not None:
            parts.append(self._exchange.leave)
        if self._waiting is not None:
            self.policy.observer.login_ended(self._mechanism, "abandoned")
            parts.append(self._waiting.cancel)
        if self._bound:
            self._bound = False
            del self._forwarder
            parts.append(lambda: self.policy.router.forget(self))
            parts.append(lambda: self.policy.service.ended(self, self._end_reason))
        finish(self.log, self.peer_text, *parts)

    def stream_lost(self, reason: Failure) -> None:
        """Say why, if it never came to a stream."""
        finish(self.log, self.peer_text, lambda: self._tell_end(reason), self._machine.ended)
        release(self._machine)
        del self._keepalive

    def _tell_end(self, reason: Failure) -> None:
        if self._securing and self.tls is not None:
            if self.direct and only_looked(connection_of(self.transport), reason):
                return
            self._judge_beginning()
            stranger = peer_without_tls(self.heard, peer=self.peer_text)
            fault = stranger or explain_handshake(reason, peer=self.peer_text, presented=True)
            if self._is_told:
                self.log.info("client: {cause}", **fault.fields, **self.ids)  # no cures: not ours

    def _judge_beginning(self) -> None:
        if begins_header(self.heard) and self._is_told:
            fault = faults.PROXY_UNEXPECTED.error(peer=self.peer_text)
            self.log.warn("{cause} Cure: {cure}", **fault.fields, **self.ids)

    @property
    def _is_told(self) -> bool:
        """Whether the log has a line about it; of strangers not all."""
        return self.account is not None or self.policy.sparing.allows()

    # ends

    def fail(self, error: StreamError) -> None:
        """End the stream with an error of the client's making, and log it."""
        self._end_reason = "error"
        if self._is_told:
            self.log.info(
                "client {peer}: stream closed with {condition}{text}",
                peer=self.jid.full() if self._bound else self.peer_text,
                condition=error.condition,
                text=f" ({error.text})" if error.text else "",
                address=self.peer_text,
                **self.ids,
            )
        self.policy.observer.stream_refused(error.condition)
        self.close(error)
        self._machine.ended()

    def replace(self) -> None:
        """The same resource was bound by a newer stream (RFC 6120 7.7.2.2)."""
        self._end_reason = "replaced"
        self.close(StreamError("conflict", text="this resource was bound by another connection"))

    def end(self) -> None:
        """An administrator ends the session."""
        self._end_reason = "closed"
        self.close(StreamError("policy-violation", text="ended by an administrator"))
        self._machine.ended()

    def shut_down(self) -> None:
        """The server stops."""
        self._end_reason = "shutdown"
        super().shut_down()

    # STARTTLS, RFC 6120 5

    def offer_tls(self) -> None:
        """Nothing but TLS on a connection in the clear."""
        self.write(features.STARTTLS)

    def answer_in_clear(self, stanza: Stanza) -> None:
        """Only STARTTLS is answered in the clear."""
        if (stanza.uri, stanza.name) == (ns.STARTTLS, "starttls"):
            if not self.at_boundary:
                self.fail(StreamError("policy-violation", text="data after starttls"))
                return
            self.write(f"<proceed xmlns='{ns.STARTTLS}'/>".encode())
            self._machine.starting_tls()
            self.reset(limits.UNAUTHENTICATED)
            self._start_tls()
        elif stanza.uri == ns.SASL and self._tries < MOST_TRIES:
            self._tries += 1
            self.write(sasl.failure("encryption-required"))
        else:
            self.fail(StreamError("policy-violation", text="STARTTLS comes first"))

    def _start_tls(self) -> None:
        self._securing = True
        if self.transport is not None and self.tls is not None:
            self.start_tls(self.tls.for_peer(self.peer_text))

    # SASL, RFC 6120 6

    def greet_login(self) -> None:
        """Step 1: without a Callbridge there is nothing to offer."""
        if self.policy.relay.is_ready:
            self._offer_login()
            return

        def came() -> None:
            self._waiting = None
            self.waits(False)
            self._offer_login()

        def nobody() -> None:
            self._waiting = None
            self.waits(False)
            refusal = self.policy.relay.nobody()
            note_refusal(self.policy, self, "", refusal)
            self.unserved(refusal)

        self.waits(True)
        self._waiting = await_callbridge(self.policy.waiting_room, 0, came, nobody, self.broken)

    def _offer_login(self) -> None:
        """The mechanisms of the Callbridges that are there."""
        can_bind = self.channel_binding is not None
        self._offered = self.policy.relay.mechanisms(channel_binding=can_bind)
        self.write(features.login(self._offered, channel_binding=can_bind))
        self._machine.offered()

    def begin_login(self, stanza: Stanza) -> None:
        """An C{auth} element begins an exchange."""
        if stanza.uri != ns.SASL:
            self.fail(StreamError("not-authorized"))
            return
        is_auth = stanza.name == "auth"
        if is_auth:
            self._mechanism = stanza.element.getAttribute("mechanism") or ""
        self._exchange = SaslExchange(self.policy, self, self._mechanism)
        self._machine.began()
        if not is_auth:
            self._exchange.refuse("malformed-request")
        elif self._mechanism not in self._offered:
            self._exchange.refuse("invalid-mechanism")
        else:
            self._pass_on(stanza, self._exchange.begin, self._exchange.refuse)

    def continue_login(self, stanza: Stanza) -> None:
        """A C{response} continues it; anything else ends it."""
        exchange = self._exchange
        if stanza.uri != ns.SASL or exchange is None:
            self.fail(StreamError("not-authorized"))
        elif stanza.name == "response":
            self._pass_on(
                stanza, lambda payload: exchange.respond(payload or b""), exchange.unreadable
            )
        else:
            exchange.refuse("aborted" if stanza.name == "abort" else "malformed-request")

    def _pass_on(
        self,
        stanza: Stanza,
        then: Callable[[bytes | None], object],
        otherwise: Callable[[str], object],
    ) -> None:
        """What the client sent, or with which condition it cannot be read."""
        try:
            payload = sasl.decode(stanza.element)
        except sasl.Unreadable as problem:
            otherwise(problem.condition)
        else:
            then(payload)

    # what an exchange comes to: Authenticator

    def waits(self, does: bool) -> None:
        """While it waits for a Callbridge it keeps its place."""
        self.on_waiting(does)

    def challenged(self, payload: bytes | None) -> None:
        """The client has to respond."""
        self.write(sasl.step("challenge", payload))

    def succeeded(self, success: lp.Success, callbridge: str) -> None:
        """The client is logged in: a new stream follows."""
        self._forget_exchange()
        self.account = parse_jid(success.jid)
        if self.account.host != self.policy.domain:
            self.fail(StreamError("internal-server-error", text="log-in for another domain"))
            return
        self.policy.observer.login_ended(self._mechanism, "success")
        self.authority = callbridge
        self.write(sasl.step("success", success.payload))
        self.reset(limits.CLIENT)
        self._machine.logged_in()

    def _forget_exchange(self) -> None:
        if self._exchange is not None:
            self._login_exchange = self._exchange.id or self._login_exchange
            self._exchange = None

    def refused(self, refusal: Refusal) -> None:
        """Tell the client that this log-in failed; it may try again, not for ever."""
        self._forget_exchange()
        self._machine.refused()
        self._tries += 1
        self.write(sasl.failure(refusal.condition, refusal.text, wait=refusal.wait))
        if self._tries >= MOST_TRIES:
            self.fail(StreamError("policy-violation", text="too many failed log-ins"))

    def unserved(self, refusal: Refusal) -> None:
        """
        Nobody could decide, which is not the client's doing.  After a SASL failure, be
        it a temporary one, most programs never come back by themselves; all do after
        the end of a stream (docs/design/restarts.md).
        """
        self._forget_exchange()
        fault = refusal.fault
        assert fault is not None  # noqa: S101 - that is what brings it here
        self._end_reason = "error"
        why = as_condition(ToldFault(fault.fault))
        self.close(StreamError("remote-connection-failed", text=refusal.text, appCondition=why))
        self._machine.ended()

    def broken(self, failure: Failure) -> None:
        """Something that nobody thought of."""
        self.log.failure("unexpected error in a log-in from {peer}", failure, peer=self.peer_text)
        self.close(StreamError("internal-server-error"))

    # resource binding, RFC 6120 7

    def offer_binding(self) -> None:
        """After the log-in, a resource must be bound."""
        self.write(features.BINDING)

    def bind_resource(self, stanza: Stanza) -> None:
        """Bind the resource that the client chose, or one of ours."""
        if not (stanza.is_request and stanza.type == "set" and stanza.id) or (
            stanza.payload != (ns.BIND, "bind")
        ):
            self.fail(StreamError("not-authorized", text="a resource must be bound first"))
            return
        full = self._requested_jid(stanza)
        if full is None:
            self._bind_error(stanza, "bad-request", "the resource does not prepare")
            return
        others = self.policy.sessions.of(full.userhost())
        if len(others) >= self.policy.sessions.most_per_user and not self.policy.sessions.find(
            full
        ):
            self._bind_error(stanza, "resource-constraint", "too many resources are bound")
            return
        self.jid = full
        self.set_deadline(None)
        self._bound = True
        self.on_trusted()  # not before: an account has few resources, but any number of log-ins
        own = full.full()
        self._forwarder = Forwarder(
            self.policy.router,
            self,
            own,
            owns=lambda sender: sender == own,
            general=self._route,
            most=A_TURN,
            looked_into=frozenset({b"presence"}),
            language=self._language,
        )
        self.splice(limits.CLIENT, READ_BYTES)
        self._machine.bind()
        identifier = quote_attribute(stanza.id or "")
        bound = f"<bind xmlns='{ns.BIND}'><jid>{escape_text(own)}</jid></bind>"
        self.send(Stanza(None, f"<iq type='result' id={identifier}>{bound}</iq>".encode()))
        self._keepalive.start()
        self.policy.service.began(self)

    def _requested_jid(self, stanza: Stanza) -> JID | None:
        bind = stanza.element.firstChildElement()
        chosen = next((str(e) for e in bind.elements(ns.BIND, "resource")), "")
        assert self.account is not None  # noqa: S101 - the machine binds after the log-in
        try:
            return parse_jid(f"{self.account.userhost()}/{chosen or os.urandom(12).hex()}")
        except MalformedJID:
            return None

    def _bind_error(self, stanza: Stanza, condition: str, text: str) -> None:
        reply = error_reply(stanza, StanzaError(condition, text=text))
        if reply is not None:
            self.send(reply)

    # the session, RFC 6120 8

    def slices_received(self, slices: list[Slice]) -> list[Slice]:
        """See L{XMLStream.slices_received}."""
        return self._forwarder.forward(slices)

    def _route(self, stanza: Stanza) -> None:
        if not stanza.is_stanza:
            self.fail(StreamError("unsupported-stanza-type"))
            return
        if stanza.sender is not None and not self._is_self(stanza.sender):
            self.fail(StreamError("invalid-from"))
            return
        stanza.stamp(self.jid.full())
        if stanza.flaw is not None:
            self.policy.router.bounce(stanza, "bad-request", text=stanza.flaw)
        elif stanza.is_answer and (stanza.to is None or self._is_ours(stanza.to)):
            self.requests.take(stanza)  # no to, as many have it, is the server (RFC 6120 10.3)
        elif stanza.name == "presence":
            self.policy.service.presence(self, stanza)
        else:
            if stanza.name == "message" and stanza.to is None:
                stanza.address(self.jid.userhost())  # RFC 6120 10.3.1
            self.policy.router.route(stanza, self)

    def _is_self(self, sender: str) -> bool:
        try:
            claimed = parse_jid(sender)
        except MalformedJID:
            return False
        return claimed.full() in (self.jid.full(), self.jid.userhost())

    def _ping(self) -> Deferred[Stanza]:
        ping = request("get", self.policy.domain, self.jid.full(), ping_payload())
        return self.requests.ask(ping, self.policy.ping_timeout)

    def _silent(self) -> None:
        self.fail(StreamError("connection-timeout", text="no answer to a ping"))
        self.abort()


def _make_machine() -> Callable[[ClientStream], _Inputs]:
    machine = TypeMachineBuilder(_Inputs, ClientStream)
    greeting = machine.state("greeting")
    offering_tls = machine.state("offering TLS")
    securing = machine.state("securing")
    greeting_secure = machine.state("greeting, secure")
    waiting = machine.state("waiting")
    choosing = machine.state("choosing")
    authenticating = machine.state("authenticating")
    greeting_again = machine.state("greeting, logged in")
    binding = machine.state("binding")
    bound = machine.state("bound")
    closed = machine.state("closed")

    greeting.upon(_Inputs.starting_tls).to(securing).returns(None)
    offering_tls.upon(_Inputs.starting_tls).to(securing).returns(None)
    securing.upon(_Inputs.secured).to(greeting_secure).returns(None)
    waiting.upon(_Inputs.offered).to(choosing).returns(None)
    choosing.upon(_Inputs.began).to(authenticating).returns(None)
    authenticating.upon(_Inputs.refused).to(choosing).returns(None)
    authenticating.upon(_Inputs.logged_in).to(greeting_again).returns(None)
    binding.upon(_Inputs.bind).to(bound).returns(None)
    every = (greeting, offering_tls, securing, greeting_secure, waiting, choosing)
    for state in (*every, authenticating, greeting_again, binding, bound, closed):
        state.upon(_Inputs.ended).to(closed).returns(None)
    closed.upon(_Inputs.stanza).loop().returns(None)

    @greeting.upon(_Inputs.header).to(offering_tls)
    def offer_tls(inputs: _Inputs, stream: ClientStream, start: StreamStart) -> None:
        stream.offer_tls()

    @offering_tls.upon(_Inputs.stanza).loop()
    def in_clear(inputs: _Inputs, stream: ClientStream, stanza: Stanza) -> None:
        stream.answer_in_clear(stanza)

    @greeting_secure.upon(_Inputs.header).to(waiting)
    def greet_login(inputs: _Inputs, stream: ClientStream, start: StreamStart) -> None:
        stream.greet_login()

    @choosing.upon(_Inputs.stanza).loop()
    def begin_login(inputs: _Inputs, stream: ClientStream, stanza: Stanza) -> None:
        stream.begin_login(stanza)

    @authenticating.upon(_Inputs.stanza).loop()
    def continue_login(inputs: _Inputs, stream: ClientStream, stanza: Stanza) -> None:
        stream.continue_login(stanza)

    @waiting.upon(_Inputs.stanza).loop()
    def hasty(inputs: _Inputs, stream: ClientStream, stanza: Stanza) -> None:
        stream.fail(StreamError("policy-violation", text="the features were not awaited"))

    @greeting_again.upon(_Inputs.header).to(binding)
    def offer_binding(inputs: _Inputs, stream: ClientStream, start: StreamStart) -> None:
        stream.offer_binding()

    @binding.upon(_Inputs.stanza).loop()
    def bind_resource(inputs: _Inputs, stream: ClientStream, stanza: Stanza) -> None:
        stream.bind_resource(stanza)

    return Machine(machine)


_machine = _make_machine()
