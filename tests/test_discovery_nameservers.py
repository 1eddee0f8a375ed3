"""How name servers are asked: in turn, by UDP and TCP, and what their failures say."""

from __future__ import annotations

from collections.abc import Callable
from errno import EADDRINUSE
from pathlib import Path
from socket import if_nametoindex
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.error import ConnectionRefusedError as TCPRefused
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.names import dns
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms.discovery.nameservers import Servers
from cms.discovery.resolver import DNS, Answer, NoSuchName, parse_dns_server
from cms.discovery.systemfiles import addresses_in, system_search, system_servers
from cms.signalflow import Step, StepError

NAME = "_xmpp-component._tcp.meet.example.com"
FIRST, SECOND = ("192.0.2.1", 53), ("192.0.2.2", 53)
SCOPED = ("fe80::1%lo", 53)

Sent = dns.Message | bytes | None
Reply = Callable[[dns.Message], Sent | list[Sent]]


def reply(question: dns.Message, rcode: int = dns.OK, *, truncated: bool = False) -> dns.Message:
    """An answer; with C{dns.OK} and not truncated it holds one record."""
    message = dns.Message(question.id, answer=1, rCode=rcode, trunc=truncated)
    message.queries = question.queries
    if rcode == dns.OK and not truncated:
        record = dns.Record_SRV(1, 1, 5223, "x1.example.com")
        message.answers = [dns.RRHeader(NAME.encode(), dns.SRV, dns.IN, 300, record)]
    return message


def after(stranger: Reply) -> Reply:
    """The right answer, after something else."""

    def both(question: dns.Message) -> list[Sent]:
        first = stranger(question)
        assert not isinstance(first, list)
        return [first, reply(question)]

    return both


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
    port: int = 0
    open: bool = True
    peer: tuple[str, int] = ("", 0)

    def connect(self, host: str, port: int) -> None:
        """The only one that is heard."""
        self.peer = host, port

    def getHandle(self) -> Any:
        """The socket itself, which is told of the zone of an address."""
        return SimpleNamespace(connect=self.reactor.zones.append)

    def write(self, datagram: bytes) -> None:
        """A question goes out; the answer comes back at once, or never."""
        address = self.peer
        self.reactor.asked.append(address)
        self.reactor.datagrams.append(datagram)
        behaviour = self.reactor.servers[address]
        if isinstance(behaviour, Exception):
            raise behaviour
        question = dns.Message()
        question.fromStr(datagram)
        sender = address[0].partition("%")[0], address[1]  # as recvfrom() tells it
        answers = behaviour(question)
        for answer in answers if isinstance(answers, list) else [answers]:
            if answer is not None:
                data = answer if isinstance(answer, bytes) else answer.toStr()
                self.reactor.callLater(0, self.hear, data, sender)

    def hear(self, data: bytes, sender: tuple[str, int]) -> None:
        """A datagram arrives."""
        if self.open:
            self.protocol.datagramReceived(data, sender)

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
    datagrams: list[bytes] = field(factory=list)
    zones: list[Any] = field(factory=list)
    sockets: list[UDPTransport] = field(factory=list)
    full: bool = False
    taken: range = range(0)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> UDPTransport:
        """Open the socket of a question."""
        if self.full:
            raise CannotListenError(interface, 0, OSError(24, "Too many open files"))
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(EADDRINUSE, "Address already in use"))
        transport = UDPTransport(self, protocol, port)
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
        self.dns = DNS(walk, "the servers", self.reactor)
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

    def test_strange(self) -> None:
        """What belongs to another question is dropped here as well, and told if all ends there."""
        for right in (True, False):
            asked = self.ask(truncated)
            protocol, transport = self.connect()
            question = self.question(transport)
            other = reply(question)
            other.id ^= 1
            self.answer(protocol, other.toStr())
            self.answer(protocol, b"no DNS")
            self.assertNoResult(asked)
            if right:
                self.answer(protocol, reply(question).toStr())
                self.assertEqual(1, len(self.successResultOf(asked).records))
            else:
                failure = self.fault(asked)
                self.assertEqual("dns-strange-srv", failure.fault)
                self.assertIn("its id is another one; it cannot be read", failure.cause)

    def test_asked_again(self) -> None:
        """A server that was too slow by TCP is asked again."""
        asked = self.ask(truncated)
        self.connect()
        self.reactor.advance(1)
        self.reactor.advance(0)
        self.assertEqual([FIRST] * 2, self.reactor.asked)
        protocol, transport = self.connect(1)
        self.answer(protocol, reply(self.question(transport)).toStr())
        self.successResultOf(asked)

    def test_forgotten(self) -> None:
        """Once truncated is not for ever: the next failure is told as what it is."""
        asked = self.ask(truncated)
        protocol, transport = self.connect()
        self.answer(protocol, reply(self.question(transport)).toStr())
        self.successResultOf(asked)
        self.reactor.servers[FIRST] = silent
        self.assertEqual("dns-silent-srv", self.fault(self.again()).fault)


