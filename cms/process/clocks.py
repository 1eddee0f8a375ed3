"""
Two clocks.  Intervals are measured, and timers run, by one that only goes forward
(C{CLOCK_MONOTONIC}); dates come from the wall clock, which people and NTP set.

A reactor's C{seconds} is the first of the two once L{make_steady} has seen it, and its
C{wall_seconds} the second.  What has no C{wall_seconds}, such as Twisted's C{Clock} in
a test, has one clock for both.
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
    Let the timers of a reactor run by L{steady}; Twisted's own run by the wall clock.

    Calls that are scheduled already are as far away afterwards as before.
    """
    shift = steady() - reactor.seconds()
    reactor.seconds, reactor.wall_seconds = steady, wall
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = steady


def wall_clock(clock: IReactorTime) -> Callable[[], float]:
    """What tells the date beside a clock, in seconds since the epoch."""
    told: Callable[[], float] = getattr(clock, "wall_seconds", clock.seconds)
    return told


class Timeline:
    """
    The dates of what follows each other: the first is the wall clock's, and the others are
    as far from it as they really were, whatever is done to the wall clock meanwhile.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Something else begins: believe the wall clock again."""
        self._offset = wall_clock(self._clock)() - self._clock.seconds()

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._offset + self._clock.seconds()
