"""
Asking DNS servers, one after the other, by UDP and by TCP.

No answer is cached, and an answer counts only for the question that was asked
(L{cms.discovery.message}).  C{client.Resolver} of C{twisted.names} (26.10) cannot be
used for this.  It compares only the id.  It does not get answers from a scoped address
such as C{fe80::1%eth0}.  If a socket could not be opened, it never answers that question
again.  If there is no route to a server, it does not ask the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import EADDRINUSE
from ipaddress import ip_address
from random import Random, SystemRandom
from socket import AI_NUMERICHOST, SOCK_DGRAM, getaddrinfo
from typing import Any, TypeAlias

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectingCancelledError, ConnectionClosed
from twisted.internet.error import ConnectError as TCPConnectError
from twisted.internet.error import ConnectionRefusedError as TCPRefused
from twisted.internet.protocol import DatagramProtocol, connectionDone
from twisted.names import dns, error
from twisted.names.common import ResolverBase
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

from cms.discovery.message import NotAnAnswer, Question, Reply, follow

Server: TypeAlias = tuple[str, int]

MOST_TOLD = 3  # strange answers of a server that are reported one by one
PORTS = 1024, 65535  # that a question may come from (RFC 5452 9.2)
PORT_TRIES = 8

_CODES = ResolverBase()


class NotByTCP(Exception):
    """
    An answer by UDP was truncated, and TCP gave none.

    @ivar silent: The server did not answer by TCP, so it can be asked again.
    """

    def __init__(self, problem: Exception) -> None:
        super().__init__(words_for(problem))
        self.silent = isinstance(problem, DeferredTimeout)


def is_silence(problem: Exception) -> bool:
    """Whether a server may answer when it is asked again."""
    return isinstance(problem, DeferredTimeout) or (
        isinstance(problem, NotByTCP) and problem.silent
    )


# How a question to a server ends without an answer.
FAILURES = (
    error.DomainError,
    NotByTCP,
    NotAnAnswer,
    DeferredTimeout,
    CannotListenError,
    TCPConnectError,
    ConnectionClosed,
    OSError,
)


def show_server(server: Server) -> str:
    """As people write it."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@define
class Outcomes:
    """
    What each server says to one question, while it is asked.

    @ivar problems: For each server asked, why it has given no answer (yet).
    @ivar answered: The server that has answered.
    """

    problems: dict[Server, Exception] = field(factory=dict)
    answered: Server | None = None
    _strange: dict[Server, list[str]] = field(factory=dict)

    def asks(self, server: Server) -> None:
        """Until the server answers it counts as silent, unless it has said something before."""
        self.problems.setdefault(server, DeferredTimeout())

    def failed(self, server: Server, problem: Exception) -> None:
        """It gave no answer.  Silence does not replace an earlier problem."""
        if not (is_silence(problem) and server in self._strange):
            self.problems[server] = problem

    def strange(self, server: Server, problem: NotAnAnswer) -> None:
        """It sent something that is no answer."""
        told = self._strange.setdefault(server, [])
        told.append(str(problem))
        words = list(dict.fromkeys(told))[:MOST_TOLD]
        self.problems[server] = NotAnAnswer(f"{len(told)} of them: {'; '.join(words)}")

    @property
    def most_telling(self) -> tuple[Server, Exception] | None:
        """The most informative failure, and its server."""
        return min(self.problems.items(), key=lambda told: _rank(told[1]), default=None)


def _rank(problem: Exception) -> int:
    """An answer tells more than silence, and both tell more than no route."""
    kinds: tuple[Any, ...] = (
        error.DNSNameError,
        error.DomainError,
        (NotByTCP, NotAnAnswer),
        DeferredTimeout,
    )
    return next((rank for rank, kind in enumerate(kinds) if isinstance(problem, kind)), len(kinds))


class _UDPQuestion(DatagramProtocol):
    """
    A question from a socket of its own, which receives from one server only.

    @param strange: Called for each datagram that is no answer; the wait goes on.
    @ivar answer: Fires with the answer.
    """

    def __init__(
        self, question: Question, server: Server, strange: Callable[[NotAnAnswer], object]
    ) -> None:
        self._question = question
        self._server = server
        self._strange = strange
        self.answer: Deferred[Reply] = Deferred()

    def ask(self) -> None:
        """Ask.  The socket is connected: the kernel drops what others send."""
        transport: Any = self.transport
        host, port = self._server
        if "%" in host:  # Twisted leaves the zone out, so the socket must know it before
            (*_, whole), *_ = getaddrinfo(host, port, type=SOCK_DGRAM, flags=AI_NUMERICHOST)
            transport.getHandle().connect(whole)
        transport.connect(host, port)
        transport.write(self._question.data)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """An answer, or something that is none; the zone of an address stays in this host."""
        if self.answer.called or _without_zone(addr) != _without_zone(self._server):
            return
        try:
            reply = self._question.read(datagram)
        except NotAnAnswer as problem:
            self._strange(problem)
        else:
            self.answer.callback(reply)

    def connectionRefused(self) -> None:
        """No DNS server listens there."""
        if not self.answer.called:
            self.answer.errback(Failure(TCPRefused()))


def _without_zone(server: Server) -> tuple[object, int]:
    return ip_address(server[0].partition("%")[0]), server[1]


