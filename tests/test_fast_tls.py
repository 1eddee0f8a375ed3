"""Our TLS layer, on Twisted's own TCP connections over a pair of sockets."""

from __future__ import annotations

import select
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet._newtls import ClientMixin, ServerMixin
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from cms.fast.tls import Layer, start_tls
from cms.trust.connection import connection_of
from tests.support import MemoryTransport
from tests.test_trust import TLSTestCase


@implementer(IHandshakeListener, IPushProducer)
class End(Protocol):
    """Notes what happens."""

    transport: Any

    def __init__(self) -> None:
        self.deliveries: list[bytes] = []
        self.events: list[str] = []
        self.reason: Failure | None = None
        self.react: Any = None

    def handshakeCompleted(self) -> None:
        """Note it."""
        self.events.append("secured")

    def dataReceived(self, data: bytes) -> None:
        """Note it."""
        self.deliveries.append(data)
        if self.react is not None:
            self.react()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Note it."""
        self.reason = reason

    def pauseProducing(self) -> None:
        """Note it."""
        self.events.append("paused")

    def resumeProducing(self) -> None:
        """Note it."""
        self.events.append("resumed")

    def stopProducing(self) -> None:
        """Note it."""
        self.events.append("stopped")


class Client(ClientMixin, tcp.Connection):
    """The end that connected."""

    logstr = "client"


class Accepted(ServerMixin, tcp.Connection):
    """The end that was connected to."""

    logstr = "server"


class Ends(TLSTestCase):
    """
    Both ends of a connection.

    @cvar starter: What starts TLS on them.
    """

    starter = staticmethod(start_tls)

    def setUp(self) -> None:
        """Connected, in the clear."""
        super().setUp()
        self.reactor: Any = MemoryReactorClock()
        self.ends: list[tuple[End, Any]] = []
        for handle, kind in zip(socket.socketpair(), (Client, Accepted), strict=True):
            handle.setblocking(False)
            self.addCleanup(handle.close)
            end = End()
            connection = kind(handle, end, self.reactor)
            connection.connected = 1
            end.makeConnection(connection)
            connection.startReading()
            self.ends.append((end, connection))
        (self.client, self.near), (self.accepted, self.far) = self.ends

    def start(self) -> None:
        """Both begin TLS."""
        self.starter(self.far, self.trust.for_peer("the peer"))
        self.starter(self.near, self.verification())

    @property
    def trust(self) -> Any:
        """The server's certificate."""
        return super().server()

    def run_until_quiet(self, *only: Any) -> None:
        """Let bytes flow, for the given connections or all."""
        moving = True
        while moving:
            moving = False
            self.reactor.advance(0)
            for _, connection in self.ends:
                if only and connection not in only:
                    continue
                if connection in self.reactor.writers and self._ready(connection, write=True):
                    moving = True
                    self._end(connection, connection.doWrite())
                if connection in self.reactor.readers and self._ready(connection):
                    moving = True
                    self._end(connection, connection.doRead())

    def _ready(self, connection: Any, *, write: bool = False) -> bool:
        watched = [connection.fileno()]
        if -1 in watched:
            return False
        ready = select.select([] if write else watched, watched if write else [], [], 0)
        return bool(ready[write])

    def _end(self, connection: Any, why: Any) -> None:
        if why:
            self.reactor.removeReader(connection)
            self.reactor.removeWriter(connection)
            connection.connectionLost(Failure(why if why.args else ConnectionDone()))


