"""
How many files this process may have open: as many as it is allowed, and said aloud when
they do not do.  Every connection is one.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from cms import faults
from cms.fast.reservedfile import tell_of_use
from cms.process.logs import Logger
from cms.signalflow import StepError

MOST = 1_048_576  # where "unlimited" is a thousand times that, Linux refuses it
OWN = 64  # stores, logs, listeners, resolver, links
SELDOM = 60.0  # seconds between two complaints

log = Logger()


def raise_limit() -> int:
    """
    Raise C{RLIMIT_NOFILE} as far as this process may.

    @return: How many files it may have open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MOST if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def in_use() -> int:
    """How many it has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # one is what looks


def places(most: int, listeners: int) -> int:
    """
    How many connections each of some listeners may have, so that all of them, and what
    else needs files, fit into the limit.

    @param most: What was asked for.
    """
    allowed = limit()
    room = allowed - min(OWN, allowed // 2)
    return max(1, min(most, room // max(1, listeners)))


def judge(file: object, key: str, asked: int, given: int, most: int) -> StepError | None:
    """
    A doubt where the limit does not hold what the configuration asks for.

    @param given: Of C{asked}, what each listener gets.
    @param most: The limit.
    """
    if given >= asked:
        return None
    return faults.FILES_FEW.error(file=file, key=key, asked=asked, given=given, limit=most)


def told_few(file: object, key: str, asked: int, given: int) -> None:
    """Say so where the limit does not hold what the configuration asks for."""
    doubt = judge(file, key, asked, given, limit())
    if doubt is not None:
        log.warn("{cause} Cure: {cure}", fault=doubt.fault, cause=doubt.cause, cure=doubt.cure)


class Complaint:
    """
    That files have run out: said at once, and again after a while.

    @param clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: float | None = None

    def __call__(self) -> None:
        """They have."""
        now = self._clock()
        if self._told is None or now - self._told >= SELDOM:
            self._told = now
            fault = faults.FILES_RUN_OUT.error(limit=limit())
            log.error(
                "{step_text}: {cause} Cure: {cure}",
                step=int(fault.step),
                step_text=str(fault.step),
                fault=fault.fault,
                cause=fault.cause,
                cure=fault.cure,
            )


def tell_when_out(clock: Callable[[], float]) -> None:
    """Complain, now and then, when connections cannot be accepted for want of files."""
    tell_of_use(Complaint(clock))
