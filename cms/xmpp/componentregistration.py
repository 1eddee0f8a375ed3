"""
Steps 7 to 10 on the XMPP server: how a connection becomes a component's link (XEP-0114).

L{cms.xmpp.componentstates} has its states.
"""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError

from cms import faults
from cms.configuration.tomlfile import Secret
from cms.fast.machines import release
from cms.process.cleanup import run_all
from cms.process.clocks import Timeline
from cms.process.logs import Logger, link_id
from cms.process.proxyheader import begins_header
from cms.protection.guessing import Guess, TooManyGuesses
from cms.signalflow import Step, StepError
from cms.trust.connection import (
    connection_of,
    only_looked,
    openssl_words,
    peer_expiry,
    tls_evidence,
)
from cms.trust.server import ServerTrust
from cms.trust.verdict import Verdict
from cms.xmlstream import managementelements as elements
from cms.xmlstream import ns
from cms.xmlstream.header import new_stream_id
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.management import AcknowledgedTooManyError
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.toldfault import told
from cms.xmlstream.wire import StreamHandler, Wire
from cms.xmlstream.wrongpeer import peer_without_tls, peer_without_xmpp
from cms.xmpp.componentinputs import Inputs
from cms.xmpp.componentlink import ComponentLink
from cms.xmpp.componentpolicy import ComponentPolicy, ComponentRecord, refusal_of
from cms.xmpp.forward import A_TURN
from cms.xmpp.links import Link
from cms.xmpp.resumption import NotResumed


