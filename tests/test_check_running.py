"""What a check makes of the daemon that runs, and what C{cms flow} draws of its attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from cms.audit.finding import Finding
from cms.audit.listeners import audit_listeners
from cms.audit.ownserver import OwnServer
from cms.check.probes.daemon import judge_link
from cms.check.probes.login import Login
from cms.check.renderers import JSONDocument
from cms.check.report import Report
from cms.check.run import LinkCheck
from cms.check.serverside import ServerCheck
from cms.diagram.sequence import Diagram, heading, mermaid, messages
from cms.discovery.resolver import DNS
from cms.trust.files import PEMFiles
from tests.commandline import CommandLineTests
from tests.fakedaemon import FakeDaemon
from tests.fakedns import FakeResolver, a
from tests.fakenetwork import Script
from tests.test_check_walk import DOMAIN, FIRST, HOST, WalkTests, accepting

BRIDGE = f"cb1.{DOMAIN}"
ACTIVE = {"component": BRIDGE, "state": "active", "address": FIRST, "mechanisms": ["PLAIN"]}


class ServerTests(WalkTests):
    """C{cms check --server}, with a server that runs or does not."""

    def setUp(self) -> None:
        """Two listeners of this host, and no DNS but its own name."""
        super().setUp()
        self.zone = {HOST: [a("127.0.0.1")]}
        self.server = OwnServer(
            file=Path("xmpp.toml"),
            domain=DOMAIN,
            hostname=HOST,
            state_dir=self.folder / "state",
            files=PEMFiles("xmpp.toml", None, None, None),
            listen={
                "component": ["tcp:5223"],
                "client": ["tcp:5222:interface=127.0.0.1", "systemd:domain=INET:name=x"],
            },
            secrets={},
        )

    def check(self) -> list[Finding]:
        """All findings; the document that is shown has them too."""
        shown: list[str] = []
        check = ServerCheck(self.server, JSONDocument(shown.append), random=Random(1))
        dns = DNS(FakeResolver(self.zone), "the test", self.network)
        with patch("cms.check.serverside.make_dns", lambda *_, **__: dns):
            (report,) = self.network.finish(check.run(self.network))
        self.assertEqual(len(report.findings), len(json.loads(shown[0])["findings"]))
        return report.findings

    def runs(self, **status: Any) -> None:
        """A daemon that says this of itself."""
        fake = FakeDaemon(self, self.server.state_dir)
        fake.get("system/status", {"status": {"domain": DOMAIN, "links": [ACTIVE], **status}})

    def about(self, found: list[Finding], about: str) -> tuple[int, str, str]:
        """What was told of a thing, last."""
        finding = [each for each in found if each.about == about][-1]
        fault = finding.problem.fault if finding.problem is not None else ""
        return int(finding.step), finding.result, fault or finding.note

    def test_stopped(self) -> None:
        """Listeners cannot be reached, which is as it should be."""
        found = self.check()
        self.assertEqual((6, "skipped", "the server does not run"), self.about(found, "tcp:5223"))
        self.assertEqual((11, "skipped", "the server does not run"), self.told(found)[-1])

    def test_listeners(self) -> None:
        """While it runs each must answer."""
        self.runs()
        self.network.servers["127.0.0.1", 5222] = lambda: Script([])
        for address in ("127.0.0.1", "::1"):
            self.network.refuse(address, 5223)
        found = self.check()
        self.assertEqual((6, "failed", "own-listener-dead"), self.about(found, "tcp:5223"))
        self.assertEqual((6, "passed", ""), self.about(found, "tcp:5222:interface=127.0.0.1"))
        dead = self.one(found, "own-listener-dead").problem
        assert dead is not None
        self.assertIn("127.0.0.1 port 5223", dead.cause)

    def test_web(self) -> None:
        """Those for browsers too."""
        self.server = evolve(
            self.server,
            listen={"web": ["tcp:5443"], "web_plain": ["tcp:5280:interface=127.0.0.1"]},
        )
        self.network.servers["127.0.0.1", 5280] = lambda: Script([])
        for address in ("127.0.0.1", "::1"):
            self.network.refuse(address, 5443)
        self.runs()
        found = self.check()
        self.assertEqual((6, "failed", "own-listener-dead"), self.about(found, "tcp:5443"))
        self.assertEqual((6, "passed", ""), self.about(found, "tcp:5280:interface=127.0.0.1"))

    def test_known_to_run(self) -> None:
        """Where nobody says whether it runs, one listener that answers says so."""
        self.network.servers["127.0.0.1", 5222] = lambda: Script([])
        self.network.refuse("127.0.0.1", 5223)
        self.network.refuse("::1", 5223)

        async def audit() -> list[Finding]:
            return [each async for each in audit_listeners(self.server, self.network, running=None)]

        (found,) = self.network.finish(audit())
        self.assertEqual(["failed", "passed"], [each.result for each in found])

    def test_callbridges(self) -> None:
        """Which are connected, and which of them decides log-ins."""
        other = {"component": f"cb2.{DOMAIN}", "state": "known"}
        useless = {**ACTIVE, "mechanisms": [], "problem": "it decides nothing"}
        for links, fault, cure in (
            ([ACTIVE, other], "", ""),
            ([other], "no-callbridge", ""),
            ([useless], "no-authority", DOMAIN),
        ):
            self.server = evolve(self.server, state_dir=self.folder / (fault or "good"))
            self.runs(links=links)
            found = self.check()
            told = found[-1]
            self.assertEqual("the running server", told.about)
            self.assertEqual(fault, told.problem.fault if told.problem is not None else "")
            self.assertIn(f"cb2.{DOMAIN}" if other in links else "", told.evidence["not_connected"])
            self.assertIn(cure, told.problem.cure if told.problem is not None else "")

    def test_files(self) -> None:
        """Whether files will last for the connections that it may have."""
        for figures, result, fault in (
            ({"openFiles": 40, "mostFiles": 1024, "wantedConnections": 0}, "passed", ""),
            ({"openFiles": 1022, "mostFiles": 1024}, "failed", "files-run-out"),
        ):
            self.server = evolve(self.server, state_dir=self.folder / result)
            self.runs(**figures)
            told = self.about(self.check(), "the running server's files")
            self.assertEqual((result, fault), told[1:])

    def test_nonsense(self) -> None:
        """What does not answer as a daemon does is told, and the rest is checked."""
        FakeDaemon(self, self.server.state_dir).get("system/status", b"?")
        found = self.check()
        last = self.told(found)[-1]
        self.assertEqual((11, "skipped"), last[:2])
        self.assertIn("not known: the daemon at", last[2])

    def test_secrets(self) -> None:
        """A server that knows no Callbridge."""
        self.assertIn("no-callbridge-known", [each[2] for each in self.told(self.check())])


class LinkTests(WalkTests):
    """C{cms check} beside a Callbridge that runs, or does not."""

    def check(self, **more: Any) -> Report:
        """The whole report."""
        subject = evolve(self.subject(server_address=HOST), state_dir=self.folder / "state")
        check = LinkCheck(subject, JSONDocument(lambda text: None), random=Random(1), **more)
        dns = DNS(FakeResolver(self.zone), "the test", self.network)
        with patch("cms.check.run.make_dns", lambda *_, **__: dns):
            (report,) = self.network.finish(check.run(self.network))
        return report

    def test_stopped(self) -> None:
        """No link can be disturbed, so it registers even where that is shared."""
        self.serve(accepting())
        report = self.check()
        self.assertEqual((0, 5.0 * 9 + 3.0), (report.status, report.bound))
        last = self.told(report.findings)[-1]
        self.assertEqual((12, "skipped", "no --login was given"), last)

    def test_login_alone(self) -> None:
        """Without the walk: step 12 and nothing else."""
        report = self.check(walks=False, login=Login("alice", DOMAIN, "hush-hush"))
        self.assertEqual([(12, "failed", "login-unreachable")], self.told(report.findings))
        self.assertEqual(f"alice@{DOMAIN}", report.subject["login"])
        self.assertEqual(1, report.status)

    def test_link(self) -> None:
        """What the state of its link means."""
        failure = {"cause": "It was\x1b refused.", "step": 6}
        evidence = {"peer": HOST, "domain": DOMAIN, "problem": "x"}
        useless = {"fault": "domain-not-served", "evidence": evidence}
        table: tuple[tuple[Mapping[str, Any], str, str, str], ...] = (
            ({"state": "active", "peer": HOST, "since": "then"}, "passed", HOST, ""),
            ({"state": "waiting", "lastFailure": failure}, "skipped", "", "It was"),
            ({"state": "waiting"}, "skipped", "", "its last failure: none"),
            ({"state": "active", "peer": HOST, "problem": useless}, "failed", HOST, ""),
        )
        for link, result, peer, note in table:
            running = judge_link(link)
            told = running.told
            assert told is not None
            self.assertEqual(("running", peer, result), (running.state, running.peer, told.result))
            self.assertIn(note, told.note)
            self.assertTrue(told.note.isprintable())
        assert told is not None
        assert told.problem is not None
        self.assertIn(DOMAIN, told.problem.cause)


def step(number: int, result: str = "passed", **more: Any) -> dict[str, Any]:
    """One step of an attempt."""
    return {"step": number, "result": result, "seconds": 0.0015, **more}


REFUSED = {
    "step": 10,
    "name": "registered",
    "fault": "wrong-secret",
    "cause": "It refused; #1.",
    "cure": "Give the right one.",
}
LINK: dict[str, Any] = {
    "id": "a1",
    "kind": "link",
    "began": "2026-01-01T00:00:00Z",
    "reached": 10,
    "failure": REFUSED,
    "steps": [
        step(2, evidence={"domain": DOMAIN}),
        step(3),
        step(4, evidence={"record": f"_xmpp-component._tcp.{DOMAIN}", "found": "SRV 1 1 5223 x"}),
        step(5, evidence={"host": HOST, "addresses": FIRST}),
        step(6, evidence={"address": FIRST, "port": "5223"}),
        step(7, evidence={"protocol": "TLSv1.3", "cipher": "AES"}, warnings=["it is old"]),
        step(8, evidence={"names": f"DNS:{DOMAIN}"}),
        step(9, evidence={"component": BRIDGE}),
        step(10, "failed", failure=REFUSED),
        step(11, "running"),
    ],
}
LOGIN: dict[str, Any] = {
    "id": "b1",
    "kind": "login",
    "began": "2026-01-01T00:00:01Z",
    "reached": 12,
    "steps": [step(12, evidence={"peer": FIRST, "callbridge": BRIDGE, "jid": f"alice@{DOMAIN}/r"})],
}


class FlowTests(CommandLineTests):
    """C{cms flow} of a Callbridge that runs."""

    def setUp(self) -> None:
        """It has two attempts, the newest first."""
        super().setUp()
        self.fake = FakeDaemon(self, self.folder / "callbridge")
        self.answer(LOGIN, LINK)

    def answer(self, *attempts: dict[str, Any]) -> None:
        """What it has."""
        self.fake.get("system/signalflow", {"signalFlow": {"attempt": list(attempts)}})

    def test_diagram(self) -> None:
        """The oldest first, each step an arrow, the failure with its cure."""
        said = self.said("flow", "--last", "7")
        self.assertEqual("7", self.fake.asked[-1][2]["limit"])
        lines = said.splitlines()
        first = next(n for n, line in enumerate(lines) if line.startswith("a1"))
        self.assertIn("failed at step 10 registered", lines[first])
        self.assertLess(first, next(n for n, line in enumerate(lines) if line.startswith("b1")))
        for part in (
            "Callbridge",
            f"A, AAAA {HOST}?",
            f"TCP {FIRST} port 5223",
            "TLS TLSv1.3, AES",
            "warning: it is old",
            "FAILED: wrong-secret",
            "Cure: Give the right one.",
            "step 10 registered [1.5 ms]",
            f"success: alice@{DOMAIN}",
        ):
            self.assertIn(part, said)

    def test_documents(self) -> None:
        """As JSON, and as a diagram for a document."""
        self.assertEqual([LINK, LOGIN], json.loads(self.cms("flow", "--json").stdout))
        drawn = self.cms("flow", "--mermaid").stdout
        self.assertIn("    participant XMPPserver as XMPP server", drawn)
        self.assertIn("    XMPPserver--xCallbridge: FAILED: wrong-secret", drawn)
        self.assertIn("    Note over Callbridge: It refused#59; #35;1.", drawn)

    def test_nothing(self) -> None:
        """A daemon that has just started."""
        self.answer()
        self.assertIn("no attempt yet\n", self.said("flow"))

    def test_follow(self) -> None:
        """What is new is drawn once, until Ctrl-C, which is no failure."""
        self.answer({**LINK, "steps": LINK["steps"][:2]})
        naps = iter((lambda: self.answer(LINK), lambda: self.answer(LOGIN, LINK)))

        def sleep(seconds: float) -> None:
            nap = next(naps, None)
            if nap is None:
                raise KeyboardInterrupt
            nap()

        with patch("cms.commands.flow.time.sleep", sleep):
            said = self.said("flow", "--follow")
        self.assertEqual(1, said.count("step 2 configuration"))
        self.assertEqual(1, said.count("FAILED: wrong-secret"))
        self.assertLess(said.index("FAILED"), said.index("b1  2026"))

    def test_wrong(self) -> None:
        """A daemon in a bad way, and files that cannot be read."""
        self.fake.get("system/signalflow", b"?")
        self.assertIn("does not answer", self.said("flow", status=1))
        for content in (b"\xff\xfe\x00", b"a = ["):
            file = str(self.write("bad.toml", content))
            self.assertIn("bad.toml", self.said("flow", "--config", file, status=2))


class DrawingTests(SynchronousTestCase):
    """What stands in a diagram where little is known."""

    def test_little(self) -> None:
        """A step without evidence is told by its result; nothing is asked where nobody was."""
        for number in (2, 3, 4):
            (message,) = messages(step(number), "link")
            self.assertEqual(("Callbridge", None), (message.source, message.target))
            self.assertEqual("passed", message.text)
        (only,) = messages(step(5, evidence={"addresses": FIRST}), "link")
        self.assertEqual((None, FIRST), (only.target, only.text))
        for evidence, texts in (
            ({"record": "r"}, ["SRV r?"]),
            ({"mechanism": "PLAIN"}, ["log-in by PLAIN"]),
            ({"mechanism": "PLAIN", "user": "alice"}, ["log-in of alice by PLAIN"]),
            ({"peer": "x", "user": "alice"}, ["log-in of alice from x"]),
            ({"peer": FIRST}, [f"log-in from {FIRST}"]),
            (
                {"admission": "admitted", "peer": FIRST, "space": "Team"},
                [f"guest from {FIRST}", "admitted: Team"],
            ),
            (
                {"guest": "g@d", "peer": FIRST, "space": "team@cb1"},
                [f"guest from {FIRST}", "admitted to team@cb1: g@d"],
            ),
        ):
            kind, at = ("link", 4) if "record" in evidence else ("login", 12)
            made = messages(step(at, evidence=evidence), kind)
            self.assertEqual(texts, [each.text for each in made])
        refused = {"admission": "passcode", "peer": FIRST}
        made = messages(step(12, "failed", failure=REFUSED, evidence=refused), "login")
        told = [f"guest from {FIRST}", "FAILED: wrong-secret"]
        self.assertEqual(told, [each.text for each in made])
        (failed,) = messages(step(2, "failed", failure=REFUSED), "link")
        self.assertEqual((True, "FAILED: wrong-secret"), (failed.failed, failed.text))

    def test_colour(self) -> None:
        """On a terminal that has it; failures are red, and long texts are cut."""
        diagram = Diagram(20, colour=True)
        lines = diagram.draw(step(10, "failed", failure=REFUSED), "link")
        self.assertTrue(all(line.startswith("\x1b[31m") for line in lines[1:]))
        (line,) = Diagram(20).draw(step(6, evidence={"address": "x" * 99}), "link")
        self.assertIn("…", line)
        active = {"number": 7, "began": "then", "reached": 11}
        self.assertEqual("7  then  step 11 active", heading(active))
        self.assertTrue(mermaid([]).startswith("sequenceDiagram\n    participant Callbridge"))
