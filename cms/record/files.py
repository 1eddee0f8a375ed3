"""
The files of the record: lines of JSON in F{record/} of the state directory, mode 0600.

Each share of the record has files of its own, so that nobody pushes out what another kind of
entry tells.  A file is closed at an eighth of its share, or after a day; the oldest are
deleted beyond the share, and after some days.  Everything here blocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cms.record.steps import Entry, Steps, encode, spread
from cms.state.folder import open_private

FOLDER: Final = "record"
# Of the bytes: log-ins of users who exist, of names that nobody has, and links.
USERS, STRANGERS, LINKS = "users", "strangers", "links"
SHARES: Final[Mapping[str, float]] = {USERS: 0.5, STRANGERS: 0.2, LINKS: 0.3}
PARTS = 8  # files of a share
DAY = 86_400.0
MOST_LINE = 4_096  # bytes; a longer one loses its evidence
MOST_AT = 1e11  # seconds since the epoch: a later moment is damage
_NAME = re.compile(r"(users|strangers|links)\.([0-9]{13})\.jsonl", re.ASCII)


def files_of(state_dir: Path) -> list[tuple[str, float, Path]]:
    """The files that there are, the oldest first: share, when it began, path."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in (state_dir / FOLDER).iterdir():
            named = _NAME.fullmatch(path.name)
            if named is not None:
                found.append((named[1], int(named[2]) / 1000, path))
    return sorted(found, key=lambda each: each[1:])


def read(state_dir: Path, since: float = 0.0, needles: Sequence[bytes] = ()) -> Iterator[Entry]:
    """
    The entries from a moment on, in the order of each file.  A line that was cut off, or is
    damaged, is passed over.

    @param since: Seconds since the epoch.
    @param needles: Lines without any of these are passed over unread, which is ten times as quick.
    @raise OSError: they may not be read.
    """
    for _, _, path in files_of(state_dir):
        try:
            if path.stat().st_mtime < since:
                continue
            lines = path.open("rb")
        except FileNotFoundError:
            continue  # it was deleted meanwhile
        with lines:
            for line in lines:
                if needles and not any(needle in line for needle in needles):
                    continue
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                for each in spread(entry) if isinstance(entry, dict) else ():
                    at = each.get("at")
                    if isinstance(at, int | float) and since <= at < MOST_AT:
                        yield each


class Files:
    """
    Writes them.

    @param days: After which an entry is deleted.
    @param most: Bytes of all together.
    """

    def __init__(self, state_dir: Path, days: int, most: int) -> None:
        self._state_dir = state_dir
        self._folder = state_dir / FOLDER
        self._days = days
        self._most = most
        self._current: dict[str, Path] = {}

    def write(self, entries: Sequence[tuple[str, Entry | Steps]], now: float) -> None:
        """
        Append entries, each with its share.

        @raise OSError: some could not be written.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        by_share: dict[str, list[bytes]] = {}
        for share, entry in entries:
            by_share.setdefault(share, []).append(_line(entry))
        for share, lines in by_share.items():
            self._append(share, b"".join(lines), now)

    def _append(self, share: str, data: bytes, now: float) -> None:
        path = self._current.get(share)
        if path is None:
            own = [path for kind, began, path in files_of(self._state_dir) if kind == share]
            path = own[-1] if own else None
        if path is None or self._is_full(share, path, now):
            path = self._folder / f"{share}.{round(now * 1000):013}.jsonl"
            self.sweep(now)
        self._current[share] = path
        descriptor = open_private(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data  # the last line was cut off
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)

    def _is_full(self, share: str, path: Path, now: float) -> bool:
        named = _NAME.fullmatch(path.name)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        old = named is None or now - int(named[2]) / 1000 > DAY
        return old or size >= self._most * SHARES[share] / PARTS

    def sweep(self, now: float) -> None:
        """
        Delete what is too old, and what is too much.

        @raise OSError: it cannot.
        """
        there = files_of(self._state_dir)
        for share, part in SHARES.items():
            left = self._most * part * (PARTS - 1) / PARTS
            for kind, _, path in reversed(there):
                if kind != share:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    facts = path.stat()
                    left -= facts.st_size
                    if left < 0 or now - facts.st_mtime > self._days * DAY:
                        path.unlink()


def _line(entry: Entry | Steps) -> bytes:
    text = entry.line if isinstance(entry, Steps) else encode(entry)
    line = text.encode("utf-8", "replace")
    if len(line) > MOST_LINE:
        if isinstance(entry, Steps):
            return b"".join(_line(each) for each in spread(json.loads(text)))
        short = {key: value for key, value in entry.items() if not _is_long(value)}
        line = encode(short).encode("utf-8", "replace")
    return line[:MOST_LINE] + b"\n"


def _is_long(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, str) and len(value) > 500)
