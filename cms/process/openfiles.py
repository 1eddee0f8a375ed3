"""
How many file descriptors this process may have: the limit is raised as far as allowed,
and a warning says if that is not enough.  Each connection needs one.
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
SELDOM = 60.0  # seconds between two warnings

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
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # one belongs to listdir


def connections_each(most: int, listeners: int) -> int:
    """
    How many connections each listener may have, so that all listeners and the other
    files of this process fit into the limit.

    @param most: What was asked for.
    """
    allowed = limit()
    room = allowed - min(OWN, allowed // 2)
    return max(1, min(most, room // max(1, listeners)))


def judge(file: object, key: str, asked: int, given: int, most: int) -> StepError | None:
    """
    A warning if the limit is too low for what the configuration asks for.

    @param given: Of C{asked}, what each listener gets.
    @param most: The limit.
    """
    if given >= asked:
        return None
    return faults.FILES_FEW.error(file=file, key=key, asked=asked, given=given, limit=most)


def told_few(file: object, key: str, asked: int, given: int) -> None:
    """Log a warning if the limit is too low for what the configuration asks for."""
    warning = judge(file, key, asked, given, limit())
    if warning is not None:
        log.warn("{cause} Cure: {cure}", **warning.fields)


class Complaint:
    """
    Logs that there are no more file descriptors, at most once in L{SELDOM}.

    @param clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: float | None = None

    def __call__(self) -> None:
        """A connection could not be accepted."""
        now = self._clock()
        if self._told is None or now - self._told >= SELDOM:
            self._told = now
            fault = faults.FILES_RUN_OUT.error(limit=limit())
            log.error("{step_text}: {cause} Cure: {cure}", **fault.fields)


def tell_when_out(clock: Callable[[], float]) -> None:
    """Log, now and then, that connections cannot be accepted for want of descriptors."""
    tell_of_use(Complaint(clock))
