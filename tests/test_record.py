"""The record on disk of log-ins and links: bounded, private, and in nobody's way."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.callbridgepages import CallbridgePages
from cms.admin.recordapi import LOG, record_operation
from cms.admin.recordpages import RecordPages
from cms.metrics.exposition import RecordCollector
from cms.record import record as record_module
from cms.record.files import PARTS, SHARES, STRANGERS, USERS, Files, files_of, read
from cms.record.names import is_whole, may_be, shown_name
from cms.record.reading import Wanted, moment_of
from cms.record.record import BURST, MOST_WAITING, WRITE_EVERY, Record
from cms.record.words import told
from cms.signalflow import Attempt, Step
from tests.adminclient import Client, FakeCallbridge, front
from tests.support import new_folder, observe_log
from tests.test_metrics import Figures
from tests.test_xmpp_costs import calls

NOW = 1_700_000_000.0


class Threads:
    """A thread pool whose one thread works when it is told to."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.is_stuck = False
        self.waiting: list[tuple[Any, Any]] = []

    def callInThreadWithCallback(self, done: Any, work: Any, *rest: Any, **more: Any) -> None:
        """At once, unless it is stuck."""
        if self.is_stuck:
            self.waiting.append((done, work))
            return
        try:
            result, good = work(*rest, **more), True
        except Exception:  # noqa: BLE001 - as a thread pool does
            from twisted.python.failure import Failure  # noqa: PLC0415

            result, good = Failure(), False
        done(good, result)


