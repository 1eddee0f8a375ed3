"""Nodes that die, stop or are cut off, and an engine that is away or forgets: who is told what."""

from __future__ import annotations

from twisted.words.protocols.jabber.jid import JID

from cms.cluster.entries import DATA, Numbered
from cms.linkprotocol import login as lp
from cms.xmpp.remotesession import RemoteSession
from tests.clustersimulation import LEASE, bodies, full
from tests.test_cluster_nodes import TwoServers, message
from tests.xmppserver import DOMAIN, Server


class Faults(TwoServers):
    """The errors that are logged are those of being cut off."""

    def tearDown(self) -> None:
        """See that nothing else was logged."""
        for failure in self.flushLoggedErrors():
            self.assertIn("cut off", failure.getErrorMessage())


class DeathTests(Faults):
    """The server of Bob is killed."""

    def test_ghosts_go(self) -> None:
        """After the lease nobody shows him, and what he never got was answered before that."""
        self.cluster.kill(self.two)
        self.alice.say(message(full("bob"), "1"))
        self.run_(LEASE - 2.0)
        self.assertEqual([], bodies(self.alice))
        self.assertIn(full("bob"), self.one.known)
        self.run_(4.0)
        self.assertEqual(["!1"], bodies(self.alice))
        self.assertEqual({full("alice")}, self.one.known)
        self.assertEqual([f"cb1.{DOMAIN}"], self.one.links.components())
        self.alice.say(message(full("bob"), "2"))
        self.assertEqual(["!2"], self.heard(self.alice))

    def test_taken_by_who_knew_first(self) -> None:
        """
        One server holds a third for dead before the other does: an address that is taken there
        meanwhile is known at the other in the end.
        """
        three = self.cluster.server("three")
        echo = three.callbridge("echo")
        Server.bound(three, echo, "carol")
        self.run_()
        self.cluster.kill(three)
        spared = self.one.clock.seconds() + 20.0
        self.one.node._spare_until = spared
        self.run_(9.0)
        self.assertIn("three", self.one.node.peers)
        self.assertNotIn("three", self.two.node.peers)
        newest = self.one.sessions.find(JID(full("carol")))
        assert isinstance(newest, RemoteSession)
        newest.stamp += 60_000  # its clock was ahead
        self.two.bound(self.cb2, "carol")
        self.two.callbridge("echo")
        self.assertEqual("three", self.one.sessions.find(JID(full("carol"))).node)  # type: ignore[union-attr]
        self.run_(15.0)
        self.assertNotIn("three", self.one.node.peers)
        self.assertIn(f"echo.{DOMAIN}", self.one.links.components())
        self.assertEqual("two", self.one.sessions.find(JID(full("carol"))).node)  # type: ignore[union-attr]

    def test_error(self) -> None:
        """The error says that the server does not answer, and that one may try again."""
        self.cluster.kill(self.two)
        self.alice.say(message(full("bob"), "1"))
        self.run_(9.0)
        (error,) = [s for s in self.alice.received() if s.type == "error"]
        self.assertEqual("wait", error.element.error["type"])
        condition = error.element.error.firstChildElement().name
        self.assertEqual("remote-server-timeout", condition)

    def test_who_saw_him(self) -> None:
        """His other resources, and those whom he sent presence, hear that he is unavailable."""
        desk = self.one.bound(self.cb1, "bob", "desk")
        desk.say("<presence/>")
        self.bob.say("<presence/>")
        self.bob.say(f"<presence to='{full('alice')}'/>")
        self.bob.say(f"<presence to='room@cb1.{DOMAIN}/b'/>")
        self.run_()
        for peer in (desk, self.alice, self.cb1):
            peer.received()
        self.cluster.kill(self.two)
        self.run_(9.0)
        for peer in (desk, self.alice, self.cb1):
            left = [(s.sender, s.type) for s in peer.received() if s.name == "presence"]
            self.assertEqual([(full("bob"), "unavailable")], left)

    def test_three(self) -> None:
        """With two that are left, each tells its own clients, and nobody is told twice."""
        three = self.cluster.server("three")
        carol = three.bound(three.callbridge("echo"), "carol")
        for to in (full("alice"), full("carol")):
            self.bob.say(f"<presence to='{to}'/>")
        self.run_()
        self.alice.received(), carol.received()
        self.cluster.kill(self.two)
        self.run_(9.0)
        for peer in (self.alice, carol):
            left = [(s.sender, s.type) for s in peer.received() if s.name == "presence"]
            self.assertEqual([(full("bob"), "unavailable")], left)

    def test_comes_back(self) -> None:
        """A new process of that name begins with nothing, and is found."""
        self.cluster.kill(self.two)
        again = self.cluster.server("two")
        self.run_(12.0)
        bob = again.bound(again.callbridge("cb2"), "bob", "again")
        self.run_()
        self.assertEqual({full("alice"), full("bob", "again")}, self.one.known)
        self.alice.say(message(full("bob", "again"), "1"))
        self.assertEqual(["1"], self.heard(bob))

    def test_leaves(self) -> None:
        """One that stops properly is gone at once."""
        self.two.engine.leave("two", self.two.node.generation)
        self.run_(0.3)
        self.assertEqual({full("alice")}, self.one.known)


