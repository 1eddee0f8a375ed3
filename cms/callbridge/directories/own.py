"""
The groups of this Callbridge's directories, and whether a server may have others of before.

A Callbridge whose directories have none is no reason to ask a server anything, unless they had
some: F{directories.sqlite3} says so until the server has confirmed that it knows none.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from attrs import frozen

from cms.callbridge.directories.synced import FILE, SyncStore
from cms.linkprotocol.groups import Group
from cms.process.logs import Logger
from cms.state.database import StoreUnusable

_log = Logger()


@frozen
class OwnGroups:
    """
    What a server has to know of groups.  It blocks.

    @ivar directories: Those that may have groups now.
    @ivar component: The address by which the server knows them.
    """

    store: SyncStore
    directories: Collection[str]
    component: str

    def read(self) -> list[Group] | None:
        """@return: C{None}: there are none, and the server has confirmed that it knows none."""
        found = self.store.groups(self.directories)
        if found:
            return found
        with self.store.open() as connection:
            # An older version of this program stores groups and knows nothing of C{none_told}.
            (confirmed,) = connection.execute(
                "SELECT EXISTS (SELECT 1 FROM none_told WHERE component = ?)"
                " AND NOT EXISTS (SELECT 1 FROM groups)",
                (self.component,),
            ).fetchone()
        return None if confirmed else []

    def none_told(self) -> None:
        """The server has confirmed that it knows none."""
        marks = ", ".join("?" * len(self.directories))
        with self.store.open() as connection:
            connection.execute(
                f"DELETE FROM groups WHERE directory NOT IN ({marks})",  # noqa: S608
                tuple(self.directories),
            )
            connection.execute(
                "INSERT OR REPLACE INTO none_told SELECT ? WHERE NOT EXISTS (SELECT 1 FROM groups)",
                (self.component,),
            )


def former_store(state_dir: Path) -> SyncStore | None:
    """
    What syncs found when there was LDAP; C{None} if there was none, so no file is made.  One that
    cannot be used keeps no daemon from starting that needs it for nothing else.
    """
    if not (state_dir / FILE).exists():
        return None
    try:
        return SyncStore(state_dir)
    except StoreUnusable as problem:
        _log.warn(
            "groups that the XMPP server may know of former directories are not taken back:"
            " {cause} Cure: {cure}",
            **problem.fault.fields,
        )
        return None
