"""
Steps 7 to 11 on the XMPP server: one component's stream (XEP-0114).

    opening -> handshaking -> registered
                    |             ^
                    v             |
                 probing ---------+      every state -> closed

C{opening} waits for TLS and the stream header, C{handshaking} for the proof of
the secret, C{probing} for an older link of the same address to show whether it
lives.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from attrs import Factory, define, field
from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError, StreamError

from cms import faults
from cms.configuration.tomlfile import Secret
from cms.fast.machines import Machine, release
from cms.process.cleanup import finish
from cms.process.clocks import Timeline
from cms.process.logs import Sparing, link_id, wanted
from cms.process.proxyheader import begins_header
from cms.protection.guessing import Guess, Guesses, TooManyGuesses
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
from cms.xmlstream import limits, ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.requests import Requests
from cms.xmlstream.stanza import Slice, Stanza
from cms.xmlstream.stream import XMLStream, new_stream_id
from cms.xmlstream.toldfault import ToldFault, as_condition
from cms.xmlstream.wrongpeer import peer_without_tls, peer_without_xmpp
from cms.xmpp.flowrecord import ServerFlow
from cms.xmpp.forward import A_TURN, Forwarder
from cms.xmpp.links import Links
from cms.xmpp.registry import Registry
from cms.xmpp.router import Router

LINK_BYTES = 4 * 1024 * 1024  # of others that may wait for a component to read


@define
class ComponentPolicy:
    """
    What every component stream of this server shares.

    @ivar register_timeout: Seconds from the connection to the registration.
    @ivar probe_timeout: Seconds that an older link has to show that it lives.
    @ivar ping_interval: Seconds of silence after which a link is asked.
    @ivar ping_timeout: Seconds that it then has.
    """

    clock: IReactorTime
    domain: str
    registry: Registry
    links: Links
    router: Router
    guesses: Guesses
    flow: ServerFlow
    register_timeout: float = 20.0
    probe_timeout: float = 5.0
    ping_interval: float = 8.0
    ping_timeout: float = 10.0
    sparing: Sparing = field(
        init=False, default=Factory(lambda self: Sparing(self.clock.seconds), takes_self=True)
    )


class _Inputs(Protocol):
    """What can happen to a component's stream."""

    def header(self, start: StreamStart) -> None:
        """The peer opened its stream."""

    def stanza(self, stanza: Stanza) -> None:
        """The peer sent an element."""

    def welcomed(self) -> None:
        """The header names a component of ours."""

    def proved(self) -> None:
        """The secret is right and the address is free."""

    def contested(self) -> None:
        """The secret is right, but the address has a link already."""

    def refused(self) -> None:
        """We ended the stream."""

    def lost(self) -> None:
        """The connection is gone."""


