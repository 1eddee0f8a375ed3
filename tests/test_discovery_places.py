"""Steps 3 to 5 where DNS, or an operator, is less than tidy."""

from __future__ import annotations

import gc
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.names import dns, error
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.discovery.address import ascii_domain, parse_server_address
from cms.discovery.lookup import Finder, Found, Target
from cms.discovery.message import Reply
from cms.discovery.resolver import DNS
from cms.signalflow import StepError
from tests.fakedns import FakeResolver, a, aaaa, cname, srv

DOMAIN = "meet.example.com"
SRV = f"_xmpp-component._tcp.{DOMAIN}"
MISSPELT = f"_xmppcomponent._tcp.{DOMAIN}"
HOST = "x1.example.com"


def missing(*records: Any) -> error.DNSNameError:
    """NXDOMAIN as servers send it: with the aliases that led there."""
    answers = [dns.RRHeader(HOST.encode(), r.TYPE, dns.IN, 300, r) for r in records]
    return error.DNSNameError(Reply(dns.ENAME, answers=answers))


class ComplaintTests(SynchronousTestCase):
    """Step 3 says what is wrong with an address."""

    def test_complaints(self) -> None:
        """Each kind of mistake is named."""
        for text, problem in (
            ("xmpp://host.example:5223", "URL"),
            ("host.example/path", "URL"),
            ("two words", "white space"),
            ("a..b", "empty"),
            ("host..", "empty"),
            (".host", "empty"),
            ("a" * 64 + ".example", "longer than 63"),
            (".".join(["a" * 50] * 6), "longer than 253"),
            ("under_score.example", "underscore"),
            ("-x.example", "letters, digits"),
            ("[::1%a b]", "no IPv6 address"),
            ("[::1%]", "no IPv6 address"),
        ):
            failure = self.assertRaises(faults.ConfigurationError, parse_server_address, text)
            self.assertEqual("server-address-invalid", failure.fault)
            self.assertIn(problem, failure.cause)

    def test_longest(self) -> None:
        """63 characters of a label and 253 of a name are not too many."""
        label = "a" * 63
        name = ".".join([label, label, label, "a" * 61])
        self.assertEqual((253, name), (len(name), ascii_domain(name)))
        self.assertRaises(ValueError, ascii_domain, f"{name}a")

    def test_trailing_dot(self) -> None:
        """One dot at the end is dropped, whichever dot it is."""
        for text in ("host.example", "host.example.", "host.example\u3002"):
            self.assertEqual("host.example", ascii_domain(text))

    def test_zone(self) -> None:
        """A link-local address keeps its zone (RFC 4007)."""
        address = parse_server_address("[FE80::1%eth0]:5223")
        assert address is not None
        self.assertEqual(("fe80::1%eth0", True), (address.host, address.is_ip))

    @given(st.text(alphabet="ab-_.:/[]%1\u00fc\u3002 \n", max_size=24))
    def test_only_clean_hosts(self, text: str) -> None:
        """Nothing but a tidy host comes out, and it reads back as itself."""
        try:
            address = parse_server_address(text)
        except faults.ConfigurationError:
            return
        if address is not None:
            self.assertRegex(address.host, r"\A[a-z0-9.:%_~-]+\Z")
            self.assertEqual(address, parse_server_address(str(address)))


class UntidyTestCase(SynchronousTestCase):
    """Looks things up in a zone of its own."""

    def finder(self, zone: dict[str, Any], **options: Any) -> Finder:
        """A finder for a zone."""
        self.clock = Clock()
        self.resolver = FakeResolver(zone, **options)
        return Finder(DNS(self.resolver, "192.0.2.53:53", self.clock), Random(1))

    def failure(self, deferred: Deferred[Found]) -> str:
        """The fault that a look-up ended with."""
        self.clock.advance(5)
        problem: StepError = self.failureResultOf(deferred, StepError).value
        return problem.fault


