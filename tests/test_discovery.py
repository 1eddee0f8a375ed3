"""Steps 3 to 6: from what is configured to a connection."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionRefusedError as TCPRefused
from twisted.internet.error import NoRouteError
from twisted.internet.error import TimeoutError as TCPTimeout
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.names import dns, error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.discovery.address import ServerAddress, ascii_domain, parse_server_address
from cms.discovery.lookup import Finder, Found, Target, configured_target, order_targets
from cms.discovery.nameservers import NotByTCP
from cms.discovery.race import Race
from cms.discovery.resolver import DNS, parse_dns_server
from cms.signalflow import Step, StepError
from tests.fakedns import FakeResolver, a, aaaa, cname, srv

DOMAIN = "meet.example.com"
SRV = f"_xmpp-component._tcp.{DOMAIN}"


class AddressTests(SynchronousTestCase):
    """Step 3."""

    def test_forms(self) -> None:
        """Every form that an operator may write."""
        for text, host, port, is_ip in (
            ("xmpp1.example.com", "xmpp1.example.com", 5223, False),
            ("xmpp1.example.com:5555", "xmpp1.example.com", 5555, False),
            (" XMPP1.Example.COM. ", "xmpp1.example.com", 5223, False),
            ("localhost:5223", "localhost", 5223, False),
            ("192.0.2.1", "192.0.2.1", 5223, True),
            ("192.0.2.1:1", "192.0.2.1", 1, True),
            ("[2001:DB8:0::1]", "2001:db8::1", 5223, True),
            ("[2001:db8::1]:65535", "2001:db8::1", 65535, True),
            ("bücher.example", "xn--bcher-kva.example", 5223, False),
            ("b\u00fccher\u3002example:5", "xn--bcher-kva.example", 5, False),
        ):
            self.assertEqual(ServerAddress(host, port, is_ip), parse_server_address(text), text)

    def test_blank_means_srv(self) -> None:
        """Nothing, or only white space, is no address."""
        for text in ("", "  ", "\t"):
            self.assertIsNone(parse_server_address(text))

    def test_refused(self) -> None:
        """What cannot be read names the problem and the cure."""
        for text, problem in (
            ("host:", "port"),
            ("host:0", "port"),
            ("host:65536", "port"),
            ("host:5223x", "port"),
            ("host:-1", "port"),
            ("2001:db8::1", "brackets"),
            ("[2001:db8::1", "bracket"),
            ("[2001:db8::1]5223", "bracket"),
            ("[192.0.2.1]", "IPv6"),
            ("[xmpp1]", "IPv6"),
            ("192.0.2.300", "neither"),
            ("xmpp://host", "port"),
            ("host/path", "not a host name"),
            ("two words", "not a host name"),
            ("under_score.example", "not a host name"),
            ("-x.example", "not a host name"),
            ("a..b", "not a host name"),
            ("x" * 64 + ".example", "not a host name"),
            (".", "not a host name"),
            ("a." * 130 + "b", "not a host name"),
        ):
            failure = self.assertRaises(faults.ConfigurationError, parse_server_address, text)
            self.assertIn(problem, failure.cause, text)
            self.assertEqual(Step.PORT, failure.step)

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text is an address, nothing, or a clear complaint; what is read, reads back."""
        try:
            address = parse_server_address(text)
        except faults.ConfigurationError:
            return
        if address is not None:
            self.assertEqual(address, parse_server_address(str(address)))

    def test_dns_server(self) -> None:
        """The forms of dns.servers."""
        for text, expected in (
            ("192.0.2.1", ("192.0.2.1", 53)),
            ("192.0.2.1:5353", ("192.0.2.1", 5353)),
            ("[::1]", ("::1", 53)),
            ("::1", ("::1", 53)),
            ("[::1]:5353", ("::1", 5353)),
        ):
            self.assertEqual(expected, parse_dns_server(text))
        for text in ("dns.example.com", "192.0.2.1:x", "192.0.2.1:0", ""):
            self.assertRaises(ValueError, parse_dns_server, text)

    def test_domain(self) -> None:
        """A domain in A-labels."""
        self.assertEqual("xn--bcher-kva.example", ascii_domain("Bücher.example"))
        self.assertRaises(ValueError, ascii_domain, "a b")


def target(host: str, priority: int, weight: int) -> Target:
    """A target as far as its order goes."""
    return Target(host, 5223, is_ip=False, source="", priority=priority, weight=weight)


