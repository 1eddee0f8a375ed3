"""A session goes on at another server of the cluster (XEP-0198): nothing lost, nothing twice."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from random import Random
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.cluster import peer
from cms.cluster.engine import Member
from cms.cluster.entries import DATA, Numbered, Unreadable, read_messages
from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmlstream.jid import parse_jid
from cms.xmlstream.replies import result_reply
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.handedsession import HandedSession, read_handed
from tests.clustersimulation import Cluster, ClusterServer, bodies, full
from tests.test_cluster_nodes import message
from tests.test_xmpp_sasl2 import authenticate, bind
from tests.xmppserver import DOMAIN, Peer

SM = f"xmlns='{ns.MANAGEMENT}'"
SEEDS = int(os.environ.get("CMS_SEEDS", "8"))
ENABLE = f"<enable {SM} resume='true'/>"


class ThreeServers(SynchronousTestCase):
    """Alice at the first, Bob at the second, and a Callbridge at each."""

    def setUp(self) -> None:
        """Alice manages her stream."""
        self.cluster = Cluster()
        names = ("one", "two", "three")
        self.servers = self.one, self.two, self.three = [self.cluster.server(n) for n in names]
        callbridges = ("cb1", "cb2", "echo")
        self.cbs = {
            server: server.callbridge(name)
            for server, name in zip(self.servers, callbridges, strict=True)
        }
        self.alice = self.one.bound(self.cbs[self.one], "alice")
        self.alice.say(ENABLE)
        (self.previd,) = re.findall(r" id='([^']+)'", self.alice.heard())
        self.bob = self.two.bound(self.cbs[self.two], "bob")
        self.cluster.run(0.5)
        self.notices()
        self.bob.heard()

    def run_(self, seconds: float = 0.5) -> None:
        """Let time pass."""
        self.cluster.run(seconds)

    def come(self, server: ClusterServer, handled: int, user: str = "alice") -> Peer:
        """Log in at a server, and ask for the session."""
        client = server.logged_in(self.cbs[server], user)
        client.say(f"<resume {SM} h='{handled}' previd='{self.previd}'/>")
        return client

    def resumed(self, server: ClusterServer, handled: int) -> Peer:
        """The same, which succeeds."""
        client = self.come(server, handled)
        for _ in range(100):
            if not client.transport.value():
                self.cluster.run(0.02)
        heard = client.transport.value().decode()
        self.assertTrue(heard.startswith(f"<resumed {SM} previd='{self.previd}'"), heard)
        return client

    def notices(self) -> list[str]:
        """What the Callbridges are told of sessions."""
        told = []
        for name, callbridge in zip(("cb1", "cb2", "echo"), self.cbs.values(), strict=True):
            for stanza in callbridge.received():
                if stanza.type not in ("get", "set"):
                    continue
                callbridge.say(result_reply(stanza).raw.decode())
                if stanza.payload == (ns.PING, "ping"):
                    continue
                notice = lp.parse(stanza.child)
                many: Any = notice.notices if isinstance(notice, lp.Sessions) else [notice]
                told += [f"{name} {type(each).__name__} {each.jid}" for each in many]
        return told

    def assert_one(self, server: ClusterServer) -> None:
        """Alice is at this server, and all know it, once."""
        self.run_(4.0)
        self.assertEqual({full("alice")}, {full("alice")} & server.own)
        for each in self.servers:
            self.assertIn(full("alice"), each.known)
            if each is not server:
                self.assertNotIn(full("alice"), each.own)
        self.assertEqual([], self.notices())


class PulledTests(ThreeServers):
    """A client resumes at another server than before."""

    def test_resumed(self) -> None:
        """What it has not got comes, then what waited, then what is new; what it says counts."""
        self.alice.say("<presence/>" + message(full("bob"), "a1"))
        for number in range(3):
            self.bob.say(message(full("alice"), str(number)))
        self.run_()
        self.assertEqual(["0", "1", "2"], bodies(self.alice))
        self.alice.transport.lose()
        self.bob.say(message(full("alice"), "3"))
        self.run_()
        client = self.resumed(self.three, 2)  # the presence and the first message
        self.assertIn(" h='2'/>", client.transport.value().decode())
        self.bob.say(message(full("alice"), "4"))
        self.assertEqual(["1", "2", "3"], bodies(client))
        self.run_()
        self.assertEqual(["4"], bodies(client))
        client.say(message(full("bob"), "a2"))
        self.run_()
        self.assertEqual(["a1", "a2"], [b for b in bodies(self.bob) if b])
        self.assert_one(self.three)
        nothing = {"given": 0, "taken": 0, "returned": 0, "unanswered": 0}
        self.assertEqual({**nothing, "given": 1}, self.one.clustering.handovers)
        self.assertEqual({**nothing, "taken": 1}, self.three.clustering.handovers)

    def test_still_connected(self) -> None:
        """Its old connection ends, and nothing of it is heard any more."""
        client = self.resumed(self.two, 0)
        self.alice.say(message(full("bob"), "ghost"))
        client.say(message(full("bob"), "real"))
        self.run_()
        self.assertTrue(self.alice.lost)
        self.assertEqual(["real"], bodies(self.bob))
        self.assert_one(self.two)

    def test_again(self) -> None:
        """From there to the third, back to the first, and by the first to where it is."""
        self.resumed(self.two, 0).transport.lose()
        self.resumed(self.three, 0).transport.lose()
        self.resumed(self.one, 0).transport.lose()
        self.run_()
        client = self.resumed(self.two, 0)
        self.bob.say(message(full("alice"), "1"))
        self.run_()
        self.assertEqual(["1"], bodies(client)[-1:])
        self.assert_one(self.two)

    def test_at_once(self) -> None:
        """Its client asks two servers in one moment: one has it in the end."""
        first, second = self.come(self.two, 0), self.come(self.three, 0)
        self.run_()
        lost = [client for client in (first, second) if client.lost]
        self.assertEqual(1, len(lost))
        self.assert_one(self.three if lost == [first] else self.two)

    def test_not_theirs(self) -> None:
        """Nobody else gets it, nor learns whether there is one."""
        client = self.come(self.two, 0, "bob")
        self.run_()
        self.assertIn("item-not-found", client.heard())
        self.previd = "nothing"
        client = self.come(self.two, 0)
        self.run_()
        self.assertIn("item-not-found", client.heard())
        self.assert_one(self.one)

    def test_ended(self) -> None:
        """Of one that has ended, how much it had handled is told, if somebody has another one."""
        self.alice.say(message(full("bob"), "1"))
        self.alice.say("</stream:stream>")
        self.run_()
        self.notices()
        self.one.bound(self.cbs[self.one], "alice", "other")
        client = self.come(self.two, 0)
        self.run_()
        heard = client.heard()
        self.assertIn("item-not-found", heard)
        self.assertIn(" h='1'", heard)

    def test_too_many(self) -> None:
        """Who acknowledges more than was sent is sent away, and the session stays."""
        client = self.come(self.two, 9)
        self.run_()
        self.assertIn("handled-count-too-high", client.heard())
        self.assert_one(self.two)

    def test_impatient(self) -> None:
        """Who says more before he was answered is sent away."""
        client = self.come(self.two, 0)
        client.say(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>")
        self.assertIn("policy-violation", client.heard())
        self.run_()
        self.assert_one(self.two)  # where it waits for him

    def test_gone_meanwhile(self) -> None:
        """Who does not wait for the answer finds it there, or anywhere."""
        self.come(self.two, 0).transport.lose()
        self.run_()
        self.resumed(self.three, 0)
        self.assert_one(self.three)

    def test_inline(self) -> None:
        """By SASL2 as well."""
        self.alice.transport.lose()
        self.run_()
        client = self.two.client()
        client.open()
        resume = f"<resume {SM} h='0' previd='{self.previd}'/>"
        client.say(authenticate(resume + bind()))
        self.run_(0.1)
        callbridge = self.cbs[self.two]
        (start,) = [each for each in callbridge.received() if each.payload != (ns.PING, "ping")]
        asked = lp.parse(start.child)
        assert isinstance(asked, lp.Start)
        callbridge.answer(start, lp.Success(asked.exchange, f"alice@{DOMAIN}"))
        self.run_()
        heard = client.heard()
        self.assertIn(f"<resumed {SM} previd='{self.previd}'", heard)
        self.assertNotIn("<bound", heard)
        self.assert_one(self.two)

    def test_seen(self) -> None:
        """Presence, directed presence and copies go along; nobody is told that it was gone."""
        self.alice.say("<presence><priority>7</priority></presence>")
        self.alice.say(f"<presence to='{full('bob')}'/>")
        self.alice.say("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        self.run_()
        self.bob.heard()
        client = self.resumed(self.three, 0)
        self.run_(4.0)
        self.assertNotIn("unavailable", self.bob.heard())
        session: Any = self.three.sessions.find(client_jid())
        self.assertEqual((7, {full("bob")}), (session.priority, session.directed))
        self.assertEqual(7, self.two.sessions.find(client_jid()).priority)  # type: ignore[union-attr]
        for server in self.servers:
            enabled = server.router.carbons.enabled[f"alice@{DOMAIN}"]
            self.assertEqual([full("alice")], [each.jid.full() for each in enabled])
        client.say("</stream:stream>")
        self.run_()
        self.assertIn("unavailable", self.bob.heard())

    def test_bound_anew(self) -> None:
        """It was bound anew at a third server meanwhile: the new one stays."""
        self.three.bound(self.cbs[self.three], "alice")
        self.run_()
        client = self.come(self.two, 0)
        self.run_()
        self.assertIn("item-not-found", client.heard())
        self.notices()
        self.assert_one(self.three)

    def test_node_dies(self) -> None:
        """The server that has it is dead: there is nothing to be had, and soon an answer."""
        self.cluster.kill(self.one)
        client = self.come(self.two, 0)
        self.run_(8.0)
        self.assertIn("item-not-found", client.heard())
        self.assertEqual(1, self.two.clustering.handovers["unanswered"])

    def test_engine_away(self) -> None:
        """The engine is away: likewise, and it waits where it is."""
        self.alice.transport.lose()
        self.cluster.engine_away()
        client = self.come(self.two, 0)
        self.run_(6.0)
        self.assertIn("item-not-found", client.heard())
        self.cluster.engine_back()
        self.run_(3.0)
        self.resumed(self.three, 0)
        self.flushLoggedErrors()


def client_jid() -> Any:
    """Alice's."""
    return parse_jid(full("alice"))


