"""The local user store, and the directory over it."""

from __future__ import annotations

import hmac
import queue
import sqlite3
import stat
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.directories import directory
from cms.callbridge.directories.directory import (
    AccountDisabled,
    DirectoryBusy,
    DirectoryError,
    LocalDirectory,
)
from cms.callbridge.directories.store import (
    StoreError,
    User,
    UserStore,
    find_keys,
    user_name,
    write_keys,
)
from cms.callbridge.passwords import recent as recentpasswords
from cms.callbridge.passwords.recent import RecentPasswords
from cms.callbridge.passwords.scram import DEFAULT_ITERATIONS, HASHES, StoredKeys, derive
from cms.linkprotocol.people import Person
from cms.process.threads import SlowWork, TooMuchWork
from tests.support import new_folder, observe_log

DOMAIN = "meet.example.com"


class ThreadedReactor:
    """Only the parts of a reactor that threads need; C{run_until} is its loop."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue()
        self._threads = ThreadPool(1, 2)
        self._threads.start()
        test.addCleanup(self._threads.stop)

    def getThreadPool(self) -> ThreadPool:
        return self._threads

    def callFromThread(self, f: Callable[..., object], *args: object, **kw: object) -> None:
        self._calls.put(lambda: f(*args, **kw))

    def callWhenRunning(self, f: Callable[[], object]) -> None:
        """It runs."""
        f()

    def addSystemEventTrigger(self, *args: object) -> object:
        return None

    def removeSystemEventTrigger(self, trigger: object) -> None:
        """Nothing was added."""

    def run_until(self, wanted: Deferred[Any]) -> None:
        """Work off what threads hand over until C{wanted} has a result."""
        while not wanted.called:
            self._calls.get(timeout=20)()


class InlineReactor(ThreadedReactor):
    """Keeps the functions for threads until the test runs them."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def getThreadPool(self) -> Any:
        return self

    def callFromThread(self, f: Callable[..., object], *args: object, **kw: object) -> None:
        f(*args, **kw)

    def callInThreadWithCallback(
        self, result: Callable[[bool, object], None], f: Callable[[], object]
    ) -> None:
        self.work.append(lambda: result(True, f()))