class OrderTests(SynchronousTestCase):
    """RFC 2782."""

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=12), st.randoms())
    def test_priorities(self, given_records: list[tuple[int, int]], random: Random) -> None:
        """Every target is there once, and lower priorities come first."""
        targets = [target(str(i), p, w) for i, (p, w) in enumerate(given_records)]
        ordered = order_targets(targets, random)
        self.assertEqual(sorted(targets, key=str), sorted(ordered, key=str))
        self.assertEqual(sorted(t.priority for t in targets), [t.priority for t in ordered])

    def test_weights_are_a_distribution(self) -> None:
        """Of equal priority, each is first as often as its weight says."""
        weights = {"a": 60, "b": 30, "c": 10}
        targets = [target(host, 5, weight) for host, weight in weights.items()]
        random = Random(20260101)
        rounds = 20_000
        first = Counter(order_targets(targets, random)[0].host for _ in range(rounds))
        # The running sum is compared with a number from 0 to 100, both included,
        # so the shares are those of weight against 101, within 4 standard deviations.
        for host, weight in weights.items():
            share = weight / 101
            deviation = (rounds * share * (1 - share)) ** 0.5
            self.assertLess(abs(first[host] - rounds * share), 4 * deviation + rounds / 101, host)
        second = Counter(
            ordered[1].host
            for ordered in (order_targets(targets, random) for _ in range(rounds))
            if ordered[0].host == "a"
        )
        # then 30 to 11: of the numbers from 0 to 40 the lighter record has 0 to 10
        self.assertLess(abs(30 / 11 - second["b"] / second["c"]), 0.3)

    def test_weight_zero_has_a_small_chance(self) -> None:
        """A weight of 0 is rarely first, but not never."""
        targets = [target("zero", 5, 0), target("ten", 5, 10)]
        random = Random(1)
        first = Counter(order_targets(targets, random)[0].host for _ in range(5_000))
        self.assertGreater(first["zero"], 200)
        self.assertGreater(first["ten"], 8 * first["zero"])


class FinderTestCase(SynchronousTestCase):
    """Looks things up in a zone of its own."""

    def finder(self, zone: dict[str, Any], **options: Any) -> Finder:
        """A finder for a zone."""
        self.clock = Clock()
        self.resolver = FakeResolver(zone, **options)
        return Finder(DNS(self.resolver, "192.0.2.53:53", self.clock), Random(1))

    def targets(self, zone: dict[str, Any], **options: Any) -> Found:
        """Step 4."""
        return self.successResultOf(self.finder(zone, **options).targets(DOMAIN))

    def addresses(
        self, zone: dict[str, Any], host: str = "x1.example.com", **options: Any
    ) -> Found:
        """Step 5 for an SRV target."""
        place = Target(host, 5223, is_ip=False, source="SRV", **options)
        return self.successResultOf(self.finder(zone).addresses(place))


