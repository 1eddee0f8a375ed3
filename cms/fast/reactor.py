"""
Twisted's epoll reactor with two changes (docs/design/reactor.md).

I{It writes before it asks.}  Twisted registers a socket for writing, is told at once
that it is writable, writes, and unregisters it.  That takes two C{epoll_ctl} and one
more turn of the loop for each write.  Here everything written in a turn is sent at the
end of that turn.  A socket is registered only if it does not accept everything.

I{It polls before it sleeps.}  Waking an idle processor, above all a virtual one, costs
more than all the rest of a stanza's way.  After a turn with events, the reactor polls
for L{SPIN_SECONDS}, yielding the processor in between, and only then sleeps.  Where that brings
nothing, it is done in ever fewer turns.  An idle process sleeps as with Twisted's reactor.

Twisted's own tests pass on it, except those of a descriptor's log prefix, which it does
not set.

C{twistd --reactor=epoll} uses neither change, nor does a Twisted whose reactor has
other private parts.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log

from cms.fast.needs import Need, lacking

_EPOLL = "twisted.internet.epollreactor:EPollReactor"
NEEDS = (
    Need(_EPOLL, "__init__", "self"),
    Need(_EPOLL, "addWriter", "self, writer"),
    Need(_EPOLL, "removeWriter", "self, writer"),
    Need(_EPOLL, "getWriters", "self"),
    Need(_EPOLL, "removeAll", "self"),
    Need(_EPOLL, "runUntilCurrent", "self"),
    Need(_EPOLL, "doPoll", "self, timeout"),
    Need(_EPOLL, "_doReadOrWrite", "self, selectable, fd, event"),
    Need(_EPOLL, "_disconnectSelectable", "self, selectable, why, isRead, faildict=..."),
    Need(_EPOLL, "_justStopped"),
    Need(_EPOLL, "_poller"),
    Need(_EPOLL, "_selectables"),
)
ABSENT = lacking("Twisted", NEEDS, "Twisted's own reactor, which sends and sleeps more often")

SPIN_SECONDS = 50e-6
MOST_MISSED = 5  # 2**5 turns pass then, until it polls again
CROWDED_SECONDS = 15e-6  # yielding takes as long if another process runs, else 1e-6


class PromptReactor(EPollReactor):
    """
    See the module.

    @param spin: Seconds to poll; 0 to sleep at once.
    """

    def __init__(self, spin: float = 0.0) -> None:
        self._spin = spin
        self._busy = False
        self._missed = self._passed_over = 0
        self._unsent: dict[Any, None] = {}
        self._awaited: set[Any] = set()
        super().__init__()

    # writing

    def addWriter(self, writer: Any) -> None:
        """Send at the end of this turn; register the socket only if it is full."""
        if writer not in self._awaited:
            self._unsent[writer] = None

    def removeWriter(self, writer: Any) -> None:
        """Nothing is left to send."""
        self._unsent.pop(writer, None)
        if writer in self._awaited:
            self._awaited.discard(writer)
            super().removeWriter(writer)

    def getWriters(self) -> list[Any]:
        """Every writer that has something to send."""
        return [*super().getWriters(), *self._unsent]

    def removeAll(self) -> list[Any]:
        """See C{IReactorFDSet}."""
        unsent = [writer for writer in self._unsent if writer.fileno() not in self._selectables]
        self._unsent.clear()
        return [*super().removeAll(), *unsent]

    def runUntilCurrent(self) -> None:
        """
        Run the calls that are due, then send what this turn has left.

        Not in L{doPoll}: its time limit is computed before it is called, and sending may
        schedule calls that are due sooner.
        """
        super().runUntilCurrent()
        while self._unsent:
            self._send(next(iter(self._unsent)))
        if self._justStopped:
            super().runUntilCurrent()  # C{stop} was called meanwhile, and is heeded there only

    def _send(self, writer: Any) -> None:
        why: Any = None
        try:
            why = writer.doWrite()
        except BaseException:  # noqa: BLE001 - as Twisted does: logged, and its connection ends
            why = sys.exc_info()[1]
            log.err()
        if why:
            self._disconnectSelectable(writer, why, False)
            self._unsent.pop(writer, None)
        elif writer in self._unsent:
            del self._unsent[writer]
            self._awaited.add(writer)
            super().addWriter(writer)

    # waiting

    def doPoll(self, timeout: float | None) -> None:
        """Wait for something to happen, and handle it."""
        poll, most = self._poller.poll, len(self._selectables)
        try:
            events = self._look_again(timeout) if self._busy and self._pays() else None
            if not events:
                events = poll(-1 if timeout is None else timeout, most)
        except InterruptedError:
            return
        self._busy = bool(events) and self._spin > 0
        selectables, handle = self._selectables, self._doReadOrWrite
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is not None:
                handle(selectable, descriptor, event)

    doIteration = doPoll

    def _pays(self) -> bool:
        """Whether to poll: after some turns in which that brought nothing, only now and then."""
        if self._passed_over < (1 << self._missed) - 1:
            self._passed_over += 1
            return False
        self._passed_over = 0
        return True

    def _look_again(self, timeout: float | None) -> list[tuple[int, int]] | None:
        if timeout is not None and timeout <= self._spin:
            return None
        poll, most, clock = self._poller.poll, len(self._selectables), time.perf_counter
        events: list[tuple[int, int]] = poll(0, most)
        if events:
            return events
        now = clock()
        until = now + self._spin
        while now < until:
            before = now
            os.sched_yield()
            now = clock()
            if now - before > CROWDED_SECONDS:
                break  # another process wants the processor: do not compete for it
            events = poll(0, most)
            if events:
                self._missed = 0
                return events
        self._missed = min(self._missed + 1, MOST_MISSED)
        return events


def install(spin: float) -> None:
    """
    Make it the reactor of this process, unless there is one already.  If it cannot
    work, Twisted chooses its own.

    @param spin: See L{PromptReactor}.  With only one processor it is ignored: polling
        would keep the processor from the peer that the reactor waits for.
    """
    if not ABSENT and "twisted.internet.reactor" not in sys.modules:
        installReactor(PromptReactor(spin if (os.cpu_count() or 1) > 1 else 0.0))
