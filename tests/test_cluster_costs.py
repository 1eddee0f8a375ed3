"""What a stanza to another server costs, in calls of our own functions."""

from __future__ import annotations

from functools import partial

from cms.xmlstream.joined import Joined
from cms.xmpp import nodes
from tests.clustersimulation import bodies, full
from tests.test_cluster_nodes import TwoServers, message
from tests.test_xmpp_costs import calls

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
