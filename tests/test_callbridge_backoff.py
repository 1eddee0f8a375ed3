"""How long the link waits between two rounds."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.config import Timing
from cms.callbridge.link.backoff import AT_ONCE, PROVEN, Backoff


class Draw(Random):
    """Draws what it is told to."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        """The next number."""
        return self.value


class BackoffTests(SynchronousTestCase):
    """The figures of docs/link-states.md."""

    def setUp(self) -> None:
        """No jitter, so that the figures are exact."""
        self.backoff = Backoff(Timing(), Draw(0.0))

    def test_failures(self) -> None:
        """Failed rounds double the delay, up to a minute."""
        delays = [self.backoff.after_failure() for _ in range(9)]
        self.assertEqual([1, 2, 4, 8, 16, 32, 60, 60, 60], delays)

    def test_refusals(self) -> None:
        """Refused credentials are tried again for ever, but seldom."""
        delays = [self.backoff.after_refusal() for _ in range(7)]
        self.assertEqual([15, 30, 60, 120, 240, 300, 300], delays)

    def test_unreachable(self) -> None:
        """A server that is away is looked for every second or so, however long it takes."""
        for drawn, expected in ((0.0, 0.5), (0.5, 1.0), (0.999, 1.499)):
            backoff = Backoff(Timing(), Draw(drawn))
            delays = {round(backoff.after_silence(), 3) for _ in range(1_000)}
            self.assertEqual({expected}, delays)

    def test_restarts_are_no_flapping(self) -> None:
        """Links that ended early because their server was away do not count against it."""
        for _ in range(5):
            self.assertEqual(0, self.backoff.after_link(0.1))
            self.backoff.after_silence()

    def test_jitter(self) -> None:
        """Each delay has up to a second at random on top."""
        backoff = Backoff(Timing(), Draw(0.5))
        self.assertEqual(1.5, backoff.after_failure())
        self.assertEqual(15.5, backoff.after_refusal())
        self.assertEqual(0.5 * AT_ONCE, backoff.after_link(100))

    def test_at_once(self) -> None:
        """A link that had been up is sought again at once, every time."""
        backoff = Backoff(Timing(), Draw(0.999))
        for _ in range(9):
            self.assertLess(backoff.after_link(PROVEN), AT_ONCE)

    def test_flapping(self) -> None:
        """One that ends as soon as it is up is sought ever more slowly, until it lasts."""
        delays = [self.backoff.after_link(0.1) for _ in range(5)]
        self.assertEqual([0, 1, 2, 4, 8], delays)
        self.assertEqual(0, self.backoff.after_link(PROVEN))
        self.assertEqual(0, self.backoff.after_link(0.1))

    def test_stability_forgives(self) -> None:
        """Only a link that was stable makes earlier failures forgotten."""
        for lived, expected in ((59.9, 4), (60.0, 1)):
            self.backoff.forget()
            self.backoff.after_failure()
            self.backoff.after_failure()
            self.backoff.after_link(lived)
            self.assertEqual(expected, self.backoff.after_failure())

    def test_registration_forgives_refusals(self) -> None:
        """Once the credentials were accepted, a later refusal counts as the first."""
        for _ in range(4):
            self.backoff.after_refusal()
        self.backoff.after_link(1)
        self.assertEqual(15, self.backoff.after_refusal())

    def test_forget(self) -> None:
        """New settings begin anew."""
        for _ in range(3):
            self.backoff.after_failure()
            self.backoff.after_refusal()
            self.backoff.after_link(0)
        self.backoff.forget()
        self.assertEqual(Backoff(Timing(), self.backoff.random), self.backoff)

    @given(
        st.lists(st.sampled_from(("failure", "refusal", "silence", "up", "flap")), max_size=2_000)
    )
    def test_bounds(self, events: list[str]) -> None:
        """Whatever happens, and however often, no delay leaves its bounds."""
        backoff = Backoff(Timing(), Random(1))
        for event in events:
            if event == "failure":
                self.assertTrue(1 <= backoff.after_failure() <= 61)
            elif event == "silence":
                self.assertTrue(0.5 <= backoff.after_silence() <= 1.5)
            elif event == "refusal":
                self.assertTrue(15 <= backoff.after_refusal() <= 301)
            else:
                self.assertTrue(0 <= backoff.after_link(600 if event == "up" else 1) <= 61)