class StoreTests(SynchronousTestCase):
    """The file."""

    def setUp(self) -> None:
        self.folder = new_folder(self)
        self.store = UserStore(self.folder)

    def keys(self, name: str, mechanism: str) -> Any:
        """What is stored."""
        with self.store.open() as connection:
            return find_keys(connection.cursor(), name, mechanism)

    def test_shown(self) -> None:
        """A name for people: tidied, replaced, taken away, and gone with the user."""
        self.assertFalse(self.store.set_shown("alice", "A"))
        self.store.set_password("alice", "x", iterations=1)
        for name, shown in (("Alice\n  Liddell", "Alice Liddell"), ("A", "A"), ("", "")):
            self.assertTrue(self.store.set_shown("alice", name))
            self.assertEqual([shown], [user.shown for user in self.store.users()])
        self.store.set_shown("alice", "A")
        self.store.delete("alice")
        self.store.set_password("alice", "x", iterations=1)
        self.assertEqual([""], [user.shown for user in self.store.users()])

    def test_private(self) -> None:
        """Folder and files are the owner's alone, also where they were wider."""
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.store.path.chmod(0o644)
        UserStore(self.folder)
        with self.store.open() as connection:
            connection.execute("DELETE FROM users")
            modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in self.folder.iterdir()}
        self.assertIn("users.sqlite3-wal", modes)
        self.assertEqual(set(modes.values()), {0o600})

    def test_no_password(self) -> None:
        """The keys of both hashes are stored, and no byte of the password."""
        self.store.set_password("alice", "correct horse", iterations=4096)
        for mechanism, hash_name in HASHES.items():
            kept = self.keys("alice", mechanism)
            self.assertEqual(kept, derive("correct horse", hash_name, kept.salt, 4096))
            self.assertEqual(len(kept.salt), 16)
        for file in self.folder.iterdir():
            self.assertNotIn(b"correct", file.read_bytes())

    def test_rounds(self) -> None:
        """As many as docs/configuration.md says, and no fewer than RFC 7677 allows."""
        self.store.set_password("alice", "correct horse")
        self.assertEqual({self.keys("alice", m).iterations for m in HASHES}, {10_000})
        self.assertGreaterEqual(DEFAULT_ITERATIONS, 4096)

    def test_random_source(self) -> None:
        """Salts come from the given source, one for each hash."""
        drawn: list[int] = []

        def draw(size: int) -> bytes:
            drawn.append(size)
            return bytes([len(drawn)]) * size

        store = UserStore(new_folder(self), random_bytes=draw)
        store.set_password("alice", "x", iterations=1)
        self.assertEqual(drawn, [32, 16, 16])

    def test_life_of_a_user(self) -> None:
        """Added, listed, changed, disabled, deleted."""
        self.assertTrue(self.store.set_password("bob", "one", iterations=1))
        first = self.keys("bob", "SCRAM-SHA-256")
        self.assertFalse(self.store.set_password("bob", "two", iterations=1))
        self.assertNotEqual(self.keys("bob", "SCRAM-SHA-256"), first)
        self.store.set_password("alice", "x", iterations=1)
        self.assertTrue(self.store.set_disabled("bob", True))
        self.assertFalse(self.store.set_disabled("eve", True))
        listed = [(user.name, user.disabled) for user in self.store.users()]
        self.assertEqual(listed, [("alice", False), ("bob", True)])
        self.assertIsInstance(self.store.users()[0], User)
        self.assertRegex(self.store.users()[0].created, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertTrue(self.store.delete("bob"))
        self.assertFalse(self.store.delete("bob"))
        self.assertIsNone(self.keys("bob", "SCRAM-SHA-256"))

    def test_keys_go_with_the_user(self) -> None:
        """A user who is deleted and added again has no old keys."""
        self.store.set_password("bob", "one", iterations=1)
        self.store.delete("bob")
        with self.store.open() as connection:
            (left,) = connection.execute("SELECT count(*) FROM scram").fetchone()
        self.assertEqual(left, 0)

    def test_name_of_guests(self) -> None:
        """Nobody gets an address by which a guest would be looked for."""
        name = "guest-0123456789abcdef"
        said = str(self.assertRaises(StoreError, self.store.set_password, name, "secret"))
        self.assertIn("guest", said)
        self.assertEqual([], [user for user in self.store.users() if user.name == name])
        self.assertTrue(self.store.set_password("guest-0123", "secret"))

    def test_bad_password(self) -> None:
        """A password that SASLprep refuses is refused in plain words, without it."""
        for password in ("", "\x07secret", "a\udc80"):
            said = str(self.assertRaises(StoreError, self.store.set_password, "bob", password))
            self.assertIn("password", said)
            self.assertNotIn("secret", said)
        self.assertEqual(self.store.users(), [])

    def test_reopened(self) -> None:
        """Users and the decoy key live in the file; another installation has another key."""
        self.store.set_password("bob", "one", iterations=1)
        again = UserStore(self.folder)
        self.assertEqual(len(again.users()), 1)
        self.assertEqual(again.decoy_key(), self.store.decoy_key())
        self.assertNotEqual(UserStore(new_folder(self)).decoy_key(), self.store.decoy_key())

    def test_newer_version(self) -> None:
        """A file of a newer version is left alone."""
        with self.store.open() as connection:
            connection.execute("PRAGMA user_version = 2")
        self.assertIn("newer", str(self.assertRaises(StoreError, UserStore, self.folder)))

    def test_unusable(self) -> None:
        """A file that is no database, or a folder that is none, is named."""
        self.store.path.write_bytes(b"no database at all, but long enough to be looked at" * 9)
        for folder in (self.folder, self.store.path):
            said = str(self.assertRaises(StoreError, UserStore, folder))
            self.assertIn("users.sqlite3", said)


class UserNameTests(SynchronousTestCase):
    """What people type as a user name."""

    def test_forms(self) -> None:
        """The local part and the whole address name the same user."""
        for text in ("alice", "Alice", "alice@meet.example.com", "ALICE@Meet.Example.com"):
            self.assertEqual(user_name(text, DOMAIN), "alice")

    def test_refusals(self) -> None:
        """Others' users, resources and what does not prepare are refused."""
        for text in ("", "@", "a@other.example.com", "a@meet.example.com/r", "a b", "a/b", "a@b..c",
                     "a" * 1024, "a@", f"@{DOMAIN}", "a@.", "\u00ad"):  # fmt: skip
            self.assertRaises(StoreError, user_name, text, DOMAIN)


class RecentPasswordTests(SynchronousTestCase):
    """What is remembered of passwords."""

    def test_bounds(self) -> None:
        """The oldest makes room; nothing is remembered for no time at all; no password is held."""
        self.patch(recentpasswords, "MOST_REMEMBERED", 2)
        keys = StoredKeys(b"salt", 1, b"stored", b"server")
        some, none = RecentPasswords(Clock(), 10.0), RecentPasswords(Clock(), 0.0)
        for name in ("a", "b", "c"):
            for memory in (some, none):
                memory.remember(name, "s3cret", keys.stored_key)
        self.assertEqual(
            [False, True, True], [some.holds(n, "s3cret", keys.stored_key) for n in "abc"]
        )
        self.assertEqual([False] * 3, [none.holds(n, "s3cret", keys.stored_key) for n in "abc"])
        self.assertNotIn("s3cret", repr(vars(some)))
        self.assertFalse(some.holds("b", "other", keys.stored_key))
        self.assertFalse(some.holds("b", "s3cret", b"new"))
        self.assertFalse(RecentPasswords(Clock(), 10.0).holds("b", "s3cret", keys.stored_key))

    def test_forgotten(self) -> None:
        """What is too old goes, whether it is asked for again or not."""
        keys = StoredKeys(b"salt", 1, b"stored", b"server")
        clock = Clock()
        memory = RecentPasswords(clock, 10.0)
        for name in ("a", "b"):
            memory.remember(name, "s3cret", keys.stored_key)
            clock.advance(6)
        self.assertEqual([False, True], [memory.holds(n, "s3cret", keys.stored_key) for n in "ab"])
        clock.advance(6)
        memory.remember("c", "s3cret", keys.stored_key)
        self.assertEqual(["c"], list(memory._known))


class LocalDirectoryTests(SynchronousTestCase):
    """The directory, with real threads."""

    def setUp(self) -> None:
        self.store = UserStore(new_folder(self))
        self.store.set_password("alice", "right", iterations=1)
        self.reactor = ThreadedReactor(self)
        self.directory = LocalDirectory(self.store, self.reactor)
        self.addCleanup(self.directory.close)

    def answer(self, asked: Deferred[Any]) -> Any:
        """The result, once the threads are done."""
        self.reactor.run_until(asked)
        return self.successResultOf(asked)

    def test_keys(self) -> None:
        """Keys of a known user, C{None} for another."""
        for mechanism in HASHES:
            found = self.answer(self.directory.keys("alice", mechanism))
            self.assertEqual(found.iterations, 1)
            self.assertIsNone(self.answer(self.directory.keys("eve", mechanism)))

    def test_person(self) -> None:
        """Who is there, and what people call him."""
        self.assertEqual(Person(""), self.answer(self.directory.person("alice")))
        self.store.set_shown("alice", "Alice Liddell")
        self.assertEqual(Person("Alice Liddell"), self.answer(self.directory.person("alice")))
        self.assertIsNone(self.answer(self.directory.person("eve")))

    def test_verify(self) -> None:
        """Only the right password of a known user passes."""
        self.assertIs(self.answer(self.directory.verify("alice", "right")), True)
        for password in ("wrong", "\x07"):
            self.assertIs(self.answer(self.directory.verify("alice", password)), False)
        self.assertIsNone(self.answer(self.directory.verify("eve", "right")))

    def test_one_mechanism(self) -> None:
        """
        Who came from another server with keys for SCRAM-SHA-1 is a user, and logs in with PLAIN,
        which makes the other keys.  Another password meanwhile is not undone.
        """
        old = derive("right", "sha1", b"salt of old", 4096)
        with self.store.open() as connection:
            write_keys(connection, "alice", {"SCRAM-SHA-1": old})
        lacking = [self.store.without_keys(mechanism) for mechanism in HASHES]
        self.assertEqual([0, 1], lacking)
        self.assertTrue(self.answer(self.directory.holds("alice")))
        self.assertFalse(self.answer(self.directory.holds("eve")))
        self.assertIsNone(self.answer(self.directory.keys("alice", "SCRAM-SHA-256")))
        self.assertIs(self.answer(self.directory.verify("alice", "wrong")), False)
        self.assertEqual(1, self.store.without_keys("SCRAM-SHA-256"))
        self.assertIs(self.answer(self.directory.verify("alice", "right")), True)
        for mechanism, hash_name in HASHES.items():
            keys = self.answer(self.directory.keys("alice", mechanism))
            self.assertEqual(DEFAULT_ITERATIONS, keys.iterations)
            self.assertEqual(derive("right", hash_name, keys.salt, keys.iterations), keys)
        self.assertIs(self.answer(self.directory.verify("alice", "right")), True)
        self.store.complete("alice", "other", old.stored_key)
        self.assertIs(self.answer(self.directory.verify("alice", "right")), True)

    def test_one_mechanism_and_no_room(self) -> None:
        """If the other keys cannot be written, the log-in succeeds, and it is said."""
        with self.store.open() as connection:
            old = derive("right", "sha1", b"salt", 4096)
            write_keys(connection, "alice", {"SCRAM-SHA-1": old})

        def full(*_: object) -> None:
            raise StoreError("the disk is full")

        self.patch(self.store, "complete", full)
        lines: list[str] = []
        observe_log(self, lambda event: lines.append(formatEvent(event)))
        self.assertIs(self.answer(self.directory.verify("alice", "right")), True)
        self.reactor.run_until(self.directory.verify("alice", "wrong"))
        self.assertIn("alice has keys for SCRAM-SHA-1 alone still: the disk is full", lines)

    def test_constant_time(self) -> None:
        """Keys are compared by C{hmac.compare_digest}."""
        compared: list[bytes] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append(other)
            return one == other

        self.patch(hmac, "compare_digest", compare)
        self.assertIs(self.answer(self.directory.verify("alice", "right")), True)
        self.assertIsNone(self.answer(self.directory.verify("eve", "right")))
        self.assertEqual(2, len(compared))

    def test_disabled(self) -> None:
        """That an account is disabled is told only to who knows its password."""
        self.store.set_disabled("alice", True)
        self.assertTrue(self.answer(self.directory.keys("alice", "SCRAM-SHA-1")).disabled)
        self.assertIs(self.answer(self.directory.verify("alice", "wrong")), False)
        asked = self.directory.verify("alice", "right")
        self.reactor.run_until(asked)
        self.failureResultOf(asked, AccountDisabled)

    def test_same_work_for_unknown(self) -> None:
        """An unknown user costs the same PBKDF2 as a known one."""
        rounds: list[int] = []
        real = derive

        def count(password: str, hash_name: str, salt: bytes, iterations: int) -> Any:
            rounds.append(iterations)
            return real(password, hash_name, salt, iterations)

        self.patch(directory, "derive", count)
        self.store.set_password("alice", "right")
        self.answer(self.directory.verify("alice", "wrong"))
        self.answer(self.directory.verify("eve", "wrong"))
        self.assertEqual(rounds, [DEFAULT_ITERATIONS] * 2)

    def test_remembered(self) -> None:
        """A password that was right costs no PBKDF2 for a while; a wrong one always does."""
        clock, rounds = Clock(), []
        real = derive

        def count(password: str, hash_name: str, salt: bytes, iterations: int) -> Any:
            rounds.append(password)
            return real(password, hash_name, salt, iterations)

        self.patch(directory, "derive", count)
        self.directory._verified = RecentPasswords(clock, 300.0)
        for password, right, computed in (
            ("right", True, 1),
            ("right", True, 1),
            ("wrong", False, 2),
            ("wrong", False, 3),
            ("right", True, 3),
        ):
            self.assertIs(self.answer(self.directory.verify("alice", password)), right)
            self.assertEqual(computed, len(rounds))
        clock.advance(301)
        self.assertIs(self.answer(self.directory.verify("alice", "right")), True)
        self.assertEqual(4, len(rounds))
        self.store.set_password("alice", "other", iterations=1)
        self.assertIs(self.answer(self.directory.verify("alice", "right")), False)
        self.assertIs(self.answer(self.directory.verify("alice", "other")), True)
        self.store.set_disabled("alice", True)
        asked = self.directory.verify("alice", "other")
        self.reactor.run_until(asked)
        self.failureResultOf(asked, AccountDisabled)

    def test_decoys(self) -> None:
        """A decoy is stable, looks like real keys and differs by name, hash and installation."""
        one = self.directory.decoy("eve", "SCRAM-SHA-256")
        self.assertEqual(one, self.directory.decoy("eve", "SCRAM-SHA-256"))
        self.assertEqual((len(one.salt), one.iterations), (16, DEFAULT_ITERATIONS))
        self.assertEqual(len(one.stored_key), 32)
        self.assertEqual(len(self.directory.decoy("eve", "SCRAM-SHA-1").stored_key), 20)
        other = LocalDirectory(UserStore(new_folder(self)), self.reactor)
        self.addCleanup(other.close)
        salts = {
            one.salt,
            self.directory.decoy("adam", "SCRAM-SHA-256").salt,
            self.directory.decoy("eve", "SCRAM-SHA-1").salt,
            other.decoy("eve", "SCRAM-SHA-256").salt,
        }
        self.assertEqual(len(salts), 4)

    def test_broken_store(self) -> None:
        """A store that fails is a L{DirectoryError} that says why."""
        with sqlite3.connect(self.store.path) as connection:
            connection.execute("DROP TABLE scram")
        connection.close()
        asked = self.directory.keys("alice", "SCRAM-SHA-1")
        self.reactor.run_until(asked)
        problem = self.failureResultOf(asked, DirectoryError)
        self.assertIn("no such table", problem.getErrorMessage())
        self.flushLoggedErrors()

    def lock(self) -> sqlite3.Connection:
        """Let nobody else read the store until this is closed."""
        other = sqlite3.connect(self.store.path, isolation_level=None)
        self.addCleanup(other.close)
        for statement in ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT"):
            other.execute(statement)
        return other

    def test_at_once(self) -> None:
        """A look-up asks no thread, and sees what another process has just changed."""
        self.patch(self.directory._pool, "runInteraction", lambda *_: self.fail("asked"))
        before = self.successResultOf(self.directory.keys("alice", "SCRAM-SHA-256"))
        self.store.set_password("alice", "other", iterations=1)
        after = self.successResultOf(self.directory.keys("alice", "SCRAM-SHA-256"))
        assert before is not None
        assert after is not None
        self.assertNotEqual(before.stored_key, after.stored_key)
        self.store.delete("alice")
        self.assertIsNone(self.successResultOf(self.directory.keys("alice", "SCRAM-SHA-256")))

    def test_locked(self) -> None:
        """A thread waits for a store that is locked; the reactor does not."""
        lock = self.lock()
        asked = self.directory.keys("alice", "SCRAM-SHA-1")
        self.assertNoResult(asked)
        lock.close()
        self.assertEqual(1, self.answer(asked).iterations)

    def test_busy(self) -> None:
        """Beyond its bound a look-up is refused at once; a cancelled one still counts."""
        self.patch(directory, "MOST_LOOKUPS", 1)
        self.lock()
        first = self.directory.keys("alice", "SCRAM-SHA-1")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.failureResultOf(self.directory.keys("alice", "SCRAM-SHA-1"), DirectoryBusy)


class SlowWorkTests(SynchronousTestCase):
    """Never too many computations."""

    def setUp(self) -> None:
        self.reactor = InlineReactor()
        self.work = SlowWork(self.reactor, at_once=2, most_waiting=3)

    def test_bounds(self) -> None:
        """Two run, three wait, one more is refused."""
        asked = [self.work.run(partial(int, n)) for n in range(5)]
        self.assertEqual(len(self.reactor.work), 2)
        self.failureResultOf(self.work.run(lambda: 9), TooMuchWork)
        while self.reactor.work:
            self.reactor.work.pop(0)()
        self.assertEqual([self.successResultOf(d) for d in asked], [0, 1, 2, 3, 4])

    def test_cancelled_while_waiting(self) -> None:
        """It never runs, and makes room."""
        asked = [self.work.run(partial(int, n)) for n in range(5)]
        asked[2].cancel()
        self.failureResultOf(asked[2], CancelledError)
        self.assertNoResult(self.work.run(lambda: 5))
        self.failureResultOf(self.work.run(lambda: 6), TooMuchWork)

    def test_cancelled_while_running(self) -> None:
        """A thread cannot be stopped, so its turn lasts until it is done."""
        asked = [self.work.run(partial(int, n)) for n in range(3)]
        asked[0].cancel()
        self.failureResultOf(asked[0], CancelledError)
        self.assertEqual(len(self.reactor.work), 2)
        self.reactor.work.pop(0)()
        self.assertEqual(len(self.reactor.work), 2)

    def test_failure(self) -> None:
        """An exception reaches who asked, and the turn ends."""
        reactor = ThreadedReactor(self)
        work = SlowWork(reactor, at_once=1)
        for _ in range(2):
            asked: Deferred[Any] = work.run(lambda: 1 // 0)
            reactor.run_until(asked)
            self.failureResultOf(asked, ZeroDivisionError)
