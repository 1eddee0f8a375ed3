"""Who a request is from, behind a proxy that says so in C{X-Forwarded-For}."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.process.proxy import SAY_AGAIN
from cms.web.forwarded import MOST_HOPS, Forwarded, Forwarding
from tests.support import observe_log

HERE: IAddress = IPv4Address("TCP", "127.0.0.1", 40000)
SOCKET: IAddress = UNIXAddress(None)
FAR: IAddress = IPv4Address("TCP", "192.0.2.10", 40000)
GUEST: IAddress = IPv4Address("TCP", "203.0.113.9", 40000)


class ForwardedTests(SynchronousTestCase):
    """What of the header counts."""

    def setUp(self) -> None:
        """Hear the log."""
        self.clock = Clock()
        self.logged: list[LogEvent] = []
        observe_log(self, self.logged.append)

    def seen(self, *headers: str, peer: IAddress = HERE, believed: bool = True) -> str:
        """The host that a request with these headers is from."""
        forwarding = Forwarding(believed, (ip_network("192.0.2.0/28"),))
        forwarded = Forwarded("listen.web_plain", forwarding, self.clock.seconds)
        client = forwarded.client_of(peer, [header.encode("latin-1") for header in headers])
        return str(getattr(client, "host", "local"))

    def test_client(self) -> None:
        """The last address that is no proxy's, however it is written."""
        for headers, host in (
            (["198.51.100.7"], "198.51.100.7"),
            (["198.51.100.7:51000"], "198.51.100.7"),
            (["[2001:db8::7]:51000"], "2001:db8::7"),
            (["2001:db8::7"], "2001:db8::7"),
            (["::ffff:198.51.100.7"], "198.51.100.7"),
            (["198.51.100.7, 192.0.2.3, 127.0.0.1"], "198.51.100.7"),
            (["198.51.100.7", "192.0.2.3"], "198.51.100.7"),
            (["127.0.0.1"], "127.0.0.1"),  # a browser on the proxy's host
        ):
            for peer in (HERE, SOCKET, FAR):
                self.assertEqual(host, self.seen(*headers, peer=peer), headers)

    def test_lies(self) -> None:
        """What a client has written stands before what the proxy adds, and does not count."""
        for lie in ("127.0.0.1", "192.0.2.3", "10.0.0.1, 127.0.0.1", "x", "", ",,", "\xff\x00"):
            self.assertEqual("198.51.100.7", self.seen(f"{lie}, 198.51.100.7"), lie)
            self.assertEqual("198.51.100.7", self.seen(lie, "198.51.100.7"), lie)
        self.assertEqual("203.0.113.9", self.seen("198.51.100.7", peer=GUEST))
        self.assertEqual([], self.logged)  # or any client could fill the log

    def test_unreadable(self) -> None:
        """Where the proxy's own part is no address, the request is the proxy's."""
        for header in ("unknown", "unix:", "", "198.51.100.7, unknown", "_hidden", "1.2.3"):
            self.assertEqual("127.0.0.1", self.seen(header), header)
        self.assertEqual("192.0.2.3", self.seen("x, 192.0.2.3, 127.0.0.1"))

    def test_many_hops(self) -> None:
        """A header of nothing but proxies is read to a bounded depth."""
        header = ",".join(["198.51.100.7", *["192.0.2.3"] * MOST_HOPS])
        self.assertEqual("192.0.2.3", self.seen(header))

    def test_not_believed(self) -> None:
        """The log says once a minute that the header of a proxy is there and not read."""
        forwarded = Forwarded("listen.web_plain", Forwarding(), self.clock.seconds)
        for _ in range(3):
            self.assertIs(HERE, forwarded.client_of(HERE, [b"198.51.100.7"]))
        self.clock.advance(SAY_AGAIN)
        self.assertIs(SOCKET, forwarded.client_of(SOCKET, [b"198.51.100.7"]))
        self.assertIs(GUEST, forwarded.client_of(GUEST, [b"198.51.100.7"]))
        told = [event["fault"] for event in self.logged]
        self.assertEqual([faults.FORWARDED_UNREAD.name] * 2, told)
        line = formatEvent(self.logged[0])
        self.assertIn("listen.web_plain: 127.0.0.1 names its clients in X-Forwarded-For", line)
        self.assertIn("set listen.forwarded_for", line)

    def test_no_header(self) -> None:
        """A request without the header is of whoever is connected."""
        forwarding = Forwarding(believed=True)
        forwarded = Forwarded("listen.web_plain", forwarding, self.clock.seconds)
        self.assertIs(HERE, forwarded.client_of(HERE, None))
