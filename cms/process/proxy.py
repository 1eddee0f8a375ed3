"""
Listeners behind a proxy that says who its clients are (the PROXY protocol).

A protocol is made for a connection only when its header is complete.  From then on the
client's address is that of the header, for limits, guesses and logs.  A peer that may
send a header can claim any address, so only some peers may.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from cms import faults
from cms.process.proxyheader import NoProxyHeader, ProxyHeader, read_header
from cms.signalflow import StepError

HEADER_TIMEOUT = 5.0  # seconds for a proxy to say who its client is
MOST_WAITING = 1_000  # connections whose header is not complete
SAY_AGAIN = 60.0  # seconds; a proxy that is set up wrongly fails each time
Network = IPv4Network | IPv6Network


def parse_proxy(text: str) -> Network:
    """
    An address, or a network, of C{listen.proxies}.

    @raise ValueError: it is neither.
    """
    return ip_network(text.strip(), strict=False)


PROXY_CURE = 'Write addresses or networks, such as "192.0.2.10" or "2001:db8::/64".'


class ProxiedFactory(Factory):
    """
    Reads the headers of one listener, and passes the connections on.

    @param wrapped: Makes the protocol of a connection.
    @param proxies: The addresses, besides this host, that may send a header.
    @param key: The listener's key in the configuration, such as C{listen.client}.
    """

    log = Logger()
    noisy = False

    def __init__(
        self,
        clock: Any,
        wrapped: IProtocolFactory,
        key: str,
        proxies: Sequence[Network] = (),
    ) -> None:
        self.clock = clock
        self.wrapped = wrapped
        self.key = key
        self.waiting = 0
        self._proxies = tuple(proxies)
        self._said: dict[str, float] = {}

    def doStart(self) -> None:
        """The listener opens."""
        self.wrapped.doStart()

    def doStop(self) -> None:
        """It has closed."""
        self.wrapped.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A connection of a proxy; C{None}, which closes it, for others."""
        host = getattr(addr, "host", None)
        if host is not None and not is_proxy(str(host), self._proxies):
            self.say(faults.PROXY_UNTRUSTED.error(peer=host, key=self.key))
            return None
        if self.waiting >= MOST_WAITING:
            problem = f"{MOST_WAITING} others have sent none yet"
            self.say(faults.PROXY_MISSING.error(peer=_shown(addr), key=self.key, problem=problem))
            return None
        self.waiting += 1
        return _Header(self, addr)

    def say(self, fault: StepError) -> None:
        """Log it, now and then."""
        now = self.clock.seconds()
        if self._said.get(fault.fault, -SAY_AGAIN) + SAY_AGAIN <= now:
            self._said[fault.fault] = now
            self.log.warn("{cause} Cure: {cure}", **fault.fields)


class _Header(Protocol):
    """A connection until its header is complete."""

    transport: Any

    def __init__(self, owner: ProxiedFactory, proxy: IAddress | None) -> None:
        self._owner = owner
        self._proxy = proxy
        self._read = b""
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """The header is due."""
        self._timer = self._owner.clock.callLater(HEADER_TIMEOUT, self._late)

    def dataReceived(self, data: bytes) -> None:
        """A part of it, or more than it."""
        if self._timer is None:
            return  # it was refused; further data is ignored
        self._read += data
        try:
            header = read_header(self._read)
        except NoProxyHeader as problem:
            self._refuse(str(problem))
            return
        if header is not None:
            self._settle()
            self._hand_on(header)

    def _late(self) -> None:
        self._refuse(f"nothing complete came within {HEADER_TIMEOUT:g} s")

    def _refuse(self, problem: str) -> None:
        self._settle()
        if self._read:  # a peer that only checks whether the port is open is no failure
            self._owner.say(
                faults.PROXY_MISSING.error(
                    peer=_shown(self._proxy), key=self._owner.key, problem=problem
                )
            )
        self._read = b""
        self.transport.abortConnection()

    def _settle(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._owner.waiting -= 1
            if timer.active():
                timer.cancel()

    def _hand_on(self, header: ProxyHeader) -> None:
        """From here on the transport is the client's."""
        transport, address = self.transport, self._proxy
        if header.source is not None:
            host, port = header.source
            kind = IPv6Address if ":" in host else IPv4Address
            address = kind("TCP", host, port)
            transport.getPeer = lambda: address
        made: Any = self._owner.wrapped
        protocol = made.buildProtocol(address)
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if header.rest:
            transport.protocol.dataReceived(header.rest)  # which may be a layer by now

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It ended before its header was complete."""
        self._settle()


@lru_cache(maxsize=1_024)
def is_proxy(host: str, proxies: tuple[Network, ...]) -> bool:
    """Whether a peer may say whom it speaks for: this host, and C{listen.proxies}."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or any(address in network for network in proxies)


def _shown(address: IAddress | None) -> str:
    host, port = getattr(address, "host", None), getattr(address, "port", "?")
    return "a local socket" if host is None else f"{host} port {port}"
