"""The PROXY protocol: who a connection through a proxy is for, and what a liar can do."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.process.endpointstrings import check_plain, read_endpoint
from cms.process.proxy import HEADER_TIMEOUT, MOST_WAITING, ProxiedFactory
from cms.process.proxyheader import (
    MOST_V2,
    SIGNATURE,
    NoProxyHeader,
    ProxyHeader,
    begins_header,
    read_header,
)
from cms.protection.connections import Limits
from cms.xmlstream.stream import XMLStream
from cms.xmpp import clientstates
from cms.xmpp.listeners import StreamFactory
from tests.support import MemoryTransport, as_observer, header, observe_log
from tests.xmppserver import Server

V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 5222\r\n"


def v2(told: bytes, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
    """A header of version 2."""
    size = len(told) if size is None else size
    return SIGNATURE + struct.pack("!BBH", command, family, size) + told


def addresses(family: int = socket.AF_INET, source: str = "203.0.113.9") -> bytes:
    """Those of a connection, as version 2 has them."""
    own = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"
    both = socket.inet_pton(family, source) + socket.inet_pton(family, own)
    return both + struct.pack("!HH", 56324, 5222)


V6 = addresses(socket.AF_INET6, "2001:db8::9")
TLV = b"\x04\x00\x05noise"
SOURCE = ("203.0.113.9", 56324)


class HeaderTests(SynchronousTestCase):
    """Reading, as proxy-protocol.txt has it."""

    GOOD = (
        (V1, SOURCE),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 1 2\r\n", ("2001:db8::9", 1)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        (v2(addresses()), SOURCE),
        (v2(addresses() + TLV), SOURCE),
        (v2(V6, family=0x21), ("2001:db8::9", 56324)),
        (v2(b"", command=0x20, family=0), None),  # LOCAL: the proxy's own look
        (v2(addresses(), command=0x20), None),
        (v2(b"", family=0), None),  # UNSPEC
        (v2(TLV, family=0), None),
        (v2(bytes(216), family=0x31), None),  # UNIX
    )

    def test_good(self) -> None:
        """What it says, wherever it is cut, and what follows it."""
        for data, source in self.GOOD:
            for rest in (b"", b"<stream:stream>"):
                self.assertEqual(ProxyHeader(source, rest), read_header(data + rest), data)
            for end in range(len(data)):
                self.assertIsNone(read_header(data[:end]), data[:end])

    def test_bad(self) -> None:
        """What will never be one is told at once, however much more would come."""
        for data in (
            b"GET / HTTP/1.1\r\n",
            b"<?xml version='1.0'?>",
            b"\x16\x03\x01\x02\x00",
            b"PROXY TCP4 203.0.113.9\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 5222 1\r\n",
            b"PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 5222\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 5222\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 \xb2 5222\r\n",
            b"PROXY TCP5 203.0.113.9 192.0.2.1 1 2\r\n",
            b"PROXY  \r\n",
            b"PROXY " + b"x" * 102,
            v2(addresses(), command=0x11),
            v2(addresses(), command=0x22),
            v2(addresses(), family=0x12),
            v2(addresses(), family=0x41),
            v2(addresses()[:11]),
            v2(addresses(), family=0x21),
            v2(b"", size=MOST_V2 + 1),
        ):
            self.assertRaises(NoProxyHeader, read_header, data)

    @given(st.binary(max_size=300), st.sampled_from((b"", b"PROXY ", SIGNATURE)))
    def test_any_bytes(self, data: bytes, beginning: bytes) -> None:
        """Nothing else is raised, and nothing waits for more than a header's length."""
        try:
            read_header(beginning + data)
            awaited = read_header(beginning + data + b"x" * (MOST_V2 + 300)) is None
        except NoProxyHeader:
            awaited = False
        self.assertFalse(awaited)

    def test_where_none_is_awaited(self) -> None:
        """It is known by its first bytes; the beginnings of others are not taken for it."""
        for data, _ in self.GOOD:
            self.assertTrue(begins_header(data[:16]), data)
        for data in (
            b"",
            b"PROX",
            b"PROXIES",
            b"<stream",
            b"\x16\x03\x01\x02\x00\x01",
            b"\r\n\r\n<",
        ):
            self.assertFalse(begins_header(data), data)


