"""
The file F{contacts.sqlite3}: contacts, subscriptions and blocked addresses of all users.

Addresses of our own domain are held as their local part alone, so that the domain can be
renamed; an address without a local part begins with C{@}.

Changes are made in a thread, some in one transaction (L{ContactStore.apply}).  Readers are quick,
since the file is in WAL mode and no writer keeps them waiting: they run in the reactor's thread.

Each entry has a stamp: the time of its change in milliseconds, and a name of who made it.  Of two
with one key the later stays, so servers that give each other all they have end with the same
(L{ContactStore.merge}).  What was deleted stays as an entry of nothing where there are others who
might have it yet.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from zlib import crc32

from attrs import define, evolve, field, frozen

from cms.state.database import Database, Reader
from cms.xmpp.contacts import tables
from cms.xmpp.contacts.subscription import ASKED, NONE, YES, State

_T = TypeVar("_T")

FILE_NAME: Final = tables.FILE_NAME
Change = Callable[["Book"], Any]
Row = Sequence[Any]
"""The name of a table, and the values of a row in it, without its bucket."""
BUCKETS: Final = 256  # of users, for whom servers compare at once what they have
MOST_GONE: Final = 100_000  # entries of what was deleted, in each table
MOST_OF_ONE: Final = 2_000  # of these that are one user's, so that nobody pushes out the others'
GONE_SECONDS: Final = 30 * 86_400.0  # for which they are kept, unless they are too many


@frozen
class Contact:
    """
    What one user has of one address.

    @ivar address: As the store holds it.
    @ivar state: See L{State}.
    @ivar listed: Whether it is on the user's roster.
    @ivar name: What the user calls it.
    @ivar groups: In order, each once.
    @ivar request: The stanza by which the contact asks to be subscribed, while it does.
    """

    address: str
    state: State = NONE
    listed: bool = False
    name: str = ""
    groups: tuple[str, ...] = ()
    request: str = ""

    @property
    def shown(self) -> tuple[object, ...] | None:
        """What a roster says of it, if it is there."""
        state = self.state
        told = state.subscription, state.mine == ASKED, self.name, self.groups
        return told if self.listed else None

    @property
    def is_nothing(self) -> bool:
        """Whether it need not be kept."""
        return self.state == NONE and not self.listed


def _contact(row: Row) -> Contact:
    address, mine, theirs, listed, name, groups, request = row
    found = tuple(json.loads(groups)) if groups else ()
    return Contact(address, State(mine, theirs), bool(listed), name, found, request)


def _one(connection: sqlite3.Connection, owner: str, address: str) -> Contact:
    row = connection.execute(tables.ONE, (owner, address)).fetchone()
    return Contact(address) if row is None else _contact(row)


@define
class Merged:
    """
    What was taken from another server.

    @ivar contacts: The user, what he has now, and the version of his roster.
    @ivar blocked: The addresses of each user that are blocked now and were not, or the other
        way round.
    @ivar lists: All that these users have blocked now.
    @ivar shared: The rows by which users have come to groups of a directory, or left them.
    """

    contacts: list[tuple[str, Contact, str]] = field(factory=list)
    blocked: dict[str, list[str]] = field(factory=dict)
    lists: dict[str, list[str]] = field(factory=dict)
    shared: list[Row] = field(factory=list)


class Refused(Exception):
    """
    A change that is not made.

    @ivar condition: Of RFC 6120 8.3.3, for who asked for it.
    @ivar kind: The type of that error; C{None}: the usual one.
    """

    def __init__(self, condition: str, text: str | None = None, kind: str | None = None) -> None:
        super().__init__(condition, text)
        self.condition, self.text, self.kind = condition, text, kind


class Book:
    """
    What one change sees and writes, within a transaction.

    @param stamp: Of what is written.
    @param keep: Whether what is deleted leaves an entry.
    @ivar owners: The users of whom something was written, or deleted.
    """

    def __init__(
        self, connection: sqlite3.Connection, stamp: int, maker: str, *, keep: bool
    ) -> None:
        self._connection = connection
        self._stamp = stamp
        self._maker = maker
        self._keep = keep
        self._rows: dict[tuple[str, str, str], Row] = {}
        self.owners: set[str] = set()

    @property
    def written(self) -> list[Row]:
        """The rows, for other servers: of each the last, since all have one stamp."""
        return list(self._rows.values())

    def contact(self, owner: str, address: str) -> Contact:
        """What a user has of an address; one of nothing if he has none."""
        return _one(self._connection, owner, address)

    def contacts(self, owner: str) -> list[Contact]:
        """All that a user has, listed or not."""
        return [_contact(row) for row in self._connection.execute(tables.ALL, (owner,))]

    def version(self, owner: str) -> str:
        """See L{version}."""
        return version(self._connection, owner)

    def listed(self, owner: str) -> int:
        """How many contacts are on the roster of a user."""
        return self._number("SELECT count(*) FROM contacts WHERE owner = ? AND listed", owner)

    def asked(self, owner: str) -> int:
        """How many have not answered a user's request."""
        return self._number("SELECT count(*) FROM contacts WHERE owner = ? AND mine = 1", owner)

    def pending(self, owner: str) -> int:
        """How many requests a user has not answered."""
        return self._number("SELECT count(*) FROM contacts WHERE owner = ? AND theirs = 1", owner)

    def _number(self, question: str, owner: str) -> int:
        return int(self._connection.execute(question, (owner,)).fetchone()[0])

    def write(self, owner: str, contact: Contact) -> None:
        """Set it."""
        self.owners.add(owner)
        gone, address = contact.is_nothing, contact.address
        if gone:
            contact = Contact(address)
            if not self._keep:
                self._connection.execute(tables.DELETE_CONTACT, (owner, address))
                return
        groups = json.dumps(contact.groups) if contact.groups else ""
        rest = contact.name, groups, contact.request
        self._write("contacts", owner, address, *contact.state, int(contact.listed), *rest)

    def blocked(self, owner: str) -> list[str]:
        """The addresses that a user has blocked."""
        return blocked(self._connection, owner)

    def block(self, owner: str, address: str, *, active: bool) -> None:
        """Block an address, or not any more."""
        if active or self._keep:
            self._write("blocked", owner, address, int(active))
        else:
            self._connection.execute(tables.DELETE_BLOCKED, (owner, address))

    def members(self, group: str) -> dict[str, str]:
        """Who is in a group of a directory, as it is written in the C{name} of his row."""
        return dict(self._connection.execute(tables.MEMBERS, (group,)))

    def in_groups(self, owner: str, component: str) -> int:
        """How many groups of a component a user is in."""
        row = self._connection.execute(tables.IN_GROUPS, (owner, *between(component))).fetchone()
        return int(row[0])

    def unshare(self, component: str, most: int) -> int:
        """Take out so many rows of a component's groups; how many there were."""
        found = self._connection.execute(tables.OF_COMPONENT, (*between(component), most))
        rows = found.fetchall()
        for owner, address in rows:
            self.share(owner, address, "", active=False)
        return len(rows)

    def is_mate(self, owner: str, address: str) -> bool:
        """Whether two users are in one group."""
        row = self._connection.execute(tables.IN_COMMON, (owner, address)).fetchone()
        return row is not None

    def groups(self, component: str) -> int:
        """How many groups a component has named."""
        row = self._connection.execute(tables.NUMBER, between(component)).fetchone()
        return int(row[0])

    def share(self, owner: str, group: str, name: str, *, active: bool) -> None:
        """A user is in a group, with this C{name} in his row, or not any more."""
        self.owners.add(owner)
        self._write("shared", owner, group, name, int(active))
        if not active and not self._keep:
            self._connection.execute(tables.DELETE_SHARED, (owner, group))

    def _write(self, *values: Any) -> None:
        row = (*values, self._stamp, self._maker)
        put(self._connection, row)
        self._rows[row[:3]] = row


