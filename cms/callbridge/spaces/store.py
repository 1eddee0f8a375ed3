"""
The local store of spaces: SQLite in the state directory, private to its owner.

Its functions are synchronous, see L{cms.state.database}.  A passcode and the secret
of a link are kept as they are: an operator gives them to others, also next year.
"""

from __future__ import annotations

import secrets
import sqlite3
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from cms.callbridge.spaces.model import (
    CALL_ID_DIGITS,
    USUAL_PERMISSIONS,
    AccessMethod,
    Gone,
    Member,
    Space,
    SpaceError,
    checked_call_id,
    checked_name,
    checked_passcode,
    checked_permissions,
    prepared_uri,
)
from cms.callbridge.spaces.rows import (
    SELECT_SPACE,
    member_by_key,
    member_of,
    space_by_key,
    space_of,
)
from cms.state.database import Database

SCHEMA_VERSION = 1
SECRET_BYTES = 16
MOST_SPACES = 100_000
MOST_MEMBERS = 10_000  # of one space
MOST_ACCESS_METHODS = 50
MOST_BANS = 1_000
_TRIES = 20  # to make a call ID that is free
# A space's own way in has the space's id; its access methods are the others.
_SCHEMA = """
CREATE TABLE spaces (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    non_member_access INTEGER NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) STRICT;
CREATE TABLE ways (
    id TEXT PRIMARY KEY,
    space TEXT NOT NULL REFERENCES spaces (id) ON DELETE CASCADE,
    uri TEXT UNIQUE,
    call_id TEXT NOT NULL UNIQUE,
    passcode TEXT NOT NULL,
    secret TEXT NOT NULL UNIQUE
) STRICT;
CREATE INDEX ways_of_space ON ways (space);
CREATE TABLE members (
    id TEXT PRIMARY KEY,
    space TEXT NOT NULL REFERENCES spaces (id) ON DELETE CASCADE,
    jid TEXT NOT NULL,
    permissions TEXT NOT NULL,
    UNIQUE (space, jid)
) STRICT;
CREATE INDEX members_by_jid ON members (jid);
CREATE TABLE bans (
    space TEXT NOT NULL REFERENCES spaces (id) ON DELETE CASCADE,
    jid TEXT NOT NULL,
    PRIMARY KEY (space, jid)
) STRICT;
CREATE TABLE installation (occupant_key BLOB NOT NULL) STRICT;
"""
_DUPLICATES = {
    "ways.uri": ("duplicateCoSpaceUri", "uri", "Give another URI."),
    "ways.call_id": ("duplicateCoSpaceId", "callId", "Give another call ID, or none."),
    "members.jid": ("duplicateCoSpaceUser", "userJid", "Change the member that is there."),
}