class UntidySRVTests(UntidyTestCase):
    """Step 4."""

    def test_several_roots(self) -> None:
        """More than one record with the target "." still means: not offered."""
        zone = {SRV: [srv(0, 0, 0, "."), srv(1, 0, 0, ".")]}
        self.assertEqual("srv-not-offered", self.failure(self.finder(zone).targets(DOMAIN)))

    def test_root_beside_others(self) -> None:
        """A "." beside a real target is no place to try."""
        zone = {SRV: [srv(0, 0, 0, "."), srv(1, 0, 5223, HOST)]}
        found = self.successResultOf(self.finder(zone).targets(DOMAIN))
        self.assertEqual([HOST], [target.host for target in found.targets])

    def test_misspelt_only_when_missing(self) -> None:
        """The misspelt record is asked for only when the right one does not exist."""
        both = {SRV: [srv(1, 1, 5223, HOST)], MISSPELT: [srv(1, 1, 5223, HOST)]}
        self.successResultOf(self.finder(both).targets(DOMAIN))
        self.assertEqual([(SRV, dns.SRV)], self.resolver.asked)
        empty = {SRV: [], MISSPELT: [srv(1, 1, 5223, HOST)]}
        self.assertEqual("srv-no-data", self.failure(self.finder(empty).targets(DOMAIN)))
        self.assertEqual([(SRV, dns.SRV)], self.resolver.asked)

    def test_misspelt_cannot_be_asked(self) -> None:
        """When the misspelt record cannot be asked for, the missing one is the news."""
        entries: list[Any] = [error.DNSServerError(), None, []]
        for entry in entries:
            deferred = self.finder({MISSPELT: entry}).targets(DOMAIN)
            self.assertEqual("srv-nxdomain", self.failure(deferred))

    def test_address_as_target(self) -> None:
        """A target that is written like an IP address is warned of."""
        found = self.successResultOf(
            self.finder({SRV: [srv(1, 1, 5223, "192.0.2.1")]}).targets(DOMAIN)
        )
        self.assertIn("192.0.2.1", found.warnings[0].cause)

    def test_control_characters(self) -> None:
        """Octets of a record that could disturb a log or a terminal are escaped."""
        record = dns.Record_SRV(1, 1, 5223, b"a\nb\x1b[31m\xff.example")
        found = self.successResultOf(self.finder({SRV: [record]}).targets(DOMAIN))
        shown = f"{found.targets[0].host}{found.evidence}{found.warnings}"
        self.assertTrue(shown.isprintable() and shown.isascii())
        self.assertEqual("a\\010b\\027[31m\\255.example", found.targets[0].host)

    def test_supplied_in_turn(self) -> None:
        """Addresses that came with the SRV answer alternate too (RFC 8305 4)."""
        additional = {
            HOST: [a("192.0.2.1"), a("192.0.2.2"), aaaa("2001:db8::1"), aaaa("2001:db8::2")]
        }
        finder = self.finder({SRV: [srv(1, 1, 5223, HOST)]}, additional=additional)
        (target,) = self.successResultOf(finder.targets(DOMAIN)).targets
        expected = ("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2")
        self.assertEqual(expected, self.successResultOf(finder.addresses(target)).addresses)

    def test_twice(self) -> None:
        """A record that is there twice is one target."""
        zone = {SRV: [srv(1, 1, 5223, HOST), srv(1, 1, 5223, HOST)]}
        self.assertEqual(1, len(self.successResultOf(self.finder(zone).targets(DOMAIN)).targets))

    def test_many_targets(self) -> None:
        """What a round does not try of a long record is named all the same."""
        records = [srv(n, 1, 5223, f"x{n}.example.com") for n in range(40)]
        found = self.successResultOf(self.finder({SRV: records}).targets(DOMAIN))
        self.assertEqual([f"x{n}.example.com" for n in range(32)], [t.host for t in found.targets])
        rest = ", ".join(f"x{n}.example.com:5223" for n in range(32, 40))
        self.assertEqual(rest, found.evidence["not_tried"])


