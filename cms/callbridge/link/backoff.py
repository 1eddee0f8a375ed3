"""How long the link waits between two attempts (docs/link-states.md)."""

from __future__ import annotations

from random import Random

from attrs import define
from twisted.application.internet import backoffPolicy

from cms.callbridge.config import Timing

AT_ONCE = 0.2  # seconds at most, so that many Callbridges do not come at the same time
PROVEN = 5.0  # seconds that a link must have been up, or its end counts as flapping


@define
class Backoff:
    """
    Counts failures and gives the seconds to wait after each.

    @ivar failures: Attempts that failed since the link was last stable.
    @ivar refusals: Attempts in a row in which ID or secret were refused.
    @ivar flaps: Links in a row that ended as soon as they were up.
    """

    timing: Timing
    random: Random
    failures: int = 0
    refusals: int = 0
    flaps: int = 0

    def forget(self) -> None:
        """There are other settings: reset all counts."""
        self.failures = self.refusals = self.flaps = 0

    def after_link(self, lived: float) -> float:
        """
        After the end of a link that was up the next attempt comes at once.  If links end
        again and again as soon as they are up, the delays double.

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
        No server could be reached.  The delay does not grow, since attempts cost an absent
        server nothing.  So a server that restarts is found within 2 s, however long it was
        away.  Half of the delay is random, so that many Callbridges spread.

        An absent server explains why links ended early, so they do not count as flapping.
        """
        self.flaps = 0
        return self.timing.unreachable_delay * (0.5 + self.random.random())

    def after_failure(self) -> float:
        """A server was reached, but registration failed."""
        self.failures += 1
        return self._doubled(self.timing.first_delay, self.timing.most_delay, self.failures - 1)

    def after_refusal(self) -> float:
        """
        ID or secret were refused.  Somebody must correct them, perhaps at the server.  So
        attempts go on, but seldom.
        """
        self.refusals += 1
        timing = self.timing
        return self._doubled(timing.refused_delay, timing.most_refused_delay, self.refusals - 1)

    def _doubled(self, first: float, most: float, times: int) -> float:
        """A doubling delay plus up to 1 s at random, so that many Callbridges spread."""
        return float(backoffPolicy(first, most, 2.0, self.random.random)(times))
