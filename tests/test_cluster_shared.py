"""Registered Callbridges of a cluster: changed once for all servers, each with its own copy."""

from __future__ import annotations

import sqlite3
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from cms.cluster.shared import MOST_BYTES, Untaken, stamp_of
from cms.configuration.tomlfile import Secret
from cms.xmpp.callbridges import Callbridges
from cms.xmpp.callbridgestore import MOST_DELETED, CallbridgeStore
from cms.xmpp.sharedcallbridges import MOST_SECRETS, NoRecord, SharedCallbridges, read, written
from tests import LoggedError
from tests.clustersimulation import Cluster, ClusterServer
from tests.support import new_folder
from tests.test_xmpp_callbridges import DOMAIN, config_in


class AgreementTests(SynchronousTestCase):
    """Three servers, and records that mean nothing."""

    def setUp(self) -> None:
        """All are in."""
        self.cluster = Cluster()
        self.servers = [self.cluster.server(name) for name in ("one", "two", "three")]
        self.one, self.two, self.three = self.servers

    def change(self, server: ClusterServer, name: str, record: bytes) -> None:
        """Somebody changes something at this server."""
        server.copy.all[name] = record
        server.clustering.shared.changed()

    def assert_all(self, **wanted: bytes) -> None:
        """What all have, and the engine."""
        for server in self.servers:
            self.assertEqual(wanted, server.copy.all, server.name)
            self.assertTrue(server.clustering.shared.is_agreed)
        self.assertEqual(wanted, self.cluster.store.records)

    def test_told(self) -> None:
        """A change is at all others within moments, long before they renew their leases."""
        self.change(self.one, "cb1", b"1 a")
        self.cluster.run(0.3)
        self.assert_all(cb1=b"1 a")
        self.change(self.two, "cb1", b"2 b")
        self.change(self.three, "cb2", b"1 c")
        self.cluster.run(0.3)
        self.assert_all(cb1=b"2 b", cb2=b"1 c")

    def test_without_notification(self) -> None:
        """Nothing depends on being told: the lease's answer has the version."""
        self.cluster.store.records["cb1"] = b"1 a"
        self.cluster.store.shared += 1
        self.cluster.run(2.0)
        self.assert_all(cb1=b"1 a")

    def test_cut_off(self) -> None:
        """A change at a server that is cut off counts there, and everywhere when it is back."""
        self.one.engine.disconnect()
        self.change(self.one, "cb1", b"5 here")
        self.change(self.two, "cb1", b"4 there")
        self.change(self.two, "cb2", b"1 new")
        self.cluster.run(1.0)
        self.assertEqual({"cb1": b"5 here"}, self.one.copy.all)
        self.assertFalse(self.one.clustering.status()["callBridgesAgreed"])
        self.assertEqual(b"4 there", self.three.copy.all["cb1"])
        self.one.engine.connect()
        self.cluster.run(1.0)
        self.assert_all(cb1=b"5 here", cb2=b"1 new")
        self.flushLoggedErrors()

    def test_engine_forgets(self) -> None:
        """An engine that has lost all gets it again, and deletes nothing."""
        self.change(self.one, "cb1", b"1 a")
        self.cluster.run(0.3)
        self.cluster.engine_away()
        self.cluster.store.clear()
        self.cluster.run(1.0)
        self.cluster.engine_back()
        self.cluster.run(8.0)
        self.assert_all(cb1=b"1 a")
        self.flushLoggedErrors()

    def test_failover(self) -> None:
        """The last change was not on the replica: it is put there again."""
        self.change(self.one, "cb1", b"1 a")
        self.cluster.run(0.3)
        before = dict(self.cluster.store.records), self.cluster.store.shared
        self.change(self.one, "cb1", b"2 b")
        self.cluster.run(0.3)
        self.cluster.engine_away()
        self.cluster.store.records, self.cluster.store.shared = before
        self.cluster.engine_back()
        self.cluster.run(8.0)
        self.assert_all(cb1=b"2 b")
        self.flushLoggedErrors()

    def test_joins(self) -> None:
        """A server that joins with Callbridges of its own brings them, and takes the others'."""
        self.change(self.one, "cb1", b"7 a")
        self.cluster.run(0.3)
        four = ClusterServer(self.cluster, "four")
        four.copy.all = {"cb1": b"3 older", "cb4": b"2 own"}
        self.cluster.servers.append(four)
        self.servers.append(four)
        self.cluster.run(1.0)
        self.assert_all(cb1=b"7 a", cb4=b"2 own")

    def test_agreed(self) -> None:
        """Who changes something waits until it is there, and no longer than it takes."""
        self.change(self.one, "cb1", b"1 a")
        waiting = self.one.clustering.agreed(2.0)
        self.assertNoResult(waiting)
        self.cluster.run(0.3)
        self.assertTrue(self.successResultOf(waiting))
        self.assertTrue(self.successResultOf(self.one.clustering.agreed(2.0)))
        self.one.engine.disconnect()
        self.change(self.one, "cb1", b"2 a")
        waiting = self.one.clustering.agreed(2.0)
        self.cluster.run(1.9)
        self.assertNoResult(waiting)
        self.cluster.run(0.2)
        self.assertFalse(self.successResultOf(waiting))
        waiting = self.one.clustering.agreed(2.0)
        self.one.clustering.shared.stop()
        self.assertFalse(self.successResultOf(waiting))
        self.flushLoggedErrors()

    def test_bad(self) -> None:
        """What is no record, or too long, is not taken, and replaced by who has a good one."""
        self.change(self.one, "cb1", b"1 a")
        self.cluster.run(0.3)
        there = self.cluster.store.records
        there |= {"cb1": b"x", "cb2": b"nonsense", "cb3": b"9 " + b"x" * MOST_BYTES}
        self.cluster.store.shared += 1
        self.cluster.run(2.0)
        self.assertEqual({"cb1": b"1 a"}, self.two.copy.all)
        self.assertEqual(b"1 a", there["cb1"])

    def test_untaken(self) -> None:
        """A copy that cannot be written is tried again, and the others are not kept from theirs."""
        broken = [True]
        take = self.two.copy.take

        async def fail() -> None:
            raise Untaken

        def taking(records: Any, *, first: bool) -> Deferred[None]:
            return Deferred.fromCoroutine(fail()) if broken[0] else take(records, first=first)

        self.two.copy.take = taking  # type: ignore[method-assign]
        self.change(self.one, "cb1", b"1 a")
        self.cluster.run(1.0)
        self.assertEqual({"cb1": b"1 a"}, self.three.copy.all)
        self.assertEqual({}, self.two.copy.all)
        self.assertFalse(self.two.clustering.shared.is_agreed)
        broken[0] = False
        self.cluster.run(3.0)
        self.assert_all(cb1=b"1 a")

    def test_any_order(self) -> None:
        """Whatever happens to the engine between changes, all end with the newest of each."""
        random = Random(7)
        newest: dict[str, bytes] = {}
        for number in range(60):
            server = random.choice(self.servers)
            deed = random.choice(("change", "change", "change", "cut", "away", "clear"))
            if deed == "change":
                name = random.choice("abc")
                stamp = max(number, stamp_of(server.copy.all.get(name)) + 1)
                record = b"%d %d" % (stamp * 100 + number, number)
                self.change(server, name, record)
                newest[name] = max(newest.get(name, b""), record, key=stamp_of)
            elif deed == "cut":
                server.engine.disconnect()
            elif deed == "away":
                self.cluster.engine_away()
            else:
                self.cluster.store.clear()
            self.cluster.run(random.uniform(0.02, 0.5))
            if random.random() < 0.5:
                self.cluster.engine_back()
        self.cluster.engine_back()
        self.cluster.run(20.0)
        self.assert_all(**newest)
        self.flushLoggedErrors()


