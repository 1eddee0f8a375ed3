"""What a stanza to another server costs, in calls of our own functions."""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from cms.cluster.entries import read_messages
from cms.cluster.peer import LATER_SECONDS, MOST_LATER, Peer
from cms.xmlstream.joined import Joined
from cms.xmpp import nodemessages as messages
from cms.xmpp import nodes
from tests.clustersimulation import STEP, Cluster, ClusterServer, bodies, full
from tests.test_cluster_nodes import TwoServers, message
from tests.test_xmpp_costs import CallbridgeEnd, calls, old_way
from tests.xmppserver import DOMAIN

MOST = 1_520  # calls of a log-in, in which some of the renewals of leases are
ARRIVED = nodes.Nodes.arrived


class StanzaTests(TwoServers):
    """From one client to another, after the first."""

    def sent(self, number: int) -> int:
        """Calls at the sender's server, until so many stanzas of one read are an entry."""
        read = (message(full("bob"), "1") * number).encode()
        counted = calls(partial(self.alice.stream.dataReceived, read))
        return counted + calls(partial(self.one.clock.advance, 0))

    def taken(self, number: int) -> int:
        """Calls at the receiver's server, from the entry to the client's transport."""
        peer = self.two.node.peers["one"]
        found: list[int] = []

        def count(these: nodes.Nodes, sender: object, data: bytes) -> None:
            found.append(calls(partial(ARRIVED, these, peer, data)))

        self.patch(nodes.Nodes, "arrived", count)
        self.sent(number)
        self.run_()
        self.assertEqual(number, len(bodies(self.bob)))
        (counted,) = found
        return counted

    def test_sent(self) -> None:
        """One or many that come together: they are one message in one entry."""
        self.sent(1)
        self.run_()
        for number in (1, 20):
            self.assertLessEqual(self.sent(number), 32)
            self.run_()

    def test_taken(self) -> None:
        """The receiver parses nothing: the entry names whom it is for."""
        self.sent(1)
        self.run_()
        bodies(self.bob)
        for number in (1, 20):
            self.assertLessEqual(self.taken(number), 10)

    def test_passed_on_whole(self) -> None:
        """What came joined leaves so: it is cut only for a client that acknowledges stanzas."""
        self.sent(1)
        self.run_()
        bodies(self.bob)
        self.patch(Joined, "_cut", lambda these: self.fail("it was cut"))
        self.sent(20)
        self.run_()
        self.assertEqual(20, len(bodies(self.bob)))


class DistantCallbridge(CallbridgeEnd):
    """A Callbridge at a server of a cluster, all of which goes on while bytes are carried."""

    def __init__(self, cluster: Cluster, server: ClusterServer) -> None:
        self._cluster = cluster
        super().__init__(server)

    def pump(self) -> None:
        """Carry bytes, and entries, for as long as these take."""
        for _ in range(8):
            super().pump()
            self._cluster.run(STEP)


class LoginTests(SynchronousTestCase):
    """A log-in at one server, which a Callbridge at another one decides."""

    def setUp(self) -> None:
        """What is said to another server is noted."""
        self.cluster = Cluster(delay=0.001)
        self.one, self.two = self.cluster.server("one"), self.cluster.server("two")
        self.callbridge = DistantCallbridge(self.cluster, self.one)
        self.cluster.run(1.0)
        self.said: list[list[int]] = []
        write = Peer.write

        def note(peer: Peer, data: bytes) -> None:
            self.said.append([kind for kind, _, _ in read_messages(data)])
            write(peer, data)

        self.patch(Peer, "write", note)

    def log_in(self) -> int:
        """Begin a session, and end it; how many calls that took at both servers."""
        client = self.two.client()
        conversation, answer, counted = old_way("SCRAM-SHA-256"), "", 0
        say: str | None = next(conversation)
        while say is not None:
            counted += calls(partial(client.stream.dataReceived, say.encode()))
            counted += calls(self.callbridge.pump)
            answer = client.transport.take()
            try:
                say = conversation.send(answer)
            except StopIteration:
                say = None
        self.assertIn("<enabled ", answer)
        (session,) = self.two.sessions.of(f"alice@{DOMAIN}")
        return counted + calls(session.end) + calls(self.callbridge.pump)

    def test_across(self) -> None:
        """Two questions and their answers, and that the session began and ended."""
        self.log_in()
        self.said.clear()
        self.assertLessEqual(self.log_in(), MOST)
        step = [[messages.ASK], [messages.ANSWER]]
        self.assertEqual([*step, *step, [messages.SESSION], [messages.SESSION_END]], self.said)

    def test_one_entry(self) -> None:
        """What a server says itself in one turn leaves together as well."""
        peer = self.two.node.peers["one"]
        for _ in range(2):
            peer.party.write(messages.told(messages.AGAIN, ""))
        self.assertEqual([], self.said)
        self.two.clock.advance(0)
        self.assertEqual([[messages.AGAIN] * 2], self.said)

    def test_end_waits_for_company(self) -> None:
        """Nobody waits for the end of a session: it leaves with what is said next, or soon."""
        self.log_in()
        self.said.clear()
        ended, peer = messages.told(messages.SESSION_END, "x"), self.two.node.peers["one"]
        peer.write_later(ended)
        self.two.clock.advance(0)
        self.assertEqual([], self.said)
        peer.party.write(messages.told(messages.AGAIN, ""))
        self.two.clock.advance(0)
        self.assertEqual([[messages.SESSION_END, messages.AGAIN]], self.said)
        peer.write_later(ended)
        self.two.clock.advance(LATER_SECONDS)
        self.two.clock.advance(0)
        self.assertEqual([messages.SESSION_END], self.said[1])
        for _ in range(MOST_LATER):
            peer.write_later(ended)
        self.two.clock.advance(0)
        self.assertEqual([messages.SESSION_END] * MOST_LATER, self.said[2])