class Noted(Protocol):
    """Notes what comes."""

    def __init__(self) -> None:
        self.heard = b""
        self.peer: Any = None

    def connectionMade(self) -> None:
        """Who it is."""
        self.peer = self.transport.getPeer()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Note it."""
        self.heard += data


class Wire(MemoryTransport):
    """Hands what comes to whoever is its protocol."""

    def receive(self, data: bytes) -> None:
        """As a reactor does."""
        self.protocol.dataReceived(data)


class ProxiedTests(SynchronousTestCase):
    """A listener behind a proxy."""

    def setUp(self) -> None:
        """One that trusts 192.0.2.0/24 beside this host."""
        self.clock = Clock()
        self.made: list[tuple[Any, Noted]] = []
        wrapped = Factory()
        wrapped.buildProtocol = self.build  # type: ignore[method-assign, assignment]
        networks = (ip_network("192.0.2.0/24"),)
        self.factory = ProxiedFactory(self.clock, wrapped, "listen.client", networks)
        self.said: list[str] = []
        observe_log(self, self.note)

    def note(self, event: Any) -> None:
        """What is logged."""
        if "fault" in event:
            self.said.append(f"{event['fault']}: {event['cause']}")

    def build(self, address: Any) -> Noted:
        """What the connections are for."""
        made = Noted()
        self.made.append((address, made))
        return made

    def connect(self, host: str = "192.0.2.5") -> Wire:
        """A connection of a proxy."""
        wire = Wire(host)
        built = self.factory.buildProtocol(wire.getPeer())
        assert built is not None
        wire.connect(built)
        return wire

    def test_client(self) -> None:
        """Nothing is made before the header is complete; then all is the client's."""
        for data in (V1, v2(addresses() + TLV)):
            wire = self.connect()
            for byte in data[:-1]:
                wire.receive(bytes([byte]))
            self.assertEqual([], self.made)
            wire.receive(data[-1:] + b"<stream")
            wire.receive(b":stream>")
            ((address, made),) = self.made
            self.assertEqual(IPv4Address("TCP", *SOURCE), address)
            self.assertEqual(address, made.peer)
            self.assertEqual(b"<stream:stream>", made.heard)
            self.assertEqual([], self.clock.getDelayedCalls())
            self.made.clear()
        self.assertEqual(0, self.factory.waiting)

    def test_client_of_ipv6(self) -> None:
        """Likewise."""
        self.connect().receive(v2(V6, family=0x21))
        self.assertEqual(IPv6Address("TCP", "2001:db8::9", 56324), self.made[0][0])

    def test_nobody_to_tell(self) -> None:
        """A look of the proxy's own is the proxy's."""
        self.connect().receive(v2(b"", command=0x20, family=0))
        self.assertEqual("192.0.2.5", self.made[0][0].host)

    def test_who_may_tell(self) -> None:
        """This host, a UNIX socket and the list; nobody else is heard."""
        for address, heard in (
            (IPv4Address("TCP", "192.0.2.200", 1), True),
            (IPv4Address("TCP", "127.0.0.1", 1), True),
            (IPv6Address("TCP", "::1", 1), True),
            (IPv6Address("TCP", "::ffff:192.0.2.7", 1), True),
            (UNIXAddress(None), True),
            (IPv4Address("TCP", "203.0.113.9", 1), False),
            (IPv6Address("TCP", "2001:db8::1", 1), False),
        ):
            self.assertIs(heard, self.factory.buildProtocol(address) is not None, address)
        self.assertEqual(1, len(self.said))  # not for each of them
        self.assertIn("listen.client: 203.0.113.9 may not say", self.said[0])

    def test_no_header(self) -> None:
        """What is none ends the connection, and is told with the cure."""
        for data in (b"<stream:stream>", b"\x16\x03\x01", b"PROXY nonsense\r\n", V1[:20] * 10):
            wire = self.connect()
            wire.receive(data)
            self.assertTrue(wire.lost)
            wire.receive(V1)
        self.assertEqual([], self.made)
        self.assertEqual(1, len(self.said))
        self.assertIn("proxy-missing: listen.client: 192.0.2.5 port", self.said[0])
        self.clock.advance(60)
        self.connect().receive(b"GET /")
        self.assertEqual(2, len(self.said))

    def test_flood(self) -> None:
        """No more is kept than a header has, though no end of the line comes."""
        wire = self.connect()
        wire.receive(b"PROXY ")
        fed = 0
        while not wire.lost:
            wire.receive(b"x")
            fed += 1
        self.assertLessEqual(fed, 107)

    def test_time(self) -> None:
        """Who sends nothing is not waited for; a mere look is not told."""
        silent, slow = self.connect(), self.connect()
        slow.receive(b"PROXY TCP4")
        self.connect().lose()
        self.assertEqual(2, self.factory.waiting)
        self.clock.advance(HEADER_TIMEOUT)
        self.assertTrue(silent.lost and slow.lost)
        self.assertEqual(0, self.factory.waiting)
        self.assertEqual(1, len(self.said))
        self.assertIn("nothing complete came within 5 s", self.said[0])

    def test_most_waiting(self) -> None:
        """Their number has a bound."""
        for _ in range(MOST_WAITING):
            wire = self.connect()
        address = IPv4Address("TCP", "192.0.2.5", 1)
        self.assertIsNone(self.factory.buildProtocol(address))
        wire.receive(V1)
        self.assertIsNotNone(self.factory.buildProtocol(address))

    def test_limits_have_the_client_address(self) -> None:
        """What is counted by address counts the client's."""
        server = Server()
        streams = StreamFactory(
            lambda: XMLStream(self.clock, clientstates.begin(server.clients, None)),
            Limits.of(10, 1, 1),
            self.clock.seconds,
        )
        factory = ProxiedFactory(self.clock, streams, "listen.client_plain")
        wires = []
        for source in (SOURCE[0], SOURCE[0], "203.0.113.10"):
            wire = Wire("127.0.0.1")
            built = factory.buildProtocol(wire.getPeer())
            assert built is not None
            wire.connect(built)
            wire.receive(v2(addresses(source=source)))
            wires.append(wire)
        lost = [wire.lost for wire in wires]
        self.assertEqual([True, False, False], lost)  # the older of the two makes room

    def test_a_header_where_none_is_awaited(self) -> None:
        """It is told as what it is, with the cure, on each kind of stream."""
        server = Server()
        for data in (V1, v2(addresses())):
            for peer in (server.client(), server.component()):
                self.said.clear()
                events: list[Any] = []
                globalLogPublisher.addObserver(as_observer(events.append))
                peer.say(data + header())
                globalLogPublisher.removeObserver(as_observer(events.append))
                causes = [e["cause"] for e in events if "haproxy:" in str(e.get("cure"))]
                self.assertEqual(1, len(causes), data)
                self.assertIn("began with a header of the PROXY protocol", causes[0])
                self.assertTrue(peer.lost)


