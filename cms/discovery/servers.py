"""
Where DNS is asked: name servers one after the other, and F{/etc/hosts}.

The questions themselves are those of C{twisted.names}; no answer is cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectingCancelledError, ConnectionClosed
from twisted.internet.error import ConnectError as TCPConnectError
from twisted.internet.protocol import connectionDone
from twisted.names import client, common, dns, error, hosts
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath

Server: TypeAlias = tuple[str, int]
Sections: TypeAlias = tuple[list[dns.RRHeader], list[dns.RRHeader], list[dns.RRHeader]]

# How a question ends without an answer.
FAILURES = (
    error.DomainError,
    error.AuthoritativeDomainError,
    error.ResolverError,
    DeferredTimeout,
    CannotListenError,
    TCPConnectError,
    ConnectionClosed,
    OSError,
)


class _TCPQuestion(Int16StringReceiver):
    """
    A question over a connection of its own (RFC 1035 4.2.2).

    @ivar answer: Fires with the message; fails when none comes.
    """

    def __init__(self, query: dns.Query) -> None:
        self._message = dns.Message(dns.randomSource(), recDes=1)
        self._message.queries = [query]
        self.answer: Deferred[dns.Message] = Deferred()

    def connectionMade(self) -> None:
        """Ask."""
        self.sendString(self._message.toStr())

    def stringReceived(self, string: bytes) -> None:
        """The answer, or something that is none."""
        message = dns.Message()
        try:
            message.fromStr(string)
        except (EOFError, ValueError):
            if self.transport is not None:
                self.transport.loseConnection()
            return
        if message.id == self._message.id and not self.answer.called:
            self.answer.callback(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There will be no answer any more."""
        if not self.answer.called:
            self.answer.errback(reason)


class Servers(common.ResolverBase):
    """
    Asks one server after the other until one knows.

    C{client.Resolver} is used anew for each question and server, because one
    that is kept (Twisted 26.10) is no base for a daemon: once the socket for a
    question could not be opened, that question is never answered again; a
    server without a route, or one that fails, ends the look-up although the
    next would know; a truncated answer is asked for at another server than the
    one that gave it, over a connection that stays open and is used again even
    when it is dead.

    @ivar truncated: The questions whose answer was truncated last time, so
        that a failure of the TCP query can be told from any other.
    @param servers: Called for each question.
    """

    def __init__(self, servers: Callable[[], Sequence[Server]], reactor: Any) -> None:
        super().__init__()
        self.truncated: set[tuple[bytes, int]] = set()
        self._servers = servers
        self._reactor = reactor

    def _lookup(self, name: bytes, cls: int, type: int, timeout: Any) -> Any:  # noqa: A002
        query = dns.Query(name, type, cls)
        return Deferred.fromCoroutine(self._look_up(query, timeout))

    async def _look_up(self, query: dns.Query, waits: Sequence[float]) -> Sections:
        """Who is silent is asked again, and for longer; who fails is not."""
        self.truncated.discard((query.name.name, query.type))
        problems: list[Exception] = []
        left = list(self._servers())
        for wait in waits:
            silent = []
            for server in left:
                try:
                    return await self._ask(server, query, wait)
                except error.DNSNameError:
                    raise
                except FAILURES as problem:
                    problems.append(problem)
                    if isinstance(problem, DeferredTimeout):
                        silent.append(server)
            left = silent
        raise min(problems, key=_rank)

    async def _ask(self, server: Server, query: dns.Query, wait: float) -> Sections:
        resolver = client.Resolver(servers=[server], reactor=self._reactor)
        message = await resolver.queryUDP([query], (wait,))
        if message.trunc:
            self.truncated.add((query.name.name, query.type))
            message = await self._ask_by_tcp(server, query, wait)
        if message.rCode != dns.OK:
            raise self.exceptionForCode(message.rCode)(message)
        return message.answers, message.authority, message.additional

    async def _ask_by_tcp(self, server: Server, query: dns.Query, wait: float) -> dns.Message:
        host, port = server
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        endpoint = kind(self._reactor, host, port, wait)
        question = _TCPQuestion(query)
        try:
            connected = await connectProtocol(endpoint, question)
        except ConnectingCancelledError:  # which is no CancelledError, but means it
            raise CancelledError from None
        try:
            return await question.answer.addTimeout(wait, self._reactor)
        finally:
            connected.transport.abortConnection()


def _rank(problem: Exception) -> int:
    """What was answered tells more than silence, and both more than no route."""
    if isinstance(problem, error.DomainError):
        return 0
    return 1 if isinstance(problem, DeferredTimeout) else 2


class Hosts(hosts.Resolver):
    """
    F{/etc/hosts}: a name that is there for one address family is not asked of
    DNS for the other, as the system's own resolver does it.
    """

    def lookupAddress(self, name: Any, timeout: Any = None) -> Any:
        """IPv4 addresses."""
        return super().lookupAddress(name, timeout).addErrback(self._other_family, name)

    def lookupIPV6Address(self, name: Any, timeout: Any = None) -> Any:
        """IPv6 addresses."""
        return super().lookupIPV6Address(name, timeout).addErrback(self._other_family, name)

    def _other_family(self, failure: Failure, name: Any) -> Any:
        known = hosts.searchFileForAll(FilePath(self.file), dns.domainString(name))
        return ((), (), ()) if known else failure


def system_servers(resolv_conf: Path) -> list[Server]:
    """
    The C{nameserver} lines of a F{resolv.conf}, the local host without any.
    They are read anew for each question, and written as replies name their
    sender, which C{twisted.names} compares as text.
    """
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    found = []
    for line in lines:
        match line.split():
            case ["nameserver", address, *_] if _is_ip(address):
                found.append((str(ip_address(address)), dns.PORT))
    return found or [("127.0.0.1", dns.PORT)]


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
