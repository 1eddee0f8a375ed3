"""A client that does not read holds those who write to it at other servers, and nobody else."""

from __future__ import annotations

import re

from cms.xmlstream import ns
from cms.xmlstream.flow import HOLD_BYTES, SendLimits
from tests.clustersimulation import bodies, full
from tests.support import MemoryTransport
from tests.test_cluster_deaths import Faults
from tests.test_cluster_handover import ENABLE
from tests.test_cluster_nodes import message
from tests.xmppserver import Peer

LANE_BYTES = 512 * 1024  # of one source, at a receiver
SIZE = 4_000


class PressureTests(Faults):
    """Alice and Carol write from the one server to Bob and Dora at the other."""

    def setUp(self) -> None:
        """Bob does not read."""
        super().setUp()
        self.carol = self.one.bound(self.cb1, "carol")
        self.dora = self.two.bound(self.cb2, "dora")
        self.run_()
        self.stop_reading(self.bob)
        self.number = 0

    def stop_reading(self, peer: Peer) -> None:
        """Its transport is full."""
        transport: MemoryTransport = peer.transport
        assert transport.producer is not None
        transport.producer.pauseProducing()

    def read_on(self, peer: Peer) -> None:
        """It has drained."""
        assert peer.transport.producer is not None
        peer.transport.producer.resumeProducing()

    def write(self, sender: Peer, to: str, most: int = 60) -> int:
        """As a client does: no more than the server reads; how many it has taken."""
        for number in range(most):
            if sender.handler.held:
                return number
            self.number += 1
            text = message(full(to), str(self.number))
            sender.say(text.replace("</body>", f"{'x' * SIZE}</body>"))
            self.run_(0.02)
        return most

    def waiting(self) -> int:
        """What waits for Bob."""
        return int(self.bob.handler.waiting_bytes)

    def test_held(self) -> None:
        """Who writes to him is held; memory is bounded; whoever writes to others is not."""
        taken = self.write(self.alice, "bob")
        self.assertLess(taken, 60)
        self.assertGreaterEqual(self.waiting(), HOLD_BYTES)
        self.assertLess(self.waiting(), LANE_BYTES)
        self.assertEqual([], bodies(self.alice))
        self.assertEqual(20, self.write(self.carol, "dora", 20))
        self.run_()
        self.assertEqual(20, len(bodies(self.dora)))
        self.assertFalse(self.carol.handler.held)
        self.assertFalse(self.bob.handler.held)  # it is not he who is held, but who writes

    def test_reads_again(self) -> None:
        """He reads again: all of it, in order, and she is read on."""
        taken = self.write(self.alice, "bob")
        self.assertTrue(self.alice.handler.held)
        self.read_on(self.bob)
        self.run_()
        self.assertFalse(self.alice.handler.held)
        heard = [body.rstrip("x") for body in bodies(self.bob)]
        self.assertEqual([str(number) for number in range(1, taken + 1)], heard)

    def test_moves(self) -> None:
        """She goes on at his server: he hears all in order, and she is held there, too."""
        self.alice.say(ENABLE)
        (previd,) = re.findall(r" id='([^']+)'", self.alice.heard())
        taken = self.write(self.alice, "bob")
        self.alice.transport.lose()
        client = self.two.logged_in(self.cb2, "alice")
        client.say(f"<resume xmlns='{ns.MANAGEMENT}' h='0' previd='{previd}'/>")
        self.run_()
        self.assertIn(f" h='{taken}'/>", client.heard())
        self.assertEqual(1, self.write(client, "bob"))
        self.read_on(self.bob)
        self.run_()
        self.assertFalse(client.handler.held)
        heard = [body.rstrip("x") for body in bodies(self.bob)]
        self.assertEqual([str(number) for number in range(1, taken + 2)], heard)

    def test_on_the_way(self) -> None:
        """A window full was on the way when she was held: he gets that, too."""
        texts = [message(full("bob"), str(number)) for number in range(1, 201)]
        for text in texts:
            self.alice.say(text.replace("</body>", f"{'x' * SIZE}</body>"))
        self.run_()
        self.assertTrue(self.alice.handler.held)
        self.assertGreater(self.waiting(), LANE_BYTES)
        self.read_on(self.bob)
        self.run_()
        self.assertEqual(200, len(bodies(self.bob)))
        self.assertEqual([], bodies(self.alice))
        self.assertFalse(self.alice.handler.held)

    def test_too_slow(self) -> None:
        """After a while nobody waits for him; what has no room then is answered."""
        self.write(self.alice, "bob")
        self.assertTrue(self.alice.handler.held)
        self.run_(5.5)
        self.assertFalse(self.alice.handler.held)
        self.write(self.alice, "bob", 200)
        self.assertLess(self.waiting(), LANE_BYTES + SIZE)
        self.assertNotEqual([], [each for each in bodies(self.alice) if each.startswith("!")])

    def test_patient(self) -> None:
        """Where receivers are waited for longer, she is held as long as that."""
        self.bob.handler.limits = SendLimits(patience=20.0)
        self.write(self.alice, "bob")
        self.run_(15.0)
        self.assertTrue(self.alice.handler.held)
        self.run_(6.0)
        self.assertFalse(self.alice.handler.held)

    def test_dies(self) -> None:
        """He is gone: she is read on, and what he never got is answered."""
        taken = self.write(self.alice, "bob")
        self.bob.transport.lose()
        self.run_(0.5)
        self.assertFalse(self.alice.handler.held)
        self.assertEqual(taken, len([b for b in bodies(self.alice) if b.startswith("!")]))

    def test_his_server_dies(self) -> None:
        """Nobody says any more that she is to be read on."""
        self.write(self.alice, "bob")
        self.assertTrue(self.alice.handler.held)
        self.cluster.kill(self.two)
        self.run_(5.1)
        self.assertFalse(self.alice.handler.held)

    def test_she_leaves(self) -> None:
        """Nothing is said of a client that is there no more, nor kept for it."""
        self.write(self.alice, "bob")
        self.alice.transport.lose()
        self.run_(3.0)
        self.read_on(self.bob)
        self.run_()
        (neighbour,) = self.two.nodes._neighbours.values()
        self.assertEqual({}, neighbour.writers.found)

    def test_told_anew(self) -> None:
        """What one server knew of the other is forgotten: nobody stays held by that."""
        self.write(self.alice, "bob")
        self.two.node.peers["one"].restart()
        self.run_()
        self.assertTrue(self.alice.handler.held)
        self.read_on(self.bob)
        self.run_()
        self.assertFalse(self.alice.handler.held)
