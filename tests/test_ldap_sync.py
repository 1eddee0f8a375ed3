"""Syncs of LDAP directories."""

from __future__ import annotations

import sqlite3
import stat
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.directories.making import House
from cms.callbridge.directories.synced import SyncOutcome
from cms.callbridge.ldap import collected
from cms.callbridge.ldap.connection import MOST_BYTES, FoundEntry
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.metrics import DirectoriesCollector
from cms.callbridge.passwords.scram import derive
from cms.signalflow import StepError
from tests import LoggedError
from tests.ldapserver import BASE
from tests.ldapstage import DOMAIN, LdapStage
from tests.support import new_folder, observe_log
from tests.test_metrics import Figures


class SyncCase(SynchronousTestCase):
    """Ten people."""

    def setUp(self) -> None:
        """See above."""
        self.set_up()

    def set_up(self, **changes: Any) -> None:
        """The stage with other settings."""
        self.stage = LdapStage(new_folder(self), **{"page_size": 3, **changes})
        self.dc1, self.sync, self.store = self.stage.dc1, self.stage.sync, self.stage.store
        self.addCleanup(self.stage.close)
        for number in range(10):
            self.stage.person(f"u{number}")

    def run_it(self, *, allow_removal: bool = False) -> SyncOutcome:
        """One that succeeds."""
        return self.successResultOf(self.sync.run(allow_removal=allow_removal))

    def refused(self, asked: Deferred[Any] | None = None) -> StepError:
        """One that fails; users are as before."""
        before = self.names
        error: StepError = self.failureResultOf(asked or self.sync.run(), StepError).value
        self.assertEqual(before, self.names)
        self.assertEqual([], self.stage.ended)
        outcome = self.store.outcome("ldap")
        assert outcome is not None
        assert outcome.problem is not None
        self.assertEqual(error.fault, outcome.problem["fault"])
        self.assertEqual(1, len(self.flushLoggedErrors(LoggedError)))
        return error

    @property
    def names(self) -> list[str]:
        """Who is known."""
        return [user.name for user in self.store.users("ldap")]


