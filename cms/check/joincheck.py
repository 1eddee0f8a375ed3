"""C{cms check --join}: whether somebody with a browser comes into a meeting."""

from __future__ import annotations

from random import SystemRandom
from typing import Any

from attrs import field, frozen

from cms.audit.finding import Finding
from cms.check.bounds import Waits, within
from cms.check.lane import Lane
from cms.check.probes.browser import BrowserProbe
from cms.check.probes.login import DECISION
from cms.check.probes.meeting import DECISIONS, STAGES, MeetingProbe
from cms.check.renderers import Renderer
from cms.check.report import Report
from cms.check.subject import STAGE
from cms.check.website import Meeting, Website
from cms.discovery.nameservers import Server
from cms.discovery.resolver import make_dns
from cms.process.clocks import wall_clock
from cms.signalflow import Step
from cms.trust.files import PEMFiles

REACHING = 5  # waits of a stage's length until a browser has a connection that it accepts
WAY = (Step.ADDRESS, Step.CONNECT, Step.TLS, Step.IDENTITY, Step.LOGIN)


@frozen
class JoinCheck:
    """
    What to check.

    @ivar origin: Of the page that opens the WebSocket; empty for the server's own.
    @ivar own: CAs besides the system's that some browsers were given.
    @ivar stage: Seconds for each wait.
    @ivar source: The configuration file, or the command line.
    """

    website: Website
    meeting: Meeting
    renderer: Renderer
    origin: str = ""
    own: PEMFiles | None = None
    dns_servers: tuple[Server, ...] = ()
    stage: float = STAGE
    source: str = "the command line"
    random: Any = field(factory=SystemRandom)

    async def run(self, reactor: Any) -> Report:
        """Check; what happens is in the report, and nothing is raised."""
        shown = {"pages": self.website.url, "meeting": self.meeting.shown, "source": self.source}
        if self.origin:
            shown["origin"] = self.origin
        bound = (REACHING + 2 * STAGES + DECISIONS * DECISION) * self.stage
        began = reactor.seconds()
        report = Report("browser", shown, wall_clock(reactor)(), bound)

        def emit(finding: Finding) -> None:
            report.findings.append(finding)
            self.renderer.found(finding)

        self.renderer.begin(report)
        waits = Waits(self.renderer.waiting)
        lane = Lane(emit)
        lane.start()
        error = await within(reactor, bound, self._visit(reactor, lane, waits), waits)
        if error is not None:
            lane.failed(error, self.website.url)
        _tell_skipped(lane)
        report.seconds = reactor.seconds() - began
        self.renderer.end(report)
        return report

    async def _visit(self, reactor: Any, lane: Lane, waits: Waits) -> None:
        dns = make_dns(reactor, self.dns_servers, timeout=self.stage)
        browser = BrowserProbe(
            reactor,
            self.website,
            dns,
            lane,
            waits,
            random=self.random,
            stage=self.stage,
            own=self.own,
        )
        reached = await browser.run()
        if reached is None:
            return
        visit = MeetingProbe(
            reactor,
            reached,
            self.meeting,
            lane,
            waits,
            origin=self.origin or self.website.url,
            stage=self.stage,
        )
        await visit.run()


def _tell_skipped(lane: Lane) -> None:
    """What was not reached: after a failure on the way to a page there is no more."""
    seen = {finding.step for finding in lane.findings}
    failed = [one.step for one in lane.findings if one.result == "failed" and one.step in WAY]
    for step in WAY:
        if step not in seen and min(failed, default=step) < step:
            lane.skipped(step, "", f"step {min(failed).value} failed")
