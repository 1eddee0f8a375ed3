"""C{cms check --server}: the XMPP server's set-up, from its own side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from random import SystemRandom
from typing import Any

from attrs import field, frozen

from cms import faults
from cms.audit.everything import STAGES, audit
from cms.audit.reach import CONNECT_TIMEOUT
from cms.audit.subject import OwnServer
from cms.check.bounds import Waits, within
from cms.check.findings import Finding, Report, Waiting
from cms.check.renderers import Renderer
from cms.check.subject import STAGE
from cms.control.daemon import PATIENCE, ControlError, Daemon, NotRunning
from cms.discovery.nameservers import Server
from cms.discovery.resolver import make_dns
from cms.process.clocks import wall_clock
from cms.process.openfiles import judge
from cms.signalflow import Step

NEARLY = 3  # files that are free for a moment, while it is asked


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
        bound = PATIENCE + STAGES * self.stage + CONNECT_TIMEOUT
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

    async def _findings(self, reactor: Any, waiting: Waiting) -> AsyncIterator[Finding]:
        running: bool | None = None
        told: Finding | None = None
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
            for finding in judge_files(self.server, status):
                yield finding
        resolver = make_dns(reactor, self.dns_servers, timeout=self.stage)
        results = audit(self.server, reactor, resolver, self.random, running=running)
        waiting(Step.SRV, self.server.domain, STAGES * self.stage)
        before = reactor.seconds()
        async for result in results:
            before, took = reactor.seconds(), reactor.seconds() - before
            yield Finding(
                result.step,
                result.result,
                result.about,
                took,
                evidence=result.evidence,
                note=result.note,
                problem=result.problem,
            )
        yield told or Finding(Step.ACTIVE, "skipped", note="the server does not run")


def judge_files(server: OwnServer, status: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the running server has files enough for the connections that it may have."""
    used, most = int(status.get("openFiles", 0)), int(status.get("mostFiles", 0))
    if not most:
        return  # an older server
    about = "the running server's files"
    evidence = {"open": str(used), "most": str(most)}
    asked, given = int(status.get("wantedPlaces", 0)), int(status.get("places", 0))
    doubt = judge(server.file, "most_connections", asked, given, most)
    if used + NEARLY >= most:
        fault = faults.FILES_RUN_OUT.error(limit=most)
        yield Finding(fault.step, "failed", about, 0.0, evidence, "", fault)
    elif doubt is not None:
        yield Finding(doubt.step, "warning", about, 0.0, evidence, "", doubt)
    else:
        yield Finding(Step.CONFIGURATION, "passed", about, evidence=evidence)


def judge_callbridges(status: Mapping[str, Any]) -> Finding:
    """Which Callbridges the running server has: without one nobody can log in."""
    links = [link for link in status.get("links", ()) if link.get("state") == "active"]
    deciding = [link for link in links if link.get("mechanisms")]
    known = [str(link["component"]) for link in status.get("links", ())]
    absent = [component for component in known if component not in {x["component"] for x in links}]
    evidence = {
        "connected": ", ".join(f"{x['component']} from {x.get('address', '?')}" for x in links),
        "not_connected": ", ".join(absent),
    }
    if not deciding:
        problem = faults.NO_CALLBRIDGE.error(**evidence)
        told = next((str(link["problem"]) for link in links if link.get("problem")), "")
        if told:
            domain = status.get("domain", "that of this server")
            mend = faults.NO_AUTHORITY_CURE.format(domain=domain)
            problem = faults.NO_AUTHORITY.error(problem=told, mend=mend, **evidence)
        return Finding(problem.step, "failed", "the running server", 0.0, evidence, "", problem)
    return Finding(Step.ACTIVE, "passed", "the running server", evidence=evidence)
