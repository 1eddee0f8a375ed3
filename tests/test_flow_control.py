"""
Who waits for whom, and what it costs, when somebody does not read.

docs/design/flow-control.md has the rules.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.administration import CallbridgeAdministration
from cms.callbridge.link.inbox import A_TURN, EACH, LEAST_OF_ONE, MOST, MOST_OF_ONE
from cms.linkprotocol import login as lp
from cms.xmlstream import ns, stanza
from cms.xmlstream.backlog import GUARANTEED, QUANTUM, Backlog, Lanes, as_bytes
from cms.xmlstream.flow import (
    BURST_BYTES,
    HOLD_BYTES,
    READ_BYTES,
    SEND_LIMITS,
)
from cms.xmlstream.serialize import serialize
from cms.xmlstream.stanza import Stanza
from cms.xmpp.broadcast import BYTES_A_TURN
from cms.xmpp.config import ComponentSettings
from cms.xmpp.forward import A_TURN as A_CLIENTS_TURN
from tests.support import MemoryTransport, stanzas
from tests.test_callbridge_service import ServiceTests
from tests.xmppserver import DOMAIN, Peer, Server

CB1, ECHO = f"cb1.{DOMAIN}", f"echo.{DOMAIN}"
CLIENT_BYTES = 1024 * 1024
PATIENCE, STALL_TIMEOUT = SEND_LIMITS.patience, SEND_LIMITS.stall_timeout
LINK_BYTES = ComponentSettings().send_limit
IN_TRANSPORT = READ_BYTES + BURST_BYTES  # what may be in it beyond what a stream has queued


def message(to: str, number: int, size: int = 4_000, sender: str = "") -> str:
    """A message with a number."""
    written = f" from='{sender}'" if sender else ""
    return f"<message{written} to='{to}' id='{number}'><body>{'x' * size}</body></message>"


def numbers(stanzas: list[Stanza], *, errors: bool = False) -> list[int]:
    """The numbers of the messages among them."""
    messages = [s for s in stanzas if s.name == "message" and (s.type == "error") is errors]
    return [int(s.id or "-1") for s in messages]


def is_read(peer: Peer) -> bool:
    """Whether the server reads what this peer sends."""
    return bool(peer.transport.producerState == "producing")


def logs_in(server: Server, callbridge: Peer) -> None:
    """Somebody logs in and nothing else is in the way."""
    client = server.client()
    client.open()
    client.authenticate()
    (start,) = [s for s in callbridge.received() if s.payload == (lp.NS, "start")]
    asked = lp.parse(start.child)
    assert isinstance(asked, lp.Start)
    callbridge.answer(start, lp.Success(asked.exchange, f"carol@{DOMAIN}"))
    assert "<success" in client.heard()


def one_turn(clock: Clock) -> None:
    """What is due now, but not what it leads to."""
    for call in [call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds()]:
        assert isinstance(call, DelayedCall)
        function, arguments = call.func, call.args
        call.cancel()
        function(*arguments)


class LanesTests(SynchronousTestCase):
    """L{Lanes} and L{Backlog}."""

    def test_turns(self) -> None:
        """Each source has its turn, keeps its order, and those that are done are told."""
        lanes: Lanes[str] = Lanes(1_000)
        for name, size in (("a1", 10), ("a2", 10), ("b1", 10), ("a3", 10), ("c1", 30)):
            self.assertTrue(lanes.put(name[0], name, size))
        self.assertEqual((["a1", "b1"], ["b"]), lanes.take(20, 10))
        self.assertEqual((["c1"], ["c"]), lanes.take(1, 10))
        self.assertEqual((["a2", "a3"], ["a"]), lanes.take(1_000, 10))
        self.assertEqual((0, False), (lanes.size, bool(lanes)))

    def test_room(self) -> None:
        """Half for one, all for all, and a little for everybody else."""
        lanes: Lanes[int] = Lanes(10 * GUARANTEED)
        for source, fit in (("a", 5), ("b", 5), ("c", 1), ("d", 1)):
            taken = 0
            while lanes.put(source, 0, GUARANTEED // 2):
                taken += 1
            self.assertEqual(2 * fit, taken, source)

    def test_first(self) -> None:
        """What this side says itself does not wait for its turn."""
        backlog = Backlog(1_000)
        backlog.put("a", (b"<a ", b"/>"))
        backlog.put_first(b"<ping/>")
        self.assertEqual(([b"<ping/>"], [(b"<a ", b"/>")], ["a"]), backlog.take())
        self.assertFalse(backlog)

    def test_together(self) -> None:
        """Small stanzas of one source leave together, a large one alone."""
        backlog = Backlog(10 * QUANTUM)
        for size in (10, 10, 2 * QUANTUM, 10):
            backlog.put("a", b"a" * size)
            backlog.put("b", b"b" * size)
        _, taken, emptied = backlog.take()
        self.assertEqual(["a", "b"], emptied)
        runs = [
            (m[0][:1], len(m[0])) for m in re.finditer(b"a+|b+", b"".join(map(as_bytes, taken)))
        ]
        large = 20 + 2 * QUANTUM
        self.assertEqual([(b"a", large), (b"b", large), (b"a", 10), (b"b", 10)], runs)


class SlowTests(SynchronousTestCase):
    """The XMPP server."""

    def setUp(self) -> None:
        """Two Callbridges, one of which is nobody's, and a client."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.bob = self.server.bound(self.callbridge, "bob")
        self.jid = self.bob.handler.jid.full()

    def test_client_that_does_not_read(self) -> None:
        """
        A component that writes to it is read on; the client is not, until it has read;
        what does not fit is answered, and what fits comes in its order.
        """
        self.bob.transport.stop_reading()
        for number in range(1_500):  # 6 MB
            self.callbridge.say(message(self.jid, number, sender=CB1))
            self.assertTrue(is_read(self.callbridge))
        self.assertFalse(is_read(self.bob))
        self.assertLessEqual(self.bob.handler.waiting_bytes, CLIENT_BYTES)
        self.assertLessEqual(self.bob.transport.most_unread, IN_TRANSPORT)
        bounced = self.callbridge.received()
        self.assertEqual({"error"}, {stanza.type for stanza in bounced})
        self.assertIn(b"<resource-constraint", bounced[0].raw)
        self.assertIn(b"<error type='wait'", bounced[0].raw)
        self.assertEqual(self.jid, bounced[0].sender)
        self.callbridge.say(f"<iq type='result' id='1' from='{CB1}' to='{self.jid}'/>")
        self.assertEqual("", self.callbridge.heard())  # answers are not answered
        logs_in(self.server, self.callbridge)
        self.bob.transport.read()
        arrived = numbers(self.bob.received())
        self.assertEqual(sorted(arrived), arrived)
        self.assertEqual(list(range(1_500)), sorted(arrived + numbers(bounced, errors=True)))
        self.assertTrue(is_read(self.bob))
        self.assertEqual(0, self.bob.handler.waiting_bytes)
        self.assertFalse(self.bob.lost)

    def test_client_that_asks_and_does_not_read(self) -> None:
        """It is not read any further when its answers wait; the link carries on."""
        self.bob.transport.stop_reading()
        asked = 0
        while is_read(self.bob):
            self.bob.say(f"<iq type='get' id='q' to='{CB1}'><ping xmlns='{ns.PING}'/></iq>" * 10)
            asked += 10
            payload = f"<q xmlns='x'>{'y' * 2_000}</q>"
            answer = f"<iq type='result' id='q' from='{CB1}' to='{self.jid}'>{payload}</iq>"
            self.callbridge.say(answer * 10)
            self.assertLess(asked, 1_000)
        self.assertLess(self.bob.handler.waiting_bytes, 2 * HOLD_BYTES)
        self.callbridge.heard()
        logs_in(self.server, self.callbridge)

    def test_own_requests(self) -> None:
        """So it is where the server itself answers: pings, errors."""
        for asked in (f"to='{DOMAIN}'", f"to='nobody.{DOMAIN}'"):
            self.setUp()
            self.bob.transport.stop_reading()
            told = 0
            while is_read(self.bob):
                ping = f"<iq type='get' id='q' {asked}><ping xmlns='{ns.PING}'/></iq>"
                self.bob.say(ping * A_CLIENTS_TURN)
                told += A_CLIENTS_TURN
                self.assertLess(told, 5_000)
            self.assertLess(self.bob.handler.waiting_bytes, 2 * HOLD_BYTES)
            self.bob.transport.read()
            self.assertTrue(is_read(self.bob))
            self.assertEqual(told, len(self.bob.received()))

    def pings(self, numbers: range) -> str:
        """Requests to the server, which take more than to be forwarded."""
        start, child = f"<iq type='get' to='{DOMAIN}' id=", f"<ping xmlns='{ns.PING}'/></iq>"
        return "".join(f"{start}'{number}'>{child}" for number in numbers)

    def test_turns(self) -> None:
        """
        What one client asks of the server is answered in parts, in its order, whichever
        way it is read; what came later, and the end of the stream, wait for it.
        """
        slow = "<message to='x'><![CDATA[]]></message>".replace("x", self.jid)
        for more in ("", slow * 2):
            self.setUp()
            self.bob.say(self.pings(range(100)) + more + self.pings(range(100, 120)))
            self.assertEqual(A_CLIENTS_TURN, self.bob.transport.take().count("<iq"))
            self.assertFalse(is_read(self.bob))
            self.assertTrue(self.bob.stream.held)
            self.bob.say(self.pings(range(120, 130)) + "</stream:stream>")
            one_turn(self.server.clock)
            said = self.bob.transport.take()
            self.assertEqual(A_CLIENTS_TURN, said.count("<iq"))
            self.assertIn(f"id='{A_CLIENTS_TURN}'", said)
            self.assertFalse(self.bob.lost)
            self.server.clock.advance(0)
            said += self.bob.transport.take()
            answered = [int(number) for number in re.findall("<iq[^>]* id='([0-9]+)'", said)]
            self.assertEqual(list(range(A_CLIENTS_TURN, 130)), answered)
            self.assertTrue(said.endswith("</stream:stream>"))
            self.assertTrue(self.bob.lost)

    def test_turns_of_components(self) -> None:
        """So it is for a component; a Callbridge speaks for everybody, and is heard at once."""
        bot = self.server.register("cb2")
        (question,) = bot.received()
        bot.say(self.pings(range(100)))
        self.assertEqual(A_CLIENTS_TURN, bot.transport.take().count("<iq"))
        self.server.clock.advance(0)
        self.assertEqual(100 - A_CLIENTS_TURN, bot.transport.take().count("<iq"))
        bot.answer(question, lp.Mechanisms(("PLAIN",)))
        bot.say(self.pings(range(100)))
        self.assertEqual(100, bot.transport.take().count("<iq"))

    def test_turns_of_messages(self) -> None:
        """What only has to be forwarded does not wait, and is not overtaken."""
        self.callbridge.heard()
        self.bob.say("".join(message(CB1, number, 10) for number in range(200)))
        self.assertEqual(list(range(200)), numbers(self.callbridge.received()))
        mixed = self.pings(range(40)) + message(CB1, 1, 10) + self.pings(range(40, 80))
        self.bob.say(mixed + message(CB1, 2, 10))
        self.assertEqual([], numbers(stanzas(self.callbridge.transport.take(), ns.COMPONENT)))
        one_turn(self.server.clock)
        self.assertEqual([1], numbers(stanzas(self.callbridge.transport.take(), ns.COMPONENT)))
        one_turn(self.server.clock)
        self.assertEqual([2], numbers(self.callbridge.received()))
        self.assertTrue(is_read(self.bob))

    def test_lost_before_its_turn(self) -> None:
        """What came before the end of the connection is done."""
        self.bob.say(self.pings(range(100)) + message(CB1, 7, 10))
        self.bob.transport.lose()
        self.assertEqual([7], numbers(self.callbridge.received()))
        self.assertEqual(0, len(self.server.sessions))

    def test_component_that_does_not_read(self) -> None:
        """
        Clients wait, each for himself; nobody's log-in waits behind what they have
        written, nor is it refused; a client that comes later has room too.
        """
        crowd = [self.server.bound(self.callbridge, f"m{n}", "r" * 1_000) for n in range(6)]
        self.callbridge.transport.stop_reading()
        for client in crowd:
            while is_read(client):  # 40 bytes become 1,100: what a read brings is not its end
                client.say(f"<message to='{CB1}'><a/></message>" * 100)
        link = self.callbridge.handler
        self.assertLessEqual(link.waiting_bytes, LINK_BYTES)
        self.assertLessEqual(self.callbridge.transport.most_unread, IN_TRANSPORT)
        for client in crowd:
            for _ in range(30):  # as much as one read may bring
                client.say(f"<message to='{CB1}'><a/></message>" * 100)
        self.assertLessEqual(link.waiting_bytes, LINK_BYTES + 6 * GUARANTEED)
        self.assertIn("<resource-constraint", crowd[-1].heard())
        late = self.server.client()
        late.open()
        late.authenticate()
        self.bob.say(message(CB1, 1, 10))
        self.assertEqual("", self.bob.heard())
        self.callbridge.transport.take()
        self.callbridge.transport.read(once=True)
        first, *others = self.callbridge.received()
        self.assertEqual((lp.NS, "start"), first.payload)
        self.assertIn(self.jid, [stanza.sender for stanza in others])  # in his turn
        self.callbridge.transport.read()
        self.assertTrue(all(is_read(client) for client in crowd))
        self.assertFalse(self.callbridge.lost)
        self.assertEqual(0, link.waiting_bytes)

    def test_patience(self) -> None:
        """Nobody waits longer than 5 s for one that reads nothing, which is dropped at 30 s."""
        alice = self.server.bound(self.callbridge, "alice")
        self.bob.transport.stop_reading()
        while is_read(alice):
            alice.say(message(self.jid, 1) * 10)
        self.server.clock.advance(PATIENCE)
        self.assertTrue(is_read(alice))
        self.assertTrue(self.bob.handler.is_stalled)
        for _ in range(50):
            alice.say(message(self.jid, 1) * 10)
        self.assertTrue(is_read(alice))
        self.assertIn("<resource-constraint", alice.heard())
        self.assertLessEqual(self.bob.handler.waiting_bytes, CLIENT_BYTES // 2)
        self.server.clock.advance(STALL_TIMEOUT - PATIENCE)
        self.assertTrue(self.bob.lost)
        self.assertFalse(alice.lost)

    def test_one_that_reads_a_little(self) -> None:
        """A component that reads slowly stays, and what the server says itself comes first."""
        self.callbridge.transport.stop_reading()
        for _ in range(40):
            if is_read(self.bob):
                self.bob.say(message(CB1, 0) * 30)
            self.server.clock.advance(9)
            self.callbridge.transport.take()
            self.callbridge.say(" ")  # it lives
            self.callbridge.transport.read(once=True)
            self.assertLessEqual(self.callbridge.handler.waiting_bytes, 3 * HOLD_BYTES)
        self.assertFalse(self.callbridge.lost or self.bob.lost)
        while not self.callbridge.handler.is_slow:
            self.bob.say(message(CB1, 0) * 10)
        self.callbridge.transport.take()
        client = self.server.client()
        client.open()
        client.authenticate()
        self.callbridge.transport.read(once=True)
        self.assertEqual((lp.NS, "start"), self.callbridge.received()[0].payload)

    def test_component_to_component(self) -> None:
        """One that does not read keeps nothing from another, which is told what did not fit."""
        echo = self.server.register("echo")
        echo.transport.stop_reading()
        self.callbridge.heard()
        sent = 2 * LINK_BYTES // 4_000
        for number in range(sent):
            self.callbridge.say(message(ECHO, number, sender=CB1))
            self.assertTrue(is_read(self.callbridge))
        self.assertLessEqual(echo.handler.waiting_bytes, LINK_BYTES)
        bounced = numbers(self.callbridge.received(), errors=True)
        self.bob.say(message(ECHO, sent, 10))
        self.assertEqual("", self.bob.heard())  # he has his own share
        logs_in(self.server, self.callbridge)
        echo.transport.read()
        arrived = numbers(echo.received())
        self.assertIn(sent, arrived)
        arrived.remove(sent)
        self.assertEqual(sorted(arrived), arrived)
        self.assertEqual(list(range(sent)), sorted(arrived + bounced))

    def test_two_that_flood_each_other(self) -> None:
        """Both wait, neither for ever, and nothing is lost or overtaken if they read at last."""
        alice = self.server.bound(self.callbridge, "alice")
        pair = {self.bob: alice, alice: self.bob}
        sent = 0
        for peer in pair:
            peer.transport.stop_reading()
        while is_read(alice) or is_read(self.bob):
            for peer, other in pair.items():
                if is_read(peer):
                    peer.say(message(other.handler.jid.full(), sent))
            sent += 1
            self.assertLess(sent, 200)
        alice.transport.read()
        self.assertTrue(is_read(self.bob))
        self.bob.transport.read()
        self.assertTrue(is_read(alice))
        for peer in pair:
            arrived = numbers(peer.received())
            self.assertEqual(list(range(len(arrived))), arrived)
            self.assertGreater(len(arrived), sent - 3)

    def test_only_asks(self) -> None:
        """A link that does not read even the server's own words is asked nothing more."""
        self.callbridge.transport.stop_reading()
        self.callbridge.stream.pauseProducing()
        clients = [self.server.client() for _ in range(700)]
        for client in clients:
            client.open()
            client.authenticate(payload=b"\0alice\0" + b"x" * 4_000)
        told = [client.transport.take() for client in clients]
        refused = [text for text in told if "remote-connection-failed" in text]
        self.assertIn("step 11 active: cb1.meet.example.com does not keep up", refused[0])
        self.assertGreater(len(refused), 100)
        self.assertFalse(self.callbridge.lost)
        self.assertLess(self.callbridge.handler.waiting_bytes, LINK_BYTES // 2 + 10_000)

    def test_another_callbridge(self) -> None:
        """Where one reads nothing, another decides."""
        other = self.server.callbridge("cb2")
        self.callbridge.transport.stop_reading()
        self.callbridge.stream.pauseProducing()
        self.server.clock.advance(PATIENCE)
        for _ in range(2):
            logs_in(self.server, other)

    def test_closed(self) -> None:
        """What waits leaves before the end of the stream."""
        self.bob.transport.stop_reading()
        for number in range(60):
            self.callbridge.say(message(self.jid, number, sender=CB1))
        self.assertTrue(self.bob.handler.is_slow)
        self.bob.handler.shut_down()
        said = self.bob.transport.take()
        self.assertEqual(60, said.count("<message"))
        self.assertTrue(said.endswith("</stream:error></stream:stream>"))
        self.assertTrue(is_read(self.callbridge))

    def test_source_that_is_gone(self) -> None:
        """What it wrote arrives, and nobody holds on to it."""
        alice = self.server.bound(self.callbridge, "alice")
        self.bob.transport.stop_reading()
        number = 0
        while is_read(alice):
            alice.say(message(self.jid, number))
            number += 1
        alice.transport.lose()
        self.bob.transport.read()
        self.assertEqual(list(range(number)), numbers(self.bob.received()))


class BroadcastTests(SynchronousTestCase):
    """One stanza to many."""

    def setUp(self) -> None:
        """Somebody with 50 resources."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.resources = [
            self.server.bound(self.callbridge, "alice", f"r{number}") for number in range(50)
        ]

    def written(self) -> int:
        """How many bytes were written since the last time."""
        return sum(len(peer.transport.take()) for peer in self.resources)

    def test_turns(self) -> None:
        """
        50 resources with presences of 56 kB: each presence is serialised once, no turn
        sends more than its part, and each receiver gets each in its order.
        """
        status = f"<status>{'s' * 56_000}</status>"
        for peer in self.resources:
            peer.say("<presence><status>small</status></presence>")
        self.server.clock.advance(0)
        self.written()
        receiver = self.resources[7]
        made: list[str] = []

        def counted(element: Any, *more: Any) -> bytes:
            made.append(element.name)
            return serialize(element, *more)

        self.patch(stanza, "serialize", counted)
        self.resources[0].say(
            f"<presence>{status}</presence>"
            f"<message to='{receiver.handler.jid.full()}' id='1'><body>after it</body></message>"
        )
        heard, turns, most = "", 0, 0
        while any(peer.handler.is_slow for peer in self.resources) or not turns:
            heard += receiver.transport.value().decode()
            most = max(most, self.written())
            turns += 1
            one_turn(self.server.clock)
            self.assertLess(turns, 100)
        heard += receiver.transport.value().decode()
        most = max(most, self.written())
        self.assertGreater(turns, 50 * 56_000 // (BYTES_A_TURN + 57_000))
        self.assertLess(most, BYTES_A_TURN + 2 * 57_000)
        self.assertLessEqual(len(made), 1)
        self.assertEqual(1, heard.count("<presence"))
        self.assertLess(heard.index("<presence"), heard.index("after it"))

    def test_bytes_are_shared(self) -> None:
        """What waits at 50 receivers that do not read is in memory once."""
        for peer in self.resources:
            peer.say("<presence/>")
        for peer in self.resources:
            peer.transport.stop_reading()
            peer.stream.pauseProducing()
        self.resources[0].say(f"<presence><status>{'s' * 56_000}</status></presence>")
        parts = {
            id(item[1])
            for peer in self.resources
            for lane in peer.handler._backlog._lanes._lanes.values()
            for item, _ in lane.items
        }
        self.assertEqual(1, len(parts))

    def test_bounded(self) -> None:
        """Presence does not go past the limits of one that does not read."""
        for peer in self.resources:
            peer.say("<presence/>")
        victim = self.resources[1]
        victim.transport.stop_reading()
        for _ in range(100):
            self.resources[0].say(f"<presence><status>{'s' * 56_000}</status></presence>")
            self.server.clock.advance(0)
        self.assertLessEqual(victim.handler.waiting_bytes, CLIENT_BYTES)
        self.assertLess(victim.transport.most_unread, 2 * READ_BYTES)
        self.assertFalse(victim.lost)

    def test_directed(self) -> None:
        """
        What a client says when it leaves reaches those to whom it has sent presence; where
        that would be much, they hear that it left.
        """
        for size, many, told in ((100, 40, "x" * 100), (20_000, 40, ""), (20_000, 5, "x" * 20_000)):
            server = Server()
            callbridge = server.callbridge()
            one, other = (server.bound(callbridge, "bob", name) for name in "ab")
            for address in [f"u{n}@{CB1}" for n in range(many)] + [other.handler.jid.full()]:
                one.say(f"<presence to='{address}'/>")
            other.heard()
            callbridge.heard()
            status = f"<status>{'x' * size}</status>"
            one.say(f"<presence type='unavailable'>{status}</presence>")
            heard = [*callbridge.received(), *other.received()]
            self.assertEqual(many + 1, len(heard))
            self.assertEqual({"unavailable"}, {presence.type for presence in heard})
            self.assertEqual({told}, {str(p.child) if p.child else "" for p in heard})

    def test_small(self) -> None:
        """What is small leaves at once."""
        for peer in self.resources[:5]:
            peer.say("<presence/>")
        self.written()
        self.resources[0].say("<presence><show>away</show></presence>")
        for peer in self.resources[:5]:
            (presence,) = peer.received()
            self.assertEqual(peer.handler.jid.full(), presence.to)
            self.assertEqual(self.resources[0].handler.jid.full(), presence.sender)


class CallbridgeTests(ServiceTests):
    """The Callbridge: what clients want of it, and what the server wants."""

    def setUp(self) -> None:
        """A link that is up."""
        super().setUp()
        self.service = self.daemon()
        self.service.startService()
        self.transport: MemoryTransport = self.register()

    def pings(self, name: str, count: int, size: int = 0) -> str:
        """Requests of a client, with numbers as ids."""
        start = f"<iq type='get' from='{name}@{DOMAIN}/r' to='{CB1}'"
        child = f"<ping xmlns='{ns.PING}'>{'x' * size}</ping>"
        return "".join(f"{start} id='{number}'>{child}</iq>" for number in range(count))

    def question(self) -> str:
        """A request of the log-in protocol."""
        child = lp.AskMechanisms().to_xml()
        return f"<iq type='get' id='login' from='{DOMAIN}' to='{CB1}'>{child}</iq>"

    def heard(self) -> list[tuple[str, str, str]]:
        """To whom, what and which."""
        answers = stanzas(self.transport.take(), ns.COMPONENT)
        return [((s.to or "").partition("@")[0], s.type or "", s.id or "") for s in answers]

    def waiting(self) -> int:
        """What its inbox holds."""
        traffic: Any = self.service.link._core.traffic
        return int(traffic._inbox._lanes.size)

    def test_flood(self) -> None:
        """
        Of what one client wants, a part is done in a turn, and what is too much is told
        to wait; log-ins and others are not behind it; each request has one answer.
        """
        self.say(self.transport, self.pings("mallory", 500) + self.question())
        self.say(self.transport, self.pings("alice", 1))
        now = self.heard()
        self.assertIn((DOMAIN, "result", "login"), now)
        done = [answer for answer in now if answer[:2] == ("mallory", "result")]
        self.assertEqual(A_TURN, len(done))
        one_turn(self.reactor)
        then = self.heard()
        self.assertEqual(("alice", "result", "0"), then[1])
        self.assertEqual(A_TURN, len(then))
        self.reactor.advance(0)
        mine = [answer for answer in now + then + self.heard() if answer[0] == "mallory"]
        self.assertEqual(sorted(map(str, range(500))), sorted(number for _, _, number in mine))
        errors = [answer for answer in mine if answer[1] == "error"]
        self.assertEqual(500 - A_TURN - MOST_OF_ONE // EACH, len(errors))

    def test_page(self) -> None:
        """All that a meeting page keeps (MOST_WAITING in room.js) may come at once."""
        self.say(self.transport, self.pings("alice", 100))
        answers = self.heard()
        for _ in range(10):
            self.reactor.advance(0)
            answers += self.heard()
        self.assertEqual([("alice", "result", str(n)) for n in range(100)], answers)

    def test_words(self) -> None:
        """Whoever wants too much is told to wait; presence is told nothing."""
        presence = f"<presence from='mallory@{DOMAIN}/r' to='{CB1}'/>"
        self.say(self.transport, self.pings("mallory", 200) + presence)
        last = stanzas(self.transport.take(), ns.COMPONENT)[-1]
        self.assertEqual(("iq", "error", "199"), (last.name, last.type, last.id))
        self.assertIn(b"<error type='wait'><resource-constraint xmlns=", last.raw)

    def test_many(self) -> None:
        """Many who want much leave room for one who wants little, and memory for all."""
        for number in range(30):
            self.say(self.transport, self.pings(f"m{number}", 60, 4_000))
        self.assertGreater(self.waiting(), MOST - 2 * EACH)
        self.assertLessEqual(self.waiting(), MOST + 30 * LEAST_OF_ONE)
        self.transport.take()
        self.say(self.transport, self.pings("alice", 1))
        self.reactor.advance(0)
        self.assertIn(("alice", "result", "0"), self.heard())

    def test_component_of_many_names(self) -> None:
        """A component, whatever addresses it invents and writes, has the share of one."""
        ping = f"<ping xmlns='{ns.PING}'/>"
        for number in range(2_000):
            host = "".join(c.upper() if number >> i & 1 else c for i, c in enumerate("bot-of-many"))
            sender = f"u{number}@{host}.{DOMAIN}/r"
            asked = f"<iq type='get' from='{sender}' to='{CB1}' id='{number}'>{ping}</iq>"
            self.say(self.transport, asked)
        self.assertEqual(MOST_OF_ONE, self.waiting())
        self.transport.take()
        self.say(self.transport, self.pings("alice", 1))
        self.reactor.advance(0)
        self.assertIn(("alice", "result", "0"), self.heard())

    def test_server_that_does_not_read(self) -> None:
        """
        What waits for one client is bounded and costs the link nothing; what the
        server itself asked is answered before it.
        """
        self.transport.stop_reading()
        stream = self.service.link.stream
        assert stream is not None
        info = f"<query xmlns='{ns.DISCO_INFO}'/>"
        asked = f"<iq type='get' from='mallory@{DOMAIN}/r' to='{CB1}' id='1'>{info}</iq>"
        for _ in range(200):
            self.say(self.transport, asked * 40)
            self.reactor.advance(0)
        self.assertGreater(stream.party.waiting_bytes, LINK_BYTES // 2 - 1_000)
        self.assertLessEqual(stream.party.waiting_bytes, LINK_BYTES // 2)
        self.assertFalse(self.transport.lost)
        self.assertEqual("producing", self.transport.producerState)
        self.say(self.transport, self.question() + self.pings("alice", 1))
        self.transport.take()
        self.reactor.advance(PATIENCE)
        fault = self.health().fault
        self.assertEqual("link-stalled", fault.fault)
        self.transport.read(once=True)
        answers = self.heard()
        self.assertEqual((DOMAIN, "result", "login"), answers[0])
        self.assertIn(("alice", "result", "0"), answers)
        self.transport.read()
        self.assertEqual(0, stream.party.waiting_bytes)
        self.assertTrue(self.health().good)

    def health(self) -> Any:
        """What C{/healthz} says."""
        daemon: Any = SimpleNamespace(_daemon=self.service)
        return CallbridgeAdministration.health(daemon)

    def test_link_that_ends(self) -> None:
        """What waits goes with it."""
        self.say(self.transport, self.pings("mallory", 100))
        self.transport.lose()
        self.assertEqual(0, self.waiting())
