"""Files that are replaced whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cms.state.atomicfile import remove_file, replace_file, sweep
from tests.support import new_folder


class ReplaceTests(SynchronousTestCase):
    """One file."""

    def setUp(self) -> None:
        """A folder with the old content."""
        self.folder = new_folder(self)
        self.path = self.folder / "file"
        self.path.write_bytes(b"old")

    def test_replace(self) -> None:
        """The new content, for its owner alone, and nothing beside it."""
        replace_file(self.path, b"new")
        self.assertEqual(b"new", self.path.read_bytes())
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual(["file"], os.listdir(self.folder))

    def test_order(self) -> None:
        """The content is on the disk before the name is, the name when all is done."""
        seen: list[str] = []
        rename, fsync = os.rename, os.fsync

        def note_rename(old: Any, new: Any) -> None:
            seen.append("rename")
            rename(old, new)

        def note_fsync(descriptor: int) -> None:
            folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            seen.append("sync folder" if folder else "sync file")
            fsync(descriptor)

        self.patch(os, "rename", note_rename)
        self.patch(os, "fsync", note_fsync)
        replace_file(self.path, b"new")
        self.assertEqual(["sync file", "rename", "sync folder"], seen)

    def test_failures(self) -> None:
        """Whatever fails before the end: the old content stays, nothing is left."""

        def fail(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        for name in ("fsync", "rename", "fchmod"):
            self.patch(os, name, fail)
            self.assertRaises(OSError, replace_file, self.path, b"new")
            self.assertEqual(b"old", self.path.read_bytes())
            self.assertEqual(["file"], os.listdir(self.folder))

    def test_remove(self) -> None:
        """Also what is not there."""
        remove_file(self.path)
        remove_file(self.path)
        self.assertEqual([], os.listdir(self.folder))

    def test_sweep(self) -> None:
        """What a crash left goes, and nothing else."""
        for name in (".file.abc.new", ".file2.abc.new", "file.new", ".file"):
            (self.folder / name).touch()
        sweep(self.path)
        left = {".file2.abc.new", "file.new", ".file", "file"}
        self.assertEqual(left, set(os.listdir(self.folder)))
        sweep(Path(self.folder / "none" / "file"))