class ClockTests(Faults):
    """The engine's clock is set, as NTP or a failover to another host may do."""

    def test_ahead(self) -> None:
        """By more than a lease, more than once: nobody is held for dead; who is dead is, later."""
        for jump in (60.0, 5.0, 3600.0):
            self.cluster.store.jumped += jump
            self.run_(10.0)
        self.assertEqual((0, 0), (self.one.node.deaths, self.two.node.deaths))
        self.assertEqual((1, 1), (self.one.node.joined, self.two.node.joined))
        self.cluster.kill(self.two)
        self.run_(9.0)
        self.assertEqual({full("alice")}, self.one.known)

    def test_back(self) -> None:
        """By an hour: the newest bind of an address still wins, wherever it is."""
        self.cluster.store.jumped -= 3600.0
        self.run_(10.0)
        self.assertEqual((0, 0), (self.one.node.deaths, self.two.node.deaths))
        before = self.one.sessions.find(JID(full("bob")))
        again = self.one.bound(self.cb1, "bob")
        self.run_()
        after = self.two.sessions.find(JID(full("bob")))
        assert isinstance(before, RemoteSession)
        assert isinstance(after, RemoteSession)
        self.assertGreater(after.stamp, before.stamp)
        self.assertEqual((True, False), (self.bob.lost, again.lost))
        self.assertEqual({full("alice"), full("bob")}, self.one.own)