class GivenTests(ThreeServers):
    """A server gives a session away."""

    def give(self, to: str = "two") -> None:
        """The first gives Alice's."""
        session: Any = self.one.sessions.find(client_jid())
        self.assertTrue(self.one.nodes.handover.give(session, self.one.node.peers[to]))

    def test_given(self) -> None:
        """Its connection ends when the other has it; it is found everywhere."""
        self.give()
        self.assertFalse(self.alice.lost)
        self.alice.say(message(full("bob"), "unread"))
        self.run_(0.3)
        self.assertTrue(self.alice.lost)
        self.bob.say(message(full("alice"), "1"))
        self.run_()
        client = self.resumed(self.three, 0)
        self.assertIn(" h='0'/>", client.transport.value().decode())  # it says that again
        self.assertEqual(["1"], bodies(client))
        self.assert_one(self.three)

    def test_receiver_dies(self) -> None:
        """The other dies before it has it: it is here as before, and nothing is lost."""
        self.bob = self.three.bound(self.cbs[self.three], "bob")
        self.run_()
        self.bob.say(message(full("alice"), "1"))
        self.run_()
        self.two.is_frozen = True
        self.give()
        self.bob.say(message(full("alice"), "2"))
        self.run_(9.0)
        self.assertTrue(self.alice.lost)
        client = self.resumed(self.one, 0)
        self.bob.say(message(full("alice"), "3"))
        self.run_()
        heard = bodies(client)
        self.assertEqual(["1", "2", "3"], heard)
        self.assertEqual([], bodies(self.bob))
        self.assertEqual(1, self.one.clustering.handovers["returned"])
        self.flushLoggedErrors()

    def test_receiver_dies_with_an_error(self) -> None:
        """What another server refuses meanwhile is told to her, wherever she is then."""
        self.bob = self.three.bound(self.cbs[self.three], "bob")
        self.run_()
        self.three.is_frozen = True
        self.alice.say(message(full("bob"), "1"))
        self.run_(3.0)
        self.two.is_frozen = True
        self.give()
        self.run_(15.0)
        client = self.resumed(self.one, 0)
        self.assertEqual(["!1"], bodies(client))
        self.flushLoggedErrors()

    def test_not_resumable(self) -> None:
        """One that cannot be resumed stays."""
        session: Any = next(iter(self.two.sessions))
        self.assertFalse(self.two.nodes.handover.give(session, self.two.node.peers["one"]))
        self.bob.say(message(full("bob"), "1"))
        self.run_()
        self.assertEqual(["1"], bodies(self.bob))

    def test_expires(self) -> None:
        """Nobody comes for it: it ends there as it would have here."""
        self.alice.say(f"<presence to='{full('bob')}'/>")
        self.run_()
        self.bob.say(message(full("alice"), "1"))
        self.run_()
        self.give("three")
        told, heard = [], ""
        for _ in range(14):
            self.run_(5.0)
            told += self.notices()
            heard += self.bob.heard()
        self.assertIn("unavailable", heard)
        self.assertIn("recipient-unavailable", heard)
        self.assertEqual(["cb1 SessionEnd " + full("alice")], told)
        for server in self.servers:
            self.assertNotIn(full("alice"), server.known)

    def test_under_load(self) -> None:
        """Alice is given about while Bob and she talk: all arrives once."""
        random = Random(3)
        client, server, got, said = self.alice, self.one, 0, 0
        heard: list[str] = []
        written: list[str] = []
        for number in range(300):
            self.bob.say(message(full("alice"), f"b{number}"))
            if not client.lost:
                written.append(f"a{number}")
                client.say(message(full("bob"), f"a{number}"))
            self.cluster.run(0.02)
            if not client.lost:
                new = bodies(client)
                got += len(new)
                heard += new
            if number % 30 == 7:
                other = random.choice([each for each in self.servers if each is not server])
                session: Any = server.sessions.find(client_jid())
                server.nodes.handover.give(session, server.node.peers[other.name])
                while not client.lost:
                    self.cluster.run(0.02)
                server = random.choice(self.servers)
                client = self.resumed(server, got)
                said = int(
                    re.findall(r"<resumed [^>]* h='(\d+)'", client.transport.value().decode())[0]
                )
                for text in written[said:]:
                    client.say(message(full("bob"), text))
                new = bodies(client)
                got += len(new)
                heard += new
        self.run_(3.0)
        heard += bodies(client)
        self.assertEqual(sorted(f"b{n}" for n in range(300)), sorted(heard))
        self.assertEqual(written, bodies(self.bob))
        self.assertEqual([f"b{n}" for n in range(300)], heard)


