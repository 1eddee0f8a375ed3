"""C{cms backup} and C{cms restore}: whole or refused, all files or none."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from cms.admin.accounts import ACCOUNTS, PASSWORD, Accounts
from cms.callbridge.directories.store import UserStore
from cms.callbridge.settings import FILE as SETTINGS
from cms.callbridge.spaces.store import SpaceStore
from cms.callbridge.statefiles import STATE_FILES as OF_CALLBRIDGE
from cms.commands.backup import KNOWN
from cms.configuration.tomlfile import Secret
from cms.control.place import LOCK
from cms.state import restoring
from cms.state.backup import Entry, Manifest, Unusable, unpack, write
from cms.state.folder import UnsafeFolder, claim
from cms.xmpp.callbridgestore import CallbridgeStore
from cms.xmpp.contacts.store import ContactStore
from cms.xmpp.statefiles import STATE_FILES as OF_XMPP
from tests.commandline import DOMAIN, CommandLineTests
from tests.fakedaemon import FakeDaemon

ROOT = Path(restoring.__file__).parent.parent
ABOUT = Manifest("callbridge", DOMAIN, "cb1", "2026-11-29T03:00:00Z", "1.2.3")


class BackupTests(CommandLineTests):
    """A Callbridge with a user, a space and settings, and a server with a Callbridge."""

    def setUp(self) -> None:
        """Both, stopped."""
        super().setUp()
        self.state, self.server = self.folder / "callbridge", self.folder / "xmpp"
        self.cms("callbridge", "user", "add", "alice", "--password-stdin", text="pw")
        SpaceStore(self.state)
        Accounts.open(self.state)
        self.cms("callbridge", "secret", "--secret-stdin", text="another-secret")
        CallbridgeStore(self.server, lambda: 0.0).add("cb1", Secret("s3cret-of-cb1"))
        self.file = self.folder / "b1"
        self.callbridge = ("--config", str(self.folder / "callbridge.toml"))
        self.xmpp = ("--config", str(self.folder / "xmpp.toml"))

    def backup(self) -> bytes:
        """A backup of the Callbridge, and what is in it."""
        self.cms("backup", str(self.file), *self.callbridge)
        return self.file.read_bytes()

    def content(self) -> dict[str, bytes]:
        """The files of the Callbridge that a backup holds, as bytes; of databases what they say."""
        found = {}
        for file in self.state.iterdir():
            if file.suffix == ".sqlite3":
                with closing(sqlite3.connect(file)) as database:
                    found[file.name] = "\n".join(database.iterdump()).encode()
            elif file.name in OF_CALLBRIDGE:
                found[file.name] = file.read_bytes()
        return found

    def users(self) -> list[str]:
        """Who is in the Callbridge's store."""
        return [user.name for user in UserStore(self.state).users()]