class StopTests(Faults):
    """The server of Bob stops, as by SIGSTOP, and goes on."""

    def stop(self, seconds: float) -> None:
        """For so long."""
        self.two.is_frozen = True
        self.run_(seconds)
        self.two.is_frozen = False

    def test_written_when_it_goes_on(self) -> None:
        """
        It is not held for dead, but may not know so yet when a client writes: what was written
        then leaves as soon as the lease is renewed.
        """
        self.two.is_frozen = True
        self.run_(LEASE - 1.0)
        self.bob.say(message(full("alice"), "1"))
        self.two.is_frozen = False
        self.run_(1.0)
        self.assertEqual(["1"], bodies(self.alice))
        self.assertEqual(1, self.two.node.joined)

    def test_short(self) -> None:
        """Within its lease: nothing is lost, and nobody was held for dead."""
        self.alice.say(message(full("bob"), "1"))
        self.stop(4.0)
        self.assertEqual(["1"], self.heard(self.bob))
        self.assertEqual((0, 1), (self.one.node.deaths, self.two.node.joined))

    def test_long(self) -> None:
        """Held for dead, it tells all that it has, though nobody says anything."""
        generation = self.two.node.generation
        self.stop(12.0)
        self.assertEqual({full("alice")}, self.one.known)
        self.run_(3.0)
        self.assertGreater(self.two.node.generation, generation)
        for server in (self.one, self.two):
            self.assertEqual({full("alice"), full("bob")}, server.known)
        self.alice.say(message(full("bob"), "1"))
        self.assertEqual(["1"], self.heard(self.bob))

    def test_nothing_is_sent_late(self) -> None:
        """What it did not send before is not sent as if nothing had happened."""
        self.two.is_frozen = True
        self.bob.say(message(full("alice"), "1"))  # it was read, and not sent yet
        self.run_(12.0)
        self.two.is_frozen = False
        self.run_(3.0)
        self.assertEqual([], bodies(self.alice))
        self.assertEqual(["!1"], bodies(self.bob))

    def test_taken_meanwhile(self) -> None:
        """His address was bound elsewhere: he ends with a conflict."""
        self.two.is_frozen = True
        self.run_(10.0)
        again = self.one.bound(self.cb1, "bob")
        self.two.is_frozen = False
        self.run_(3.0)
        self.assertIn("<conflict ", self.bob.heard())
        self.alice.say(message(full("bob"), "1"))
        self.assertEqual(["1"], self.heard(again))
        for server in (self.one, self.two):
            self.assertEqual({full("alice"), full("bob")}, server.known)

    def test_old_generation(self) -> None:
        """An entry of a generation that is over is not read."""
        old = self.two.node.generation
        self.stop(12.0)
        self.run_(3.0)
        me = self.one.node._me
        assert me is not None
        entry = Numbered(DATA, "two", old, b"x" * 8, 1, b"")
        before = self.one.node.foreign_entries
        self.two.engine.append(me, entry.to_bytes())
        self.run_()
        self.assertEqual(1, self.one.node.foreign_entries - before)


class EngineTests(Faults):
    """The engine, and the ways to it."""

    def test_away_for_a_moment(self) -> None:
        """What was sent meanwhile arrives, once and in order."""
        for number in range(6):
            self.alice.say(message(full("bob"), str(number)))
            if number == 1:
                self.cluster.engine_away()
            self.run_(0.5)
        self.cluster.engine_back()
        self.run_(3.0)
        self.assertEqual([str(number) for number in range(6)], bodies(self.bob))

    def test_away_for_long(self) -> None:
        """It is answered with an error; what is local goes on; then all is well again."""
        carol = self.one.bound(self.cb1, "carol")
        self.cluster.engine_away()
        self.alice.say(message(full("bob"), "1") + message(full("carol"), "2"))
        self.assertEqual(["2"], self.heard(carol))
        self.assertIsNotNone(self.one.node.fault)
        self.run_(20.0)
        self.assertEqual(["!1"], bodies(self.alice))
        self.alice.say(message(full("bob"), "3"))
        self.assertEqual(["!3"], self.heard(self.alice))  # at once, since it is away for long
        self.cluster.engine_back()
        self.run_(3.0)
        self.assertIsNone(self.one.node.fault)
        self.alice.say(message(full("bob"), "4"))
        self.assertEqual(["4"], self.heard(self.bob))
        self.assertEqual(3, len(self.two.known))

    def test_forgets(self) -> None:
        """It has lost all: nobody is dead, no session ends, nobody is told of any end."""
        self.cb1.received(), self.cb2.received()
        for _ in range(3):
            self.cluster.store.clear()
            self.run_(4.0)
        self.assertEqual(0, self.one.node.deaths + self.two.node.deaths)
        for server in (self.one, self.two):
            self.assertEqual({full("alice"), full("bob")}, server.known)
        for peer in (self.cb1, self.cb2):
            told = [lp.parse(s.child) for s in peer.received() if s.payload != PING]
            self.assertEqual([], told)
        self.alice.say(message(full("bob"), "1"))
        self.assertEqual(["1"], self.heard(self.bob))

    def test_who_is_late_after_that(self) -> None:
        """One that comes back to it later than the others was not held for dead meanwhile."""
        self.two.engine.disconnect()
        self.cluster.store.clear()
        self.run_(4.0)
        self.assertEqual(0, self.one.node.deaths)
        self.two.engine.connect()
        self.run_(3.0)
        self.assertEqual(0, self.one.node.deaths)
        self.assertEqual({full("alice"), full("bob")}, self.one.known)

    def test_entries_lost(self) -> None:
        """It loses entries that were not read, and says nothing of it: they come again."""
        self.two.is_frozen = True
        for number in range(5):
            self.alice.say(message(full("bob"), str(number)))
            self.run_(0.1)
        for inbox in self.cluster.store.inboxes.values():
            del inbox[-4:-2]
        self.two.is_frozen = False
        self.run_(5.0)
        self.assertEqual([str(number) for number in range(5)], bodies(self.bob))
        self.assertGreater(self.one.node.peers["two"].sent_again, 0)

    def test_bad_entries(self) -> None:
        """What nobody of ours has written is left out, and what follows is read."""
        me = self.two.node._me
        assert me is not None
        for raw in (b"garbage", b"\0" * 60):
            self.one.engine.append(me, raw)
        self.alice.say(message(full("bob"), "1"))
        self.run_(4.0)
        self.assertEqual(["1"], bodies(self.bob))
        self.assertEqual(2, self.two.node.bad_entries)


