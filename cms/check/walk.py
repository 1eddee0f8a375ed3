"""
The walk of a Callbridge: steps 2 to 11, from the configuration to a live link.

After a failed step, the checks that do not depend on it are still made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from attrs import evolve
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred

from cms import faults
from cms.audit.finding import Finding
from cms.audit.owncertificate import audit_certificate
from cms.audit.records import Beside, judge_beside, judge_found, look_beside
from cms.check.bounds import Waits, explained, within
from cms.check.lane import Lane, Waiting
from cms.check.probes.daemon import Running
from cms.check.probes.link import LinkProbe, Tools
from cms.check.subject import Subject
from cms.discovery.address import COMPONENT_PORT
from cms.discovery.lookup import SERVICE, Finder, Found, Target, configured_target
from cms.discovery.resolver import DNS
from cms.process.clocks import wall_clock
from cms.signalflow import Step, StepError

MOST_GUESSES = 8  # hosts that are tried without a record
MOST_TRIES = 3  # addresses of a target that may accept a connection and then fail
STAGES = 9  # how many waits of a stage's length can follow each other

BEFORE_LOGIN = [step for step in Step if Step.CONFIGURATION <= step <= Step.ACTIVE]


def bound_of(subject: Subject) -> float:
    """Seconds within which a check of this subject always ends."""
    return STAGES * subject.timing.stage


class Walk:
    """
    One check of a link.

    @param dns: The resolver.
    @param lane: Where it reports, in order.
    @param waiting: Called for each wait that begins, with how long it may take.
    @param register: Whether to go on to steps 9 to 11: always, never, or if it disturbs no
        link.
    @param running: The status of the Callbridge's daemon, if there is one.
    """

    def __init__(
        self,
        reactor: Any,
        subject: Subject,
        dns: DNS,
        lane: Lane,
        waiting: Waiting,
        *,
        random: Random,
        register: bool | None = None,
        running: Running | None = None,
    ) -> None:
        self._reactor = reactor
        self._subject = subject
        self._dns = dns
        self._lane = lane
        self._waiting = Waits(waiting)
        self._finder = Finder(dns, random)
        self._register = register
        self._running = running or Running()
        self._not_registering = "--no-register was given" if register is False else ""
        self._lanes = [lane]
        self._targeted: dict[Target, Lane] = {}
        self._walked: set[Target] = set()
        self._linked = False

    async def run(self) -> None:
        """Walk, and report to the lane; nothing is raised."""
        bound = bound_of(self._subject)
        error = await within(self._reactor, bound, self._walk(), self._waiting)
        if error is not None:
            self._tell_end(error)
        self._tell_skipped()

    def _tell_end(self, error: StepError) -> None:
        last = self._lanes[-1]
        for target, lane in self._targeted.items():
            if target not in self._walked:
                note = "it was not walked to its end, because the time was over"
                lane.skipped(Step.CONNECT, str(target), note)
        self._settle()
        for lane in self._lanes:
            lane.close()
        last = last.branch()
        last.start()
        self._lanes.append(last)
        if self._linked:
            last.skipped(error.step, "", error.cause)
        else:
            last.failed(error)

    def _settle(self) -> None:
        """All targets were tried: if a link works, failures at other targets are warnings."""
        for lane in self._targeted.values():
            lane.holds = False
            lane.settle(_beside_another if self._linked else lambda finding: finding)

    # steps 2 and 3

    async def _walk(self) -> None:
        context = self._configuration()
        if context is None:
            return
        tools = Tools(
            self._reactor,
            self._subject,
            context,
            self._waiting,
            at_any_price=bool(self._register),
            linked=self._running.peer,
        )
        server = self._subject.link.server
        domain = self._subject.link.ascii_domain
        beside = Deferred.fromCoroutine(look_beside(self._dns, domain))
        if server is not None:
            target = configured_target(server)
            self._lane.passed(Step.PORT, str(target), 0.0, {"server": str(target)})
            self._lane.skipped(Step.SRV, f"{SERVICE}.{domain}", "a server address is configured")
            await self._targets(tools, [target])
            nameless = target.host.endswith("localhost")
            await self._beside(beside, misspelt_told=False, nameless=nameless)
        else:
            note = "no server address, so SRV decides"
            self._lane.passed(Step.PORT, "", 0.0, {}, note)
            await self._by_srv(tools, domain, beside)

    def _configuration(self) -> SSL.Context | None:
        subject = self._subject
        try:
            context = subject.files.context()
        except StepError as error:
            self._lane.failed(error, subject.source)
            return None
        evidence = {
            **subject.shown(),
            "trust": str(subject.files.trust or "the system's CAs"),
            "dns": self._dns.servers,
        }
        self._lane.passed(Step.CONFIGURATION, subject.source, 0.0, evidence)
        now = datetime.fromtimestamp(wall_clock(self._reactor)(), UTC)
        for finding in audit_certificate(subject.files, now, serves=subject.serves):
            self._lane.add(finding)
        return context

    # steps 4 and 5

    async def _by_srv(self, tools: Tools, domain: str, beside: Deferred[Beside]) -> None:
        record = f"{SERVICE}.{domain}"
        self._waiting(Step.SRV, record, self._subject.timing.stage)
        began = self._reactor.seconds()
        try:
            found = await self._finder.targets(domain)
        except StepError as error:
            seen = await beside
            self._lane.failed(self._with_hosts(error, seen, domain), record, self._since(began))
            await self._beside(beside, misspelt_told=error.fault == faults.SRV_MISSPELT.name)
            await self._guess(tools, seen, domain)
            return
        for finding in judge_found(found, domain, seconds=self._since(began)):
            self._lane.add(finding)
        await self._beside(beside, misspelt_told=False)
        await self._targets(tools, found.targets)

    def _since(self, began: float) -> float:
        return float(self._reactor.seconds() - began)

    async def _beside(
        self, beside: Deferred[Beside], *, misspelt_told: bool, nameless: bool = False
    ) -> None:
        seen = await beside
        domain = self._subject.link.ascii_domain
        for finding in judge_beside(seen, domain, misspelt_told=misspelt_told, nameless=nameless):
            self._lane.add(finding)

    def _with_hosts(self, error: StepError, beside: Beside, domain: str) -> StepError:
        """The failure, with a known host in the record to copy."""
        known = [target.host for target in (*beside.misspelt, *beside.client.targets)]
        if known and error.fault in faults.RECORD_ABSENT:
            error.mend = faults.srv_record(f"{SERVICE}.{domain}", COMPONENT_PORT, known[0])
        return error

    async def _targets(self, tools: Tools, targets: Iterable[Target]) -> None:
        """Try all targets at the same time; report them one after the other."""
        registers = self._subject.registers and not self._not_registering
        walks = []
        before = self._lane
        targets = list(dict.fromkeys(targets))
        for target in targets:
            lane = self._targeted[target] = before.branch()
            lane.holds = len(targets) > 1
            self._lanes.append(lane)
            walks.append(Deferred.fromCoroutine(self._target(tools, target, lane, registers)))
            before = lane
        self._lane.close()
        try:
            for walk in walks:
                await walk
        except CancelledError:
            for walk in walks:
                walk.addErrback(lambda failure: None)
                walk.cancel()
            raise
        self._settle()
        for lane in self._targeted.values():
            lane.close()
        self._lane = before.branch()
        self._lane.start()
        self._lanes.append(self._lane)

    async def _target(self, tools: Tools, target: Target, lane: Lane, registers: bool) -> None:
        found = await self._addresses(target, lane)
        if found is not None:
            linked = await self._try(tools, target, lane, registers, found.addresses)
            self._linked = self._linked or linked
            if linked and not registers and self._subject.registers:
                lane.skipped(Step.REGISTER, str(target), self._not_registering)
        self._walked.add(target)

    async def _try(
        self, tools: Tools, target: Target, lane: Lane, registers: bool, addresses: Sequence[str]
    ) -> bool:
        """
        Try a target by each of its addresses until one works.  The Callbridge does the same
        over several attempts, because it remembers addresses that failed.
        """
        holds, left = lane.holds, list(addresses)
        lane.holds = holds or len(left) > 1
        for number in range(MOST_TRIES):
            # That an address cannot be connected to, the first probe has said: beside one
            # that can it is a warning, and must not stand before what fails there.
            told = Lane(lambda finding: None) if number else lane
            probe = LinkProbe(tools, target, told, registers=registers)
            try:
                failure = await probe.run(left, others=number == 0)
            finally:
                for finding in told.findings if number and probe.address else ():
                    lane.add(finding)
            if failure is None:
                lane.settle(_by_another)
                break
            if probe.address in left:
                left.remove(probe.address)
            if not probe.address or not left or isinstance(failure, faults.CredentialsRefused):
                break
        lane.holds = holds
        if not holds:
            lane.settle()
            lane.close()
        return failure is None

    async def _addresses(self, target: Target, lane: Lane) -> Found | None:
        self._waiting(Step.ADDRESS, target.host, self._subject.timing.stage)
        began = self._reactor.seconds()
        try:
            found = await self._finder.addresses(target)
        except CancelledError:
            raise
        except Exception as problem:  # noqa: BLE001 - it is told, at the step of this target
            error = explained(problem, Step.ADDRESS)
            lane.failed(error, target.host, self._since(began))
            return None
        lane.passed(Step.ADDRESS, target.host, self._since(began), found.evidence)
        for warning in found.warnings:
            lane.warned(warning, target.host)
        return found

    async def _guess(self, tools: Tools, beside: Beside, domain: str) -> None:
        """
        Without a record, try likely hosts.  A host that does not answer is no failure.
        """
        if beside.client.silent is not None:
            return
        likely = [*beside.misspelt]
        likely += [evolve(t, port=COMPONENT_PORT, source="guessed") for t in beside.client.targets]
        likely.append(Target(domain, COMPONENT_PORT, is_ip=False, source="guessed"))
        hosts = dict.fromkeys((target.host, target.port) for target in likely)
        found = []
        for host, port in list(hosts)[:MOST_GUESSES]:
            if await self._guessed(tools, Target(host, port, is_ip=False, source="guessed")):
                found.append(f"{host}:{port}")
        if not found:
            tried = ", ".join(f"{host}:{port}" for host, port in hosts)
            note = f"none of the hosts that are likely answers: {tried}"
            self._lane.skipped(Step.CONNECT, domain, note)

    async def _guessed(self, tools: Tools, target: Target) -> bool:
        """Report a guessed host if it can be connected to."""
        quiet = Lane(lambda finding: None)
        try:
            addresses = (await self._finder.addresses(target)).addresses
        except StepError:
            return False
        probe = LinkProbe(tools, target, quiet, registers=False)
        await probe.run(addresses)
        connected = any(f.step is Step.CONNECT and f.result == "passed" for f in quiet.findings)
        for finding in quiet.findings if connected else ():
            note = "; ".join(filter(None, ("a guessed host", finding.note)))
            self._lane.add(evolve(finding, note=note))
        return connected

    # what was not reached

    def _tell_skipped(self) -> None:
        findings = [finding for lane in self._lanes for finding in lane.findings]
        seen = {finding.step for finding in findings}
        failed = {finding.step for finding in findings if finding.result == "failed"}
        passed = {finding.step for finding in findings if finding.result == "passed"}
        last = self._lanes[-1]
        if self._running.told is not None:
            last.add(self._running.told)
            seen.add(Step.ACTIVE)
        for step in BEFORE_LOGIN:
            if step not in seen:
                last.skipped(step, "", self._why_skipped(step, failed, passed))

    def _why_skipped(self, step: Step, failed: set[Step], passed: set[Step]) -> str:
        if step >= Step.REGISTER and not self._subject.registers:
            return "no unique name and secret were given"
        before = [other for other in failed if other < step]
        if before:
            return f"step {min(before).value} failed"
        if step >= Step.REGISTER and self._not_registering:
            return self._not_registering
        if step is Step.ACTIVE and Step.REGISTERED in passed:
            return "the link that is up already belongs to the Callbridge"
        return "not reached"


def _beside_another(finding: Finding) -> Finding:
    """The finding for a failed target if another works; a refusal stays a failure."""
    error = finding.problem
    if error is None or isinstance(error, faults.CredentialsRefused):
        return finding
    seen = {"peer": finding.about, "problem": error.cause, "mend": error.cure}
    warning = faults.TARGET_FAILS.at(error.step).error(fault=error.fault, **seen)
    return evolve(finding, result="warning", problem=warning)


def _by_another(finding: Finding) -> Finding:
    """The finding for a failed address if another one of the target works."""
    error = finding.problem
    if error is None:
        return finding
    warning = faults.ADDRESS_FAILS.at(error.step).error(
        peer=finding.about,
        address=finding.evidence.get("address", ""),
        problem=error.cause.rstrip("."),
    )
    return evolve(finding, result="warning", problem=warning)