class WitnessTests(ServersTestCase):
    """Several servers are several witnesses, each told by what it said."""

    def test_each_is_told(self) -> None:
        """Whose failure it is stands in the cause, and what each said in the evidence."""
        no_route = OSError(101, "Network is unreachable")
        first, second = "192.0.2.1:53", "192.0.2.2:53"
        for behaviours, fault, server, said in (
            ((rcode(dns.ESERVER), silent), "failed", first, ("SERVFAIL", "no answer in time")),
            ((silent, rcode(dns.EREFUSED)), "refused", second, ("no answer in time", "REFUSED")),
            ((rcode(dns.ESERVER), rcode(9)), "failed", first, ("SERVFAIL", "RCODE 9")),
            ((no_route, silent), "silent", second, (str(no_route), "no answer in time")),
        ):
            failure = self.fault(self.ask(*behaviours))
            self.assertEqual(f"dns-{fault}-srv", failure.fault)
            self.assertIn(f"The DNS server {server} ", failure.cause)
            told = f"{first}: {said[0]}; {second}: {said[1]}"
            self.assertEqual(told, failure.evidence["asked"])

    def test_no_such_name(self) -> None:
        """One fails, the other says that there is no such name: the name is missing."""
        asked = self.ask(rcode(dns.ESERVER), rcode(dns.ENAME))
        self.reactor.advance(0)
        missing = self.failureResultOf(asked, NoSuchName).value
        self.assertEqual("192.0.2.2:53", missing.server)
        self.assertEqual("192.0.2.1:53: SERVFAIL; 192.0.2.2:53: NXDOMAIN", missing.asked)

    def test_answer(self) -> None:
        """An answer names who did not give it."""
        asked = self.ask(rcode(dns.EREFUSED), rcode(dns.OK))
        self.reactor.advance(0)
        answer = self.successResultOf(asked)
        self.assertEqual("192.0.2.2:53", answer.server)
        self.assertEqual("192.0.2.1:53: REFUSED; 192.0.2.2:53: answered", answer.asked)
        alone = self.successResultOf(self.ask(rcode(dns.OK)))
        self.assertEqual(("192.0.2.1:53", ""), (alone.server, alone.asked))


