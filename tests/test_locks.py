"""Who is locked out is listed, and released: counts, API, page and commands."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.callbridgepages import CallbridgePages
from cms.admin.lockpages import LockPages
from cms.admin.locksapi import LOCKS, Counted, LockOperations, LockTable
from cms.callbridge.administration import counted_name
from cms.protection.guessing import Guesses, TooManyGuesses
from cms.record.names import shown_name
from cms.xmpp.administration import counted_component
from tests.adminclient import Client, FakeCallbridge, front, new_clock
from tests.commandline import CommandLineTests
from tests.fakedaemon import FakeDaemon
from tests.test_admin_pages import Form


def guess(guesses: Guesses, account: str, host: str, shown: str = "", *, times: int = 1) -> None:
    """So many wrong proofs."""
    for _ in range(times):
        one = guesses.begin(account, host)
        one.weigh()
        one.failed()
        one.name(shown or account)


class CountTests(SynchronousTestCase):
    """L{Guesses}."""

    def setUp(self) -> None:
        """Alice is refused at one address."""
        self.clock = Clock()
        self.guesses = Guesses(self.clock)
        guess(self.guesses, "alice", "192.0.2.7", times=10)

    def refused(self, account: str, host: str) -> bool:
        """Whether a proof would not be looked at."""
        try:
            self.guesses.begin(account, host)
        except TooManyGuesses:
            return True
        return False

    def test_listed(self) -> None:
        """With what may be shown of the name, and for how long; in time it is gone by itself."""
        (lock,) = self.guesses.locks()
        self.assertEqual(("alice", "192.0.2.7"), (lock.account, lock.address))
        self.assertAlmostEqual(300, lock.seconds)
        self.clock.advance(301)
        self.assertEqual([], self.guesses.locks())

    def test_released(self) -> None:
        """By account, by address, or both; others stay."""
        guess(self.guesses, "bob", "192.0.2.8", times=10)
        self.assertEqual(0, self.guesses.release("alice", "192.0.2.8"))
        self.assertTrue(self.refused("alice", "192.0.2.7"))
        self.assertEqual(1, self.guesses.release("alice", "192.0.2.7"))
        self.assertFalse(self.refused("alice", "192.0.2.7"))
        self.assertTrue(self.refused("bob", "192.0.2.8"))
        self.assertEqual(1, self.guesses.release(host="192.0.2.8"))
        self.assertEqual([], self.guesses.locks())

    def test_everywhere(self) -> None:
        """An account that was tried from many addresses is released at once, and so are all."""
        for number in range(3):
            guess(self.guesses, "carol", f"198.51.100.{number}", times=9)
        guess(self.guesses, "carol", "198.51.100.4", times=3)
        self.assertTrue(self.refused("carol", "203.0.113.1"))
        self.assertIn(
            ("carol", ""), [(each.account, each.address) for each in self.guesses.locks()]
        )
        self.assertGreaterEqual(self.guesses.release("carol"), 1)
        self.assertFalse(self.refused("carol", "203.0.113.1"))
        self.assertEqual(1, self.guesses.release())

    def test_shown(self) -> None:
        """A name that nobody has is released by itself, and by what is shown of it."""
        for whose in ("hunter2", "h… (7 characters)"):
            guess(self.guesses, "hunter2", "192.0.2.9", "h… (7 characters)", times=10)
            self.assertNotIn("hunter2", str(self.guesses.locks()))
            self.assertEqual(1, self.guesses.release(whose))

    def test_address(self) -> None:
        """One that has tried many accounts."""
        for number in range(200):
            guess(self.guesses, f"u{number}", "198.51.100.9")
        self.assertIn(("", "198.51.100.9"), [(e.account, e.address) for e in self.guesses.locks()])
        self.assertEqual(1, self.guesses.release(host="198.51.100.9"))


class NameTests(SynchronousTestCase):
    """Whom an administrator means."""

    def test_counted(self) -> None:
        """However he writes the name; what is shown of a name that nobody has stays as it is."""
        domain = "meet.example.com"
        for text in ("alice", "Alice", "ALICE@Meet.Example.com"):
            self.assertEqual("alice", counted_name(text, domain))
        for text in (shown_name("hunter2", known=False), "alice@other.example.com"):
            self.assertEqual(text, counted_name(text, domain))
        for text in ("cb1", "CB1", "Cb1.Meet.Example.com"):
            self.assertEqual("cb1.meet.example.com", counted_component(text, domain))
        self.assertEqual("alice@b.example.com", counted_component("alice@b.example.com", domain))


class ShownTests(SynchronousTestCase):
    """API and page."""

    def setUp(self) -> None:
        """Alice is refused."""
        clock = new_clock()
        self.guesses = Guesses(clock)
        guess(self.guesses, "alice", "192.0.2.7", times=10)
        kinds = {"login": Counted(lambda: self.guesses, lambda name: name.partition("@")[0])}
        table = LockTable({**kinds, "api": Counted(lambda: Guesses(clock))})
        role = FakeCallbridge()
        more = LockOperations(table).operations()
        root = front(operations_of_callbridge(role, clock, more=more), clock)
        CallbridgePages(role, clock, more=[LockPages(table)]).add_to(root.application.routes)
        self.client = Client(self, root)

    def ask(self, method: str, query: str = "") -> Any:
        """The answer as JSON."""
        path = f"{LOCKS}{query and '?'}{query}"
        answer = self.client.ask(method, path, authorization="alice", accept="application/json")
        return json.loads(answer.body)

    def test_api(self) -> None:
        """Listed, and released by user or address; never all by accident."""
        lock = {"kind": "login", "account": "alice", "address": "192.0.2.7", "seconds": 300}
        self.assertEqual({"locks": {"total": 1, "lock": [lock]}}, self.ask("GET"))
        refused = self.ask("DELETE")["failureDetails"]["reason"]
        self.assertEqual("nothingToRelease", refused)
        self.assertEqual({"locks": {"released": 0}}, self.ask("DELETE", "kind=api&all=true"))
        query = "account=alice@meet.example.com&kind=login"
        self.assertEqual({"locks": {"released": 1}}, self.ask("DELETE", query))
        self.assertEqual(0, self.ask("GET")["locks"]["total"])

    def test_page(self) -> None:
        """With a button for each."""
        page = self.client.ask("GET", "/locks", authorization="alice")
        self.assertIn(b"login: alice from 192.0.2.7, for 300.0 s more", page.body)
        token = Form(page).token()
        body = f"token={token}&kind=login&account=alice&address=192.0.2.7"
        gone = self.client.ask("POST", "/locks/release", body, authorization="alice")
        self.assertEqual((303, "/locks"), (gone.status, gone.headers["location"]))
        self.assertEqual([], self.guesses.locks())
        bad = self.client.ask("POST", "/locks/release", f"token={token}", authorization="alice")
        self.assertEqual(400, bad.status)


class LockCommandTests(CommandLineTests):
    """C{cms callbridge lock} and C{cms xmpp lock}."""

    def test_list(self) -> None:
        """Who, from where, and for how long."""
        lock = {"kind": "login", "account": "alice", "address": "192.0.2.7", "seconds": 299}
        for role in ("callbridge", "xmpp"):
            daemon = FakeDaemon(self, self.folder / role)
            daemon.get("system/locks", {"locks": {"total": 1, "lock": [lock]}})
            line = "login: alice from 192.0.2.7, for 299 s more\n"
            self.assertIn(line, self.said(role, "lock", "list"))
            self.assertEqual([lock], self.facts(role, "lock", "list"))

    def test_clear(self) -> None:
        """One or all, and never all by accident."""
        daemon = FakeDaemon(self, self.folder / "callbridge")
        daemon.answers["DELETE", f"/{LOCKS[1:]}"] = 200, {"locks": {"released": 2}}
        said = self.said("callbridge", "lock", "clear", "alice", "--address", "192.0.2.7")
        self.assertIn("2 locks released\n", said)
        self.assertEqual({"account": "alice", "address": "192.0.2.7"}, daemon.asked[-1][2])
        cleared = self.facts("callbridge", "lock", "clear", "--all")
        self.assertEqual(({"released": 2}, {"all": "true"}), (cleared, daemon.asked[-1][2]))
        self.cms("callbridge", "lock", "clear", status=2)

    def test_stopped(self) -> None:
        """Nobody is locked out then, and that is said."""
        for role in ("callbridge", "xmpp"):
            self.assertIn("nobody is locked out", self.refused(role, "lock", "list", status=1))
