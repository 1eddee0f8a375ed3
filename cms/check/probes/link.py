"""Steps 6 to 11 at one target, with the Callbridge's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from cms import faults
from cms.audit.certificate import chain_evidence, chain_warnings, name_warnings
from cms.audit.clock import judge_clock
from cms.callbridge.link.connector import verification_for
from cms.callbridge.link.registration import ComponentRegistration, unserved
from cms.callbridge.link.servername import fits_under
from cms.check.bounds import explained
from cms.check.lane import Lane, Waiting
from cms.check.probes.clock import PATIENCE, ask_time
from cms.check.probes.port import what_listens
from cms.check.subject import Subject
from cms.discovery.lookup import Target
from cms.discovery.race import Race, reach
from cms.process.clocks import wall_clock
from cms.signalflow import Step, StepError
from cms.trust.client import ServerVerification
from cms.trust.facts import CertificateFacts
from cms.trust.identity import check_identity
from cms.xmlstream import ns
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.requests import RequestLost
from cms.xmlstream.stanza import Stanza

TURN_SHARE = 0.25  # of a stage that a server may take before the next registers beside it


def _shares_links(start: StreamStart) -> bool:
    """
    Whether the server accepts a second link for one address and distributes stanzas
    between the two, as ejabberd does.  Only ejabberd has numbers as stream ids.
    """
    stream_id = start.get("id") or ""
    return start.default_namespace == ns.COMPONENT and len(stream_id) > 9 and stream_id.isdigit()


def _result_or_error(result: Any) -> Any:
    return result.value if isinstance(result, Failure) else result


class _Registration(ComponentRegistration):
    """A stream that waits for its turn before it registers."""

    turn: DeferredLock
    at_any_price: bool
    is_up: bool
    _has_turn = False
    spared = False  # it did not register, because that could disturb a link

    def stream_started(self, start: StreamStart) -> None:
        """
        Register, unless that would disturb a link that is up, or the server would send us a
        part of that link's stanzas.
        """
        if (_shares_links(start) or self.is_up) and not self.at_any_price:
            self.spared = True
            self.registrant.stage_passed({"component": self.settings.component})
            self.quit()
        else:
            super().stream_started(start)

    def _open(self) -> None:
        if not self.registers:
            super()._open()
            return
        self.set_deadline(None)
        self.turn.acquire().addCallback(self._go)

    def _go(self, _: object) -> None:
        if self.closing:
            self.turn.release()
            return
        self._has_turn = True
        self.later(TURN_SHARE * self.timing.stage, self._pass_turn)
        super()._open()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let the next target register."""
        super().connectionLost(reason)
        self._pass_turn()

    def _pass_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self.turn.release()


@frozen
class Tools:
    """
    What the probes of one check share.

    @ivar waiting: Called for each wait that begins, with its limit in seconds.
    @ivar at_any_price: Register even if that could disturb a link that is up.
    @ivar linked: The target to which the Callbridge's link is up, as its daemon says.
    @ivar turn: Registrations are made one after the other.
    """

    reactor: Any
    subject: Subject
    context: SSL.Context
    waiting: Waiting
    at_any_price: bool = False
    linked: str = ""
    turn: DeferredLock = field(factory=DeferredLock)


