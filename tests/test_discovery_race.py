"""Step 6: who loses the race, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as TCPRefused
from twisted.internet.error import TimeoutError as TCPTimeout
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms.discovery.race import Race
from cms.signalflow import StepError

V6, V4, LAST = "2001:db8::1", "192.0.2.1", "192.0.2.2"


class AbortableTransport(StringTransport):
    """
    Notes that it was aborted.

    @ivar aborted: Whether it was.
    """

    aborted = False

    def abortConnection(self) -> None:
        """End at once."""
        self.aborted = True


class LoserTests(SynchronousTestCase):
    """A race in memory."""

    def setUp(self) -> None:
        """A reactor in memory."""
        self.reactor = MemoryReactorClock()
        self.made: list[Protocol] = []

    def race(self, addresses: Sequence[str]) -> Deferred[tuple[Protocol, str]]:
        """Begin."""

        def make() -> Protocol:
            self.made.append(Protocol())
            return self.made[-1]

        return Race(self.reactor, make, addresses, 5223, timeout=10).run()

    def tried(self) -> list[str]:
        """The addresses that are being, or were, tried."""
        return [client[0] for client in self.reactor.tcpClients]

    def connect(self, number: int) -> AbortableTransport:
        """A connection comes about."""
        address = IPv4Address("TCP", V4, 5223)
        protocol: Any = self.reactor.tcpClients[number][2].buildProtocol(address)
        transport = AbortableTransport()
        protocol.makeConnection(transport)
        return transport

    def lose(self, number: int, reason: Exception) -> None:
        """A connection fails."""
        factory = self.reactor.tcpClients[number][2]
        factory.clientConnectionFailed(self.reactor.connectors[number], Failure(reason))

    def stopped(self) -> list[bool]:
        """Which attempts were called off."""
        return [bool(connector.stoppedConnecting) for connector in self.reactor.connectors]

    def test_losers_are_called_off(self) -> None:
        """When one wins, those under way are called off and the rest is not tried."""
        deferred = self.race([V6, V4, LAST])
        self.reactor.advance(0.25)
        self.connect(1)
        self.assertEqual(V4, self.successResultOf(deferred)[1])
        self.assertEqual([True, False], self.stopped())
        self.reactor.advance(30)
        self.assertEqual([V6, V4], self.tried())
        self.assertEqual(1, len(self.made))

    def test_winner_is_kept(self) -> None:
        """The connection that won is not closed."""
        self.race([V6])
        self.assertFalse(self.connect(0).aborted)

    def test_one_protocol_a_connection(self) -> None:
        """No protocol is made for an attempt that does not connect."""
        self.race([V6, V4])
        self.lose(0, TCPRefused())
        self.assertEqual([], self.made)
        self.connect(1)
        self.assertEqual(1, len(self.made))

    def test_cancel(self) -> None:
        """Cancelling calls off every attempt and starts no other."""
        deferred = self.race([V6, V4, LAST])
        self.reactor.advance(0.25)
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.assertEqual([True, True], self.stopped())
        self.reactor.advance(30)
        self.assertEqual([V6, V4], self.tried())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_stagger_begins_anew(self) -> None:
        """After a failure the next address has a full quarter of a second to itself."""
        self.race([V6, V4, LAST])
        self.reactor.advance(0.2)
        self.lose(0, TCPRefused())
        self.reactor.advance(0.2)
        self.assertEqual([V6, V4], self.tried())
        self.reactor.advance(0.05)
        self.assertEqual([V6, V4, LAST], self.tried())

    def test_waits_for_the_slow(self) -> None:
        """One address is still under way when the last one fails: it may yet win."""
        deferred = self.race([V6, V4])
        self.lose_second_first()
        self.assertNoResult(deferred)
        self.connect(0)
        self.assertEqual(V6, self.successResultOf(deferred)[1])

    def lose_second_first(self) -> None:
        """The second address fails while the first is under way."""
        self.reactor.advance(0.25)
        self.lose(1, TCPRefused())

    def test_most_telling_is_not_the_last(self) -> None:
        """What is reported does not depend on the order of the failures."""
        deferred = self.race([V6, V4])
        self.lose_second_first()
        self.lose(0, TCPTimeout())
        failure: Any = self.failureResultOf(deferred, StepError).value
        self.assertEqual(("connect-refused", V4), (failure.fault, failure.evidence["address"]))
        self.assertIn(V6, failure.evidence["others"])

    def test_same_address_twice(self) -> None:
        """An address that is listed twice is tried once."""
        deferred = self.race([V4, V4])
        self.lose(0, TCPRefused())
        self.assertEqual("connect-refused", self.failureResultOf(deferred, StepError).value.fault)
        self.assertEqual([V4], self.tried())

    def test_last(self) -> None:
        """What is left for the end is tried when all others have failed, and not before."""
        race = Race(
            self.reactor,
            Protocol,
            ["192.0.2.1"],
            5223,
            timeout=5,
            last=["2001:db8::1", "192.0.2.1"],
        )
        result = race.run()
        self.reactor.advance(2)
        self.assertEqual(["192.0.2.1"], [c[0] for c in self.reactor.tcpClients])
        self.reactor.tcpClients[0][2].clientConnectionFailed(
            self.reactor.connectors[0], Failure(TCPRefused())
        )
        self.assertEqual(["192.0.2.1", "2001:db8::1"], [c[0] for c in self.reactor.tcpClients])
        self.reactor.tcpClients[1][2].clientConnectionFailed(
            self.reactor.connectors[1], Failure(TCPRefused())
        )
        failure = self.failureResultOf(result, StepError).value
        self.assertIn("2001:db8::1", failure.evidence["others"])

    def test_no_address(self) -> None:
        """Without an address there is no race that would never end."""
        self.assertRaises(ValueError, self.race, [])
