"""How name servers are asked: in turn, by UDP and TCP, and what their failures say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.error import ConnectionRefusedError as TCPRefused
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.names import dns, error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms.discovery.resolver import DNS, Answer, NoSuchName, parse_dns_server
from cms.discovery.servers import Hosts, Servers, system_servers
from cms.signalflow import Step, StepError

NAME = "_xmpp-component._tcp.meet.example.com"
FIRST, SECOND = ("192.0.2.1", 53), ("192.0.2.2", 53)

Reply = Callable[[dns.Message], dns.Message | None]


def reply(question: dns.Message, rcode: int = dns.OK, *, truncated: bool = False) -> dns.Message:
    """An answer; with C{dns.OK} and not truncated it holds one record."""
    message = dns.Message(question.id, answer=1, rCode=rcode, trunc=truncated)
    message.queries = question.queries
    if rcode == dns.OK and not truncated:
        record = dns.Record_SRV(1, 1, 5223, "x1.example.com")
        message.answers = [dns.RRHeader(NAME.encode(), dns.SRV, dns.IN, 300, record)]
    return message


def rcode(code: int) -> Reply:
    """A server that answers with a code."""
    return lambda question: reply(question, code)


def truncated(question: dns.Message) -> dns.Message:
    """A server whose answers do not fit into UDP."""
    return reply(question, truncated=True)


def silent(question: dns.Message) -> None:
    """A server that does not answer."""


@define
class UDPTransport:
    """The socket of one question."""

    reactor: DNSReactor
    protocol: Any
    open: bool = True

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        """A question goes out; the answer comes back at once, or never."""
        self.reactor.asked.append(address)
        behaviour = self.reactor.servers[address]
        if isinstance(behaviour, Exception):
            raise behaviour
        question = dns.Message()
        question.fromStr(datagram)
        answer = behaviour(question)
        if answer is not None:
            self.reactor.callLater(0, self.protocol.datagramReceived, answer.toStr(), address)

    def stopListening(self) -> None:
        """The question is over."""
        self.open = False
        self.protocol.doStop()


@define(eq=False)
class DNSReactor(MemoryReactorClock):
    """
    Name servers in memory.

    @ivar servers: How each one behaves; an exception is raised by the socket.
    @ivar asked: Who was asked by UDP.
    """

    servers: dict[tuple[str, int], Reply | Exception]
    asked: list[tuple[str, int]] = field(factory=list)
    sockets: list[UDPTransport] = field(factory=list)
    full: bool = False

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> UDPTransport:
        """Open the socket of a question."""
        if self.full:
            raise CannotListenError(interface, 0, OSError(24, "Too many open files"))
        transport = UDPTransport(self, protocol)
        self.sockets.append(transport)
        protocol.makeConnection(transport)
        return transport


class ServersTestCase(SynchronousTestCase):
    """Asks servers in memory."""

    def ask(self, *behaviours: Reply | Exception) -> Deferred[Answer]:
        """Ask servers that behave like this, the first one first."""
        servers = [FIRST, SECOND][: len(behaviours)]
        self.reactor = DNSReactor(dict(zip(servers, behaviours, strict=True)))
        walk = Servers(lambda: servers, self.reactor)
        self.dns = DNS(walk, "the servers", self.reactor, truncated=walk.truncated)
        return self.again()

    def again(self) -> Deferred[Answer]:
        """Ask the same servers once more."""
        deferred = Deferred.fromCoroutine(self.dns.ask(NAME, dns.SRV, Step.SRV))
        self.reactor.advance(0)
        return deferred

    def fault(self, deferred: Deferred[Answer]) -> StepError:
        """The failure, within 5 seconds, and no socket is left open."""
        self.reactor.pump([0.25] * 20)
        failure: StepError = self.failureResultOf(deferred, StepError).value
        self.assertFalse(any(socket.open for socket in self.reactor.sockets))
        return failure


class ServersTests(ServersTestCase):
    """One server after the other."""

    def test_answer(self) -> None:
        """The first server that knows is believed and no other is asked."""
        answer = self.successResultOf(self.ask(rcode(dns.OK), rcode(dns.OK)))
        self.assertEqual([dns.SRV], [record.type for record in answer.records])
        self.assertEqual([FIRST], self.reactor.asked)
        self.assertFalse(self.reactor.sockets[0].open)

    def test_codes(self) -> None:
        """Each code that is no answer is told by its name."""
        for code, fault, shown in (
            (dns.ESERVER, "dns-failed-srv", "SERVFAIL"),
            (dns.EFORMAT, "dns-failed-srv", "FORMERR"),
            (dns.ENOTIMP, "dns-failed-srv", "NOTIMP"),
            (9, "dns-failed-srv", "RCODE 9"),
            (dns.EREFUSED, "dns-refused-srv", "REFUSED"),
        ):
            failure = self.fault(self.ask(rcode(code)))
            self.assertEqual(fault, failure.fault)
            self.assertIn(shown, failure.cause)
            self.assertEqual([FIRST], self.reactor.asked, "a code is final")

    def test_no_such_name(self) -> None:
        """NXDOMAIN is an answer: no other server is asked."""
        self.failureResultOf(self.ask(rcode(dns.ENAME), rcode(dns.OK)), NoSuchName)
        self.assertEqual([FIRST], self.reactor.asked)

    def test_next_server(self) -> None:
        """The next server is asked, whatever is wrong with the first."""
        for behaviour in (
            rcode(dns.ESERVER),
            rcode(dns.EREFUSED),
            OSError(101, "Network is unreachable"),
            silent,
        ):
            asked = self.ask(behaviour, rcode(dns.OK))
            self.reactor.pump([0.5, 0.5, 0])
            self.assertEqual(1, len(self.successResultOf(asked).records))
            self.assertEqual([FIRST, SECOND], self.reactor.asked)

    def test_silence(self) -> None:
        """A silent server is asked three times, and given up within 5 seconds."""
        failure = self.fault(self.ask(silent))
        self.assertEqual("dns-silent-srv", failure.fault)
        self.assertEqual([FIRST] * 3, self.reactor.asked)
        self.assertEqual("4.5", failure.evidence["seconds"])

    def test_two_silent_servers(self) -> None:
        """The bound holds for all servers together."""
        failure = self.fault(self.ask(silent, silent))
        self.assertEqual(("dns-silent-srv", "5.0"), (failure.fault, failure.evidence["seconds"]))

    def test_most_telling(self) -> None:
        """A code tells more than silence, and both more than a missing route."""
        no_route = OSError(101, "Network is unreachable")
        for first, second, fault in (
            (silent, rcode(dns.ESERVER), "dns-failed-srv"),
            (no_route, rcode(dns.EREFUSED), "dns-refused-srv"),
            (no_route, silent, "dns-silent-srv"),
            (no_route, no_route, "dns-unreachable-srv"),
        ):
            self.assertEqual(fault, self.fault(self.ask(first, second)).fault)

    def test_unreachable(self) -> None:
        """A question that cannot be sent says so, and not that there was no answer."""
        failure = self.fault(self.ask(OSError(101, "Network is unreachable")))
        self.assertEqual("dns-unreachable-srv", failure.fault)
        self.assertIn("Network is unreachable", failure.cause)

    def test_no_socket(self) -> None:
        """A question for which no socket was left is answered when there is one again."""
        self.ask(rcode(dns.OK))
        self.reactor.full = True
        failure = self.fault(self.again())
        self.assertEqual("dns-unreachable-srv", failure.fault)
        self.assertIn("Too many open files", failure.cause)
        self.reactor.full = False
        self.successResultOf(self.again())

    def test_cancel(self) -> None:
        """A cancelled question is asked of nobody any more."""
        asked = self.ask(silent, rcode(dns.OK))
        asked.cancel()
        self.failureResultOf(asked)
        self.reactor.pump([0.5] * 12)
        self.assertEqual([FIRST], self.reactor.asked)
        self.assertFalse(any(socket.open for socket in self.reactor.sockets))

    def test_servers_are_read_anew(self) -> None:
        """A change of the list of servers is seen by the next question."""
        servers = [FIRST]
        self.reactor = DNSReactor({FIRST: rcode(dns.OK), SECOND: rcode(dns.OK)})
        self.dns = DNS(Servers(lambda: servers, self.reactor), "", self.reactor)
        self.successResultOf(self.again())
        servers[:] = [SECOND]
        self.successResultOf(self.again())
        self.assertEqual([FIRST, SECOND], self.reactor.asked)


class TruncatedTests(ServersTestCase):
    """What does not fit into UDP is asked for by TCP."""

    def connect(self, number: int = 0) -> tuple[Any, StringTransport]:
        """The connection to the server comes about."""
        protocol: Any = self.reactor.tcpClients[number][2].buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def question(self, transport: StringTransport) -> dns.Message:
        """What was asked over it."""
        written = transport.value()
        self.assertEqual(len(written) - 2, int.from_bytes(written[:2], "big"))
        message = dns.Message()
        message.fromStr(written[2:])
        return message

    def answer(self, protocol: Any, message: bytes) -> None:
        """The server's answer, in two pieces."""
        data = len(message).to_bytes(2, "big") + message
        protocol.dataReceived(data[:5])
        protocol.dataReceived(data[5:])

    def test_answer(self) -> None:
        """The server that truncated is asked, and the connection ends with the answer."""
        asked = self.ask(truncated, rcode(dns.OK))
        self.assertEqual(FIRST, self.reactor.tcpClients[0][:2])
        protocol, transport = self.connect()
        question = self.question(transport)
        self.assertEqual(
            [(NAME.encode(), dns.SRV)], [(q.name.name, q.type) for q in question.queries]
        )
        self.answer(protocol, reply(question).toStr())
        self.assertEqual(1, len(self.successResultOf(asked).records))
        self.assertTrue(transport.disconnected or transport.disconnecting)
        self.assertEqual([FIRST], self.reactor.asked)

    def test_no_such_name(self) -> None:
        """A code counts over TCP as it does over UDP."""
        asked = self.ask(truncated)
        protocol, transport = self.connect()
        self.answer(protocol, reply(self.question(transport), dns.ENAME).toStr())
        self.failureResultOf(asked, NoSuchName)

    def test_refused(self) -> None:
        """A closed TCP port is told as such."""
        asked = self.ask(truncated)
        factory = self.reactor.tcpClients[0][2]
        factory.clientConnectionFailed(self.reactor.connectors[0], Failure(TCPRefused()))
        failure = self.fault(asked)
        self.assertEqual("dns-truncated-srv", failure.fault)
        self.assertIn("refused", failure.cause)

    def test_closed(self) -> None:
        """A connection that ends without an answer fails at once."""
        asked = self.ask(truncated)
        protocol, _ = self.connect()
        protocol.connectionLost(Failure(ConnectionDone()))
        failure: StepError = self.failureResultOf(asked, StepError).value
        self.assertEqual("dns-truncated-srv", failure.fault)

    def test_silent(self) -> None:
        """A connection without an answer is given up."""
        asked = self.ask(truncated)
        _, transport = self.connect()
        self.reactor.advance(1)
        self.assertTrue(transport.disconnected or transport.disconnecting)
        failure = self.fault(asked)
        self.assertEqual("dns-truncated-srv", failure.fault)
        self.assertIn("no answer in time", failure.cause)

    def test_cancel(self) -> None:
        """A question can be cancelled while its connection comes about, and after."""
        asked = self.ask(truncated)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
        asked = self.ask(truncated)
        _, transport = self.connect()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertTrue(transport.disconnected or transport.disconnecting)

    def test_unconnected(self) -> None:
        """A connection that does not come about in time is told as such."""
        failure = self.fault(self.ask(truncated))
        self.assertEqual("dns-truncated-srv", failure.fault)

    def test_garbage(self) -> None:
        """Something that is no DNS message ends the connection."""
        self.ask(truncated)
        protocol, transport = self.connect()
        self.answer(protocol, b"no DNS")
        self.assertTrue(transport.disconnecting)

    def test_another_id(self) -> None:
        """An answer to another question is not believed."""
        asked = self.ask(truncated)
        protocol, transport = self.connect()
        message = reply(self.question(transport))
        message.id ^= 1
        self.answer(protocol, message.toStr())
        self.assertNoResult(asked)
        self.fault(asked)

    def test_forgotten(self) -> None:
        """Once truncated is not for ever: the next failure is told as what it is."""
        asked = self.ask(truncated)
        protocol, transport = self.connect()
        self.answer(protocol, reply(self.question(transport)).toStr())
        self.successResultOf(asked)
        self.reactor.servers[FIRST] = silent
        self.assertEqual("dns-silent-srv", self.fault(self.again()).fault)


