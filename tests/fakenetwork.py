"""A network in memory: TCP connections with real TLS in them, to servers that keep to a script."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, UserError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as NoAnswer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

_T = TypeVar("_T")
MOST_EVENTS = 20_000  # a test that needs more of them goes round in circles


class _Raw:
    """The bytes of one end of a connection."""

    disconnecting = False

    def __init__(self, clock: Clock, address: Any) -> None:
        self.clock = clock
        self.address = address
        self.receiver: Any = None  # the protocol, or the TLS above it
        self.other: _Raw
        self.lost = False
        self.held: list[Callable[[], None]] | None = None  # what comes while it is not read

    def write(self, data: bytes) -> None:
        if not self.lost and data:
            self.clock.callLater(0, self.other.deliver, data)

    def writeSequence(self, parts: Sequence[bytes]) -> None:
        self.write(b"".join(parts))

    def deliver(self, data: bytes) -> None:
        if self.held is not None:
            self.held.append(lambda: self.deliver(data))
        elif not self.lost:
            self.receiver.dataReceived(data)

    def pauseProducing(self) -> None:
        self.held = self.held if self.held is not None else []

    def resumeProducing(self) -> None:
        held, self.held = self.held, None
        for each in held or ():
            each()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is ever delayed."""

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.clock.callLater(0, self.lose, ConnectionDone())
        self.clock.callLater(0, self.other.lose, ConnectionDone())

    def abortConnection(self) -> None:
        self.clock.callLater(0, self.lose, ConnectionAborted())
        self.clock.callLater(0, self.other.lose, ConnectionLost())

    def lose(self, reason: Exception) -> None:
        if self.held is not None and not isinstance(reason, ConnectionAborted):
            self.held.append(lambda: self.lose(reason))
        elif not self.lost:
            self.lost = True
            self.receiver.connectionLost(Failure(reason))

    def getPeer(self) -> Any:
        return self.address

    getHost = getPeer

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Nothing is ever held back."""

    def unregisterProducer(self) -> None:
        """The same."""


class End:
    """The transport of a protocol at one end: TCP, and TLS once that has begun."""

    bufferSize = 65_536

    def __init__(self, raw: _Raw, protocol: Protocol, *, is_client: bool) -> None:
        self.raw = raw
        self.protocol = protocol
        self.is_client = is_client
        self.tls: Any = None
        raw.receiver = protocol

    def startTLS(self, creator: Any, normal: bool = True) -> None:
        """Begin a handshake."""
        factory = TLSMemoryBIOFactory(
            creator, self.is_client, Factory.forProtocol(Protocol), clock=self.raw.clock
        )
        self.tls = TLSMemoryBIOProtocol(factory, self.protocol, False)
        self.raw.receiver = self.tls
        self.tls.makeConnection(self.raw)

    def getHandle(self) -> Any:
        """The TLS connection."""
        return self.tls.getHandle() if self.tls is not None else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tls if self.tls is not None else self.raw, name)


class _Connector:
    """Of an attempt that can be given up."""

    def __init__(self, factory: Any, address: Any) -> None:
        self.factory = factory
        self.address = address
        self.timer: Any = None
        self.over = False

    def getDestination(self) -> Any:
        return self.address

    def fail(self, error: Exception) -> None:
        if not self.over:
            self.over = True
            if self.timer.active():
                self.timer.cancel()
            self.factory.clientConnectionFailed(self, Failure(error))

    def stopConnecting(self) -> None:
        self.fail(UserError())


class Network(Clock):
    """
    A reactor without a network beneath.

    @ivar servers: For address and port what makes the server's protocol, or the error
        of connecting; nobody answers elsewhere.
    @ivar offset: What the wall clock is ahead of the other.
    @ivar connected: Address and port of each connection that came about.
    """

    offset = 1_800_000_000.0

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[tuple[str, int], Callable[[], Protocol] | Exception] = {}
        self.connected: list[tuple[str, int]] = []

    def wall_seconds(self) -> float:
        """Seconds since the epoch."""
        return self.seconds() + self.offset

    def refuse(self, host: str, port: int) -> None:
        """Nobody listens there."""
        self.servers[host, port] = Refused()

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: object = None
    ) -> _Connector:
        """See C{IReactorTCP}."""
        kind = IPv6Address if ":" in host else IPv4Address
        connector = _Connector(factory, kind("TCP", host, port))
        factory.startedConnecting(connector)
        server = self.servers.get((host, port))
        if server is None:
            connector.timer = self.callLater(timeout, connector.fail, NoAnswer())
        elif isinstance(server, Exception):
            connector.timer = self.callLater(0, connector.fail, server)
        else:
            connector.timer = self.callLater(0, self._connect, connector, server)
        return connector

    def _connect(self, connector: _Connector, server: Callable[[], Protocol]) -> None:
        connector.over = True
        address = connector.address
        self.connected.append((address.host, address.port))
        here, there = _Raw(self, address), _Raw(self, evolve(address, port=40000))
        here.other, there.other = there, here
        protocol = connector.factory.buildProtocol(here.address)
        peer = server()
        for raw, each, is_client in ((there, peer, False), (here, protocol, True)):
            each.makeConnection(End(raw, each, is_client=is_client))

    def finish(self, work: Coroutine[Any, Any, _T]) -> list[_T]:
        """
        Do it, with all the time that it takes.

        @return: Its result, or nothing if there is no end to it.
        """
        found: list[_T] = []
        doing = Deferred.fromCoroutine(work)
        doing.addCallback(found.append)
        for _ in range(MOST_EVENTS):
            calls = self.getDelayedCalls()
            if doing.called or not calls:
                break
            self.advance(max(0.0, min(call.getTime() for call in calls) - self.seconds()))
        failure: list[Failure] = []
        doing.addErrback(failure.append)
        if failure:
            failure[0].raiseException()
        return found


Reply = bytes | str | tuple[bytes, str] | Callable[["Script", "re.Match[bytes]"], bytes | None]


class Script(Protocol):
    """
    A server that answers as it was told.

    @ivar heard: What the client said that has no answer yet.
    @param lines: What is waited for, a pattern, and the answer: bytes, what makes them,
        C{tls}, C{close} or C{abort}, or bytes and one of these.  Each is used once, in
        their order.
    @param trust: For TLS from the first byte.
    @param waits: With TLS until C{tls}.
    """

    def __init__(
        self, lines: Sequence[tuple[str, Reply]], trust: Any = None, *, waits: bool = False
    ) -> None:
        self.lines = list(lines)
        self.trust = trust
        self.waits = waits
        self.heard = b""

    def connectionMade(self) -> None:
        """TLS at once, or later."""
        if self.trust is not None and not self.waits:
            self.start_tls()

    def start_tls(self) -> None:
        """The server's side of a handshake."""
        transport: Any = self.transport
        transport.startTLS(self.trust.for_peer("the client"))

    def dataReceived(self, data: bytes) -> None:
        """Answer, if it is time to."""
        self.heard += data
        while self.lines:
            pattern, reply = self.lines[0]
            found = re.search(pattern.encode(), self.heard, re.DOTALL)
            if found is None:
                return
            del self.lines[0]
            self.heard = self.heard[found.end() :]
            self.answer(reply, found)

    def answer(self, reply: Reply, found: re.Match[bytes]) -> None:
        """Say it, or do it."""
        transport: Any = self.transport
        if isinstance(reply, tuple):
            for part in reply:
                self.answer(part, found)
            return
        if callable(reply):
            reply = reply(self, found) or b""
        if reply == "close":
            transport.loseConnection()
        elif reply == "abort":
            transport.abortConnection()
        elif reply == "tls":
            self.start_tls()
        elif isinstance(reply, bytes):
            transport.write(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
