"""The listeners of the XMPP server: opened together, or the start is stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol

from cms.listening import close_ports, open_listener, show_address
from cms.logs import Logger
from cms.throttle import LOCAL, network_of
from cms.xmlstream.keepalive import watch_socket
from cms.xmlstream.stream import XMLStream, plain_host
from cms.xmlstream.traffic import Traffic


@define(eq=False)
class StreamFactory(Factory):
    """
    Makes the streams of one listener, within bounds.

    @ivar make: Makes a stream.
    @ivar kind: Its key in the configuration.
    @ivar refused: How many connections were closed at once.
    @ivar carried: What its streams that have ended have carried.
    @ivar most: Connections at a time.
    @ivar most_per_host: Of those, from one address (a /64 of IPv6); what
        reaches us through a proxy on this host is not counted this way.
    """

    make: Callable[[], XMLStream]
    most: int
    most_per_host: int
    kind: str = ""
    refused: int = 0
    carried: Traffic = field(factory=Traffic)
    streams: set[XMLStream] = field(factory=set)
    hosts: Counter[str] = field(factory=Counter)
    log: Logger = field(factory=Logger)
    noisy: bool = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A stream for a connection, C{None} (which closes it) beyond the bounds."""
        host = plain_host(str(getattr(addr, "host", "local")))
        network = network_of(host)
        crowded = network != LOCAL and self.hosts[network] >= self.most_per_host
        if len(self.streams) >= self.most or crowded:
            self.refused += 1
            self.log.warn("connection from {host} refused: too many are open", host=host)
            return None
        stream = self.make()
        stream.factory = self
        self.streams.add(stream)
        self.hosts[network] += 1

        def forget(_: None) -> None:
            self.streams.discard(stream)
            self.hosts[network] -= 1
            if not self.hosts[network]:
                del self.hosts[network]
            self.carried.add(stream)

        stream.ended.addCallback(forget)
        return stream


class Listeners:
    """
    Opens the listeners of a server.

    @param file: The configuration file, for messages.
    """

    log = Logger()

    def __init__(self, reactor: Any, file: object) -> None:
        self._reactor = reactor
        self._file = file
        self._ports: list[IListeningPort] = []
        self.factories: list[StreamFactory] = []

    def open(
        self, kind: str, description: str, factory: StreamFactory, *, watched: bool = False
    ) -> None:
        """
        Open one listener.

        @param watched: TCP watches over its connections.
        @raise ConfigurationError: the endpoint cannot be read, or bound.
        """
        opened = open_listener(self._reactor, self._file, f"listen.{kind}", description, factory)
        self._ports.extend(opened)
        for port in opened:
            if watched:
                watch_socket(port)  # Linux: what is accepted inherits it
            self.log.info(
                "{kind} listener ready on {at}", kind=kind, at=show_address(port.getHost())
            )
        self.factories.append(factory)

    def close(self) -> Deferred[Any]:
        """Accept no more connections."""
        ports, self._ports = self._ports, []
        return close_ports(ports)