class LayerTests(Ends):
    """Both with the layer of ours."""

    def test_both_ways(self) -> None:
        """After the handshake either end hears the other; the connection can be asked."""
        self.start()
        self.client.transport.write(b"early")
        self.run_until_quiet()
        self.accepted.transport.write(b"answer")
        self.run_until_quiet()
        self.assertEqual(
            ([b"early"], [b"answer"]), (self.accepted.deliveries, self.client.deliveries)
        )
        for end in (self.client, self.accepted):
            self.assertEqual(["secured"], end.events)
            connection = connection_of(end.transport)
            assert connection is not None
            self.assertEqual("TLSv1.3", connection.get_protocol_version_name())
        self.assertIsNotNone(self.near.getPeerCertificate())

    def test_delivered_together(self) -> None:
        """Records that came together are delivered together."""
        self.start()
        self.run_until_quiet()
        sent = b"".join(number.to_bytes(4, "big") for number in range(12_800))
        self.client.transport.write(sent)
        self.run_until_quiet(self.near)
        self.run_until_quiet()
        self.assertEqual([len(sent)], list(map(len, self.accepted.deliveries)))
        self.assertTrue(sent == self.accepted.deliveries[0])

    def test_end(self) -> None:
        """What was said before the end is heard, and the end is none of TLS's errors."""
        self.start()
        self.run_until_quiet()
        self.client.transport.write(b"x" * 20_000)
        self.client.transport.loseConnection()
        self.run_until_quiet()
        self.assertEqual(20_000, sum(map(len, self.accepted.deliveries)))
        for end in (self.client, self.accepted):
            assert end.reason is not None
            self.assertTrue(end.reason.check(ConnectionDone, ConnectionLost), end.reason)

    def test_end_of_tls_alone(self) -> None:
        """A peer that ends TLS and keeps the connection open is let go."""
        self.start()
        self.run_until_quiet()
        self.near.protocol._shutdownTLS()
        self.run_until_quiet()
        assert self.accepted.reason is not None
        self.assertTrue(self.accepted.reason.check(ConnectionDone, ConnectionLost))

    def test_garbage(self) -> None:
        """What is no record ends the connection with OpenSSL's words, after what was said."""
        self.start()
        self.run_until_quiet()
        self.client.transport.write(b"good")
        FileDescriptor.write(self.near, b"garbage that is no record of TLS")
        self.run_until_quiet()
        self.assertEqual([b"good"], self.accepted.deliveries)
        assert self.accepted.reason is not None
        self.assertTrue(self.accepted.reason.check(SSL.Error), self.accepted.reason)

    def test_abort(self) -> None:
        """Who aborts upon what it hears is told nothing more."""
        self.start()
        self.run_until_quiet()
        self.accepted.react = self.accepted.transport.abortConnection
        self.client.transport.write(b"one")
        self.run_until_quiet()
        self.client.transport.write(b"two")
        self.run_until_quiet()
        self.assertEqual([b"one"], self.accepted.deliveries)
        self.assertIsNotNone(self.accepted.reason)

    def test_no_tls(self) -> None:
        """A peer that speaks something else is found out, with OpenSSL's words."""
        start_tls(self.far, self.trust.for_peer("the peer"))
        self.client.transport.write(b"<stream:stream>")
        self.run_until_quiet()
        assert self.accepted.reason is not None
        self.assertTrue(self.accepted.reason.check(SSL.Error), self.accepted.reason)
        self.assertEqual(([], []), (self.accepted.events, self.accepted.deliveries))

    def test_producer(self) -> None:
        """A producer that was registered in the clear is told when the peer does not read."""
        self.accepted.transport.registerProducer(self.accepted, True)
        self.start()
        self.run_until_quiet()
        self.accepted.events.clear()
        self.accepted.transport.write(b"x" * 4_000_000)
        self.run_until_quiet(self.far)
        self.assertEqual(["paused"], self.accepted.events)
        self.run_until_quiet()
        self.assertEqual(["paused", "resumed"], self.accepted.events)
        self.assertEqual(4_000_000, sum(map(len, self.client.deliveries)))

    def test_other_transports(self) -> None:
        """A transport that is none of Twisted's TCP starts TLS in its own way."""
        transport = MemoryTransport()
        creator = self.verification()
        start_tls(transport, creator)
        self.assertIs(creator, transport.tls)
        self.assertNotIsInstance(transport.protocol, Layer)
