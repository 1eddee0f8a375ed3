"""The LDAP directories as their administration sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from attrs import asdict, frozen
from twisted.internet.defer import CancelledError

from cms.admin.interfaces import Facts
from cms.callbridge.directories.synced import SyncStore
from cms.callbridge.ldap.sync import Sync
from cms.signalflow import StepError


class Syncs(Protocol):
    """
    The syncs of now: L{House<cms.callbridge.directories.making.House>}.

    @ivar syncs: By the name of the directory.
    @ivar store: What they found; C{None} if there are none.
    """

    @property
    def syncs(self) -> Mapping[str, Sync]: ...

    @property
    def store(self) -> SyncStore | None: ...


@frozen
class SyncAdministration:
    """Implements L{Synced<cms.admin.directoriesapi.Synced>}."""

    house: Syncs

    def names(self) -> Sequence[str]:
        """See L{cms.admin.directoriesapi.Synced.names}."""
        return tuple(self.house.syncs)

    def sync(self, name: str, *, allow_removal: bool) -> None:
        """See L{cms.admin.directoriesapi.Synced.sync}."""
        # A failure is in the log and in the facts; nobody waits for it here.
        answer = self.house.syncs[name].run(allow_removal=allow_removal)
        answer.addErrback(lambda failure: failure.trap(StepError, CancelledError))

    def facts(self, name: str, *, whole: bool) -> Facts:
        """See L{cms.admin.directoriesapi.Synced.facts}."""
        sync, store = self.house.syncs[name], self.house.store
        last = None if store is None else store.outcome(name)
        running = sync.running is not None
        facts: dict[str, object] = {"name": name, "running": running}
        if sync.next is not None:
            facts["nextSeconds"] = max(0, round(sync.next))
        if last is not None:
            found = asdict(last)
            del found["directory"]
            facts["leftOut"] = found.pop("left_out")
            facts |= {key: value for key, value in found.items() if value not in ("", None)}
        if whole and store is not None:
            facts["leftOutEntries"] = [asdict(each) for each in store.left_out(name)]
        return facts
