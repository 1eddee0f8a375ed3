"""The directories of now: those of the configuration file, and those that the API made since."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cms.callbridge.directories.directory import Directory
from cms.callbridge.directories.making import House
from cms.callbridge.directories.several import Directories
from cms.callbridge.directories.synced import SyncOutcome, SyncStore
from cms.callbridge.ldap.settings import LdapSettings
from cms.callbridge.ldap.sync import Sync
from cms.process.logs import Logger
from cms.process.threads import SlowWork
from cms.state.database import StoreUnusable

Made = tuple[LdapSettings, ...]


class CurrentHouse:
    """
    Implements L{cms.callbridge.ldap.administration.Directories}.

    @param make: All directories, with these after those of the file.
    @param made: Those that the API had made when the daemon started.
    @param former: Gives the store of before, if there is no LDAP any more.
    @param used: Called with what decides log-ins, when that is something else.
    @param ended: Called with names, and why their sessions are over.
    """

    log = Logger()

    def __init__(
        self,
        make: Callable[[Made], House],
        made: Made,
        reactor: Any,
        *,
        former: Callable[[], SyncStore | None],
        used: Callable[[Directory], object],
        ended: Callable[[Sequence[str], str], object],
    ) -> None:
        self._make = make
        self._house = make(made)
        self._store = self._house.store or former()
        self._work = SlowWork(reactor, at_once=1)
        self._used = used
        self._ended = ended

    @property
    def directory(self) -> Directory:
        """See L{House}."""
        return self._house.directory

    @property
    def syncs(self) -> Mapping[str, Sync]:
        """See L{House}."""
        return self._house.syncs

    @property
    def order(self) -> tuple[str, ...]:
        """See L{House}."""
        return self._house.order

    @property
    def store(self) -> SyncStore | None:
        """See L{House}; it stays when the last LDAP directory is deleted, or taken out."""
        return self._store

    def start(self) -> None:
        """Begin to sync, and say what does not work for everybody."""
        for warning in self._house.warnings:
            self.log.warn("WARNING: {cause} Cure: {cure}", **warning.fields)
        self._house.start()

    def reload(self) -> None:
        """See L{House.reload}."""
        self._house.reload()

    def close(self) -> None:
        """See L{House.close}."""
        self._house.close()

    async def use_made(self, made: Made) -> None:
        """
        From now on these are asked after those of the file, and no others.  A log-in that is
        under way may have to be tried again.

        @raise ConfigurationError: they cannot be used, and all stays as it was.
        """
        before, now = self._house, self._make(made)
        self._house, self._store = now, now.store or self._store
        self._used(now.directory)
        if now.directory.mechanisms != before.directory.mechanisms:
            self.log.warn(
                "other mechanisms work now ({mechanisms}); the XMPP server offers them when the"
                " link is made again: cms callbridge reconnect --even-if-up",
                mechanisms=", ".join(now.directory.mechanisms),
            )
        before.close()
        self.start()
        await self._forget([name for name in before.syncs if name not in now.syncs])

    async def _forget(self, gone: Sequence[str]) -> None:
        """The users of directories that are no more may not stay."""
        store, left = self._store, tuple(self.syncs)
        if store is None or not gone:
            return

        def forget() -> list[str]:
            users = [user.name for name in gone for user in store.users(name)]
            store.forget(["", *left])
            return users

        try:
            users = await self._work.run(forget)
        except StoreUnusable as problem:
            self.log.error("{step_text}: {cause} Cure: {cure}", **problem.fault.fields)
        else:
            self._ended(users, "deleted")

    async def beside(self, name: str) -> bool:
        """See L{Directories.has_beside}."""
        directory = self.directory
        return isinstance(directory, Directories) and await directory.has_beside(name)

    def outcome(self, name: str) -> SyncOutcome | None:
        """What became of the last sync of a directory; this blocks."""
        return None if self.store is None else self.store.outcome(name)
