"""What clients of a server of the cluster are told first, and what a server that joins knows."""

from __future__ import annotations

import hashlib
import re

from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmpp.learning import JOIN_SECONDS, LEARN_SECONDS
from tests.clustersimulation import LEASE, Cluster, ClusterServer, bodies, full
from tests.test_cluster_handover import ENABLE, SM
from tests.test_cluster_nodes import TwoServers, message
from tests.xmppserver import DOMAIN, SECRETS, Peer

BIND = f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'><resource>r</resource></bind></iq>"


class EagerTests(TwoServers):
    """A client that says what it wants next without waiting for its address."""

    def eager(self, *more: str) -> Peer:
        """Carol, who sends all at once."""
        carol = self.one.logged_in(self.cb1, "carol")
        carol.say("".join((BIND, ENABLE, *more)))
        return carol

    def test_order(self) -> None:
        """It is told its address first, and what it is told then is counted from there on."""
        carol = self.eager("<presence/>", message(full("bob"), "1"), f"<r {SM}/>")
        self.assertEqual("", carol.heard())
        self.run_()
        heard = carol.heard()
        self.assertRegex(heard, r"^<iq type='result' id='b'>.*</iq><enabled [^>]*/>")
        self.assertIn(f"<a {SM} h='2'/>", heard)
        self.assertEqual(["1"], bodies(self.bob))
        carol.say(f"<a {SM} h='1'/>")  # its own presence, and not the answer before
        self.assertFalse(carol.lost)

    def test_closes(self) -> None:
        """It closes its stream before it is told."""
        carol = self.eager(message(full("bob"), "1"), "</stream:stream>")
        self.run_(1.0)
        self.assertTrue(carol.lost)
        self.assertNotIn(full("carol"), self.two.known)
        self.assertEqual(["1"], bodies(self.bob))

    def test_ended(self) -> None:
        """An administrator ends it before it is told; its closing tag is awaited, as of any."""
        carol = self.eager("<presence/>")
        self.one.sessions.of(f"carol@{DOMAIN}")[0].end()
        carol.say("</stream:stream>")
        self.run_(1.0)
        self.assertTrue(carol.lost)
        self.assertNotIn(full("carol"), self.two.known)

    def test_lost(self) -> None:
        """Its connection is lost meanwhile: what it has sent counts."""
        carol = self.eager(message(full("bob"), "1"), message(full("bob"), "2"))
        carol.transport.lose()
        self.run_()
        self.assertEqual(["1", "2"], bodies(self.bob))
        self.assertIn(full("carol"), self.two.known)  # it can be resumed


