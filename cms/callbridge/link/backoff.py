"""How long the link waits between two rounds; docs/link-states.md has the figures."""

from __future__ import annotations

from random import Random

from attrs import define
from twisted.application.internet import backoffPolicy

from cms.callbridge.config import Timing

AT_ONCE = 0.2  # seconds at the most, so that many Callbridges do not come in step
PROVEN = 5.0  # seconds that a link must have lived for its end to be no flapping


@define
class Backoff:
    """
    Counts what went wrong, and answers with the seconds to wait for it.

    @ivar failures: Rounds that failed since the link was last stable.
    @ivar refusals: Rounds in a row in which ID or secret were refused.
    @ivar flaps: Links in a row that ended as soon as they were up.
    """

    timing: Timing
    random: Random
    failures: int = 0
    refusals: int = 0
    flaps: int = 0

    def forget(self) -> None:
        """Other settings: nothing is known of them yet."""
        self.failures = self.refusals = self.flaps = 0

    def after_link(self, lived: float) -> float:
        """
        A link that had been up is sought again at once, elsewhere if need be;
        one that ends again and again as soon as it is up is not.

        @param lived: Seconds that it was up.
        """
        self.refusals = 0
        if lived >= self.timing.stable:
            self.failures = 0
        self.flaps = 0 if lived >= PROVEN else self.flaps + 1
        if self.flaps < 2:
            return self.random.random() * AT_ONCE
        return self._doubled(self.timing.first_delay, self.timing.most_delay, self.flaps - 2)

    def after_silence(self) -> float:
        """
        No server could be reached, which costs none of them anything.  One that
        restarts is found within 2 s, however long it was away: half of the delay
        is drawn, so that many Callbridges spread.

        The server that is away explains why links ended early: that was no flapping.
        """
        self.flaps = 0
        return self.timing.unreachable_delay * (0.5 + self.random.random())

    def after_failure(self) -> float:
        """A server was reached, and could not be registered with."""
        self.failures += 1
        return self._doubled(self.timing.first_delay, self.timing.most_delay, self.failures - 1)

    def after_refusal(self) -> float:
        """
        ID or secret were refused.  Somebody must mend them, and may do so on
        the server, so it is tried for ever, but seldom.
        """
        self.refusals += 1
        timing = self.timing
        return self._doubled(timing.refused_delay, timing.most_refused_delay, self.refusals - 1)

    def _doubled(self, first: float, most: float, times: int) -> float:
        """With up to 1 s at random, so that many Callbridges spread."""
        return float(backoffPolicy(first, most, 2.0, self.random.random)(times))
