"""Questions to DNS, and an error of its own for each way in which none is answered."""

from __future__ import annotations

from collections.abc import Container, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError as TCPConnectError
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IReactorTime, IResolver
from twisted.names import client, dns, error, hosts, resolve

from cms import errors
from cms.errors import Fault
from cms.signalflow import Step

DNS_TIMEOUT = 5.0  # seconds for a question, whatever the number of servers and tries


class NoSuchName(Exception):
    """NXDOMAIN."""


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


_FAULTS = {
    Step.SRV: _DNSFaults(
        errors.DNS_SILENT_SRV,
        errors.DNS_FAILED_SRV,
        errors.DNS_REFUSED_SRV,
        errors.DNS_TRUNCATED_SRV,
    ),
    Step.ADDRESS: _DNSFaults(
        errors.DNS_SILENT_ADDRESS,
        errors.DNS_FAILED_ADDRESS,
        errors.DNS_REFUSED_ADDRESS,
        errors.DNS_TRUNCATED_ADDRESS,
    ),
}

_RCODES = {
    error.DNSServerError: "SERVFAIL",
    error.DNSFormatError: "FORMERR",
    error.DNSNotImplementedError: "NOTIMP",
    error.DNSUnknownError: "an unknown code",
}


class _Resolver(client.Resolver):
    """
    Remembers which answers were truncated: C{twisted.names} then asks again
    over TCP, and a failure of that would look like any other.

    @param resolv_conf: Read before each question, in place of the timer that
        C{twisted.names} would keep.
    """

    def __init__(
        self, servers: Sequence[tuple[str, int]], reactor: Any, resolv_conf: Path | None = None
    ) -> None:
        self.truncated: set[tuple[bytes, int]] = set()
        self._resolv_conf = resolv_conf
        super().__init__(servers=list(servers), reactor=reactor)

    def queryUDP(self, queries: Any, timeout: Any = None) -> Any:
        """Ask the servers in turn."""
        if self._resolv_conf is not None:
            self.servers = system_servers(self._resolv_conf)
        for query in queries:
            self.truncated.discard((query.name.name, query.type))
        return super().queryUDP(queries, timeout)

    def filterAnswers(self, message: dns.Message) -> Any:
        """Note what will be asked again."""
        if message.trunc:
            self.truncated.update((q.name.name, q.type) for q in message.queries)
        return super().filterAnswers(message)


_FAILURES = (
    error.DomainError,
    error.AuthoritativeDomainError,
    error.ResolverError,
    error.DNSQueryTimeoutError,
    DeferredTimeout,
    TCPConnectError,
    ConnectionClosed,
    OSError,
)


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
        asked = self._resolver.query(dns.Query(name.encode(), type_, dns.IN), (1, 2, 2))
        asked.addTimeout(self._timeout, self._clock)
        try:
            answers, _, additional = await asked
        except _FAILURES as problem:
            truncated = (name.encode(), type_) in self._truncated
            raise self._explain(problem, name, step, truncated) from None
        return Answer(answers, additional)  # type: ignore[arg-type]

    def _explain(self, problem: Exception, name: str, step: Step, truncated: bool) -> Exception:
        faults = _FAULTS[step]
        seen: dict[str, object] = {"name": name, "server": self.servers}
        if truncated and not isinstance(problem, error.DomainError):
            shown = str(problem) or type(problem).__name__
            return faults.truncated.error(problem=shown.rstrip("."), **seen)
        if isinstance(problem, error.DNSQueryRefusedError):
            return faults.refused.error(**seen)
        for kind, rcode in _RCODES.items():
            if isinstance(problem, kind):
                return faults.failed.error(rcode=rcode, **seen)
        if isinstance(problem, error.DomainError | error.AuthoritativeDomainError):
            return NoSuchName()
        return faults.silent.error(seconds=self._timeout, **seen)


def make_dns(reactor: Any, servers: Sequence[tuple[str, int]]) -> DNS:
    """
    The DNS that a Callbridge asks.

    @param servers: IP addresses and ports; none means the system's
        (F{/etc/resolv.conf} and F{/etc/hosts}).
    """
    if servers:
        own = _Resolver(servers, reactor)
        return DNS(own, ", ".join(map(_show, servers)), reactor, truncated=own.truncated)
    conf = Path("/etc/resolv.conf")
    system = _Resolver(system_servers(conf), reactor, conf)
    chain = resolve.ResolverChain([hosts.Resolver(b"/etc/hosts"), system])
    shown = "of the system, " + ", ".join(map(_show, system_servers(conf)))
    return DNS(chain, shown, reactor, truncated=system.truncated)


def system_servers(resolv_conf: Path) -> list[tuple[str, int]]:
    """The C{nameserver} lines of a F{resolv.conf}, the local host without any."""
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    found = [(word[1], dns.PORT) for word in words if len(word) > 1 and word[0] == "nameserver"]
    return found or [("127.0.0.1", dns.PORT)]


def _show(server: tuple[str, int]) -> str:
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_dns_server(text: str) -> tuple[str, int]:
    """
    Read C{ip}, C{ip:port}, C{[v6]} or C{[v6]:port}; the port is 53 by default.

    @raise ValueError: when it is none of these.
    """
    host, colon, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, colon, port = text, "", ""
    elif not colon or (text.count(":") > 1 and not text.startswith("[")):
        host, port = text, ""
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f'"{port}" is not a port')
    return str(ip_address(host.strip("[]"))), int(port or 53)
