"""
HTTP shares its thread with the router, and gets a bounded part of the thread's time.

The time is measured in C{dataReceived}.  (Other costs, such as writing to sockets, are
about as much again.)  While HTTP has used more than its share, its connections are not
read and no new ones are accepted; data of clients waits in the kernel.  The share is
small while the thread is busy, and large while it is idle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from attrs import define, field
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from cms import faults
from cms.process.endpoints import plain_host, show_address
from cms.process.logs import LineLimiter, Logger
from cms.process.proxyheader import begins_header
from cms.protection.connections import Admitted, ConnectionLimiter
from cms.protection.sources import LOCAL

SHARE = 0.04  # of the thread's time, even if it is busy
IDLE_SHARE = 0.5  # of the thread's idle time
BURST = 0.1  # seconds that may be spent at once
LOOK_EVERY = 0.01  # seconds


@define(eq=False)
class Pace:
    """
    A budget of time.  L{SHARE} of the time, or L{IDLE_SHARE} of the idle time if that is
    more, is added to it, and the work of HTTP is subtracted.

    @ivar clock: Of the reactor.
    @ivar timer: A fine clock, for measuring work.
    @ivar busy: How long the reactor's thread has worked, as C{time.thread_time}.
    @ivar paused: The connections that wait until there is time again.
    """

    clock: Any
    timer: Callable[[], float]
    busy: Callable[[], float]
    share: float = SHARE
    burst: float = BURST
    paused: set[PacedConnection] = field(factory=set)
    ports: list[Any] = field(factory=list)
    _left: float = field(init=False)
    _filled: float = field(init=False)
    _busy: float = field(init=False)
    _waiting: IDelayedCall | None = None

    def __attrs_post_init__(self) -> None:
        self._left = self.burst
        self._filled = self.clock.seconds()
        self._busy = self.busy()

    def spend(self, seconds: float) -> None:
        """Subtract work; if the budget is used up, pause all connections."""
        self._fill()
        self._left -= seconds
        if self._left < 0 and self._waiting is None:
            for port in self.ports:
                port.stopReading()
            self._waiting = self.clock.callLater(self._pause_time(), self._resume)

    def _fill(self) -> None:
        now, busy = self.clock.seconds(), self.busy()
        elapsed, idle = now - self._filled, now - self._filled - (busy - self._busy)
        earned = max(elapsed * self.share, idle * IDLE_SHARE)
        self._left = min(self.burst, self._left + earned)
        self._filled, self._busy = now, busy

    def _pause_time(self) -> float:
        """
        Seconds until the next look; short, since the thread's idle time is not known, but
        long enough to move a clock whose last digit may be more than what is missing.
        """
        return min(LOOK_EVERY, max(LOOK_EVERY / 100, -self._left / self.share))

    @property
    def exhausted(self) -> bool:
        """Whether all connections have to wait."""
        return self._waiting is not None

    def _resume(self) -> None:
        self._fill()
        if self._left < 0:
            self._waiting = self.clock.callLater(self._pause_time(), self._resume)
            return
        self._waiting = None
        for port in self.ports:
            port.startReading()
        paused, self.paused = self.paused, set()
        for connection in paused:
            connection.proceed()

    def stop(self) -> None:
        """The daemon stops."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self.ports.clear()


class PacedConnection(ProtocolWrapper):
    """
    A connection that is read only while there is time for it.

    It stands outside TLS, so that handshakes are counted too.
    """

    factory: PacedFactory
    admitted: Admitted
    _held = b""
    _heard = False
    _lost = False

    def dataReceived(self, data: bytes) -> None:
        """Measure what this costs."""
        if not self._heard:
            self._heard = True
            if begins_header(data):
                fault = faults.PROXY_UNEXPECTED.error(peer=show_address(self.getPeer()))
                log, line_limiter = self.factory.log, self.factory.line_limiter
                if line_limiter.allows():
                    log.warn("{cause} Cure: {cure}", **fault.fields)
                self.transport.abortConnection()  # type: ignore[union-attr]
                return
        pace = self.factory.pace
        if pace.exhausted:
            self._held += data
            self._pause(pace)
            return
        began = pace.timer()
        super().dataReceived(data)
        pace.spend(pace.timer() - began)

    def _pause(self, pace: Pace) -> None:
        pace.paused.add(self)
        self._network.pauseProducing()

    @property
    def _network(self) -> Any:
        return self.transport

    def trust_peer(self) -> None:
        """Its peer is authenticated: see L{Admitted.trust}."""
        self.admitted.trust()

    def make_room(self) -> None:
        """A newer connection replaces it."""
        self._network.abortConnection()

    def hand_over(self, protocol: IProtocol) -> Any:
        """
        The connection is for no more requests but this protocol's, which is not paced.

        @return: The protocol's transport; C{connectionLost} is the protocol's too, and it
            must call L{Admitted.leave}.
        """
        network, inner = self._network, self.wrappedProtocol
        self.factory.pace.paused.discard(self)
        self.factory.unregisterProtocol(self)
        if isinstance(inner, ProtocolWrapper):  # TLS
            inner.transport, inner.wrappedProtocol = network, protocol
            network.protocol = inner
            return inner
        network.protocol = protocol
        return network

    def proceed(self) -> None:
        """There is time again."""
        if self._lost:
            return
        data, self._held = self._held, b""
        if data:
            self.dataReceived(data)
        if self not in self.factory.pace.paused:
            self._network.resumeProducing()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The end."""
        self._lost = True
        self.admitted.leave()
        self.factory.pace.paused.discard(self)
        super().connectionLost(reason)


class PacedFactory(WrappingFactory):
    """The connections of one listener, within bounds."""

    protocol = PacedConnection
    noisy = False
    log = Logger()

    def __init__(self, wrapped: IProtocolFactory, pace: Pace, limiter: ConnectionLimiter) -> None:
        super().__init__(wrapped)
        self.pace = pace
        self.line_limiter = LineLimiter(pace.clock.seconds)
        self._limiter = limiter

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]
        """A connection; C{None} (which closes it) beyond the bounds."""
        began = self.pace.timer()
        admitted = self._limiter.admit(plain_host(str(getattr(addr, "host", LOCAL))))
        if admitted is None:
            return None
        built: Any = super().buildProtocol(addr)
        built.admitted, admitted.drop = admitted, built.make_room
        self.pace.spend(self.pace.timer() - began)
        return cast("ProtocolWrapper", built)
