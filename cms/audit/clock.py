"""Whether this host's clock can be right, and agrees with a peer's."""

from __future__ import annotations

from datetime import UTC, datetime

from cms import faults
from cms.audit.finding import Finding, failed, passed
from cms.signalflow import Step, StepError
from cms.trust.facts import when

WRITTEN = datetime(2025, 1, 1, tzinfo=UTC)  # no clock is right before this program existed
MOST_APART = 60.0  # seconds; certificates and tokens are rarely judged more finely


def audit_clock(now: datetime) -> Finding:
    """Whether this host's clock can be right; if not, no date can be judged by it."""
    if now >= WRITTEN:
        return passed(Step.CONFIGURATION, "clock", {"now": when(now)})
    problem = "this program is younger"
    return failed(faults.CLOCK_WRONG.error(now=when(now), problem=problem), "clock")


def judge_clock(told: datetime, now: float, peer: str) -> StepError | None:
    """
    A warning when two clocks are apart.

    @param now: Seconds since the epoch, by this host's clock.
    """
    apart = told.timestamp() - now
    if abs(apart) <= MOST_APART:
        return None
    shown = f"{abs(apart):.0f}"
    ahead = "peer" if apart > 0 else "this host"
    return faults.CLOCK_APART.error(peer=peer, seconds=shown, told=told.isoformat(), ahead=ahead)