class Reactor(Clock):
    """A clock with a date, and a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(NOW)
        self.threads = Threads(self)

    def getThreadPool(self) -> Threads:
        return self.threads

    def callFromThread(self, call: Any, *rest: Any) -> None:
        call(*rest)


class RecordTests(SynchronousTestCase):
    """What a daemon writes, and what is read of it."""

    def setUp(self) -> None:
        """A record in a folder."""
        self.folder = new_folder(self)
        self.reactor: Any = Reactor()
        self.lines: list[str] = []
        observe_log(self, lambda event: self.lines.append(str(event.get("log_format"))))
        self.record = self.make()

    def make(self, *, days: int = 14, most: int = 1_048_576) -> Record:
        """The record of another run."""
        return Record(*(self.reactor, self.folder, "callbridge", "r1"), days=days, most=most)

    def refuse(self, user: str = "alice", source: str = "192.0.2.7", **facts: Any) -> None:
        """A log-in failed."""
        facts = {"known": True, "good": False, "reason": "wrong-password", **facts}
        self.record.login(user, source, result="not-authorized", peer=source, **facts)

    def entries(self, **wanted: Any) -> list[dict[str, Any]]:
        """After all was written."""
        self.reactor.advance(WRITE_EVERY)
        return Wanted(**wanted).of(read(self.folder))

    def test_log_in(self) -> None:
        """Who, when, from where and why; in a file that nobody else can read."""
        self.refuse(exchange="e1", mechanism="PLAIN", seconds=0.123456)
        self.assertEqual([], list(read(self.folder)))  # nothing is written in the reactor's turn
        (entry,) = self.entries()
        self.assertEqual(
            ("login", "alice", "wrong-password", NOW, 0.1235),
            tuple(entry[key] for key in ("kind", "user", "reason", "at", "seconds")),
        )
        self.assertRegex(entry["login"], "^[0-9a-f]{12}$")
        self.assertNotIn("exchange", entry)
        ((_, _, path),) = files_of(self.folder)
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
        self.assertEqual(0o700, stat.S_IMODE(path.parent.stat().st_mode))

    def test_survives(self) -> None:
        """Another run goes on in the same file, also behind a line that was cut off."""
        self.refuse()
        self.entries()
        ((_, _, path),) = files_of(self.folder)
        with path.open("ab") as file:
            file.write(b'{"at": 17000')  # the machine lost its power
        self.record = self.make()
        self.refuse("bob")
        self.assertEqual(["alice", "bob"], [entry["user"] for entry in self.entries()])
        self.assertEqual(1, len(files_of(self.folder)))

    def test_full_disk(self) -> None:
        """Lines are lost; that is said once, and counted when there is room again."""
        full = OSError(errno.ENOSPC, "No space left on device")

        def fails(*_: object) -> int:
            raise full

        write = os.write
        self.patch(os, "write", fails)
        for _ in range(3):
            self.refuse()
            self.entries()
        told_ = [line for line in self.lines if "loses entries" in line]
        self.assertEqual(1, len(told_))
        self.patch(os, "write", write)
        self.refuse("bob")
        self.entries()
        self.assertEqual(1, len([line for line in self.lines if "goes on" in line]))
        self.refuse("carol")
        kinds = [(e["kind"], e.get("user") or e.get("number")) for e in self.entries()]
        self.assertEqual([("login", "bob"), ("login", "carol"), ("lost", 3)], sorted(kinds))
        lost = Figures(RecordCollector("xmpp", self.record))
        self.assertEqual(3, lost("cms_xmpp_record_lost_total"))

    def test_stuck_disk(self) -> None:
        """What waits is bounded, nobody waits for it, and a stop takes three seconds at most."""
        self.reactor.threads.is_stuck = True
        for number in range(MOST_WAITING + 20):
            self.record.session(f"user{number}", result="ended")
            if number == 0:
                self.reactor.advance(WRITE_EVERY)
        self.assertEqual(MOST_WAITING, len(self.record._waiting))
        stopped = self.record.stop()
        self.assertNoResult(stopped)
        self.reactor.advance(3)
        self.successResultOf(stopped)

    def test_off(self) -> None:
        """Without days there is no record, and no folder."""
        self.record = self.make(days=0)
        self.record.start()
        self.refuse()
        self.assertEqual([], self.entries())
        self.assertFalse((self.folder / "record").exists())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_size(self) -> None:
        """Each share has its bytes, whatever comes; the newest stay."""
        files = Files(self.folder, 14, 100_000)
        for number in range(3_000):
            entry = {"at": NOW + number, "kind": "login", "user": "x" * 50, "number": number}
            files.write([(USERS if number < 200 else STRANGERS, entry)], NOW + number)
        size = dict.fromkeys(SHARES, 0)
        for share, _, path in files_of(self.folder):
            size[share] += path.stat().st_size
        self.assertLessEqual(size[STRANGERS], 100_000 * SHARES[STRANGERS] * (1 + 1 / PARTS))
        numbers = [entry["number"] for entry in read(self.folder)]
        self.assertEqual(list(range(200)), numbers[:200])  # strangers push out no users
        self.assertEqual(2_999, numbers[-1])

    def test_days(self) -> None:
        """What is too old goes, also if nothing else happens."""
        self.record.start()
        self.refuse()
        self.entries()
        ((_, _, path),) = files_of(self.folder)
        old = NOW - 15 * 86_400
        os.utime(path, (old, old))
        self.reactor.advance(3_600)
        self.assertEqual([], files_of(self.folder))
        self.record.stop()

    def test_flood(self) -> None:
        """One address, and one user, has so many failures; how many were left out is told."""
        for _ in range(3 * BURST):
            self.refuse("e… (3 characters)", known=False)
        self.assertEqual(BURST, len(self.entries()))
        self.refuse("bob", source="192.0.2.8")
        self.assertEqual(1, len(self.entries(user="bob")))
        self.reactor.advance(60)
        self.refuse("e… (3 characters)", known=False)
        self.assertEqual(2 * BURST, self.entries()[-1]["leftOut"])
        for number in range(3 * BURST):  # from everywhere
            self.refuse("alice", source=f"10.0.{number % 250}.1")
        self.assertEqual(BURST, len(self.entries(user="alice")))

    def test_busy(self) -> None:
        """A program that logs in again and again pushes out nobody; nor do guests."""
        for number in range(3 * BURST):
            self.record.login("bot", "192.0.2.7", known=True, good=True, result="success")
            self.record.session("bot", result="ended", reason="closed")
            self.record.login(f"g{number}", "", known=False, good=True, result="success")
            self.record.guest("admitted", "192.0.2.9", "192.0.2.9", good=True)
        self.record.login("alice", "192.0.2.7", known=True, good=True, result="success")
        self.entries()
        entries: dict[str, list[Any]] = {share: [] for share in SHARES}
        for share, _, path in files_of(self.folder):
            entries[share] += map(json.loads, path.read_text().splitlines())
        self.assertEqual(2 * BURST + 1, len(entries[USERS]))
        self.assertEqual("alice", entries[USERS][-1]["user"])
        self.assertEqual(6 * BURST, len(entries[STRANGERS]))
        self.reactor.advance(60)
        self.record.login("bot", "192.0.2.7", known=True, good=True, result="success")
        text = told(self.entries(user="bot")[-1])
        self.assertTrue(text.endswith(f"; {2 * BURST} more before it were left out"), text)

    def test_link(self) -> None:
        """Steps that ended, with their faults; and when the link is up."""
        attempt = Attempt(1, NOW, self.record.step, id="ab-1")
        attempt.begin(Step.CONNECT, NOW, address="192.0.2.1")
        attempt.failed(NOW + 1, faults.LINK_SILENT.error(peer="x", seconds=5))
        attempt.begin(Step.ACTIVE, NOW + 2, link="l1")
        found = self.entries(attempt="ab-1")
        self.assertEqual(
            [("connect", "passed"), ("active", "failed"), ("active", "up")],
            [(entry["name"], entry["result"]) for entry in found],
        )
        self.assertEqual("link-silent", found[1]["fault"])
        self.assertEqual(1, len(self.entries(attempt="l1")))

    def test_cost(self) -> None:
        """A log-in pays for an append: no line is made, and no file touched, in its turn."""

        def log_in() -> None:
            self.record.login(
                *("alice", "192.0.2.7"),
                known=True,
                good=True,
                result="success",
                peer="192.0.2.7",
                exchange="e1",
            )

        log_in()  # the timer runs from the first on
        self.assertLessEqual(calls(log_in), 3)

    def test_find(self) -> None:
        """What waits is written first."""
        self.refuse()
        (entry,) = self.successResultOf(self.record.find(Wanted(user="alice@meet.example.com")))
        self.assertEqual("alice", entry["user"])

    def test_damaged(self) -> None:
        """Whatever the disk made of lines, the others are found in order, and can be told."""
        self.refuse("alice")
        self.refuse("bob")
        self.entries()
        ((_, _, path),) = files_of(self.folder)
        first, second = path.read_bytes().splitlines(keepends=True)
        at = str(NOW).encode()
        wrong = [
            *(second[:40], first[40:], b"\0" * 512, b"\xff\xfe{}", b"[" * 5_000),
            *(
                second.replace(at, each)
                for each in (b"17e4006", b"Infinity", b"1" * 400, b"-1e999")
            ),
            *(second.replace(b'"bob"', each) for each in (b"null", b"{}", b"7")),
        ]
        path.write_bytes(first + b"\n".join(wrong) + b"\n" + second)
        found = self.entries()
        self.assertEqual(["alice", "bob"], [found[0]["user"], found[-1]["user"]])
        self.assertTrue(all(told(entry) for entry in found))

    def test_as_written(self) -> None:
        """A name is found as people write it: what was logged in with was prepared."""
        self.refuse("alice")
        self.refuse(shown_name("zoë", known=False), known=False)
        wanted = {"Alice": "a", "ALICE@Meet.Example.com": "a", "Zoë": "z", "zoe\u0308": "z"}
        for user, first in (wanted | dict.fromkeys(("a/b", "\u202e", "@", "\u0430lice"))).items():
            asked = Wanted(user=user)
            self.entries()
            found = asked.of(read(self.folder, 0.0, asked.needles))
            self.assertEqual([first] if first else [], [entry["user"][0] for entry in found], user)

    def test_newest(self) -> None:
        """As many as are wanted, the newest, in the order in which they came."""
        for number in range(20):
            self.reactor.advance(number % 3)
            self.refuse(f"user{number}", source=f"10.0.0.{number}")
        users = [entry["user"] for entry in self.entries(most=5)]
        self.assertEqual([f"user{number}" for number in range(15, 20)], users)

    def test_steps_of_a_moment(self) -> None:
        """A step of somebody unknown is in another file than the next one, by which he is known."""
        steps = [{"at": 7.0, "kind": "link", "step": step} for step in (9, 10, 7)]
        self.assertEqual([7, 9, 10], [entry["step"] for entry in Wanted().of(steps)])

    def test_needles(self) -> None:
        """No entry that is asked for is passed over, whatever is in its name."""
        for name, known in (('a"b', True), ("zoë", True), ("hunter2", False)):
            self.refuse(shown_name(name, known=known), known=known, login=f"l{name[0]}")
        self.entries()
        for wanted in ({"user": 'a"b'}, {"user": "zoë"}, {"user": "hunter2"}, {"login": "lz"}):
            asked = Wanted(**wanted)  # type: ignore[arg-type]
            found = asked.of(read(self.folder, 0.0, asked.needles))
            self.assertEqual((1, found), (len(found), asked.of(read(self.folder))))


class NamesTests(SynchronousTestCase):
    """What is kept of a name."""

    def test_shown(self) -> None:
        """A user's whole name; of a name that nobody has, its first character and its length."""
        self.assertEqual("alice", shown_name("alice", known=True))
        shown = shown_name("hunter2", known=False)
        self.assertEqual("h… (7 characters)", shown)
        self.assertEqual((True, False), (is_whole("alice"), is_whole(shown)))
        self.assertTrue(may_be(shown, "hunter2"))
        self.assertTrue(may_be("alice", "alice"))
        self.assertFalse(may_be(shown, "hunter22"))
        self.assertFalse(may_be("alice", "alicf"))

    @given(st.text(min_size=2, max_size=40))
    def test_nothing_more(self, name: str) -> None:
        """No second character of it is kept."""
        self.assertEqual(
            shown_name(name, known=False), shown_name(name[0] * len(name), known=False)
        )


