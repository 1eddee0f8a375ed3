"""The shell around the reader: ends, deadlines, back-pressure, faults of our own."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StreamError

from cms.xmlstream import limits, ns
from cms.xmlstream.flow import SendLimits
from cms.xmlstream.gathering import GATHERED_BYTES
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import CLOSE_TIMEOUT, XMLStream
from tests.support import MemoryTransport, header, one_stanza


class Recorder(XMLStream):
    """Notes what it is told."""

    def __init__(self, clock: Clock, send_limit: int = 1000, *, is_shared: bool = False) -> None:
        super().__init__(clock, limits=SendLimits(send_limit), is_shared=is_shared)
        self.events: list[object] = []

    def stream_started(self, start: StreamStart) -> None:
        """Answer the header."""
        self.events.append("start")
        self.send_header({"id": "i1"})

    def stanza_received(self, stanza: Stanza) -> None:
        """Note the name; some names make trouble."""
        self.events.append(stanza.name)
        if stanza.name == "crash":
            raise RuntimeError("a bug of ours")
        if stanza.name == "restart":
            self.reset(limits.CLIENT)

    def stream_lost(self, reason: Failure) -> None:
        """Note the end."""
        self.events.append("lost")


class StreamTests(SynchronousTestCase):
    """L{XMLStream}."""

    def setUp(self) -> None:
        """A stream with its header exchanged."""
        self.clock = Clock()
        self.stream = Recorder(self.clock)
        self.transport = MemoryTransport()
        self.transport.connect(self.stream)

    def start(self) -> None:
        """Exchange headers."""
        self.stream.dataReceived(header(ns.CLIENT))
        self.transport.clear()

    def test_error_before_a_header(self) -> None:
        """A stream that ends before it began has a header all the same."""
        self.stream.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        sent = self.transport.take()
        self.assertIn("<stream:stream xmlns='jabber:client'", sent)
        self.assertIn("<not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'", sent)
        self.assertTrue(sent.endswith("</stream:stream>"))
        self.assertTrue(self.transport.lost)

    def test_close_waits_for_the_peer(self) -> None:
        """Our closing tag is answered by the peer's; then the connection goes."""
        self.start()
        self.stream.close()
        self.assertEqual("</stream:stream>", self.transport.take())
        self.assertFalse(self.transport.lost)
        self.stream.dataReceived(b"<iq/></stream:stream>")
        self.assertTrue(self.transport.lost)
        self.assertEqual(["start", "lost"], self.stream.events)

    def test_close_does_not_wait_for_ever(self) -> None:
        """A peer that does not close is dropped."""
        self.start()
        self.stream.close()
        self.clock.advance(CLOSE_TIMEOUT + 0.1)
        self.assertTrue(self.transport.lost)

    def test_peer_closes(self) -> None:
        """The peer's closing tag is answered."""
        self.start()
        self.stream.dataReceived(b"</stream:stream>")
        self.assertEqual("</stream:stream>", self.transport.take())
        self.assertTrue(self.transport.lost)

    def test_nothing_is_sent_after_close(self) -> None:
        """After our closing tag no stanza leaves."""
        self.start()
        self.stream.close()
        self.transport.clear()
        self.stream.party.send(one_stanza("<presence/>"))
        self.assertEqual("", self.transport.take())

    def test_deadline(self) -> None:
        """What does not come in time ends the stream, unless it is called off."""
        self.start()
        self.stream.set_deadline(5)
        self.stream.set_deadline(None)
        self.clock.advance(6)
        self.assertFalse(self.transport.lost)
        self.stream.set_deadline(5)
        self.clock.advance(6)
        self.assertIn("connection-timeout", self.transport.take())

    def test_no_timers_are_left(self) -> None:
        """After the connection is lost nothing is pending."""
        self.start()
        self.stream.set_deadline(60)
        self.stream.later(30, lambda: None)
        self.stream.close()
        self.transport.lose()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertTrue(self.stream.ended.called)

    def test_slow_reader(self) -> None:
        """
        What we say ourselves is bounded where the peer does not read: at half of the
        limit we should ask it nothing more, beyond the limit the stream ends.
        """
        self.start()
        stanza = one_stanza(f"<message><body>{'x' * 300}</body></message>")
        self.stream.pauseProducing()
        self.stream.party.send(stanza)
        self.assertFalse(self.stream.party.is_full)
        self.stream.party.send(stanza)
        self.assertTrue(self.stream.party.is_full)
        self.assertEqual("", self.transport.take())
        self.stream.resumeProducing()
        self.assertFalse(self.stream.party.is_full)
        self.assertEqual(stanza.raw.decode() * 2, self.transport.take())
        self.stream.pauseProducing()
        for _ in range(3):
            self.stream.party.send(stanza)
        self.assertFalse(self.transport.lost)
        self.stream.party.send(stanza)
        self.assertTrue(self.transport.lost)

    def test_stalled_reader(self) -> None:
        """One that takes nothing for 30 s is dropped; one that takes some is not."""
        self.start()
        self.stream.pauseProducing()
        self.clock.advance(29)
        self.stream.resumeProducing()
        self.stream.pauseProducing()
        self.clock.pump([1, 28])
        self.assertFalse(self.transport.lost)
        self.clock.advance(1)
        self.assertIn("too slow to read", self.transport.take())
        self.assertTrue(self.transport.lost)

    def test_fault_of_our_own(self) -> None:
        """A bug while reading ends that stream with internal-server-error, and is logged."""
        self.start()
        self.stream.dataReceived(b"<crash/><iq/>")
        self.assertIn("internal-server-error", self.transport.take())
        self.assertEqual(["start", "crash", "lost"], self.stream.events)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_restart_forgets(self) -> None:
        """What came in the same read after a restart is not believed."""
        self.start()
        self.stream.dataReceived(b"<restart/><iq/>")
        self.assertEqual(["start", "restart"], self.stream.events)
        self.stream.dataReceived(header(ns.CLIENT) + b"<presence/>")
        self.assertEqual(["start", "restart", "start", "presence"], self.stream.events)

    def test_unauthenticated_limit(self) -> None:
        """Before set_limits a stanza is small."""
        self.start()
        self.stream.dataReceived(b"<iq>" + b"x" * 9000)
        self.assertIn("policy-violation", self.transport.take())


