"""What is said of a store, or a file of the state directory, that cannot be used."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from unittest.mock import Mock, patch

from twisted.trial.unittest import SynchronousTestCase

from cms.state import database
from cms.state.database import ChangeWatch, Database, StoreUnusable, connect, explain_sqlite
from cms.state.folder import explain_os, unusable
from tests.support import new_folder

SCHEMA = "CREATE TABLE words (word TEXT) STRICT"


class ExplainTests(SynchronousTestCase):
    """Error numbers, each with the entry that mends it."""

    def test_os(self) -> None:
        """Those of the system."""
        for number, fault, cure in (
            (errno.ENOSPC, "state-full", "Make room on the disk of /state"),
            (errno.EDQUOT, "state-full", "Make room on the disk of /state"),
            (errno.EROFS, "state-read-only", "mount it writable"),
            (errno.EACCES, "state-forbidden", "as the owner of the state directory"),
            (errno.EPERM, "state-forbidden", "as the owner of the state directory"),
            (errno.EIO, "state-unusable", "dmesg"),
        ):
            error = explain_os(Path("/state/x"), OSError(number, "words"))
            self.assertEqual((fault, 2), (error.fault, int(error.step)))
            self.assertIn("/state/x", error.cause)
            self.assertIn(cure, error.cure)
        named = explain_os(Path("/state/x"), OSError(errno.ENOSPC, "words", "/state/y"))
        self.assertIn("/state/y", named.cause)

    def test_sqlite(self) -> None:
        """Those of SQLite; one that writes no index is taken for a full disk only when it is."""
        path = new_folder(self) / "x.sqlite3"
        for code, room, fault in (
            (sqlite3.SQLITE_FULL, True, "state-full"),
            (sqlite3.SQLITE_IOERR_SHMSIZE, False, "state-full"),
            (sqlite3.SQLITE_IOERR_SHMSIZE, True, "state-unusable"),
            (sqlite3.SQLITE_BUSY, True, "state-busy"),
            (sqlite3.SQLITE_LOCKED, True, "state-busy"),
            (sqlite3.SQLITE_READONLY, True, "state-read-only"),
            (sqlite3.SQLITE_PERM, True, "state-forbidden"),
            (sqlite3.SQLITE_CORRUPT, True, "state-damaged"),
            (sqlite3.SQLITE_NOTADB, True, "state-damaged"),
            (sqlite3.SQLITE_CANTOPEN, True, "state-unusable"),
        ):
            problem = sqlite3.OperationalError("words")
            problem.sqlite_errorcode = code
            with patch.object(database, "has_room", return_value=room):
                error = explain_sqlite(path, problem)
            self.assertEqual((fault, 2), (error.fault, int(error.step)))
            self.assertIn(str(path), error.cause)

    def test_start(self) -> None:
        """At a start the file and its key are named, with the cure of what it is."""
        for number, cure in (
            (errno.ENOSPC, "Make room on the disk"),
            (errno.EEXIST, "Name a folder that this user can write."),
        ):
            error = unusable(Path("/etc/x.toml"), Path("/state"), OSError(number, "words"))
            self.assertIn("/etc/x.toml: state_dir: /state cannot be", error.cause)
            self.assertIn(cure, error.cure)


class FullDiskTests(SynchronousTestCase):
    """Reading where there is no room; peers/test_bad_days.py has a disk that is full."""

    def setUp(self) -> None:
        """A store with a word in it."""
        self.path = new_folder(self) / "words.sqlite3"
        self.store = Database(self.path, SCHEMA, 1, self.fill)

    @staticmethod
    def fill(connection: sqlite3.Connection) -> None:
        """The first word."""
        connection.execute("INSERT INTO words VALUES ('one')")

    def test_alone(self) -> None:
        """Where the index of a WAL cannot be made, it is kept in memory."""
        real, failing = sqlite3.connect, Mock()
        failing.execute.side_effect = sqlite3.OperationalError("disk I/O error")
        with (
            patch.object(database, "has_room", side_effect=[True, False]),
            patch.object(sqlite3, "connect", side_effect=[failing, failing, real(self.path)]),
        ):
            self.assertRaises(sqlite3.OperationalError, connect, self.path)
            connection = connect(self.path)
        self.addCleanup(connection.close)
        self.assertEqual(("exclusive",), connection.execute("PRAGMA locking_mode").fetchone())
        self.assertEqual([("one",)], connection.execute("SELECT * FROM words").fetchall())
        self.assertEqual(2, failing.close.call_count)

    def test_watch_lets_go(self) -> None:
        """A watch that fails keeps nobody from the file, and works again when it can."""
        watch = ChangeWatch(self.store)
        self.addCleanup(watch.close)
        self.assertTrue(watch.changed())
        self.assertFalse(watch.changed())
        good = self.path.read_bytes()
        watch.close()
        self.path.write_bytes(b"no database" * 100)
        error = self.assertRaises(StoreUnusable, watch.changed)
        self.assertEqual("state-damaged", error.fault.fault)
        held = [p.resolve() for p in Path("/proc/self/fd").iterdir()]
        self.assertNotIn(self.path, held)
        self.path.write_bytes(good)
        self.assertTrue(watch.changed())
