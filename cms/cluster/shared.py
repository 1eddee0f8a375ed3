"""
Records that all nodes share: each has its own copy, and the engine has one that they meet at.

A record has a name and a stamp, and the later stamp counts.  A node compares its copy with the
engine's when it joins, when the version that a renewal of its lease brings is another one, and
when it has changed something itself.  So nothing depends on a notification, who was cut off
meets the others when it is back, and an engine that has lost its data gets them again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from cms.cluster.engine import Engine, EngineAway, Refused, Table
from cms.process.logs import Logger

MOST_RECORDS: Final = 10_000
MOST_BYTES: Final = 65_536  # of one
_STAMP = re.compile(rb"([0-9]{1,15}) ")


class Untaken(Exception):
    """The copy cannot be read or written now, which it has told."""


class Copy(Protocol):
    """This node's copy, on its disk."""

    def held(self) -> Mapping[str, bytes]:
        """
        All of it: by name C{STAMP}, a space, and what only this class understands.

        @raise Untaken: it cannot be read.
        """
        ...

    def take(self, records: Mapping[str, bytes], *, first: bool) -> Deferred[None]:
        """
        These are newer than what it has.  May fail with L{Untaken}.

        @param first: Whether this process has not compared them before.
        """
        ...


def stamp_of(record: bytes | None) -> int:
    """Its stamp; -1: there is none, or it is no record."""
    found = None if record is None else _STAMP.match(record)
    return -1 if found is None else int(found[1])


class Shared:
    """
    Keeps this node's copy and the engine's the same.

    @ivar is_agreed: Whether the engine has what has changed here.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, engine: Engine, copy: Copy) -> None:
        self._clock = clock
        self._engine = engine
        self._copy = copy
        self._known: tuple[str, str] | None = None  # epoch and version
        self._table: Table | None = None
        self._stamps: dict[str, int] = {}  # of this node's copy, when it was compared
        self._changed = True
        self._running: Deferred[None] | None = None
        self._failed = False  # it is tried again when the lease is renewed
        self._waiting: list[tuple[Deferred[bool], IDelayedCall]] = []

    @property
    def is_agreed(self) -> bool:
        """See the class."""
        return self._known is not None and not self._changed and self._table is not None

    def renewed(self, table: Table) -> None:
        """The lease was renewed, or the node has joined."""
        self._table = table
        if self._known is not None and self._known[0] != table.epoch:
            self._changed = True  # the engine may have nothing
        self._look()

    def changed(self) -> None:
        """This node's copy has changed, or may have."""
        try:
            if not self._changed and _stamps(self._copy.held()) == self._stamps:
                return
        except Untaken:
            pass  # it is looked at when the lease is renewed
        self._changed = True
        self._look()

    def agreed(self, seconds: float) -> Deferred[bool]:
        """Fires with whether both are the same, at once or within so many seconds."""
        if self.is_agreed:
            return succeed(True)
        answer: Deferred[bool] = Deferred()
        self._waiting.append((answer, self._clock.callLater(seconds, self._late, answer)))
        return answer

    def _late(self, answer: Deferred[bool]) -> None:
        self._waiting = [each for each in self._waiting if each[0] is not answer]
        answer.callback(False)

    def stop(self) -> None:
        """Nothing is compared any more."""
        self._table = None
        waiting, self._waiting = self._waiting, []
        for answer, timer in waiting:
            timer.cancel()
            answer.callback(False)
        if self._running is not None:
            self._running.cancel()

    def _look(self) -> None:
        if self._table is None or self._running is not None:
            return
        if self._changed or self._known != _version(self._table):
            self._failed = False
            running = self._running = Deferred.fromCoroutine(self._agree(self._table))
            running.addErrback(self._not_agreed)
            running.addBoth(self._ended)

    def _not_agreed(self, failure: Failure) -> None:
        self._changed = self._failed = True
        if not failure.check(CancelledError, EngineAway, Refused, Untaken):  # told elsewhere
            self.log.failure("the Callbridges of the cluster were not compared", failure)

    def _ended(self, _: object) -> None:
        self._running = None
        if self._failed:
            return
        if self.is_agreed:
            waiting, self._waiting = self._waiting, []
            for answer, timer in waiting:
                timer.cancel()
                answer.callback(True)
        self._look()

    async def _agree(self, table: Table) -> None:
        """Take what is newer there, and put there what is newer here."""
        there = await self._engine.records()
        here = self._copy.held()
        newer = {
            name: record
            for name, record in list(there.items())[:MOST_RECORDS]
            if stamp_of(record) > stamp_of(here.get(name)) and len(record) <= MOST_BYTES
        }
        if newer:
            await self._copy.take(newer, first=self._known is None)
        older = {n: r for n, r in here.items() if stamp_of(r) > stamp_of(there.get(n))}
        if older:
            await self._engine.share(older)
        self._stamps = _stamps(here)
        self._changed = _stamps(self._copy.held()) != self._stamps  # also by what was taken
        self._known = _version(table)


def _stamps(records: Mapping[str, bytes]) -> dict[str, int]:
    return {name: stamp_of(record) for name, record in records.items()}


def _version(table: Table) -> tuple[str, str]:
    return table.epoch, table.shared