class LinkProbe:
    """
    One target's part of the walk; it is the L{Registrant} of its stream.

    @param registers: Whether to go on to steps 9 to 11.
    """

    def __init__(self, tools: Tools, target: Target, lane: Lane, *, registers: bool) -> None:
        self.reactor = tools.reactor
        self.subject = tools.subject
        self.target = target
        self.lane = lane
        self.peer = str(target)
        self._context = tools.context
        self._waiting = tools.waiting
        self._registers = registers
        self._turn = tools.turn
        self._at_any_price = tools.at_any_price
        self._is_up = tools.linked == self.peer
        self._step = Step.CONNECT
        self._began = 0.0
        self._stream: _Registration | None = None
        self._outcome: Deferred[StepError | None] = Deferred()
        self._address = ""

    @property
    def address(self) -> str:
        """The address that accepted the connection; empty if none did."""
        return self._address

    async def run(self, addresses: Sequence[str], *, others: bool = True) -> StepError | None:
        """
        Walk.

        @param others: Whether to try to connect to the other addresses too.
        @return: The failure, if there was one; it is already reported.
        """
        tried = addresses if others and len(addresses) > 1 else ()
        connecting = [Deferred.fromCoroutine(self._connects(address)) for address in tried]
        try:
            failure = await self._walk(addresses)
        except CancelledError:
            raise
        except Exception as broken:  # noqa: BLE001 - it is told, at the step of this target
            failure = self._fail(explained(broken, self._step))
        finally:
            results = [await each for each in connecting]
        if not self._address or self.target.host.endswith("localhost"):
            return failure
        for problem in results:
            if problem is not None:
                self._warn_dead(problem)
        return failure

    async def _walk(self, addresses: Sequence[str]) -> StepError | None:
        self._begin(Step.CONNECT)
        timeout = self.subject.timing.stage
        race = Race(self.reactor, self._make, addresses, self.target.port, timeout=timeout)
        try:
            stream, self._address = await race.run()
        except StepError as error:
            return self._fail(error)
        self._pass({"address": self._address, "port": str(self.target.port)})
        assert isinstance(stream, _Registration)  # noqa: S101 - from _make
        self._stream = stream
        stream.begin()
        failure = await self._outcome
        if failure is None:
            return None
        if failure.step is Step.TLS:
            failure = await what_listens(
                self.reactor,
                failure,
                address=self._address,
                port=self.target.port,
                domain=self.subject.link.ascii_domain,
                peer=self.peer,
            )
        return self._explain(failure)

    async def _connects(self, address: str) -> StepError | None:
        """Whether one address can be connected to."""
        timeout = self.subject.timing.stage
        return await reach(self.reactor, [address], self.target.port, timeout=timeout)

    def _warn_dead(self, problem: StepError) -> None:
        address = problem.evidence["address"]
        warning = faults.IPV6_DEAD if ":" in address else faults.ADDRESS_DEAD
        seen = {"host": self.target.host, "address": address, "problem": problem.cause.rstrip(".")}
        self.lane.warned(warning.error(**seen), self.peer)

    def _make(self) -> Protocol:
        link, files = self.subject.link, self.subject.files
        verification = verification_for(link, self.target, self._context, files)
        stream = _Registration(
            self.reactor,
            link,
            self.subject.timing,
            verification,
            self,
            peer=self.peer,
            presents=files.certificate is not None,
            registers=self._registers,
            look=self._shake_again,
        )
        stream.turn = self._turn
        stream.at_any_price = self._at_any_price
        stream.is_up = self._is_up
        return stream

    def _shake_again(
        self, verification: ServerVerification, address: str, port: int
    ) -> Deferred[bool]:
        timeout = self.subject.timing.stage
        looking = fits_under(self.reactor, verification, address, port, timeout)
        return Deferred.fromCoroutine(looking)

    # telling

    def _begin(self, step: Step) -> None:
        self._step = step
        self._began = self.reactor.seconds()
        self._waiting(step, self.peer, self.subject.timing.stage)

    @property
    def _seconds(self) -> float:
        return float(self.reactor.seconds() - self._began)

    def _pass(self, evidence: dict[str, str], note: str = "") -> None:
        self.lane.passed(self._step, self.peer, self._seconds, evidence, note)

    def _fail(self, error: StepError) -> StepError:
        evidence = self._chain_evidence(error.step)
        if self._address:
            evidence["address"] = self._address
        self.lane.failed(error, self.peer, self._seconds, evidence)
        return error

    @property
    def _chain(self) -> tuple[x509.Certificate, ...]:
        stream = self._stream
        if stream is None or stream.verification is None:
            return ()
        return stream.verification.verdict.chain

    @property
    def _path(self) -> tuple[x509.Certificate, ...]:
        stream = self._stream
        if stream is None or stream.verification is None:
            return ()
        return stream.verification.verdict.path

    def _chain_evidence(self, step: Step) -> dict[str, str]:
        return chain_evidence(self._chain) if step is Step.TLS else {}

    def _explain(self, failure: StepError) -> StepError | None:
        """Report a failure, with more evidence if a probe finds any."""
        if failure.fault == faults.ALREADY_CONNECTED.name:
            self._pass(failure.evidence, "already connected, which proves the secret")
            return None
        if failure.step is Step.IDENTITY and self._chain:
            evidence = {**self._leaf_evidence(), **chain_evidence(self._chain)}
            self.lane.passed(Step.TLS, self.peer, self._seconds, evidence)
            self._warn_of_tls(evidence)
        self._fail(failure)
        if failure.step is Step.TLS and self._chain:
            self._judge_identity()
        return failure

    def _judge_identity(self) -> None:
        """Check step 8 with the certificate of a failed handshake too."""
        leaf, link, target = self._chain[0], self.subject.link, self.target
        try:
            check_identity(
                leaf,
                domain=link.ascii_domain,
                host=target.host,
                host_is_ip=target.is_ip,
                peer=self.peer,
            )
        except StepError as error:
            if error.fault != faults.IDENTITY_MALFORMED.name:
                self.lane.failed(error, self.peer)
        else:
            note = "although step 7 failed, the names are right"
            self.lane.passed(Step.IDENTITY, self.peer, 0.0, {}, note)

    def _leaf_evidence(self) -> dict[str, str]:
        stream = self._stream
        if stream is None or stream.verification is None:
            return {}
        evidence = CertificateFacts.of(self._chain[0]).evidence()
        return {**stream.verification.verdict.agreed, **evidence}

    def _warn_of_tls(self, evidence: Mapping[str, str]) -> None:
        if evidence.get("protocol") == "TLSv1.2":
            self.lane.warned(faults.TLS_1_2_ONLY.error(peer=self.peer), self.peer)
        now = datetime.fromtimestamp(wall_clock(self.reactor)(), UTC)
        for warning in chain_warnings(self._chain, self._path, self.peer, now):
            self.lane.warned(warning, self.peer)

    def _warn_of_names(self) -> None:
        link, target = self.subject.link, self.target
        found = name_warnings(
            self._chain[0], domain=link.ascii_domain, host=target.host, peer=self.peer
        )
        for warning in found:
            self.lane.warned(warning, self.peer)

    # from the stream, as its Registrant

    def stage_begun(self, step: Step) -> None:
        """A step begins."""
        self._begin(step)

    def stage_passed(self, evidence: dict[str, str], *warnings: StepError) -> None:
        """It is done."""
        self._pass({**evidence, **self._chain_evidence(self._step)})
        for warning in warnings:
            self.lane.warned(warning, self.peer)
        if self._step is Step.TLS and self._chain:
            self._warn_of_tls(evidence)
        elif self._step is Step.IDENTITY and self._chain:
            self._warn_of_names()
        if self._stream is not None and self._stream.spared:
            note = (
                "this server would share a live link's stanzas with the check;"
                " --register does it all the same"
            )
            if self._is_up:
                note = "already connected, as the Callbridge says itself, which proves the secret"
                self.lane.passed(Step.REGISTERED, self.peer, 0.0, {}, note)
            else:
                self.lane.skipped(Step.REGISTERED, self.peer, note)
                self.lane.skipped(Step.ACTIVE, self.peer, note)
        last = Step.TLS if self.subject.link.unprotected else Step.IDENTITY
        spared = self._stream is not None and self._stream.spared
        if spared or (self._step is last and not self._registers):
            self._end(None)

    def registration_failed(self, error: StepError) -> None:
        """The stream ended before it was registered."""
        self._end(error)

    def registered(self) -> None:
        """Step 10 is done: examine the link, and disconnect."""
        self._begin(Step.ACTIVE)
        looking = Deferred.fromCoroutine(self._look())
        looking.addErrback(self._unexpected)

    async def _look(self) -> None:
        stream = self._stream
        assert stream is not None  # noqa: S101 - it has just registered
        link, timeout = self.subject.link, min(PATIENCE, self.subject.timing.stage)
        ping = request("get", link.component, link.domain, ping_payload())
        before = self.reactor.seconds()
        time = ask_time(stream.requests, link.component, link.domain, timeout)
        asking = Deferred.fromCoroutine(time)
        answer = await stream.requests.ask(ping, timeout).addBoth(_result_or_error)
        pinged = self.reactor.seconds() - before
        told = await asking
        if self._outcome.called or isinstance(answer, RequestLost):
            return  # the stream itself reports the end of the link
        if isinstance(answer, DeferredTimeout):
            self._end(faults.LINK_SILENT.error(peer=self.peer, seconds=f"{timeout:g}"))
            stream.quit()
            return
        useless = unserved(answer, peer=self.peer, domain=link.domain)
        if useless is not None:
            self._end(useless)
            stream.quit()
            return
        evidence = {"ping": f"{pinged * 1000:.1f} ms"}
        if told is not None:
            evidence["server_time"] = told.isoformat()
        self._pass(evidence, "registered, and let go again")
        if told is not None:
            warning = judge_clock(told, wall_clock(self.reactor)(), self.peer)
            if warning is not None:
                self.lane.warned(warning, self.peer)
        stream.quit()
        await stream.ended
        self._end(None)

    def received(self, stanza: Stanza) -> None:
        """Ignore other stanzas."""

    def resumed(self) -> None:
        """Never: it resumes nothing."""

    def not_resumed(self) -> None:
        """Never: it resumes nothing."""

    def link_broken(self, error: StepError) -> None:
        """For the probe this is the end."""
        self.link_ended(error)

    def link_ended(self, error: StepError) -> None:
        """The server ended the link as soon as it was up."""
        self._end(error)

    def _unexpected(self, failure: Failure) -> None:
        self._end(explained(failure.value, self._step))
        if self._stream is not None:
            self._stream.quit()

    def _end(self, outcome: StepError | None) -> None:
        if not self._outcome.called:
            self._outcome.callback(outcome)