class SystemTests(SynchronousTestCase):
    """The system's own files."""

    def file(self, text: str) -> Path:
        """A file that holds this."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "file")
        path.write_text(text)
        return path

    def test_resolv_conf(self) -> None:
        """IP addresses are read and written as replies name their sender."""
        conf = self.file(
            "# comment\nsearch example.com\nnameserver 192.0.2.53 # first\n"
            "nameserver\n nameserver 2001:DB8:0::53\nnameserver dns.example.com\noptions rotate\n"
        )
        self.assertEqual([("192.0.2.53", 53), ("2001:db8::53", 53)], system_servers(conf))

    def test_no_resolv_conf(self) -> None:
        """Without a server the local host is asked, as resolv.conf(5) says."""
        for conf in (Path("/nonexistent/resolv.conf"), self.file("\n")):
            self.assertEqual([("127.0.0.1", 53)], system_servers(conf))

    def hosts(self, name: str, type_: int) -> Deferred[Answer]:
        """Look into a hosts file."""
        file = self.file("192.0.2.7 x1.example.com x1\n2001:db8::8 x2.example.com\n")
        dns_ = DNS(Hosts(str(file).encode()), "", Clock())
        return Deferred.fromCoroutine(dns_.ask(name, type_, Step.ADDRESS))

    def test_hosts(self) -> None:
        """A name that is there for one family has no address of the other."""
        for name, type_, count in (
            ("x1.example.com", dns.A, 1),
            ("x1.example.com", dns.AAAA, 0),
            ("x2.example.com", dns.AAAA, 1),
            ("x2.example.com", dns.A, 0),
        ):
            answer = self.successResultOf(self.hosts(name, type_))
            self.assertEqual(count, len(answer.records), (name, type_))

    def test_not_in_hosts(self) -> None:
        """A name that is not there is left to DNS."""
        resolver = Hosts(str(self.file("192.0.2.7 x1\n")).encode())
        for look_up in (resolver.lookupAddress, resolver.lookupIPV6Address):
            self.failureResultOf(look_up("x9.example.com"), error.DomainError)

    def test_dns_server_refused(self) -> None:
        """What is nearly a server address is none."""
        for text in (
            "[[::1]]",
            "::1]",
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "192.0.2.1:\uff15\uff13",
            "[192.0.2.1]:53",
        ):
            self.assertRaises(ValueError, parse_dns_server, text)
