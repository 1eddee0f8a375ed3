"""
SQLite files in a state directory: private, durable, shared by daemon and command line.

The functions of a store are synchronous.  The command line calls them as they
are; a daemon calls the quick ones so too, and the others through a thread.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from cms import faults
from cms.signalflow import StepError
from cms.state.folder import claim, explain_os, has_room, open_private, this_user

_T = TypeVar("_T")

PATIENCE = 5.0  # seconds that another process may hold the file
# Primary result codes (sqlite.org/rescode.html).
_ADDITION = re.compile(r"\s*CREATE (TABLE|VIEW) IF NOT EXISTS (?P<name>\w+)")
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

    Where there is no room to make the file, or what this version has added to it, it can be read
    all the same: what is missing is empty.  To write is refused, and each use tries again.

    @ivar path: The file.
    @ivar lacking: What keeps it from being made; C{None}: nothing.
    @param version: Of the schema; a file with a later one is not touched.
    @param fill: Called with the connection of a new file, in the transaction
        that makes its tables.
    @param additions: What an older file of the same version may lack, and older versions of this
        program do not look at: C{CREATE ... IF NOT EXISTS}.
    @param upgrades: What makes a file of one version one of the next; the first is of version 1.
    @raise StoreUnusable: it cannot be opened, or a newer version wrote it.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        fill: Callable[[sqlite3.Connection], object] = lambda connection: None,
        *,
        additions: Sequence[str] = (),
        upgrades: Sequence[Callable[[sqlite3.Connection], object]] = (),
    ) -> None:
        self.path = path
        self.lacking: StepError | None = None
        self._schema = schema
        self._version = version
        self._fill = fill
        self._additions = additions
        self._upgrades = upgrades
        self._empty = b""
        try:
            claim(path.parent, of_anybody=os.geteuid() == 0)
        except OSError as problem:
            raise StoreUnusable(explain_os(path, problem)) from None
        self._make()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """
        Put this around calls of SQLite.

        @raise StoreUnusable: SQLite complains.
        """
        try:
            yield
        except sqlite3.Error as problem:
            fault = self.lacking or explain_sqlite(self.path, problem)
            raise StoreUnusable(fault) from None

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """
        A connection in a transaction.

        @raise StoreUnusable: SQLite complains; nothing was changed.
        """
        if self.lacking is not None and has_room(self.path.parent):
            self._make()
        with self.explained():
            connection = self.connect()
            try:
                connection.execute("PRAGMA foreign_keys = ON")
                with connection:
                    yield connection
            finally:
                connection.close()

    def connect(self, timeout: float = PATIENCE) -> sqlite3.Connection:
        """As the function of this name; what the file lacks is empty."""
        if self.lacking is None:
            return connect(self.path, timeout)
        if self._empty:
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.deserialize(self._empty)
        else:
            connection = connect(self.path, timeout)
            connection.execute("PRAGMA temp_store = MEMORY")
            self._stand_in(connection)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _stand_in(self, connection: sqlite3.Connection) -> None:
        """Have the tables and views that the file lacks, in memory."""
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        for statement in self._additions:
            added = _ADDITION.match(statement)
            if added is not None and added["name"] not in names:
                connection.execute(statement.replace("CREATE", "CREATE TEMP", 1))

    def _make(self) -> None:
        """Make the file, and what it lacks."""
        lacked, self.lacking = self.lacking, None
        try:
            try:
                self._make_private()
                with self.explained(), closing(connect(self.path)) as connection, connection:
                    self._prepare(connection)
            except OSError as problem:
                raise StoreUnusable(explain_os(self.path, problem)) from None
        except StoreUnusable as problem:
            if problem.fault.fault != faults.STATE_FULL.name:
                self.lacking = lacked
                raise
            self.lacking = problem.fault
            if not self._empty and not self._is_made():
                with closing(sqlite3.connect(":memory:")) as connection, connection:
                    self._define(connection)
                    self._empty = connection.serialize()

    def _is_made(self) -> bool:
        """Whether there is anything in the file."""
        try:
            with closing(connect(self.path)) as connection:
                return bool(connection.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.Error:
            return False

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
            raise StoreUnusable(faults.STATE_NEWER.error(path=self.path))
        if version == 0:
            connection.execute("PRAGMA journal_mode = WAL")
        if version < self._version:
            connection.execute("BEGIN IMMEDIATE")  # two processes may start at once
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._define(connection)
            else:
                for upgrade in self._upgrades[version - 1 :]:
                    upgrade(connection)
                connection.execute(f"PRAGMA user_version = {self._version}")
        for statement in self._additions:
            connection.execute(statement)

    def _define(self, connection: sqlite3.Connection) -> None:
        for statement in [*self._schema.split(";"), *self._additions]:
            connection.execute(statement)
        self._fill(connection)
        connection.execute(f"PRAGMA user_version = {self._version}")


class Reader:
    """
    Reads in the reactor's thread: some microseconds, and never waiting for a lock.

    It keeps a connection open, unless that fails.  It is opened late: a fork must not inherit it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def read(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        """
        What a function reads.

        @raise sqlite3.Error: the file cannot be read now.
        """
        database = self._database
        try:
            if database.lacking is None:
                if self._connection is None:
                    self._connection = sqlite3.connect(
                        database.path, timeout=0, isolation_level=None
                    )
                return read(self._connection)
        except sqlite3.Error:
            self.close()  # or the other connection could not lock the file
            if has_room(database.path.parent):
                raise
        with closing(database.connect(timeout=0)) as connection:
            return read(connection)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


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
