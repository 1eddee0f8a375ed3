"""
What the last sync of each LDAP directory found: F{directories.sqlite3} in the state directory.

It holds names and no password.  It says whose a name is when a directory is away, which
sessions are over, and what was left out.  With C{keep_keys} it holds SCRAM keys as well.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from attrs import asdict, evolve, field, frozen

from cms.callbridge.directories.directory import DirectoryError
from cms.callbridge.passwords.scram import StoredKeys
from cms.linkprotocol.groups import Group
from cms.linkprotocol.people import tidy
from cms.state.database import Database, Reader

_T = TypeVar("_T")
FILE = "directories.sqlite3"
SCHEMA_VERSION = 1
MOST_LEFT_OUT = 1_000  # entries that are named
_SCHEMA = """
CREATE TABLE users (
    directory TEXT NOT NULL,
    name TEXT NOT NULL,
    dn TEXT NOT NULL,
    shown TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, directory)
) STRICT;
CREATE TABLE keys (
    directory TEXT NOT NULL,
    name TEXT NOT NULL,
    mechanism TEXT NOT NULL,
    salt BLOB NOT NULL,
    iterations INTEGER NOT NULL,
    stored_key BLOB NOT NULL,
    server_key BLOB NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (name, directory, mechanism)
) STRICT;
CREATE TABLE syncs (
    directory TEXT PRIMARY KEY,
    outcome TEXT NOT NULL
) STRICT;
CREATE TABLE left_out (
    directory TEXT NOT NULL,
    entry TEXT NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT
"""
# When a password was set there, and when a sync saw that it was another one; since it is a table
# of its own, an older version of this program reads the file as before.
_PASSWORDS = """
CREATE TABLE IF NOT EXISTS passwords (
    directory TEXT NOT NULL,
    name TEXT NOT NULL,
    password TEXT NOT NULL,
    seen TEXT NOT NULL,
    PRIMARY KEY (name, directory)
) STRICT
"""
# Which entry it was; likewise.
_IDENTITIES = """
CREATE TABLE IF NOT EXISTS identities (
    directory TEXT NOT NULL,
    name TEXT NOT NULL,
    identity TEXT NOT NULL,
    PRIMARY KEY (name, directory)
) STRICT
"""
# Who is in a group with whom; the members are a list in JSON.
_GROUPS = """
CREATE TABLE IF NOT EXISTS groups (
    directory TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    members TEXT NOT NULL,
    PRIMARY KEY (id, directory)
) STRICT
"""
# The servers, by our address there, that have confirmed to know no groups: see
# L{cms.callbridge.directories.own}.
_NONE_TOLD = "CREATE TABLE IF NOT EXISTS none_told (component TEXT PRIMARY KEY) STRICT"
_TABLES = "users", "keys", "syncs", "left_out", "passwords", "identities", "groups"
_USERS = (
    "SELECT name, dn, shown, disabled, coalesce(password, ''), coalesce(seen, ''),"
    " coalesce(identity, '') FROM users LEFT JOIN passwords USING (name, directory)"
    " LEFT JOIN identities USING (name, directory) WHERE directory = ?"
)


@frozen
class SyncedUser:
    """
    A user as a sync found him.

    @ivar shown: The name for people.
    @ivar password: When the password was set, as L{LdapUser<cms.callbridge.ldap.users.LdapUser>}
        has it; empty: not known.
    @ivar seen: When a sync saw that it was another one (ISO 8601); empty: none did.
    @ivar identity: Of his entry, likewise; empty: not known.
    """

    name: str
    dn: str
    shown: str
    disabled: bool = False
    password: str = ""
    seen: str = field(default="", eq=False)
    identity: str = ""


@frozen
class LeftOut:
    """
    An entry that is no user here.

    @ivar name: Its address's local part, prepared; empty if it has none.
    @ivar reason: Why, in a few words.
    """

    entry: str
    name: str
    reason: str


@frozen
class SyncOutcome:
    """
    What became of a sync.  Times are in ISO 8601.

    @ivar ended: When the last one ended.
    @ivar seconds: That it took.
    @ivar users: That are known since.
    @ivar groups: Groups of contacts that are known since.
    @ivar sessions_ended: How many sessions of users it has ended.
    @ivar succeeded: When the last one ended that could be believed; empty: none.
    @ivar problem: The fault of one that failed, as plain data.
    """

    directory: str
    ended: str
    seconds: float
    users: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    disabled: int = 0
    left_out: int = 0
    sessions_ended: int = 0
    groups: int = 0
    succeeded: str = ""
    problem: Mapping[str, object] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """What was counted, by the names of the API."""
        return {
            "users": self.users,
            "added": self.added,
            "changed": self.changed,
            "removed": self.removed,
            "disabled": self.disabled,
            "leftOut": self.left_out,
            "sessionsEnded": self.sessions_ended,
            "groups": self.groups,
        }


@frozen
class Difference:
    """
    What a sync changes.

    @ivar gone: The names of those who were there and are not.
    @ivar disabled: Those who were enabled and are not.
    @ivar passwords: Those who have another password.
    @ivar others: Those whose entry is another one, so it is somebody else.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    passwords: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class SyncStore:
    """
    The file, made when it is missing: only its owner can read it.

    Its functions are synchronous; the quick ones, of one user, run in the reactor's thread.

    @raise StoreUnusable: it cannot be opened, or a newer version wrote it.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        additions = _PASSWORDS, _IDENTITIES, _GROUPS, _NONE_TOLD
        self.database = Database(self.path, _SCHEMA, SCHEMA_VERSION, additions=additions)
        self.open = self.database.open

    def users(self, directory: str) -> list[SyncedUser]:
        """All of one directory, by name."""
        with self.open() as connection:
            return [
                _user(row) for row in connection.execute(f"{_USERS} ORDER BY name", (directory,))
            ]

    def directories_of(self, name: str) -> list[str]:
        """Those in which a sync found a user of this name, or he logged in since."""
        with self.open() as connection:
            rows = connection.execute("SELECT directory FROM users WHERE name = ?", (name,))
            return sorted(directory for (directory,) in rows)

    def counts(self) -> dict[str, int]:
        """How many users each directory has."""
        with self.open() as connection:
            rows = connection.execute("SELECT directory, count(*) FROM users GROUP BY directory")
            return dict(rows.fetchall())

    def outcome(self, directory: str) -> SyncOutcome | None:
        """What became of the last sync; C{None} if there was none."""
        with self.open() as connection:
            return find_outcome(connection.cursor(), directory)

    def left_out(self, directory: str) -> list[LeftOut]:
        """The entries that the last sync left out, the first L{MOST_LEFT_OUT}."""
        with self.open() as connection:
            rows = connection.execute(
                "SELECT entry, name, reason FROM left_out WHERE directory = ? ORDER BY entry",
                (directory,),
            )
            return [LeftOut(*row) for row in rows]

    def replace(
        self,
        outcome: SyncOutcome,
        users: Collection[SyncedUser],
        difference: Difference,
        left_out: Iterable[LeftOut],
        groups: Iterable[Group] | None = None,
    ) -> None:
        """
        Store what a sync found, all of it or nothing.

        @param groups: C{None}: those that are known stay.
        """
        directory = outcome.directory
        touched = {*difference.added, *difference.changed, *difference.disabled}
        another = {*difference.passwords, *difference.others}
        with self.open() as connection:
            gone = [(directory, name) for name in difference.gone]
            others = [(directory, name) for name in another]
            out_of = {"users": gone, "passwords": gone, "identities": gone}
            for table, out in {**out_of, "keys": [*gone, *others]}.items():
                connection.executemany(
                    f"DELETE FROM {table} WHERE directory = ? AND name = ?",  # noqa: S608
                    out,
                )
            connection.executemany(
                "INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?, ?)",
                [
                    (directory, u.name, u.dn, u.shown, u.disabled)
                    for u in users
                    if u.name in touched
                ],
            )
            for user in users:
                if user.name in touched:
                    seen = outcome.ended if user.name in another else user.seen
                    now = evolve(user, seen=seen)
                    if user.name in difference.others:
                        _replace_password(connection, directory, now)
                    else:
                        _note_password(connection, directory, now)
                    _note_identity(connection, directory, user)
            connection.execute("DELETE FROM left_out WHERE directory = ?", (directory,))
            connection.executemany(
                "INSERT INTO left_out VALUES (?, ?, ?, ?)",
                [(directory, each.entry, each.name, each.reason) for each in left_out],
            )
            if groups is not None:
                connection.execute("DELETE FROM groups WHERE directory = ?", (directory,))
            if groups:
                connection.execute("DELETE FROM none_told")
            connection.executemany(
                "INSERT INTO groups VALUES (?, ?, ?, ?)",
                [
                    (directory, each.id, each.name, json.dumps(each.members))
                    for each in groups or ()
                ],
            )
            self._note(connection, outcome)

    def groups(self, directories: Collection[str]) -> list[Group]:
        """Who is in a group with whom, in these directories, and what they are called."""
        with self.open() as connection:
            rows = connection.execute("SELECT directory, id, name, members FROM groups").fetchall()
            users = connection.execute("SELECT directory, name, shown FROM users").fetchall()
        called = {(directory, name): tidy(shown) for directory, name, shown in users if shown}
        found = []
        for directory, id_, name, listed in rows:
            if directory in directories:
                members = json.loads(listed)
                shown = {each: called.get((directory, each), "") for each in members}
                group = Group(id_, name, members, {k: v for k, v in shown.items() if v})
                found.append(group if group.fits else Group(id_, name, members))
        return found

    def note(self, outcome: SyncOutcome) -> None:
        """Store that a sync failed; users stay as they are."""
        with self.open() as connection:
            self._note(connection, outcome)

    def _note(self, connection: sqlite3.Connection, outcome: SyncOutcome) -> None:
        text = json.dumps(asdict(outcome))
        connection.execute("INSERT OR REPLACE INTO syncs VALUES (?, ?)", (outcome.directory, text))

    def remember(self, directory: str, user: SyncedUser) -> bool:
        """
        Somebody logged in whom no sync has found yet.

        @return: Whether he is new.
        """
        with self.open() as connection:
            added = connection.execute(
                "INSERT INTO users VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (directory, user.name, user.dn, user.shown, user.disabled),
            )
            _note_password(connection, directory, user)
            _note_identity(connection, directory, user)
            return added.rowcount == 1

    def take_over(self, directory: str, user: SyncedUser) -> bool:
        """
        Somebody logged in with an address that was another entry's.

        @return: Whether it is not known yet.
        """
        with self.open() as connection:
            connection.execute(
                "UPDATE users SET dn = ?, shown = ?, disabled = ? WHERE directory = ? AND name = ?",
                (user.dn, user.shown, user.disabled, directory, user.name),
            )
            _replace_password(connection, directory, user)
            return _note_identity(connection, directory, user)

    def note_password(self, directory: str, user: SyncedUser) -> bool:
        """
        Somebody logged in with a password that was set at another time than is known.

        @return: Whether it is not known yet.
        """
        with self.open() as connection:
            return _note_password(connection, directory, user)

    def forget(self, names: Iterable[str]) -> None:
        """Forget the directories that are not in the configuration any more."""
        known = tuple(names)
        marks = ", ".join("?" * len(known))
        with self.open() as connection:
            for table in _TABLES:
                connection.execute(
                    f"DELETE FROM {table} WHERE directory NOT IN ({marks})",  # noqa: S608
                    known,
                )

    def keep_keys(
        self, directory: str, name: str, keys: Mapping[str, StoredKeys], state: bytes
    ) -> None:
        """
        Keep SCRAM keys by mechanism.

        @param state: What the directory showed of the password; with another one they are void.
        """
        with self.open() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(directory, name, mechanism),
                        *(k.salt, k.iterations, k.stored_key, k.server_key, state),
                    )
                    for mechanism, k in keys.items()
                ],
            )


def find_user(cursor: sqlite3.Cursor, directory: str, name: str) -> SyncedUser | None:
    """What is known of a user."""
    row = cursor.execute(f"{_USERS} AND name = ?", (directory, name)).fetchone()
    return None if row is None else _user(row)


def _user(row: tuple[str, str, str, int, str, str, str]) -> SyncedUser:
    name, dn, shown, off, password, seen, identity = row
    return SyncedUser(name, dn, shown, bool(off), password, seen, identity)


def _note_identity(connection: sqlite3.Connection, directory: str, user: SyncedUser) -> bool:
    """Whether it was another one."""
    noted = connection.execute(
        "INSERT INTO identities VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET identity = excluded.identity WHERE identity <> excluded.identity",
        (directory, user.name, user.identity),
    )
    return noted.rowcount == 1


def _replace_password(connection: sqlite3.Connection, directory: str, user: SyncedUser) -> None:
    """Whatever time was known: it was somebody else's."""
    row = (directory, user.name, user.password, user.seen)
    connection.execute("INSERT OR REPLACE INTO passwords VALUES (?, ?, ?, ?)", row)


def _note_password(connection: sqlite3.Connection, directory: str, user: SyncedUser) -> bool:
    """Whether it was another one."""
    if not user.password:
        return False
    noted = connection.execute(
        "INSERT INTO passwords VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET password = excluded.password, seen = excluded.seen"
        " WHERE password <> excluded.password",
        (directory, user.name, user.password, user.seen),
    )
    return noted.rowcount == 1


def find_outcome(cursor: sqlite3.Cursor, directory: str) -> SyncOutcome | None:
    """What became of the last sync."""
    row = cursor.execute("SELECT outcome FROM syncs WHERE directory = ?", (directory,)).fetchone()
    return None if row is None else SyncOutcome(**json.loads(row[0]))


def find_kept(
    cursor: sqlite3.Cursor, directory: str, name: str, mechanism: str, state: bytes
) -> StoredKeys | None:
    """A user's kept keys, if they were made of the password of now."""
    row = cursor.execute(
        "SELECT salt, iterations, stored_key, server_key FROM keys"
        " WHERE name = ? AND directory = ? AND mechanism = ? AND state = ?",
        (name, directory, mechanism, state),
    ).fetchone()
    return None if row is None else StoredKeys(*row)


class SyncedNames:
    """
    The same as a running daemon reads it at each log-in: some microseconds for a user, in
    the reactor's thread, and never waiting for a lock.
    """

    def __init__(self, database: Database) -> None:
        self._reader = Reader(database)
        self.close = self._reader.close

    def user(self, directory: str, name: str) -> SyncedUser | None:
        """
        See L{find_user}.

        @raise DirectoryError: the file cannot be read now.
        """
        return self._read(lambda cursor: find_user(cursor, directory, name))

    def names_of(self, directory: str, identity: str) -> set[str]:
        """The addresses with which an entry is known; see L{user}, but all are looked through."""
        question = "SELECT name FROM identities WHERE directory = ? AND identity = ?"
        rows = self._read(lambda cursor: cursor.execute(question, (directory, identity)).fetchall())
        return {name for (name,) in rows}

    def outcome(self, directory: str) -> SyncOutcome | None:
        """See L{SyncStore.outcome} and L{user}."""
        return self._read(lambda cursor: find_outcome(cursor, directory))

    def keys(self, directory: str, name: str, mechanism: str, state: bytes) -> StoredKeys | None:
        """See L{find_kept} and L{user}."""
        return self._read(lambda cursor: find_kept(cursor, directory, name, mechanism, state))

    def _read(self, read: Callable[[sqlite3.Cursor], _T]) -> _T:
        try:
            return self._reader.read(lambda connection: read(connection.cursor()))
        except sqlite3.Error as problem:
            raise DirectoryError(f"what the syncs found cannot be read: {problem}") from None