class BelongingTests(ServersTestCase):
    """An answer counts for the question that was asked, and for no other (RFC 5452 9.1)."""

    def strangers(self) -> list[tuple[str, Reply]]:
        """What is no answer, and the words for it."""

        def other(**changed: Any) -> Reply:
            def answer(question: dns.Message) -> dns.Message:
                message = reply(question)
                for key, value in changed.items():
                    setattr(message, key, value)
                return message

            return answer

        foo = dns.Record_SRV(1, 1, 5223, "evil.example")
        record = dns.RRHeader(b"foo", dns.SRV, dns.IN, 300, foo)
        return [
            ("for foo", other(queries=[dns.Query(b"foo", dns.SRV)], answers=[record])),
            ("type 1", other(queries=[dns.Query(NAME.encode(), dns.A)])),
            ("question", other(queries=[dns.Query(NAME.encode(), dns.SRV, dns.CH)])),
            ("repeats 0 questions", other(queries=[])),
            ("repeats 2 questions", other(queries=[dns.Query(NAME.encode(), dns.SRV)] * 2)),
            ("those of foo", other(answers=[record])),
            ("no answer to a query", other(answer=0)),
            ("no answer to a query", other(opCode=2)),
            ("id is another", lambda question: reply(dns.Message(question.id ^ 1))),
            ("cannot be read", lambda question: question.id.to_bytes(2, "big") + b"\x81\x80"),
        ]

    def test_dropped(self) -> None:
        """What does not belong is dropped, and the right answer is waited for."""
        for words, stranger in self.strangers():
            asked = self.ask(after(stranger))
            self.reactor.advance(0)
            answer = self.successResultOf(asked)
            self.assertEqual([NAME], [str(r.name.name, "ascii") for r in answer.records], words)
            self.assertEqual([FIRST], self.reactor.asked)

    def test_told(self) -> None:
        """When nothing better comes, what came is told; the server is asked again as if silent."""
        for words, stranger in self.strangers():
            failure = self.fault(self.ask(stranger))
            self.assertEqual("dns-strange-srv", failure.fault)
            self.assertIn(words, failure.cause)
            self.assertIn("192.0.2.1:53", failure.cause)
            self.assertEqual([FIRST] * 3, self.reactor.asked)

    def test_next_server(self) -> None:
        """Another server that answers is believed."""
        for words, stranger in self.strangers():
            asked = self.ask(stranger, rcode(dns.OK))
            self.reactor.pump([0.5, 0.5, 0])
            self.assertIn(words, self.successResultOf(asked).asked)

    def test_flood(self) -> None:
        """However many come, a few are told, and how many there were."""
        failure = self.fault(self.ask(lambda question: [b"\0" * 12] * 500))
        self.assertIn("1500 of them: its id is another one.", failure.cause)

    def test_another_sender(self) -> None:
        """Another address, or another port of the server's, is not heard."""
        asked = self.ask(silent)
        question = dns.Message()
        question.fromStr(self.reactor.datagrams[0])
        for sender in (SECOND, ("192.0.2.1", 54)):
            self.reactor.sockets[0].hear(reply(question).toStr(), sender)
        self.assertNoResult(asked)
        self.reactor.sockets[0].hear(reply(question).toStr(), FIRST)
        self.successResultOf(asked)
        self.assertEqual(FIRST, self.reactor.sockets[0].peer, "the kernel was told as well")

    def test_nobody_can_guess(self) -> None:
        """Each question, also one that is asked again, has an id and a port of its own."""
        self.fault(self.ask(silent))
        for _ in range(60):
            self.fault(self.again())
        ids = {datagram[:2] for datagram in self.reactor.datagrams}
        ports = {socket.port for socket in self.reactor.sockets}
        self.assertEqual(183, len(self.reactor.datagrams))
        self.assertGreater(len(ids), 175)
        self.assertGreater(len(ports), 175)
        self.assertTrue(all(1024 <= port <= 65535 for port in ports))

    def test_port_taken(self) -> None:
        """A port that somebody holds is not used; the kernel finds one in the end."""
        self.ask(silent)
        self.reactor.taken = range(1, 65536)
        self.reactor.servers[FIRST] = rcode(dns.OK)
        self.successResultOf(self.again())
        self.assertEqual(0, self.reactor.sockets[-1].port)

    def test_scoped_server(self) -> None:
        """A server at a link-local address is heard; its zone is no part of what is compared."""
        self.reactor = DNSReactor({SCOPED: rcode(dns.OK)})
        self.dns = DNS(Servers(lambda: [SCOPED], self.reactor), "", self.reactor)
        self.assertEqual("[fe80::1%lo]:53", self.successResultOf(self.again()).server)
        self.assertEqual([if_nametoindex("lo")], [address[3] for address in self.reactor.zones])

    def test_refused_port(self) -> None:
        """Where no DNS server listens the next is asked at once."""
        asked = self.ask(silent, rcode(dns.OK))
        self.reactor.sockets[0].protocol.connectionRefused()
        self.reactor.advance(0)
        self.assertIn("refused", self.successResultOf(asked).asked)

    def test_name_too_long(self) -> None:
        """A name that DNS cannot hold is not sent."""
        self.ask(rcode(dns.OK))
        for name in ("a" * 64 + ".example", "a." * 127 + "b", "a..b"):
            asking = Deferred.fromCoroutine(self.dns.ask(name, dns.A, Step.ADDRESS))
            failure = self.failureResultOf(asking, StepError).value
            self.assertEqual("dns-unreachable-address", failure.fault)
            self.assertIn("a length that DNS does not know", failure.cause)
        self.assertEqual(1, len(self.reactor.asked))


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
            "nameserver fe80::1%eth0\nnameserver 192.0.2.54\n"
        )
        expected = [("192.0.2.53", 53), ("2001:db8::53", 53), ("fe80::1%eth0", 53)]
        self.assertEqual(expected, system_servers(conf), "three, as the C library")

    def test_search(self) -> None:
        """The last line of search domains counts."""
        for text, expected in (
            ("domain example.com\n", ["example.com"]),
            ("search a.example b.example.\n", ["a.example", "b.example"]),
            ("domain example.com\nsearch a.example\nsearch\n", []),
            ("", []),
        ):
            self.assertEqual(expected, system_search(self.file(text)))

    def test_no_resolv_conf(self) -> None:
        """Without a server the local host is asked, as resolv.conf(5) says."""
        for conf in (Path("/nonexistent/resolv.conf"), self.file("\n")):
            self.assertEqual([("127.0.0.1", 53)], system_servers(conf))

    def test_hosts(self) -> None:
        """All addresses of a name, in the file's order, whatever its case and place in a line."""
        file = self.file(
            "# 192.0.2.1 x1.example.com\n192.0.2.7\tx1.Example.com x1 # x2.example.com\n"
            "2001:DB8::8 x2.example.com x1\nfe80::1%eth0 x3\n192.0.2.7 x1\nx1 x1\n\n"
        )
        for name, expected in (
            ("x1.example.com", ("192.0.2.7",)),
            ("x1", ("192.0.2.7", "2001:db8::8")),
            ("x2.example.com", ("2001:db8::8",)),
            ("x3", ("fe80::1%eth0",)),
            ("example.com", ()),
            ("192.0.2.7", ()),
        ):
            self.assertEqual(expected, addresses_in(file, name), name)
        self.assertEqual((), addresses_in(Path("/nonexistent/hosts"), "x1"))

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