def put(connection: sqlite3.Connection, row: Row) -> None:
    """Write a row, whatever was there."""
    connection.execute(tables.PUT[row[0]], (*row[1:], _bucket(row[1])))


def between(component: str) -> tuple[str, str]:
    """Before and behind all addresses of the groups of a component."""
    return f"{component}/", f"{component}0"


def roster(connection: sqlite3.Connection, owner: str) -> list[Contact]:
    """The contacts of a user, by address: the listed, and who is in a group with him."""
    found = {row[0]: _contact(row) for row in connection.execute(tables.LISTED, (owner,))}
    for address, name in connection.execute(tables.MATES, (owner,)):
        found[address] = as_mate(found.get(address, Contact(address)), *tables.names(name))
    return [found[address] for address in sorted(found)]


def as_mate(contact: Contact, group: str, shown: str) -> Contact:
    """
    The same as it is shown to who is in a group with him.

    @param shown: What the directory calls him, if the user himself does not call him anything.
    """
    groups = contact.groups if group in contact.groups else (*contact.groups, group)
    name = contact.name or shown
    return evolve(contact, state=State(YES, YES), listed=True, name=name, groups=groups)


def version(connection: sqlite3.Connection, owner: str) -> str:
    """
    The version of a user's roster (RFC 6121 2.6): another one after each change.

    Stamps are used once, so that number, latest and sum of them tell rosters apart.
    """
    (number, latest, total) = connection.execute(tables.VERSION, (owner,)).fetchone()
    return f"{number:x}-{latest:x}-{total:x}"


