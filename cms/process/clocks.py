"""
Two clocks.  Intervals and timers use a clock that only goes forward
(C{CLOCK_MONOTONIC}).  Dates use the wall clock, which people and NTP set.

After L{make_steady} a reactor's C{seconds} is the first clock and its C{wall_seconds}
the second.  Without C{wall_seconds}, as with Twisted's C{Clock} in a test, one clock
serves for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

steady: Callable[[], float] = time.monotonic
wall: Callable[[], float] = time.time


def make_steady(reactor: Any) -> None:
    """
    Make the timers of a reactor use L{steady}.  Twisted's own use the wall clock.

    The delay of calls that are already scheduled does not change.
    """
    shift = steady() - reactor.seconds()
    reactor.seconds, reactor.wall_seconds = steady, wall
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = steady


def wall_clock(clock: IReactorTime) -> Callable[[], float]:
    """The wall clock that belongs to a clock, in seconds since the epoch."""
    told: Callable[[], float] = getattr(clock, "wall_seconds", clock.seconds)
    return told


class Timeline:
    """
    The dates of a series of events.  The first comes from the wall clock.  The others are
    as long after it as they really were, even if the wall clock is set meanwhile.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Another series begins: take the wall clock's time again."""
        self._offset = wall_clock(self._clock)() - self._clock.seconds()

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._offset + self._clock.seconds()
