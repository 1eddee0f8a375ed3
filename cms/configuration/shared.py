"""The sections that the files of both daemons share."""

from __future__ import annotations

from attrs import frozen

from cms.configuration.kinds import Count, Flag, Many, Parsed, Text
from cms.configuration.section import setting
from cms.discovery.nameservers import Server
from cms.discovery.resolver import DNS_CURE, parse_dns_server
from cms.process.proxy import PROXY_CURE, Network, parse_proxy
from cms.protection.connections import MOST_API_CONNECTIONS

_MEGABYTE = 1_048_576
ENDPOINTS = Many(Text(), "endpoints")
STATE_DIR = "state"  # beside the file


@frozen(kw_only=True)
class Listeners:
    """
    Of C{[listen]}, as endpoint strings: where a daemon is administered.

    @ivar proxies: The peers that may say who their clients are.
    @ivar forwarded_for: Whether they do so in C{X-Forwarded-For}.
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
        "the proxies, besides this host, that may connect to a listener with `haproxy:`, or whose"
        ' `X-Forwarded-For` counts: `["192.0.2.10", "2001:db8::/64"]`; such a proxy can claim any'
        " client address",
        default=(),
    )
    forwarded_for: bool = setting(
        Flag(),
        "whether a proxy writes `X-Forwarded-For` for the HTTP listeners without `haproxy:`; of"
        " its addresses the last that is no proxy's is the client's ([operate.md](operate.md)). Say"
        " `true` only if the proxy replaces or extends what clients send",
        default=False,
    )


@frozen(kw_only=True)
class RecordSettings:
    """C{[record]}: the record on disk of log-ins and links."""

    days: int = setting(
        Count(0, 400),
        "days that the record of log-ins and links (`cms log`) keeps an entry, in the folder"
        " `record` of `state_dir` ([operate.md](operate.md#why-could-alice-not-log-in)); 0: there"
        " is no record",
        default=14,
        why="whoever comes back from two weeks of holidays can still be told why he could not log"
        " in before them",
    )
    most_bytes: int = setting(
        Count(_MEGABYTE, 2**36),
        "bytes of that record; beyond it the oldest entries go. Half is for log-ins of users, a"
        " fifth for guests and names that nobody has, and the rest for links",
        default=32 * _MEGABYTE,
        why="some 100,000 log-ins",
    )


def dns_servers(meaning: str) -> tuple[Server, ...]:
    """C{dns.servers}, with the meaning it has for this daemon."""
    return setting(
        Many(Parsed(parse_dns_server, DNS_CURE), "addresses, with or without a port"),
        meaning,
        default=(),
        shown="the system's",
    )


def most_api_connections() -> int:
    """Connections to each listener of the API."""
    return setting(
        Count(10, 1_000_000),
        "connections to each of `listen.api` and `listen.api_plain`",
        default=MOST_API_CONNECTIONS,
        why="thirty browsers, with six connections each",
    )
