"""The network that an address counts for, where something is counted by address."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network

LOCAL = "local"


@lru_cache(maxsize=4_096)
def network_of(host: str) -> str:
    """
    The network that an address counts for: an IPv4 address itself, the /64 of an IPv6
    address (a customer gets as many), or L{LOCAL} for this host.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return LOCAL if host == "local" else host
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return LOCAL
    return str(ip_network((address, 64), strict=False) if address.version == 6 else address)