class _Roamer:
    """
    A client that manages its stream, and goes from server to server.

    @ivar gone: For how long it is gone at most, in seconds.
    """

    def __init__(self, user: str, to: str, client: Peer, previd: str) -> None:
        self.user, self.to, self.client, self.previd = user, to, client, previd
        self.written: list[str] = []
        self.got: list[str] = []
        self.gone = 0.0
        self.comes: float | None = None  # when, while it is gone
        self.asks = False  # it has come, and is not answered yet

    def write(self) -> None:
        """One more message; it is said again if it was not handled."""
        text = f"{self.user[0]}{len(self.written)}"
        self.written.append(text)
        self.client.say(message(full(self.to), text))

    def read(self) -> None:
        """What has come."""
        self.got += bodies(self.client)

    def answered(self) -> bool:
        """Whether it is at the server to which it went; then it says again what is missing."""
        heard = self.client.transport.value().decode()
        handled = re.findall(r"<resumed [^>]* h='(\d+)'", heard)
        if handled:
            for text in self.written[int(handled[0]) :]:
                self.client.say(message(full(self.to), text))
            self.read()
        return bool(handled)


class BothMoveTests(ThreeServers):
    """Who writes moves as well as who is written to."""

    def roamers(self) -> tuple[_Roamer, _Roamer]:
        """Alice and Bob, who write to each other."""
        self.bob.say(ENABLE)
        (previd,) = re.findall(r" id='([^']+)'", self.bob.heard())
        alice = _Roamer("alice", "bob", self.alice, self.previd)
        return alice, _Roamer("bob", "alice", self.bob, previd)

    def go(self, client: _Roamer, server: ClusterServer) -> None:
        """Resume at that server."""
        client.client.transport.lose()
        self.ask(client, server)
        for _ in range(200):
            if client.answered():
                return
            self.cluster.run(0.02)
        self.fail(client.client.transport.value().decode())

    def ask(self, client: _Roamer, server: ClusterServer) -> None:
        """Log in there, and ask for its session."""
        self.previd = client.previd
        client.client = self.come(server, len(client.got), client.user)
        client.comes, client.asks = None, True

    def live(self, client: _Roamer, random: Random, cut: float, servers: Sequence[Any]) -> None:
        """One moment of a client, whose connection is cut with that probability."""
        now = self.cluster.clock.seconds()
        if client.comes is not None:
            if client.comes <= now:
                self.ask(client, random.choice(servers))
            return
        if client.asks:
            client.asks = not client.answered()
            self.assertNotIn("<failed", client.client.transport.value().decode())
            return
        client.read()
        if client.client.lost or random.random() < cut:
            client.client.transport.lose()
            client.comes = now + random.uniform(0, client.gone)
        elif random.random() < 0.7:
            client.write()

    def test_away(self) -> None:
        """What one said at three servers waits in that order for who is away meanwhile."""
        alice, bob = self.roamers()
        bob.client.transport.lose()
        for server in (self.two, self.one, self.two, self.three, self.two):
            alice.write()
            self.run_()
            self.go(alice, server)
        alice.write()
        self.go(bob, self.three)
        self.run_()
        bob.read()
        self.assertEqual(alice.written, bob.got)

    def send_away(self, client: _Roamer, random: Random) -> None:
        """The first server is drained: if it has this client's session, another one gets it."""
        session = self.one.sessions.find(parse_jid(full(client.user)))
        if isinstance(session, ClientSession):
            other = random.choice(self.servers[1:])
            handover = self.one.nodes.handover
            if handover.may_leave(session):
                handover.send_away(session, self.one.node.peers[other.name])

    def talk(self, seed: int, *, drained: bool = False) -> None:
        """Both write and move for 8 s, however slow servers are; all arrives once and in order."""
        random = Random(seed)
        self.setUp()
        self.cluster.take_longer(random.choice((0.01, 0.1, 0.3)))
        both = self.roamers()
        for client in both:
            client.gone = random.choice((0.05, 0.5, 2.0))
        servers = self.servers[: random.choice((2, 3))]
        cut, slow = random.choice((0.02, 0.1, 0.3)), random.choice((0.0, 0.05))
        for moment in range(600):
            self.cluster.slow = slow if moment < 400 else 0.0
            for client in both:
                if moment < 400 or client.client.lost or client.asks:
                    self.live(client, random, cut if moment < 400 else 0.0, servers)
                if drained and moment < 400 and random.random() < 0.02:
                    self.send_away(client, random)
            self.cluster.run(0.02)
        for client, other in (both, both[::-1]):
            client.read()
            self.assertEqual(other.written, client.got, seed)

    def test_both(self) -> None:
        """Whoever moves when."""
        for seed in range(33, 33 + SEEDS):
            self.talk(seed)

    def test_drained(self) -> None:
        """While one of the servers is drained, to which they come back."""
        for seed in range(28, 28 + SEEDS):
            self.talk(seed, drained=True)


