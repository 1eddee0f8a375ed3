"""Rows of the local store as spaces and members, and the look-ups for somebody who enters."""

from __future__ import annotations

import sqlite3
from typing import Literal

from cms.callbridge.spaces.model import Entry, Gone, Member, Space, Way

SELECT_SPACE = (
    "SELECT s.id, s.name, w.uri, w.call_id, w.passcode, w.secret, s.non_member_access, s.created,"
    " (SELECT count(*) - 1 FROM ways WHERE ways.space = s.id)"
    " FROM spaces s JOIN ways w ON w.id = s.id"
)


def find_entry(connection: sqlite3.Connection, uri: str, jid: str) -> Entry | None:
    """
    What decides whether an account may enter the space that has this URI, its own or
    that of an access method; C{None}: there is no such space.
    """
    row = connection.execute(
        f"{SELECT_SPACE} WHERE s.id = (SELECT space FROM ways WHERE uri = ?)",  # noqa: S608 - ours
        (uri,),
    ).fetchone()
    if row is None:
        return None
    space = space_of(row)
    found = connection.execute(
        "SELECT id, jid, permissions FROM members WHERE space = ? AND jid = ?", (space.id, jid)
    ).fetchone()
    banned = connection.execute(
        "SELECT 1 FROM bans WHERE space = ? AND jid = ?", (space.id, jid)
    ).fetchone()
    codes: list[str] = []
    if space.passcode:
        rows = connection.execute(
            "SELECT passcode FROM ways WHERE space = ? AND passcode <> ''", (space.id,)
        )
        codes = [code for (code,) in rows]
    member = None if found is None else member_of(found)
    return Entry(space, member, banned is not None, tuple(codes))


WayBy = Literal["id", "call_id", "secret"]
_WAYS = {
    by: (
        "SELECT v.id, v.call_id, v.passcode, v.secret,"
        f" {SELECT_SPACE.removeprefix('SELECT ')} JOIN ways v ON v.space = s.id WHERE v.{by} = ?"
    )
    for by in ("id", "call_id", "secret")
}


def find_way(connection: sqlite3.Connection, by: WayBy, value: str) -> Way | None:
    """A way by which guests come; one look-up, whatever there is."""
    row = connection.execute(_WAYS[by], (value,)).fetchone()
    return None if row is None else Way(row[0], space_of(row[4:]), *row[1:4])


def find_spaces_of(connection: sqlite3.Connection, jid: str, most: int) -> list[Space]:
    """The spaces that an account may enter as a member, by name."""
    rows = connection.execute(
        f"{SELECT_SPACE} WHERE s.id IN (SELECT space FROM members WHERE jid = ?1"  # noqa: S608 - ours
        " EXCEPT SELECT space FROM bans WHERE jid = ?1)"
        " ORDER BY s.name, s.id LIMIT ?2",
        (jid, most),
    )
    return [space_of(row) for row in rows]


def space_of(row: tuple[str, str, str, str, str, str, int, str, int]) -> Space:
    """What L{SELECT_SPACE} gives."""
    return Space(*row[:6], bool(row[6]), *row[7:])


def member_of(row: tuple[str, str, str]) -> Member:
    """Of id, address and permissions."""
    return Member(row[0], row[1], frozenset(row[2].split()))


def space_by_key(connection: sqlite3.Connection, key: str) -> Space:
    """
    By its id, its URI or its call ID.

    @raise Gone: there is none.
    """
    for column in ("s.id", "w.uri", "w.call_id"):
        row = connection.execute(f"{SELECT_SPACE} WHERE {column} = ?", (key.lower(),)).fetchone()
        if row is not None:
            return space_of(row)
    raise Gone("coSpaceDoesNotExist", "there is no such space", "GET coSpaces lists them.")


def member_by_key(connection: sqlite3.Connection, space: str, key: str) -> Member:
    """
    By its id or its address.

    @raise Gone: there is none.
    """
    row = connection.execute(
        "SELECT id, jid, permissions FROM members WHERE space = ?1 AND (id = ?2 OR jid = ?2)",
        (space, key),
    ).fetchone()
    if row is None:
        cure = "GET its coSpaceUsers lists them."
        raise Gone("coSpaceUserDoesNotExist", "the space has no such member", cure)
    return member_of(row)