class FoundTests(SyncCase):
    """What a sync finds."""

    def test_all(self) -> None:
        """All of them, page by page."""
        outcome = self.run_it()
        self.assertEqual([f"u{number}" for number in range(10)], self.names)
        self.assertEqual((10, 10), (outcome.users, outcome.added))
        self.assertEqual((0, 0), (outcome.removed, outcome.left_out))
        self.assertEqual(4, self.dc1.pages)
        self.assertEqual(outcome, self.store.outcome("ldap"))
        self.assertEqual("U3", self.store.users("ldap")[3].shown)
        self.assertEqual([], self.dc1.open)

    def test_figures(self) -> None:
        """Operators see servers that fail, and what became of the syncs, also after a restart."""
        nobody: Any = None
        figures = Figures(DirectoriesCollector(House(nobody, {"ldap": self.sync})))

        def shown() -> list[float | None]:
            up = figures("cms_callbridge_directory_servers", directory="ldap", state="up")
            name = "cms_callbridge_directory_synced_timestamp_seconds"
            synced = figures(name, directory="ldap")
            failed = figures("cms_callbridge_directory_sync_failed", directory="ldap")
            return [up, synced, failed]

        self.assertEqual([2, None, None], shown())
        outcome = self.run_it()
        when = datetime.fromisoformat(outcome.succeeded).timestamp()
        self.assertEqual([2, when, 0], shown())
        self.dc1.refuses = self.stage.dc2.refuses = True
        self.stage.ended.clear()
        self.refused()
        self.assertEqual([0, when, 1], shown())
        name = "cms_callbridge_directory_servers"
        self.assertEqual(2, figures(name, directory="ldap", state="away"))
        self.assertEqual(0, figures("cms_callbridge_directory_connections", directory="ldap"))
        self.assertEqual(0, figures("cms_callbridge_directory_waiting", directory="ldap"))

    def test_private(self) -> None:
        """The file is its owner's, and holds no password."""
        self.run_it()
        self.assertEqual(0o600, stat.S_IMODE(self.store.path.stat().st_mode))
        self.assertNotIn(b"s3cret", self.store.path.read_bytes())

    def test_gone(self) -> None:
        """Who is gone or disabled loses his sessions, nobody else does."""
        self.run_it()
        del self.dc1.entries[f"uid=u1,{BASE}"]
        self.dc1.person("u2", userAccountControl="514")
        self.dc1.person("u3", cn="Other")
        self.dc1.person("new")
        outcome = self.run_it()
        self.assertEqual((1, 2, 1), (outcome.added, outcome.changed, outcome.removed))
        self.assertEqual(2, outcome.sessions_ended)
        self.assertEqual(outcome, self.store.outcome("ldap"))
        self.assertEqual([(("u1",), "deleted"), (("u2",), "disabled")], self.told())
        self.run_it()
        self.assertEqual([], self.told())

    def test_password(self) -> None:
        """Another password ends the sessions of before, once, and kept keys are gone."""
        self.dc1.person("u1", pwdChangedTime="20261129080000Z")
        self.dc1.person("u2", pwdChangedTime="20261129080000Z", entryCSN="1")
        self.dc1.person("u3", shadowLastChange="20000")
        self.dc1.person("u4", pwdLastSet="133000000000000000")
        self.run_it()
        self.assertEqual([], self.told())
        keys = {"SCRAM-SHA-256": derive("old", "sha256", b"salt", 4096)}
        for name in ("u1", "u2"):
            self.store.keep_keys("ldap", name, keys, b"state")
        self.dc1.person("u1", pwdChangedTime="20261129090000Z")
        self.dc1.person("u2", pwdChangedTime="20261129080000Z", entryCSN="2")
        self.dc1.person("u3", shadowLastChange="20001")
        self.dc1.person("u4", pwdLastSet="133000000000000001")
        self.dc1.person("u5", pwdChangedTime="20261129090000Z")  # as the first that is known of his
        outcome = self.run_it()
        self.assertEqual([(("u1", "u3", "u4"), "password")], self.told())
        self.assertEqual(3, outcome.sessions_ended)
        with self.store.open() as connection:
            kept = connection.execute("SELECT name FROM keys").fetchall()
        self.assertEqual([("u2",)], kept)
        self.run_it()
        self.assertEqual([], self.told())

    def test_somebody_else(self) -> None:
        """Whose address another entry has now loses sessions and keys, whatever else is said."""
        for name, uid in (("anna", "boss"), ("bert", "other")):
            more = {"entryUUID": f"uuid-{name}", "pwdChangedTime": f"2026{name == 'anna':d}Z"}
            self.dc1.add(f"cn={name},{BASE}", objectClass="person", uid=uid, cn=name, **more)
        self.run_it()
        keys = derive("s3cret", "sha1", b"salt", 4_096)
        for uid in ("boss", "other", "u1"):
            self.store.keep_keys("ldap", uid, {"SCRAM-SHA-1": keys}, b"")
        anna, bert = (self.dc1.entries[f"cn={name},{BASE}"] for name in ("anna", "bert"))
        anna["uid"], bert["uid"] = bert["uid"], anna["uid"]
        lines: list[str | None] = []
        observe_log(self, lambda event: lines.append(formatEvent(event)))
        outcome = self.run_it()
        (told,) = [line for line in lines if line and "contacts forget" in line]
        self.assertIn("2 addresses with another entry than before (boss, other)", told)
        self.assertEqual([(("boss", "other"), "deleted")], [e for e in self.stage.ended if e[0]])
        self.assertEqual((2, 2, 0), (outcome.sessions_ended, outcome.changed, outcome.removed))
        with self.store.open() as connection:
            left = connection.execute("SELECT name FROM keys").fetchall()
            self.assertEqual([("u1",)], left)
        known = {user.name: user for user in self.store.users("ldap")}
        self.assertEqual(f"cn=bert,{BASE}", known["boss"].dn)
        self.assertEqual("pwdChangedTime 20260", known["boss"].password)
        self.assertEqual([outcome.ended] * 2, [known["boss"].seen, known["other"].seen])
        self.stage.ended.clear()
        self.run_it()
        self.assertEqual([], [e for e in self.stage.ended if e[0]])

    def test_renamed(self) -> None:
        """Nor does it help that the DN is made of the address, as with C{uid} at OpenLDAP."""
        for number, name in enumerate(("anna", "bert", "carl")):
            self.stage.person(name, entryUUID=str(number))
        self.run_it()
        entries = self.dc1.entries
        dns = [f"uid={name},{BASE}" for name in ("anna", "bert", "carl", "dora")]
        for dn, uuid in zip(dns, (b"1", b"0", b"3", b"2"), strict=True):
            found = entries.setdefault(dn, {**entries[dns[0]], "uid": [b"dora"]})
            found["entryuuid"] = [
                uuid
            ]  # anna and bert swap; carl is dora now, and there is a new one
        outcome = self.run_it(allow_removal=True)
        ended = [event for event in self.stage.ended if event[0]]
        self.assertEqual([(("anna", "bert", "carl"), "deleted")], ended)
        self.assertEqual((3, 1), (outcome.sessions_ended, outcome.added))

    def test_same_one(self) -> None:
        """Who is moved, or is read from a server that was filled by itself, is the same."""
        self.dc1.add(f"cn=anna,{BASE}", objectClass="person", uid="anna", cn="A", entryUUID="1")
        self.run_it()
        moved = self.dc1.entries[f"cn=anna,ou=new,{BASE}"] = self.dc1.entries.pop(f"cn=anna,{BASE}")
        self.run_it()
        moved["entryuuid"] = [b"2"]
        self.run_it()
        moved["entryuuid"] = [b"1"]
        self.run_it()
        self.assertEqual([], [e for e in self.stage.ended if e[0]])

    def test_password_of_replica(self) -> None:
        """A replica that lags behind, and one that says nothing, tell of no other password."""
        self.dc1.person("u1", pwdChangedTime="20261129090000Z")
        self.run_it()
        for more in ({"pwdChangedTime": "20261129080000Z"}, {}):
            self.dc1.person("u1", **more)
            self.run_it()
            self.dc1.person("u1", pwdChangedTime="20261129090000Z")
            self.run_it()
        self.dc1.person("u1", pwdLastSet="133000000000000000")
        self.run_it()
        self.assertEqual([], self.told())

    def test_password_not_meant(self) -> None:
        """An operator may not want that."""
        self.set_up(new_password_ends=False)
        for moment in ("20261129080000Z", "20261129090000Z"):
            self.dc1.person("u1", pwdChangedTime=moment)
            self.run_it()
        self.assertEqual([], self.told())
        over = self.stage.directory.over("u1", datetime(1960, 1, 1, tzinfo=UTC))
        self.assertIsNone(self.successResultOf(over))

    def told(self) -> list[tuple[tuple[str, ...], str]]:
        """What was told of sessions since the last time, if it was of anybody."""
        told, self.stage.ended[:] = [each for each in self.stage.ended if each[0]], []
        return told

    def test_left_out(self) -> None:
        """Whose entry cannot be a user is reported by name, and left out."""
        self.set_up(jid=parse_template(f"$mail$@{DOMAIN}"))
        for number in range(10):
            self.dc1.person(f"u{number}", mail=f"m{number}")
        self.dc1.person("none")
        self.dc1.person("bad", mail="a b")
        self.dc1.person("guest", mail="x@y")
        self.dc1.person("one", mail="Straße")
        self.dc1.person("two", mail="strasse")
        self.stage.elsewhere = {"m9": "local"}
        warned: list[Any] = []
        observe_log(self, lambda event: warned.append(event.get("fault")))
        outcome = self.run_it()
        self.assertEqual([f"m{number}" for number in range(9)], self.names)
        self.assertEqual(6, outcome.left_out)
        found = {each.entry.partition(",")[0]: each for each in self.store.left_out("ldap")}
        self.assertEqual("it has no mail", found["uid=none"].reason)
        self.assertIn("2 entries have the address of strasse", found["uid=one"].reason)
        self.assertIn("2 entries have the address of strasse", found["uid=two"].reason)
        self.assertIn("directory local, which comes before", found["uid=u9"].reason)
        self.assertEqual({"uid=bad", "uid=guest"}, set(found) & {"uid=bad", "uid=guest"})
        self.assertEqual(1, warned.count(faults.SYNC_LEFT_OUT.name))