class AcknowledgedTests(SynchronousTestCase):
    """What is acknowledged was taken, and what was passed on of it is on its way."""

    def test_order(self) -> None:
        """However many entries came before, and whoever waits."""
        for most, hurries in ((1, False), (32, True)):
            self.patch(peer, "ACKNOWLEDGE_ENTRIES", most)
            told: list[str] = []
            way: Any = SimpleNamespace(is_open=True, flush=lambda: None)
            member = Member("two", "x", 1, {})
            clock = Clock()
            other = peer.Peer(clock, member, way, peer.PeerSettings(65_536, 15.0), bytes)

            def arrived(_: object, data: bytes, hurries: bool = hurries) -> None:
                if hurries:
                    other.acknowledge()  # noqa: B023
                told.append(data.decode())  # noqa: B023

            way.arrived = arrived
            way.transmit = lambda *sent: told.append(f"got {sent[3]}")  # noqa: B023
            other.take(Numbered(DATA, "two", 1, b"12345678", 1, b"first"))
            clock.advance(0)
            self.assertEqual(["first", "got 1"], told)


class FormTests(SynchronousTestCase):
    """A session as bytes."""

    @given(
        st.lists(st.binary(max_size=30), max_size=5), st.lists(st.binary(max_size=30), max_size=5)
    )
    def test_whole(self, sent: list[bytes], waiting: list[bytes]) -> None:
        """What was written is read."""
        handed = HandedSession(
            *(),
            previd="p",
            jid=full("alice"),
            stamp=7,
            since="s",
            authority="a",
            host="h",
            language="",
            guest=False,
            presence="",
            priority=0,
            directed=["x"],
            rooms={"r": "<presence/>"},
            reconnecting=[],
            copied=True,
            handled=1,
            acknowledged=2,
            sent=sent,
            waiting=waiting,
            lists=["roster"],
        )
        ((_, name, body),) = read_messages(handed.to_message())
        self.assertEqual(handed, read_handed(body))
        self.assertEqual(full("alice"), name.decode())
        for at in range(0, len(body), 7):
            self.assertRaises(Unreadable, read_handed, body[:at])

    @given(st.binary(max_size=60))
    def test_anything(self, body: bytes) -> None:
        """What is none is told so, and costs no memory."""
        self.assertRaises(Unreadable, read_handed, body)
