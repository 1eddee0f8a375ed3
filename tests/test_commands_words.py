"""What operators of the original type, and what is listed for them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from twisted.names import dns

import cms
from cms.cli import main
from cms.commands import dnslookup, pkilist
from cms.commands.manual import walk
from cms.commands.originalwords import SETTERS, WORDS
from cms.discovery.resolver import Answer, NoSuchName
from cms.trust.issue import CertificateAuthority, certificate_request
from tests.commandline import DOMAIN, CommandLineTests

ROOT = Path(cms.__file__).parent.parent
# What the original's command line has, with what follows there; see docs/operate.md.
TYPED = """
xmpp listen a
xmpp domain meet.example.com
xmpp certs xmpp.key xmpp.crt bundle.crt
xmpp enable
xmpp disable
xmpp restart
xmpp reset
xmpp status
xmpp motd add "Welcome"
xmpp max_sessions 3
xmpp multi_domain add other.example xmpp.key xmpp.crt
xmpp multi_domain list
xmpp cluster enable
xmpp cluster disable
xmpp cluster initialize
xmpp cluster join 192.0.2.1
xmpp cluster trust bundle.crt
xmpp cluster remove 192.0.2.1
callbridge listen a
callbridge certs cb.key cb.crt
callbridge restart
callbridge enable
callbridge disable
callbridge trust c2w bundle.crt
webbridge listen a:443
webbridge certs w.key w.crt
webbridge trust callbridge.crt
webbridge enable
webadmin listen a 445
webadmin certs w.key w.crt
webadmin enable
dns add forwardzone . 192.0.2.53
dns add rr _xmpp
dns flush
syslog follow
pcap a
ntp server add 192.0.2.1
ntp status
date
timezone Europe/Berlin
license
hostname xmpp1
factory_reset app
version
""".strip().splitlines()
# These do what they say; the other tests of commands run them.
DONE = {
    *("xmpp", "xmpp callbridge add", "xmpp callbridge add-secret", "xmpp callbridge list"),
    *("xmpp callbridge del", "xmpp cluster status", "pki csr", "pki list", "dns lookup"),
}


class WordsTests(CommandLineTests):
    """One line with what does it here; nothing is done, and the status says so."""

    def test_table(self) -> None:
        """Each is known, and told in one line."""
        for line in TYPED:
            told = self.refused(*line.split(), status=2)
            self.assertRegex(told, r"(nothing|nobody|only shows)", line)

    def test_all_are_tried(self) -> None:
        """No word of the table is forgotten here."""
        words = [*WORDS, *(f"xmpp {name}" for name in SETTERS)]
        self.assertEqual(
            [], [one for one in words if not any(line.startswith(one) for line in TYPED)]
        )

    def test_done(self) -> None:
        """The others are commands."""
        paths = {context.command_path.removeprefix("cms ") for context in walk(main)}
        self.assertEqual(set(), DONE - paths)

    def test_what_is_named_exists(self) -> None:
        """A command that is named as the cure is one, and so is a key of the configuration."""
        paths = {context.command_path for context in walk(main)}
        keys = (ROOT / "docs" / "configuration.md").read_text()
        for does in (*WORDS.values(), *SETTERS.values()):
            for named in re.findall(r"\bcms((?: [a-z]+)+)", does):
                words = named.split()
                found = any(" ".join(["cms", *words[:n]]) in paths for n in range(1, 4))
                self.assertTrue(found, does)
            for key in re.findall(r"\b(?:tls|listen)\.[a-z]+", does):
                self.assertIn(f"`{key}`", keys)

    def test_hidden(self) -> None:
        """Neither help nor completion offers what does nothing."""
        helped = self.said("--help")
        for word in ("webbridge", "factory_reset", "pcap"):
            self.assertNotIn(word, helped)
        self.assertNotIn("restart", self.said("xmpp", "--help"))

    def test_show_alone(self) -> None:
        """Without more words these show."""
        self.assertIn(f"Domain         : {DOMAIN}", self.said("xmpp", "domain"))

    def test_documented(self) -> None:
        """F{docs/operate.md} has each of them with the same words."""
        page = (ROOT / "docs" / "operate.md").read_text()
        for words, does in {**WORDS, **{f"xmpp {k}": v for k, v in SETTERS.items()}}.items():
            self.assertIn(f"| `{words}` | {does} |\n", page)


class PkiListTests(CommandLineTests):
    """C{cms pki list}."""

    def setUp(self) -> None:
        """A certificate that is good for a year."""
        super().setUp()
        issued = CertificateAuthority("A CA").issue(DOMAIN, [DOMAIN])
        self.write("a.crt", issued.certificate)
        self.write("a.key", issued.key)
        request, _ = certificate_request([DOMAIN])
        self.write("b.csr", request)

    def test_list(self) -> None:
        """Kind, names, until when; no key."""
        found = self.facts("pki", "list")
        self.assertEqual(
            [("a.crt", "certificate"), ("a.key", "key"), ("b.csr", "request")],
            [(one["file"], one["kind"]) for one in found],
        )
        self.assertEqual([f"DNS:{DOMAIN}"], found[0]["names"])
        said = self.said("pki", "list", str(self.folder))
        self.assertRegex(said, rf"a\.crt  certificate  .*DNS:{DOMAIN}  until 2\d\d\d-")
        self.assertNotIn("PRIVATE", said)

    def test_expired(self) -> None:
        """It is said, and the status is 1."""
        later = datetime.now(UTC) + timedelta(days=40_000)
        self.patch(pkilist, "now", lambda: later)
        result = self.cms("pki", "list", status=1)
        self.assertIn("IT HAS EXPIRED", result.stdout)
        self.assertIn("a.crt: it has expired. Cure: ", result.stderr)

    def test_unreadable(self) -> None:
        """What is no PEM, is cut or cannot be read does not hide the others."""
        self.write("0.pem", b"\0\1\2")
        self.write("1.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        (self.folder / "2.pem").mkdir()
        found = self.facts("pki", "list", status=1)
        wrong = [one["file"] for one in found if "problem" in one]
        self.assertEqual(["0.pem", "1.pem", "2.pem"], wrong)
        self.assertEqual(6, len(found))
        self.refused("pki", "list", "/nonexistent", status=2)


class LookupTests(CommandLineTests):
    """C{cms dns lookup}, without a network."""

    def lookup(self, outcome: Answer | NoSuchName) -> list[object]:
        """What DNS says; what was asked."""
        asked: list[object] = []

        def ask(servers: object, name: str, type_: str) -> Answer:
            asked.extend((servers, name, type_))
            if isinstance(outcome, NoSuchName):
                raise outcome
            return outcome

        self.patch(dnslookup, "_ask", ask)
        return asked

    def test_records(self) -> None:
        """As a zone has them, and for machines; the configuration's servers are asked."""
        records = [
            dns.RRHeader(
                b"_x._tcp.example.com", dns.SRV, dns.IN, 60, dns.Record_SRV(1, 2, 3, b"a")
            ),
            dns.RRHeader(b"a", dns.A, dns.IN, 60, dns.Record_A("192.0.2.1")),
            dns.RRHeader(b"a", dns.AAAA, dns.IN, 60, dns.Record_AAAA("2001:db8::1")),
            dns.RRHeader(b"b", dns.CNAME, dns.IN, 60, dns.Record_CNAME(b"a")),
        ]
        asked = self.lookup(Answer(records, (), "192.0.2.53"))
        file = self.folder / "callbridge.toml"
        file.write_text(file.read_text() + '[dns]\nservers = ["192.0.2.53:99"]\n')
        said = self.said("dns", "lookup", "srv", "_x._tcp.example.com.")
        self.assertEqual([(("192.0.2.53", 99),), "_x._tcp.example.com", "SRV"], asked)
        self.assertIn("_x._tcp.example.com. 60 SRV 1 2 3 a.\na. 60 A 192.0.2.1\n", said)
        facts = self.facts("dns", "lookup", "A", "a", "--dns", "::1")
        self.assertEqual("192.0.2.53", facts["server"])
        self.assertEqual("2001:db8::1", facts["records"][2]["address"])
        self.assertEqual([("::1", 53)], asked[3])

    def test_none(self) -> None:
        """No record: status 1, with a cure."""
        self.lookup(Answer((), (), "192.0.2.53"))
        said = self.said("dns", "lookup", "A", "a", status=1)
        self.assertIn("a has no A record. Cure: ", said)
        self.refused("dns", "lookup", "A", "a", "--dns", "nonsense", status=2)
        self.assertRaises(
            click.exceptions.BadParameter, dnslookup.lookup.make_context, "x", ["Z", "a"]
        )
