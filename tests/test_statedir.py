"""The state directory: ours alone, or not used."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.state import database
from cms.state.database import Database, StoreError
from cms.state.folder import UnsafeFolder, claim, claim_for, open_private
from tests.support import new_folder


class ClaimTests(SynchronousTestCase):
    """What is looked at before anything in it is believed."""

    def setUp(self) -> None:
        """A folder for folders."""
        self.folder = new_folder(self)
        self.state = self.folder / "state"

    def refused(self, *words: str) -> str:
        """It is not used, and a person is told why, and what to do."""
        problem = self.assertRaises(UnsafeFolder, claim, self.state)
        for word in (str(self.folder), *words):
            self.assertIn(word, f"{problem.strerror} {problem.mend}")
        return str(problem)

    def test_made(self) -> None:
        """A missing one is made, and only its owner can look into it."""
        claim(self.state / "deep")
        self.assertEqual(0o700, (self.state / "deep").stat().st_mode & 0o777)
        claim(self.state / "deep")

    def test_others_may_read(self) -> None:
        """Reading is what the modes of the files are for."""
        self.state.mkdir(mode=0o755)
        claim(self.state)

    def test_others_may_write(self) -> None:
        """Group or everybody."""
        self.state.mkdir()
        for mode in (0o770, 0o707, 0o777, 0o1777):
            self.state.chmod(mode)
            self.refused(f"mode {mode:04o}", "chmod go-w")
        self.state.chmod(0o700)
        claim(self.state)

    def test_another_owner(self) -> None:
        """Whoever owns it may do what he likes in it; root may anywhere."""
        self.state.mkdir()
        me = os.geteuid()
        self.patch(os, "geteuid", lambda: me + 1)
        if me == 0:
            claim(self.state)
            os.chown(self.state, 4321, -1)
        self.refused("belongs to another user", "chown")
        claim(self.state, of_anybody=True)

    def test_root_looks(self) -> None:
        """Root reads the stores of a daemon that runs as another user."""
        self.state.mkdir()
        path = self.state / "x.sqlite3"
        Database(path, "CREATE TABLE x (y)", 1)
        judged: list[bool] = []
        self.patch(database, "claim", lambda folder, of_anybody: judged.append(of_anybody))
        for user in (0, 1000):
            self.patch(os, "geteuid", lambda user=user: user)
            Database(path, "CREATE TABLE x (y)", 1)
        self.assertEqual([True, False], judged)

    def test_above(self) -> None:
        """Who may write above it may put another folder in its place; not with a sticky bit."""
        above = self.folder / "above"
        self.state = above / "state"
        claim(self.state)
        above.chmod(0o777)
        self.refused("above it", "chmod o-w")
        above.chmod(0o1777)
        claim(self.state)

    def test_links(self) -> None:
        """No file of it leads elsewhere; the folder itself may be reached by a link."""
        claim(self.state)
        (self.folder / "link").symlink_to(self.state)
        claim(self.folder / "link")
        for name in ("users.sqlite3", "admin.lock", "whatever"):
            (self.state / name).symlink_to(self.folder / "elsewhere")
            self.refused(f"{name} is a link", "rm ")
            (self.state / name).unlink()

    def test_told_by_key(self) -> None:
        """A daemon names the file, the key and the cure."""
        self.state.mkdir()
        self.state.chmod(0o777)
        error = self.assertRaises(faults.ConfigurationError, claim_for, Path("x.toml"), self.state)
        self.assertIn("x.toml: state_dir: ", error.cause)
        self.assertIn("chmod go-w", error.cure)
        self.state = self.folder / "file"
        self.state.write_text("")
        error = self.assertRaises(faults.ConfigurationError, claim_for, Path("x.toml"), self.state)
        self.assertIn("user can write", error.cure)

    def test_stores(self) -> None:
        """A store, and so every command that works on it, looks as well."""
        path = self.state / "x.sqlite3"
        self.state.mkdir()
        self.state.chmod(0o777)
        problem = self.assertRaises(StoreError, Database, path, "CREATE TABLE x (y)", 1)
        self.assertIn("chmod go-w", problem.fault.cure)
        self.assertFalse(path.exists())

    def test_opened_through_no_link(self) -> None:
        """Whenever the link was put there."""
        claim(self.state)
        (self.state / "x").symlink_to(self.folder / "victim")
        self.assertRaises(OSError, open_private, self.state / "x", os.O_CREAT | os.O_RDWR)
        self.assertFalse((self.folder / "victim").exists())