class ReadingTests(SynchronousTestCase):
    """What people ask."""

    def test_moments(self) -> None:
        """Ago, or a time."""
        ways = {"1h": 3_600, "30min": 1_800, "2d": 172_800, "-90s": 90}
        for text, seconds in ways.items():
            self.assertEqual(NOW - seconds, moment_of(text, NOW))
        for text in ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20", "2023-11-14T23:13:20+01:00"):
            self.assertEqual(NOW, moment_of(text, 0))
        for text in ("", "soon", "1 fortnight"):
            self.assertRaises(ValueError, moment_of, text, NOW)

    def test_words(self) -> None:
        """Each kind in one line, with the reason that only the operator is told."""
        base = {"at": NOW, "kind": "login", "user": "alice", "peer": "192.0.2.7"}
        failed = {**base, "result": "not-authorized", "mechanism": "PLAIN"}
        for reason, words in (
            (
                "wrong-password",
                "log-in of alice from 192.0.2.7 (PLAIN) failed: the password is wrong",
            ),
            (
                "no-such-user",
                "log-in of alice from 192.0.2.7 (PLAIN) failed: there is no such user",
            ),
        ):
            self.assertEqual(words, told({**failed, "reason": reason, "text": "not-authorized"}))
        locked = {**failed, "reason": "locked", "text": "refused for 300 s", "leftOut": 4}
        self.assertIn("not looked at: refused for 300 s; 4 more before it", told(locked))
        good = {**base, "result": "success", "callbridge": "cb1.x", "jid": "alice@x/r"}
        self.assertEqual("log-in of alice@x/r from 192.0.2.7, decided by cb1.x", told(good))

    def test_rubbish(self) -> None:
        """Lines that are none are passed over."""
        folder = new_folder(self)
        (folder / "record").mkdir()
        path: Path = folder / "record" / f"users.{round(NOW * 1000):013}.jsonl"
        lines = [
            b"\xff\xfe",
            b"[]",
            b'{"at": "x"}',
            json.dumps({"at": 1, "kind": "x"}).encode(),
            b"{",
        ]
        path.write_bytes(b"\n".join(lines))
        self.assertEqual([{"at": 1, "kind": "x"}], list(read(folder)))