def _sizes(uids: dict[str, str]) -> tuple[int, list[int]]:
    """How many there are, and how long those are that are too long."""
    return len(uids), [len(uid) for uid in uids if len(uid) > 9]


class BelievedTests(SyncCase):
    """What is not believed."""

    def test_cut(self) -> None:
        """A connection that is lost between pages."""
        self.run_it()
        self.stage.ended.clear()
        self.dc1.pages, self.dc1.cut_after = 0, 2
        error = self.refused()
        self.assertEqual(faults.SYNC_BROKEN.name, error.fault)
        self.assertIn("after 6 entries", error.cause)
        # What helps is not that the server gives more entries.
        self.assertIn("whether it runs", error.cure)
        self.assertEqual("cms explain ldap-broken", error.mend)

    def test_refused(self) -> None:
        """A server that is busy at a later page."""
        self.run_it()
        self.stage.ended.clear()
        pages = iter((0, 51, 51))
        self.patch(type(self.dc1), "search_code", property(lambda _: next(pages), lambda *_: None))
        error = self.refused()
        self.assertEqual(faults.SYNC_BROKEN.name, error.fault)
        self.assertIn("after 3 entries: ldaps://dc1:636 refuses the search: busy (51)", error.cause)

    def test_size_limit(self) -> None:
        """A server that gives only so many."""
        self.dc1.most = 5
        self.assertEqual(faults.SYNC_CUT.name, self.refused().fault)

    def test_silent(self) -> None:
        """A server that freezes."""
        self.run_it()
        self.stage.ended.clear()
        asked = self.sync.run()
        self.successResultOf(asked)
        self.stage.ended.clear()
        self.dc1.frozen = True
        self.stage.dc2.refuses = True
        asked = self.sync.run()
        self.stage.clock.advance(31)
        self.assertEqual(faults.LDAP_UNREACHABLE.name, self.refused(asked).fault)

    def test_empty(self) -> None:
        """Nobody at all, as an account sees it that may read nothing."""
        self.run_it()
        self.stage.ended.clear()
        self.dc1.entries.clear()
        self.assertEqual(faults.SYNC_EMPTY.name, self.refused().fault)
        outcome = self.run_it(allow_removal=True)
        self.assertEqual((0, 10), (outcome.users, outcome.removed))

    def test_too_many_removed(self) -> None:
        """More than a part of them, gone and disabled together."""
        self.run_it()
        self.stage.ended.clear()
        del self.dc1.entries[f"uid=u1,{BASE}"]
        self.dc1.person("u2", userAccountControl="514")
        self.dc1.person("u3", userAccountControl="514")
        error = self.refused()
        self.assertEqual(faults.SYNC_REMOVES.name, error.fault)
        self.assertIn("3 of 10 users, and at most 2", error.cause)
        self.run_it(allow_removal=True)
        self.assertEqual(9, len(self.names))

    def test_most_users(self) -> None:
        """More than are taken."""
        self.set_up(most_users=9)
        self.assertEqual(faults.SYNC_TOO_MANY.name, self.refused().fault)

    def test_endless(self) -> None:
        """A server that has always another page."""
        self.set_up(most_users=9)
        self.dc1.entries.clear()
        self.dc1.endless = True
        error = self.refused()
        self.assertEqual(faults.SYNC_BROKEN.name, error.fault)
        self.assertIn("more than 100 pages without an entry", error.cause)
        self.assertEqual([], self.dc1.open)

    def test_small_pages(self) -> None:
        """A server that puts fewer into a page than were asked for comes to an end too."""
        self.set_up(most_users=10)
        self.dc1.most_page = 1
        self.assertEqual(10, self.run_it().users)

    def test_drip(self) -> None:
        """All pages together have their time too."""
        self.set_up(most_users=9, sync_timeout=10)
        self.dc1.most_page, wait = 1, self.stage.clock.advance
        self.patch(type(self.dc1), "pages", property(lambda _: 0, lambda *_: wait(9)))
        error = self.refused()
        self.assertEqual(faults.SYNC_BROKEN.name, error.fault)
        self.assertIn("did not answer within 50 s (search)", error.cause)

    def test_told_twice(self) -> None:
        """An entry that a server tells twice is one, and its user loses nothing."""
        self.run_it()
        self.stage.ended.clear()
        self.dc1.add(f"UID=U1, {BASE.upper()}", objectClass="person", uid="u1", cn="U1")
        outcome = self.run_it()
        self.assertEqual((10, 0, 0), (outcome.users, outcome.removed, outcome.left_out))
        self.assertEqual([], [names for names, _ in self.stage.ended if names])

    def test_many_left_out(self) -> None:
        """All are counted, and the first are kept."""
        self.patch(collected, "MOST_LEFT_OUT", 3)
        for number in range(5):
            self.dc1.person(f"bad {number}")
        self.assertEqual(5, self.run_it().left_out)
        self.assertEqual(3, len(self.store.left_out("ldap")))

    def test_filled_up(self) -> None:
        """However many have filled up their entries, the others are synchronised."""
        self.set_up(page_size=100)
        for number in range(80):
            self.dc1.person(f"large{number}", cn="x" * (MOST_BYTES - 200))
        for number in range(10):
            self.dc1.person(f"huge{number}", cn="x" * 2_000_000)
        outcome = self.run_it()
        self.assertEqual((90, 10), (outcome.users, outcome.left_out))

    def test_kept(self) -> None:
        """Of an entry that is filled up little is kept until the sync ends."""
        uids = ["u1", *(f"{number:x<600}" for number in range(1, 10))]
        self.dc1.person("u1", cn="n" * 2_000)
        self.run_it()
        self.assertEqual("n" * 200, self.store.users("ldap")[1].shown)
        for base, kept in ((BASE, 4), ("", 0)):
            stage = LdapStage(new_folder(self), groups_base=base)
            self.addCleanup(stage.close)
            found = collected.Collected(stage.directory)
            values = {"uid": tuple(map(str.encode, uids)), "cn": (b"n",)}
            found.take([FoundEntry("cn=u1", values)])
            self.assertEqual((kept, [256] * (kept - 1)), _sizes(found.uids))

    def test_base(self) -> None:
        """What a server says at once is told as it is."""
        self.dc1.search_code = 32
        self.assertEqual(faults.LDAP_BASE_MISSING.name, self.refused().fault)

    def test_not_stored(self) -> None:
        """A store that cannot be written: told, and nothing is half done."""
        self.run_it()
        locked = sqlite3.connect(self.store.path, isolation_level=None)
        self.addCleanup(locked.close)
        self.patch(sqlite3, "connect", _impatient(sqlite3.connect))
        locked.execute("BEGIN EXCLUSIVE")
        del self.dc1.entries[f"uid=u1,{BASE}"]
        error = self.failureResultOf(self.sync.run(), StepError).value
        self.assertEqual(faults.STATE_BUSY.name, error.fault)
        self.flushLoggedErrors(LoggedError)
        locked.execute("ROLLBACK")
        self.assertEqual(10, len(self.names))


