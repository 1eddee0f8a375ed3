"""How a check is shown, and how the command is used."""

from __future__ import annotations

import io
import json
import os
import re
import sys

from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.audit.finding import Finding
from cms.check.page import page
from cms.check.renderers import JSONDocument, PlainLines, Renderer
from cms.check.report import Report
from cms.check.tree import PLAIN_SIGNS, LiveTree
from cms.commands.output import put
from cms.signalflow import Step
from tests.commandline import CommandLineTests

PEER = "xmpp1.meet.example.com:5223"
EXPIRED = faults.CERTIFICATE_EXPIRED.error(peer=PEER, subject="CN=<xmpp1>", not_after="2020-01-01")
SOON = faults.CERTIFICATE_EXPIRES_SOON.error(
    peer=PEER, subject="CN=xmpp1", days=3, not_after="2030-01-01"
)


def report() -> Report:
    """A check with one of each result."""
    made = Report("callbridge", {"domain": "meet.example.com"}, 1.5, 45.0, seconds=0.25)
    made.findings += [
        Finding(Step.CONNECT, "passed", PEER, 0.0123, {"address": "192.0.2.7"}),
        Finding(Step.TLS, "failed", PEER, 0.1, {"chain": "1 in order"}, problem=EXPIRED),
        Finding(Step.TLS, "warning", PEER, problem=SOON),
        Finding(Step.REGISTER, "skipped", note="step 7 failed"),
    ]
    return made


def show(renderer: Renderer) -> None:
    """Let it show the report, with a wait before each finding."""
    made = report()
    renderer.begin(made)
    for finding in made.findings:
        renderer.waiting(finding.step, PEER, 5.0)
        renderer.found(finding)
    renderer.end(made)


class RendererTests(SynchronousTestCase):
    """One report, four ways."""

    def assert_whole(self, shown: str) -> None:
        """Nothing of it is missing."""
        words = " ".join(re.sub(r"│|\x1b\[[0-9;]*[mK]", " ", shown).split())
        for problem in (EXPIRED, SOON):
            for part in (problem.cause, problem.cure, problem.fault, *problem.mend.splitlines()):
                self.assertIn(" ".join(part.split()), words)
        for part in ("192.0.2.7", "12.3 ms", "1 in order", "step 7 failed", "1 failure", "0.25 s"):
            self.assertIn(part, words)

    def test_lines(self) -> None:
        """A pipe: whole lines, no control characters, the cure below what failed."""
        lines: list[str] = []
        show(PlainLines(lines.append))
        self.assert_whole("\n".join(lines))
        self.assertTrue(all(line.isprintable() for line in lines))
        self.assertIn("ends within 45 s", lines[0])
        self.assertTrue(lines[1].startswith("step  6 connect           passed   "))
        failed = next(n for n, line in enumerate(lines) if "FAILED" in line)
        self.assertEqual("seen: chain 1 in order", lines[failed + 1].strip())
        self.assertTrue(lines[failed + 2].strip().startswith("cure: "))

    def test_tree(self) -> None:
        """A terminal: a branch for each, and what was waited for is gone in the end."""
        pieces: list[str] = []
        show(LiveTree(pieces.append, 100))
        shown = "".join(pieces)
        self.assert_whole(re.sub(r"[^\n]*\r\x1b\[K", "", shown))
        self.assertIn("… step 6 connect: xmpp1.meet.example.com:5223 (at most 5 s)", shown)
        for colour in (31, 32, 33):
            self.assertIn(f"\x1b[{colour}m", shown)

    def test_plain_tree(self) -> None:
        """Without colour, and in ASCII."""
        pieces: list[str] = []
        show(LiveTree(pieces.append, 60, colour=False, signs=PLAIN_SIGNS))
        shown = "".join(pieces).replace("\r\x1b[K", "")
        self.assertTrue(shown.isascii())
        self.assertNotIn("\x1b", shown)

    def test_json(self) -> None:
        """One document, at the end."""
        documents: list[str] = []
        show(JSONDocument(documents.append))
        (document,) = documents
        self.assertEqual(report().as_dict(), json.loads(document))

    def test_page(self) -> None:
        """A page that needs nothing else; what peers said is no markup."""
        shown = page(report()).decode()
        self.assertNotRegex(shown, r"<(link|script|img|iframe)|url\(|https?://")
        self.assertIn("CN=&lt;xmpp1&gt;", shown)
        self.assertNotIn("<xmpp1>", shown)
        for part in (EXPIRED.cure, SOON.cure, "1 failure, the first at step 7 tls"):
            self.assertIn(part, shown)


