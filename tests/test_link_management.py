"""
A link that outlives its connection (docs/link-management.md): the server and the Callbridge
against each other, in memory, over a wire that is cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.config import LinkSettings, Timing
from cms.callbridge.link.backoff import Backoff
from cms.callbridge.link.comeback import LEFT_SECONDS, RESUME_SECONDS
from cms.callbridge.link.core import LinkCore
from cms.callbridge.link.machine import Link
from cms.callbridge.link.registration import ComponentRegistration
from cms.configuration.tomlfile import Secret
from cms.discovery.lookup import Found, Target
from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmlstream.management import WINDOW_STANZAS
from cms.xmlstream.replies import ping_payload, request
from cms.xmlstream.requests import RequestLost
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import XMLStream
from cms.xmlstream.textiq import written_result
from cms.xmpp import componentstates
from cms.xmpp.loginrelay import LOGIN_WAIT, PATIENCE
from cms.xmpp.resumption import Resumptions
from tests.support import MemoryTransport, TwoClocks, header, stanzas
from tests.xmppserver import DOMAIN, SECRETS, Peer, Server

CB1 = f"cb1.{DOMAIN}"
ENABLE = f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>"
SECONDS = 10.0


def offering(seconds: float = SECONDS, clock: TwoClocks | None = None) -> Server:
    """A server that keeps links."""
    server = Server(most_waiting=100, clock=clock)
    server.components.resumptions = Resumptions(server.clock, seconds)
    return server


def answer_login(stanza: Stanza) -> str:
    """What a Callbridge that lets everybody in by PLAIN answers to a request of the server."""
    if stanza.payload == (ns.PING, "ping"):
        return ""
    asked = lp.parse(stanza.child)
    if isinstance(asked, lp.AskMechanisms):
        return lp.Mechanisms(("PLAIN",)).to_xml()
    if isinstance(asked, lp.Start) and asked.payload is None:
        return lp.Challenge(asked.exchange, None).to_xml()
    if isinstance(asked, lp.Start | lp.Response):
        user = (asked.payload or b"").split(b"\0")[1].decode()
        return lp.Success(asked.exchange, f"{user}@{DOMAIN}").to_xml()
    return ""


class Wire:
    """One TCP connection between the two, which carries what it is told to."""

    def __init__(self, server: Server, stream: ComponentRegistration) -> None:
        self.server = server
        handler = componentstates.begin(server.components, None)
        self.ends: tuple[Any, Any] = stream, XMLStream(server.clock, handler)
        self.transports = MemoryTransport(), MemoryTransport()
        for end, transport in zip(self.ends, self.transports, strict=True):
            transport.connect(end)

    def carry(self, most: int | None = None) -> bool:
        """Carry what was written, or so many bytes of it each way; whether there was any."""
        said = [transport.take().encode() for transport in self.transports]
        for data, end, transport in zip(said, self.ends[::-1], self.transports[::-1], strict=True):
            if data and not transport.lost:
                end.dataReceived(data[:most])
        return any(said)

    def cut(self) -> None:
        """It breaks; both sides notice."""
        for transport in self.transports:
            transport.lose(ConnectionLost())


class Daemons:
    """Both, with a Callbridge that lets everybody in and answers each message."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.server = offering(seconds)
        self.clock = self.server.clock
        self.core: LinkCore
        self.is_reachable = True
        self.is_dead = False  # nothing listens there
        self.wires: list[Wire] = []
        self.entering: list[tuple[Peer, str]] = []  # those who wait for the features
        self.heard: list[str] = []  # ids of messages
        self.again: list[bytes] = []
        self.ups = self.downs = 0
        self.start()

    def start(self) -> None:
        """A Callbridge process; one before it is killed."""
        if self.wires and self.core.timer is not None:
            self.core.timer.cancel()
        settings = LinkSettings(
            unique_name="cb1",
            domain=DOMAIN,
            component=CB1,
            server=None,
            secret=Secret(SECRETS["cb1"]),
            unprotected=True,
        )
        backoff = Backoff(Timing(), Random(1))
        self.core = LinkCore(self.clock, self, self, self, backoff, settings)
        self.link = Link(self.core)
        self.link.start()
        self.run()

    # discovery, connector and traffic of the Callbridge

    def targets(self, domain: str) -> Deferred[Found]:
        """Step 4."""
        return succeed(Found(targets=(Target("x1.example.com", 5223, False, "SRV"),)))

    def addresses(self, target: Target) -> Deferred[Found]:
        """Step 5."""
        return succeed(Found(addresses=("192.0.2.1",)))

    def connect(self, registrant: Any, settings: Any, target: Target, *_: Any) -> Deferred[Any]:
        """Step 6."""
        stream = ComponentRegistration(
            *(self.clock, settings, Timing(), None, registrant), peer=str(target), presents=False
        )
        if self.is_dead:
            return fail(faults.CONNECT_REFUSED.error(address="192.0.2.1", port=5223))
        self.wires.append(Wire(self.server, stream))
        if not self.is_reachable:
            self.clock.callLater(0, self.wires[-1].cut)
        return succeed((stream, "192.0.2.1"))

    def sent_before(self, stream: ComponentRegistration, stanzas: Sequence[bytes]) -> None:
        """What the server never got of the link before."""
        self.again = list(stanzas)
        stream.deliver(stanzas, None)

    def link_up(self, stream: ComponentRegistration) -> None:
        """Step 11."""
        self.ups += 1
        self.carrier = stream

    def link_down(self) -> None:
        """The link has ended."""
        self.downs += 1

    def received(self, stanza: Stanza) -> None:
        """Answer."""
        if stanza.name == "message" and stanza.type != "error":
            self.heard.append(stanza.id or "")
            answer = f"<message from='{CB1}' to='{stanza.sender}' id='{stanza.id}'/>"
            self.carrier.deliver((answer.encode(),), stanza.sender)
        elif stanza.is_request:
            self.carrier.send(written_result(stanza, answer_login(stanza)))

    # what happens

    def run(self, seconds: float = 0.0) -> None:
        """Carry everything, until there is nothing, or so long."""
        wire: Wire | None = None
        self.clock.advance(seconds)
        for _ in range(200):
            entering, self.entering = self.entering, []
            for client, user in entering:
                self._prove(client, user, client.transport.value().decode())
            wire, before = self.wires[-1] if self.wires else None, wire
            if not (wire and wire.carry()) and wire is before:
                return
            self.clock.advance(0.03)

    def login(self, user: str) -> Peer:
        """A client that sends its proof as soon as it may."""
        client = self.server.client()
        self._prove(client, user, client.open())
        return client

    def _prove(self, client: Peer, user: str, heard: str) -> None:
        if "<mechanisms" in heard:
            client.authenticate(payload=f"\0{user}\0x".encode())
        else:
            self.entering.append((client, user))