class ShownTests(SynchronousTestCase):
    """API and page."""

    def setUp(self) -> None:
        """Alice could not log in, and a link came up."""
        self.reactor: Any = Reactor()
        folder = new_folder(self)
        self.record = Record(*(self.reactor, folder, "callbridge", "r1"), days=14, most=1_048_576)
        self.record.login(
            *("alice", "192.0.2.7"),
            known=True,
            good=False,
            result="not-authorized",
            reason="wrong-password",
            peer="<b>",
            exchange="e1",
        )
        attempt = Attempt(1, NOW, self.record.step, id="ab-1")
        attempt.begin(Step.ACTIVE, NOW, peer="192.0.2.1")
        role = FakeCallbridge()
        operation = record_operation(self.record, self.reactor.seconds)
        root = front(operations_of_callbridge(role, self.reactor, more=[operation]), self.reactor)
        pages = CallbridgePages(
            role, self.reactor, more=[RecordPages(self.record, self.reactor.seconds)]
        )
        pages.add_to(root.application.routes)
        self.client = Client(self, root)

    def ask(self, query: str) -> Any:
        """The answer of the API."""
        answer = self.client.ask(
            "GET", f"{LOG}?{query}", authorization="alice", accept="application/json"
        )
        return json.loads(answer.body)

    def test_api(self) -> None:
        """The newest first, and what is asked for alone."""
        found = self.ask("")["log"]["entry"]
        self.assertEqual(["link", "login"], sorted(each["kind"] for each in found))
        (login,) = self.ask("user=alice@meet.example.com&since=1h")["log"]["entry"]
        self.assertEqual("wrong-password", login["reason"])
        self.assertRegex(login["at"], r"^2023-11-14T22:13:20\.000Z$")
        (link,) = self.ask("attempt=ab-1&limit=1")["log"]["entry"]
        self.assertEqual("up", link["result"])
        self.assertEqual("sinceInvalid", self.ask("since=soon")["failureDetails"]["reason"])

    def test_page(self) -> None:
        """In words, escaped; what was asked stays in its fields."""
        page = self.client.ask("GET", "/log?user=alice", authorization="alice").body.decode()
        self.assertIn("failed: the password is wrong", page)
        self.assertIn("from &lt;b&gt; ", page)
        self.assertIn('value="alice"', page)
        self.assertNotIn("attempt ab-1", page)
        wrong = self.client.ask("GET", "/log?since=soon", authorization="alice")
        self.assertEqual(400, wrong.status)
        self.assertIn(b"it is no time", wrong.body)
        nobody = self.client.ask("GET", "/log?user=bob", authorization="alice")
        self.assertIn(b"Nothing is recorded", nobody.body)

    def test_unreadable(self) -> None:
        """A disk that fails is told of."""

        def fails(*_: object) -> Any:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(record_module, "read", fails)
        self.assertEqual("notReadable", self.ask("")["failureDetails"]["reason"])