class UntidyHostTests(UntidyTestCase):
    """Step 5."""

    def addresses(self, zone: dict[str, Any]) -> Deferred[Found]:
        """Look the host up."""
        return self.finder(zone).addresses(Target(HOST, 5223, is_ip=False, source="SRV"))

    def test_alias_to_nowhere(self) -> None:
        """An alias to a missing name is a broken alias, not a missing host (RFC 6604)."""
        deferred = self.addresses({HOST: missing(cname("gone.example.com"))})
        self.clock.advance(5)
        problem = self.failureResultOf(deferred, StepError).value
        self.assertEqual("host-alias-broken", problem.fault)
        self.assertIn("gone.example.com", problem.cause)
        self.assertEqual("host-nxdomain", self.failure(self.addresses({HOST: missing()})))

    def test_alias_that_could_not_be_asked(self) -> None:
        """An alias is broken only when DNS said so."""
        for entry, fault in (
            (error.DNSServerError(), "dns-failed-address"),
            (None, "dns-silent-address"),
        ):
            zone = {HOST: [cname("y1.example.com")], "y1.example.com": entry}
            self.assertEqual(fault, self.failure(self.addresses(zone)))

    def test_missing_is_certain(self) -> None:
        """NXDOMAIN for one type is true of the other (RFC 8020)."""
        for entry in (error.DNSServerError(), None):
            zone = {HOST: {dns.A: error.DNSNameError(), dns.AAAA: entry}}
            self.assertEqual("host-nxdomain", self.failure(self.addresses(zone)))

    def test_no_data_is_not_certain(self) -> None:
        """No address of one family, and no answer for the other, is the DNS server's failure."""
        zone = {HOST: {dns.A: [], dns.AAAA: error.DNSServerError()}}
        self.assertEqual("dns-failed-address", self.failure(self.addresses(zone)))

    def test_both_at_once(self) -> None:
        """A and AAAA are asked for at the same time."""
        self.addresses({HOST: None})
        self.assertCountEqual([(HOST, dns.A), (HOST, dns.AAAA)], self.resolver.asked)

    def test_long_chain(self) -> None:
        """Aliases are followed over many answers, but not for ever."""
        for length, found in ((6, True), (40, False)):
            zone: dict[str, Any] = {HOST: {dns.A: [cname("c0")], dns.AAAA: [cname("c0")]}}
            for i in range(length):
                link = [cname(f"c{i + 1}")]
                zone[f"c{i}"] = {dns.A: link, dns.AAAA: link}
            zone[f"c{length}"] = {dns.A: [a("192.0.2.9")], dns.AAAA: []}
            deferred = self.addresses(zone)
            self.assertLessEqual(len(self.resolver.asked), 16)
            if found:
                self.assertEqual(("192.0.2.9",), self.successResultOf(deferred).addresses)
            else:
                self.assertEqual("host-alias-broken", self.failure(deferred))

    def test_loop_is_asked_once(self) -> None:
        """A name of a loop is not asked for again."""
        self.failure(self.addresses({HOST: [cname(HOST)]}))
        self.assertEqual(2, len(self.resolver.asked))

    def test_many_addresses(self) -> None:
        """A host with hundreds of addresses is tried at a bounded number of them."""
        zone = {HOST: [a(f"192.0.2.{n}") for n in range(200)]}
        found = self.successResultOf(self.addresses(zone))
        self.assertEqual(tuple(f"192.0.2.{n}" for n in range(16)), found.addresses)
        self.assertIn("192.0.2.199", found.evidence["not_tried"])

    def test_hosts_file(self) -> None:
        """A name of the hosts file is not asked of DNS, for neither family."""
        finder = self.finder({HOST: [aaaa("2001:db8::1")]})
        finder._dns.hosts = {HOST: ("192.0.2.7",)}.__getitem__
        target = Target(HOST, 5223, is_ip=False, source="SRV", supplied=("192.0.2.1",))
        found = self.successResultOf(finder.addresses(target))
        self.assertEqual((("192.0.2.7",), "/etc/hosts"), (found.addresses, found.evidence["from"]))
        self.assertEqual([], self.resolver.asked)

    def test_short_name(self) -> None:
        """A short name is not completed, and that is said with the domains that others try."""
        finder = self.finder({})
        finder._dns.search = lambda: ["example.com", "example.net"]
        deferred = finder.addresses(Target("x1", 5223, is_ip=False, source="configured"))
        problem = self.failureResultOf(deferred, StepError).value
        self.assertEqual("host-short", problem.fault)
        self.assertIn("search domains (example.com, example.net) are not tried", problem.cause)
        self.assertIn("whole name", problem.cure)
        self.assertEqual({"x1"}, {name for name, _ in self.resolver.asked})

    def test_cancel(self) -> None:
        """A cancelled look-up leaves neither a timer nor an unhandled error."""
        deferred = self.addresses({HOST: None})
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        del deferred
        gc.collect()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], self.flushLoggedErrors())