class CommandTests(BackupTests):
    """What is typed."""

    def test_there_and_back(self) -> None:
        """Everything is as it was; the former state is kept beside it; only the owner can read."""
        before = self.content()
        made = self.facts("backup", str(self.file), *self.callbridge)
        self.assertEqual(
            ("callbridge", DOMAIN, "cb1"), (made["role"], made["domain"], made["name"])
        )
        names = {entry["name"] for entry in made["files"]}
        self.assertEqual({"users.sqlite3", "spaces.sqlite3", SETTINGS, ACCOUNTS, PASSWORD}, names)
        self.assertEqual(0o600, stat.S_IMODE(self.file.stat().st_mode))
        self.cms("callbridge", "user", "add", "mallory", "--password-stdin", text="pw")
        (self.state / SETTINGS).unlink()
        said = self.said("restore", str(self.file), *self.callbridge)
        self.assertIn("what was there is in before-restore", said)
        self.assertEqual(before, self.content())
        self.assertEqual(["alice"], self.users())
        former = self.state / restoring.FORMER
        self.assertEqual(["alice", "mallory"], [u.name for u in UserStore(former).users()])
        for file in self.state.rglob("*"):
            mode = 0o700 if file.is_dir() else 0o600
            self.assertEqual(mode, stat.S_IMODE(file.stat().st_mode), file)
        with closing(sqlite3.connect(self.state / "users.sqlite3")) as database:
            self.assertEqual(("wal",), database.execute("PRAGMA journal_mode").fetchone())
        self.assertEqual([], [f.name for f in self.state.iterdir() if "restore." in f.name])

    def test_what_came_later_goes(self) -> None:
        """A store that was not there yet is not there again; what is no state is not touched."""
        (self.state / "spaces.sqlite3").unlink()
        self.backup()
        SpaceStore(self.state)
        (self.state / "other.log").write_text("x")
        self.cms("restore", str(self.file), *self.callbridge)
        self.assertFalse((self.state / "spaces.sqlite3").exists())
        self.assertTrue((self.state / "other.log").exists())

    def test_server(self) -> None:
        """The same for the other daemon; of two configurations the one that fits is taken."""
        self.cms("backup", str(self.file), *self.xmpp)
        self.cms("xmpp", "callbridge", "del", "cb1")
        self.cms("restore", str(self.file))
        known = [c["name"] for c in self.facts("xmpp", "callbridge", "list")]
        self.assertIn("cb1", known)

    def test_contacts(self) -> None:
        """Of users, as every server keeps them."""
        ContactStore(self.server, lambda: 0.0, "one")
        made = self.facts("backup", str(self.file), *self.xmpp)
        self.assertIn("contacts.sqlite3", {entry["name"] for entry in made["files"]})
        self.assertIn("it is whole", self.said("restore", "--check", str(self.file)))

    def test_in_use(self) -> None:
        """What was written last is in it, though the daemon has the file open and writes."""
        with sqlite3.connect(self.state / "users.sqlite3") as used:
            used.execute("INSERT INTO users (name) VALUES ('bob')")
            used.commit()
            used.execute("BEGIN IMMEDIATE")
            used.execute("INSERT INTO users (name) VALUES ('nobody')")
            self.backup()
            used.rollback()
        self.cms("restore", str(self.file), *self.callbridge)
        self.assertEqual(["alice", "bob"], self.users())

    def test_daemon_runs(self) -> None:
        """A backup is made; nothing is restored; a check is."""
        FakeDaemon(self, self.state)
        self.backup()
        before = self.content()
        line = self.refused("restore", str(self.file), *self.callbridge, status=1)
        self.assertIn("systemctl stop cms-callbridge", line)
        self.assertEqual(before, self.content())
        self.assertIn("can be restored", self.said("restore", "--check", str(self.file)))
        self.assertEqual(made := self.facts("restore", "--check", str(self.file)), made)
        self.file.write_bytes(self.file.read_bytes()[:-100])
        line = self.refused("restore", str(self.file), *self.callbridge, status=1)
        self.assertIn("is cut. Cure: Use another backup", line)  # and not: stop it first
        FakeDaemon(self, self.server)
        self.file.unlink()
        self.backup()
        line = self.refused("restore", str(self.file), *self.xmpp, status=1)
        self.assertIn("this is a backup of a Callbridge", line)

    def test_not_overwritten(self) -> None:
        """A file that is there stays; a folder that is not there is said."""
        self.backup()
        before = self.file.read_bytes()
        self.refused("backup", str(self.file), *self.callbridge, status=1)
        self.assertEqual(before, self.file.read_bytes())
        self.assertNotIn("remove", self.refused("backup", "/dev/null", *self.callbridge, status=1))
        self.refused("backup", "/nonexistent/b", *self.callbridge, status=2)
        self.refused("restore", "/nonexistent/b", *self.callbridge, status=2)

    def test_which_daemon(self) -> None:
        """With two configurations it must be said; the original's words are told."""
        self.assertIn("--config", self.refused("backup", str(self.file), status=2))
        self.refused("backup", "snapshot", "x", status=2)
        self.assertFalse((Path.cwd() / "snapshot").exists())

    def test_nothing_there(self) -> None:
        """A daemon that never ran has no state."""
        file = self.write("other.toml", (self.folder / "callbridge.toml").read_text())
        file.write_text(file.read_text().replace('"callbridge"', '"nowhere"'))
        self.refused("backup", str(self.file), "--config", str(file), status=1)

    def test_empty(self) -> None:
        """A folder that holds nothing of the kind makes no backup that looks like one."""
        for file in self.server.iterdir():
            file.unlink()
        self.refused("backup", str(self.file), *self.xmpp, status=1)
        self.assertFalse(self.file.exists())

    def test_instance(self) -> None:
        """Of several servers with one configuration one is named; each has its own state."""
        file = self.folder / "xmpp.toml"
        file.write_text(file.read_text() + '[cluster]\nengine = "redis://127.0.0.1:1/0"\n')
        state = self.server / "one"
        CallbridgeStore(state, lambda: 0.0).add("cb1", Secret("s3cret-of-cb1"))
        (state / LOCK).touch()
        line = self.refused("backup", str(self.file), *self.xmpp, status=2)
        self.assertIn("--instance one", line)
        instance = ("--instance", "one", *self.xmpp)
        self.cms("backup", str(self.file), *instance)
        CallbridgeStore(state, lambda: 0.0).delete("cb1")
        self.cms("restore", str(self.file), *instance)
        held = CallbridgeStore(state, lambda: 0.0).callbridges()
        self.assertEqual(["cb1"], [callbridge.name for callbridge in held])

    def test_new_host(self) -> None:
        """Restored where no daemon has run yet, and over settings that are damaged."""
        self.backup()
        file = self.write("callbridge2.toml", (self.folder / "callbridge.toml").read_text())
        file.write_text(file.read_text().replace('"callbridge"', '"elsewhere"'))
        self.cms("restore", str(self.file), "--config", str(file))
        self.state = self.folder / "elsewhere"
        self.assertEqual(["alice"], self.users())
        (self.state / SETTINGS).write_text("{")
        self.cms("restore", str(self.file), "--config", str(file))
        self.assertIn("set by API", self.said("callbridge", "--json", "--config", str(file)))

    def test_not_this_one(self) -> None:
        """Of another kind of daemon or another domain: nothing is changed."""
        self.backup()
        before = self.content()
        for check in ((), ("--check",)):
            line = self.refused("restore", str(self.file), *check, *self.xmpp, status=1)
            self.assertIn("this is a backup of a Callbridge", line)
        said = self.said("restore", str(self.file), "--check", *self.callbridge)
        self.assertIn(f"can be restored by this version for {self.folder}/callbridge.toml", said)
        file = self.folder / "callbridge.toml"
        file.write_text(file.read_text().replace(DOMAIN, "other.example"))
        line = self.refused("restore", str(self.file), *self.callbridge, status=1)
        self.assertIn(f"of the domain {DOMAIN}", line)
        self.assertEqual(before, self.content())
        self.assertFalse((self.state / restoring.STAGED).exists())


