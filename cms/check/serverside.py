"""C{cms check --server}: the XMPP server's set-up, from its own side."""

from __future__ import annotations

from random import SystemRandom
from typing import Any

from attrs import field, frozen

from cms.audit.subject import OwnServer
from cms.audit.whole import STAGES, audit
from cms.check.findings import Finding, Report
from cms.check.renderers import Renderer
from cms.check.subject import STAGE
from cms.discovery.resolver import make_dns
from cms.discovery.servers import Server


@frozen
class ServerSession:
    """
    A check of an XMPP server's own set-up.

    @ivar stage: Seconds for each question to DNS.
    """

    server: OwnServer
    renderer: Renderer
    dns_servers: tuple[Server, ...] = ()
    stage: float = STAGE
    random: Any = field(factory=SystemRandom)

    async def run(self, reactor: Any) -> Report:
        """Check; what happens is in the report."""
        server = self.server
        shown = {
            "domain": server.domain,
            "hostname": server.hostname,
            "source": str(server.file),
        }
        bound = STAGES * self.stage
        report = Report("server", shown, reactor.seconds(), bound)
        self.renderer.begin(report)
        resolver = make_dns(reactor, self.dns_servers, timeout=self.stage)
        results = audit(server, reactor, resolver, self.random, running=None)
        async for result in results:
            finding = Finding(
                result.step,
                result.result,
                result.about,
                evidence=result.evidence,
                note=result.note,
                problem=result.problem,
            )
            report.findings.append(finding)
            self.renderer.found(finding)
        report.seconds = reactor.seconds() - report.began
        self.renderer.end(report)
        return report
