"""
A copy of a daemon's state in one file, made while the daemon runs, and checked before it is used.

The file has a line that names the format, a line of JSON (the L{Manifest}), the files one after
the other, and a line with the SHA-256 of all that is before it.  So it holds no paths, and what
is read of it has bounds before it is believed.  The digest finds damage; it does not say who
made the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from attrs import asdict, frozen

from cms.state.atomicfile import sync_folder
from cms.state.database import StoreUnusable, connect, explain_sqlite

FORMAT = 1
MOST_MANIFEST = 1 << 16  # bytes
MOST_BYTES = 64 << 30  # of all files together
_MAGIC = b"cms-backup "
_TRAILER = b"sha256 "
_PIECE = 1 << 20
_FIRST_LINE, _LAST_LINE = 64, len(_TRAILER) + 64 + 1
_DAMAGED = "Use another backup; this one was cut or changed after it was made."
_NEWER = "Restore it with the version of cms that made it, or a later one."
# The files of a role: for a database the newest version of its schema, else C{None}.
Known = Mapping[str, int | None]


class Unusable(Exception):
    """
    The file cannot be restored.

    @ivar problem: What is wrong; the words follow the file's name.
    @ivar mend: What to do.
    """

    def __init__(self, problem: str, mend: str = _DAMAGED) -> None:
        super().__init__(problem)
        self.problem, self.mend = problem, mend


@frozen
class Entry:
    """
    One file in a backup.

    @ivar size: Bytes.
    @ivar version: Of its schema, if it is a database.
    """

    name: str
    size: int
    version: int | None


@frozen
class Manifest:
    """
    What a backup says of itself.

    @ivar role: C{callbridge} or C{xmpp}.
    @ivar name: The Callbridge's unique name, or the server's FQDN.
    @ivar created: RFC 3339, UTC.
    @ivar software: The version of cms.
    """

    role: str
    domain: str
    name: str
    created: str
    software: str
    files: tuple[Entry, ...] = ()

    def as_line(self) -> bytes:
        """As it stands in the file."""
        return json.dumps(asdict(self)).encode() + b"\n"


def write(state_dir: Path, known: Known, about: Manifest, file: Path) -> Manifest:
    """
    Copy the files that are there into a new one (mode 0600), which is whole or not there.

    Each database is copied as it is at one moment (SQLite's backup API), whoever writes to it.

    @param about: Without its files.
    @raise FileExistsError: there is such a file.
    @raise OSError: it cannot be written.
    @raise StoreUnusable: a database cannot be read.
    """
    if file.exists():
        raise FileExistsError(file)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as name:
        folder = Path(name)
        files = [_copied(state_dir / one, folder / one, known[one]) for one in known]
        manifest = Manifest(
            *(about.role, about.domain, about.name, about.created, about.software),
            tuple(entry for entry in files if entry is not None),
        )
        whole = folder / "whole"
        with os.fdopen(os.open(whole, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
            digest = hashlib.sha256()
            for piece in (_MAGIC + b"%d\n" % FORMAT, manifest.as_line()):
                out.write(piece)
                digest.update(piece)
            for entry in manifest.files:
                with (folder / entry.name).open("rb") as content:
                    _pass_on(content, out, entry.size, digest)
            out.write(_TRAILER + digest.hexdigest().encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.rename(whole, file)
    sync_folder(file.parent)
    return manifest


def _copied(source: Path, target: Path, newest: int | None) -> Entry | None:
    """Copy one file; C{None} if it is not there."""
    if not source.exists():
        return None
    if newest is None:
        shutil.copyfile(source, target)
        return Entry(source.name, target.stat().st_size, None)
    try:
        with closing(connect(source)) as used, closing(sqlite3.connect(target)) as copy:
            used.backup(copy)
            (version,) = copy.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as problem:
        raise StoreUnusable(explain_sqlite(source, problem)) from None
    return Entry(source.name, target.stat().st_size, version)


def unpack(file: Path, known: Mapping[str, Known], into: Path) -> Manifest:
    """
    Put the files of a backup into a folder, and check all that can be checked of them.

    @param known: By role, what this version of the program knows.
    @raise Unusable: it is no backup, damaged, or from a newer version.
    @raise OSError: it cannot be read, or there is no room.
    """
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        manifest = _read_head(stream, digest)
        if manifest.role not in known:
            raise Unusable(f"is of a {manifest.role}, which this version does not know", _NEWER)
        _check_entries(manifest, known[manifest.role])
        total = sum(entry.size for entry in manifest.files)
        held = os.fstat(stream.fileno()).st_size - stream.tell() - _LAST_LINE
        if held != total:
            raise Unusable(f"is {'cut' if held < total else 'longer than it should be'}")
        if total > shutil.disk_usage(into).free:
            raise Unusable(f"holds {total:,} bytes, and {into} has no room for them", "Make room.")
        for entry in manifest.files:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            with os.fdopen(os.open(into / entry.name, flags, 0o600), "wb") as out:
                _pass_on(stream, out, entry.size, digest)
                out.flush()
                os.fsync(out.fileno())
        expected = _TRAILER + digest.hexdigest().encode() + b"\n"
        if stream.read(_LAST_LINE) != expected:
            raise Unusable("is damaged: its SHA-256 does not fit")
    for entry in manifest.files:
        if entry.version is not None:
            _check_database(into / entry.name, entry.version)
        elif entry.name.endswith(".json"):
            _check_json(into / entry.name)
    return manifest


def look(file: Path) -> Manifest:
    """
    What a backup says of itself; nothing else of it is read.

    @raise Unusable: it is no backup.
    @raise OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        return _read_head(stream, hashlib.sha256())


def _read_head(stream: IO[bytes], digest: Any) -> Manifest:
    first = stream.readline(_FIRST_LINE)
    number = first.removeprefix(_MAGIC).strip()
    if not first.startswith(_MAGIC) or not number.isdigit():
        raise Unusable("is no backup of cms", "Name a file that cms backup has written.")
    if int(number) > FORMAT:
        raise Unusable(f"has format {int(number)}, which is newer than this version", _NEWER)
    line = stream.readline(MOST_MANIFEST)
    digest.update(first + line)
    try:
        plain = json.loads(line)
        files = tuple(Entry(**entry) for entry in plain.pop("files"))
        manifest = Manifest(**plain, files=files)
        texts = (manifest.role, manifest.domain, manifest.name, manifest.created, manifest.software)
        if all(isinstance(text, str) for text in (*texts, *(entry.name for entry in files))):
            return manifest
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise Unusable("is damaged: what it says of itself cannot be read")


def _check_entries(manifest: Manifest, known: Known) -> None:
    names = [entry.name for entry in manifest.files]
    total = 0
    for entry in manifest.files:
        if entry.name not in known:
            raise Unusable(f'holds "{entry.name}", which this version does not know', _NEWER)
        newest = known[entry.name]
        is_number = isinstance(entry.size, int) and entry.size >= 0
        if not is_number or (newest is None) != (entry.version is None):
            raise Unusable("is damaged: what it says of itself does not fit")
        if newest is not None and not (isinstance(entry.version, int) and entry.version >= 1):
            raise Unusable("is damaged: what it says of itself does not fit")
        if newest is not None and entry.version is not None and entry.version > newest:
            raise Unusable(
                f"holds {entry.name} of version {entry.version}; this one knows {newest}", _NEWER
            )
        total += entry.size
    if len(names) != len(set(names)) or total > MOST_BYTES:
        raise Unusable("is damaged: what it says of itself does not fit")


def _check_database(path: Path, version: int) -> None:
    """
    Whether it is a whole database that does nothing by itself.

    @raise Unusable: it is not.
    """
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            (told,) = database.execute("PRAGMA user_version").fetchone()
            active = database.execute(
                "SELECT count(*) FROM sqlite_schema WHERE type NOT IN ('table', 'index')"
            ).fetchone()
            whole = database.execute("PRAGMA integrity_check(1)").fetchone()
            astray = database.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.Error as problem:
        raise Unusable(f"is damaged: {path.name} cannot be read ({problem})") from None
    if told != version or active != (0,) or whole != ("ok",) or astray is not None:
        raise Unusable(f"is damaged: {path.name} is not what a daemon writes")


def _check_json(path: Path) -> None:
    try:
        plain = json.loads(path.read_bytes())
        if isinstance(plain, dict) and plain.get("version") == 1:
            return
    except (ValueError, RecursionError):
        pass
    raise Unusable(f"is damaged: {path.name} is not what a daemon writes")


def _pass_on(source: IO[bytes], target: IO[bytes], size: int, digest: Any) -> None:
    """
    Copy so many bytes.

    @raise Unusable: there are fewer.
    """
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise Unusable("is cut")
        target.write(piece)
        digest.update(piece)
        size -= len(piece)