class SpaceStore:
    """
    The file F{spaces.sqlite3} in a state directory, made when it is missing.

    What names a space, C{key}, is its id, its URI or its call ID.

    @param random_bytes: Where secrets come from.
    @param below: A number from 0 to below its argument; where call IDs come from.
    @raise StoreUnusable: it cannot be opened, or a newer version wrote it.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        below: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self.path = state_dir / "spaces.sqlite3"
        self._random_bytes = random_bytes
        self._below = below
        self.database = Database(self.path, _SCHEMA, SCHEMA_VERSION, self._fill)

    def open(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection in a transaction, see L{Database.open}."""
        return self.database.open()

    def explained(self) -> AbstractContextManager[None]:
        """Around whatever else asks this file, see L{Database.explained}."""
        return self.database.explained()

    def _fill(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO installation VALUES (?)", (self._random_bytes(32),))

    def occupant_key(self) -> bytes:
        """The secret behind the occupant ids (XEP-0421), so that they outlive a restart."""
        with self.open() as connection:
            (key,) = connection.execute("SELECT occupant_key FROM installation").fetchone()
            return bytes(key)

    # spaces

    def spaces(self, text: str = "", offset: int = 0, limit: int = -1) -> tuple[list[Space], int]:
        """
        A part of the spaces by name, and how many there are.

        @param text: What name, URI or call ID must hold.
        """
        condition = (
            " WHERE instr(lower(s.name), lower(?1)) OR instr(w.uri, lower(?1))"
            " OR instr(w.call_id, ?1)"
        )
        with self.open() as connection:
            (total,) = connection.execute(
                f"SELECT count(*) FROM spaces s JOIN ways w ON w.id = s.id{condition}",  # noqa: S608
                (text,),
            ).fetchone()
            rows = connection.execute(
                f"{SELECT_SPACE}{condition} ORDER BY s.name, s.id LIMIT ?2 OFFSET ?3",
                (text, limit, offset),
            )
            return [space_of(row) for row in rows], total

    def space(self, key: str) -> Space:
        """
        @raise Gone: there is none.
        """
        with self.open() as connection:
            return space_by_key(connection, key)

    def add(
        self,
        name: str,
        *,
        uri: str | None = None,
        call_id: str | None = None,
        passcode: str = "",
        non_member_access: bool = True,
    ) -> Space:
        """
        @param uri: The call ID, where it is left out.
        @param call_id: One is made, where it is left out.
        @raise SpaceError: a value cannot be used, or is another space's.
        """
        name, passcode = checked_name(name), checked_passcode(passcode)
        prepared = None if uri is None else prepared_uri(uri)
        given = None if call_id is None else checked_call_id(call_id)
        id_ = str(uuid.uuid4())
        with self.open() as connection:
            _room_for(connection, "spaces", "", (), MOST_SPACES)
            connection.execute(
                "INSERT INTO spaces (id, name, non_member_access) VALUES (?, ?, ?)",
                (id_, name, non_member_access),
            )
            chosen = given or self._free_call_id(connection)
            self._add_way(connection, (id_, id_, prepared or chosen, chosen, passcode))
            return space_by_key(connection, id_)

    def change(
        self,
        key: str,
        *,
        name: str | None = None,
        uri: str | None = None,
        call_id: str | None = None,
        passcode: str | None = None,
        non_member_access: bool | None = None,
        regenerate_secret: bool = False,
    ) -> Space:
        """
        Set what is not C{None}; an empty passcode takes it away.

        @raise SpaceError: see L{add}.
        @raise Gone: there is no such space.
        """
        ways = {
            "uri": None if uri is None else prepared_uri(uri),
            "call_id": None if call_id is None else checked_call_id(call_id),
            "passcode": None if passcode is None else checked_passcode(passcode),
            "secret": self._secret() if regenerate_secret else None,
        }
        named = {
            "name": None if name is None else checked_name(name),
            "non_member_access": non_member_access,
        }
        with self.open() as connection:
            id_ = space_by_key(connection, key).id
            _set(connection, "spaces", id_, named)
            _set(connection, "ways", id_, ways)
            return space_by_key(connection, id_)

    def delete(self, key: str) -> Space:
        """
        @raise Gone: there is no such space.
        """
        with self.open() as connection:
            space = space_by_key(connection, key)
            connection.execute("DELETE FROM spaces WHERE id = ?", (space.id,))
            return space

    # access methods

    def access_methods(self, key: str) -> list[AccessMethod]:
        """
        @raise Gone: there is no such space.
        """
        with self.open() as connection:
            id_ = space_by_key(connection, key).id
            rows = connection.execute(
                "SELECT id, uri, call_id, passcode, secret FROM ways"
                " WHERE space = ? AND id <> space ORDER BY call_id",
                (id_,),
            )
            return [AccessMethod(row[0], row[1] or "", *row[2:]) for row in rows]

    def add_access_method(
        self, key: str, *, uri: str | None = None, call_id: str | None = None, passcode: str = ""
    ) -> str:
        """
        @return: Its id.
        @raise SpaceError: see L{add}.
        @raise Gone: there is no such space.
        """
        prepared = None if uri is None else prepared_uri(uri)
        given = None if call_id is None else checked_call_id(call_id)
        passcode, id_ = checked_passcode(passcode), str(uuid.uuid4())
        with self.open() as connection:
            space = space_by_key(connection, key).id
            most = MOST_ACCESS_METHODS + 1
            _room_for(connection, "ways", " WHERE space = ?", (space,), most)
            chosen = given or self._free_call_id(connection)
            self._add_way(connection, (id_, space, prepared, chosen, passcode))
        return id_

    def change_access_method(
        self,
        key: str,
        id_: str,
        *,
        uri: str | None = None,
        call_id: str | None = None,
        passcode: str | None = None,
        regenerate_secret: bool = False,
    ) -> None:
        """
        Set what is not C{None}.

        @raise SpaceError: see L{add}.
        @raise Gone: there is no such space or access method.
        """
        values = {
            "uri": None if uri is None else prepared_uri(uri),
            "call_id": None if call_id is None else checked_call_id(call_id),
            "passcode": None if passcode is None else checked_passcode(passcode),
            "secret": self._secret() if regenerate_secret else None,
        }
        with self.open() as connection:
            space = space_by_key(connection, key).id
            _check_access_method(connection, space, id_)
            _set(connection, "ways", id_, values)

    def delete_access_method(self, key: str, id_: str) -> None:
        """
        @raise Gone: there is no such space or access method.
        """
        with self.open() as connection:
            space = space_by_key(connection, key).id
            _check_access_method(connection, space, id_)
            connection.execute("DELETE FROM ways WHERE id = ?", (id_,))

    def _add_way(
        self, connection: sqlite3.Connection, way: tuple[str, str, str | None, str, str]
    ) -> None:
        """With a new secret, behind id, space, URI, call ID and passcode."""
        with _explained():
            connection.execute("INSERT INTO ways VALUES (?, ?, ?, ?, ?, ?)", (*way, self._secret()))

    def _secret(self) -> str:
        return urlsafe_b64encode(self._random_bytes(SECRET_BYTES)).decode().rstrip("=")

    def _free_call_id(self, connection: sqlite3.Connection) -> str:
        for _ in range(_TRIES):
            made = f"{self._below(10**CALL_ID_DIGITS):0{CALL_ID_DIGITS}}"
            # It may become the URI as well.
            taken = connection.execute(
                "SELECT 1 FROM ways WHERE call_id = ?1 OR uri = ?1", (made,)
            ).fetchone()
            if taken is None:
                return made
        cure = "Give one, or delete spaces that nobody needs."
        raise SpaceError("noCallIdFree", "no call ID that was tried is free", cure)

    # members

    def members(
        self, key: str, text: str = "", offset: int = 0, limit: int = -1
    ) -> tuple[list[Member], int]:
        """
        A part of a space's members by address, and how many there are.

        @raise Gone: there is no such space.
        """
        with self.open() as connection:
            space = space_by_key(connection, key).id
            condition = " FROM members WHERE space = ?1 AND instr(jid, lower(?2))"
            (total,) = connection.execute(f"SELECT count(*){condition}", (space, text)).fetchone()
            rows = connection.execute(
                f"SELECT id, jid, permissions{condition} ORDER BY jid LIMIT ?3 OFFSET ?4",
                (space, text, limit, offset),
            )
            return [member_of(row) for row in rows], total

    def member(self, key: str, id_: str) -> Member:
        """
        @param id_: Its id, or its address.
        @raise Gone: there is no such space or member.
        """
        with self.open() as connection:
            return member_by_key(connection, space_by_key(connection, key).id, id_)

    def add_member(
        self, key: str, jid: str, permissions: Iterable[str] = USUAL_PERMISSIONS
    ) -> Member:
        """
        @param jid: See L{member_address<cms.callbridge.spaces.model.member_address>}.
        @raise SpaceError: it is a member already.
        @raise Gone: there is no such space.
        """
        given, id_ = checked_permissions(permissions), str(uuid.uuid4())
        with self.open() as connection:
            space = space_by_key(connection, key).id
            _room_for(connection, "members", " WHERE space = ?", (space,), MOST_MEMBERS)
            with _explained():
                connection.execute(
                    "INSERT INTO members VALUES (?, ?, ?, ?)",
                    (id_, space, jid, " ".join(sorted(given))),
                )
        return Member(id_, jid, given)

    def change_member(self, key: str, id_: str, permissions: Iterable[str]) -> Member:
        """
        @raise Gone: there is no such space or member.
        """
        given = checked_permissions(permissions)
        with self.open() as connection:
            member = member_by_key(connection, space_by_key(connection, key).id, id_)
            _set(connection, "members", member.id, {"permissions": " ".join(sorted(given))})
        return Member(member.id, member.jid, given)

    def delete_member(self, key: str, id_: str) -> Member:
        """
        @raise Gone: there is no such space or member.
        """
        with self.open() as connection:
            member = member_by_key(connection, space_by_key(connection, key).id, id_)
            connection.execute("DELETE FROM members WHERE id = ?", (member.id,))
            return member

    # bans

    def ban(self, id_: str, jid: str) -> None:
        """
        Let an account enter a space no more.

        @param id_: The space's id.
        @raise SpaceError: there are too many.
        """
        with self.open() as connection:
            _room_for(connection, "bans", " WHERE space = ?", (id_,), MOST_BANS)
            connection.execute("INSERT OR IGNORE INTO bans VALUES (?, ?)", (id_, jid))

    def unban(self, id_: str, jid: str) -> bool:
        """Whether there was such a ban."""
        with self.open() as connection:
            gone = connection.execute("DELETE FROM bans WHERE space = ? AND jid = ?", (id_, jid))
            return gone.rowcount == 1

    def bans(self, id_: str) -> list[str]:
        """The accounts that may not enter a space."""
        with self.open() as connection:
            rows = connection.execute("SELECT jid FROM bans WHERE space = ? ORDER BY jid", (id_,))
            return [jid for (jid,) in rows]


def _check_access_method(connection: sqlite3.Connection, space: str, id_: str) -> None:
    """It is of this space, and not its own way in."""
    row = connection.execute(
        "SELECT 1 FROM ways WHERE id = ? AND space = ? AND id <> space", (id_, space)
    ).fetchone()
    if row is None:
        cause = "the space has no such access method"
        raise Gone("accessMethodDoesNotExist", cause, "GET its accessMethods lists them.")


def _set(
    connection: sqlite3.Connection, table: str, id_: str, values: Mapping[str, str | bool | None]
) -> None:
    given = {column: value for column, value in values.items() if value is not None}
    if given:
        columns = ", ".join(f"{column} = ?" for column in given)
        with _explained():
            connection.execute(
                f"UPDATE {table} SET {columns} WHERE id = ?",  # noqa: S608 - our own names
                (*given.values(), id_),
            )


def _room_for(
    connection: sqlite3.Connection, table: str, condition: str, values: tuple[str, ...], most: int
) -> None:
    (count,) = connection.execute(
        f"SELECT count(*) FROM {table}{condition}",  # noqa: S608 - our own names
        values,
    ).fetchone()
    if count >= most:
        cure = "Delete some that nobody needs."
        raise SpaceError("limitReached", f"there are {most} already", cure)


@contextmanager
def _explained() -> Iterator[None]:
    """Around what may write a value that another space has."""
    try:
        yield
    except sqlite3.IntegrityError as problem:
        column = str(problem).rpartition(" ")[2]
        if column not in _DUPLICATES:
            raise
        reason, parameter, cure = _DUPLICATES[column]
        raise SpaceError(reason, f"{parameter} is in use already", cure, parameter) from None
