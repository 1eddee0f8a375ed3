"""
Steps 1 and 12 on the XMPP server: how a connection becomes a client's session (RFC 6120 4 to 7).

    greeting -> offering TLS -> securing -> greeting (secure) -> waiting
        -> choosing -> authenticating (refused: choosing)
        -> greeting (logged in) -> binding -> bound
    choosing -> authenticating (SASL2) -> bound, or binding

C{waiting} lasts until there is a Callbridge, C{authenticating} as long as a
L{SaslExchange}; every state can go to closed.  L{cms.xmpp.clientstates} has the machine;
what each transition does is a method of L{ClientNegotiation}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError, StreamError
from twisted.words.protocols.jabber.jid import JID

from cms import faults
from cms.fast.machines import release
from cms.linkprotocol import login as lp
from cms.process.logs import Logger, login_id
from cms.process.proxyheader import begins_header
from cms.trust.connection import connection_of, explain_handshake, only_looked, tls_exporter
from cms.trust.server import ServerTrust
from cms.xmlstream import limits, ns
from cms.xmlstream.jid import parse_jid
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.replies import error_reply
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.toldfault import told
from cms.xmlstream.wire import StreamHandler, Wire
from cms.xmlstream.wrongpeer import peer_without_tls, peer_without_xmpp
from cms.xmpp import binding, clientheader, features, sasl, sasl2
from cms.xmpp.claiming import Claiming
from cms.xmpp.clientinputs import Inputs
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.forward import A_TURN
from cms.xmpp.inlinelogin import InlineLogin
from cms.xmpp.loginrelay import Refusal
from cms.xmpp.resumption import Resumable
from cms.xmpp.saslexchange import SaslExchange, await_callbridge, note_refusal

_FAILURES: dict[str | None, Callable[..., bytes]] = {ns.SASL: sasl.failure, ns.SASL2: sasl2.failure}


class ClientNegotiation(StreamHandler):
    """
    A client's stream until it is bound; L{cms.xmpp.clientstates.begin} makes one.

    @ivar inputs: Its machine.
    @param tls: C{None} on a plain listener, where a proxy has seen to TLS.
    @param direct: TLS from the first byte (XEP-0368) in place of STARTTLS.
    @ivar account: The bare address, once logged in.
    @ivar claimed: C{from} of its header.
    """

    log = Logger()
    content_namespace = ns.CLIENT
    a_turn = A_TURN
    inputs: Inputs
    wire: Wire

    def __init__(
        self, policy: ClientPolicy, tls: ServerTrust | None, *, direct: bool = False
    ) -> None:
        self.policy = policy
        self.tls = tls
        self.direct = direct
        self.account: JID | None = None
        self.claimed: str | None = None
        self.channel_binding: tuple[str, bytes] | None = None
        self._authority = ""
        self._is_guest = False
        self._connection_id = self._login_exchange = ""
        self._mechanism = ""
        self._tries = self._endings = 0
        self._language: str | None = None
        self.claiming = Claiming(self)

    @property
    def ids(self) -> dict[str, str]:
        """The IDs for its log lines: of the connection, and of the last log-in."""
        self._connection_id = self._connection_id or os.urandom(6).hex()
        ids = {"connection_id": self._connection_id}
        if self._login_exchange:
            ids["login_id"] = login_id(self._login_exchange)
        return ids

    @property
    def peer_text(self) -> str:
        """See L{Wire}."""
        return self.wire.peer_text

    @property
    def is_logging_in(self) -> bool:
        """Whether a log-in is under way, or has succeeded."""
        return self.account is not None or hasattr(self, "_exchange")

    # from the wire

    def opened(self, wire: Wire) -> None:
        """Wait for the header, or for the TLS handshake first."""
        self.wire = wire
        self.peer_host = wire.peer_host
        settings = self.policy.settings
        self._late_at = wire.clock.seconds() + settings.login_timeout
        if self.tls is None:
            wire.set_deadline(settings.login_timeout)
            self.inputs.shielded()
            return
        wire.set_deadline(min(settings.handshake_timeout, settings.login_timeout))
        if self.direct:
            self.inputs.begin_tls()

    def secured(self) -> None:
        """The TLS handshake is complete."""
        self.inputs.secured()

    def stream_started(self, start: StreamStart) -> None:
        """A header came: check it, answer it, then send the features."""
        error = clientheader.judge(start, self.policy.is_ours)
        if error is not None:
            self.fail(error)
            return
        self.claimed = start.attributes.get("from")
        language = start.attributes.get(clientheader.LANGUAGE)
        self._language = None if language is None else clientheader.usable(language)
        self.wire.send_header(clientheader.answer(start, self.policy.domain))
        self.inputs.header()

    def stanza_received(self, stanza: Stanza) -> None:
        """Negotiate."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self.wire.peer_failed(stanza.element)
        else:
            self.inputs.stanza(stanza)

    def error_header(self) -> dict[str, str | None]:
        """Our attributes, which every header has (RFC 6120 4.7.1)."""
        return clientheader.unasked(self.policy.domain)

    def stream_broken(self, error: StreamError) -> None:
        """Bad XML, or no XMPP at all."""
        self._judge_beginning()
        stranger = peer_without_xmpp(self.wire.heard, peer=self.peer_text)
        if stranger is not None and self._is_told:
            self.log.info("client: {cause} {cure}", **stranger.fields, **self.ids)
        self.fail(error)

    def deadline_passed(self) -> None:
        """The client did not log in and bind in time."""
        self.fail(StreamError("connection-timeout"))

    def shut_down(self) -> None:
        """The server stops."""
        self.wire.close(StreamError("system-shutdown"))

    def stream_closing(self) -> None:
        """End the machine and its waits."""
        self.inputs.ended()

    def stream_lost(self, reason: Failure) -> None:
        """Log why, if there never was a stream."""
        self.inputs.ended()  # in case an error of ours has prevented it before
        self.inputs.lost(reason)

    def done(self) -> None:
        """Nothing follows."""
        release(self.inputs)

    # ends

    def fail(self, error: StreamError) -> None:
        """End the stream with an error that the client caused, and log it."""
        log = self.log if self._is_told else None
        self.policy.note_end(log, self.peer_text, error, self.peer_text, self.ids)
        self.wire.close(error)

    def tell_handshake(self, reason: Failure) -> None:
        """The connection was lost before TLS was up."""
        wire = self.wire
        if self.direct and only_looked(connection_of(wire.transport), reason):
            return
        self._judge_beginning()
        stranger = peer_without_tls(wire.heard, peer=self.peer_text)
        fault = stranger or explain_handshake(reason, peer=self.peer_text, presented=True)
        if self._is_told:
            self.log.info("client: {cause}", **fault.fields, **self.ids)  # no cures: not ours

    def _judge_beginning(self) -> None:
        if begins_header(self.wire.heard) and self._is_told:
            fault = faults.PROXY_UNEXPECTED.error(peer=self.peer_text)
            self.log.warn("{cause} Cure: {cure}", **fault.fields, **self.ids)

    @property
    def _is_told(self) -> bool:
        """Whether to log a line about it; lines about unauthenticated peers are limited."""
        return self.account is not None or self.policy.line_limiter.allows()

    # STARTTLS, RFC 6120 5

    def offer_tls(self) -> None:
        """Offer only TLS on a connection without TLS."""
        self.wire.write(features.STARTTLS)

    def answer_in_clear(self, stanza: Stanza) -> None:
        """Accept only STARTTLS on a connection without TLS."""
        if (stanza.uri, stanza.name) == (ns.STARTTLS, "starttls"):
            if not self.wire.at_boundary:
                self.fail(StreamError("policy-violation", text="data after starttls"))
                return
            self.wire.write(f"<proceed xmlns='{ns.STARTTLS}'/>".encode())
            self.wire.reset(limits.UNAUTHENTICATED)
            self.inputs.begin_tls()
        elif stanza.uri in _FAILURES and self._tries < self.policy.settings.most_login_tries:
            self._tries += 1
            self.wire.write(_FAILURES[stanza.uri]("encryption-required"))
        else:
            self.fail(StreamError("policy-violation", text="STARTTLS comes first"))

    def start_tls(self) -> None:
        """Shake hands."""
        if self.tls is not None:
            self.wire.start_tls(self.tls.for_peer(self.peer_text))

    def note_tls(self) -> None:
        """Set the deadline of the log-in, and note the channel binding."""
        self.wire.set_deadline(max(0.0, self._late_at - self.wire.clock.seconds()))
        data = tls_exporter(connection_of(self.wire.transport))
        self.channel_binding = None if data is None else ("tls-exporter", data)

    # SASL, RFC 6120 6

    def greet_login(self) -> None:
        """Step 1: offer the log-in, or wait for a Callbridge."""
        if self.policy.waiting_room.is_open:
            self.inputs.came()
            return

        def came() -> None:
            self.waits(False)
            self.inputs.came()

        def nobody() -> None:
            self.waits(False)
            self.inputs.nobody()

        self.waits(True)
        self._waiting = await_callbridge(self.policy.waiting_room, 0, came, nobody, self.broken)

    def wait_no_more(self) -> None:
        """The client leaves while it waits."""
        self._waiting.cancel()
        self.waits(False)
        self.policy.observer.login_ended("", "abandoned")

    def tell_nobody(self) -> None:
        """No Callbridge came."""
        refusal = self.policy.relay.nobody()
        note_refusal(self.policy, self, "", refusal)
        self.unserved(refusal)

    def offer_login(self) -> None:
        """Offer the mechanisms of the connected Callbridges."""
        can_bind = self.channel_binding is not None
        self._offered = self.policy.relay.mechanisms(channel_binding=can_bind)
        resumption = self.policy.resumptions.seconds > 0
        login = features.login(self._offered, channel_binding=can_bind, resumption=resumption)
        self.wire.write(login)

    def refuse_early(self) -> None:
        """Refuse stanzas that come before the features."""
        self.fail(StreamError("policy-violation", text="the features were not awaited"))

    def begin_login(self, stanza: Stanza) -> None:
        """An C{auth} element begins an exchange, and so does an C{authenticate}."""
        if stanza.uri != ns.SASL:
            self._begin_inline(stanza)
            return
        is_auth = stanza.name == "auth"
        if is_auth:
            self._mechanism = stanza.element.getAttribute("mechanism") or ""
        self._exchange = SaslExchange(self.policy, self, self._mechanism)
        self.inputs.began()
        if not is_auth:
            self._exchange.refuse("malformed-request")
        elif self._mechanism not in self._offered:
            self._exchange.refuse("invalid-mechanism")
        else:
            self._pass_on(stanza, self._exchange.begin, self._exchange.refuse)

    def _begin_inline(self, stanza: Stanza) -> None:
        if (stanza.uri, stanza.name) != (ns.SASL2, "authenticate"):
            self.fail(StreamError("not-authorized"))
            return
        element = stanza.element
        self._mechanism = mechanism = element.getAttribute("mechanism") or ""
        payload, request, problem = None, sasl2.Request(), "invalid-mechanism"
        if mechanism in self._offered:
            try:
                payload, request = sasl2.read(element)
                problem = ""
            except sasl.Unreadable as unreadable:
                problem = unreadable.condition
        login = InlineLogin(self, mechanism, request)
        self._exchange = SaslExchange(self.policy, login, mechanism)
        self.inputs.began_inline()
        if problem:
            self._exchange.refuse(problem)
        else:
            self._exchange.begin(payload)

    def continue_login(self, stanza: Stanza) -> None:
        """A C{response} continues it; anything else ends it."""
        exchange = self._exchange
        if stanza.uri != ns.SASL:
            self.fail(StreamError("not-authorized"))
        elif stanza.name == "response":
            self._pass_on(stanza, exchange.respond, exchange.unreadable)
        else:
            exchange.refuse("aborted" if stanza.name == "abort" else "malformed-request")

    def continue_inline(self, stanza: Stanza) -> None:
        """A C{response} continues it, an C{abort} ends it, and nothing else may come."""
        exchange = self._exchange
        if self.claiming.refuses():
            return
        if (stanza.uri, stanza.name) == (ns.SASL2, "response"):
            self._pass_on(stanza, exchange.respond, exchange.unreadable)
        elif (stanza.uri, stanza.name) == (ns.SASL2, "abort"):
            exchange.refuse("aborted")
        else:
            self.fail(StreamError("not-authorized"))

    def leave_exchange(self) -> None:
        """The client is gone, or sent away, while its exchange goes on."""
        self._exchange.leave()
        self.forget_exchange()

    def forget_exchange(self) -> None:
        """It is over."""
        del self._exchange

    def _pass_on(
        self,
        stanza: Stanza,
        then: Callable[[bytes | None], object],
        otherwise: Callable[[str], object],
    ) -> None:
        """The data that the client sent; or the condition if it cannot be decoded."""
        try:
            payload = sasl.decode(stanza.element)
        except sasl.Unreadable as problem:
            otherwise(problem.condition)
        else:
            then(payload)

    # what an exchange comes to: Authenticator

    def waits(self, does: bool) -> None:
        """While the client waits for a Callbridge, its connection is not replaced."""
        self.wire.on_waiting(does)

    def relayed(self, exchange_id: str) -> None:
        """A Callbridge is asked."""
        self._login_exchange = exchange_id

    def challenged(self, payload: bytes | None) -> None:
        """The client has to respond."""
        self.wire.write(sasl.step("challenge", payload))

    def succeeded(
        self,
        success: lp.Success,
        callbridge: str,
        then: Callable[[JID, bytes | None], object] | None = None,
    ) -> None:
        """
        The client is logged in: a new stream follows.

        @param then: Follows in place of that.
        """
        self.account = parse_jid(success.jid)
        if self.account.host != self.policy.domain:
            self.fail(StreamError("internal-server-error", text="log-in for another domain"))
            return
        self.policy.observer.login_ended(self._mechanism, "success")
        self._authority, self._endings = callbridge, self.policy.service.endings.number
        self._is_guest = success.guest or self._mechanism == "ANONYMOUS"
        if then is not None:
            then(self.account, success.payload)
            return
        self.wire.write(sasl.step("success", success.payload))
        self.wire.reset(limits.CLIENT)
        del self._exchange
        self.inputs.logged_in()

    def refused(self, refusal: Refusal, failure: Callable[..., bytes] = sasl.failure) -> None:
        """Tell the client that this log-in failed; it may try again a few times."""
        del self._exchange
        self.inputs.refused()
        self._tries += 1
        self.wire.write(failure(refusal.condition, refusal.text, wait=refusal.wait))
        if self._tries >= self.policy.settings.most_login_tries:
            self.fail(StreamError("policy-violation", text="too many failed log-ins"))

    def unserved(self, refusal: Refusal) -> None:
        """
        The log-in could not be decided, through no fault of the client.  End the stream:
        most programs never try again after a SASL failure, even a temporary one, but all do
        after the end of a stream (docs/design/restarts.md).
        """
        fault = refusal.fault
        assert fault is not None  # noqa: S101 - that is what brings it here
        why = told(fault)
        error = StreamError("remote-connection-failed", text=refusal.text, appCondition=why)
        self.wire.close(error)

    def broken(self, failure: Failure) -> None:
        """An unexpected error."""
        self.log.failure("unexpected error in a log-in from {peer}", failure, peer=self.peer_text)
        self.wire.close(StreamError("internal-server-error"))

    # resource binding, RFC 6120 7

    def offer_binding(self) -> None:
        """After the log-in, a resource must be bound."""
        self.wire.write(features.BINDING[self.policy.service.has_contacts])

    def judge_binding(self, stanza: Stanza) -> None:
        """Check the resource that the client asks for, or choose one."""
        if self.claiming.refuses():
            return
        account, endings = self.account, self.policy.service.endings
        if account is not None and endings.number != self._endings:
            ended = endings.since(self._endings, self._authority, account.userhost())
            if ended is not None:
                self.fail(ended)
                return
        if account is not None and stanza.uri == ns.MANAGEMENT:
            self.claiming.judge(account.userhost(), stanza.element)
            return
        if account is None or not binding.is_asked(stanza):
            self.fail(StreamError("not-authorized", text="a resource must be bound first"))
            return
        full = binding.address(account, stanza)
        if full is None:
            self._bind_error(stanza, "bad-request", "the resource does not prepare")
            return
        sessions = self.policy.sessions
        others = sessions.of(full.userhost())
        if (
            len(others) >= sessions.most_per_user
            and not sessions.find(full)
            and not self.policy.resumptions.make_room(others)
        ):
            self._bind_error(stanza, "resource-constraint", "too many resources are bound")
            return
        self.inputs.bind(full, partial(binding.answer, stanza))

    def begin_session(self, full: JID, answer: Callable[[ClientSession], Stanza | None]) -> None:
        """The resource is bound: the session goes on."""
        session = ClientSession(
            *(self.policy, full),
            authority=self._authority,
            language=self._language,
            ids=self.ids,
            is_guest=self._is_guest,
        )
        if self.policy.service.others is None:
            session.begin(self.wire, answer(session))
        else:
            session.begin_among_others(self.wire, partial(answer, session))
        release(self.inputs)

    def resume_session(self, session: Resumable, answer: bytes) -> None:
        """The session goes on over this connection."""
        session.return_over(self.wire, answer)
        release(self.inputs)

    def _bind_error(self, stanza: Stanza, condition: str, text: str) -> None:
        reply = error_reply(stanza, StanzaError(condition, text=text))
        if reply is not None:
            self.wire.party.send(reply)
