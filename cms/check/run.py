"""One run of C{cms check}: its parts, one after the other, into one report."""

from __future__ import annotations

from random import SystemRandom
from typing import Any

from attrs import field, frozen

from cms.audit.finding import Finding
from cms.check.lane import Lane
from cms.check.probes.daemon import Running, is_stored, look_at_daemon
from cms.check.probes.directory import DirectoryProbe
from cms.check.probes.login import Login, LoginProbe
from cms.check.renderers import Renderer
from cms.check.report import Report
from cms.check.subject import Subject
from cms.check.walk import Walk, bound_of
from cms.control.daemon import PATIENCE
from cms.discovery.resolver import DNS, make_dns
from cms.process.clocks import wall_clock
from cms.signalflow import Step

__all__ = ["LinkCheck", "Login"]


@frozen
class LinkCheck:
    """
    What to check.

    @ivar register: Whether to register: always, never, or if it disturbs no link.
    @ivar login: The account that logs in, if one does.
    @ivar user: The prepared local part of whom the directories are to find; empty for nobody.
    @ivar walks: Whether the Callbridge's steps are walked.
    """

    subject: Subject
    renderer: Renderer
    register: bool | None = None
    login: Login | None = None
    user: str = ""
    walks: bool = True
    random: Any = field(factory=SystemRandom)

    async def run(self, reactor: Any) -> Report:
        """Check; what happens is in the report, and nothing is raised."""
        subject, renderer = self.subject, self.renderer
        shown = subject.shown()
        if self.login is not None:
            shown["login"] = self.login.address
        began = reactor.seconds()
        report = Report("callbridge", shown, wall_clock(reactor)(), self._bound())

        def emit(finding: Finding) -> None:
            report.findings.append(finding)
            renderer.found(finding)

        renderer.begin(report)
        dns = make_dns(reactor, subject.dns_servers, timeout=subject.timing.stage)
        for part in (self._walk, self._look_up, self._log_in):
            lane = Lane(emit)
            lane.start()
            await part(reactor, dns, lane)
        report.seconds = reactor.seconds() - began
        renderer.end(report)
        return report

    def _bound(self) -> float:
        """Seconds that it takes at the most."""
        subject, stage = self.subject, self.subject.timing.stage
        bound = sum(DirectoryProbe.bound_of(each, stage) for each in subject.directories)
        if self.walks:
            bound += bound_of(subject) + PATIENCE * (subject.state_dir is not None)
        if self.login is not None:
            bound += LoginProbe.bound_of(subject)
        return bound

    async def _walk(self, reactor: Any, dns: DNS, lane: Lane) -> None:
        """The Callbridge's steps."""
        if not self.walks:
            return
        running = look_at_daemon(self.subject.state_dir)
        walk = Walk(
            *(reactor, self.subject, dns, lane, self.renderer.waiting),
            random=self.random,
            register=True if self._alone(running) else self.register,
            running=running,
        )
        await walk.run()

    async def _look_up(self, reactor: Any, dns: DNS, lane: Lane) -> None:
        """Its directories."""
        subject = self.subject
        for settings in subject.directories:
            directory = DirectoryProbe(
                *(reactor, settings, dns),
                lane=lane,
                waiting=self.renderer.waiting,
                random=self.random,
                domain=subject.link.domain,
                stage=subject.timing.stage,
                source=subject.source,
                user=self.user,
                is_stored=settings.name in subject.after_local and self._is_stored(),
            )
            await directory.run()

    def _is_stored(self) -> bool:
        """Whether the local store has the user."""
        state_dir, domain = self.subject.state_dir, self.subject.link.domain
        return bool(self.user and state_dir and is_stored(state_dir, self.user, domain))

    async def _log_in(self, reactor: Any, dns: DNS, lane: Lane) -> None:
        """A client."""
        if self.login is None:
            lane.skipped(Step.LOGIN, "", "no --login was given")
            return
        probe = LoginProbe(
            *(reactor, self.subject, dns, self.login),
            lane=lane,
            waiting=self.renderer.waiting,
            random=self.random,
        )
        await probe.run()

    def _alone(self, running: Running) -> bool:
        """Whether registering can disturb no link, because the Callbridge does not run."""
        return self.register is None and running.state == "stopped"
