"""A party of the flow control that changes what it speaks over, or has nothing."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream.flow import HOLD_BYTES, Party, SendLimits
from cms.xmlstream.gathering import GATHERED_BYTES, Gathering
from tests.support import one_stanza


class Line:
    """A connection that notes what is done with it."""

    def __init__(self) -> None:
        self.out = Gathering()
        self.out.to = self
        self.written = b""
        self.is_read = True
        self.given_up = False

    def write(self, data: bytes) -> None:
        """What leaves."""
        self.written += data

    def read_no_further(self) -> None:
        """See L{Carrier<cms.xmlstream.flow.Carrier>}."""
        self.is_read = False

    def read_on(self) -> None:
        """See L{Carrier<cms.xmlstream.flow.Carrier>}."""
        self.is_read = True

    def too_slow(self) -> None:
        """See L{Carrier<cms.xmlstream.flow.Carrier>}."""
        self.given_up = True


class PartyTests(SynchronousTestCase):
    """L{Party}."""

    def setUp(self) -> None:
        """Two of them."""
        self.clock = Clock()
        self.alice, self.alices = self.party()
        self.bob, self.bobs = self.party()

    def party(self) -> tuple[Party, Line]:
        """One that is open, and its connection."""
        party, line = Party(self.clock, SendLimits(size=4 * HOLD_BYTES)), Line()
        party.attach(line)
        party.is_open = True
        return party, line

    def fill(self) -> None:
        """Bob does not read, and Alice writes to him until she is held."""
        self.bob.pause()
        while self.alices.is_read:
            self.assertEqual((), tuple(self.bob.deliver([b"x" * 1_000], self.alice)))

    def test_without_connection(self) -> None:
        """What is written to one that has none waits for the next, its own words first."""
        self.bob.detach()
        self.bob.deliver([b"<a/>", b"<b/>"], self.alice)
        self.bob.send(one_stanza("<c/>"))
        self.assertEqual(b"", self.bobs.written)
        self.assertEqual((12, True), (self.bob.waiting_bytes, self.bob.is_slow))
        again = Line()
        self.bob.attach(again)
        self.assertEqual((b"", b"<c/><a/><b/>"), (self.bobs.written, again.written))
        self.bob.deliver([b"<d/>"], self.alice)
        self.assertTrue(again.written.endswith(b"<d/>"))

    def test_bounded_without_connection(self) -> None:
        """It is bounded as for one that does not read; nobody ends, and no timer runs."""
        self.bob.detach()
        refused = 0
        for _ in range(1_000):
            refused += len(self.bob.deliver([b"x" * 1_000], self.alice))
        self.assertLessEqual(self.bob.waiting_bytes, 2 * HOLD_BYTES)
        self.assertEqual(1_000, refused + self.bob.waiting_bytes // 1_000)
        self.assertFalse(self.bobs.given_up)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_lost_while_held(self) -> None:
        """Who waited for it is read on when its connection goes."""
        self.fill()
        self.bob.detach()
        self.assertTrue(self.alices.is_read)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_held_and_moved(self) -> None:
        """Who is held stays so on another connection, until what it wrote was read."""
        self.fill()
        self.alice.detach()
        again = Line()
        self.alice.attach(again)
        self.assertFalse(again.is_read)
        self.bob.resume()
        self.assertTrue(again.is_read)

    def test_succeeds(self) -> None:
        """What another had to say on a connection that takes nothing is said before the rest."""
        before, line = self.party()
        before.pause()
        before.write(b"<features/>")
        heir = Party(self.clock)
        heir.is_open = True
        heir.deliver([b"<a/>"], self.alice)  # as to a session that waits to be resumed
        self.clock.advance(1)
        heir.succeed(before)
        self.assertEqual((b"", False), (line.written, before.is_open))
        self.clock.advance(3)
        self.assertFalse(heir.is_stalled)
        self.clock.advance(1)
        self.assertTrue(heir.is_stalled)  # counted from when the connection took nothing
        heir.resume()
        self.assertEqual(b"<features/><a/>", line.written)

    def test_left(self) -> None:
        """One that has left takes nothing, holds nobody, and is heard to its end."""
        self.fill()
        self.alice.pause()
        self.bob.deliver([b"x"], self.alice)
        self.bob.leave()
        self.assertTrue(self.alices.is_read)
        self.assertEqual((), self.bob.deliver([b"<a/>"], self.alice))
        self.assertEqual(0, self.bob.waiting_bytes)
        self.setUp()
        self.fill()
        self.alice.leave()
        self.assertTrue(self.alices.is_read)
        self.assertFalse(self.alice.held)


class GatheringTests(SynchronousTestCase):
    """L{Gathering}."""

    def test_nowhere(self) -> None:
        """Without a connection nothing is kept."""
        out = Gathering()
        out.write(b"a")
        out.pieces = []
        out.write(b"b" * GATHERED_BYTES)
        out.end()
        out.to = line = Line()
        out.write(b"c")
        self.assertEqual(b"c", line.written)
