"""
The actions of the link's state machine, and the record of its attempts.

L{cms.callbridge.link.machine} has the machine itself.
L{cms.callbridge.link.comeback} has what is known of a link that is to be resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from cms import faults
from cms.callbridge.config import LinkSettings
from cms.callbridge.link.backoff import Backoff
from cms.callbridge.link.comeback import Comeback
from cms.callbridge.link.inputs import Connector, Discovery, Inputs, Traffic
from cms.callbridge.link.managedstream import Left
from cms.callbridge.link.registration import ComponentRegistration
from cms.callbridge.link.steplog import log_step
from cms.discovery.failedaddresses import FailedAddresses
from cms.discovery.lookup import Found, Target, configured_target
from cms.linkprotocol import login as lp
from cms.process.cleanup import call_all
from cms.process.clocks import Timeline
from cms.process.logs import Logger
from cms.signalflow import Attempt, AttemptHistory, Step, StepError, StepObserver, StepRecord
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.requests import RequestLost
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.traffic import Traffic as Carried

TOLD_AT_FIRST = 10  # attempts that fail alike before further ones are logged seldom
TOLD_AGAIN = 60.0  # seconds
SELDOM = "; while it fails alike it is tried as before, and told once a minute"


@define(eq=False)
class LinkCore:
    """
    The core of the machine.  Its owner uses L{cms.callbridge.link.machine.Link}.

    @ivar wanted: Whether the owner wants a link (between start and stop).
    @ivar halting: Whether the old connection is ending.
    @ivar address: The address of the target that the stream is connected to.
    @ivar failed: Addresses that failed after they accepted a connection.
    @ivar up: When the link registered, in seconds since the epoch.
    @ivar since: When it became active.
    @ivar asked: The ping whose answer makes it active.
    @ivar next_at: When the next attempt begins, while it waits, in seconds since the epoch.
    @ivar same: Attempts in a row that ended with the same failure.
    @ivar stopped: Deferreds that fire when everything has ended.
    @ivar on_step: Called with each record of an attempt that begins or ends.
    @ivar on_rest: Called at the end of an attempt or a link, before the next wait, with
        the failure of the attempt, or C{None} after a link.
    @ivar comeback: The way back of a link whose connection was lost.
    @ivar streams: Connections that are open or ending.
    @ivar carried: The traffic of the connections that have ended.
    """

    clock: IReactorTime
    discovery: Discovery
    connector: Connector
    traffic: Traffic
    backoff: Backoff
    settings: LinkSettings
    history: AttemptHistory = field(factory=AttemptHistory)
    log: Logger = field(factory=Logger)
    inputs: Inputs = field(init=False)
    attempt: Attempt = field(init=False)
    wanted: bool = False
    halting: bool = False
    targets: list[Target] = field(factory=list)
    target: Target | None = None
    address: str = ""
    failed: FailedAddresses = field(factory=FailedAddresses)
    stream: ComponentRegistration | None = None
    pending: Deferred[Any] | None = None
    timer: IDelayedCall | None = None
    up: float | None = None
    since: float | None = None
    asked: Deferred[Stanza] | None = None
    next_at: float = 0.0
    same: int = 0
    stopped: list[Deferred[None]] = field(factory=list)
    last_end: StepError | None = None
    on_step: list[StepObserver] = field(factory=list)
    on_rest: list[Callable[[StepError | None], object]] = field(factory=list)
    comeback: Comeback = field(init=False)
    streams: set[ComponentRegistration] = field(factory=set)
    carried: Carried = field(factory=Carried)
    _time: Timeline = field(init=False)
    _last: StepError | None = None  # how the attempt before this one failed
    _dull: bool = False  # the attempt fails like those before: it is not logged
    _logged: float = 0.0  # when an attempt was last logged

    def __attrs_post_init__(self) -> None:
        self._time = Timeline(self.clock)
        self.comeback = Comeback(self.clock)

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._time.now

    @property
    def state(self) -> str:
        """What it is doing, for people: the step's name, or one of five words."""
        if self.halting:
            return "ending"
        if self.comeback.stream is not None:
            return "resuming"
        if self.since is not None:
            return "active"
        if self.up is not None:
            return "registered"
        if self.timer is not None:
            return "waiting"
        running = self.history.last.running if self.history.last is not None else None
        return "stopped" if running is None else running.step.title

    # steps 2 to 4

    def find(self) -> None:
        """Begin an attempt: find the targets."""
        settings = self.settings
        self.timer = self.last_end = None
        self.targets = []  # forget those that the last attempt did not reach
        self.target, self.address = None, ""
        self._time.restart()
        self._judge_dullness()
        self.attempt = self.history.begin(self.now, self._report)
        shown = {"domain": settings.domain, "component": settings.component}
        self.attempt.once(Step.CONFIGURATION, self.now, **shown)
        if settings.server is not None:
            target = configured_target(settings.server)
            self.attempt.once(Step.PORT, self.now, server=str(target))
            self._found(Found(targets=(target,)))
            return
        self.attempt.once(Step.PORT, self.now, server="blank, so SRV decides")
        self.attempt.begin(Step.SRV, self.now)
        self._await(self.discovery.targets(settings.ascii_domain), self._found)

    def _found(self, found: Found) -> None:
        self._pass(found)
        self.targets = list(found.targets)
        self.inputs.found()

    # step 5

    def resolve(self) -> None:
        """Look up the next target's addresses."""
        self.target, self.address = self.targets.pop(0), ""
        self.attempt.begin(Step.ADDRESS, self.now, target=str(self.target))

        def resolved(found: Found) -> None:
            self._pass(found)
            self.inputs.resolved(found)

        self._await(self.discovery.addresses(self.target), resolved)

    # step 6

    def connect(self, found: Found) -> None:
        """Connect to the first address that answers."""
        target = self.target
        assert target is not None  # noqa: S101 - resolved before
        self.attempt.begin(Step.CONNECT, self.now, target=str(target))

        def connected(result: tuple[ComponentRegistration, str]) -> None:
            stream, self.address = result
            self.attempt.passed(self.now, address=self.address, port=str(target.port))
            self.inputs.connected(stream)

        first, last = self.failed.divide(target, found.addresses)
        connecting = self.connector.connect(self, self.settings, target, first, last)
        self._await(connecting, connected)

    def _await(self, pending: Deferred[Any], then: Callable[[Any], None]) -> None:
        """Wait for a step.  If L{halt} cancels it, C{then} is not called."""
        self.pending = pending

        def passed(result: Any) -> None:
            self.pending = None
            then(result)

        def failed(failure: Failure) -> None:
            if self.pending is pending:
                self.pending = None
                self.fail(self._explain(failure))

        pending.addCallbacks(passed, failed)
        pending.addErrback(lambda failure: self.fail(self._explain(failure)))
        pending.addErrback(lambda failure: self.log.failure("the link is stuck", failure))

    def _explain(self, failure: Failure) -> StepError:
        if isinstance(failure.value, StepError):
            return failure.value
        step = self.attempt.current
        self.log.failure("unexpected error in {step}", failure, step=step)
        return faults.INTERNAL.at(step).error(problem=type(failure.value).__name__)

    def _pass(self, found: Found) -> None:
        running = self.attempt.running
        if running is not None:
            running.warnings.extend(warning.cause for warning in found.warnings)
            self.attempt.passed(self.now, **found.evidence)

    # steps 7 to 10, reported by the stream

    def register(self, stream: ComponentRegistration) -> None:
        """TCP is connected: TLS and registration follow."""
        self.stream = stream
        self.streams.add(stream)
        self.comeback.prepare(stream)
        stream.ended.addCallback(lambda _: self._forget(stream))
        stream.begin()

    def _forget(self, stream: ComponentRegistration) -> None:
        self.streams.discard(stream)
        self.carried.add(stream)

    def stage_begun(self, step: Step) -> None:
        """From the stream."""
        self.attempt.begin(step, self.now)

    def stage_passed(self, evidence: dict[str, str], *warnings: StepError) -> None:
        """From the stream: the step that it began is done."""
        self._pass(Found(evidence=evidence, warnings=warnings))

    def registration_failed(self, error: StepError) -> None:
        """From the stream: it ended before it was registered."""
        self.stream = None
        self.fail(error)

    def registered(self) -> None:
        """From the stream: step 10 is done."""
        self.inputs.registered()

    # step 11

    def confirm(self) -> None:
        """
        Step 10 is done, so stanzas may flow.  Wait until the server knows our mechanisms,
        if it asks for them.  It reads in order, so its answer to a ping that we send after
        them shows that it has read them.  A server that wants them asks before it answers
        the first ping.
        """
        stream = self.stream
        assert stream is not None  # noqa: S101 - it has just registered
        self.up = self.now
        self.comeback.take_left()
        self.traffic.sent_before(stream, stream.again)
        self.traffic.link_up(stream)
        self._ask(stream)

    def _ask(self, stream: ComponentRegistration) -> None:
        def answered(result: Stanza | Failure) -> None:
            stream.judge_domain(result)
            if self.asked is asked:  # no other ping was sent after it
                self.asked = None
                if not (isinstance(result, Failure) and result.check(RequestLost)):
                    self.inputs.confirmed()  # also after an error, or silence

        settings = self.settings
        ping = request("get", settings.component, settings.domain, ping_payload())
        self.asked = asked = stream.requests.ask(ping, self.backoff.timing.stage)
        asked.addBoth(answered)

    def celebrate(self) -> None:
        """The link is active."""
        stream = self.stream
        assert stream is not None  # noqa: S101 - it has just answered
        self.since = self.now
        self.same, self._last, self._dull = 0, None, False
        self.attempt.begin(Step.ACTIVE, self.now, peer=stream.peer)
        if self.target is not None:
            self.failed.forgive(self.target, self.address)

    def received(self, stanza: Stanza) -> None:
        """From the stream."""
        self.traffic.received(stanza)
        if self.asked is not None and self.stream is not None and self._is_question(stanza):
            self._ask(self.stream)

    def _is_question(self, stanza: Stanza) -> bool:
        """Whether the server itself asked for the mechanisms; the answer is already sent."""
        is_ours = stanza.is_request and stanza.sender == self.settings.domain
        return is_ours and stanza.payload == (lp.NS, "mechanisms")

    # the connection is lost, and the link not (docs/link-management.md)

    def link_broken(self, error: StepError) -> None:
        """From the stream: the link that had been registered can be resumed."""
        if self.since is None or self.stream is None:
            self.link_ended(error)
            return
        self.comeback.begin(self.stream)
        self.stream = self.since = None
        self.attempt.failed(self.now, error)
        self.inputs.broken()

    def come_back(self) -> None:
        """Connect to the same server and address, at once the first time."""
        self.timer = self.clock.callLater(self.comeback.delay(), self._try_again)

    def _try_again(self) -> None:
        self.timer = None
        self._time.restart()
        self.attempt = self.history.begin(self.now, self._report)
        shown = {"domain": self.settings.domain, "component": self.settings.component}
        self.attempt.once(Step.CONFIGURATION, self.now, **shown)
        found = Found(addresses=(self.address,), evidence={"address": self.address})
        self.attempt.once(Step.ADDRESS, self.now, target=str(self.target), resumes="yes")
        self.inputs.resolved(found)

    def resumed(self) -> None:
        """From the stream: the link goes on."""
        self.inputs.resumed()

    def restore(self) -> None:
        """The link is active again."""
        stream = self.stream
        assert stream is not None  # noqa: S101 - it has just resumed
        self.since = self.now
        self.comeback.restored()
        self.attempt.begin(Step.ACTIVE, self.now, peer=stream.peer, resumed=stream.link_id)

    def not_resumed(self) -> Left | None:
        """From the stream: the server has ended the link; a new one follows."""
        self._give_up()
        return self.comeback.take_left()

    def _give_up(self) -> None:
        old = self.comeback.give_up()
        if old is not None:
            self.up = None
            self.traffic.link_down()
            self.comeback.end(old)

    def link_ended(self, error: StepError) -> None:
        """From the stream: it had been registered."""
        ended, self.stream = self.stream, None
        self.last_end = error
        self.attempt.failed(self.now, error)
        self.traffic.link_down()
        if ended is not None:
            self.comeback.end(ended)
        self.inputs.rest()

    # failure and rest

    def fail(self, error: StepError) -> None:
        """This target failed: try the next one, unless no target could help."""
        if self.target is not None:
            error.evidence.setdefault("target", str(self.target))
        if self.comeback.stream is not None:
            self._fail_to_resume(error)
            return
        if self.target is not None and self.address:
            error.evidence.setdefault("address", self.address)
            if not isinstance(error, faults.CredentialsRefused):
                self.failed.note(self.target, self.address)
        self.attempt.failed(self.now, error)
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.quit()
        if self.targets and not isinstance(error, faults.CredentialsRefused):
            self.inputs.try_next()
        else:
            self.last_end = error
            self.inputs.rest()

    def _fail_to_resume(self, error: StepError) -> None:
        self.attempt.failed(self.now, error)
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.quit()
        if self.comeback.goes_on(error):
            self.inputs.again()
            return
        up = self.up
        self._give_up()
        self.up = up  # it was a link that has ended now
        self.last_end = error
        self.inputs.rest()

    def rest(self) -> None:
        """Wait before the next attempt; the failure decides how long."""
        failure = self.last_end if self.up is None else None
        if self.up is not None:
            delay = self.backoff.after_link(self.now - self.up)
        elif self._was_unreachable():
            delay = self.backoff.after_silence()
        elif isinstance(self.last_end, faults.CredentialsRefused):
            delay = self.backoff.after_refusal()
        else:
            delay = self.backoff.after_failure()
        self.up = self.since = self.asked = None
        again = failure is not None and self._last is not None and failure.fault == self._last.fault
        self.same, self._last = self.same + 1 if again else 0, failure
        if not (self._dull and again):
            self.log.info(
                "next attempt in {delay:.1f} s{seldom}",
                delay=delay,
                seldom=SELDOM if self.same >= TOLD_AT_FIRST else "",
                attempt=self.attempt.number,
                attempt_id=self.attempt.id,
            )
        self.timer = self.clock.callLater(delay, self.inputs.begin)
        self.next_at = self.now + delay
        call_all(self.log, self.on_rest, failure)

    def _was_unreachable(self) -> bool:
        """Whether no target of this attempt accepted a connection."""
        failures = [r.failure for r in self.attempt.records if r.failure is not None]
        return bool(failures) and all(failure.step is Step.CONNECT for failure in failures)

    # a server that is away for long must not fill the disk: log the first attempts, then few

    def _judge_dullness(self) -> None:
        now = self.clock.seconds()
        self._dull = self.same >= TOLD_AT_FIRST and now - self._logged < TOLD_AGAIN
        if not self._dull:
            self._logged = now

    def _is_news(self, record: StepRecord) -> bool:
        """Whether an attempt fails in another way than the one before."""
        last = self._last
        if not self._dull or last is None or record.step > last.step:
            return True
        return record.failure is not None and record.failure.fault != last.fault

    # the end

    def halt(self) -> None:
        """End what is under way; then begin again or stay stopped."""
        self.halting = True
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = None
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.cancel()
        was_up, was_active = self.up is not None, self.since is not None
        self.up = self.since = self.asked = None
        if was_up:
            self.traffic.link_down()
        old = self.comeback.give_up()
        if old is not None:
            old.abandon()
        self.comeback.take_left()  # the next link may be another
        if was_active:
            self.attempt.passed(self.now, ended="by this side")
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
        self.halting = False
        waiting, self.stopped = self.stopped, []
        if self.wanted:
            self.backoff.forget()
            self.failed.clear()
            self.inputs.begin()
        else:
            self.inputs.halted()
        for waiter in waiting:
            waiter.callback(None)

    def _report(self, attempt: Attempt, record: StepRecord) -> None:
        if self._is_news(record):
            log_step(self.log, attempt, record)
        call_all(self.log, self.on_step, attempt, record)