def blocked(connection: sqlite3.Connection, owner: str) -> list[str]:
    """The addresses that a user has blocked."""
    rows = connection.execute(
        "SELECT address FROM blocked WHERE owner = ? AND active ORDER BY address", (owner,)
    )
    return [address for (address,) in rows]


def _bucketed(connection: sqlite3.Connection) -> None:
    """From version 1, which at first had no buckets, to 2."""
    connection.create_function("bucket_of", 1, _bucket, deterministic=True)
    for table, (add, fill) in tables.PUT_INTO_BUCKETS.items():
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        if "bucket" not in [name for _, name, *_ in columns]:
            connection.execute(add)
            connection.execute(fill)
    for statement in tables.INDEXES.split(";"):
        connection.execute(statement)


def _bucket(owner: str) -> int:
    return crc32(owner.encode()) % BUCKETS


class ContactStore:
    """
    The file, made when it is missing: only its owner can read it.

    @ivar owners: The users who have any contact: all others need no look-up.
    @ivar keep: Whether what is deleted leaves an entry, for other servers.
    @param maker: The name of this server.
    @param now: Seconds since the epoch.
    @raise cms.state.database.StoreError: it cannot be used.
    """

    def __init__(self, state_dir: Path, now: Callable[[], float], maker: str = "") -> None:
        self.database = Database(
            *(state_dir / FILE_NAME, tables.SCHEMA + tables.INDEXES, tables.SCHEMA_VERSION),
            additions=tables.SHARED,
            upgrades=(_bucketed,),
        )
        self.keep = bool(maker)
        self._maker = maker
        self._now = now
        self._last = 0
        self._reader = Reader(self.database)
        with self.database.open() as connection:
            self.owners = {owner for (owner,) in connection.execute(tables.OWNERS)}

    # in a thread

    def apply(self, changes: Sequence[Change]) -> tuple[list[Any], list[Row]]:
        """
        Make changes in one transaction; each by itself, so that one that fails undoes no other.

        @return: What each gave, or its exception; and the rows that were written.
        """
        results: list[Any] = []
        rows: list[Row] = []
        owners: set[str] = set()
        with self.database.open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for change in changes:
                book = Book(connection, self._stamp(), self._maker, keep=self.keep)
                connection.execute("SAVEPOINT one")
                try:
                    results.append(change(book))
                except sqlite3.Error:
                    raise
                except Exception as problem:  # noqa: BLE001 - told to who asked for it
                    connection.execute("ROLLBACK TO one")
                    results.append(problem)
                else:
                    rows += book.written
                    owners |= book.owners
                connection.execute("RELEASE one")
            self._know(connection, owners)
        return results, rows

    def _know(self, connection: sqlite3.Connection, changed: Iterable[str]) -> None:
        """Before anybody is answered: note which of these users have any contact."""
        for owner in changed:
            if connection.execute(tables.HAS_ANY, (owner,)).fetchone() is None:
                self.owners.discard(owner)
            else:
                self.owners.add(owner)

    def merge(self, rows: Sequence[Row], shown: Collection[str]) -> Merged:
        """
        Take what another server has, where it is later.

        @param shown: The users whose changes are wanted.
        """
        merged = Merged()
        with self.database.open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            before: dict[tuple[str, str], Contact] = {}
            owners = set()
            for row in rows:
                table, owner, address, *_ = row
                there = connection.execute(tables.STAMP[table], (owner, address)).fetchone()
                if there is not None and list(there) >= list(row[-2:]):
                    continue
                if table == "shared":
                    owners.add(owner)
                    merged.shared.append(row)
                elif table == "blocked":
                    merged.blocked.setdefault(owner, []).append(address)
                else:
                    owners.add(owner)
                    if owner in shown:
                        before.setdefault((owner, address), _one(connection, owner, address))
                put(connection, row)
                self._last = max(self._last, row[-2])  # what follows is later
            for (owner, address), contact in before.items():
                found = _one(connection, owner, address)
                if found.shown != contact.shown:
                    merged.contacts.append((owner, found, version(connection, owner)))
            self._know(connection, owners)
            merged.lists = {owner: blocked(connection, owner) for owner in merged.blocked}
        return merged

    def digests(self) -> dict[str, list[int]]:
        """What tells the entries of each bucket of users from others, by its number."""
        found: dict[str, list[int]] = {}
        with self.database.open() as connection:
            for question in tables.DIGEST:
                for bucket, *digest in connection.execute(question):
                    found.setdefault(str(bucket), []).extend(digest)
        return found

    def purge(self) -> None:
        """Let entries go of what was deleted long ago, and the oldest of too many."""
        before = (self._now() - GONE_SECONDS) * 1000
        with self.database.open() as connection:
            for purge in tables.PURGE_OF_ONE:
                connection.execute(purge, (MOST_OF_ONE,))
            for table, purge in tables.PURGE.items():
                last = connection.execute(tables.GONE[table], (MOST_GONE,)).fetchone()
                connection.execute(purge, (max(before, last[0] if last else 0),))

    def _stamp(self) -> int:
        """Now, and later than any before, even if the clock was set back."""
        self._last = max(round(self._now() * 1000), self._last + 1)
        return self._last

    # in the reactor's thread

    def _ask(self, ask: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.database.explained():
            return self._reader.read(ask)

    def _rows(self, question: str, *values: str) -> list[Any]:
        return self._ask(lambda connection: connection.execute(question, values).fetchall())

    def close(self) -> None:
        """Nothing is read any more."""
        self._reader.close()

    def roster(self, owner: str) -> list[Contact]:
        """See L{roster}."""
        return self._ask(lambda connection: roster(connection, owner))

    def version(self, owner: str) -> str:
        """See L{version}."""
        return self._ask(lambda connection: version(connection, owner))

    def bucket(self, number: str) -> list[Row]:
        """The rows of a bucket."""
        return [
            (table, *row[:-1])
            for table, question in tables.BUCKET.items()
            for row in self._rows(question, number)
        ]

    def watchers(self, owner: str) -> list[str]:
        """Who may see a user."""
        return [address for (address,) in self._rows(tables.WATCHERS, owner)]

    def watched(self, owner: str) -> list[str]:
        """Whom a user may see, by what these themselves have granted."""
        return [address for (address,) in self._rows(tables.WATCHED, owner)]

    def may_see(self, owner: str, watcher: str) -> bool:
        """Whether C{watcher} may see the user."""
        return bool(self._rows(tables.MAY_SEE, owner, watcher))

    def in_common(self, owner: str, address: str) -> list[tuple[str, str]]:
        """The names of the groups that two users are in, and of the second there."""
        return [tables.names(name) for (name,) in self._rows(tables.IN_COMMON, owner, address)]

    def members(self, group: str) -> list[str]:
        """Who is in a group of a directory."""
        return [owner for owner, _ in self._rows(tables.MEMBERS, group)]

    def components(self) -> list[str]:
        """Those that have named groups."""
        return [name for (name,) in self._rows(tables.COMPONENTS)]

    def contact(self, owner: str, address: str) -> Contact:
        """What a user has of an address himself."""
        return self._ask(lambda connection: _one(connection, owner, address))

    def may_know(self, owner: str, watcher: str) -> bool:
        """Whether C{watcher} may see the user, or is asked by him."""
        asked = self._rows(tables.IS_ASKED, owner, watcher)
        return bool(asked) or self.may_see(owner, watcher)

    def requests(self, owner: str) -> list[str]:
        """The stanzas of those who ask to be subscribed, and have no answer yet."""
        question = "SELECT request FROM contacts WHERE owner = ? AND theirs = 1"
        return [request for (request,) in self._rows(question, owner)]

    def all_blocked(self) -> dict[str, list[str]]:
        """The blocked addresses of each user who has blocked any; at the start."""
        found: dict[str, list[str]] = {}
        with self.database.open() as connection:
            for owner, address in connection.execute(tables.ALL_BLOCKED):
                found.setdefault(owner, []).append(address)
        return found


def without_request(contact: Contact) -> Contact:
    """The same, if nobody asks any more."""
    return contact if contact.state.theirs == 1 else evolve(contact, request="")
