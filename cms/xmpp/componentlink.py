"""
Step 11 on the XMPP server: the link of a component that has registered.

The router, the log-ins and the administration use it to reach the component.  It takes over
the wire from the registration, and ends once.
"""

from __future__ import annotations

import sys
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
from cms.xmlstream.flow import Party
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.requests import Requests
from cms.xmlstream.stanza import Slice, Stanza
from cms.xmlstream.wire import StreamHandler, Wire
from cms.xmpp.componentpolicy import ComponentPolicy, ComponentRecord
from cms.xmpp.forward import A_TURN, Forwarder
from cms.xmpp.registry import Registry


class ComponentLink(Party, StreamHandler):
    """
    The link of one component; a L{Link<cms.xmpp.links.Link>} whose stream ends here.

    @ivar component: Its address.
    @ivar mechanisms: The SASL mechanisms it decides; none for a component that
        is no Callbridge.
    @ivar no_authority: Why it decides no log-ins, once that is known.
    @ivar secret: The secret that it proved.
    @ivar wire: What it speaks over.
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
        self.secret = secret
        self.mechanisms: tuple[str, ...] = ()
        self.no_authority: StepError | None = None
        self.link_id = record.link_id
        self.evidence = record.evidence
        self.certificate_expires = record.certificate_expires
        self.peer_text = wire.peer_text
        self.since = record.time.now
        self.answers_pings = False
        self.requests = Requests(policy.clock, self.send, own=policy.domain)
        self._record = record
        self._forwarder = Forwarder(
            policy.router, self, self.component, owns=self._owns, general=self._route
        )
        self._keepalive = Keepalive(
            policy.clock,
            wire,
            ping=self._ping,
            interval=policy.settings.ping_interval,
            timeout=policy.settings.ping_timeout,
            dead=self._silent,
        )

    def begin(self) -> None:
        """Step 10 is done: the link is active."""
        wire, record = self.wire, self._record
        wire.take_over(self, self)
        wire.set_deadline(None)
        wire.on_trusted()
        wire.splice(limits.COMPONENT)
        wire.write(b"<handshake/>")
        shown = {"peer": self.peer_text, "component": self.component}
        record.attempt.begin(Step.ACTIVE, self.since, **shown)
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

    # what it has carried

    @property
    def bytes_received(self) -> int:
        """See L{Wire}."""
        return self.wire.bytes_received

    @property
    def bytes_sent(self) -> int:
        """See L{Wire}."""
        return self.wire.bytes_sent

    @property
    def stanzas_received(self) -> int:
        """See L{Wire}."""
        return self.wire.stanzas_received

    @property
    def stanzas_sent(self) -> int:
        """See L{Wire}."""
        return self.wire.stanzas_sent

    # from the wire

    def stanza_received(self, stanza: Stanza) -> None:
        """Route a stanza that was read into a tree."""
        if (stanza.uri, stanza.name) == (ns.STREAMS, "error"):
            self.wire.peer_failed(stanza.element)
        else:
            self._route(stanza)

    def slices_received(self, slices: list[Slice]) -> list[Slice]:
        """See L{StreamHandler.slices_received}."""
        self._forwarder.most = self.a_turn
        return self._forwarder.forward(slices)

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
        told = type(problem).__name__
        self._record.refused(faults.INTERNAL.at(Step.ACTIVE).error(problem=told))

    def shut_down(self) -> None:
        """The server stops."""
        self.wire.close(StreamError("system-shutdown"))

    def stream_closing(self) -> None:
        """Nothing can be delivered any more: forget the link, and give back what waits for it."""
        waiting = self.take_stanzas()
        run_all(
            self.log,
            self.peer_text,
            self.leave,
            self._keepalive.stop,
            partial(self.policy.router.forget, self),
            partial(self.policy.links.down, self),
            self.requests.lost,
            partial(self.policy.undelivered.add, waiting),
        )

    def stream_lost(self, reason: Failure) -> None:
        """Log that the link is gone."""
        why = reason.getErrorMessage()
        run_all(
            self.log,
            self.peer_text,
            partial(self._tell_end, why),
            partial(self._end_attempt, why),
        )
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

    def _end_attempt(self, why: str) -> None:
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
        self.wire.close(error)

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
            self.wire.close(StreamError("unsupported-stanza-type"))

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
        self.wire.close(StreamError("conflict", text="replaced by a newer connection"))
        self.wire.abort()

    def judge_secret(self) -> None:
        """The registry has changed: end a link whose secret is not accepted any more."""
        refusal = refusal_of(self.policy.registry, self.component, self.secret)
        if refusal is not None:
            self.refuse(*refusal)


def refusal_of(
    registry: Registry, component: str, secret: Secret
) -> tuple[StepError, StreamError] | None:
    """Why a component must be disconnected because of the secret that it proved, if so."""
    if registry.accepts(component, secret):
        return None
    if component in registry:
        fault = faults.LINK_SECRET_EXPIRED.error(component=component)
        return fault, StreamError("not-authorized", text="the secret has expired")
    fault = faults.LINK_DELETED.error(component=component)
    return fault, StreamError("host-gone", text="this component was deleted")
