"""What becomes of syncs, for the administration: those begun there, and the last of each source."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred

from cms.admin.interfaces import Facts, moment
from cms.admin.ldapapi import NUMBERS
from cms.callbridge.directories.synced import SyncOutcome
from cms.process.threads import SlowWork
from cms.signalflow import StepError

MOST_KEPT = 50


class Syncing(Protocol):
    """The syncs of one directory: L{cms.callbridge.ldap.sync.Sync}."""

    def run(self, *, allow_removal: bool = False) -> Deferred[SyncOutcome]:
        """Sync now, or wait for the one under way."""
        ...


@define
class _Begun:
    """
    One that was begun by the administration.

    @ivar names: Of its directories.
    @ivar allows: Whether any number of users may be gone.
    @ivar source: The id of its source; empty for all.
    @ivar left: Of how many directories it has not ended.
    """

    names: frozenset[str]
    allows: bool
    source: str
    begun: float
    left: int
    ended: float | None = None
    numbers: dict[str, int] = field(factory=dict)
    problem: Facts | None = None

    @property
    def facts(self) -> Facts:
        """As the API has it."""
        state = "inProgress" if self.left else "complete" if self.problem is None else "failed"
        return {
            "ldapSource": self.source or None,
            "state": state,
            "begun": moment(self.begun),
            "ended": moment(self.ended),
            **self.numbers,
            "problem": self.problem,
        }


class SyncRecord:
    """
    @param syncs: Gives the syncs of now, by the name of their directory.
    @param outcome: What became of the last one of a directory; called in a thread.
    @param wall_clock: Seconds since the epoch.
    """

    def __init__(
        self,
        syncs: Callable[[], Mapping[str, Syncing]],
        outcome: Callable[[str], SyncOutcome | None],
        work: SlowWork,
        wall_clock: Callable[[], float],
        *,
        make_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._syncs = syncs
        self._outcome = outcome
        self._work = work
        self._wall_clock = wall_clock
        self._make_id = make_id
        self._begun: deque[tuple[str, _Begun]] = deque(maxlen=MOST_KEPT)

    def begin(self, sources: Mapping[str, str], *, allow_removal: bool) -> str:
        """
        Begin the syncs of these; who asks again meanwhile is told of the same.

        @param sources: Ids, by the names of their directories.
        @return: The id of the sync.
        """
        names = frozenset(sources)
        for id_, known in self._begun:
            if known.left and known.names == names and known.allows >= allow_removal:
                return id_
        syncs = [each for name, each in self._syncs().items() if name in sources]
        only = next(iter(sources.values())) if len(sources) == 1 else ""
        begun = _Begun(names, allow_removal, only, self._wall_clock(), len(syncs))
        id_ = self._make_id()
        self._begun.appendleft((id_, begun))
        for each in syncs:
            each.run(allow_removal=allow_removal).addCallbacks(
                self._complete, self._failed, callbackArgs=(begun,), errbackArgs=(begun,)
            )
        return id_

    def _complete(self, outcome: SyncOutcome, begun: _Begun) -> None:
        for name, number in _numbers(outcome).items():
            begun.numbers[name] = begun.numbers.get(name, 0) + number
        self._over(begun)

    def _failed(self, failure: Any, begun: _Begun) -> None:
        problem = failure.value
        if isinstance(problem, StepError):
            begun.problem = begun.problem or problem.as_dict()
        else:  # the daemon ends, or has other directories now
            begun.problem = begun.problem or {"cause": "it was given up", "cure": "Sync again."}
        self._over(begun)

    def _over(self, begun: _Begun) -> None:
        begun.left -= 1
        begun.ended = self._wall_clock()

    async def all(self, sources: Mapping[str, str]) -> list[tuple[str, Facts]]:
        """
        Those that were begun here, and the last of each source, the newest first.

        @param sources: Ids, by the names of their directories.
        """
        last = await self._work.run(lambda: [self._outcome(name) for name in sources])
        found = [(id_, begun.facts) for id_, begun in self._begun]
        for outcome in last:
            if outcome is not None:
                source = sources[outcome.directory]
                ended = datetime.fromisoformat(outcome.ended).timestamp()
                if not self._has_told(source, ended):
                    found.append(_by_timer(outcome, source, ended))
        return sorted(found, key=lambda item: str(item[1]["begun"]), reverse=True)

    def _has_told(self, source: str, ended: float) -> bool:
        """Whether one that was begun here is that one, or a later one."""
        mine = (begun for _, begun in self._begun if begun.source in ("", source))
        return any(begun.ended is not None and begun.ended >= ended for begun in mine)


def _by_timer(outcome: SyncOutcome, source: str, ended: float) -> tuple[str, Facts]:
    """One that nobody began here."""
    id_ = uuid.uuid5(uuid.NAMESPACE_URL, f"ldap-sync:{source}:{outcome.ended}")
    return str(id_), {
        "ldapSource": source,
        "state": "complete" if outcome.problem is None else "failed",
        "begun": moment(ended - outcome.seconds),
        "ended": moment(ended),
        **_numbers(outcome),
        "problem": outcome.problem,
    }


def _numbers(outcome: SyncOutcome) -> dict[str, int]:
    return {NUMBERS[name]: number for name, number in outcome.counts.items()}
