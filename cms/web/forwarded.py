"""
The client's address where a proxy says it in C{X-Forwarded-For}.

nginx and Caddy cannot send the PROXY protocol to a server of HTTP.  They name the client in
a header, which anybody can write.  So only the header of a proxy counts, only if the
configuration says that the proxy writes it, and of its addresses the last that is no proxy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from attrs import define, field, frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from cms import faults
from cms.process.logs import Logger
from cms.process.proxy import SAY_AGAIN, Network, is_proxy

HEADER = b"x-forwarded-for"
MOST_HOPS = 32  # proxies that one after the other may have added an address


@frozen
class Forwarding:
    """
    Whether proxies say who their clients are.

    @ivar believed: Whether the header counts.
    @ivar proxies: The addresses of proxies, besides this host.
    """

    believed: bool = False
    proxies: tuple[Network, ...] = ()


@define(eq=False)
class Forwarded:
    """
    Finds the clients of one listener.

    @ivar key: The listener's key in the configuration, such as C{listen.web_plain}.
    @ivar seconds: A monotonic clock.
    """

    key: str
    forwarding: Forwarding
    seconds: Callable[[], float]
    log: Logger = field(factory=Logger)
    _said: float | None = None

    def client_of(self, peer: IAddress, headers: Sequence[bytes] | None) -> IAddress:
        """
        Who made a request.

        @param peer: Whose connection it came on, as far as the PROXY protocol tells.
        @param headers: Each C{X-Forwarded-For} of the request.
        """
        if not headers:
            return peer
        host = getattr(peer, "host", None)
        if host is not None and not is_proxy(str(host), self.forwarding.proxies):
            return peer  # a client itself, which may write what it likes
        if not self.forwarding.believed:
            self._say(host)
            return peer
        return self._last_client(b",".join(headers)) or peer

    def _last_client(self, header: bytes) -> IAddress | None:
        """What is left of an address that cannot be read was written by nobody whom we know."""
        hops = header.rsplit(b",", MOST_HOPS)[-MOST_HOPS:]
        found = None
        for hop in reversed(hops):
            read = _address(hop)
            if read is None:
                break
            found = read
            if not is_proxy(found.host, self.forwarding.proxies):
                break
        return found

    def _say(self, host: object) -> None:
        now = self.seconds()
        if self._said is None or self._said + SAY_AGAIN <= now:
            self._said = now
            fault = faults.FORWARDED_UNREAD.error(
                key=self.key, peer="a local socket" if host is None else host
            )
            self.log.warn("{cause} Cure: {cure}", **fault.fields)


def _address(hop: bytes) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it, some with a port."""
    text = hop.decode("ascii", "replace").strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    kind = IPv4Address if address.version == 4 else IPv6Address
    return kind("TCP", str(address), 0)
