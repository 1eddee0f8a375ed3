"""
SQLite files in a state directory: private, durable, shared by daemon and command line.

The functions of a store are synchronous.  The command line calls them as they
are; a daemon calls the quick ones so too, and the others through a thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cms import faults
from cms.signalflow import StepError
from cms.state.folder import claim, explain_os, has_room, open_private, this_user

PATIENCE = 5.0  # seconds that another process may hold the file
# Primary result codes (sqlite.org/rescode.html).
_FULL, _READ_ONLY = sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY
_IO_ERROR, _PERMISSION = sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM
_FAULTS = {
    sqlite3.SQLITE_BUSY: faults.STATE_BUSY,
    sqlite3.SQLITE_LOCKED: faults.STATE_BUSY,
    sqlite3.SQLITE_READONLY: faults.STATE_READ_ONLY,
    sqlite3.SQLITE_CORRUPT: faults.STATE_DAMAGED,
    sqlite3.SQLITE_NOTADB: faults.STATE_DAMAGED,
}


class StoreError(Exception):
    """The store cannot do what was asked; the text says why, in plain words."""


class StoreUnusable(StoreError):
    """
    The file itself cannot be used.

    @ivar fault: Its entry of the fault catalogue.
    """

    def __init__(self, fault: StepError) -> None:
        super().__init__(fault.cause.rstrip("."))
        self.fault = fault


def explain_sqlite(path: Path, problem: sqlite3.Error) -> StepError:
    """The entry of the fault catalogue for an error of SQLite."""
    seen: dict[str, object] = {"path": path, "folder": path.parent}
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    forbidden = code == _PERMISSION
    if code == _READ_ONLY:
        mounted = os.statvfs(path.parent).f_flag & os.ST_RDONLY
        forbidden = not mounted and not os.access(path.parent, os.W_OK)
    if forbidden:
        return faults.STATE_FORBIDDEN.error(**seen, user=this_user())
    if code == _FULL or (code == _IO_ERROR and not has_room(path.parent)):
        return faults.STATE_FULL.error(**seen)
    fault = _FAULTS.get(code, faults.STATE_UNUSABLE)
    return fault.error(**seen, seconds=round(PATIENCE), problem=problem)


def connect(path: Path, timeout: float = PATIENCE) -> sqlite3.Connection:
    """
    A connection that can at least read.

    The first connection to a file in WAL mode makes the index that the others share
    (F{-shm}, sqlite.org/wal.html 8).  A full disk has no room for it.  Then the index
    is in memory, and the connection locks the file: close it soon.

    @raise sqlite3.Error: the file cannot be read.
    """
    connection = sqlite3.connect(path, timeout=timeout)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        connection.close()
        if has_room(path.parent):
            raise
    else:
        return connection
    connection = sqlite3.connect(path, timeout=timeout)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


class Database:
    """
    One SQLite file, made if it is missing.  Only its owner can read it.

    When a transaction has ended, its change is on the disk.

    @ivar path: The file.
    @param version: Of the schema; a file with a later one is not touched.
    @param fill: Called with the connection of a new file, in the transaction
        that makes its tables.
    @raise StoreUnusable: it cannot be opened.
    @raise StoreError: a newer version wrote it.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        fill: Callable[[sqlite3.Connection], object] = lambda connection: None,
    ) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self._fill = fill
        try:
            claim(path.parent, of_anybody=os.geteuid() == 0)
            self._make_private()
            with self.open() as connection:
                self._prepare(connection)
        except OSError as problem:
            raise StoreUnusable(explain_os(path, problem)) from None

    @contextmanager
    def explained(self) -> Iterator[None]:
        """
        Put this around calls of SQLite.

        @raise StoreUnusable: SQLite complains.
        """
        try:
            yield
        except sqlite3.Error as problem:
            raise StoreUnusable(explain_sqlite(self.path, problem)) from None

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """
        A connection in a transaction.

        @raise StoreUnusable: SQLite complains; nothing was changed.
        """
        with self.explained():
            connection = connect(self.path)
            try:
                connection.execute("PRAGMA foreign_keys = ON")
                with connection:
                    yield connection
            finally:
                connection.close()

    def _make_private(self) -> None:
        """SQLite gives the files beside this one (F{-wal}, F{-shm}) the same mode."""
        descriptor = open_private(self.path, os.O_CREAT | os.O_RDWR)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > self._version:
            raise StoreError(f"{self.path} was written by a newer version of this program")
        if version == 0:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")  # two processes may start at once
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in self._schema.split(";"):
                    connection.execute(statement)
                self._fill(connection)
                connection.execute(f"PRAGMA user_version = {self._version}")


class ChangeWatch:
    """
    Tells when another connection, of this process or another, changed a file.

    It keeps a connection open, unless that fails.  A fork must not inherit it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None

    def changed(self) -> bool:
        """
        Whether the file was changed since the last call; the first says yes, and so
        does the first after a failure.

        @raise StoreUnusable: it cannot be read.
        """
        with self._database.explained():
            try:
                if self._connection is None:
                    self._connection = sqlite3.connect(self._database.path, timeout=PATIENCE)
                (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error:
                self.close()  # or another connection could not lock the file
                raise
        before, self._seen = self._seen, version
        return bool(before != version)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._seen = None