class CopyTests(SynchronousTestCase):
    """What of this server's Callbridges is shared, and what is taken from others."""

    def setUp(self) -> None:
        """Two servers' files."""
        self.clock = Clock()
        self.clock.advance(1_000_000)
        folders = (new_folder(self), new_folder(self))
        self.here, self.there = (
            Callbridges(evolve(config_in(folder), state_dir=folder), self.clock.seconds)
            for folder in folders
        )
        self.copy = SharedCallbridges(self.here, DOMAIN, execute)
        self.other = SharedCallbridges(self.there, DOMAIN, execute)

    def meet(self) -> None:
        """The one takes what is newer at the other, and the other way round."""
        for to, source in ((self.copy, self.other), (self.other, self.copy)):
            mine = to.held()
            newer = {n: r for n, r in source.held().items() if stamp_of(r) > stamp_of(mine.get(n))}
            self.successResultOf(to.take(newer, first=True))

    def accepted(self, callbridges: Callbridges, name: str = "cb1") -> list[str]:
        """The secrets of a name that may be used."""
        secrets = callbridges.registry.secrets.get(f"{name}.{DOMAIN}", ())
        return [secret.value for secret in secrets]

    def test_add_rotate_delete(self) -> None:
        """Each is done at the other server too, with the overlap of a rotation."""
        self.here.add("cb1", Secret("one"))
        self.meet()
        self.assertEqual(["one"], self.accepted(self.there))
        self.assertEqual(1_000_000, self.there.find("cb1").created)
        self.there.rotate("cb1", 60, Secret("two"))
        self.meet()
        self.assertEqual(["two", "one"], self.accepted(self.here))
        self.clock.advance(61)
        self.here.expire()
        self.assertEqual(["two"], self.accepted(self.here))
        self.here.delete("cb1")
        self.meet()
        self.assertEqual([], self.accepted(self.there))

    def test_deleted_stays(self) -> None:
        """Who comes back with an older entry brings nothing back; a newer one counts."""
        self.here.add("cb1", Secret("one"))
        self.meet()
        self.here.delete("cb1")
        self.meet()
        self.meet()
        self.assertEqual([], self.accepted(self.here))
        self.there.add("cb1", Secret("again"))  # in the same moment
        self.meet()
        self.assertEqual(["again"], self.accepted(self.here))

    def test_clock_behind(self) -> None:
        """A server whose clock is behind changes what it knows all the same."""
        self.here.add("cb1", Secret("one"))
        self.meet()
        self.clock.rightNow -= 5000
        self.there.rotate("cb1", 0, Secret("two"))
        self.meet()
        self.assertEqual(["two"], self.accepted(self.here))

    def test_other_secret(self) -> None:
        """Both had one before they met: the newer counts, and the other server says so."""
        self.here.add("cb1", Secret("S3CR3T"))
        self.clock.advance(1)
        self.there.add("cb1", Secret("two"))
        with capturedLogs() as logs:
            self.meet()
        self.assertEqual(["two"], self.accepted(self.here))
        (told,) = [event for event in logs if event.get("fault") == "cluster-other-secret"]
        self.assertIn("cb1", told["cause"])
        self.assertNotIn("S3CR3T", str(told))

    def test_an_older_version(self) -> None:
        """A file that it made has no stamps: its newest secret says when it was changed."""
        self.here.add("cb1", Secret("one"))
        self.clock.advance(5)
        self.here.rotate("cb1", 60, Secret("two"))
        with sqlite3.connect(self.here.store.database.path) as connection:
            connection.execute("DROP TABLE changes")
        again = CallbridgeStore(self.here.store.database.path.parent, self.clock.seconds)
        self.assertEqual(1_000_005_000, again.records()["cb1"].stamp)
        self.assertEqual([], [r for r in again.records().values() if r.held is None])

    def test_most_deleted(self) -> None:
        """Not all names that ever were are kept."""
        (self.here.store).take(
            {f"n{n}": evolve(read("n", b"1 {}", DOMAIN), stamp=n) for n in range(MOST_DELETED + 5)}
        )
        kept = self.here.store.records()
        self.assertEqual(MOST_DELETED, len(kept))
        self.assertNotIn("n4", kept)

    def test_no_record(self) -> None:
        """What nobody of ours has written is left out, told with its cure, and not quoted."""
        self.here.add("cb1", Secret("s3cret"))
        (good,) = self.copy.held().values()
        self.assertEqual(good, written(read("cb1", good, DOMAIN)))
        for name, data in (
            ("CB1", good),
            ("a@b", good),
            ("cb1", b"7 "),
            ("cb1", b"7 []"),
            ("cb1", b'7 {"secrets": [["s3cret", 1, null]]}'),
            ("cb1", b'7 {"created": 1, "secrets": []}'),
            ("cb1", b'7 {"created": 1, "secrets": [["", 1, null]]}'),
            ("cb1", b'7 {"created": 1, "secrets": [["s3cret", "x", null]]}'),
            ("cb1", b'7 {"created": 1, "secrets": 5}'),
            ("cb1", b'7 {"created": 1, "secrets": [["s3cret"]]}'),
            ("cb1", b"7 " + b"[" * 100_000),
            ("cb1", b"7 \xff"),
            (
                "cb1",
                b'7 {"created": 1, "secrets": [%s]}'
                % b",".join([b'["s3cret", 1, null]'] * (MOST_SECRETS + 1)),
            ),
        ):
            self.assertRaises(NoRecord, read, name, data, DOMAIN)
        with capturedLogs() as logs:
            self.successResultOf(self.copy.take({"cb1": b"9000000000000 []"}, first=False))
        (told,) = [event for event in logs if event.get("fault") == "cluster-bad-callbridge"]
        self.assertNotIn("s3cret", str(told))
        self.assertEqual(["s3cret"], self.accepted(self.here))

    def test_unusable(self) -> None:
        """A file that cannot be used is told once."""
        self.here.store.database.path.write_text("overwritten" * 1000)
        for _ in range(2):
            self.assertRaises(Untaken, self.copy.held)
        self.assertEqual(1, len(self.flushLoggedErrors(LoggedError)))

    def test_changed_here(self) -> None:
        """A change by command, page, API or another process is told to who shares it."""
        told: list[int] = []
        self.here.on_refresh.append(lambda: told.append(1))
        self.here.add("cb1")
        self.assertEqual([1], told)
