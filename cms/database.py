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

from cms.statedir import claim, open_private


class StoreError(Exception):
    """The store cannot do what was asked; the text says why, in plain words."""


class Database:
    """
    One SQLite file, made when it is missing: only its owner can read it.

    A change is on the disk when its transaction ends.

    @ivar path: The file.
    @param version: Of the schema; a file with a later one is not touched.
    @param fill: Called with the connection of a new file, in the transaction
        that makes its tables.
    @raise StoreError: it cannot be opened, or a newer version wrote it.
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
            raise self._unusable(problem) from None

    def _unusable(self, problem: Exception) -> StoreError:
        return StoreError(f"{self.path} cannot be used: {problem}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """
        Around whatever asks SQLite.

        @raise StoreError: SQLite complains.
        """
        try:
            yield
        except sqlite3.Error as problem:
            raise self._unusable(problem) from None

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """
        A connection in a transaction.

        @raise StoreError: SQLite complains; nothing was changed.
        """
        with self.explained():
            connection = sqlite3.connect(self.path, timeout=5)
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

    It keeps a connection open and must not be carried across a fork.

    @raise StoreError: the file cannot be opened.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.explained():
            self._connection = sqlite3.connect(database.path, timeout=5)
        self._seen: int | None = None

    def changed(self) -> bool:
        """
        Whether the file was changed since the last call; the first says yes.

        @raise StoreError: it cannot be read.
        """
        with self._database.explained():
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return bool(before != version)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