class TimeTests(SyncCase):
    """When."""

    def test_timer(self) -> None:
        """Soon after the start, and then by the interval."""
        self.set_up(sync_interval=1000.0)
        self.sync.start()
        self.stage.clock.advance(10)
        self.assertEqual(10, len(self.names))
        assert self.sync.next is not None
        self.assertTrue(900 <= self.sync.next <= 1100)
        self.dc1.person("new")
        self.stage.clock.advance(1100)
        self.assertIn("new", self.names)

    def test_retry(self) -> None:
        """One that failed is tried sooner."""
        self.set_up(sync_interval=3600.0)
        self.dc1.search_code = 32
        self.sync.start()
        self.stage.clock.advance(10)
        assert self.sync.next is not None
        self.assertTrue(270 <= self.sync.next <= 330)
        self.flushLoggedErrors(LoggedError)
        self.dc1.search_code = 0
        self.stage.clock.advance(330)
        self.assertEqual(10, len(self.names))

    def test_no_timer(self) -> None:
        """Only on demand."""
        self.set_up(sync_interval=0.0)
        self.sync.start()
        self.assertIsNone(self.sync.next)
        self.run_it()
        self.assertIsNone(self.sync.next)

    def test_joined(self) -> None:
        """Who asks while one runs gets its result; who leaves does not stop it."""
        self.dc1.frozen = True
        first, second = self.sync.run(), self.sync.run()
        self.assertEqual(0, self.sync.running)
        first.cancel()
        self.failureResultOf(first)
        self.assertNoResult(second)
        self.stage.clock.advance(61)
        self.failureResultOf(second, StepError)
        self.flushLoggedErrors(LoggedError)
        self.assertIsNone(self.sync.running)


def _impatient(connect: Any) -> Any:
    return lambda path, timeout=0, **more: connect(path, timeout=0, **more)
