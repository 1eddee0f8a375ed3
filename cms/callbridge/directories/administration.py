"""The user directories as their administration sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import asdict, frozen

from cms.admin.busy import answered
from cms.admin.interfaces import Facts
from cms.callbridge.directories.synced import SyncStore
from cms.callbridge.ldap.sync import Sync
from cms.process.threads import SlowWork
from cms.web.refusal import Refused


class Known(Protocol):
    """
    The directories of now: L{House<cms.callbridge.directories.making.House>}.

    @ivar order: The names of all.
    @ivar syncs: Of those that are synchronised, by name.
    @ivar store: What the syncs found; C{None} if there are none.
    """

    @property
    def order(self) -> Sequence[str]: ...

    @property
    def syncs(self) -> Mapping[str, Sync]: ...

    @property
    def store(self) -> SyncStore | None: ...


class Begin(Protocol):
    """Begins the sync of a directory: L{LdapAdministration.sync_directory}."""

    def __call__(self, name: str, *, allow_removal: bool) -> object: ...


@frozen
class DirectoryAdministration:
    """
    Implements L{cms.admin.directoriesapi.DirectoriesRole}.

    @param begin: Begins a sync.
    @param local: How many users are stored here; called in a thread.
    """

    house: Known
    begin: Begin
    local: Callable[[], int]
    work: SlowWork

    async def all(self) -> Sequence[Facts]:
        """See L{cms.admin.directoriesapi.DirectoriesRole.all}."""
        house, names = self.house, tuple(self.house.order)
        now = [_state(name, house.syncs) for name in names]
        store, local = house.store, self.local
        found = await answered(
            self.work.run(lambda: [_found(state, store, local) for state in now])
        )
        return [{**state, **facts} for state, facts in zip(now, found, strict=True)]

    async def one(self, name: str) -> Facts:
        """See L{cms.admin.directoriesapi.DirectoriesRole.one}."""
        self._known(name)
        state, store, local = _state(name, self.house.syncs), self.house.store, self.local

        def whole() -> Facts:
            facts = _found(state, store, local)
            if store is None or state["kind"] == "local":
                return facts
            return {**facts, "leftOutEntries": [asdict(each) for each in store.left_out(name)]}

        return {**state, **await answered(self.work.run(whole))}

    def sync(self, name: str, *, allow_removal: bool) -> None:
        """See L{cms.admin.directoriesapi.DirectoriesRole.sync}."""
        self._known(name)
        if name not in self.house.syncs:
            cure = "Change its users by cms callbridge user, or the page Users."
            raise Refused("directoryIsLocal", "the users of this directory are stored here", cure)
        self.begin(name, allow_removal=allow_removal)

    def _known(self, name: str) -> None:
        if name not in self.house.order:
            cure = "Take a name that cms callbridge directory status lists."
            cure += " One that callbridge.toml has got meanwhile counts when it is started again."
            raise Refused("directoryDoesNotExist", "there is no directory of this name", cure)


def failing(syncs: Mapping[str, Sync]) -> Facts:
    """For the status: directories none of whose servers can be used; nothing if there is none."""
    problems = [sync.directory.servers.problem for sync in syncs.values()]
    told = [problem.as_dict() for problem in problems if problem is not None]
    return {"directoryProblems": told} if told else {}


def _state(name: str, syncs: Mapping[str, Sync]) -> Facts:
    """How a directory is at this moment."""
    sync = syncs.get(name)
    if sync is None:
        return {"name": name, "kind": "local", "running": False}
    connected = sync.directory.connected
    servers = [
        {
            "address": str(state.server),
            "connections": connected.get(str(state.server), 0),
            "problem": state.problem and state.problem.as_dict(),
        }
        for state in sync.directory.servers.states
    ]
    return {
        "name": name,
        "kind": "ldap",
        "servers": servers,
        "running": sync.running is not None,
        "entriesRead": sync.running,
        "nextSeconds": None if sync.next is None else max(0, round(sync.next)),
    }


def _found(state: Facts, store: SyncStore | None, local: Callable[[], int]) -> Facts:
    """What is stored of it; in a thread."""
    if state["kind"] == "local":
        return {"users": local()}
    last = None if store is None else store.outcome(str(state["name"]))
    if last is None:
        return {}
    return {
        "ended": last.ended,
        "succeeded": last.succeeded or None,
        "seconds": last.seconds,
        **last.counts,
        "problem": last.problem,
    }