class ComponentRegistration(StreamHandler):
    """
    A component's stream, from its first byte to its registration.

    @param tls: C{None} on a plain listener.
    @ivar stream_id: The id of the stream, which the proof of the secret covers.
    @ivar record: The record of this connection.
    @ivar inputs: Its machine.
    """

    log = Logger()
    content_namespace = ns.COMPONENT
    a_turn = A_TURN
    wire: Wire
    inputs: Inputs

    def __init__(self, policy: ComponentPolicy, tls: ServerTrust | None) -> None:
        self.policy = policy
        self.tls = tls
        self.stream_id = new_stream_id()
        self.record = ComponentRecord(
            policy,
            link_id(self.stream_id),
            policy.flow.connected(),
            Timeline(policy.clock),
        )
        self._step = Step.TLS if tls is not None else Step.REGISTER
        self._guess: Guess | None = None
        self._previd = ""  # of the link that it resumes
        self._secret: Secret | None = None
        self._first: Stanza | None = None  # for the new link, in place of a resumption
        self._verdict: Verdict | None = None

    @property
    def _peer(self) -> str:
        return self.record.peer

    # from the wire

    def opened(self, wire: Wire) -> None:
        """Start TLS, unless the listener is plain."""
        self.wire = wire
        self.record.peer = wire.peer_text
        wire.set_deadline(self.policy.settings.register_timeout)
        self._begin(self._step, peer=self._peer)
        if self.tls is None:
            self.inputs.shielded()
        else:
            verification = self.tls.for_peer(self._peer)
            self._verdict = verification.verdict
            wire.start_tls(verification)

    def _begin(self, step: Step, **shown: str) -> None:
        self._step = step
        self.record.attempt.begin(step, self.record.time.now, **shown)

    def _passed(self, **shown: str) -> None:
        self.record.attempt.passed(self.record.time.now, **shown)

    def secured(self) -> None:
        """The TLS handshake is complete; the header follows."""
        self.inputs.secured()

    def stream_started(self, start: StreamStart) -> None:
        """The header came."""
        self.inputs.header(start)

    def stanza_received(self, stanza: Stanza) -> None:
        """Judge it."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self.wire.peer_failed(stanza.element)
            self.inputs.refused()
        else:
            self.inputs.stanza(stanza)

    def stream_broken(self, error: StreamError) -> None:
        """Bad XML, or no XMPP at all: log what it was."""
        if begins_header(self.wire.heard):
            self.refuse(faults.PROXY_UNEXPECTED.error(peer=self._peer), error)
            return
        wrong_peer = peer_without_xmpp(self.wire.heard, peer=self._peer)
        if wrong_peer is not None:
            self.refuse(wrong_peer, error)
            return
        fault = faults.PEER_BAD_XML.error(
            peer=self._peer, condition=error.condition, problem=error.text or "-"
        )
        self.refuse(fault, error)

    def unexpected(self, problem: BaseException | None) -> None:
        """It is told at the step where it happened."""
        told = type(problem).__name__
        self.record.refused(faults.INTERNAL.at(self._step).error(problem=told))

    def deadline_passed(self) -> None:
        """The peer did not register in time."""
        fault = faults.PEER_SILENT.error(
            peer=self._peer, seconds=self.policy.settings.register_timeout, at=str(self._step)
        )
        self.refuse(fault, StreamError("connection-timeout"))

    def shut_down(self) -> None:
        """The server stops."""
        self.wire.close(StreamError("system-shutdown"))

    def stream_closing(self) -> None:
        """Forget a guess that was not checked."""
        self._abandon()

    def stream_lost(self, reason: Failure) -> None:
        """Log why there is no link."""
        record = self.record
        run_all(
            self.log,
            self._peer,
            lambda: self.inputs.lost(reason),
            lambda: record.attempt.abandoned(record.time.now),
        )

    def done(self) -> None:
        """Nothing follows."""
        release(self.inputs)

    def tell_handshake(self, reason: Failure) -> None:
        """The connection was lost before TLS was up."""
        if not (self.record.told or only_looked(connection_of(self.wire.transport), reason)):
            self.record.refused(self._explain_tls(reason))

    def _explain_tls(self, reason: Failure) -> StepError:
        if self._verdict is not None and self._verdict.error is not None:
            return self._verdict.error
        if begins_header(self.wire.heard):
            return faults.PROXY_UNEXPECTED.error(peer=self._peer)
        wrong_peer = peer_without_tls(self.wire.heard, peer=self._peer)
        if wrong_peer is not None:
            return wrong_peer
        problem = openssl_words(reason)
        return faults.PEER_CERTIFICATE.error(peer=self._peer, problem=problem)

    def error_header(self) -> dict[str, str | None]:
        """The answer to a header that is refused."""
        return {"id": self.stream_id, "from": self.record.component or self.policy.domain}

    # refusals

    def _abandon(self) -> None:
        if self._guess is not None:
            self._guess.abandoned()

    def refuse(self, fault: StepError, error: StreamError) -> None:
        """End the stream with a stream error and log why."""
        self.record.refused(fault)
        self.wire.close(error)
        self.inputs.refused()

    def guessed(self, fault: StepError, error: StreamError) -> None:
        """Refuse a wrong ID or secret, with a delay that grows with their number."""
        self.record.refused(fault)
        delay = 0.0
        if self._guess is not None:
            delay = self._guess.failed()
            self._guess.name(self.record.component)
        self.inputs.refused()
        self.wire.set_deadline(None)
        if delay:
            self.wire.later(delay, self.wire.close, error)
        else:
            self.wire.close(error)

    # steps 7 to 10

    def note_tls(self) -> None:
        """Step 8 is done."""
        connection = connection_of(self.wire.transport)
        self.record.evidence = tls_evidence(connection)
        self.record.certificate_expires = peer_expiry(connection)
        self._passed(**self.record.evidence)
        self._begin(Step.REGISTER, peer=self._peer)

    def judge_header(self, start: StreamStart) -> None:
        """Accept a header that names one of our components, or refuse it."""
        if (start.uri, start.name) != (ns.STREAMS, "stream"):
            self._bad_header("it is no stream header", StreamError("invalid-namespace"))
        elif start.default_namespace != ns.COMPONENT:
            fault = faults.PEER_WRONG_NAMESPACE.error(
                peer=self._peer, namespace=start.default_namespace[:80]
            )
            self.refuse(fault, StreamError("invalid-namespace"))
        elif not start.get("to"):
            self._bad_header("it has no to attribute", StreamError("improper-addressing"))
        else:
            self._judge_address(start)

    def _allows(self, component: str, *, counts: bool) -> bool:
        """
        Whether an ID, or its secret, is checked; after too many guesses it is refused.

        @param counts: Whether it is a guess: an ID that is known here is none.
        """
        try:
            if self._guess is None:
                self._guess = self.policy.guesses.begin(component, self.wire.peer_host)
            if counts:
                self._guess.weigh()
        except TooManyGuesses as problem:
            seconds = max(1, round(problem.seconds))
            fault = faults.PEER_REFUSED.error(peer=self._peer, seconds=seconds)
            text = f"too many failures, refused for {seconds} s"
            why = told(fault, seconds)
            self.refuse(fault, StreamError("policy-violation", text=text, appCondition=why))
            return False
        return True

    def _bad_header(self, problem: str, error: StreamError) -> None:
        fault = faults.PEER_BAD_HEADER.error(
            peer=self._peer, problem=problem, condition=error.condition
        )
        self.refuse(fault, error)

    def _judge_address(self, start: StreamStart) -> None:
        try:
            address = parse_jid(start.get("to") or "")
        except MalformedJID as problem:
            self._bad_header(f"to: {problem}", StreamError("host-unknown"))
            return
        component = str(address.full())
        is_known = component in self.policy.registry
        if not self._allows(component, counts=not is_known):
            return
        if not is_known:
            fault = self._explain_unknown(component[:255])
            self.guessed(fault, StreamError("host-unknown"))
            return
        record = self.record
        record.component = component
        self.policy.flow.named(record.attempt)
        self._passed(component=component, link=record.link_id)
        self._begin(Step.REGISTERED, component=component)
        self._previd = start.attributes.get((ns.LINK_MANAGEMENT, "resume"), "")
        self.wire.send_header({**self._announcement(), "id": self.stream_id, "from": component})
        self.inputs.welcomed()

    def _announcement(self) -> dict[str, str]:
        """What the header says to who knows docs/link-management.md."""
        seconds = self.policy.resumptions.seconds
        if not seconds:
            return {}
        return {"xmlns:lm": ns.LINK_MANAGEMENT, "lm:seconds": f"{seconds:.0f}"}

    def _explain_unknown(self, component: str) -> StepError:
        domain = self.policy.domain
        known = component.endswith(f".{domain}")
        fault = faults.PEER_UNKNOWN_ID if known else faults.PEER_OTHER_DOMAIN
        return fault.error(peer=self._peer, component=component, domain=domain)

    def judge_handshake(self, stanza: Stanza) -> None:
        """Check the proof; then check whether the address is free."""
        component = self.record.component
        if (stanza.uri, stanza.name) != (ns.CLIENT, "handshake"):
            self.refuse_early(stanza)
            return
        if not self._allows(component, counts=True):
            return
        digest = str(stanza.element)
        secret = self.policy.registry.proved(component, self.stream_id, digest)
        if secret is None:
            fault = faults.PEER_WRONG_SECRET.error(peer=self._peer, component=component)
            self.guessed(fault, StreamError("not-authorized"))
            return
        if self._guess is not None:
            self._guess.succeeded()
        older = self.policy.links.get(component)
        if older is not None and self.policy.resumptions.has(self._previd, component):
            self.inputs.resumes(secret, older)
            return
        if older is not None and older.is_away:
            older.replace()  # it comes back without it
            older = None
        if older is not None:
            self.inputs.contested(secret, older)
        else:
            self.inputs.proved(secret)

    def refuse_early(self, stanza: Stanza) -> None:
        """Refuse a stanza before the registration."""
        fault = faults.PEER_UNREGISTERED.error(peer=self._peer, name=stanza.name[:80])
        self.refuse(fault, StreamError("not-authorized"))

    def probe(self, secret: Secret, older: Link) -> None:
        """Ask the link that holds the address whether it is alive."""
        probing = older.probe()
        probing.addCallback(lambda alive: self.inputs.probed(secret, older, alive))
        probing.addErrback(self._unexpected)

    def judge_older(self, secret: Secret, older: Link, alive: bool) -> None:
        """Take the address of a link that is dead."""
        component, links = self.record.component, self.policy.links
        if alive:
            fault = faults.PEER_CONFLICT.error(
                peer=self._peer, component=component, other=older.peer_text
            )
            self.refuse(fault, StreamError("conflict", text="this component is connected"))
            return
        if links.get(component) is older:
            older.replace()
        # it may have been deleted while the older link was asked
        refusal = refusal_of(self.policy.registry, component, secret)
        if refusal is not None:
            self.refuse(*refusal)
        elif links.get(component) is None:
            self.inputs.proved(secret)
        else:
            self.wire.close(StreamError("conflict", text="another connection was quicker"))
            self.inputs.refused()

    def await_resume(self, secret: Secret) -> None:
        """Tell the component that its proof is right; how much it has of its link follows."""
        self._secret = secret
        self.wire.write(b"<handshake/>")

    def resume(self, stanza: Stanza) -> None:
        """Go on with the older link; or with a new one, if it cannot be or is not wanted."""
        component, links, secret = self.record.component, self.policy.links, self._secret
        assert secret is not None  # noqa: S101 - it was proved
        refusal = refusal_of(self.policy.registry, component, secret)
        if refusal is not None:
            self.refuse(*refusal)
            return
        older = links.get(component)
        wanted = (stanza.uri, stanza.name) == (ns.MANAGEMENT, "resume")
        try:
            if wanted:
                asked = elements.resume(stanza.element)
                link, answer = self.policy.resumptions.claim(asked, component)
                if isinstance(link, ComponentLink):
                    link.proved_again(secret, self.record)
                    link.return_over(self.wire, answer)
                    self.inputs.resumed()
                    return
        except AcknowledgedTooManyError as error:
            if older is not None:
                older.replace()
            problem = f"it acknowledges {error}"
            fault = faults.PEER_BAD_HEADER.error(
                peer=self._peer, problem=problem, condition="undefined-condition"
            )
            self.refuse(fault, elements.too_many(error))
            return
        except NotResumed as refused:
            self.wire.write(refused.answer)
        if older is not None:
            older.replace()
        if not wanted:
            self._first = stanza
        self.inputs.proved(secret)

    def _unexpected(self, failure: Failure) -> None:
        c = self.record.component
        self.log.failure("unexpected error in the registration of {c}", failure, c=c)
        self.unexpected(failure.value)
        self.wire.close(StreamError("internal-server-error"))

    def register(self, secret: Secret) -> None:
        """Step 10 is done: the link goes on."""
        link = ComponentLink(self.policy, self.wire, self.record, secret)
        link.begin(b"" if self._secret is not None else b"<handshake/>")
        if self._first is not None:
            link.stanza_received(self._first)
        release(self.inputs)
