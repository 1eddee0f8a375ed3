"""C{cms check --server}: the XMPP server's set-up, from its own side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from random import SystemRandom
from typing import Any

from attrs import evolve, field, frozen

from cms.audit.callbridges import judge_callbridges
from cms.audit.finding import Finding
from cms.audit.listeners import CONNECT_TIMEOUT
from cms.audit.openfiles import judge_files
from cms.audit.ownserver import OwnServer
from cms.audit.setup import STAGES, audit_setup
from cms.check.bounds import Waits, within
from cms.check.renderers import Renderer
from cms.check.report import Report
from cms.check.subject import STAGE
from cms.control.daemon import PATIENCE, ControlError, Daemon, NotRunning
from cms.discovery.nameservers import Server
from cms.discovery.resolver import make_dns
from cms.process.clocks import wall_clock
from cms.signalflow import Step


@frozen
class ServerCheck:
    """
    A check of an XMPP server's own set-up.

    @ivar stage: Seconds for each question to DNS.
    @ivar cluster: Checks its cluster, if it is in one, given the reactor and what the running
        server says of it; and the seconds that this takes at most.
    """

    server: OwnServer
    renderer: Renderer
    dns_servers: tuple[Server, ...] = ()
    stage: float = STAGE
    random: Any = field(factory=SystemRandom)
    cluster: Callable[[Any, Mapping[str, Any] | None], AsyncIterator[Finding]] | None = None
    cluster_seconds: float = 0.0

    async def run(self, reactor: Any) -> Report:
        """Check; what happens is in the report."""
        server = self.server
        shown = {
            "domain": server.domain,
            "hostname": server.hostname,
            "source": str(server.file),
        }
        bound = PATIENCE + STAGES * self.stage + CONNECT_TIMEOUT + self.cluster_seconds
        waits = Waits(self.renderer.waiting)
        began = reactor.seconds()
        report = Report("server", shown, wall_clock(reactor)(), bound)
        self.renderer.begin(report)

        def emit(finding: Finding) -> None:
            report.findings.append(finding)
            self.renderer.found(finding)

        async def judge() -> None:
            async for finding in self._findings(reactor, waits):
                emit(finding)

        error = await within(reactor, bound, judge(), waits)
        if error is not None:
            emit(Finding(error.step, "failed", seconds=bound, problem=error))
        report.seconds = reactor.seconds() - began
        self.renderer.end(report)
        return report

    async def _findings(self, reactor: Any, waiting: Waits) -> AsyncIterator[Finding]:
        running: bool | None = None
        told: Finding | None = None
        of_cluster: Mapping[str, Any] | None = None
        waiting(Step.ACTIVE, "the running server", PATIENCE)
        try:
            status = Daemon(self.server.state_dir, PATIENCE).status()
        except NotRunning:
            running = False
        except ControlError as problem:
            told = Finding(Step.ACTIVE, "skipped", note=f"not known: {problem.problem}")
        else:
            running = True
            told = judge_callbridges(status)
            of_cluster = status.get("cluster")
            for finding in judge_files(self.server.file, status):
                yield finding
        if self.cluster is not None:
            waiting(Step.CONFIGURATION, "the cluster", self.cluster_seconds)
            before = reactor.seconds()
            async for finding in self.cluster(reactor, of_cluster):
                before, took = reactor.seconds(), reactor.seconds() - before
                yield evolve(finding, seconds=took)
        resolver = make_dns(reactor, self.dns_servers, timeout=self.stage)
        findings = audit_setup(
            self.server, reactor, resolver, self.random, running=running, begun=waiting.at
        )
        waiting(Step.SRV, self.server.domain, STAGES * self.stage)
        before = reactor.seconds()
        async for finding in findings:
            before, took = reactor.seconds(), reactor.seconds() - before
            yield evolve(finding, seconds=took)
        yield told or Finding(Step.ACTIVE, "skipped", note="the server does not run")
