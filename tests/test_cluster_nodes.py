"""Servers of one cluster: what their clients and Callbridges see of each other."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.interfaces import Selection
from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmpp import carbons
from cms.xmpp import nodemessages as messages
from cms.xmpp.clientadministration import ClientAdministration
from tests.clustersimulation import Cluster, ClusterServer, bodies, full
from tests.test_xmpp_sasl2 import authenticate, bind
from tests.xmppserver import DOMAIN, SECRETS, Peer, Server

BODY = "<body>{}</body>"


def message(to: str, text: str, type_: str = "chat") -> str:
    """A message with a body, and the same as its id."""
    return f"<message to='{to}' type='{type_}' id='{text}'><body>{text}</body></message>"


class TwoServers(SynchronousTestCase):
    """Alice and a Callbridge at the one, Bob and another Callbridge at the other."""

    def setUp(self) -> None:
        """All are logged in, and everybody knows it."""
        self.cluster = Cluster()
        self.one, self.two = self.cluster.server("one"), self.cluster.server("two")
        self.cb1, self.cb2 = self.one.callbridge("cb1"), self.two.callbridge("cb2")
        self.alice = self.one.bound(self.cb1, "alice")
        self.bob = self.two.bound(self.cb2, "bob")
        self.run_(0.5)

    def run_(self, seconds: float = 0.3) -> None:
        """Let time pass."""
        self.cluster.run(seconds)

    def heard(self, peer: Peer) -> list[str]:
        """After what is under way has arrived."""
        self.run_()
        return bodies(peer)


class DirectoryTests(TwoServers):
    """Who is found."""

    def test_known(self) -> None:
        """Both know both, and count their own."""
        for server in (self.one, self.two):
            self.assertEqual({full("alice"), full("bob")}, server.known)
            self.assertEqual(1, len(server.sessions))
        self.assertEqual({full("alice")}, self.one.own)

    def test_messages(self) -> None:
        """To a full and to a bare address, in both directions."""
        self.bob.say("<presence/>")
        self.alice.say("<presence/>")
        self.run_()
        self.alice.heard(), self.bob.heard()
        self.alice.say(message(full("bob"), "1") + message(f"bob@{DOMAIN}", "2"))
        self.assertEqual(["1", "2"], self.heard(self.bob))
        self.bob.say(message(full("alice"), "3") + message(f"alice@{DOMAIN}", "4"))
        self.assertEqual(["3", "4"], self.heard(self.alice))
        self.assertEqual([], self.heard(self.bob))

    def test_one_entry(self) -> None:
        """What one turn sends to a server leaves together."""
        before = self.one.engine.appended
        for number in range(20):
            self.alice.say(message(full("bob"), str(number)))
        self.assertEqual([str(number) for number in range(20)], self.heard(self.bob))
        self.assertLessEqual(self.one.engine.appended - before, 2)

    def test_nobody(self) -> None:
        """A user who is nowhere, or has left meanwhile, is answered for."""
        self.alice.say(message(full("carol"), "1"))
        self.assertEqual(["!1"], self.heard(self.alice))
        self.two.engine.disconnect()  # so that its server does not tell of it
        self.bob.transport.lose()
        self.alice.say(message(full("bob"), "2"))
        self.run_()
        self.two.engine.connect()
        self.assertEqual(["!2"], self.heard(self.alice))
        self.assertEqual(1, len(self.flushLoggedErrors()))  # that it was cut off

    def test_requests(self) -> None:
        """An IQ and its answer, to a client and to a component."""
        self.alice.say(f"<iq type='get' id='q' to='{full('bob')}'><x xmlns='y'/></iq>")
        self.run_()
        (asked,) = self.bob.received()
        self.assertEqual(("q", full("alice")), (asked.id, asked.sender))
        self.bob.say(f"<iq type='result' id='q' to='{full('alice')}'/>")
        self.run_()
        (answer,) = self.alice.received()
        self.assertEqual(("result", full("bob")), (answer.type, answer.sender))
        self.alice.say(f"<iq type='get' id='r' to='cb2.{DOMAIN}'><x xmlns='y'/></iq>")
        self.run_()
        self.assertEqual(["r"], [stanza.id for stanza in self.cb2.received()])
        self.cb2.say(f"<iq type='result' id='r' from='cb2.{DOMAIN}' to='{full('alice')}'/>")
        self.run_()
        self.assertEqual(["r"], [stanza.id for stanza in self.alice.received()])

    def test_disco(self) -> None:
        """Components of both servers are items."""
        self.bob.say(f"<iq type='get' id='d' to='{DOMAIN}'><query xmlns='{ns.DISCO_ITEMS}'/></iq>")
        heard = self.bob.heard()
        self.assertIn(f"cb1.{DOMAIN}", heard)
        self.assertIn(f"cb2.{DOMAIN}", heard)

    def test_left(self) -> None:
        """Who has gone is gone everywhere."""
        self.bob.transport.lose()
        self.run_()
        self.assertEqual({full("alice")}, self.one.known)
        self.alice.say(message(full("bob"), "1"))
        self.assertEqual(["!1"], self.heard(self.alice))

    def test_registered(self) -> None:
        """A component is told so when the other server knows it, or after a second."""
        address = f"echo.{DOMAIN}"
        echo = self.one.component()

        def until_told() -> None:
            self.assertEqual(b"", echo.transport.value())
            while not echo.transport.value():
                self.run_(0.02)
            self.assertIn(address, self.two.links.components())

        echo.register(address, SECRETS["echo"], until_told)
        self.assertEqual([], echo.received()[1:])
        echo.transport.lose()
        self.run_()
        self.two.is_frozen = True
        late = self.one.component()

        def for_a_second() -> None:
            self.run_(0.9)
            self.assertEqual(b"", late.transport.value())
            self.run_(0.2)

        late.register(address, SECRETS["echo"], for_a_second)

    def test_joined_later(self) -> None:
        """A third server knows everybody, with presence."""
        self.bob.say("<presence><priority>5</priority></presence>")
        self.run_()
        three = self.cluster.server("three")
        self.run_()
        self.assertEqual({full("alice"), full("bob")}, three.known)
        (bob,) = three.sessions.available(f"bob@{DOMAIN}")
        self.assertEqual(5, bob.priority)
        self.assertEqual({f"cb1.{DOMAIN}", f"cb2.{DOMAIN}"}, set(three.links.components()))
        self.assertEqual(0, len(three.sessions))
        self.assertEqual([], list(three.links))


class PresenceTests(TwoServers):
    """RFC 6121 4, between servers."""

    def setUp(self) -> None:
        """Alice has a tablet at the other server."""
        super().setUp()
        self.tablet = self.two.bound(self.cb2, "alice", "tablet")
        self.run_()

    def kinds(self, peer: Peer) -> list[tuple[str | None, str | None]]:
        """Senders and types of the presence that a client hears."""
        self.run_()
        return [(s.sender, s.type) for s in peer.received() if s.name == "presence"]

    def test_own_resources(self) -> None:
        """They see each other come and go."""
        self.alice.say("<presence/>")
        self.assertEqual([(full("alice"), None)], self.kinds(self.alice))
        self.tablet.say("<presence/>")
        tablet = full("alice", "tablet")
        self.assertEqual([(tablet, None)], self.kinds(self.alice))
        self.assertEqual({(tablet, None), (full("alice"), None)}, set(self.kinds(self.tablet)))
        self.tablet.say("<presence type='unavailable'/>")
        self.assertEqual([(tablet, "unavailable")], self.kinds(self.alice))
        self.alice.say(message(f"alice@{DOMAIN}", "1"))
        self.assertEqual([], self.heard(self.tablet))

    def test_priority(self) -> None:
        """The highest gets what is for the bare address, wherever it is."""
        self.alice.say("<presence/>")
        self.tablet.say("<presence><priority>3</priority></presence>")
        self.run_()
        self.alice.heard(), self.tablet.heard()
        self.bob.say(message(f"alice@{DOMAIN}", "1"))
        self.assertEqual(["1"], self.heard(self.tablet))
        self.assertEqual([], self.heard(self.alice))

    def test_directed(self) -> None:
        """Who was sent presence is told when the session ends."""
        self.alice.say(f"<presence to='{full('bob')}'/>")
        self.assertEqual([(full("alice"), None)], self.kinds(self.bob))
        self.alice.transport.lose()
        self.assertEqual([(full("alice"), "unavailable")], self.kinds(self.bob))

    def test_carbons(self) -> None:
        """What one resource hears and says is copied to the other, at another server, once."""
        self.tablet.say(f"<iq type='set' id='c'><enable xmlns='{carbons.NS}'/></iq>")
        self.run_()
        self.tablet.heard()
        self.bob.say(message(full("alice"), "1"))
        self.run_()
        self.assertEqual(1, self.tablet.heard().count("<received xmlns='urn:xmpp:carbons:2'>"))
        self.assertEqual(["1"], bodies(self.alice))
        self.alice.say(message(full("bob"), "2"))
        self.run_()
        self.assertEqual(1, self.tablet.heard().count("<sent xmlns='urn:xmpp:carbons:2'>"))
        self.assertEqual(["2"], bodies(self.bob))
        self.tablet.say(f"<iq type='set' id='c'><disable xmlns='{carbons.NS}'/></iq>")
        self.run_()
        self.tablet.heard()
        self.bob.say(message(full("alice"), "3"))
        self.assertEqual(["3"], self.heard(self.alice))
        self.assertEqual([], self.heard(self.tablet))

    def test_copies_with_bind_2(self) -> None:
        """A client that asks for copies with its log-in (XEP-0386) gets them of other servers."""
        desk = self.two.client()
        desk.open()
        desk.say(authenticate(bind(f"<enable xmlns='{carbons.NS}'/>")))
        self.run_()
        (start,) = self.cb2.received()
        question = lp.parse(start.child)
        assert isinstance(question, lp.Start)
        self.cb2.answer(start, lp.Success(question.exchange, f"alice@{DOMAIN}"))
        self.run_()
        desk.heard()
        self.alice.say(message(full("bob"), "1"))
        self.run_()
        self.assertEqual(1, desk.heard().count("<sent xmlns='urn:xmpp:carbons:2'>"))


class ConflictTests(TwoServers):
    """Names that two want."""

    def test_newest_bind(self) -> None:
        """A full address: the older session ends, wherever it is (RFC 6120 7.7.2.2)."""
        again = self.two.bound(self.cb2, "alice")
        self.run_()
        self.assertIn("<conflict ", self.alice.heard())
        self.assertTrue(self.alice.lost)
        for server in (self.one, self.two):
            self.assertEqual({full("alice"), full("bob")}, server.known)
        self.bob.say(message(full("alice"), "1"))
        self.assertEqual(["1"], self.heard(again))

    def test_at_once(self) -> None:
        """Two binds of one address at the same time: one lives."""
        here = self.one.bound(self.cb1, "carol")
        there = self.two.bound(self.cb2, "carol")
        self.run_(2.0)
        self.assertEqual(1, here.lost + there.lost)
        where = [server.name for server in (self.one, self.two) if full("carol") in server.own]
        self.assertEqual(1, len(where))

    def test_component(self) -> None:
        """A component whose link lives is refused at the other server."""
        second = self.two.component()
        second.open(to=f"cb1.{DOMAIN}", version="")
        self.prove(second, "cb1")
        self.run_()
        (ping,) = self.cb1.received()
        self.cb1.say(f"<iq type='result' id='{ping.id}' from='cb1.{DOMAIN}' to='{DOMAIN}'/>")
        self.run_()
        self.assertIn("<conflict ", second.heard())
        self.assertIsNotNone(self.one.links.get(f"cb1.{DOMAIN}"))

    def test_dead_component(self) -> None:
        """The link of one that does not answer is replaced."""
        second = self.two.component()
        second.open(to=f"cb1.{DOMAIN}", version="")
        self.prove(second, "cb1")
        self.run_(6.0)
        self.assertIn("<handshake/>", second.heard())
        self.assertTrue(self.cb1.lost)
        self.assertEqual(
            [f"cb1.{DOMAIN}"],
            [link.component for link in self.two.links if link.component.startswith("cb1")],
        )
        self.assertEqual([], list(self.one.links))

    def prove(self, peer: Peer, name: str) -> None:
        """Send the handshake of a component."""
        digest = hashlib.sha1((peer.stream_id + SECRETS[name]).encode()).hexdigest()
        peer.say(f"<handshake>{digest}</handshake>")


class KnownTests(SynchronousTestCase):
    """A session is known everywhere when its client is told that it is bound."""

    def test_known_before_the_answer(self) -> None:
        """Whoever hears of it, by whatever way, reaches it from any server."""
        for seed in range(20):
            cluster = Cluster(seed, delay=0.2)
            servers = [cluster.server(name) for name in ("one", "two", "three")]
            bridges = [
                s.callbridge(n) for s, n in zip(servers, ("cb1", "cb2", "echo"), strict=True)
            ]
            cluster.run(1.0)
            others = [
                Server.bound(server, bridge, f"u{number}")
                for number, (server, bridge) in enumerate(zip(servers, bridges, strict=True))
            ]
            cluster.run(2.0)
            [other.transport.take() for other in others]
            client = Server.bound(servers[0], bridges[0], "alice")
            self.assertNotIn("<bind ", client.transport.value().decode())
            steps = 0
            while "<bind " not in client.transport.value().decode():
                cluster.run(0.02)
                steps += 1
            self.assertLess(steps, 50)  # it was no second
            client.transport.take()
            for number, other in enumerate(others):
                other.say(message(full("alice"), str(number)))
            cluster.run(1.0)
            self.assertEqual(["0", "1", "2"], sorted(bodies(client)))

    def test_not_for_long(self) -> None:
        """If another server does not answer, the client waits for a second."""
        cluster = Cluster()
        one, two = cluster.server("one"), cluster.server("two")
        callbridge = one.callbridge()
        cluster.run(0.5)
        two.is_frozen = True
        client = Server.bound(one, callbridge, "alice")
        cluster.run(0.9)
        self.assertNotIn("<bind ", client.transport.value().decode())
        cluster.run(0.2)
        self.assertIn("<bind ", client.transport.value().decode())

    def test_not_for_the_dead(self) -> None:
        """One that has read nothing for some time is dead perhaps: nobody waits for it."""
        cluster = Cluster()
        one, two = cluster.server("one"), cluster.server("two")
        callbridge = one.callbridge()
        cluster.run(0.5)
        two.is_frozen = True
        Server.bound(one, callbridge, "alice")
        cluster.run(3.0)
        client = one.logged_in(callbridge, "bob")
        client.say(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>")
        self.assertIn("<bind ", client.heard())

    def test_leaves_while_it_waits(self) -> None:
        """A client that hangs up meanwhile is gone, and is told nothing."""
        cluster = Cluster()
        one, two = cluster.server("one"), cluster.server("two")
        callbridge = one.callbridge()
        cluster.run(0.5)
        two.is_frozen = True
        client = Server.bound(one, callbridge, "alice")
        client.transport.lose()
        cluster.run(2.0)
        self.assertEqual(set(), one.known)
        self.assertNotIn("<bind ", client.transport.value().decode())


class LoginTests(SynchronousTestCase):
    """A server without a Callbridge of its own."""

    def setUp(self) -> None:
        """The Callbridge is at the first."""
        self.cluster = Cluster()
        self.one, self.two = self.cluster.server("one"), self.cluster.server("two")

    def begin(self, server: ClusterServer, user: str) -> Peer:
        """A client has sent its log-in."""
        client = server.client()
        client.open()
        client.authenticate(payload=f"\0{user}\0x".encode())
        self.cluster.run(0.3)
        return client

    def decide(self, callbridge: Peer, user: str) -> None:
        """The Callbridge accepts it."""
        (start,) = callbridge.received()
        question = lp.parse(start.child)
        assert isinstance(question, lp.Start)
        callbridge.answer(start, lp.Success(question.exchange, f"{user}@{DOMAIN}"))
        self.cluster.run(0.3)

    def notices(self, callbridge: Peer) -> list[object]:
        """What it is told of sessions, which it confirms."""
        found: list[object] = []
        self.cluster.run(0.3)
        for told in callbridge.received():
            notice = lp.parse(told.child)
            found += notice.notices if isinstance(notice, lp.Sessions) else [notice]
            callbridge.say(f"<iq type='result' id='{told.id}' from='{told.to}' to='{DOMAIN}'/>")
        return found

    def bind(self, client: Peer) -> None:
        """The client goes on after its log-in."""
        client.heard()
        client.open()
        client.say(
            f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'><resource>r</resource></bind></iq>"
        )
        self.cluster.run(0.3)

    def test_decided_elsewhere(self) -> None:
        """It is decided by the Callbridge at the other, which is told of the session too."""
        callbridge = self.one.callbridge()
        self.cluster.run(0.3)
        self.assertTrue(self.two.relay.is_ready)
        client = self.begin(self.two, "bob")
        self.decide(callbridge, "bob")
        self.assertIn("<success ", client.transport.value().decode())
        self.bind(client)
        (begin,) = self.notices(callbridge)
        assert isinstance(begin, lp.SessionBegin)
        self.assertEqual((full("bob"), False), (begin.jid, begin.resumed))
        client.transport.lose()
        (end,) = self.notices(callbridge)
        self.assertEqual(lp.SessionEnd(full("bob"), "lost"), end)

    def test_nobody(self) -> None:
        """Only when none is connected anywhere, a client waits, until one comes somewhere."""
        client = self.two.client()
        client.open()
        self.cluster.run(0.3)
        self.assertNotIn("<mechanism>", client.heard())
        self.one.callbridge()
        self.cluster.run(0.5)
        self.assertIn("<mechanism>PLAIN</mechanism>", client.heard())

    def test_local_first(self) -> None:
        """A Callbridge of its own decides, while there is one that reads."""
        self.one.callbridge("cb1")
        own = self.two.callbridge("cb2")
        self.cluster.run(0.3)
        for user in ("a", "b", "c"):
            self.begin(self.two, user)
        self.assertEqual(3, len(own.received()))

    def test_refused(self) -> None:
        """An error of the Callbridge reaches the client as if it were here."""
        callbridge = self.one.callbridge()
        self.cluster.run(0.3)
        client = self.begin(self.two, "bob")
        (start,) = callbridge.received()
        question = lp.parse(start.child)
        assert isinstance(question, lp.Start)
        callbridge.answer(start, lp.Failed(question.exchange, "not-authorized", None))
        self.cluster.run(0.3)
        self.assertIn("<not-authorized/>", client.heard())

    def test_link_lost(self) -> None:
        """The link ends, or its server dies, in the middle of a log-in."""
        for how in ("link", "server"):
            cluster = Cluster()
            one, two = cluster.server("one"), cluster.server("two")
            self.cluster, callbridge = cluster, one.callbridge()
            cluster.run(0.3)
            client = self.begin(two, "bob")
            if how == "link":
                callbridge.transport.lose()
                cluster.run(0.3)
            else:
                cluster.kill(one)
                cluster.run(9.0)
            self.assertIn("<remote-connection-failed ", client.heard())
            self.assertFalse(two.relay.is_ready)

    def test_moves(self) -> None:
        """A Callbridge that comes back at the other server is told of all its sessions."""
        callbridge = self.one.callbridge()
        self.cluster.run(0.3)
        here = self.one.bound(callbridge, "alice")
        client = self.begin(self.two, "bob")
        self.decide(callbridge, "bob")
        self.bind(client)
        self.notices(callbridge)
        callbridge.transport.lose()
        self.cluster.run(0.3)
        callbridge = self.two.callbridge()
        begins = [n for n in self.notices(callbridge) if isinstance(n, lp.SessionBegin)]
        self.assertEqual(
            {(full("alice"), True), (full("bob"), True)},
            {(begin.jid, begin.resumed) for begin in begins},
        )
        self.assertFalse(here.lost)

    def test_not_by_the_dead(self) -> None:
        """
        A server with a Callbridge is killed: until it is held for dead, log-ins are decided by one
        that is elsewhere as soon as it is late.
        """
        three = self.cluster.server("three")
        self.two.callbridge("cb2")
        living = three.callbridge("echo")
        self.cluster.run(0.5)
        self.cluster.kill(self.two)
        for number in range(2):  # one of them asks the dead
            self.begin(self.one, f"early{number}")
        self.assertEqual(1, len(living.received()))
        self.cluster.run(2.0)
        for number in range(3):
            self.begin(self.one, f"late{number}")
        self.assertEqual(3, len(living.received()))
        self.assertIn("two", self.one.node.peers)

    def test_told_of_the_dead(self) -> None:
        """When a server dies, the Callbridge is told of the ends of the sessions there."""
        callbridge = self.one.callbridge()
        self.cluster.run(0.3)
        client = self.begin(self.two, "bob")
        self.decide(callbridge, "bob")
        self.bind(client)
        self.notices(callbridge)
        self.cluster.kill(self.two)
        self.cluster.run(9.0)
        self.assertEqual([lp.SessionEnd(full("bob"), "lost")], self.notices(callbridge))

    def _table(self, callbridge: Peer, before: set[str]) -> set[str]:
        """The addresses of its sessions, as they are after what it is told now."""
        for notice in self.notices(callbridge):
            if isinstance(notice, lp.SessionBegin):
                before.add(notice.jid)
            elif isinstance(notice, lp.SessionEnd):
                before.discard(notice.jid)
        return before

    def test_taken_over(self) -> None:
        """The end of an older session is told before the newer begins, whoever has the link."""
        for last in (0, 1):
            self.cluster = Cluster()
            servers = [self.cluster.server("one"), self.cluster.server("two")]
            callbridge = servers[0].callbridge()
            self.cluster.run(0.3)
            told: list[object] = []
            for server in (servers[1 - last], servers[last]):
                client = self.begin(server, "bob")
                self.decide(callbridge, "bob")
                self.bind(client)
                told += self.notices(callbridge)
            self.assertEqual(
                ["SessionBegin", "SessionEnd", "SessionBegin"],
                [type(notice).__name__ for notice in told],
            )
            self.assertEqual(lp.SessionEnd(full("bob"), "replaced"), told[1])

    def test_taken_over_from_the_dead(self) -> None:
        """
        A client leaves a server that is stopped: the Callbridge that decided its older session is
        told of its end, although that server never does.
        """
        first, other = self.one.callbridge("cb1"), self.one.callbridge("cb2")
        self.cluster.run(0.3)
        first.received(), other.received()
        tables: dict[Peer, set[str]] = {first: set(), other: set()}
        decided = []
        self.one.links.choose("PLAIN")  # so that it is the other's turn afterwards
        for server in (self.two, self.one):
            client = self.begin(server, "bob")
            asked = first if self._starts(first) else other
            decided.append(asked)
            self.bind(client)
            tables = {each: self._table(each, tables[each]) for each in tables}
            self.two.is_frozen = True
        self.assertIsNot(*decided)
        self.cluster.kill(self.two)
        self.cluster.run(9.0)
        tables = {each: self._table(each, tables[each]) for each in tables}
        self.assertEqual([set(), {full("bob")}], [tables[each] for each in decided])

    def _starts(self, callbridge: Peer) -> bool:
        """Whether it was asked about a log-in, which it accepts."""
        for asked in callbridge.received():
            question = lp.parse(asked.child)
            if isinstance(question, lp.Start):
                callbridge.answer(asked, lp.Success(question.exchange, full("bob")[:-2]))
                self.cluster.run(0.3)
                return True
        return False


class ClientsTests(TwoServers):
    """What an administrator of one server sees and does of all clients."""

    def test_everywhere(self) -> None:
        """They are listed with their server, told, and ended."""
        config: Any = SimpleNamespace(
            domain=DOMAIN, hostname="h1", cluster=SimpleNamespace(node="one")
        )
        clients = ClientAdministration(
            config, self.one.sessions, self.one.clients.service, self.one.clock
        )
        page = self.successResultOf(Deferred.fromCoroutine(clients.listed(Selection())))
        found = {facts["jid"]: facts for _, facts in page.items}
        self.assertEqual({full("alice"): "one", full("bob"): "two"}, servers(found))
        self.assertRegex(found[full("bob")]["since"], r"^20\d\d-.*Z$")
        self.assertNotIn("connected", found[full("bob")])
        told = Deferred.fromCoroutine(clients.tell("all", "soon"))
        self.assertEqual(2, self.successResultOf(told))
        self.assertEqual((["soon"], ["soon"]), (self.heard(self.alice), self.heard(self.bob)))
        self.assertEqual(1, clients.end_all("bob"))
        self.run_()
        self.assertIn("ended by an administrator", self.bob.heard())
        self.assertEqual({full("alice")}, self.one.known)


def servers(found: dict[str, Any]) -> dict[str, str]:
    """Where each is."""
    return {jid: facts["server"] for jid, facts in found.items()}


class NumberTests(SynchronousTestCase):
    """The kinds of messages."""

    def test_each_has_its_own(self) -> None:
        """Two that two people add at a time get the same number easily."""
        kinds = [value for name, value in vars(messages).items() if name.isupper()]
        kinds = [value for value in kinds if isinstance(value, int)]
        self.assertGreater(len(kinds), 20)
        self.assertEqual(len(kinds), len(set(kinds)))