class SRVTests(FinderTestCase):
    """Step 4."""

    def fault(self, zone: dict[str, Any]) -> StepError:
        """The failure of the look-up."""
        deferred = self.finder(zone).targets(DOMAIN)
        self.clock.advance(5)
        error: StepError = self.failureResultOf(deferred, StepError).value
        self.assertEqual(Step.SRV, error.step)
        return error

    def test_found(self) -> None:
        """Targets in order, with port and evidence."""
        found = self.targets(
            {SRV: [srv(20, 0, 5224, "x2.example.com"), srv(10, 0, 5223, "X1.example.com.")]}
        )
        self.assertEqual(
            [("x1.example.com", 5223), ("x2.example.com", 5224)],
            [(t.host, t.port) for t in found.targets],
        )
        self.assertIn("SRV 10 0 5223 x1.example.com (TTL 300 s)", found.evidence["found"])
        self.assertEqual((), found.warnings)

    def test_supplied_addresses(self) -> None:
        """
        Addresses in the additional section are not the whole truth (RFC 2181
        5.4.1): DNS is asked, and only where it does not tell are they used.
        """
        host = "x1.example.com"
        supplied = {host: [a("192.0.2.1")], "y": [a("1.2.3.4")]}
        for entry, expected, warned in (
            ([aaaa("2001:db8::9"), a("192.0.2.9")], ("2001:db8::9", "192.0.2.9"), []),
            (
                {dns.A: error.DNSServerError(), dns.AAAA: [aaaa("2001:db8::9")]},
                ("2001:db8::9", "192.0.2.1"),
                ["address-family-unknown"],
            ),
            (error.DNSServerError(), ("192.0.2.1",), ["address-supplied"]),
            ([], ("192.0.2.1",), ["address-supplied"]),
            (error.DNSNameError(), ("192.0.2.1",), ["address-supplied"]),
        ):
            zone = {SRV: [srv(1, 1, 5223, host)], host: entry}
            finder = self.finder(zone, additional=supplied)
            (place,) = self.successResultOf(finder.targets(DOMAIN)).targets
            found = self.successResultOf(finder.addresses(place))
            self.assertEqual(expected, found.addresses)
            self.assertEqual(warned, [warning.fault for warning in found.warnings])
            asked = [(SRV, dns.SRV), (host, dns.AAAA), (host, dns.A)]
            self.assertEqual(asked, self.resolver.asked)

    def test_faults(self) -> None:
        """Each way in which there is no answer is its own fault."""
        for entry, fault in (
            ([srv(0, 0, 0, ".")], "srv-not-offered"),
            ([], "srv-no-data"),
            ([a("192.0.2.1")], "srv-no-data"),
            (error.DNSServerError(), "dns-failed-srv"),
            (error.DNSFormatError(), "dns-failed-srv"),
            (error.DNSNotImplementedError(), "dns-failed-srv"),
            (error.DNSQueryRefusedError(), "dns-refused-srv"),
            (error.DNSQueryTimeoutError(1), "dns-silent-srv"),
            (error.DNSNameError(), "srv-nxdomain"),
            (None, "dns-silent-srv"),
        ):
            self.assertEqual(fault, self.fault({SRV: entry}).fault, entry)

    def test_misspelt(self) -> None:
        """The misspelt record is looked for, and named."""
        failure = self.fault({f"_xmppcomponent._tcp.{DOMAIN}": [srv(1, 1, 5223, "x1")]})
        self.assertEqual("srv-misspelt", failure.fault)
        self.assertIn(f"_xmppcomponent._tcp.{DOMAIN}", failure.cause)

    def test_client_port(self) -> None:
        """A record that points at the client port is warned of."""
        found = self.targets({SRV: [srv(1, 1, 5222, "x1.example.com")]})
        self.assertIn("5222", found.warnings[0].cause)

    def test_truncated(self) -> None:
        """An answer that was truncated and could not be had over TCP says so."""
        for problem in (DeferredTimeout(), TCPRefused()):
            self.assertEqual("dns-truncated-srv", self.fault({SRV: NotByTCP(problem)}).fault)

    def test_cancel(self) -> None:
        """A look-up can be cancelled and leaves nothing behind."""
        deferred = self.finder({SRV: None}).targets(DOMAIN)
        deferred.cancel()
        self.failureResultOf(deferred)
        self.assertEqual([], self.clock.getDelayedCalls())


class HostTests(FinderTestCase):
    """Step 5."""

    def fault(self, zone: dict[str, Any]) -> StepError:
        """The failure of the look-up."""
        place = Target("x1.example.com", 5223, is_ip=False, source="SRV")
        deferred = self.finder(zone).addresses(place)
        self.clock.advance(5)
        error: StepError = self.failureResultOf(deferred, StepError).value
        self.assertEqual(Step.ADDRESS, error.step)
        return error

    def test_families_in_turn(self) -> None:
        """IPv6 and IPv4 alternate, IPv6 first (RFC 8305 4)."""
        zone = {
            "x1.example.com": [
                a("192.0.2.1"),
                a("192.0.2.2"),
                aaaa("2001:db8::1"),
            ]
        }
        self.assertEqual(("2001:db8::1", "192.0.2.1", "192.0.2.2"), self.addresses(zone).addresses)

    def test_one_family_is_enough(self) -> None:
        """When one family cannot be asked, the other serves, with a warning."""
        zone = {"x1.example.com": {dns.A: [a("192.0.2.1")], dns.AAAA: error.DNSServerError()}}
        found = self.addresses(zone)
        self.assertEqual(("192.0.2.1",), found.addresses)
        self.assertIn("SERVFAIL", found.warnings[0].cause)

    def test_faults(self) -> None:
        """Each way in which there is no address is its own fault."""
        host = "x1.example.com"
        for zone, fault in (
            ({}, "host-nxdomain"),
            ({host: []}, "host-no-data"),
            ({host: error.DNSServerError()}, "dns-failed-address"),
            ({host: error.DNSQueryRefusedError()}, "dns-refused-address"),
            ({host: None}, "dns-silent-address"),
            ({host: [cname("gone.example.com")]}, "host-alias-broken"),
            ({host: [cname(host)]}, "host-alias-broken"),
            ({host: [cname("b")], "b": [cname(host)]}, "host-alias-broken"),
        ):
            self.assertEqual(fault, self.fault(zone).fault, zone)

    def test_alias(self) -> None:
        """An alias is followed; at an SRV target it is warned of, at a configured host not."""
        zone = {"x1.example.com": [cname("real.example.com")], "real.example.com": [a("192.0.2.9")]}
        found = self.addresses(zone)
        self.assertEqual(("192.0.2.9",), found.addresses)
        self.assertIn("RFC 2782", found.warnings[0].cause)
        configured = configured_target(ServerAddress("x1.example.com", 5223, is_ip=False))
        again = self.successResultOf(self.finder(zone).addresses(configured))
        self.assertEqual(((), "real.example.com"), (again.warnings, again.evidence["alias"]))

    def test_nothing_to_ask(self) -> None:
        """Addresses and localhost are never asked of DNS (RFC 6761)."""
        for host, is_ip, expected in (
            ("192.0.2.1", True, ("192.0.2.1",)),
            ("localhost", False, ("::1", "127.0.0.1")),
            ("box.localhost", False, ("::1", "127.0.0.1")),
        ):
            finder = self.finder({})
            place = configured_target(ServerAddress(host, 5223, is_ip))
            self.assertEqual(expected, self.successResultOf(finder.addresses(place)).addresses)
            self.assertEqual([], self.resolver.asked)