class NewTests(SynchronousTestCase):
    """Alice is at the first server, where the Callbridge is; the second has just been started."""

    def setUp(self) -> None:
        """It takes some time to join, and some more until it knows of her."""
        self.cluster = Cluster(delay=0.1)
        self.one = self.cluster.server("one")
        self.callbridge = self.one.callbridge("cb1")
        self.alice = self.one.bound(self.callbridge, "alice")
        self.cluster.run(1.0)
        self.two = self.start()

    def start(self, name: str = "two") -> ClusterServer:
        """A server, which has done nothing yet."""
        server = ClusterServer(self.cluster, name, wait=0)
        self.cluster.servers.append(server)
        return server

    def comes(self, client: Peer, seconds: float) -> float:
        """After how much time a client is offered the log-in; it is not earlier than that."""
        waited = 0.0
        while not (heard := client.transport.value()) and waited < seconds:
            self.cluster.run(0.02)
            waited += 0.02
        self.assertIn(b"<mechanism>", heard)
        client.transport.take()
        return waited

    def logs_in(self, client: Peer, user: str) -> None:
        """It is offered to, and the Callbridge at the first server decides."""
        client.authenticate()
        self.cluster.run(1.0)
        asked = self.callbridge.received()
        (start,) = [each for each in asked if each.element.firstChildElement().name == "start"]
        begun = lp.parse(start.element.firstChildElement())
        assert isinstance(begun, lp.Start)
        self.callbridge.answer(start, lp.Success(begun.exchange, f"{user}@{DOMAIN}"))
        self.cluster.run(1.0)
        client.open()

    def test_first(self) -> None:
        """Who comes at once logs in by the Callbridge elsewhere, and whom it writes to is there."""
        bob = self.two.client()
        self.assertNotIn("mechanism", bob.open())
        self.assertGreater(self.comes(bob, 2.0), 0.1)
        self.assertIn(full("alice"), self.two.known)
        self.assertFalse(self.two.nodes.learning.is_on)
        self.logs_in(bob, "bob")
        bob.say(BIND + message(full("alice"), "1"))
        self.cluster.run(1.0)
        self.assertEqual(["1"], bodies(self.alice))
        self.assertEqual([], bodies(bob))

    def test_resumes(self) -> None:
        """A session that is at another server is found by the first who asks for it."""
        self.alice.say(ENABLE)
        (previd,) = re.findall(r" id='([^']+)'", self.alice.heard())
        self.alice.transport.lose()
        alice = self.two.client()
        alice.open()
        self.comes(alice, 2.0)
        self.logs_in(alice, "alice")
        alice.say(f"<resume {SM} h='0' previd='{previd}'/>")
        self.cluster.run(2.0)
        self.assertTrue(alice.heard().startswith("<resumed "))

    def test_callbridge(self) -> None:
        """A Callbridge is told that it is registered when all are known whom it may write to."""
        callbridge = self.two.component()
        callbridge.open(to=f"cb2.{DOMAIN}", version="")
        digest = hashlib.sha1((callbridge.stream_id + SECRETS["cb2"]).encode()).hexdigest()
        callbridge.say(f"<handshake>{digest}</handshake>")
        self.assertEqual("", callbridge.heard())
        for _ in range(100):
            if not callbridge.transport.value():
                self.cluster.run(0.02)
        self.assertIn(full("alice"), self.two.known)
        sender = f"<message from='room@cb2.{DOMAIN}/bob'"
        callbridge.say(message(full("alice"), "1", "groupchat").replace("<message", sender))
        self.cluster.run(1.0)
        self.assertEqual(["1"], bodies(self.alice))

    def test_stopped(self) -> None:
        """One of the others is stopped: it is waited for, but not for long."""
        self.one.is_frozen = True
        bob = self.two.client()
        bob.open()
        self.cluster.run(LEARN_SECONDS - 0.1)
        self.assertFalse(bob.lost)
        self.cluster.run(0.1 + 1.0)
        self.assertTrue(bob.lost)  # without a Callbridge nobody waits here

    def test_engine_away(self) -> None:
        """What is local goes on at once."""
        three = self.start("three")
        error = faults.ENGINE_UNREACHABLE.error(engine="memory", problem="gone")
        for told in three.engine.on_trouble:
            told(error)
        three.callbridge("cb2")
        bob = three.client()
        self.assertIn("<mechanism>", bob.open())
        self.flushLoggedErrors()

    def test_engine_silent(self) -> None:
        """An engine that neither lets it join nor says no is not waited for for ever."""
        self.cluster.store.is_frozen = True
        bob = self.two.client()
        self.assertNotIn("mechanism", bob.open())
        self.cluster.run(JOIN_SECONDS + 1)
        self.assertTrue(bob.lost)

    def test_crashed(self) -> None:
        """After a crash it waits until the lease of the process before is over."""
        self.cluster.run(1.0)
        self.cluster.kill(self.two)
        self.cluster.servers.remove(self.two)
        again = self.start()
        bob = again.client()
        self.assertNotIn("mechanism", bob.open())
        self.assertLess(self.comes(bob, JOIN_SECONDS), LEASE + 1)
        self.assertIn(full("alice"), again.known)

    def test_crashed_and_busy(self) -> None:
        """However long its own work takes meanwhile: a lease that nobody renews is no other's."""
        self.cluster.run(1.0)
        self.cluster.kill(self.two)
        self.cluster.servers.remove(self.two)
        again = self.start()
        self.cluster.run(LEASE / 2)
        again.clock.advance(3 * LEASE)
        self.cluster.run(LEASE / 4)
        assert again.node.fault is not None
        self.assertEqual(faults.CLUSTER_NOT_YET.name, again.node.fault.fault)
        self.cluster.run(LEASE)
        self.assertIsNone(again.node.fault)

    def test_same_name(self) -> None:
        """Another server that lives has its name: that is said before a lease is over."""
        self.cluster.run(1.0)
        other = self.start("two")
        self.cluster.run(LEASE - 1.0)
        (told,) = self.flushLoggedErrors()
        self.assertIn("A server that lives has the name two", told.getErrorMessage())
        self.cluster.kill(self.two)
        self.cluster.servers.remove(self.two)
        self.cluster.run(LEASE + 2.0)
        self.assertIsNone(other.node.fault)

    def test_joins_again(self) -> None:
        """An engine that has lost its data has all join again: nobody waits for what is known."""
        self.cluster.run(2.0)
        self.cluster.store.clear()
        self.cluster.run(3.0)
        self.flushLoggedErrors()
        self.assertEqual(2, self.two.node.joined)
        self.assertFalse(self.two.nodes.learning.is_on)

    def test_guest(self) -> None:
        """A guest who wants to join a space is not refused because no Callbridge is known yet."""
        ready = self.two.nodes.learning.over()
        self.assertNoResult(ready)
        self.cluster.run(2.0)
        self.successResultOf(ready)
        self.assertEqual([f"cb1.{DOMAIN}"], [link.component for link in self.two.links.authorities])
