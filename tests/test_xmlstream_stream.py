"""The shell around the reader: ends, deadlines, back-pressure, faults of our own."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream import limits, ns
from cms.xmlstream.keepalive import Keepalive
from cms.xmlstream.reader import StreamStart
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import CLOSE_TIMEOUT, TLS_RECORD, XMLStream
from tests.support import MemoryTransport, header, one_stanza


class Recorder(XMLStream):
    """Notes what it is told."""

    def __init__(self, clock: Clock, send_limit: int = 1000) -> None:
        super().__init__(clock, send_limit=send_limit)
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
        self.stream.send(one_stanza("<presence/>"))
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
        """A peer that does not read is full at the limit, and costs no more than twice that."""
        self.start()
        stanza = one_stanza(f"<message><body>{'x' * 300}</body></message>")
        self.stream.pauseProducing()
        for _ in range(4):
            self.stream.send(stanza)
        self.assertTrue(self.stream.is_full)
        self.stream.resumeProducing()
        self.assertFalse(self.stream.is_full)
        self.stream.pauseProducing()
        for _ in range(6):
            self.stream.send(stanza)
        self.assertFalse(self.transport.lost)
        self.stream.send(stanza)
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


class RecordTests(SynchronousTestCase):
    """What TLS brings: record by record in, held back for a turn out."""

    def setUp(self) -> None:
        """A stream that is read the fast way, as under TLS."""
        self.clock = Clock()
        self.stream = Recorder(self.clock)
        self.transport = MemoryTransport()
        self.transport.connect(self.stream)
        self.stream.dataReceived(header(ns.CLIENT))
        self.stream.splice(limits.COMPONENT)
        self.stream.dataReceived(b"<presence/>")
        self.reads: list[int] = []
        read = self.stream._read
        self.patch(self.stream, "_read", lambda data: (self.reads.append(len(data)), read(data)))
        self.full = b"<message/>".ljust(TLS_RECORD)

    def test_gathered(self) -> None:
        """Full records are read together with what follows them."""
        self.stream.dataReceived(self.full)
        self.stream.dataReceived(self.full)
        self.assertEqual([], self.reads)
        self.stream.dataReceived(b"<iq type='get'/>")
        self.assertEqual([2 * TLS_RECORD + 16], self.reads)
        self.assertEqual(["message", "message", "iq"], self.stream.events[-3:])
        self.assertEqual(
            2 * TLS_RECORD + 16, self.stream.bytes_received - len(header(ns.CLIENT)) - 11
        )

    def test_last(self) -> None:
        """A full record that nothing follows waits for the end of the turn, no longer."""
        self.stream.dataReceived(self.full)
        self.assertEqual([], self.reads)
        self.clock.advance(0)
        self.assertEqual([TLS_RECORD], self.reads)

    def test_lost(self) -> None:
        """What came before the connection went is read."""
        self.stream.dataReceived(self.full)
        self.transport.lose()
        self.assertEqual(["message", "lost"], self.stream.events[-2:])

    def test_sent_at_once(self) -> None:
        """What is forwarded over TLS is not held back, whatever is said otherwise is."""
        factory = TLSMemoryBIOFactory(CertificateOptions(), True, None, self.clock)
        written: list[bytes] = []
        tls = BufferingTLSTransport(factory, self.stream)
        tls._aggregator._write = written.append
        self.patch(self.transport, "protocol", tls)
        self.patch(self.transport, "write", tls.write)
        self.stream.handshakeCompleted()
        self.stream.write(b"one")
        self.assertEqual([], written)
        self.stream.send_raw([b"two", b"three"])
        self.assertEqual([b"onetwothree"], written)
        self.clock.advance(0)
        self.assertEqual([b"onetwothree"], written)


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