class EndpointTests(SynchronousTestCase):
    """What may stand in C{[listen]}."""

    def test_kinds(self) -> None:
        """What would serve nobody is refused with file, key and cure."""
        for good in ("tcp:1", "tcp6:1", "unix:/x", "systemd:domain=INET:index=0"):
            read_endpoint("listen.client", good, "xmpp.toml")
            read_endpoint("listen.client", f"haproxy:{good}", "xmpp.toml")
        for bad, cure in (
            ("ssl:5223:privateKey=x", "Write tcp: in place of ssl:"),
            ("haproxy:ssl:5223", "Write tcp: in place of ssl:"),
            ("tls:tcp:5223", "Write tcp: in place of tls:"),
            ("haproxy:haproxy:tcp:5223", "Write haproxy: once."),
            ("onion:5223", "Write a Twisted endpoint string"),
            ("5223", "Write a Twisted endpoint string"),
            ("haproxy:", "Write a Twisted endpoint string"),
        ):
            args = ("listen.client", bad, "xmpp.toml")
            problem = self.assertRaises(faults.ConfigurationError, read_endpoint, *args)
            self.assertIn(f'xmpp.toml: listen.client: "{bad}"', problem.cause)
            self.assertIn(cure, problem.cure)

    def test_plain_behind_a_proxy(self) -> None:
        """A listener without TLS stays on this host, whoever says whom he speaks for."""
        check_plain("listen.client_plain", "haproxy:tcp:1:interface=127.0.0.1", "x")
        check_plain("listen.client_plain", "haproxy:unix:/run/x", "x")
        self.assertRaises(
            faults.ConfigurationError, check_plain, "listen.client_plain", "haproxy:tcp:1", "x"
        )
