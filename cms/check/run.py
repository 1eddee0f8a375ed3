"""One run of C{cms check}: its parts, one after the other, into one report."""

from __future__ import annotations

from random import SystemRandom
from typing import Any

from attrs import field, frozen

from cms.audit.finding import Finding
from cms.check.lane import Lane
from cms.check.probes.daemon import Running, look_at_daemon
from cms.check.probes.directory import DirectoryProbe
from cms.check.probes.login import Login, LoginProbe
from cms.check.renderers import Renderer
from cms.check.report import Report
from cms.check.subject import Subject
from cms.check.walk import Walk, bound_of
from cms.control.daemon import PATIENCE
from cms.discovery.resolver import make_dns
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
        bound = self.walks * bound_of(subject)
        bound += PATIENCE if self.walks and subject.state_dir is not None else 0
        bound += LoginProbe.bound_of(subject) if self.login else 0
        stage = subject.timing.stage
        bound += sum(DirectoryProbe.bound_of(each, stage) for each in subject.directories)
        shown = subject.shown()
        if self.login is not None:
            shown["login"] = self.login.address
        began = reactor.seconds()
        report = Report("callbridge", shown, wall_clock(reactor)(), bound)

        def emit(finding: Finding) -> None:
            report.findings.append(finding)
            renderer.found(finding)

        renderer.begin(report)
        dns = make_dns(reactor, subject.dns_servers, timeout=subject.timing.stage)
        if self.walks:
            lane = _opened(emit)
            running = look_at_daemon(subject.state_dir)
            walk = Walk(
                reactor,
                subject,
                dns,
                lane,
                renderer.waiting,
                random=self.random,
                register=True if self._alone(running) else self.register,
                running=running,
            )
            await walk.run()
        lane = _opened(emit)
        for settings in subject.directories:
            directory = DirectoryProbe(
                reactor,
                settings,
                dns,
                lane=lane,
                waiting=renderer.waiting,
                random=self.random,
                domain=subject.link.domain,
                stage=stage,
                source=subject.source,
                user=self.user,
            )
            await directory.run()
        lane = _opened(emit)
        if self.login is not None:
            probe = LoginProbe(
                reactor,
                subject,
                dns,
                self.login,
                lane=lane,
                waiting=renderer.waiting,
                random=self.random,
            )
            await probe.run()
        else:
            lane.skipped(Step.LOGIN, "", "no --login was given")
        report.seconds = reactor.seconds() - began
        renderer.end(report)
        return report

    def _alone(self, running: Running) -> bool:
        """Whether registering can disturb no link, because the Callbridge does not run."""
        return self.register is None and running.state == "stopped"


def _opened(emit: Any) -> Lane:
    lane = Lane(emit)
    lane.start()
    return lane
