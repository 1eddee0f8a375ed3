"""
Step 11 on the XMPP server: the link of a component that has registered.

The router, the log-ins and the administration use it to reach the component.  It takes over
the wire from the registration, and ends once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError, StreamError

from cms import faults
from cms.configuration.tomlfile import Secret
from cms.process.cleanup import run_all
from cms.process.logs import Logger, wanted
from cms.signalflow import Step, StepError
from cms.xmlstream import limits, ns
from cms.xmlstream import managementelements as elements
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.management import AcknowledgedTooManyError, Ledger
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.requests import Requests
from cms.xmlstream.stanza import Slice, Stanza
from cms.xmlstream.traffic import Traffic
from cms.xmlstream.wire import StreamHandler, Wire
from cms.xmpp.componentpolicy import ComponentPolicy, ComponentRecord, refusal_of
from cms.xmpp.forward import A_TURN, Forwarder
from cms.xmpp.leavingparty import LeavingParty
from cms.xmpp.resumption import NotResumed


class ComponentLink(LeavingParty, StreamHandler):
    """
    The link of one component; a L{Link<cms.xmpp.links.Link>} whose stream ends here.

    @ivar component: Its address.
    @ivar mechanisms: The SASL mechanisms it decides; none for a component that
        is no Callbridge, and while it is away.
    @ivar no_authority: Why it decides no log-ins, once that is known.
    @ivar secret: The secret that it proved.
    @ivar wire: What it speaks over, or spoke over when it was not away yet.
    @ivar jid: Its address, too.
    """

    log = Logger()
    content_namespace = ns.COMPONENT

    def __init__(
        self, policy: ComponentPolicy, wire: Wire, record: ComponentRecord, secret: Secret
    ) -> None:
        super().__init__(policy.clock, policy.send_limits, is_shared=True)
        self.policy = policy
        self.wire = wire
        self.component = record.component
        self.jid = parse_jid(record.component)
        self.secret = secret
        self.mechanisms: tuple[str, ...] = ()
        self.admits = self.knows_people = False
        self.no_authority: StepError | None = None
        self.link_id = record.link_id
        self.evidence = record.evidence
        self.certificate_expires = record.certificate_expires
        self.peer_text = wire.peer_text
        self.since = record.time.now
        self.answers_pings = False
        self.requests = Requests(policy.clock, self.send, own=policy.domain)
        self.challenged: set[str] = set()
        self._record = record
        self._previd: str | None = None  # for its resumption, if it can be resumed
        self._ends = False  # for good, and not only its connection
        self._before = Traffic()  # what the connections before this one have carried
        self._forwarder = Forwarder(
            policy.router, self, self.component, owns=self._owns, general=self._route
        )

    def begin(self, answer: bytes) -> None:
        """
        Step 10 is done: tell the peer so, and the link is active.

        In a cluster the peer is told when the other nodes know of the link, so that whoever it
        writes to can answer.

        @param answer: What tells it; empty if it was told already.
        """
        wire, others = self.wire, self.policy.others
        if others is None or not answer:
            if answer:
                wire.write(answer)
            self._announce()
            return
        self._announce(waits=True)

        def tell(_: object) -> None:
            if self.is_open and self.carrier is wire:
                wire.out.write(answer)  # before all that waits
                self.resume()

        others.known().addCallback(tell)

    def _announce(self, *, waits: bool = False) -> None:
        self._go_on()
        if waits:
            self.pause()
        shown = {"peer": self.peer_text, "component": self.component}
        self._record.attempt.begin(Step.ACTIVE, self.since, **shown)
        if wanted(LogLevel.info):
            self._log_registration()
        self.policy.links.up(self)

    def _go_on(self) -> None:
        policy, wire = self.policy, self.wire
        self._keepalive = Keepalive(
            policy.clock,
            wire,
            ping=self._ping,
            interval=policy.settings.ping_interval,
            timeout=policy.settings.ping_timeout,
            dead=self._silent,
        )
        wire.take_over(self, self)
        wire.set_deadline(None)
        wire.on_trusted()
        wire.splice(limits.COMPONENT)
        self._keepalive.start()

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

    # what it has carried

    @property
    def bytes_received(self) -> int:
        """See L{Wire}."""
        return self._before.bytes_received + self.wire.bytes_received

    @property
    def bytes_sent(self) -> int:
        """See L{Wire}."""
        return self._before.bytes_sent + self.wire.bytes_sent

    @property
    def stanzas_received(self) -> int:
        """See L{Wire}."""
        return self._before.stanzas_received + self.wire.stanzas_received

    @property
    def stanzas_sent(self) -> int:
        """See L{Wire}."""
        return self._before.stanzas_sent + self.wire.stanzas_sent

    # from the wire

    def stanza_received(self, stanza: Stanza) -> None:
        """Route a stanza that was read into a tree."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self._ends = True
            self.wire.peer_failed(stanza.element)
        elif stanza.uri == ns.MANAGEMENT and self.policy.resumptions.seconds:
            self._manage(stanza)
        else:
            if self.ledger is not None:
                self.ledger.count_handled(1)  # even if it ends the link
            self._route(stanza)

    def slices_received(self, slices: list[Slice]) -> list[Slice]:
        """See L{StreamHandler.slices_received}."""
        self._forwarder.most = self.a_turn
        if self.ledger is None:
            return self._forwarder.forward(slices)
        left = self._forwarder.forward_counted(slices, self.ledger)
        if self._previd is not None and self._ends:  # amid these
            self.policy.resumptions.remember(self, self._previd)
        return left

    @property
    def a_turn(self) -> int:  # type: ignore[override]
        """See L{StreamHandler}: a Callbridge's answers decide log-ins, so they are not delayed."""
        return sys.maxsize if self.mechanisms else A_TURN

    def stream_broken(self, error: StreamError) -> None:
        """The component's XML is bad."""
        fault = faults.PEER_BAD_XML.error(
            peer=self.peer_text, condition=error.condition, problem=error.text or "-"
        )
        self.refuse(fault, error)

    def unexpected(self, problem: Exception) -> None:
        """The link ends by an error of this program, and not of the component."""
        self._ends = True
        told = type(problem).__name__
        self._record.refused(faults.INTERNAL.at(Step.ACTIVE).error(problem=told))

    def shut_down(self) -> None:
        """The server stops."""
        self._close(StreamError("system-shutdown"))

    def peer_closed(self) -> None:
        """The component closed its stream, and so its link."""
        self._ends = True

    def overflowed(self) -> None:
        """The component does not read, or acknowledges nothing: its link ends."""
        self._ends = True

    def stream_closing(self) -> None:
        """Nothing leaves over this wire any more: the link ends, or waits for another."""
        if self._previd is not None and not self._ends:
            self._go_away()
        else:
            self._end()

    def _end(self) -> None:
        """Nothing can be delivered any more: forget the link, and give back what waits for it."""
        self._ends = True
        policy = self.policy
        parts: list[Callable[[], object]] = [
            self.leave,
            self._keepalive.stop,
            partial(policy.router.forget, self),
            partial(policy.links.down, self),
            self.requests.lost,
        ]
        if self._previd is not None:
            parts.append(partial(policy.resumptions.forget, self))
        if self.is_slow or self.ledger is not None:
            parts.append(partial(policy.undelivered.add, self.take_stanzas()))
        run_all(self.log, self.peer_text, *parts)

    def stream_lost(self, reason: Failure) -> None:
        """Log that the link is gone."""
        why = reason.getErrorMessage()
        if not self._ends:
            self.end_attempt(why)
            return
        run_all(
            self.log,
            self.peer_text,
            partial(self._tell_end, why),
            partial(self.end_attempt, why),
        )
        self._part()

    def _part(self) -> None:
        """What held the parts of the link together goes."""
        del self._keepalive, self._forwarder

    def _tell_end(self, why: str) -> None:
        if wanted(LogLevel.info):
            self.log.info(
                "component {component} from {peer} is gone ({why})",
                component=self.component,
                peer=self.peer_text,
                why=why,
                step=int(Step.ACTIVE),
                link_id=self.link_id,
            )

    def end_attempt(self, why: str) -> None:
        """End the attempt without a failure: one side closed the stream."""
        record = self._record
        if record.attempt.running is not None:
            record.attempt.passed(record.time.now, ended=why)
        else:
            record.attempt.abandoned(record.time.now)

    def error_header(self) -> dict[str, str | None]:
        """See L{StreamHandler.error_header}; a link's wire has sent its header."""
        return {"from": self.component}

    def refuse(self, fault: StepError, error: StreamError) -> None:
        """End the link with a stream error and log why."""
        self._record.refused(fault)
        self._close(error)

    def _close(self, error: StreamError) -> None:
        self._ends = True
        if self.is_away:
            self._end()
            self._tell_end(error.condition)
            self._part()
        else:
            if self.ledger is not None and self.is_open:
                self.write(elements.acknowledgement(self.ledger.handled))
            self.wire.close(error)

    # link management, docs/link-management.md

    def keeps(self, size: int) -> None:
        """See L{Party}; a link that is away ends when too much of our own waits for it."""
        self.policy.resumptions.keeps(self, size)
        if self.kept_bytes > 2 * self.limits.size:
            self._close(StreamError("resource-constraint"))

    def _manage(self, stanza: Stanza) -> None:
        element, resumptions = stanza.element, self.policy.resumptions
        if element.name == "a":
            self.wire.write(elements.failed("bad-request"))  # its h is no counter
        elif element.name == "resume":
            try:
                resumptions.claim(elements.resume(element), self.component)
                self.wire.write(elements.failed("unexpected-request"))
            except AcknowledgedTooManyError as error:
                self._close(elements.too_many(error))
            except NotResumed as refusal:
                self.wire.write(refusal.answer)
        elif element.name != "enable" or self.ledger is not None:
            self.wire.write(elements.failed("unexpected-request"))
        else:
            self.ledger = Ledger()
            if elements.wants_resumption(element):
                self._previd = resumptions.issue(self)
            self.wire.write(elements.enabled(self._previd, resumptions.seconds))

    def asked(self) -> None:
        """The component asks how many of its stanzas were handled."""
        if self.ledger is None:
            super().asked()
        else:
            self.wire.write(elements.acknowledgement(self.ledger.handled))

    def acknowledges(self, handled: int) -> None:
        """The component says how many of ours it has handled."""
        if self.ledger is None:
            super().acknowledges(handled)
            return
        try:
            self.acknowledged(self.ledger, handled)
        except AcknowledgedTooManyError as error:
            self._close(elements.too_many(error))

    def _go_away(self) -> None:
        """The connection is gone: wait for another."""
        self._keepalive.stop()
        self.detach()
        self.wait_for_another()
        self.policy.links.away(self)
        self.log.info(
            "component {component} lost its connection from {peer}: its link is kept for"
            " {seconds:.0f} s",
            component=self.component,
            peer=self.peer_text,
            seconds=self.policy.resumptions.seconds,
            link_id=self.link_id,
        )

    def wait_for_another(self) -> None:
        """See L{LeavingParty}."""
        self.policy.resumptions.leaves(self)

    def return_over(self, wire: Wire, answer: bytes) -> None:
        """
        Go on over another wire, whose peer has proved the secret again.

        What the component has handled meanwhile was acknowledged before.

        @param answer: Tells it that this link goes on.
        """
        old, ledger = self.wire, self.ledger
        assert ledger is not None  # noqa: S101 - it has an id
        if not self.is_away:
            self._keepalive.stop()
            self.detach()
            self.end_attempt("resumed by another connection")
            old.dismiss(StreamError("conflict", text="resumed by another connection"))
        self._before.add(old)
        self.wire, self.peer_text = wire, wire.peer_text
        wire.write(answer + b"".join(ledger.waiting()))
        self._go_on()
        if ledger.unacknowledged:
            self.ask()
        self.policy.resumptions.returns(self)
        self.policy.links.back(self)
        self.log.info(
            "component {component} resumed its link from {peer}",
            component=self.component,
            peer=self.peer_text,
            link_id=self.link_id,
        )

    def proved_again(self, secret: Secret, record: ComponentRecord) -> None:
        """A connection that resumes it has proved this secret."""
        self.secret, self._record = secret, record
        self.evidence, self.certificate_expires = record.evidence, record.certificate_expires
        record.attempt.begin(
            Step.ACTIVE, record.time.now, component=self.component, resumed=self.link_id
        )

    def expire(self) -> None:
        """Nobody came back."""
        self._close(StreamError("connection-timeout"))

    # stanzas

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
            self._close(StreamError("unsupported-stanza-type"))

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
        return self.requests.ask(ping, self.policy.settings.ping_timeout).addBoth(note)

    def _silent(self) -> None:
        """
        Nothing was received for too long.  A component that has never answered a ping may be
        another implementation that ignores IQs.  It stays; TCP watches its connection.
        """
        if not (self.answers_pings or self.mechanisms):
            self._keepalive.start()
            return
        fault = faults.LINK_SILENT.error(
            peer=self.component, seconds=self.policy.settings.ping_timeout
        )
        if self._previd is not None:
            self._record.refused(fault)
            self.wire.abort()  # this is what a lost network looks like
            return
        self.refuse(fault, StreamError("connection-timeout"))
        self.wire.abort()

    # from the server

    def probe(self) -> Deferred[bool]:
        """Whether the peer still answers, or at least still sends."""
        before = self.wire.bytes_received
        ping = request("get", self.policy.domain, self.component, ping_payload())
        answer = self.requests.ask(ping, self.policy.settings.probe_timeout)
        return answer.addBoth(lambda _: self.is_open and self.wire.bytes_received > before)

    def replace(self) -> None:
        """A newer link takes over."""
        self._close(StreamError("conflict", text="replaced by a newer connection"))
        self.wire.abort()

    def judge_secret(self) -> None:
        """The registry has changed: end a link whose secret is not accepted any more."""
        refusal = refusal_of(self.policy.registry, self.component, self.secret)
        if refusal is not None:
            self.refuse(*refusal)
