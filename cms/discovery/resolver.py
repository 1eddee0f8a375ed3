"""Questions to DNS, and an error of its own for each way in which none is answered."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime, IResolver
from twisted.names import dns, error, resolve

from cms import errors
from cms.discovery.servers import FAILURES, Hosts, Server, Servers, system_servers
from cms.errors import Fault
from cms.signalflow import Step, StepError

DNS_CURE = "Write addresses such as 192.0.2.53, 192.0.2.53:53 or [2001:db8::53]:53."
DNS_TIMEOUT = 5.0  # seconds for a question, whatever the number of servers and tries

# Of that time, what a server has to answer the first, the second and the third
# time; the rest is for a TCP query, and for a second server.
_SHARES = (0.2, 0.3, 0.4)

_SERVER = re.compile(r"(?:\[([^][]+)\]|([^][:]+))(?::([0-9]{1,5}))?")


class NoSuchName(Exception):
    """
    NXDOMAIN.

    @ivar records: The answer section all the same: the aliases that led to the
        missing name (RFC 6604 3).
    """

    def __init__(self, records: Sequence[dns.RRHeader] = ()) -> None:
        super().__init__()
        self.records = records


@frozen
class Answer:
    """
    What DNS said.  Both may be empty: the name exists, the record type does not.

    @ivar records: The answer section.
    @ivar additional: The additional section.
    """

    records: Sequence[dns.RRHeader]
    additional: Sequence[dns.RRHeader]


@frozen
class _DNSFaults:
    silent: Fault
    failed: Fault
    refused: Fault
    truncated: Fault
    unreachable: Fault


_FAULTS = {
    Step.SRV: _DNSFaults(
        errors.DNS_SILENT_SRV,
        errors.DNS_FAILED_SRV,
        errors.DNS_REFUSED_SRV,
        errors.DNS_TRUNCATED_SRV,
        errors.DNS_UNREACHABLE_SRV,
    ),
    Step.ADDRESS: _DNSFaults(
        errors.DNS_SILENT_ADDRESS,
        errors.DNS_FAILED_ADDRESS,
        errors.DNS_REFUSED_ADDRESS,
        errors.DNS_TRUNCATED_ADDRESS,
        errors.DNS_UNREACHABLE_ADDRESS,
    ),
}

_RCODES = {
    error.DNSServerError: "SERVFAIL",
    error.DNSFormatError: "FORMERR",
    error.DNSNotImplementedError: "NOTIMP",
}


class DNS:
    """
    A resolver whose failures are entries of the fault catalogue.

    @param resolver: Any C{IResolver}; ours keeps no cache, so that each round
        sees DNS as it is.
    @param servers: What to call it in evidence.
    @param truncated: The questions whose last UDP answer was truncated.
    """

    def __init__(
        self,
        resolver: IResolver,
        servers: str,
        clock: IReactorTime,
        *,
        timeout: float = DNS_TIMEOUT,
        truncated: Container[tuple[bytes, int]] = (),
    ) -> None:
        self._resolver = resolver
        self.servers = servers
        self._clock = clock
        self._timeout = timeout
        self._truncated = truncated

    async def ask(self, name: str, type_: int, step: Step) -> Answer:
        """
        Ask for records.

        @param type_: Such as C{dns.SRV}.
        @raise NoSuchName: NXDOMAIN.
        @raise DiscoveryError: no usable answer; it belongs to C{step}.
        """
        began = self._clock.seconds()
        waits = tuple(self._timeout * share for share in _SHARES)
        query = dns.Query(name.encode(), type_, dns.IN)
        asked = self._resolver.query(query, waits)  # type: ignore[arg-type]
        asked.addTimeout(self._timeout, self._clock)
        try:
            answers, _, additional = await asked
        except (error.DNSNameError, error.AuthoritativeDomainError) as problem:
            raise NoSuchName(_answers(problem)) from None
        except FAILURES as problem:
            truncated = (name.encode(), type_) in self._truncated
            seen = {"name": name, "server": self.servers}
            seconds = f"{self._clock.seconds() - began:.1f}"
            raise _explain(problem, _FAULTS[step], seconds, truncated, seen) from None
        return Answer(answers, additional)  # type: ignore[arg-type]


def _answers(problem: Exception) -> Sequence[dns.RRHeader]:
    message = problem.args[0] if problem.args else None
    return message.answers if isinstance(message, dns.Message) else ()


def _explain(
    problem: Exception, faults: _DNSFaults, seconds: str, truncated: bool, seen: dict[str, str]
) -> StepError:
    """The catalogue's entry for what became of a question."""
    if isinstance(problem, error.DNSQueryRefusedError):
        return faults.refused.error(**seen)
    if isinstance(problem, error.DomainError):
        return faults.failed.error(rcode=_rcode(problem), **seen)
    shown = str(problem).rstrip(".") or type(problem).__name__
    if isinstance(problem, DeferredTimeout):
        if not truncated:
            return faults.silent.error(seconds=seconds, **seen)
        shown = "no answer in time"
    fault = faults.truncated if truncated else faults.unreachable
    return fault.error(problem=shown, **seen)


def _rcode(problem: error.DomainError) -> str:
    """As in the IANA registry of DNS RCODEs."""
    message = problem.args[0] if problem.args else None
    if type(problem) in _RCODES:
        return _RCODES[type(problem)]
    return f"RCODE {message.rCode}" if isinstance(message, dns.Message) else "an unknown code"


def make_dns(reactor: Any, servers: Sequence[Server], *, timeout: float = DNS_TIMEOUT) -> DNS:
    """
    The DNS that a Callbridge asks.

    @param servers: IP addresses and ports; none means the system's
        (F{/etc/resolv.conf} and F{/etc/hosts}).
    @param timeout: Seconds for each question.
    """
    if servers:
        own = Servers(lambda: servers, reactor)
        shown = ", ".join(map(_show, servers))
        return DNS(own, shown, reactor, timeout=timeout, truncated=own.truncated)
    conf = Path("/etc/resolv.conf")
    system = Servers(lambda: system_servers(conf), reactor)
    chain = resolve.ResolverChain([Hosts(b"/etc/hosts"), system])
    shown = "the system's " + ", ".join(map(_show, system_servers(conf)))
    return DNS(chain, shown, reactor, timeout=timeout, truncated=system.truncated)


def _show(server: Server) -> str:
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