class DamageTests(BackupTests):
    """What is no backup, or no longer one, changes nothing."""

    def refuses(self, content: bytes) -> str:
        """It is refused, and the state is untouched."""
        before = self.content()
        self.file.write_bytes(content)
        line = self.refused("restore", str(self.file), *self.callbridge, status=1)
        self.assertEqual(before, self.content())
        self.assertFalse((self.state / restoring.FORMER).exists())
        self.assertFalse((self.state / restoring.STAGED).exists())
        return line

    def made(self, change: Callable[[dict[str, Any]], object], body: bytes = b"") -> bytes:
        """A file with right digest that says something else of itself."""
        whole = self.whole.removeprefix(b"cms-backup 1\n")
        head, _, rest = whole.partition(b"\n")
        plain = json.loads(head)
        change(plain)
        content = b"cms-backup 1\n" + json.dumps(plain).encode() + b"\n" + (body or rest[:-72])
        return content + b"sha256 " + hashlib.sha256(content).hexdigest().encode() + b"\n"

    def setUp(self) -> None:
        """One that is good."""
        super().setUp()
        self.whole = self.backup()

    def test_whole(self) -> None:
        """Made in the same way without a change it is accepted, so the others fail for a reason."""
        self.file.write_bytes(self.made(lambda plain: None))
        self.cms("restore", str(self.file), *self.callbridge)

    def test_somebody_elses(self) -> None:
        """Empty, text, a database, an archive."""
        for content in (b"", b"x", b"\0" * 100_000, b"cms-backup \n", b"cms-backup one\n{}\n"):
            self.assertIn("is no backup of cms", self.refuses(content))
        self.refuses((self.state / "users.sqlite3").read_bytes())
        self.refuses(b"cms-backup 1\n" + b"[" * 100_000)

    def test_cut(self) -> None:
        """Wherever it ends."""
        size = len(self.whole)
        for end in (5, 13, 14, 100, size // 2, size - 72, size - 40, size - 1):
            self.refuses(self.whole[:end])
        self.refuses(self.whole + b"\n")

    def test_changed(self) -> None:
        """A bit anywhere, in its head, its files or its digest."""
        size = len(self.whole)
        for at in (12, 20, 60, 500, size // 3, size // 2, size - 73, size - 60, size - 2):
            changed = bytearray(self.whole)
            changed[at] ^= 1
            self.refuses(bytes(changed))

    def test_newer(self) -> None:
        """A later format, a file or a schema that this version does not know."""
        self.assertIn("newer", self.refuses(self.whole.replace(b"backup 1\n", b"backup 2\n", 1)))

        def schema(plain: dict[str, Any]) -> None:
            plain["files"][0]["version"] = 99

        def name(plain: dict[str, Any]) -> None:
            plain["files"][0]["name"] = "new.sqlite3"

        self.assertIn("of version 99", self.refuses(self.made(schema)))
        self.assertIn("does not know", self.refuses(self.made(name)))

    def test_paths(self) -> None:
        """No name leads anywhere else; no file comes twice; sizes are numbers that fit."""
        for key, value in (
            *(("name", "../users.sqlite3"), ("name", "/etc/passwd"), ("name", "admin.sock")),
            *(("size", -1), ("size", 1 << 62), ("size", "9"), ("size", None), ("version", None)),
            *(("version", 0), ("version", "1"), ("name", "spaces.sqlite3"), ("more", 1)),
            *(("name", ["users.sqlite3"]), ("name", {})),
        ):

            def change(plain: dict[str, Any], key: str = key, value: object = value) -> None:
                plain["files"][0][key] = value

            self.refuses(self.made(change))
        self.refuses(self.made(lambda plain: plain.update(role="nobody")))
        self.refuses(self.made(lambda plain: plain.update(domain=1)))
        self.refuses(self.made(lambda plain: plain.update(files=None)))

    def alone(self, path: Path, version: int) -> bytes:
        """A backup that holds this as the store of users alone."""
        entry = {"name": "users.sqlite3", "size": path.stat().st_size, "version": version}
        return self.made(partial(dict.update, files=[entry]), path.read_bytes())

    def test_hostile_database(self) -> None:
        """One that acts by itself, refers to nothing, or is of another version than it says."""
        path = self.folder / "hostile.sqlite3"
        store = UserStore(self.folder / "hostile")
        good = store.path.read_bytes()
        for statement in (
            "CREATE TRIGGER t AFTER INSERT ON users BEGIN DELETE FROM scram; END",
            "CREATE VIEW v AS SELECT * FROM users",
            "INSERT INTO scram VALUES ('nobody', 'x', x'00', 1, x'00', x'00')",
            "PRAGMA user_version = 0",
        ):
            path.write_bytes(good)
            with closing(sqlite3.connect(path)) as database, database:
                database.execute(statement)
            self.assertIn("is damaged", self.refuses(self.alone(path, 1)))
        path.write_bytes(good[:4096] + os.urandom(8192) + good[12288:])
        self.assertIn("is damaged", self.refuses(self.alone(path, 1)))

    def test_settings(self) -> None:
        """Settings that are none, or that this configuration cannot have."""
        for content in (b"[1]", b"{", b'{"version": 2}'):
            entry = {"name": SETTINGS, "size": len(content), "version": None}
            self.refuses(self.made(partial(dict.update, files=[entry]), content))


class CrashTests(BackupTests):
    """The end of the process, or a disk that fails, at any moment of a restore."""

    def test_any_moment(self) -> None:
        """Afterwards all files are the old ones or all are the new ones."""
        old = self.content()
        self.backup()
        self.cms("callbridge", "user", "add", "bob", "--password-stdin", text="pw")
        (self.state / SETTINGS).unlink()
        other = self.content()
        seen = set()
        for moment in range(40):
            done = [0]

            def rename(source: Any, target: Any, *, at: int = moment, done: Any = done) -> None:
                if done[0] == at:
                    raise OSError(5, "Input/output error")
                done[0] += 1
                os.replace(source, target)

            folder = self.state
            staged = restoring.stage(folder)
            manifest = unpack(self.file, KNOWN, staged)
            names = [entry.name for entry in manifest.files]
            patch = self.patch(os, "rename", rename)
            try:
                restoring.commit(folder, names, OF_CALLBRIDGE)
                crashed = False
            except OSError:
                crashed = True
            patch.restore()
            claim(folder)  # what whoever uses it next does
            after = self.content()
            self.assertIn(after, (old, other), moment)
            seen.add((crashed, after == old))
            self.assertFalse((folder / restoring.PENDING).exists())
            if not crashed:
                break
            self.cms("callbridge", "user", "add", "bob", "--password-stdin", text="pw")
            (folder / SETTINGS).unlink(missing_ok=True)
            other = self.content()
        self.assertEqual({(True, False), (True, True), (False, True)}, seen)

    def test_no_room(self) -> None:
        """The new files do not fit: nothing has changed, and nothing is left."""
        self.backup()
        before = self.content()

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", fail)
        self.refused("restore", str(self.file), *self.callbridge, status=2)
        self.assertEqual(before, self.content())
        self.assertFalse((self.state / restoring.STAGED).exists())
        other = self.folder / "b2"
        self.refused("backup", str(other), *self.callbridge, status=2)
        self.assertEqual([], [f.name for f in self.folder.iterdir() if "b2" in f.name])

    def test_damaged_pending(self) -> None:
        """What says that a restore is not complete cannot be read: nobody goes on."""
        (self.state / restoring.PENDING).write_text("{")
        self.assertRaises(UnsafeFolder, claim, self.state)
        self.assertIn("restore again", self.refused("callbridge", "user", "list", status=2))


class FilesTests(BackupTests):
    """What a backup holds."""

    def test_no_file_is_forgotten(self) -> None:
        """Each file that a daemon keeps in its state directory is in the table of its role."""
        for role, known in (("callbridge", OF_CALLBRIDGE), ("xmpp", OF_XMPP)):
            for room in (role, "admin"):
                for source in (ROOT / room).rglob("*.py"):
                    for name in re.findall(
                        r'"([a-z][a-z-]*\.(?:sqlite3|json|password))"', source.read_text()
                    ):
                        if name not in NOT_STATE:
                            self.assertIn(name, known, f"{source}: see cms/{role}/statefiles.py")

    def test_entries(self) -> None:
        """Without files it is a backup too."""
        empty = self.folder / "empty"
        empty.mkdir()
        made = write(empty, OF_XMPP, ABOUT, self.file)
        self.assertEqual((), made.files)
        self.assertRaises(Unusable, unpack, self.folder / "xmpp.toml", KNOWN, empty)
        self.assertEqual(made, unpack(self.file, KNOWN, empty))
        self.assertEqual("x", Entry("x", 1, None).name)


NOT_STATE = {"openapi.json", "host-meta.json", "alice.password"}