class OutputTests(SynchronousTestCase):
    """Standard output, when nobody reads it."""

    def test_reader_is_gone(self) -> None:
        """It is told, once, and the rest goes nowhere."""
        there, here = os.pipe()
        self.patch(sys, "stdout", io.TextIOWrapper(io.FileIO(here, "w"), write_through=True))
        self.addCleanup(os.close, there)
        self.assertTrue(put("x"))
        self.assertEqual(b"x", os.read(there, 9))

        class Gone(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        self.patch(sys, "stdout", Gone())
        self.assertFalse(put("x"))
        self.addCleanup(sys.stdout.close)
        self.assertTrue(put("x"))


class UsageTests(CommandLineTests):
    """Exit status 2 before anything is connected to, 1 for a configuration that is wrong."""

    def test_usage(self) -> None:
        """Options that miss something, or say it twice."""
        config = str(self.folder / "callbridge.toml")
        domain = ("--domain", "meet.example.com")
        for arguments in (
            (),
            ("--server",),
            ("--server", "--config", config, *domain),
            ("--server", "--config", config, "--login", "a@b", "--password-stdin"),
            ("--config", config, *domain),
            ("--config", config, "--trust", config),
            ("--config", config, "--server-address", "x"),
            ("--config", str(self.folder / "none.toml")),
            ("--domain", "two words"),
            (*domain, "--dns", "not-an-address"),
            (*domain, "--timeout", "0"),
            (*domain, "--password-stdin"),
            (*domain, "--secret-file", config),
            (*domain, "--unique-name", "cb1", "--secret-file", str(self.write("empty", "\n"))),
            (*domain, "--html", str(self.folder / "none" / "x.html")),
            (*domain, "--login", "alice@meet.example.com"),
            ("--login", "alice", "--password-stdin"),
            ("--config", config, "--user", "alice"),  # it has no [[directory]] of kind ldap
            (*domain, "--user", "alice"),
            ("--server", "--config", config, "--user", "alice"),
            ("--join", "123456789", "--url", "https://meet.example.com", "--user", "alice"),
        ):
            self.cms("check", *arguments, status=2, text="secret-word\n")

    def test_wrong_configuration(self) -> None:
        """It is a step that fails, in all ways of telling it."""
        wrong = self.write("wrong.toml", 'unique_name = "cb1"\nshared_secret = "hush-hush"\n')
        page = self.folder / "page.html"
        told = json.loads(
            self.said("check", "--config", str(wrong), "--json", "--html", str(page), status=1)
        )
        self.assertEqual(("failed", 2), (told["result"], told["findings"][0]["step"]))
        self.assertIn(told["findings"][0]["cure"], page.read_text("utf-8"))
        self.assertNotIn("hush-hush", str(told) + page.read_text("utf-8"))
        lines = self.said("check", "--config", str(wrong), status=1)
        self.assertIn("step  2 configuration     FAILED", lines)

    def test_explain(self) -> None:
        """An entry; near misses are named; without a name, all of them."""
        self.assertIn("a failure at step 4 srv", self.said("explain", "srv-nxdomain"))
        self.assertIn("did you mean srv-nxdomain", self.said("explain", "srv-nxdoman", status=2))
        self.assertIn("own-srv-missing", self.said("explain"))

    def test_flow_without_a_daemon(self) -> None:
        """Exit status 1, and the folder that was looked into."""
        for arguments in ((), ("--mermaid",), ("--json",), ("--follow",)):
            said = self.said("flow", *arguments, status=1)
            self.assertIn(f"Error: no daemon runs on {self.folder}", said)
        self.cms("flow", "--json", "--mermaid", status=2)