class GatheredTests(SynchronousTestCase):
    """What answers one read leaves together."""

    def setUp(self) -> None:
        """A stream whose single writes are seen."""
        self.stream = Recorder(Clock())
        self.transport = MemoryTransport()
        self.transport.connect(self.stream)
        self.written: list[bytes] = []
        self.patch(self.transport, "write", self.written.append)
        answer = self.stream.stanza_received
        self.patch(
            self.stream,
            "stanza_received",
            lambda stanza: self.said_first(stanza, answer),
        )

    def said_first(self, stanza: Stanza, answer: Callable[[Stanza], None]) -> None:
        """Write the name of a stanza before it is answered."""
        self.stream.write(stanza.name.encode())
        answer(stanza)

    def test_one_write(self) -> None:
        """The header and all that follows it are one write."""
        self.stream.dataReceived(header(ns.CLIENT) + b"<a/><b/></stream:stream>")
        (written,) = self.written
        self.assertTrue(written.startswith(b"<?xml"))
        self.assertTrue(written.endswith(b">ab</stream:stream>"))

    def test_before_the_end(self) -> None:
        """All is written before the transport is told to close: TLS drops what comes later."""
        self.patch(self.transport, "loseConnection", lambda: self.written.append(b"(lost)"))
        self.stream.dataReceived(header(ns.CLIENT) + b"<a/></stream:stream>")
        self.assertTrue(self.written[0].endswith(b">a</stream:stream>"))
        self.assertEqual([b"(lost)"], self.written[1:])

    def test_later(self) -> None:
        """What is said later is written at once."""
        self.stream.dataReceived(header(ns.CLIENT))
        self.stream.write(b"one")
        self.stream.party.deliver([b"two", b"three"], None)
        self.assertEqual([b"one", b"twothree"], self.written[1:])

    def link(self, send_limit: int = 1000) -> tuple[Recorder, MemoryTransport, Clock]:
        """A stream that many speak through."""
        clock, transport = Clock(), MemoryTransport()
        link = Recorder(clock, send_limit, is_shared=True)
        transport.connect(link)
        link.dataReceived(header(ns.CLIENT))
        return link, transport, clock

    def test_shared(self) -> None:
        """Stanzas that are sent over a link within a turn leave together, and in their order."""
        link, transport, clock = self.link()
        written: list[bytes] = []
        self.patch(transport, "write", written.append)
        for name in "ab":
            link.party.send(one_stanza(f"<{name}/>"))
        link.party.deliver([b"<c/>"], None)
        self.assertEqual([], written)
        clock.advance(0)
        self.assertEqual([b"<a/><b/><c/>"], written)
        link.party.deliver([b"<d/>"], None)
        link.party.send(one_stanza("<e/>"))
        link.close(StreamError("conflict"))
        self.assertEqual(b"<d/>", written[1])
        self.assertRegex(written[2], b"^<e/><stream:error>.*</stream:stream>$")
        self.assertEqual([], [call for call in clock.getDelayedCalls() if not call.getTime()])

    def test_shared_and_slow(self) -> None:
        """What waits for the end of the turn is bounded; the rest waits in its order."""
        link, transport, _ = self.link(send_limit=200_000)
        written = 0

        def write(data: bytes) -> None:
            nonlocal written
            written += len(data)
            if written > 100_000:
                link.pauseProducing()

        self.patch(transport, "write", write)
        stanza = one_stanza(f"<a>{'x' * 10_000}</a>")
        for _ in range(20):
            link.party.send(stanza)
        self.assertTrue(link.party.is_slow)
        size = len(stanza.raw)
        self.assertLess(abs(written - 100_000), GATHERED_BYTES + size)
        self.assertEqual(20 * size, written + link.party.waiting_bytes)

    def test_shared_and_lost(self) -> None:
        """What had not left when the connection went holds no timer."""
        link, transport, clock = self.link()
        link.party.send(one_stanza("<a/>"))
        transport.lose()
        self.assertEqual([], clock.getDelayedCalls())

    def test_before_tls(self) -> None:
        """What was said in the clear leaves in the clear."""
        self.stream.dataReceived(header(ns.CLIENT))
        before = len(self.written)
        self.patch(self.transport, "startTLS", lambda creator: self.written.append(b"(TLS)"))

        def proceed(stanza: Stanza) -> None:
            self.stream.write(b"proceed")
            self.stream.start_tls(object())

        self.patch(self.stream, "stanza_received", proceed)
        self.stream.dataReceived(b"<starttls/>")
        self.assertEqual([b"proceed", b"(TLS)"], self.written[before:])

    def test_fault(self) -> None:
        """A fault of ours does not swallow what was said before it."""
        self.stream.dataReceived(header(ns.CLIENT))
        self.stream.dataReceived(b"<a/><crash/>")
        self.assertIn(b"acrash<stream:error>", b"".join(self.written))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))


