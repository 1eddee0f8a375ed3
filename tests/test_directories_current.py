"""Directories that change while the daemon runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.directories.current import CurrentHouse, Made
from cms.callbridge.directories.making import House
from cms.callbridge.directories.synced import Difference, SyncedUser, SyncOutcome, SyncStore
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.ldap.settings import LdapSettings, parse_ldap_server
from cms.signalflow import StepError
from tests.support import new_folder, observe_log
from tests.test_admin_login import PoolClock


@define(eq=False)
class FakeDirectory:
    """What decides log-ins."""

    mechanisms: tuple[str, ...] = ("PLAIN",)
    closed: bool = False

    def close(self) -> None:
        """It is over."""
        self.closed = True


@define(eq=False)
class FakeSync:
    """The syncs of one directory."""

    started: bool = False
    stopped: bool = False

    def start(self) -> None:
        """By the timer."""
        self.started = True

    def stop(self) -> None:
        """No more."""
        self.stopped = True


def made(*names: str) -> Made:
    """Directories of the API."""
    return tuple(
        LdapSettings(
            name=name,
            servers=(parse_ldap_server("ldaps://dc1"),),
            base="dc=x",
            jid=parse_template("$uid$@meet.example.com"),
        )
        for name in names
    )


@define(eq=False)
class Stage:
    """Houses that are made, and what is done with them."""

    store: SyncStore
    houses: list[House] = field(factory=list)
    used: list[Any] = field(factory=list)
    ended: list[tuple[Sequence[str], str]] = field(factory=list)
    mechanisms: tuple[str, ...] = ("PLAIN",)
    wrong: StepError | None = None

    def make(self, settings: Made) -> House:
        """One of these."""
        if self.wrong is not None:
            raise self.wrong
        directory: Any = FakeDirectory(self.mechanisms)
        syncs: Any = {each.name: FakeSync() for each in settings}
        self.houses.append(House(directory, syncs, store=self.store if settings else None))
        return self.houses[-1]


class CurrentTests(SynchronousTestCase):
    """C{use_made}."""

    def setUp(self) -> None:
        """One directory was made before the start."""
        self.stage = Stage(SyncStore(new_folder(self)))
        self.current = CurrentHouse(
            *(self.stage.make, made("api-1"), PoolClock()),
            former=lambda: None,
            used=self.stage.used.append,
            ended=lambda names, reason: self.stage.ended.append((names, reason)),
        )
        self.current.start()

    def use(self, *names: str) -> None:
        """These from now on."""
        self.successResultOf(Deferred.fromCoroutine(self.current.use_made(made(*names))))

    def test_other(self) -> None:
        """The new ones decide and sync, the old ones are closed, nobody's session ends."""
        before: Any = self.stage.houses[0]
        self.use("api-1", "api-2")
        now: Any = self.stage.houses[1]
        self.assertEqual([now.directory], self.stage.used)
        self.assertIs(now.directory, self.current.directory)
        self.assertEqual(["api-1", "api-2"], list(self.current.syncs))
        self.assertTrue(all(each.started for each in now.syncs.values()))
        self.assertTrue(before.directory.closed)
        self.assertTrue(before.syncs["api-1"].stopped)
        self.assertEqual([], self.stage.ended)
        self.current.close()
        self.assertTrue(now.directory.closed)

    def test_gone(self) -> None:
        """Users of one that is deleted are forgotten, and their sessions end."""
        store = self.stage.store
        for name, user in (("api-1", "anna"), ("staff", "bert")):
            outcome = SyncOutcome(name, "2026-11-29T05:00:00+00:00", 0.1, users=1)
            changes = Difference(added=(user,))
            store.replace(outcome, [SyncedUser(user, f"cn={user}", user)], changes, [])
        self.assertEqual("api-1", getattr(self.current.outcome("api-1"), "directory", None))
        self.use("staff")
        self.assertEqual([(["anna"], "deleted")], self.stage.ended)
        self.assertEqual([], store.users("api-1"))
        self.assertEqual(1, len(store.users("staff")))

    def test_last_is_gone(self) -> None:
        """Its groups can still be read, so that the XMPP server is told of none."""
        self.use()
        self.assertIs(self.stage.store, self.current.store)
        self.assertEqual({}, self.current.syncs)

    def test_wrong(self) -> None:
        """If the new ones cannot be used all stays as it was."""
        self.stage.wrong = faults.CONFIGURATION_VALUE.error(
            file="x", key="trust", problem="is empty", mend="Give another."
        )
        changing = Deferred.fromCoroutine(self.current.use_made(made("api-2")))
        self.failureResultOf(changing, StepError)
        self.assertEqual(["api-1"], list(self.current.syncs))
        self.assertEqual([], self.stage.used)
        self.assertFalse(self.stage.houses[0].directory.closed)  # type: ignore[attr-defined]

    def test_mechanisms(self) -> None:
        """That other mechanisms work, which the XMPP server does not know yet, is said."""
        events: list[LogEvent] = []
        observe_log(self, events.append)
        self.use("api-1")
        self.assertEqual([], [e for e in events if e["log_level"].name == "warn"])
        self.stage.mechanisms = ("SCRAM-SHA-256", "PLAIN")
        self.use("api-2")
        (told,) = [e for e in events if e["log_level"].name == "warn"]
        self.assertEqual("SCRAM-SHA-256, PLAIN", told["mechanisms"])
