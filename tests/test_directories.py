"""Several directories in their order."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.config import CallbridgeConfig, LinkSettings, LoginLimits, TLSFiles
from cms.callbridge.directories.directory import AccountLocked, DirectoryError, LocalDirectory
from cms.callbridge.directories.making import House, Surroundings, make_directories
from cms.callbridge.directories.several import Directories
from cms.callbridge.directories.store import UserStore, write_keys
from cms.callbridge.directories.synced import SyncStore
from cms.callbridge.ldap.settings import LocalSettings
from cms.callbridge.passwords.scram import StoredKeys, derive
from cms.configuration.tomlfile import Secret
from cms.linkprotocol.people import Person
from tests.ldapstage import DOMAIN, LdapStage
from tests.support import new_folder
from tests.test_directory import ThreadedReactor

NOW = datetime.now(UTC)
KEYS = StoredKeys(b"salt", 4096, b"stored", b"server")


@define
class Source:
    """
    A directory.

    @ivar stored: Whom it holds here, with passwords.
    @ivar more: Whom it finds if it is asked.
    @ivar away: It cannot be asked.
    @ivar locked: It looks at no password.
    """

    name: str
    stored: dict[str, str]
    more: dict[str, str] | None = None
    away: bool = False
    locked: bool = False
    usual_wait: float = 0.0
    mechanisms: tuple[str, ...] = ("PLAIN",)
    asked: int = 0
    closed: bool = False

    @property
    def asks(self) -> bool:
        return self.more is not None

    def holds(self, name: str) -> Deferred[bool]:
        return succeed(name in self.stored)

    def verify(self, name: str, password: str) -> Deferred[bool | None]:
        self.asked += 1
        if self.away:
            return fail(DirectoryError("away"))
        if self.locked:
            return fail(AccountLocked())
        known = {**self.stored, **(self.more or {})}
        return succeed(known[name] == password if name in known else None)

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        return self.verify(name, "").addCallback(lambda known: None if known is None else KEYS)

    def over(self, name: str, since: datetime) -> Deferred[str | None]:
        return self.verify(name, "").addCallback(lambda known: "deleted" if known is None else None)

    def person(self, name: str) -> Deferred[Person | None]:
        return succeed(Person(f"{name} of {self.name}") if name in self.stored else None)

    def close(self) -> None:
        self.closed = True


class OrderTests(SynchronousTestCase):
    """Whose a name is."""

    def setUp(self) -> None:
        """LDAP first, then the local store."""
        self.clock = Clock()
        self.ldap = Source("ldap", {"alice": "a", "both": "of ldap"}, {"new": "n"})
        self.local = Source("local", {"root": "r", "both": "of local"})
        self.all = self.directories(self.ldap, self.local)

    def directories(self, *sources: Source) -> Directories:
        """In this order."""
        return Directories(self.clock, sources, ("PLAIN",), lambda *_: KEYS)

    def right(self, name: str, password: str) -> bool | None:
        """What is decided."""
        return self.successResultOf(self.all.verify(name, password))

    def test_person(self) -> None:
        """Of whose the name is; who is not stored is not asked for."""
        for name, said in (("alice", "alice of ldap"), ("both", "both of ldap"),
                           ("root", "root of local")):  # fmt: skip
            self.assertEqual(Person(said), self.successResultOf(self.all.person(name)))
        for name in ("new", "nobody"):
            self.assertEqual(None, self.successResultOf(self.all.person(name)))
        self.assertEqual(0, self.ldap.asked)

    def test_first(self) -> None:
        """The first that has a name decides, and no other."""
        self.assertIs(True, self.right("both", "of ldap"))
        self.assertIs(False, self.right("both", "of local"))
        self.all = self.directories(self.local, self.ldap)
        self.assertIs(True, self.right("both", "of local"))
        self.assertIs(False, self.right("both", "of ldap"))

    def test_new(self) -> None:
        """Whom nobody has stored is asked for."""
        self.assertIs(True, self.right("new", "n"))
        self.assertIsNone(self.right("nobody", "n"))

    def test_away(self) -> None:
        """
        A directory that is away: its users cannot log in for now, nor is somebody nobody;
        others log in, and it is not even asked for them.
        """
        self.ldap.away = True
        self.assertIs(True, self.right("root", "r"))
        self.assertIs(False, self.right("root", "x"))
        self.assertEqual(0, self.ldap.asked)
        for name in ("alice", "both", "nobody"):
            self.failureResultOf(self.all.verify(name, "of local"), DirectoryError)
            self.failureResultOf(self.all.keys(name, "SCRAM-SHA-256"), DirectoryError)
        asked = self.ldap.asked
        for name, held in (("root", True), ("alice", True), ("nobody", False)):
            self.assertIs(held, self.successResultOf(self.all.holds(name)), name)
        self.assertEqual(asked, self.ldap.asked)

    def test_two_asked(self) -> None:
        """One of two is away, and the other knows him."""
        other = Source("other", {}, {"eve": "e"})
        self.ldap.away = True
        self.all = self.directories(self.ldap, other)
        self.assertIs(True, self.right("eve", "e"))
        self.failureResultOf(self.all.verify("nobody", "e"), DirectoryError)

    def test_over(self) -> None:
        """Sessions of who is nobody's are over, if that can be told."""

        def over(name: str) -> str | None:
            return self.successResultOf(self.all.over(name, NOW))

        self.assertEqual([None, None, None], [over(name) for name in ("alice", "root", "new")])
        self.assertEqual("deleted", over("nobody"))
        self.ldap.away = True
        self.assertIsNone(over("root"))
        self.failureResultOf(self.all.over("nobody", NOW), DirectoryError)

    def test_time(self) -> None:
        """A wrong password takes as long for a user of either, and for nobody."""
        self.ldap.usual_wait = 0.25
        for name in ("root", "alice", "nobody"):
            asked = self.all.verify(name, "wrong")
            self.clock.advance(0.2)
            self.assertNoResult(asked)
            self.clock.advance(0.1)
            self.assertFalse(self.successResultOf(asked))
        self.assertIs(True, self.right("root", "r"))
        self.ldap.locked = True
        asked = self.all.verify("alice", "wrong")
        self.clock.advance(0.2)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        self.failureResultOf(asked, AccountLocked)

    def test_close(self) -> None:
        """All are closed."""
        self.all.close()
        self.assertTrue(self.ldap.closed and self.local.closed)