class KeepaliveTests(SynchronousTestCase):
    """L{Keepalive}."""

    def setUp(self) -> None:
        """A silent peer, looked at every 8 s with 10 s to answer."""
        self.clock = Clock()
        self.bytes_received = 0
        self.held = False
        self.pings: list[float] = []
        self.died: list[float] = []
        self.keepalive = Keepalive(
            self.clock,
            self,
            ping=self.ping,
            interval=8,
            timeout=10,
            dead=lambda: self.died.append(self.clock.seconds()),
        )

    def ping(self) -> Deferred[Stanza]:
        """Note a ping; nobody answers."""
        self.pings.append(self.clock.seconds())
        return Deferred()

    def run_for(self, seconds: int) -> None:
        """Let time pass."""
        for _ in range(seconds):
            self.clock.advance(1)

    def test_silence(self) -> None:
        """A peer that says nothing is given up once, in under 30 s."""
        self.keepalive.start()
        self.bytes_received = 1  # it spoke once, just after the first look began
        self.run_for(100)
        self.assertEqual([26.0], self.died)
        self.assertEqual([16.0], self.pings)

    def test_any_byte_is_life(self) -> None:
        """A peer that speaks is not asked; one that answers is kept."""
        self.keepalive.start()
        for _ in range(10):
            self.bytes_received += 1
            self.run_for(8)
        self.assertEqual([], self.pings)
        self.run_for(9)
        self.bytes_received += 1
        self.run_for(10)
        self.assertEqual([], self.died)

    def test_stop(self) -> None:
        """After stop nothing is pending."""
        self.keepalive.start()
        self.keepalive.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
