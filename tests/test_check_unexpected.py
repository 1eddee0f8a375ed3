"""An error of this program in a check is told at the step where it happened."""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from cms.audit import setup
from cms.audit.finding import Finding
from cms.callbridge.config import LinkSettings, Timing
from cms.check import serverside
from cms.check.lane import Lane
from cms.check.probes.link import LinkProbe, Tools
from cms.check.report import Report
from cms.check.subject import Subject
from cms.check.walk import Walk
from cms.configuration.tomlfile import Secret
from cms.discovery.lookup import Target
from cms.discovery.resolver import DNS
from cms.signalflow import Step, StepError
from cms.trust.files import PEMFiles
from tests.fakedns import FakeResolver
from tests.support import new_folder
from tests.test_xmpp_selfcheck import SERVER, ZONE

TARGET = Target("xmpp1.example.com", 5223, is_ip=False, source="SRV")
SUBJECT = Subject(
    LinkSettings(
        unique_name="cb1",
        domain="meet.example.com",
        component="cb1.meet.example.com",
        server=None,
        secret=Secret("s"),
    ),
    PEMFiles("callbridge.toml", None, None, None),
    Timing(),
)


def broken(*_: Any, **__: Any) -> Any:
    """What nobody thought of."""
    raise KeyError("bug")


@define
class Silent:
    """A renderer that shows nothing."""

    def begin(self, report: Report) -> None:
        """Nothing."""

    def waiting(self, step: Step, about: str, seconds: float) -> None:
        """Nothing."""

    def found(self, finding: Finding) -> None:
        """Nothing."""

    def end(self, report: Report) -> None:
        """Nothing."""


class Breaking(LinkProbe):
    """A probe that breaks at a step."""

    at = Step.CONNECT

    async def _walk(self, addresses: Any) -> StepError | None:
        self._begin(self.at)
        return await broken()  # type: ignore[no-any-return]


class UnexpectedTests(SynchronousTestCase):
    """The fault is C{internal}, and the step the right one."""

    def setUp(self) -> None:
        """Nobody is connected with."""
        self.reactor: Any = MemoryReactorClock()
        self.reactor.advance(1_800_000_000)
        self.lane = Lane(lambda finding: None)
        self.lane.start()

    def told(self, findings: list[Finding]) -> list[tuple[Step, str]]:
        """The failures."""
        return [(f.step, f.problem.fault) for f in findings if f.problem and f.result == "failed"]

    def test_target(self) -> None:
        """At one of several targets, which are walked to at the same time."""
        others: list[Step] = []
        tools = Tools(self.reactor, SUBJECT, SUBJECT.files.context(), lambda *wait: None)
        for step in (Step.CONNECT, Step.TLS, Step.REGISTER):
            probe = Breaking(tools, TARGET, self.lane, registers=True)
            probe.at = step
            others.append(step)
            failure = self.successResultOf(Deferred.fromCoroutine(probe.run(["192.0.2.1"])))
            assert failure is not None
            self.assertIn("KeyError: 'bug'", failure.cause)
            self.assertEqual([(each, "internal") for each in others], self.told(self.lane.findings))

    def test_link_that_is_up(self) -> None:
        """While the link is looked at."""
        tools = Tools(self.reactor, SUBJECT, SUBJECT.files.context(), lambda *wait: None)
        probe = LinkProbe(tools, TARGET, self.lane, registers=True)

        async def look(_: LinkProbe) -> None:
            broken()

        self.patch(LinkProbe, "_look", look)
        probe.registered()
        failure = self.successResultOf(probe._outcome)
        assert failure is not None
        self.assertEqual((Step.ACTIVE, "internal"), (failure.step, failure.fault))

    def test_addresses(self) -> None:
        """When a target's addresses are asked for."""
        dns = DNS(FakeResolver({}), "the test", self.reactor)
        walk = Walk(self.reactor, SUBJECT, dns, self.lane, lambda *wait: None, random=Random(1))
        self.patch(walk._finder, "addresses", broken)
        looking = Deferred.fromCoroutine(walk._addresses(TARGET, self.lane))
        self.assertIsNone(self.successResultOf(looking))
        self.assertEqual([(Step.ADDRESS, "internal")], self.told(self.lane.findings))

    def test_own_setup(self) -> None:
        """Each part of the check of a server."""
        server = evolve(SERVER, state_dir=new_folder(self), listen={})
        dns = DNS(FakeResolver(ZONE), "the test", self.reactor)
        self.patch(serverside, "make_dns", lambda *_, **__: dns)
        for part, step in (
            ("audit_clock", Step.CONFIGURATION),
            ("audit_secrets", Step.CONFIGURATION),
            ("audit_records", Step.SRV),
            ("audit_addresses", Step.ADDRESS),
            ("audit_listeners", Step.CONNECT),
            ("audit_certificate", Step.TLS),
            ("audit_names", Step.IDENTITY),
        ):
            check = serverside.ServerCheck(server, Silent())
            patch = self.patch(setup, part, broken)
            checking = Deferred.fromCoroutine(check.run(self.reactor))
            self.reactor.advance(5)
            report = self.successResultOf(checking)
            patch.restore()
            self.assertIn((step, "internal"), self.told(report.findings), part)