class ResumedTests(SynchronousTestCase):
    """The link goes on."""

    def setUp(self) -> None:
        """It is active."""
        self.both = Daemons()
        self.assertEqual("active", self.both.link.state)
        self.served = self.both.server.links.get(CB1)

    def test_log_in_under_way(self) -> None:
        """Its step was lost with the connection; the client is let in, and nobody is told."""
        client = self.both.login("alice")
        self.both.wires[-1].cut()
        self.assertEqual("resuming", self.both.link.state)
        self.assertIs(self.served, self.both.server.links.get(CB1))
        later = self.both.login("bob")
        self.both.run(0.1)
        self.assertEqual("active", self.both.link.state)
        self.assertEqual((1, 0), (self.both.ups, self.both.downs))
        self.assertEqual(1, self.both.core.comeback.resumed)
        self.assertEqual(1, self.both.server.components.resumptions.resumed)
        for waiting in client, later:
            self.assertIn("<success", waiting.heard())

    def test_answer_under_way(self) -> None:
        """The Callbridge had decided; its answer is sent again."""
        client = self.both.login("alice")
        said = self.both.wires[-1].transports[1].take().encode()
        self.both.wires[-1].ends[0].dataReceived(said)
        self.both.wires[-1].cut()
        self.both.run(0.1)
        self.assertIn("<success", client.heard())

    def test_step_log(self) -> None:
        """The attempt that resumed says so at step 11."""
        self.both.wires[-1].cut()
        self.both.run(0.1)
        last = self.both.link.history.last
        assert last is not None
        self.assertEqual(self.both.carrier.link_id, last.records[-1].evidence["resumed"])

    def test_not_reached_at_once(self) -> None:
        """It tries again, within the time."""
        self.both.is_reachable = False
        self.both.wires[-1].cut()
        self.both.run(1.0)
        self.both.run(1.0)
        self.assertGreater(len(self.both.wires), 2)
        client = self.both.login("alice")
        self.both.is_reachable = True
        for _ in range(4):
            self.both.run(0.5)
        self.assertEqual("active", self.both.link.state)
        self.assertEqual((1, 0), (self.both.ups, self.both.downs))
        self.assertIn("<success", client.heard())

    def test_old_connection_lives(self) -> None:
        """Only the Callbridge noticed; the server ends the old connection with conflict."""
        old = self.both.wires[-1]
        old.transports[0].lose(ConnectionLost())
        self.both.run(0.1)
        self.assertIn("<conflict", old.transports[1].take())
        self.assertTrue(old.transports[1].lost)
        self.assertIs(self.served, self.both.server.links.get(CB1))
        self.assertEqual("active", self.both.link.state)

    def test_stopped(self) -> None:
        """A link that is stopped ends at once, and is not kept."""
        self.both.link.stop()
        self.both.run()
        self.assertIsNone(self.both.server.links.get(CB1))

    def test_stopped_while_away(self) -> None:
        """Nothing of it stays."""
        self.both.wires[-1].cut()
        self.successResultOf(self.both.link.stop())
        self.assertEqual(1, self.both.downs)
        self.both.clock.advance(SECONDS)
        self.assertIsNone(self.both.server.links.get(CB1))
        self.assertEqual([], self.both.clock.getDelayedCalls())

    def test_many(self) -> None:
        """However many stanzas there are meanwhile, as long as they are not too large together."""
        alice = self.both.login("alice")
        self.both.run()
        alice.heard()
        alice.open()
        alice.say(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>")
        self.both.run()
        alice.heard()
        self.both.wires[-1].cut()
        stream = self.both.carrier
        stray = f"<message from='{CB1}' to='{DOMAIN}' type='error'/>".encode()
        self.assertEqual((), tuple(stream.deliver([stray] * 3_000, "lane")))
        said = [str(number) for number in range(3_000)]
        for number in said:
            alice.say(f"<message to='{CB1}' id='{number}'/>")
        for _ in range(20):
            self.both.run(0.1)
        self.assertEqual(said, [s.id for s in alice.received()])

    def test_counted(self) -> None:
        """Each side knows how often, and in which state it is meanwhile."""
        self.both.is_reachable = False
        self.both.wires[-1].cut()
        self.assertEqual("resuming", self.both.link.state)
        self.both.is_reachable = True
        for _ in range(4):
            self.both.run(1.0)
        self.assertEqual(("active", 1), (self.both.link.state, self.both.link.resumed))
        self.assertEqual(1, self.both.server.components.resumptions.resumed)

    def test_never_back(self) -> None:
        """Both end it in time; what waited is answered."""
        client = self.both.login("alice")
        self.both.is_reachable = False
        self.both.wires[-1].cut()
        for _ in range(int(RESUME_SECONDS) * 2 + 4):
            self.both.run(0.5)
        self.assertIn("<login-link-lost", client.heard())
        self.assertEqual(1, self.both.downs)
        self.assertIsNone(self.both.server.links.get(CB1))
        self.assertEqual(1, self.both.server.components.resumptions.expired)
        self.both.is_reachable = True
        for _ in range(4):
            self.both.run(1.0)
        self.assertEqual("active", self.both.link.state)
        self.assertEqual(2, self.both.ups)

    def test_server_is_dead(self) -> None:
        """Where nothing listens the link is soon given up, so that another server is asked."""
        self.both.is_dead = True
        self.both.wires[-1].cut()
        self.both.run(0.1)
        self.assertEqual("resuming", self.both.link.state)
        for _ in range(6):
            self.both.run(0.1)
        self.assertEqual(1, self.both.downs)
        self.both.is_dead = False
        for _ in range(4):
            self.both.run(1.0)
        self.assertEqual(("active", 2), (self.both.link.state, self.both.ups))

    def test_server_forgot(self) -> None:
        """The stream is a new link, whose mechanisms are asked for."""
        self.both.wires[-1].cut()
        served: Any = self.served
        served.replace()
        self.both.run(0.1)
        self.assertEqual("active", self.both.link.state)
        self.assertEqual((2, 1), (self.both.ups, self.both.downs))
        client = self.both.login("alice")
        self.both.run()
        self.assertIn("<success", client.heard())

    def test_not_offered(self) -> None:
        """A server without it is asked for nothing, and the link ends with its connection."""
        both = Daemons(0.0)
        self.assertEqual("active", both.link.state)
        both.wires[-1].cut()
        self.assertEqual((1, 1), (both.ups, both.downs))
        self.assertIsNone(both.server.links.get(CB1))


class AwayTests(SynchronousTestCase):
    """Log-ins while the only Callbridge, or one of them, has no connection."""

    def setUp(self) -> None:
        """One log-in is under way when the connection breaks."""
        self.both = both = Daemons()
        self.server = both.server
        self.under_way = both.login("alice")
        both.is_reachable = False
        both.wires[-1].cut()

    def stay_away(self, seconds: float) -> None:
        """The Callbridge cannot reach the server."""
        until = self.both.clock.seconds() + seconds
        while self.both.clock.seconds() < until:
            self.both.run(0.01)

    def test_back(self) -> None:
        """Who comes meanwhile waits for the features, and then logs in."""
        later = self.both.login("bob")
        self.stay_away(4)
        self.assertFalse(self.server.relay.is_ready)
        self.assertEqual([(later, "bob")], self.both.entering)
        self.both.is_reachable = True
        self.stay_away(2)
        self.assertEqual(1, self.both.core.comeback.resumed)
        for client in self.under_way, later:
            self.assertIn("<success", client.heard())

    def test_comes_late(self) -> None:
        """Nobody waits longer than for a Callbridge that was never there; the link stays."""
        later = self.both.login("bob")
        self.stay_away(LOGIN_WAIT - 0.5)
        self.assertEqual("", self.under_way.heard())
        self.stay_away(1)
        self.assertIn("<login-link-lost", self.under_way.heard())
        self.assertIn("<no-callbridge", later.heard())
        self.both.entering.clear()
        self.both.is_reachable = True
        self.stay_away(1.25)
        self.assertEqual((1, 0), (self.both.core.comeback.resumed, self.both.downs))
        client = self.both.login("carol")
        self.both.run()
        self.assertIn("<success", client.heard())

    def test_killed(self) -> None:
        """A new process does not resume: the old link ends at once, and who waits logs in."""
        later = self.both.login("bob")
        old = self.server.links.get(CB1)
        self.both.is_reachable = True
        self.both.start()
        self.assertIsNot(old, self.server.links.get(CB1))
        self.assertIn("<login-link-lost", self.under_way.heard())
        self.assertIn("<success", later.heard())
        self.assertEqual(0, self.server.components.resumptions.away)

    def test_another_is_there(self) -> None:
        """New log-ins go there, and one under way is soon told to try again."""
        other = self.server.callbridge("cb2")
        self.assertTrue(self.server.relay.is_ready)
        self.server.logged_in(other, "bob")
        self.both.is_reachable = True
        self.stay_away(2)
        link: Any = self.server.links.get(CB1)
        while not len(link.requests):  # it is their turn, one after the other
            self.under_way = self.both.login("carol")
        self.both.is_reachable = False
        self.both.wires[-1].cut()
        self.stay_away(PATIENCE - 0.5)
        self.assertEqual("", self.under_way.heard())
        self.stay_away(1)
        self.assertIn("<login-link-lost", self.under_way.heard())
        self.assertIs(link, self.server.links.get(CB1))

    def test_its_own_mechanism(self) -> None:
        """What it alone offered a moment ago is not wrong, but to be tried again."""
        self.both.is_reachable = True
        self.stay_away(2)
        other = self.server.callbridge("cb2", ("ANONYMOUS",))
        client = self.server.client()
        self.assertIn("PLAIN", client.open())
        self.both.wires[-1].cut()
        client.authenticate()
        self.assertIn("<login-link-lost", client.heard())
        self.assertEqual([], other.received())

    def test_a_guest(self) -> None:
        """A log-in that belongs to the one that is away is no other's: it is to be tried again."""
        other = self.server.callbridge("cb2")
        self.server.relay.issuer = lambda *_: self.server.links.get(CB1)
        client = self.both.login("guest")
        self.assertEqual([], other.received())
        self.assertIn("<login-link-lost", client.heard())

    def test_another_component(self) -> None:
        """A component that is no Callbridge loses its connection and is back: nobody is let in."""
        later = self.both.login("bob")
        self.server.register("echo")
        link: Any = self.server.links.get(f"echo.{DOMAIN}")
        self.server.links.away(link)
        self.server.links.back(link)
        self.assertEqual([(later, "bob")], self.both.entering)
        self.assertEqual("", later.heard())


class LeftTests(SynchronousTestCase):
    """A link that ends for good: what one side had not had acknowledged."""

    def setUp(self) -> None:
        """Alice writes to the Callbridge, which answers each message."""
        self.both = both = Daemons()
        self.server = both.server
        self.alice = both.login("alice")
        both.run()
        self.alice.heard()
        self.alice.open()
        self.alice.say(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>")
        both.run()
        self.alice.heard()
        self.said: list[str] = []

    def say(self, number: int) -> None:
        """She writes so many."""
        for _ in range(number):
            self.said.append(str(len(self.said)))
            self.alice.say(f"<message to='{CB1}' id='{self.said[-1]}'/>")

    def stay_away(self, seconds: float) -> None:
        """Time passes."""
        until = self.both.clock.seconds() + seconds
        while self.both.clock.seconds() < until:
            self.both.run(0.01)

    def lose(self, wire: Wire, most: int) -> None:
        """
        The connection breaks on the Callbridge's way to the server: the server gets only a
        part of the answers.
        """
        callbridge, served = wire.transports
        wire.ends[0].dataReceived(served.take().encode())
        answers = callbridge.take().encode()
        self.assertGreater(len(answers), most)
        wire.ends[1].dataReceived(answers[:most])
        self.both.is_reachable = False
        wire.cut()

    def test_same_server(self) -> None:
        """It says how much it got, and the Callbridge sends the rest, once and in order."""
        self.say(10)
        self.lose(self.both.wires[-1], 300)
        before = [s.id for s in self.alice.received()]
        self.assertGreater(len(before), 2)
        self.assertLess(len(before), 8)
        self.say(5)  # nobody hears these
        self.stay_away(SECONDS + 2)
        self.assertEqual((1, 0), (self.both.downs, len(self.server.links)))
        back = [s.id for s in self.alice.received() if s.type == "error"]
        self.assertEqual(self.said[10:], back[-5:])
        self.both.is_reachable = True
        self.stay_away(3)
        self.assertEqual(("active", 2), (self.both.link.state, self.both.ups))
        self.assertEqual(self.said[:10], before + [s.id for s in self.alice.received()])
        self.say(3)
        self.both.run()
        self.assertEqual(self.said[15:], [s.id for s in self.alice.received()])
        self.assertEqual(self.said[:10] + self.said[15:], self.both.heard)
        self.stay_away(2)
        link: Any = self.server.links.get(CB1)
        link.shut_down()
        self.stay_away(3)
        self.assertEqual(("active", 3), (self.both.link.state, self.both.ups))
        self.assertEqual([], self.alice.received())  # it was told once

    def test_handled_at_the_end(self) -> None:
        """What the Callbridge makes of what had come before the end goes over the next link."""
        carrier, to = self.both.carrier, "".join(str(s.jid.full()) for s in self.server.sessions)
        late = f"<message from='r@{CB1}' to='{to}' id='late'/>"

        def finish() -> None:
            self.both.downs += 1
            carrier.deliver((late.encode(),), "r")

        self.patch(self.both, "link_down", finish)
        link: Any = self.server.links.get(CB1)
        link.shut_down()
        self.stay_away(3)
        self.assertEqual(("active", 2), (self.both.link.state, self.both.ups))
        self.assertEqual(["late"], [s.id for s in self.alice.received()])

    def test_reconfigured(self) -> None:
        """With other settings it is another link: nothing of the old one is sent."""
        self.say(10)
        self.lose(self.both.wires[-1], 300)
        self.stay_away(SECONDS + 2)
        self.alice.received()
        self.both.is_reachable = True
        self.both.link.configure(self.both.core.settings)
        self.stay_away(3)
        self.assertEqual(("active", 2), (self.both.link.state, self.both.ups))
        self.assertEqual([], self.alice.received())

    def test_link_is_gone_at_resumption(self) -> None:
        """The server has ended it while the Callbridge is on its way: the same."""
        self.say(10)
        self.lose(self.both.wires[-1], 300)
        before = [s.id for s in self.alice.received()]
        link: Any = self.server.links.get(CB1)
        link.expire()
        self.alice.received()
        self.both.is_reachable = True
        self.stay_away(3)
        self.assertEqual((0, 1), (self.both.core.comeback.resumed, self.both.downs))
        self.assertEqual(self.said[:10], before + [s.id for s in self.alice.received()])

    def test_another_server(self) -> None:
        """SRV leads to another: each side answers for its part, and nothing crosses over."""
        self.say(10)
        self.lose(self.both.wires[-1], 300)
        before = [s.id for s in self.alice.received()]
        self.say(5)
        first, other = self.server, offering(clock=self.both.clock)
        self.both.server = other
        self.stay_away(SECONDS + 2)
        self.assertEqual(0, len(first.links))
        back = [s.id for s in self.alice.received() if s.type == "error"]
        self.assertEqual(self.said[10:], back[-5:])
        self.both.is_reachable = True
        crossed: list[Stanza] = []
        route = other.router.route

        def note(stanza: Stanza, source: Any = None) -> None:
            if stanza.name == "message":
                crossed.append(stanza)
            route(stanza, source)

        self.patch(other.router, "route", note)
        self.stay_away(3)
        self.assertEqual(("active", 2), (self.both.link.state, self.both.ups))
        self.assertEqual([], crossed)
        self.assertEqual([], self.alice.received())
        self.assertEqual(self.said[:10], self.both.heard)
        self.assertLess(len(before), 8)
        self.assertIn("<success", self._log_in().heard())

    def _log_in(self) -> Peer:
        client = self.both.login("bob")
        self.both.run()
        return client

    def test_void(self) -> None:
        """Answers to the server, and our own requests, are nobody's any more."""
        stream = self.both.carrier
        kept = [
            f"<message from='{CB1}' to='{DOMAIN}' id='1'/>".encode(),
            f"<iq from='{CB1}' to='alice@{DOMAIN}/r' type='result' id='2'/>".encode(),
        ]
        self.both.wires[-1].transports[0].take()
        self.both.login("bob")
        self.both.wires[-1].ends[0].dataReceived(
            self.both.wires[-1].transports[1].take().encode()
        )  # its answer is on its way
        asked = stream.requests.ask(request("get", CB1, DOMAIN, ping_payload()), 30)
        stream.deliver(kept, "lane")
        self.both.is_reachable = False
        self.both.wires[-1].cut()
        self.stay_away(SECONDS + 2)
        self.failureResultOf(asked, RequestLost)
        self.both.is_reachable = True
        self.stay_away(3)
        self.assertEqual(kept, self.both.again)

    def test_too_late(self) -> None:
        """After a minute nothing of it is sent any more."""
        self.say(10)
        self.lose(self.both.wires[-1], 300)
        self.alice.received()
        self.stay_away(RESUME_SECONDS + LEFT_SECONDS + 2)
        self.alice.received()
        self.both.is_reachable = True
        self.stay_away(70)  # it tries seldom by now
        self.assertEqual(("active", 2), (self.both.link.state, self.both.ups))
        self.assertEqual([], [s for s in self.alice.received() if s.name == "message"])

    def test_server_that_lies(self) -> None:
        """Of more than was sent nothing is sent again, and the link is a new one."""
        self.say(10)
        self.lose(self.both.wires[-1], 300)
        self.stay_away(RESUME_SECONDS + 1)
        ended = self.server.components.resumptions._ended
        for previd, (owner, _, until) in list(ended.items()):
            ended[previd] = owner, 5_000, until
        self.alice.received()
        self.both.is_reachable = True
        self.stay_away(3)
        self.assertEqual("active", self.both.link.state)
        self.assertEqual([], self.alice.received())

    def test_stops_with_a_word(self) -> None:
        """A Callbridge that stops says what it has handled: none of it comes back."""
        self.say(3)
        for _ in range(2):
            self.both.wires[-1].carry()
        self.both.link.stop()
        self.both.run()
        self.assertEqual(0, len(self.server.links))
        got = [(s.id, s.type) for s in self.alice.received()]
        self.assertEqual([(number, None) for number in self.said], got)

    def test_server_stops_with_a_word(self) -> None:
        """So does a server: the Callbridge has nothing left that it would send again."""
        self.say(3)
        wire = self.both.wires[-1]
        for _ in range(2):
            wire.carry()
        stream = self.both.core.stream
        assert stream is not None
        ledger = stream.party.ledger
        assert ledger is not None
        self.assertGreaterEqual(ledger.unacknowledged, 3)
        link: Any = self.server.links.get(CB1)
        link.shut_down()
        wire.carry()
        self.assertEqual(0, ledger.unacknowledged)

    def test_stopped(self) -> None:
        """A Callbridge that stops sends what waits, since nobody will send it again."""
        self.both.wires[-1].transports[0].stop_reading()
        stream = self.both.carrier
        stream.pauseProducing()
        stream.deliver((f"<message from='{CB1}' to='{DOMAIN}' id='last'/>".encode(),), "x")
        self.both.link.stop()
        self.assertIn("id='last'", self.both.wires[-1].transports[0].take())


class CutTests(SynchronousTestCase):
    """Cut anywhere, again and again."""

    def test_every_stanza_once(self) -> None:
        """A numbered stream and log-ins: 0 lost, 0 doubled, 0 out of order, all let in."""
        for seed in range(6):
            self._cut_often(Random(seed))

    def _cut_often(self, random: Random) -> None:
        both = Daemons()
        sender = both.login("alice")
        both.run()
        sender.heard()
        sender.open()
        sender.say(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>")
        both.run()
        sender.heard()
        clients, sent, got, cuts = [], [], [], 0
        for turn in range(60):
            for number in range(random.randrange(4)):
                sent.append(f"{turn}-{number}")
                sender.say(f"<message to='{CB1}' id='{sent[-1]}'/>")
            clients.append(both.login(f"user{turn}"))
            for _ in range(random.randrange(10)):
                both.wires[-1].carry()
            if random.random() < 0.7:
                both.wires[-1].carry(random.randrange(1, 900))
                both.wires[-1].cut()
                cuts += 1
                both.clock.advance(0.11)
            got += [s.id for s in sender.received()]
        for _ in range(5):
            both.run(1.0)
        got += [s.id for s in sender.received()]
        self.assertGreater(cuts, 30)
        self.assertGreater(both.core.comeback.resumed, 10)
        self.assertEqual(sent, both.heard)
        self.assertEqual(sent, got)
        for client in clients:
            self.assertIn("<success", client.heard())


class HostileTests(SynchronousTestCase):
    """Components that misuse it."""

    def setUp(self) -> None:
        """A component that has enabled it."""
        self.server = offering()
        self.peer = self.server.register("echo")
        self.peer.heard()
        self.peer.say(ENABLE)
        answer = self.peer.received()[-1].element
        self.assertEqual("enabled", answer.name)
        self.previd = answer["id"]

    def resume(self, previd: str, h: str = "0", name: str = "echo") -> str:
        """Another connection that resumes this; all that it hears after its handshake."""
        self.other = peer = self.server.component()
        to = f"{name}.{DOMAIN}"
        rest = f" to='{to}' xmlns:lm='{ns.LINK_MANAGEMENT}' lm:resume='{previd}'"
        peer.say(header(ns.COMPONENT, rest))
        heard = peer.heard()
        peer.stream_id = heard.split(" id='")[1].split("'")[0]
        handler: Any = peer.handler
        proof = handler.stream_id + SECRETS[name]
        digest = hashlib.sha1(proof.encode()).hexdigest()
        peer.say(f"<handshake>{digest}</handshake>")
        peer.say(f"<resume xmlns='{ns.MANAGEMENT}' previd='{previd}' h='{h}'/>")
        return peer.heard()

    def test_twice(self) -> None:
        """It is enabled once."""
        self.peer.say(ENABLE)
        self.assertIn("<unexpected-request", self.peer.heard())
        self.assertFalse(self.peer.lost)

    def test_too_many(self) -> None:
        """What was never sent cannot be acknowledged: the link ends, and is not kept."""
        self.peer.say(f"<a xmlns='{ns.MANAGEMENT}' h='7'/>")
        self.assertIn("<handled-count-too-high", self.peer.heard())
        self.assertTrue(self.peer.lost)
        self.assertIsNone(self.server.links.get(f"echo.{DOMAIN}"))

    def test_resumes_with_too_many(self) -> None:
        """The same."""
        self.peer.transport.lose(ConnectionLost())
        self.assertIn("<handled-count-too-high", self.resume(self.previd, "7"))
        self.assertIsNone(self.server.links.get(f"echo.{DOMAIN}"))

    def test_of_somebody_else(self) -> None:
        """Another component's id is none: it gets a link of its own."""
        self.peer.transport.lose(ConnectionLost())
        self.assertIn("<item-not-found", self.resume(self.previd, name="cb1"))
        self.assertIsNotNone(self.server.links.get(CB1))
        link: Any = self.server.links.get(f"echo.{DOMAIN}")
        self.assertTrue(link.is_away)

    def test_ends_amid_a_read(self) -> None:
        """What was handled of it is told: it would come twice, or what was not would be lost."""
        ours = f"<message from='echo.{DOMAIN}' to='nobody@{DOMAIN}'/>"
        self.peer.say(ours + f"<message from='{CB1}' to='{DOMAIN}'/>" + ours)
        self.assertIn("<invalid-from", self.peer.heard())
        heard = self.resume(self.previd)
        self.assertIn("<item-not-found", heard)
        self.assertIn(" h='2'", heard)

    def test_back_without_it(self) -> None:
        """Who comes back without resuming has ended the old link; it need not wait."""
        old = self.server.links.get(f"echo.{DOMAIN}")
        self.peer.transport.lose(ConnectionLost())
        self.server.register("echo")
        self.assertIsNot(old, self.server.links.get(f"echo.{DOMAIN}"))

    def test_undecided(self) -> None:
        """Away before it had said what it decides, until nobody waits for that: asked again."""
        peer = self.server.register("cb1")
        peer.say(ENABLE)
        previd = peer.received()[-1].element["id"]
        peer.transport.lose(ConnectionLost())
        self.server.clock.advance(LOGIN_WAIT + 1)
        heard = self.resume(previd, name="cb1")
        said = stanzas(heard, ns.COMPONENT)
        questions = [s for s in said if s.payload == (lp.NS, "mechanisms")]
        (question,) = questions
        self.other.answer(question, lp.Mechanisms(("PLAIN",)))
        self.assertTrue(self.server.relay.is_ready)

    def test_flood_of_requests(self) -> None:
        """Each is answered, in its place."""
        request = f"<r xmlns='{ns.MANAGEMENT}'/>"
        self.peer.say((f"<message to='{DOMAIN}' type='error'/>" + request) * 500)
        acks = [s.element["h"] for s in stanzas(self.peer.heard(), ns.COMPONENT) if s.name == "a"]
        self.assertEqual([str(n) for n in range(1, 501)], acks)

    def test_never_acknowledges(self) -> None:
        """What is kept has an end, and comes back to who sent it."""
        callbridge = self.server.callbridge()
        alice = self.server.bound(callbridge)
        for number in range(WINDOW_STANZAS + 1_000):
            alice.say(f"<message to='echo.{DOMAIN}' id='{number}'/>")
        self.peer.heard()
        for _ in range(40):
            self.server.clock.advance(1)
            self.peer.say(" ")
        self.assertIsNone(self.server.links.get(f"echo.{DOMAIN}"))
        back = [stanza.id for stanza in alice.received() if stanza.type == "error"]
        for _ in range(30):
            back += [stanza.id for stanza in alice.received() if stanza.type == "error"]
        self.assertEqual([str(number) for number in range(WINDOW_STANZAS + 1_000)], back)

    def test_too_much_while_away(self) -> None:
        """What this server says itself has an end, too."""
        self.peer.transport.lose(ConnectionLost())
        link: Any = self.server.links.get(f"echo.{DOMAIN}")
        stanza = Stanza(
            stanzas(f"<message><body>{'x' * 60_000}</body></message>", ns.COMPONENT)[0].element
        )
        for _ in range(link.limits.size // 30_000 + 2):
            link.send(stanza)
        self.assertFalse(link.is_open)
        self.assertIsNone(self.server.links.get(f"echo.{DOMAIN}"))

    def test_deleted_while_away(self) -> None:
        """Its secret is not accepted any more."""
        self.peer.transport.lose(ConnectionLost())
        self.server.registry.secrets = {}
        link: Any = self.server.links.get(f"echo.{DOMAIN}")
        link.judge_secret()
        self.assertIsNone(self.server.links.get(f"echo.{DOMAIN}"))
        self.assertEqual([], self.server.clock.getDelayedCalls())