class LimitTests(Faults):
    """What may wait for another server."""

    def test_sender_is_held(self) -> None:
        """A client that writes much while the engine is away is not read any more."""
        self.cluster.engine_away()
        self.run_(0.1)
        text = "x" * 1000
        for number in range(100):
            self.alice.say(message(full("bob"), str(number)).replace("</body>", f"{text}</body>"))
        self.assertTrue(self.alice.handler.held)
        self.assertLess(self.one.node.peers["two"].kept_bytes, 150_000)
        self.cluster.engine_back()
        self.run_(3.0)
        self.assertFalse(self.alice.handler.held)
        self.assertEqual(100, len(bodies(self.bob)))

    def test_acknowledged_soon(self) -> None:
        """A sender with a full window waits for the other node, and not for a timer there."""
        while self.one.node.peers["two"].kept_bytes < 400_000:
            self.alice.say(message(full("bob"), "1" * 30_000))
            self.one.clock.advance(0)
        self.run_(0.1)  # less than an acknowledgement waits for more
        self.assertLess(self.one.node.peers["two"].kept_bytes, 349_526)

    def test_presence_does_not_fill_it(self) -> None:
        """
        A client that changes its presence all the time while the engine is away costs the
        others nothing, and its last presence is known afterwards.
        """
        self.alice.say(f"<presence to='{full('bob')}'/>")
        self.run_()
        self.cluster.engine_away()
        self.run_(0.1)
        carol = self.one.bound(self.cb1, "carol")
        carol.say(message(full("bob"), "1"))
        status = f"<status>{'x' * 100_000}</status>"
        for number in range(100):
            self.alice.say(f"<presence>{status}<priority>{number}</priority></presence>")
            self.run_(0.02)
        self.assertLess(self.one.node.peers["two"].kept_bytes, 5 * 1024 * 1024)
        self.alice.say(f"<presence type='unavailable' to='{full('bob')}'/>")
        self.alice.say("<presence><priority>7</priority></presence>")
        self.cluster.engine_back()
        self.run_(5.0)
        self.assertIn("1", bodies(self.bob))
        (alice,) = self.two.sessions.available(f"alice@{DOMAIN}")
        self.assertEqual((7, set()), (alice.priority, alice.directed))

    def test_component_is_answered(self) -> None:
        """A component is not held; what has no room is answered, and memory is bounded."""
        self.cluster.engine_away()
        self.run_(0.1)
        text = "x" * 10_000
        for number in range(600):
            raw = message(full("bob"), str(number)).replace("</body>", f"{text}</body>")
            self.cb1.say(raw.replace("<message ", f"<message from='cb1.{DOMAIN}' "))
        self.assertLess(self.one.node.peers["two"].kept_bytes, 5 * 1024 * 1024)
        self.run_(20.0)
        self.assertEqual(600, sum(s.type == "error" for s in self.cb1.received()))
        self.assertEqual(0, self.one.node.peers["two"].kept_bytes)


PING = ("urn:xmpp:ping", "ping")