class _TCPQuestion(Int16StringReceiver):
    """
    A question over a connection of its own (RFC 1035 4.2.2).

    @ivar answer: Fires with the answer; fails when none comes.
    """

    def __init__(self, question: Question, strange: Callable[[NotAnAnswer], object]) -> None:
        self._question = question
        self._strange = strange
        self.answer: Deferred[Reply] = Deferred()

    def connectionMade(self) -> None:
        """Ask."""
        self.sendString(self._question.data)

    def stringReceived(self, string: bytes) -> None:
        """The answer, or something that is none."""
        if self.answer.called:
            return
        try:
            reply = self._question.read(string)
        except NotAnAnswer as problem:
            self._strange(problem)
        else:
            self.answer.callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There will be no answer any more."""
        if not self.answer.called:
            self.answer.errback(reason)


class Servers:
    """
    Asks one server after the other until one answers.

    @param servers: Called for each question.
    @param random: Draws ids and ports.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[Server]],
        reactor: Any,
        random: Random | None = None,
    ) -> None:
        self._servers = servers
        self._reactor = reactor
        self._random = random or SystemRandom()

    async def ask(
        self, name: bytes, type_: int, waits: Sequence[float], outcomes: Outcomes
    ) -> Reply:
        """
        A silent server is asked again, with a longer wait.  One that failed is not.

        @param waits: Seconds that each server has, the first, second, ... time.
        @param outcomes: Collects what each server says.
        @return: With the code C{dns.OK}.
        @raise DomainError: the most telling of all failures, as any of L{FAILURES}.
        """
        try:
            make = follow(name, type_)
        except ValueError as problem:
            raise OSError(str(problem)) from None
        left = list(self._servers())
        for wait in waits:
            silent = []
            for server in left:
                outcomes.asks(server)
                try:
                    reply = await self._ask(server, make, wait, outcomes)
                except error.DNSNameError as problem:
                    outcomes.failed(server, problem)
                    raise
                except FAILURES as problem:
                    outcomes.failed(server, problem)
                    if is_silence(problem):
                        silent.append(server)
                else:
                    outcomes.answered = server
                    outcomes.problems.pop(server, None)
                    return reply
            left = silent
        assert outcomes.most_telling is not None  # noqa: S101 - there is always a server
        raise outcomes.most_telling[1]

    async def _ask(
        self, server: Server, make: Callable[[int], Question], wait: float, outcomes: Outcomes
    ) -> Reply:
        def strange(problem: NotAnAnswer) -> None:
            outcomes.strange(server, problem)

        asked = self._open(server, make(self._random.getrandbits(16)), strange)
        try:
            asked.ask()
            reply = await asked.answer.addTimeout(wait, self._reactor)
        finally:
            transport: Any = asked.transport
            if transport is not None:
                transport.stopListening()
        if reply.truncated:
            outcomes.failed(server, NotByTCP(DeferredTimeout()))  # until TCP answers
            question = make(self._random.getrandbits(16))
            try:
                reply = await self._ask_by_tcp(server, question, wait, strange)
            except FAILURES as problem:
                raise NotByTCP(problem) from None
        if reply.rcode != dns.OK:
            raise _CODES.exceptionForCode(reply.rcode)(reply)
        return reply

    def _open(
        self, server: Server, question: Question, strange: Callable[[NotAnAnswer], object]
    ) -> _UDPQuestion:
        """A socket at a port that nobody can guess (RFC 5452 9.2)."""
        interface = "::" if ":" in server[0] else ""
        for left in reversed(range(PORT_TRIES)):
            asked = _UDPQuestion(question, server, strange)
            port = self._random.randint(*PORTS) if left else 0
            try:
                self._reactor.listenUDP(port, asked, interface)
            except CannotListenError as problem:
                if not left or getattr(problem.socketError, "errno", None) != EADDRINUSE:
                    raise
            else:
                return asked
        raise AssertionError

    async def _ask_by_tcp(
        self,
        server: Server,
        question: Question,
        wait: float,
        strange: Callable[[NotAnAnswer], object],
    ) -> Reply:
        host, port = server
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        endpoint = kind(self._reactor, host, port, wait)
        asked = _TCPQuestion(question, strange)
        try:
            connected = await connectProtocol(endpoint, asked)
        except ConnectingCancelledError:  # which is no CancelledError, but means it
            raise CancelledError from None
        try:
            return await asked.answer.addTimeout(wait, self._reactor)
        finally:
            connected.transport.abortConnection()


_WORDS: dict[type[Exception], str] = {
    error.DNSServerError: "SERVFAIL",
    error.DNSFormatError: "FORMERR",
    error.DNSNotImplementedError: "NOTIMP",
    error.DNSQueryRefusedError: "REFUSED",
    error.DNSNameError: "NXDOMAIN",
}


def words_for(problem: Exception) -> str:
    """What a server said, or how it failed; codes as in the IANA registry of DNS RCODEs."""
    if type(problem) in _WORDS:
        return _WORDS[type(problem)]
    if isinstance(problem, error.DomainError):
        reply = problem.args[0] if problem.args else None
        return f"RCODE {reply.rcode}" if isinstance(reply, Reply) else "an unknown code"
    if isinstance(problem, DeferredTimeout):
        return "no answer in time"
    if isinstance(problem, NotByTCP):
        return f"a truncated answer, and by TCP: {problem}"
    if isinstance(problem, NotAnAnswer):
        return f"answers that do not belong to the question ({problem})"
    return str(problem).rstrip(".") or type(problem).__name__
