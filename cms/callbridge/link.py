"""
The Callbridge's link: a machine whose states are the steps of the signal flow.

    idle -> finding -> resolving -> connecting -> registering -> active
             (3, 4)       (5)          (6)          (7 to 10)      (11)

From resolving, connecting and registering a failure leads to the next target,
and when there is none, to waiting; from active an end leads to waiting; from
waiting a new round begins.  A new configuration, or a stop, leads from
everywhere to halting, where the old connection ends.  docs/link-states.md has
the whole table.

One round is one L{Attempt}: it records each step that was tried, with its
evidence, and how it failed.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from attrs import define, field
from automat import TypeMachineBuilder
from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from cms import errors
from cms.callbridge.config import LinkSettings, Timing
from cms.callbridge.registration import ComponentRegistration
from cms.discovery.places import Found, Target, configured_target
from cms.errors import CredentialsRefused
from cms.signalflow import Attempt, AttemptHistory, Step, StepError, StepRecord
from cms.xmlstream.stanza import Stanza

AT_ONCE = 0.2  # seconds at the most, so that many Callbridges do not come in step
PROVEN = 5.0  # seconds that a link must have lived for its end to be no flapping


class Places(Protocol):
    """Where targets and addresses come from: L{cms.discovery.places.Finder}."""

    def targets(self, domain: str) -> Deferred[Found]:
        """Step 4."""
        ...

    def addresses(self, target: Target) -> Deferred[Found]:
        """Step 5."""
        ...


class Connector(Protocol):
    """Step 6: a stream to one of a target's addresses."""

    def connect(
        self, link: LinkCore, settings: LinkSettings, target: Target, addresses: tuple[str, ...]
    ) -> Deferred[tuple[ComponentRegistration, str]]:
        """Fires with the stream and the address; fails with C{ConnectError}."""
        ...


class Traffic(Protocol):
    """Who speaks over an active link."""

    def link_up(self, stream: ComponentRegistration) -> None:
        """The link is active."""

    def link_down(self) -> None:
        """It has ended."""

    def received(self, stanza: Stanza) -> None:
        """The server sent a stanza."""


class _Events(Protocol):
    """What moves the machine."""

    def begin(self) -> None:
        """Begin a round."""

    def found(self) -> None:
        """Steps 3 and 4 are done: there is a target to try."""

    def resolved(self, found: Found) -> None:
        """Step 5 is done: it has addresses."""

    def connected(self, stream: ComponentRegistration) -> None:
        """Step 6 is done."""

    def registered(self) -> None:
        """Step 10 is done."""

    def try_next(self) -> None:
        """This target failed and there is another."""

    def rest(self) -> None:
        """Nothing is left to try in this round, or the link ended."""

    def halt(self) -> None:
        """End whatever is under way."""

    def halted(self) -> None:
        """Nothing is under way any more, and no round follows."""


