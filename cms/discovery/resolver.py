"""Questions to DNS, with an entry of the fault catalogue for each kind of failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.names import dns, error

from cms import faults
from cms.discovery.message import NotAnAnswer, Reply
from cms.discovery.nameservers import (
    FAILURES,
    NotByTCP,
    Outcomes,
    Server,
    Servers,
    show_server,
    words_for,
)
from cms.discovery.systemfiles import (
    HOSTS,
    RESOLV_CONF,
    addresses_in,
    system_search,
    system_servers,
)
from cms.signalflow import Step, StepError

DNS_CURE = "Write addresses such as 192.0.2.53, 192.0.2.53:53 or [2001:db8::53]:53."
DNS_TIMEOUT = 5.0  # seconds for a question, whatever the number of servers and tries

# How long a server has to answer the first, second and third query.  The rest of
# DNS_TIMEOUT is for a TCP query and for a second server.
_SHARES = (0.2, 0.3, 0.4)

_SERVER = re.compile(r"(?:\[([^][]+)\]|([^][:]+))(?::([0-9]{1,5}))?")


class NoSuchName(Exception):
    """
    NXDOMAIN.

    @ivar records: The answer section: the aliases that led to the missing name
        (RFC 6604 3).
    @ivar server: The server that says so.
    @ivar asked: What each server said, if several were asked.
    """

    def __init__(
        self, records: Sequence[dns.RRHeader] = (), server: str = "", asked: str = ""
    ) -> None:
        super().__init__()
        self.records = records
        self.server = server
        self.asked = asked


@frozen
class Answer:
    """
    What DNS said.  Without records, the name exists but has no record of the type.

    @ivar records: The answer section: records that belong to the question.
    @ivar additional: The additional section, which is only a hint.
    @ivar server: The server that answered.
    @ivar asked: What each server said, if several were asked.
    """

    records: Sequence[dns.RRHeader]
    additional: Sequence[dns.RRHeader]
    server: str = ""
    asked: str = ""


class Asked(Protocol):
    """The servers that answer: L{Servers}."""

    async def ask(
        self, name: bytes, type_: int, waits: Sequence[float], outcomes: Outcomes
    ) -> Reply:
        """See L{Servers.ask}."""
        ...


@frozen
class _DNSFaults:
    silent: faults.Fault
    failed: faults.Fault
    refused: faults.Fault
    truncated: faults.Fault
    unreachable: faults.Fault
    strange: faults.Fault


_FAULTS = {
    Step.SRV: _DNSFaults(
        faults.DNS_SILENT_SRV,
        faults.DNS_FAILED_SRV,
        faults.DNS_REFUSED_SRV,
        faults.DNS_TRUNCATED_SRV,
        faults.DNS_UNREACHABLE_SRV,
        faults.DNS_STRANGE_SRV,
    ),
    Step.ADDRESS: _DNSFaults(
        faults.DNS_SILENT_ADDRESS,
        faults.DNS_FAILED_ADDRESS,
        faults.DNS_REFUSED_ADDRESS,
        faults.DNS_TRUNCATED_ADDRESS,
        faults.DNS_UNREACHABLE_ADDRESS,
        faults.DNS_STRANGE_ADDRESS,
    ),
}


class DNS:
    """
    A resolver whose failures are entries of the fault catalogue.

    @param asked: The servers.  Ours keep no cache, so that each attempt sees DNS as it is.
    @param servers: Their name in evidence.
    @param hosts: Gives the addresses of a name that is in F{/etc/hosts}.
    @param search: The search domains of this host.  They are never tried, only reported.
    """

    def __init__(
        self,
        asked: Asked,
        servers: str,
        clock: IReactorTime,
        *,
        timeout: float = DNS_TIMEOUT,
        hosts: Callable[[str], tuple[str, ...]] = lambda name: (),
        search: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._asked = asked
        self.servers = servers
        self._clock = clock
        self._timeout = timeout
        self.hosts = hosts
        self.search = search

    async def ask(self, name: str, type_: int, step: Step) -> Answer:
        """
        Ask for records.

        @param type_: Such as C{dns.SRV}.
        @raise NoSuchName: NXDOMAIN.
        @raise DiscoveryError: no usable answer; it belongs to C{step}.
        """
        began = self._clock.seconds()
        waits = tuple(self._timeout * share for share in _SHARES)
        outcomes = Outcomes()
        asking = Deferred.fromCoroutine(self._asked.ask(name.encode(), type_, waits, outcomes))
        asking.addTimeout(self._timeout, self._clock)
        try:
            reply = await asking
        except FAILURES as problem:
            server, told = outcomes.most_telling or (None, problem)
            who = self.servers if server is None else show_server(server)
            asked = self._shown(outcomes)
            if isinstance(told, error.DNSNameError):
                raise NoSuchName(_answers(told), who, asked) from None
            seen = {"name": name, "server": who, **({"asked": asked} if asked else {})}
            seconds = f"{self._clock.seconds() - began:.1f}"
            raise _explain(told, _FAULTS[step], seconds, seen) from None
        answered = self.servers if outcomes.answered is None else show_server(outcomes.answered)
        return Answer(reply.answers, reply.additional, answered, self._shown(outcomes))

    def _shown(self, outcomes: Outcomes) -> str:
        """What each server said, if there is more than one."""
        said = [f"{show_server(s)}: {words_for(p)}" for s, p in outcomes.problems.items()]
        if outcomes.answered is not None:
            said.append(f"{show_server(outcomes.answered)}: answered")
        return "; ".join(said) if len(said) > 1 else ""


def _answers(problem: Exception) -> Sequence[dns.RRHeader]:
    reply = problem.args[0] if problem.args else None
    return reply.answers if isinstance(reply, Reply) else ()


def _explain(
    problem: Exception, entries: _DNSFaults, seconds: str, seen: dict[str, str]
) -> StepError:
    """The entry of the fault catalogue for an unanswered question."""
    if isinstance(problem, error.DNSQueryRefusedError):
        return entries.refused.error(**seen)
    if isinstance(problem, error.DomainError):
        return entries.failed.error(rcode=words_for(problem), **seen)
    if isinstance(problem, DeferredTimeout):
        return entries.silent.error(seconds=seconds, **seen)
    if isinstance(problem, NotAnAnswer | NotByTCP):
        fault = entries.strange if isinstance(problem, NotAnAnswer) else entries.truncated
        return fault.error(problem=str(problem), **seen)
    return entries.unreachable.error(problem=words_for(problem), **seen)


def make_dns(reactor: Any, servers: Sequence[Server], *, timeout: float = DNS_TIMEOUT) -> DNS:
    """
    The DNS that a Callbridge asks.

    @param servers: IP addresses and ports; none means the system's
        (F{/etc/resolv.conf}).  F{/etc/hosts} goes before either.
    @param timeout: Seconds for each question.
    """
    shown = ", ".join(map(show_server, servers))
    if not servers:
        shown = "the system's " + ", ".join(map(show_server, system_servers(RESOLV_CONF)))

    def known() -> Sequence[Server]:
        return servers or system_servers(RESOLV_CONF)

    return DNS(
        Servers(known, reactor),
        shown,
        reactor,
        timeout=timeout,
        hosts=lambda name: addresses_in(HOSTS, name),
        search=lambda: system_search(RESOLV_CONF),
    )


def parse_dns_server(text: str) -> Server:
    """
    Read C{ip}, C{ip:port}, C{[v6]} or C{[v6]:port}; the port is 53 by default.

    @raise ValueError: when it is none of these.
    """
    parts = _SERVER.fullmatch(text)
    v6, v4, port = parts.groups() if parts else (None, text, None)
    number = dns.PORT if port is None else int(port)
    if not 0 < number < 65536:
        raise ValueError(f'"{port}" is not a port')
    return str(IPv6Address(v6) if v6 else ip_address(v4)), number