class ComponentStream(XMLStream):
    """
    A component's stream, from its first byte to its last.

    @ivar link_id: Names this connection in the logs of both sides.
    @ivar component: Its address, once the header named one of ours.
    @ivar mechanisms: The SASL mechanisms it decides; none for a component that
        is no Callbridge.
    @ivar no_authority: Why it decides no log-ins, once that is known.
    @ivar secret: The secret that it proved, once it did.
    @ivar tls: C{None} on a plain listener.
    """

    content_namespace = ns.COMPONENT
    is_shared = True

    def __init__(self, policy: ComponentPolicy, tls: ServerTrust | None) -> None:
        super().__init__(policy.clock, send_limit=LINK_BYTES)
        self.policy = policy
        self.tls = tls
        self.component = ""
        self.mechanisms: tuple[str, ...] = ()
        self.no_authority: StepError | None = None
        self.secret: Secret | None = None
        self.stream_id = new_stream_id()
        self.link_id = link_id(self.stream_id)
        self.evidence: dict[str, str] = {}
        self.certificate_expires: float | None = None
        self.since = 0.0
        self.answers_pings = False
        self.requests = Requests(policy.clock, self.send, own=policy.domain)
        self._machine = _machine(self)
        self._guess: Guess | None = None
        self._registered = False
        self._step = Step.TLS if tls is not None else Step.REGISTER
        self._reported = False
        self._verdict: Verdict | None = None
        self._attempt, self._time = policy.flow.connected(), Timeline(policy.clock)
        self._keepalive = Keepalive(
            policy.clock,
            self,
            ping=self._ping,
            interval=policy.ping_interval,
            timeout=policy.ping_timeout,
            dead=self._silent,
        )

    # from XMLStream

    def connectionMade(self) -> None:
        """Start TLS, or refuse an address that guesses."""
        super().connectionMade()
        self.set_deadline(self.policy.register_timeout)
        self._attempt.begin(self._step, self._time.now, peer=self.peer_text)
        if self.transport is not None and self.tls is not None:
            verification = self.tls.for_peer(self.peer_text)
            self._verdict = verification.verdict
            self.start_tls(verification)

    def secured(self) -> None:
        """The TLS handshake is complete; the header follows."""
        if self.closing:
            return
        self._step = Step.REGISTER
        connection = connection_of(self.transport)
        self.evidence = tls_evidence(connection)
        self.certificate_expires = peer_expiry(connection)
        self._attempt.passed(self._time.now, **self.evidence)
        self._attempt.begin(Step.REGISTER, self._time.now, peer=self.peer_text)

    def stream_started(self, start: StreamStart) -> None:
        """The header came."""
        self._machine.header(start)

    def stanza_received(self, stanza: Stanza) -> None:
        """Route what a registered component sends; judge what others send."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self.peer_failed(stanza.element)
            self._machine.refused()
        elif self._registered:
            self._route(stanza)
        else:
            self._machine.stanza(stanza)

    def stream_broken(self, error: StreamError) -> None:
        """Bad XML, or no XMPP at all: say what it was."""
        if begins_header(self.heard):
            self.refuse(faults.PROXY_UNEXPECTED.error(peer=self.peer_text), error)
            return
        stranger = peer_without_xmpp(self.heard, peer=self.peer_text)
        if stranger is not None:
            self.refuse(stranger, error)
            return
        fault = faults.PEER_BAD_XML.error(
            peer=self.peer_text, condition=error.condition, problem=error.text or "-"
        )
        self.refuse(fault, error)

    def deadline_passed(self) -> None:
        """The peer did not register in time."""
        fault = faults.PEER_SILENT.error(
            peer=self.peer_text, seconds=self.policy.register_timeout, at=str(self._step)
        )
        self.refuse(fault, StreamError("connection-timeout"))

    def stream_closing(self) -> None:
        """Nothing can be delivered any more: forget the link."""
        parts: list[Callable[[], object]] = [self._keepalive.stop, self._abandon]
        if self._registered:
            self._registered = False
            del self._forwarder
            parts.append(lambda: self.policy.router.forget(self))
            parts.append(lambda: self.policy.links.down(self))
        finish(self.log, self.peer_text, *parts, self.requests.lost)

    def stream_lost(self, reason: Failure) -> None:
        """Say that the link is gone, or why it did not come about."""
        finish(
            self.log,
            self.peer_text,
            lambda: self._tell_end(reason),
            lambda: self._end_attempt(reason),
            self._machine.lost,
        )
        release(self._machine)
        del self._keepalive

    def _tell_end(self, reason: Failure) -> None:
        if self._step is Step.ACTIVE:
            if wanted(LogLevel.info):
                self.log.info(
                    "component {component} from {peer} is gone ({why})",
                    component=self.component,
                    peer=self.peer_text,
                    why=reason.getErrorMessage(),
                    step=int(Step.ACTIVE),
                    link_id=self.link_id,
                )
        elif self._step is Step.TLS and not (
            self._reported or only_looked(connection_of(self.transport), reason)
        ):
            self._report(self._explain_tls(reason))

    def _end_attempt(self, reason: Failure) -> None:
        """Nobody failed: the stream was closed, by either side."""
        now = self._time.now
        if self._step is Step.ACTIVE and self._attempt.running is not None:
            self._attempt.passed(now, ended=reason.getErrorMessage())
        else:
            self._attempt.abandoned(now)

    def _explain_tls(self, reason: Failure) -> StepError:
        if self._verdict is not None and self._verdict.error is not None:
            return self._verdict.error
        if begins_header(self.heard):
            return faults.PROXY_UNEXPECTED.error(peer=self.peer_text)
        stranger = peer_without_tls(self.heard, peer=self.peer_text)
        if stranger is not None:
            return stranger
        problem = openssl_words(reason)
        return faults.PEER_CERTIFICATE.error(peer=self.peer_text, problem=problem)

    def error_header(self) -> dict[str, str | None]:
        """The answer to a header that is refused."""
        return {"id": self.stream_id, "from": self.component or self.policy.domain}

    # refusals

    def _abandon(self) -> None:
        if self._guess is not None:
            self._guess.abandoned()

    def refuse(self, fault: StepError, error: StreamError) -> None:
        """End the stream with a stream error and log why."""
        self._report(fault)
        self.close(error)
        self._machine.refused()

    def guessed(self, fault: StepError, error: StreamError) -> None:
        """Refuse a wrong ID or secret, the later the more often it happens."""
        self._report(fault)
        delay = self._guess.failed() if self._guess is not None else 0.0
        self._machine.refused()
        self.set_deadline(None)
        if delay:
            self.later(delay, self.close, error)
        else:
            self.close(error)

    def _report(self, fault: StepError) -> None:
        self._reported = True
        self._attempt.failed(self._time.now, fault)
        if not (self.component or self.policy.sparing.allows()):
            return
        self.log.warn(
            "component refused: {step_text}: {cause} Cure: {cure}",
            **fault.fields,
            peer=self.peer_text,
            component=self.component,
            link_id=self.link_id,
        )

    # steps 9 and 10

    def judge_header(self, start: StreamStart) -> None:
        """Welcome a header that names one of our components, or say why not."""
        if (start.uri, start.name) != (ns.STREAMS, "stream"):
            self._bad_header("it is no stream header", StreamError("invalid-namespace"))
        elif start.default_namespace != ns.COMPONENT:
            fault = faults.PEER_WRONG_NAMESPACE.error(
                peer=self.peer_text, namespace=start.default_namespace[:80]
            )
            self.refuse(fault, StreamError("invalid-namespace"))
        elif not start.get("to"):
            self._bad_header("it has no to attribute", StreamError("improper-addressing"))
        else:
            self._judge_address(start.get("to") or "")

    def _weigh(self, component: str) -> bool:
        """Whether an ID, or its secret, is looked at; a guesser is turned away."""
        try:
            self._guess = self.policy.guesses.begin(component, self.peer_host)
            self._guess.weigh()
        except TooManyGuesses as problem:
            seconds = max(1, round(problem.seconds))
            fault = faults.PEER_REFUSED.error(peer=self.peer_text, seconds=seconds)
            text = f"too many failures, refused for {seconds} s"
            told = as_condition(ToldFault(fault.fault, seconds))
            self.refuse(fault, StreamError("policy-violation", text=text, appCondition=told))
            return False
        return True

    def _bad_header(self, problem: str, error: StreamError) -> None:
        fault = faults.PEER_BAD_HEADER.error(
            peer=self.peer_text, problem=problem, condition=error.condition
        )
        self.refuse(fault, error)

    def _judge_address(self, to: str) -> None:
        try:
            address = parse_jid(to)
        except MalformedJID as problem:
            self._bad_header(f"to: {problem}", StreamError("host-unknown"))
            return
        component = str(address.full())
        if not self._weigh(component):
            return
        if component not in self.policy.registry:
            fault = self._explain_unknown(component[:255])
            self.guessed(fault, StreamError("host-unknown"))
            return
        self._abandon()  # it counts again when the secret comes
        self.component = component
        self._step = Step.REGISTERED
        self.policy.flow.named(self._attempt)
        self._attempt.passed(self._time.now, component=component, link=self.link_id)
        self._attempt.begin(Step.REGISTERED, self._time.now, component=component)
        self.send_header({"id": self.stream_id, "from": component})
        self._machine.welcomed()

    def _explain_unknown(self, component: str) -> StepError:
        domain = self.policy.domain
        known = component.endswith(f".{domain}")
        fault = faults.PEER_UNKNOWN_ID if known else faults.PEER_OTHER_DOMAIN
        return fault.error(peer=self.peer_text, component=component, domain=domain)

    def judge_handshake(self, stanza: Stanza) -> None:
        """Compare the proof; then look whether the address is free."""
        if (stanza.uri, stanza.name) != (ns.CLIENT, "handshake"):
            fault = faults.PEER_UNREGISTERED.error(peer=self.peer_text, name=stanza.name[:80])
            self.refuse(fault, StreamError("not-authorized"))
            return
        if not self._weigh(self.component):
            return
        digest = str(stanza.element)
        self.secret = self.policy.registry.proved(self.component, self.stream_id, digest)
        if self.secret is None:
            fault = faults.PEER_WRONG_SECRET.error(peer=self.peer_text, component=self.component)
            self.guessed(fault, StreamError("not-authorized"))
            return
        if self._guess is not None:
            self._guess.succeeded()
        if self.policy.links.get(self.component) is not None:
            self._machine.contested()
        else:
            self._machine.proved()

    def probe_older(self) -> None:
        """Ask the link that holds the address whether it lives."""
        older = self.policy.links.get(self.component)
        if older is None:
            self._machine.proved()
            return

        def judge(alive: bool) -> None:
            if self.closing:
                return
            if alive:
                fault = faults.PEER_CONFLICT.error(
                    peer=self.peer_text, component=self.component, other=older.peer_text
                )
                self.refuse(fault, StreamError("conflict", text="this component is connected"))
                return
            if self.policy.links.get(self.component) is older:
                older.replace()
            self.judge_secret()  # it may have been deleted while the older link was asked
            if self.closing:
                return
            if self.policy.links.get(self.component) is None:
                self._machine.proved()
            else:
                self.close(StreamError("conflict", text="another connection was quicker"))
                self._machine.refused()

        older.probe().addCallback(judge).addErrback(self._unexpected)

    def _unexpected(self, failure: Failure) -> None:
        self.log.failure("unexpected error in the registration of {c}", failure, c=self.component)
        self.close(StreamError("internal-server-error"))

    def register(self) -> None:
        """Step 10 is done: the link is active."""
        self.set_deadline(None)
        self.on_trusted()
        self.splice(limits.COMPONENT)
        self.write(b"<handshake/>")
        self.since = self._time.now
        self._step = Step.ACTIVE
        self._attempt.begin(Step.ACTIVE, self.since, peer=self.peer_text, component=self.component)
        self._registered = True
        self._forwarder = Forwarder(
            self.policy.router, self, self.component, owns=self._owns, general=self._route
        )
        self._keepalive.start()
        if wanted(LogLevel.info):
            self._log_registration()
        self.policy.links.up(self)

    def _log_registration(self) -> None:
        shown = {"link": self.link_id, **(self.evidence or {"protocol": "no TLS"})}
        self.log.info(
            "{step_text}: component {component} registered from {peer} ({shown})",
            step=int(Step.ACTIVE),
            step_text=str(Step.ACTIVE),
            component=self.component,
            peer=self.peer_text,
            shown=", ".join(f"{k} {v}" for k, v in shown.items()),
            evidence=self.evidence,
            link_id=self.link_id,
        )

    # step 11

    def slices_received(self, slices: list[Slice]) -> list[Slice]:
        """See L{XMLStream.slices_received}."""
        self._forwarder.most = self.a_turn
        return self._forwarder.forward(slices)

    @property
    def a_turn(self) -> int:  # type: ignore[override]
        """See L{XMLStream}: the answers of a Callbridge are for everybody, and not put off."""
        return sys.maxsize if self.mechanisms else A_TURN

    def _route(self, stanza: Stanza) -> None:
        sender = stanza.sender
        if sender is None:
            stanza.stamp(self.component)
        elif not self._owns(sender):
            fault = faults.PEER_LIED.error(component=self.component, sender=sender[:80])
            self.refuse(fault, StreamError("invalid-from"))
            return
        if self.requests.take(stanza):
            return
        if stanza.is_stanza:
            if stanza.to is None:
                stanza.address(self.policy.domain)  # so that the answer says who answers
            if stanza.flaw is None:
                self.policy.router.route(stanza, self)
            else:
                self.policy.router.bounce(stanza, "bad-request", text=stanza.flaw)
        else:
            self.close(StreamError("unsupported-stanza-type"))

    def _owns(self, sender: str) -> bool:
        try:
            return bool(parse_jid(sender).host == self.component)
        except MalformedJID:
            return False

    def _ping(self) -> Deferred[Stanza]:
        def note(result: Stanza | Failure) -> Stanza | Failure:
            if not isinstance(result, Failure) or result.check(StanzaError):
                self.answers_pings = True
            return result

        ping = request("get", self.policy.domain, self.component, ping_payload())
        return self.requests.ask(ping, self.policy.ping_timeout).addBoth(note)

    def _silent(self) -> None:
        """
        Nothing was heard for too long.  A component that has never answered a
        ping may be a stranger that ignores IQs; TCP watches over that one.
        """
        if not (self.answers_pings or self.mechanisms):
            self._keepalive.start()
            return
        fault = faults.LINK_SILENT.error(peer=self.component, seconds=self.policy.ping_timeout)
        self._report(fault)
        self.close(StreamError("connection-timeout"))
        self.abort()

    def probe(self) -> Deferred[bool]:
        """Whether the peer still answers, or at least still sends."""
        before = self.bytes_received
        ping = request("get", self.policy.domain, self.component, ping_payload())
        answer = self.requests.ask(ping, self.policy.probe_timeout)
        return answer.addBoth(lambda _: self._registered and self.bytes_received > before)

    def replace(self) -> None:
        """A newer link takes over."""
        self.close(StreamError("conflict", text="replaced by a newer connection"))
        self.abort()

    def judge_secret(self) -> None:
        """The registry has changed: end a link whose secret is not accepted any more."""
        registry = self.policy.registry
        if registry.accepts(self.component, self.secret):
            return
        if self.component in registry:
            fault = faults.LINK_SECRET_EXPIRED.error(component=self.component)
            self.refuse(fault, StreamError("not-authorized", text="the secret has expired"))
        else:
            fault = faults.LINK_DELETED.error(component=self.component)
            self.refuse(fault, StreamError("host-gone", text="this component was deleted"))


def _make_machine() -> Callable[[ComponentStream], _Inputs]:
    machine = TypeMachineBuilder(_Inputs, ComponentStream)
    opening = machine.state("opening")
    handshaking = machine.state("handshaking")
    probing = machine.state("probing")
    registered = machine.state("registered")
    closed = machine.state("closed")

    opening.upon(_Inputs.welcomed).to(handshaking).returns(None)
    for state in (opening, handshaking, probing, registered, closed):
        state.upon(_Inputs.refused).to(closed).returns(None)
        state.upon(_Inputs.lost).to(closed).returns(None)
    for late in (_Inputs.proved, _Inputs.contested):
        closed.upon(late).loop().returns(None)
    closed.upon(_Inputs.stanza).loop().returns(None)

    @opening.upon(_Inputs.header).loop()
    def judge_header(inputs: _Inputs, stream: ComponentStream, start: StreamStart) -> None:
        stream.judge_header(start)

    @handshaking.upon(_Inputs.stanza).loop()
    def judge_handshake(inputs: _Inputs, stream: ComponentStream, stanza: Stanza) -> None:
        stream.judge_handshake(stanza)

    @handshaking.upon(_Inputs.contested).to(probing)
    def probe(inputs: _Inputs, stream: ComponentStream) -> None:
        stream.probe_older()

    @probing.upon(_Inputs.stanza).loop()
    def impatient(inputs: _Inputs, stream: ComponentStream, stanza: Stanza) -> None:
        fault = faults.PEER_UNREGISTERED.error(peer=stream.peer_text, name=stanza.name[:80])
        stream.refuse(fault, StreamError("not-authorized"))

    @handshaking.upon(_Inputs.proved).to(registered)
    @probing.upon(_Inputs.proved).to(registered)
    def register(inputs: _Inputs, stream: ComponentStream) -> None:
        stream.register()

    return Machine(machine)


_machine = _make_machine()
