"""What the files of both daemons have alike."""

from __future__ import annotations

from attrs import frozen

from cms.configuration.kinds import Count, Many, Parsed, Text
from cms.configuration.section import setting
from cms.discovery.nameservers import Server
from cms.discovery.resolver import DNS_CURE, parse_dns_server
from cms.process.proxy import PROXY_CURE, Network, parse_proxy
from cms.protection.connections import MOST_API_CONNECTIONS

ENDPOINTS = Many(Text(), "endpoints")
STATE_DIR = "state"  # beside the file


@frozen(kw_only=True)
class Listeners:
    """
    Of C{[listen]}, as endpoint strings: where a daemon is administered.

    @ivar proxies: Who may say whom it speaks for, on a listener with C{haproxy:}.
    """

    api: tuple[str, ...] = setting(
        ENDPOINTS,
        "HTTPS administration ([api.md](api.md)); needs `tls.certificate` and `tls.key`",
        default=(),
    )
    api_plain: tuple[str, ...] = setting(
        ENDPOINTS,
        "the same without TLS, for a proxy: loopback or UNIX socket only",
        default=(),
    )
    proxies: tuple[Network, ...] = setting(
        Many(Parsed(parse_proxy, PROXY_CURE), "addresses and networks"),
        "who may connect to a listener with `haproxy:`, beside this host:"
        ' `["192.0.2.10", "2001:db8::/64"]`; whoever may, can claim any address',
        default=(),
    )


def dns_servers(meaning: str) -> tuple[Server, ...]:
    """C{dns.servers}, which each daemon has for something else."""
    return setting(
        Many(Parsed(parse_dns_server, DNS_CURE), "addresses, with or without a port"),
        meaning,
        default=(),
        shown="the system's",
    )


def most_api_connections() -> int:
    """Places of each listener of the administration."""
    return setting(
        Count(10, 1_000_000),
        "connections to each of `listen.api` and `listen.api_plain`",
        default=MOST_API_CONNECTIONS,
        why="thirty browsers, with six connections each",
    )