class RaceTests(SynchronousTestCase):
    """Step 6: Happy Eyeballs (RFC 8305 5)."""

    def setUp(self) -> None:
        """A reactor in memory."""
        self.reactor = MemoryReactorClock()
        self.made: list[Protocol] = []

    def make(self) -> Protocol:
        """A protocol for a connection."""
        self.made.append(Protocol())
        return self.made[-1]

    def race(self, *addresses: str) -> Any:
        """Begin."""
        race = Race(self.reactor, self.make, addresses, 5223, timeout=10)
        return race.run()

    def tried(self) -> list[str]:
        """The addresses that are being, or were, tried."""
        return [client[0] for client in self.reactor.tcpClients]

    def connect(self, number: int) -> StringTransport:
        """A connection comes about."""
        protocol = self.reactor.tcpClients[number][2].buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = lambda: setattr(transport, "aborting", True)  # type: ignore[method-assign]
        assert protocol is not None
        protocol.makeConnection(transport)
        return transport

    def fail(self, number: int, reason: Exception) -> None:  # type: ignore[override]
        """A connection fails."""
        factory = self.reactor.tcpClients[number][2]
        factory.clientConnectionFailed(self.reactor.connectors[number], Failure(reason))

    def test_first_wins(self) -> None:
        """The first connection wins and nothing else is tried."""
        deferred = self.race("2001:db8::1", "192.0.2.1")
        self.connect(0)
        self.assertEqual((self.made[0], "2001:db8::1"), self.successResultOf(deferred))
        self.reactor.advance(1)
        self.assertEqual(["2001:db8::1"], self.tried())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_stagger(self) -> None:
        """After a quarter of a second the next address is tried beside the first."""
        deferred = self.race("2001:db8::1", "192.0.2.1")
        self.reactor.advance(0.2)
        self.assertEqual(1, len(self.tried()))
        self.reactor.advance(0.06)
        self.assertEqual(["2001:db8::1", "192.0.2.1"], self.tried())
        self.connect(1)
        self.assertEqual("192.0.2.1", self.successResultOf(deferred)[1])

    def test_failure_hurries(self) -> None:
        """A failure starts the next address at once."""
        self.race("2001:db8::1", "192.0.2.1")
        self.fail(0, TCPRefused())
        self.assertEqual(["2001:db8::1", "192.0.2.1"], self.tried())

    def test_all_fail(self) -> None:
        """The most telling failure is reported, with the others as evidence."""
        deferred = self.race("2001:db8::1", "192.0.2.1", "192.0.2.2")
        for number, reason in enumerate((NoRouteError(), TCPTimeout(), TCPRefused())):
            self.fail(number, reason)
        failure = self.failureResultOf(deferred, StepError).value
        self.assertEqual("connect-refused", failure.fault)
        self.assertIn("192.0.2.2", failure.cause)
        self.assertIn("2001:db8::1", failure.evidence["others"])
        self.assertIn("192.0.2.1 did not answer", failure.evidence["others"])
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_each_fault(self) -> None:
        """Refused, silent and unreachable are told apart."""
        for reason, fault in (
            (TCPRefused(), "connect-refused"),
            (TCPTimeout(), "connect-timeout"),
            (NoRouteError(), "connect-unreachable"),
            (OSError(101, "Network is unreachable"), "connect-unreachable"),
        ):
            self.setUp()
            deferred = self.race("192.0.2.1")
            self.fail(0, reason)
            self.assertEqual(fault, self.failureResultOf(deferred, StepError).value.fault)

    def test_cancel(self) -> None:
        """A cancelled race stops everything."""
        deferred = self.race("2001:db8::1", "192.0.2.1")
        self.reactor.advance(0.3)
        deferred.cancel()
        self.failureResultOf(deferred)
        self.assertEqual([], self.reactor.getDelayedCalls())
