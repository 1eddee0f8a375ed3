"""Noticing that a peer died without a word."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream.keepalive import NOT_READ, NOT_SENT, Keepalive, send_at_once, watch_socket
from cms.xmlstream.stanza import Stanza


class Peer:
    """A peer that is heard when the test says so."""

    def __init__(self, interval: float = 8.0, timeout: float = 10.0) -> None:
        self.clock = Clock()
        self.bytes_received = 0
        self.held = False
        self.pings: list[Deferred[Stanza]] = []
        self.pinged_at: list[float] = []
        self.died_at: list[float] = []
        self.keepalive = Keepalive(
            self.clock,
            self,
            ping=self.ping,
            interval=interval,
            timeout=timeout,
            dead=lambda: self.died_at.append(self.clock.seconds()),
        )
        self.keepalive.start()

    def ping(self) -> Deferred[Stanza]:
        """Somebody asks whether we live."""
        self.pings.append(Deferred())
        self.pinged_at.append(self.clock.seconds())
        return self.pings[-1]

    def speak(self) -> None:
        """Anything at all."""
        self.bytes_received += 1


class KeepaliveTests(SynchronousTestCase):
    """Ping, and the verdict."""

    def test_talkative_peer(self) -> None:
        """A peer that is heard in each interval is never pinged."""
        peer = Peer()
        for _ in range(20):
            peer.clock.advance(4)
            peer.speak()
        self.assertEqual(([], []), (peer.pings, peer.died_at))

    def test_quiet_peer_that_answers(self) -> None:
        """A quiet peer is pinged again and again, and lives as long as it answers."""
        peer = Peer()
        for _ in range(100):
            peer.clock.advance(1)
            if peer.pings and not peer.pings[-1].called:
                peer.speak()
                peer.pings[-1].callback(None)  # type: ignore[arg-type]
        self.assertGreater(len(peer.pings), 3)
        self.assertEqual([], peer.died_at)

    def test_error_is_life(self) -> None:
        """An error that answers a ping shows life, and is not logged as a failure."""
        peer = Peer()
        peer.clock.advance(8)
        peer.speak()
        peer.pings[0].errback(ValueError("service-unavailable"))
        peer.clock.pump([10, 1])
        self.assertEqual([], peer.died_at)

    def test_other_bytes_are_life(self) -> None:
        """A peer that sends anything but the answer lives."""
        peer = Peer()
        peer.clock.advance(8)
        peer.clock.advance(9)
        peer.speak()
        peer.clock.advance(1)
        self.assertEqual([], peer.died_at)

    def test_failed_ping_is_not_life(self) -> None:
        """A ping that fails on our side, with nothing heard, does not save the peer."""
        peer = Peer()
        peer.clock.advance(8)
        peer.pings[0].errback(ValueError("timed out"))
        peer.clock.advance(10)
        self.assertEqual([18.0], peer.died_at)

    def test_dead_once(self) -> None:
        """A silent peer is given up after the timeout, once, and nothing is left."""
        peer = Peer()
        peer.clock.pump([1] * 60)
        self.assertEqual([8.0], peer.pinged_at)
        self.assertEqual([18.0], peer.died_at)
        self.assertEqual([], peer.clock.getDelayedCalls())

    @given(st.floats(min_value=0, max_value=50))
    def test_worst_case(self, last: float) -> None:
        """With the defaults, whenever it fell silent, it is noticed in under 30 s."""
        peer = Peer()
        peer.clock.callLater(last, peer.speak)
        while not peer.died_at:
            peer.clock.advance(0.25)
            if peer.pings and not peer.pings[-1].called and peer.clock.seconds() < last:
                peer.speak()
        self.assertLess(peer.died_at[0] - last, 30)

    def test_stop(self) -> None:
        """Nothing is left after stop, whether it waits for the interval or for a ping."""
        for seconds in (1, 9, 30):
            peer = Peer()
            peer.clock.advance(seconds)
            peer.keepalive.stop()
            peer.keepalive.stop()
            self.assertEqual([], peer.clock.getDelayedCalls())

    def test_one_timer(self) -> None:
        """However long it lives, there is one timer."""
        peer = Peer()
        for _ in range(50):
            peer.clock.advance(3)
            peer.speak()
            self.assertEqual(1, len(peer.clock.getDelayedCalls()))


class WatchSocketTests(SynchronousTestCase):
    """TCP's own care."""

    def test_options(self) -> None:
        """The kernel gives up on unacknowledged data after 20 s and probes silence."""

        class Transport:
            def __init__(self, handle: object) -> None:
                self.socket = handle

        with socket.socket() as handle:
            watch_socket(Transport(handle))
            self.assertTrue(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            tcp = socket.IPPROTO_TCP
            self.assertEqual(20_000, handle.getsockopt(tcp, socket.TCP_USER_TIMEOUT))

    def test_inherited(self) -> None:
        """What a listener is told holds for the connections that it accepts."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = type("Port", (), {"socket": listener})()
            watch_socket(port)
            send_at_once(port)
            with socket.create_connection(listener.getsockname()):
                accepted, _ = listener.accept()
        with accepted:
            tcp = socket.IPPROTO_TCP
            self.assertTrue(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            self.assertEqual(20_000, accepted.getsockopt(tcp, socket.TCP_USER_TIMEOUT))
            self.assertEqual(10, accepted.getsockopt(tcp, socket.TCP_KEEPIDLE))
            self.assertEqual(5, accepted.getsockopt(tcp, socket.TCP_KEEPINTVL))
            self.assertEqual(NOT_SENT, accepted.getsockopt(tcp, socket.TCP_NOTSENT_LOWAT))
            kept = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self.assertEqual(2 * NOT_READ, kept)
            self.assertTrue(accepted.getsockopt(tcp, socket.TCP_NODELAY))

    def test_other_transports(self) -> None:
        """A transport without a TCP socket is left alone."""
        watch_socket(object())
        send_at_once(object())
        one, other = socket.socketpair()
        with one, other:
            watch_socket(type("Transport", (), {"socket": one})())
            send_at_once(type("Transport", (), {"socket": one})())