@define(eq=False)
class LinkCore:
    """
    What the machine works on; use L{Link}.

    @ivar failures: Rounds that failed since the link was last stable.
    @ivar refusals: Rounds in a row in which ID or secret were refused.
    @ivar flaps: Links in a row that ended as soon as they were up.
    """

    clock: IReactorTime
    places: Places
    connector: Connector
    traffic: Traffic
    timing: Timing
    random: Random
    settings: LinkSettings
    history: AttemptHistory = field(factory=AttemptHistory)
    log: Logger = field(factory=Logger)
    events: _Events = field(init=False)
    attempt: Attempt = field(init=False)
    targets: list[Target] = field(factory=list)
    target: Target | None = None
    stream: ComponentRegistration | None = None
    pending: Deferred[Any] | None = None
    timer: IDelayedCall | None = None
    failures: int = 0
    refusals: int = 0
    flaps: int = 0
    since: float | None = None
    stopping: bool = False
    stopped: list[Deferred[None]] = field(factory=list)
    last_end: StepError | None = None

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock.seconds()

    @property
    def state(self) -> str:
        """What it is doing, for people."""
        if self.since is not None:
            return "active"
        if self.timer is not None:
            return "waiting"
        running = self.history.last.running if self.history.last is not None else None
        return "stopped" if running is None else running.step.title

    # steps 2 to 4

    def find(self) -> None:
        """Begin a round: which targets are there?"""
        settings = self.settings
        self.timer = self.last_end = None
        self.attempt = self.history.begin(self.now, self.report)
        shown = {"domain": settings.domain, "component": settings.component}
        self.attempt.once(Step.CONFIGURATION, self.now, **shown)
        if settings.server is not None:
            target = configured_target(settings.server)
            self.attempt.once(Step.PORT, self.now, server=str(target))
            self._found(Found(targets=(target,)))
            return
        self.attempt.once(Step.PORT, self.now, server="blank, so SRV decides")
        self.attempt.begin(Step.SRV, self.now)
        self._await(self.places.targets(settings.ascii_domain), self._found)

    def _found(self, found: Found) -> None:
        self._pass(found)
        self.targets = list(found.targets)
        self.events.found()

    # step 5

    def resolve(self) -> None:
        """Look up the next target's addresses."""
        self.target = self.targets.pop(0)
        self.attempt.begin(Step.ADDRESS, self.now, target=str(self.target))

        def resolved(found: Found) -> None:
            self._pass(found)
            self.events.resolved(found)

        self._await(self.places.addresses(self.target), resolved)

    # step 6

    def connect(self, found: Found) -> None:
        """Race for a connection."""
        target = self.target
        assert target is not None  # noqa: S101 - resolved before
        self.attempt.begin(Step.CONNECT, self.now, target=str(target))

        def connected(result: tuple[ComponentRegistration, str]) -> None:
            stream, address = result
            self.attempt.passed(self.now, address=address, port=str(target.port))
            self.events.connected(stream)

        connecting = self.connector.connect(self, self.settings, target, found.addresses)
        self._await(connecting, connected)

    def _await(self, pending: Deferred[Any], then: Callable[[Any], None]) -> None:
        """Wait for a step that can be cancelled."""
        self.pending = pending

        def done(result: Any) -> Any:
            if self.pending is pending:
                self.pending = None
            return result

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError):
                return
            error = failure.value
            if not isinstance(error, StepError):
                self.log.failure("unexpected error in {step}", failure, step=self.attempt.reached)
                error = errors.INTERNAL.error(problem=type(error).__name__)
            self.fail(error)

        pending.addBoth(done).addCallback(then).addErrback(failed)

    def _pass(self, found: Found) -> None:
        running = self.attempt.running
        if running is not None:
            running.warnings.extend(found.warnings)
            self.attempt.passed(self.now, **found.evidence)

    # steps 7 to 10, reported by the stream

    def register(self, stream: ComponentRegistration) -> None:
        """TCP is connected: TLS and registration follow."""
        self.stream = stream
        self.attempt.begin(Step.TLS, self.now)
        if self.settings.unprotected:
            self.log.warn(
                "attempt {n}: tls.unprotected: NO TLS on this link", n=self.attempt.number
            )
        stream.begin()

    def stage_passed(self, step: Step, evidence: dict[str, str]) -> None:
        """From the stream: a step is done, and the next one begins."""
        running = self.attempt.running
        if running is None or running.step is not step:
            self.attempt.begin(step, self.now)
        if step is Step.TLS and self.settings.unprotected:
            running = self.attempt.running
            if running is not None:
                running.warnings.append("tls.unprotected is set: this link has no TLS")
        self.attempt.passed(self.now, **evidence)
        if step in (Step.IDENTITY, Step.REGISTER) or "NONE" in evidence.get("protocol", ""):
            following = Step.REGISTERED if step is Step.REGISTER else Step.REGISTER
            self.attempt.begin(following, self.now)

    def registration_failed(self, error: StepError) -> None:
        """From the stream: it ended before it was registered."""
        self.stream = None
        self.fail(error)

    def registered(self) -> None:
        """From the stream: step 10 is done."""
        self.events.registered()

    # step 11

    def celebrate(self) -> None:
        """The link is active."""
        self.since = self.now
        self.refusals = 0
        peer = self.stream.peer if self.stream is not None else ""
        self.attempt.begin(Step.ACTIVE, self.now, peer=peer)
        if self.stream is not None:
            self.traffic.link_up(self.stream)

    def received(self, stanza: Stanza) -> None:
        """From the stream."""
        self.traffic.received(stanza)

    def link_ended(self, error: StepError) -> None:
        """From the stream: it had been registered."""
        self.stream = None
        self.last_end = error
        self.attempt.failed(self.now, error)
        self._down()
        self.events.rest()

    def _down(self) -> None:
        if self.since is not None:
            if self.now - self.since >= self.timing.stable:
                self.failures = 0
            self.traffic.link_down()

    # failure and rest

    def fail(self, error: StepError) -> None:
        """This target failed: the next one, unless no target could help."""
        self.attempt.failed(self.now, error)
        refused = isinstance(error, CredentialsRefused)
        if refused:
            self.refusals += 1
        if self.targets and not refused:
            self.events.try_next()
        else:
            self.last_end = error
            self.events.rest()

    def rest(self) -> None:
        """Wait before the next round, for as long as the failure deserves."""
        delay = self._delay()
        self.since = None
        self.log.info("next attempt in {delay:.1f} s", delay=delay)
        self.timer = self.clock.callLater(delay, self.events.begin)

    def _delay(self) -> float:
        timing, draw = self.timing, self.random.random
        if isinstance(self.last_end, CredentialsRefused):
            policy = backoffPolicy(timing.refused_delay, timing.most_refused_delay, 2.0, draw)
            return float(policy(self.refusals - 1))
        policy = backoffPolicy(timing.first_delay, timing.most_delay, 2.0, draw)
        if self.since is not None:
            # A link that had been up is sought again at once, elsewhere if need
            # be; one that ends again and again as soon as it is up is not.
            self.flaps = 0 if self.now - self.since >= PROVEN else self.flaps + 1
            return draw() * AT_ONCE if self.flaps < 2 else float(policy(self.flaps - 2))
        self.failures += 1
        return float(policy(self.failures - 1))

    # the end

    def halt(self) -> None:
        """End what is under way, then begin anew or stay stopped."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = None
        if self.pending is not None:
            self.pending.cancel()
        self.pending = None
        if self.since is not None:
            self.attempt.passed(self.now, ended="by this side")
            self._down()
            self.since = None
        elif self.history.last is not None:
            self.history.last.abandoned(self.now)
        self.targets = []
        stream, self.stream = self.stream, None
        if stream is None:
            self._settle(None)
        else:
            stream.ended.addBoth(self._settle)
            stream.quit()

    def _settle(self, _: object) -> None:
        if self.stopping:
            self.events.halted()
            waiting, self.stopped = self.stopped, []
            for waiter in waiting:
                waiter.callback(None)
        else:
            self.failures = self.refusals = self.flaps = 0
            self.events.begin()

    def report(self, attempt: Attempt, record: StepRecord) -> None:
        """Log a step as it ends, and step 11 as it begins."""
        active = record.step is Step.ACTIVE and record.result == "running"
        if record.result in ("running", "skipped") and not active:
            return
        fields = {
            "attempt": attempt.number,
            "step": int(record.step),
            "step_text": str(record.step),
            "result": record.result,
            "seconds": record.seconds or 0.0,
            "evidence": dict(record.evidence),
            "shown": ", ".join(f"{k} {v}" for k, v in record.evidence.items()),
        }
        if active:
            self.log.info("attempt {attempt}: {step_text}: the link is up ({shown})", **fields)
        elif record.failure is not None:
            failure = record.failure
            self.log.warn(
                "attempt {attempt}: {step_text} FAILED: {cause} Cure: {cure}",
                cause=failure.cause,
                cure=failure.cure,
                fault=failure.fault,
                **fields,
            )
        else:
            self.log.info(
                "attempt {attempt}: {step_text} passed in {seconds:.3f} s ({shown})", **fields
            )
        for warning in record.warnings if record.result == "passed" else ():
            self.log.warn("attempt {attempt}: {step_text}: {doubt}", doubt=warning, **fields)


class Link:
    """
    The link as its owner sees it.

    @ivar history: The last attempts, oldest first.
    """

    def __init__(self, core: LinkCore) -> None:
        self._core = core
        core.events = _machine(core)
        self.history = core.history
        self._started = False

    def start(self) -> None:
        """Begin, and never give up until L{stop}."""
        if not self._started:
            self._started = True
            self._core.stopping = False
            self._core.events.begin()

    def stop(self) -> Deferred[None]:
        """
        End the link properly.

        @return: Fires when nothing is open any more.
        """
        if not self._started:
            return succeed(None)
        self._started = False
        stopped: Deferred[None] = Deferred()
        self._core.stopped.append(stopped)
        self._core.stopping = True
        self._core.events.halt()
        return stopped

    def configure(self, settings: LinkSettings) -> None:
        """Use other settings from now on: what is under way ends, a new round begins."""
        self._core.settings = settings
        if self._started:
            self._core.events.halt()

    def status(self) -> dict[str, Any]:
        """State, step, peer, since when, and the last failure, as plain data."""
        core, last = self._core, self.history.last
        failure = next((a.failure for a in reversed(list(self.history)) if a.failure), None)
        return {
            "state": core.state,
            "step": int(last.reached) if last is not None else 0,
            "component": core.settings.component,
            "peer": core.stream.peer if core.stream is not None else None,
            "since": core.since,
            "unprotected": core.settings.unprotected,
            "lastFailure": failure.as_dict() if failure is not None else None,
        }


def _make_machine() -> Callable[[LinkCore], _Events]:
    machine = TypeMachineBuilder(_Events, LinkCore)
    idle = machine.state("idle")
    finding = machine.state("finding")
    resolving = machine.state("resolving")
    connecting = machine.state("connecting")
    registering = machine.state("registering")
    active = machine.state("active")
    waiting = machine.state("waiting")
    halting = machine.state("halting")

    halting.upon(_Events.halt).loop().returns(None)
    halting.upon(_Events.halted).to(idle).returns(None)

    @idle.upon(_Events.begin).to(finding)
    @waiting.upon(_Events.begin).to(finding)
    @halting.upon(_Events.begin).to(finding)
    def find(events: _Events, core: LinkCore) -> None:
        core.find()

    @finding.upon(_Events.found).to(resolving)
    @resolving.upon(_Events.try_next).to(resolving)
    @connecting.upon(_Events.try_next).to(resolving)
    @registering.upon(_Events.try_next).to(resolving)
    def resolve(events: _Events, core: LinkCore) -> None:
        core.resolve()

    @resolving.upon(_Events.resolved).to(connecting)
    def connect(events: _Events, core: LinkCore, found: Found) -> None:
        core.connect(found)

    @connecting.upon(_Events.connected).to(registering)
    def register(events: _Events, core: LinkCore, stream: ComponentRegistration) -> None:
        core.register(stream)

    @registering.upon(_Events.registered).to(active)
    def celebrate(events: _Events, core: LinkCore) -> None:
        core.celebrate()

    @finding.upon(_Events.rest).to(waiting)
    @resolving.upon(_Events.rest).to(waiting)
    @connecting.upon(_Events.rest).to(waiting)
    @registering.upon(_Events.rest).to(waiting)
    @active.upon(_Events.rest).to(waiting)
    def rest(events: _Events, core: LinkCore) -> None:
        core.rest()

    @idle.upon(_Events.halt).to(halting)
    @finding.upon(_Events.halt).to(halting)
    @resolving.upon(_Events.halt).to(halting)
    @connecting.upon(_Events.halt).to(halting)
    @registering.upon(_Events.halt).to(halting)
    @active.upon(_Events.halt).to(halting)
    @waiting.upon(_Events.halt).to(halting)
    def halt(events: _Events, core: LinkCore) -> None:
        core.halt()

    return machine.build()


_machine = _make_machine()