class MakingTests(SynchronousTestCase):
    """From the configuration."""

    def made(
        self,
        *kinds: str,
        limits: LoginLimits | None = None,
        folder: Path | None = None,
        **changes: Any,
    ) -> House:
        """Directories of these kinds in order."""
        folder = folder or new_folder(self)
        self.stage = LdapStage(folder, **changes)
        self.addCleanup(self.stage.close)
        reactor: Any = ThreadedReactor(self)
        reactor.seconds, reactor.callLater = self.stage.clock.seconds, self.stage.clock.callLater
        link = LinkSettings(
            unique_name="cb1", domain=DOMAIN, component=f"cb1.{DOMAIN}", secret=Secret("x")
        )
        config = CallbridgeConfig(
            file=folder / "callbridge.toml",
            tls=TLSFiles(),
            link=link,
            state_dir=folder,
            login=limits or LoginLimits(),
            dns=None,  # type: ignore[arg-type]
            listen=None,  # type: ignore[arg-type]
            record=None,  # type: ignore[arg-type]
            rooms=None,  # type: ignore[arg-type]
            timing=None,  # type: ignore[arg-type]
            directories=tuple(
                LocalSettings() if kind == "local" else self.stage.settings for kind in kinds
            ),
        )
        self.users = UserStore(folder)
        self.opened = 0

        def open_store() -> SyncStore:
            self.opened += 1
            return SyncStore(folder)

        around = Surroundings(
            reactor=reactor,
            finder=None,  # type: ignore[arg-type]
            random=Random(1),
            users=self.users,
            domain=lambda: DOMAIN,
            ended=lambda *_: 0,
            renewed=lambda _: None,
            synced=lambda: None,
            open_store=open_store,
            connect=self.stage.connector,
        )
        house = make_directories(config, around)
        self.addCleanup(house.close)
        return house

    def test_local(self) -> None:
        """The local store alone is as it was: nothing stands before it."""
        house = self.made("local")
        self.assertIsInstance(house.directory, LocalDirectory)
        self.assertEqual((0, {}, ()), (self.opened, house.syncs, house.warnings))
        self.assertEqual(("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"), house.directory.mechanisms)
        limits = evolve(LoginLimits(), mechanisms=("PLAIN", "SCRAM-SHA-1"))
        house = self.made("local", limits=limits)
        self.assertEqual(("SCRAM-SHA-1", "PLAIN"), house.directory.mechanisms)

    def test_keys_of_one_mechanism(self) -> None:
        """What does not work for users who came with other keys is said, if it is offered."""
        self.made("local")
        folder = self.users.path.parent
        keys = derive("x", "sha1", b"salt", 4096)
        with self.users.open() as connection:
            connection.execute("INSERT INTO users (name) VALUES ('alice')")
            write_keys(connection, "alice", {"SCRAM-SHA-1": keys})
        limits = evolve(LoginLimits(), mechanisms=("SCRAM-SHA-256", "PLAIN"))
        both: list[dict[str, Any]] = [{}, {"limits": limits}]
        for offered in both:
            (warning,) = self.made("local", folder=folder, **offered).warnings
            self.assertEqual(faults.MECHANISM_WITHOUT_KEYS.name, warning.fault)
            self.assertIn("no keys for it of 1 user:", warning.cause)
            self.assertIn('["SCRAM-SHA-1", "PLAIN"]', warning.cure)
        limits = evolve(LoginLimits(), mechanisms=("SCRAM-SHA-1", "PLAIN"))
        self.assertEqual((), self.made("local", folder=folder, limits=limits).warnings)

    def test_mechanisms(self) -> None:
        """Offered is what works for the users of each; anything else was chosen, with a warning."""
        scram = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")
        house = self.made("local", "ldap")
        self.assertEqual((("PLAIN",), ()), (house.directory.mechanisms, house.warnings))
        house = self.made("ldap", keep_keys=True)
        self.assertEqual(scram, house.directory.mechanisms)
        self.assertIn("before their first log-in with PLAIN", house.warnings[0].cause)
        house = self.made("ldap", keys_attribute="authPassword")
        self.assertIn("without keys there", house.warnings[0].cause)
        limits = evolve(LoginLimits(), mechanisms=("SCRAM-SHA-256", "PLAIN"))
        house = self.made("local", "ldap", limits=limits)
        self.assertEqual(("SCRAM-SHA-256", "PLAIN"), house.directory.mechanisms)
        (warning,) = house.warnings
        self.assertEqual(faults.MECHANISM_PARTIAL.name, warning.fault)
        self.assertIn("SCRAM-SHA-256 are offered to everybody", warning.cause)

    def test_taken(self) -> None:
        """A sync leaves out who is in an earlier directory."""
        house = self.made("local", "ldap")
        self.users.set_password("alice", "s3cret", iterations=1)
        self.assertEqual({"alice": "local"}, house.syncs["ldap"]._elsewhere())
        house = self.made("ldap", "local")
        self.assertEqual({}, house.syncs["ldap"]._elsewhere())

    def test_closed(self) -> None:
        """The local store is closed once, in the list of directories or only for its decoys."""
        close = LocalDirectory.close
        closed: list[LocalDirectory] = []

        def closes(local: LocalDirectory) -> None:
            if local not in closed:
                close(local)
            closed.append(local)

        self.patch(LocalDirectory, "close", closes)
        for kinds in (("local",), ("local", "ldap"), ("ldap",)):
            before = len(closed)
            self.made(*kinds).close()
            self.assertEqual(before + 1, len(closed), kinds)

    def test_decoy(self) -> None:
        """Unknown users have keys that stay the same."""
        house = self.made("local", "ldap")
        one, two = (house.directory.decoy("eve", "SCRAM-SHA-256") for _ in range(2))
        self.assertEqual(one, two)
