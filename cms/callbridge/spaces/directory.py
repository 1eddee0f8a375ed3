"""
Where spaces are looked up and changed: a small interface, and the local store behind it.

A store that several Callbridges share is another L{Spaces}: nothing else knows that
there is a file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed

from cms.callbridge.spaces.model import Entry, Space, Way
from cms.callbridge.spaces.rows import WayBy, find_entry, find_spaces_of, find_way
from cms.callbridge.spaces.store import SpaceStore
from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.process.threads import SlowWork
from cms.state.database import Reader

MOST_LISTED = 200  # spaces of one member, in service discovery

_T = TypeVar("_T")


class Spaces(Protocol):
    """
    What the rooms ask of the spaces.  Its answers can be waited for; they fail with
    L{StoreError<cms.state.database.StoreError>} or
    L{TooMuchWork<cms.process.threads.TooMuchWork>} where there are none now.

    @ivar occupant_key: The secret behind the occupant ids (XEP-0421): the same at all
        Callbridges that share the spaces.
    @ivar on_change: Called with the id of a space that was changed or deleted, its
        members included, whoever did it: what an occupant may do is looked up anew.
    """

    occupant_key: bytes
    on_change: list[Callable[[str], object]]

    def entry(self, uri: str, jid: str) -> Deferred[Entry | None]:
        """
        What decides whether an account may enter.

        @param uri: The prepared local part of a space's, or an access method's, address.
        @param jid: A bare address, prepared.
        @return: Fires with C{None} where there is no such space.
        """
        ...

    def way(self, by: WayBy, value: str) -> Deferred[Way | None]:
        """
        A way by which guests come, by its call ID, its secret or its id.

        @return: Fires with C{None} where there is none, after as much work.
        """
        ...

    def spaces_of(self, jid: str) -> Deferred[Sequence[Space]]:
        """Those that an account is a member of; L{MOST_LISTED} at the most."""
        ...

    def ban(self, id_: str, jid: str) -> Deferred[None]:
        """Let an account enter a space no more; fires when that will be remembered."""
        ...

    def unban(self, id_: str, jid: str) -> Deferred[bool]:
        """Whether there was such a ban."""
        ...

    def bans(self, id_: str) -> Deferred[Sequence[str]]:
        """The accounts that may not enter a space."""
        ...


class LocalSpaces:
    """
    The local store, as a daemon has it.

    A look-up takes some tens of microseconds, less than it takes to ask another thread,
    so it is made at once; only a store that is locked is asked by a thread, which can wait.
    Changes are made by a thread, one after the other.
    """

    log = Logger()

    def __init__(self, store: SpaceStore, reactor: Any) -> None:
        self.store = store
        self.occupant_key = store.occupant_key()
        self.on_change: list[Callable[[str], object]] = []
        self._looking = SlowWork(reactor, at_once=1, most_waiting=200)
        self._changing = SlowWork(reactor, at_once=1, most_waiting=50)
        self._reader = Reader(store.database)

    # for the rooms

    def entry(self, uri: str, jid: str) -> Deferred[Entry | None]:
        """See L{Spaces.entry}."""
        return self._look(lambda connection: find_entry(connection, uri, jid))

    def way(self, by: WayBy, value: str) -> Deferred[Way | None]:
        """See L{Spaces.way}."""
        return self._look(lambda connection: find_way(connection, by, value))

    def spaces_of(self, jid: str) -> Deferred[Sequence[Space]]:
        """See L{Spaces.spaces_of}."""
        return self._look(lambda connection: find_spaces_of(connection, jid, MOST_LISTED))

    def ban(self, id_: str, jid: str) -> Deferred[None]:
        """See L{Spaces.ban}."""
        return self._changing.run(lambda: self.store.ban(id_, jid))

    def unban(self, id_: str, jid: str) -> Deferred[bool]:
        """See L{Spaces.unban}."""
        return self._changing.run(lambda: self.store.unban(id_, jid))

    def bans(self, id_: str) -> Deferred[Sequence[str]]:
        """See L{Spaces.bans}."""
        return self._looking.run(lambda: self.store.bans(id_))

    # for the administration

    def ask(self, function: Callable[[SpaceStore], _T]) -> Deferred[_T]:
        """What the store says, asked in a thread."""
        return self._changing.run(lambda: function(self.store))

    def change(self, space: str, function: Callable[[SpaceStore], _T]) -> Deferred[_T]:
        """
        Change a space, and say so when it is done.

        @param space: Its id.
        """

        def changed(result: _T) -> _T:
            call_all(self.log, self.on_change, space)
            return result

        return self._changing.run(lambda: function(self.store)).addCallback(changed)

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def _look(self, function: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        try:
            return succeed(self._reader.read(function))
        except sqlite3.Error:
            return self._looking.run(lambda: self._look_slowly(function))

    def _look_slowly(self, function: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.store.explained():
            connection = self.store.database.connect()
            try:
                return function(connection)
            finally:
                connection.close()
