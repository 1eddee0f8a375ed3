"""
Each SQLite file of a state directory at a start: with no room on the disk, written by an older or
a newer version, damaged, or where nothing may be written.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.directories.store import UserStore
from cms.callbridge.directories.synced import SyncedUser, SyncStore
from cms.callbridge.spaces.store import SpaceStore
from cms.configuration.tomlfile import Secret
from cms.state import database
from cms.state.database import Database, Reader, StoreUnusable
from cms.xmpp.callbridgestore import CallbridgeStore, HeldSecret
from cms.xmpp.contacts.store import Contact, ContactStore
from cms.xmpp.contacts.subscription import State
from tests.support import new_folder

# What older versions made (contacts: that of commit 9533f1d); each with something in it.
OLD_CONTACTS = """
CREATE TABLE contacts (
    owner TEXT NOT NULL, address TEXT NOT NULL, mine INTEGER NOT NULL, theirs INTEGER NOT NULL,
    listed INTEGER NOT NULL, name TEXT NOT NULL, groups TEXT NOT NULL, request TEXT NOT NULL,
    stamp INTEGER NOT NULL, maker TEXT NOT NULL, PRIMARY KEY (owner, address)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocked (
    owner TEXT NOT NULL, address TEXT NOT NULL, active INTEGER NOT NULL, stamp INTEGER NOT NULL,
    maker TEXT NOT NULL, PRIMARY KEY (owner, address)
) STRICT, WITHOUT ROWID;
INSERT INTO contacts VALUES ('alice', 'bob', 2, 2, 1, 'Bob', '["work"]', '', 7, '');
INSERT INTO blocked VALUES ('alice', 'mallory', 1, 8, '');
PRAGMA user_version = 1
"""
OLD_CALLBRIDGES = """
CREATE TABLE callbridges (name TEXT PRIMARY KEY, created REAL NOT NULL) STRICT;
CREATE TABLE secrets (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL REFERENCES callbridges (name) ON DELETE CASCADE,
    secret TEXT NOT NULL, created REAL NOT NULL, expires REAL
) STRICT;
INSERT INTO callbridges VALUES ('cb1', 1.5);
INSERT INTO secrets VALUES (1, 'cb1', 'a secret of cb1', 1.5, NULL);
PRAGMA user_version = 1
"""
OLD_DIRECTORIES = """
CREATE TABLE users (
    directory TEXT NOT NULL, name TEXT NOT NULL, dn TEXT NOT NULL, shown TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (name, directory)
) STRICT;
CREATE TABLE keys (
    directory TEXT NOT NULL, name TEXT NOT NULL, mechanism TEXT NOT NULL, salt BLOB NOT NULL,
    iterations INTEGER NOT NULL, stored_key BLOB NOT NULL, server_key BLOB NOT NULL,
    state BLOB NOT NULL, PRIMARY KEY (name, directory, mechanism)
) STRICT;
CREATE TABLE syncs (directory TEXT PRIMARY KEY, outcome TEXT NOT NULL) STRICT;
CREATE TABLE left_out (
    directory TEXT NOT NULL, entry TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL
) STRICT;
INSERT INTO users VALUES ('hall', 'alice', 'cn=alice', 'Alice', 0);
PRAGMA user_version = 1
"""


@frozen
class Kind:
    """
    One of the stores.

    @ivar open: Opens it in a folder.
    @ivar database: Of what that gives.
    @ivar read: What is in it.
    @ivar write: Puts something into it.
    @ivar old: What an older version made.
    """

    file: str
    open: Callable[[Path], Any]
    read: Callable[[Any], Any]
    write: Callable[[Any], object]
    old: str = ""


def _contacts(store: ContactStore) -> Any:
    return store.roster("alice"), store.all_blocked(), store.owners, store.may_see("alice", "bob")


def _ask(store: ContactStore) -> None:
    contact = Contact("carol", State(1, 0), listed=True)
    (result,), _ = store.apply([lambda book: book.write("dave", contact)])
    assert result is None


KINDS = (
    Kind("contacts.sqlite3", lambda f: ContactStore(f, float), _contacts, _ask, OLD_CONTACTS),
    Kind(
        "callbridges.sqlite3",
        lambda folder: CallbridgeStore(folder, lambda: 2.0),
        lambda store: [(each.name, each.secrets) for each in store.callbridges()],
        lambda store: store.add("cb9", Secret("another secret")),
        OLD_CALLBRIDGES,
    ),
    Kind(
        "directories.sqlite3",
        SyncStore,
        lambda store: store.users("hall"),
        lambda store: store.remember("hall", SyncedUser("bob", "cn=bob", "Bob")),
        OLD_DIRECTORIES,
    ),
    Kind(
        "users.sqlite3",
        UserStore,
        lambda store: [user.name for user in store.users()],
        lambda store: store.set_password("bob", "a pass word", iterations=4096),
    ),
    Kind(
        "spaces.sqlite3",
        SpaceStore,
        lambda store: (store.spaces(), store.occupant_key() == store.occupant_key()),
        lambda store: store.add(name="Team"),
    ),
)


class _Full(sqlite3.Connection):
    """One whose file cannot grow."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if arguments[0] != ":memory:":
            self.execute("PRAGMA max_page_count = 1")  # or as many as there are


@contextmanager
def full_disk() -> Iterator[None]:
    """No room; peers/test_bad_days.py has a disk that is full."""
    real = sqlite3.connect

    def connected(*arguments: Any, **more: Any) -> sqlite3.Connection:
        return real(*arguments, **more, factory=_Full)

    with (
        patch.object(sqlite3, "connect", connected),
        patch.object(database, "has_room", return_value=False),
    ):
        yield


class StoreTests(SynchronousTestCase):
    """Each."""

    def setUp(self) -> None:
        """No store yet."""
        self.folder = new_folder(self)

    def refused(self, fault: str, function: Callable[..., object], *what: object) -> None:
        """A store is unusable by a fault, with a cure."""
        problem = self.assertRaises(StoreUnusable, function, *what).fault
        self.assertEqual(fault, problem.fault)
        self.assertTrue(problem.cure)

    def each(self) -> Iterator[tuple[Kind, Path]]:
        """A folder of its own for each."""
        for kind in KINDS:
            with self.subTest(kind.file):
                yield kind, self.folder / kind.file.partition(".")[0]

    def older(self, kind: Kind, folder: Path) -> None:
        """Have one that an older version has made, or this one with something in it."""
        if not kind.old:
            kind.write(kind.open(folder))
            return
        folder.mkdir(mode=0o700)
        with closing(sqlite3.connect(folder / kind.file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(kind.old)

    def test_first_start_without_room(self) -> None:
        """It is read as an empty one, refuses what is written, and is made when there is room."""
        for kind, folder in self.each():
            empty = kind.read(kind.open(self.folder / f"empty-{kind.file}"))
            with full_disk():
                store = kind.open(folder)
                lacking = store.database.lacking
                assert lacking is not None
                self.assertEqual("state-full", lacking.fault)
                for _ in range(2):
                    self.assertEqual(empty, kind.read(store))
                    self.refused("state-full", kind.write, store)
            self.assertEqual(empty, kind.read(store))
            kind.write(store)
            self.assertIsNone(store.database.lacking)
            self.assertNotEqual(empty, kind.read(store))
            self.assertEqual(kind.read(kind.open(folder)), kind.read(store))

    def test_older_without_room(self) -> None:
        """What an older version stored is read, and nothing is lost when there is room."""
        for kind, folder in self.each():
            self.older(kind, folder)
            with full_disk():
                store = kind.open(folder)
                stored = kind.read(store)
                self.assertEqual(bool(kind.old), store.database.lacking is not None)
                if kind.old:
                    self.refused("state-full", kind.write, store)
                self.assertEqual(stored, kind.read(store))
            self.assertEqual(stored, kind.read(store))
            kind.write(store)
            self.assertEqual(kind.read(kind.open(folder)), kind.read(store))

    def test_older(self) -> None:
        """It is brought up to date with all that is in it."""
        contacts = self.folder / "contacts"
        self.older(KINDS[0], contacts)
        store = ContactStore(contacts, float, "server")
        bob = Contact("bob", State(2, 2), listed=True, name="Bob", groups=("work",))
        self.assertEqual(([bob], {"alice": ["mallory"]}, {"alice"}, True), _contacts(store))
        # A server of a cluster finds it in the bucket in which this version looks.
        other = ContactStore(self.folder / "other", float, "other")
        for bucket in store.digests():
            other.merge(store.bucket(bucket), ())
        self.assertEqual((store.digests(), _contacts(store)), (other.digests(), _contacts(other)))
        for kind, expected in (
            (KINDS[1], [("cb1", (HeldSecret(Secret("a secret of cb1"), 1.5, None),))]),
            (KINDS[2], [SyncedUser("alice", "cn=alice", "Alice")]),
        ):
            self.older(kind, self.folder / kind.file)
            self.assertEqual(expected, kind.read(kind.open(self.folder / kind.file)))

    def test_newer(self) -> None:
        """A file of a newer version is told of as that, and left as it is."""
        for kind, folder in self.each():
            kind.open(folder)
            with closing(sqlite3.connect(folder / kind.file)) as connection:
                connection.execute("PRAGMA user_version = 1000")
            before = (folder / kind.file).read_bytes()
            self.refused("state-newer", kind.open, folder)
            self.assertEqual(before, (folder / kind.file).read_bytes())

    def test_damaged(self) -> None:
        """Garbage and a file that was cut are told of as that; one of no bytes is made."""
        for kind, folder in self.each():
            empty = kind.read(kind.open(folder))
            good = (folder / kind.file).read_bytes()
            damaged = (b"no database" * 100, good[:5000], good[: len(good) // 2])
            for number, content in enumerate((*damaged, b"")):
                other = self.folder / f"{folder.name}-{number}"
                other.mkdir(mode=0o700)
                (other / kind.file).write_bytes(content)
                if content:
                    self.refused("state-damaged", lambda k, f: k.read(k.open(f)), kind, other)
                    self.assertEqual(content, (other / kind.file).read_bytes())
                else:
                    self.assertEqual(empty, kind.read(kind.open(other)))

    def test_nothing_may_be_written(self) -> None:
        """A file system that is read-only, and a folder of another user: no start."""
        for kind, folder in self.each():
            for number, fault in (
                (errno.EROFS, "state-read-only"),
                (errno.EACCES, "state-forbidden"),
            ):
                failing = patch.object(database, "open_private", side_effect=OSError(number, ""))
                with failing:
                    self.refused(fault, kind.open, folder)


class ReaderTests(SynchronousTestCase):
    """L{Reader}."""

    def test_lets_go(self) -> None:
        """One that fails keeps nobody from the file, and works again when it can."""
        path = new_folder(self) / "words.sqlite3"
        store = Database(path, "CREATE TABLE words (word TEXT) STRICT", 1)
        reader = Reader(store)
        self.addCleanup(reader.close)

        def read(connection: sqlite3.Connection) -> list[Any]:
            return connection.execute("SELECT * FROM words").fetchall()

        self.assertEqual([], reader.read(read))
        reader.close()
        good = path.read_bytes()
        path.write_bytes(b"no database" * 100)
        self.assertRaises(sqlite3.DatabaseError, reader.read, read)
        self.assertNotIn(path, [each.resolve() for each in Path("/proc/self/fd").iterdir()])
        path.write_bytes(good)
        self.assertEqual([], reader.read(read))
