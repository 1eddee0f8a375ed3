"""The HTTP server under the API: bounds of a request, of a connection, of its share of time."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.callbridgeapi import operations_of_callbridge
from cms.protection.connections import ConnectionLimiter, Limits
from cms.web.pace import BURST, IDLE_SHARE, SHARE, Pace, PacedConnection, PacedFactory
from cms.web.site import DEADLINE, IDLE, MOST_BODY, LimitedSite
from tests.adminclient import FakeCallbridge, front

PEER = IPv4Address("TCP", "192.0.2.7", 12345)
PUT = "PUT /api/v1/system/configuration/xmpp HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Transport(StringTransport):
    """A transport that is cut at once."""

    def abortConnection(self) -> None:
        """From the channel."""
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Likewise."""


class SiteTestCase(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        """A site, and a connection to it."""
        self.clock = Clock()
        self.role = FakeCallbridge()
        self.site = LimitedSite(
            front(operations_of_callbridge(self.role, self.clock), self.clock), self.clock
        )
        self.protocol, self.transport = self.connect()

    def connect(self) -> tuple[Any, Transport]:
        """A connection."""
        protocol: Any = self.site.buildProtocol(PEER)
        transport = Transport(peerAddress=PEER)
        protocol.makeConnection(transport)

        def end() -> None:
            protocol.connectionLost(Failure(ConnectionDone()))

        self.addCleanup(end)
        return protocol, transport

    def say(self, *parts: str | bytes) -> bytes:
        """Send something; what came back for it."""
        self.transport.clear()
        for part in parts:
            self.protocol.dataReceived(part.encode() if isinstance(part, str) else part)
        said: bytes = self.transport.value()
        return said


class SiteTests(SiteTestCase):
    """What is served, within which bounds."""

    def test_keep_alive(self) -> None:
        """One request after the other, also in one piece."""
        answer = self.say(GET, GET + GET)
        self.assertEqual(3, answer.count(b"HTTP/1.1 200 OK"))
        self.assertFalse(self.transport.disconnecting)

    def test_body(self) -> None:
        """As long as allowed, in pieces, after a 100 Continue as the field's clients ask."""
        body = "domain=" + "x" * 200
        head = f"{PUT}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", self.say(head))
        self.assertIn(b" 200 OK", self.say(*body))
        self.assertEqual([("configure", {"domain": "x" * 200})], self.role.calls)

    def test_too_long(self) -> None:
        """Refused as soon as it is known, and the connection ends."""
        answer = self.say(f"{PUT}Content-Length: {MOST_BODY + 1}\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
        self.assertTrue(answer.endswith(b"<failureDetails><bodyTooLong /></failureDetails>"))
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(b"", self.say(b"x" * (MOST_BODY + 1)))
        self.assertEqual([], self.role.calls)

    def test_too_long_in_chunks(self) -> None:
        """The same when its length is not told."""
        self.say(f"{PUT}Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        self.assertEqual(b"", self.say(chunk, chunk))
        self.assertIn(b" 413 ", self.say(b"1\r\nx\r\n"))
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(b"", self.say(chunk * 100, b"0\r\n\r\n"))

    def test_longest_head(self) -> None:
        """8 KiB, or 100 headers."""
        for head in ("X: " + "x" * 5000 + "\r\n", "".join(f"X{n}: y\r\n" for n in range(101))):
            self.protocol, self.transport = self.connect()
            self.assertIn(b" 400 ", self.say(f"GET / HTTP/1.1\r\n{head}{head}\r\n"))
            self.assertTrue(self.transport.disconnecting)

    def test_no_multipart(self) -> None:
        """Nothing reads a form but the operations."""
        answer = self.say(
            "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\nabcd"
        )
        self.assertIn(b" 415 ", answer)

    def test_idle(self) -> None:
        """A connection without a word ends."""
        self.say(GET)
        self.clock.advance(IDLE)
        self.assertTrue(self.transport.disconnecting)

    def test_slow(self) -> None:
        """A request that comes byte by byte has to be whole in time."""
        for byte in GET.decode()[:29]:
            self.say(byte)
            self.clock.advance(1)
            self.assertFalse(self.transport.disconnecting)
        self.clock.advance(DEADLINE - 29)
        self.assertTrue(self.transport.disconnecting)

    def test_time_begins_anew(self) -> None:
        """For each request."""
        for _ in range(5):
            self.clock.advance(DEADLINE - 1)
            self.assertIn(b" 200 ", self.say(GET[:10], GET[10:]))


class Port:
    """A port that can be told not to accept."""

    reading = True

    def getHost(self) -> IPv4Address:
        """Where it is."""
        return IPv4Address("TCP", "127.0.0.1", 5280)

    def stopListening(self) -> None:
        """The end."""

    def stopReading(self) -> None:
        """No new connections."""
        self.reading = False

    def startReading(self) -> None:
        """Again."""
        self.reading = True


class Work(Protocol):
    """Takes as many seconds as it gets bytes, divided by 1,000."""

    spent = 0.0

    def dataReceived(self, data: bytes) -> None:
        """Work."""
        Work.spent += len(data) / 1000


class PaceTests(SynchronousTestCase):
    """The share of time."""

    def setUp(self) -> None:
        """A listener whose work takes time."""
        Work.spent = 0.0
        self.clock = Clock()
        self.busy = True
        self.pace = Pace(self.clock, lambda: Work.spent, self.worked)
        self.port = Port()
        self.pace.ports.append(self.port)
        self.limiter = ConnectionLimiter(Limits.of(4, 3, 3), self.clock.seconds)
        self.factory = PacedFactory(Factory.forProtocol(Work), self.pace, self.limiter)

    def worked(self) -> float:
        """How long the thread has."""
        return self.clock.seconds() if self.busy else 0.0

    def connect(self) -> tuple[PacedConnection, StringTransport]:
        """A connection."""
        protocol: Any = self.factory.buildProtocol(PEER)
        transport = StringTransport(peerAddress=PEER)
        protocol.makeConnection(transport)
        return protocol, transport

    def test_within(self) -> None:
        """Little work is done at once."""
        one, transport = self.connect()
        one.dataReceived(b"x" * 50)
        self.assertEqual(("producing", True), (transport.producerState, self.port.reading))
        self.assertEqual([], self.clock.getDelayedCalls())

    def pass_time(self, seconds: float) -> None:
        """In small steps."""
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)

    def flood(self) -> float:
        """Ask for 10 s as often as one can; how many seconds were spent on it."""
        one, transport = self.connect()
        sent = 0
        for _ in range(2_000):
            self.clock.advance(0.005)
            if transport.producerState == "producing":
                one.dataReceived(b"x" * 20)
                sent += 20
        spent = Work.spent
        self.pass_time(10)
        self.assertEqual(sent, round(Work.spent * 1000))
        self.assertEqual("producing", transport.producerState)
        return spent

    def test_flood(self) -> None:
        """Over a long time no more than the share is spent, and nothing is lost."""
        self.assertAlmostEqual(10 * SHARE + BURST, self.flood(), delta=0.03)

    def test_idle(self) -> None:
        """Where there is nothing else to do, the share is a larger one."""
        self.busy = False
        self.assertAlmostEqual(10 * IDLE_SHARE + BURST, self.flood(), delta=0.1)

    def test_others_wait_too(self) -> None:
        """No other connection is read, no new one accepted, until there is time again."""
        one, _ = self.connect()
        two, transport = self.connect()
        one.dataReceived(b"x" * 200)
        self.assertFalse(self.port.reading)
        two.dataReceived(b"y")
        self.assertEqual(("paused", 0.2), (transport.producerState, Work.spent))
        self.pass_time((0.2 - BURST) / SHARE - 0.1)
        self.assertEqual(0.2, Work.spent)
        self.pass_time(0.2)
        self.assertAlmostEqual(0.201, Work.spent)
        self.assertEqual(("producing", True), (transport.producerState, self.port.reading))

    def test_lost_while_it_waits(self) -> None:
        """It is forgotten."""
        one, _ = self.connect()
        one.dataReceived(b"x" * 200)
        one.dataReceived(b"y")
        one.connectionLost(Failure(ConnectionDone()))
        self.pass_time(10)
        self.assertEqual(0.2, Work.spent)
        self.assertEqual(set(), self.pace.paused)

    def test_most(self) -> None:
        """Connections beyond the bound are closed at once."""
        for _ in range(3):
            one, _ = self.connect()
            one.trust_peer()
        self.assertIsNone(self.factory.buildProtocol(PEER))
        one.connectionLost(Failure(ConnectionDone()))
        self.assertIsNotNone(self.factory.buildProtocol(PEER))

    def test_stranger_makes_room(self) -> None:
        """Who has not logged in goes for the next of his address, at once."""
        _, first = self.connect()
        _, second = self.connect()
        self.assertEqual([True, False], [first.disconnected, second.disconnected])

    def test_stop(self) -> None:
        """Nothing is left to come."""
        one, _ = self.connect()
        one.dataReceived(b"x" * 200)
        self.pace.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
