"""HTTP Basic for administrators: the accounts, what is remembered, who guesses."""

from __future__ import annotations

import json
import stat
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.admin import accounts as module
from cms.admin.accounts import ACCOUNTS, FIRST, PASSWORD, Accounts
from cms.admin.basicauth import REMEMBER, BasicGate, read_credentials
from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.commonapi import API
from cms.process.threads import SlowWork
from cms.protection.guessing import Guesses
from cms.web.refusal import Refused
from tests.adminclient import Client, FakeCallbridge, accounts, basic, front, new_clock
from tests.support import new_folder, observe_log


class PoolClock(Clock):
    """A clock whose thread pool is the test: it works when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] = []
        self.at_once = True

    def getThreadPool(self) -> PoolClock:
        """From C{deferToThreadPool}."""
        return self

    def callFromThread(self, function: Any, *args: Any) -> None:
        """The same."""
        function(*args)

    def callInThreadWithCallback(self, done: Any, function: Any, *args: Any) -> None:
        """The same."""

        def work() -> None:
            try:
                result = function(*args)
            except Exception:  # noqa: BLE001 - as a thread pool does
                from twisted.python.failure import Failure  # noqa: PLC0415

                done(False, Failure())
            else:
                done(True, result)

        if self.at_once:
            work()
        else:
            self.waiting.append(work)


class GateTests(SynchronousTestCase):
    """Who comes in."""

    def setUp(self) -> None:
        """One account."""
        self.clock = PoolClock()
        self.accounts = accounts(admin="right", other="another")
        self.checked = 0
        fits = self.accounts.fits

        def count(name: str, password: str) -> bool:
            self.checked += 1
            return fits(name, password)

        self.accounts.fits = count  # type: ignore[method-assign]
        self.guesses = Guesses(self.clock)
        work = SlowWork(self.clock, at_once=1, most_waiting=3)
        self.gate = BasicGate(self.clock, lambda: self.accounts, work, self.guesses)

    def admit(self, authorization: str | None, host: str = "192.0.2.7") -> Deferred[str]:
        """Ask to be let in."""
        return Deferred.fromCoroutine(self.gate.admit(authorization, host))

    def refusal(self, asked: Deferred[str]) -> Refused:
        """Why not."""
        problem: Any = self.failureResultOf(asked, Refused).value
        return problem  # type: ignore[no-any-return]

    def test_right(self) -> None:
        """Hashed once, then remembered for a while."""
        for _ in range(3):
            name = self.successResultOf(self.admit(basic("admin", "right")))
            self.assertEqual("admin", name)
        self.assertEqual(1, self.checked)
        self.clock.advance(REMEMBER + 1)
        self.successResultOf(self.admit(basic("admin", "right")))
        self.assertEqual(2, self.checked)

    def test_wrong(self) -> None:
        """401 with the challenge of the field, never remembered."""
        for name, password in (("admin", "wrong"), ("nobody", "right"), ("admin", "")):
            refused = self.refusal(self.admit(basic(name, password)))
            self.assertEqual(401, refused.status)
            self.assertEqual({"www-authenticate": 'Basic realm="acano"'}, refused.headers)
            self.clock.advance(61)
        self.assertEqual(3, self.checked)

    def test_none(self) -> None:
        """No log-in at all costs no hash and counts as no guess."""
        for header in (
            None,
            "",
            "Bearer x",
            "Basic",
            "Basic !",
            basic("a", "b")[:-6],
            "Basic eA==",
        ):
            for _ in range(12):
                self.assertEqual(401, self.refusal(self.admit(header)).status, header)
        self.assertEqual(0, self.checked)
        self.assertEqual(0, len(self.guesses.pairs._levels))

    def test_guessing(self) -> None:
        """Slowed, then refused without a look, and heard again later."""
        for attempt in range(10):
            asked = self.admit(basic("admin", f"guess {attempt}"))
            if attempt > 2:
                self.assertNoResult(asked)
            self.clock.advance(8)
            self.assertEqual(401, self.refusal(asked).status)
        refused = self.refusal(self.admit(basic("admin", "right")))
        self.assertEqual(429, refused.status)
        self.assertLessEqual(1, int(refused.headers["retry-after"]))
        self.assertEqual(10, self.checked)
        self.successResultOf(self.admit(basic("admin", "right"), host="192.0.2.8"))
        self.clock.advance(300)
        self.successResultOf(self.admit(basic("admin", "right")))
        for attempt in range(10):  # which refuse nobody who has logged in from there
            self.admit(basic("admin", f"guess {attempt}")).addErrback(lambda _: None)
        self.clock.advance(8)
        self.successResultOf(self.admit(basic("admin", "right")))

    def test_same_wrong_one_at_once(self) -> None:
        """A client that begins with many requests, and an old password, has guessed once."""
        self.clock.at_once = False
        asked = [self.admit(basic("admin", "old")) for _ in range(4)]
        while self.clock.waiting:
            self.clock.waiting.pop(0)()
        self.assertEqual([401] * 4, [self.refusal(one).status for one in asked])
        ((level, _),) = self.guesses.pairs._levels.values()
        self.assertEqual(1, level)

    def test_many_at_once(self) -> None:
        """Of many first requests with the same log-in one is hashed; beyond a bound, 503."""
        self.clock.at_once = False
        asked = [self.admit(basic("admin", "right")) for _ in range(4)]
        self.assertEqual(503, self.refusal(self.admit(basic("other", "another"))).status)
        while self.clock.waiting:
            self.clock.waiting.pop(0)()
        self.assertEqual(["admin"] * 4, [self.successResultOf(one) for one in asked])
        self.assertEqual(1, self.checked)

    def test_through_the_front(self) -> None:
        """With the gate before them, operations need a log-in, health does not."""
        operations = operations_of_callbridge(FakeCallbridge(), new_clock())
        client = Client(self, front(operations, self.clock, self.gate))
        refused = client.ask("GET", f"{API}/system/status")
        self.assertEqual(401, refused.status)
        self.assertEqual('Basic realm="acano"', refused.headers["www-authenticate"])
        self.assertEqual(401, client.ask("GET", "/nothing").status)
        allowed = client.ask("GET", f"{API}/users", authorization=basic("admin", "right"))
        self.assertEqual(200, allowed.status)
        for path in ("/healthz", "/HealthZ", "//healthz/"):
            self.assertEqual(200, client.ask("GET", path).status)

    def test_client_gives_up_while_it_waits(self) -> None:
        """Nobody is answered, nothing is logged as an error."""
        operations = operations_of_callbridge(FakeCallbridge(), new_clock())
        client = Client(self, front(operations, self.clock, self.gate))
        for _ in range(2):
            client.ask("GET", f"{API}/users", authorization=basic("admin", "x"))
        sent = client.send("GET", f"{API}/users", authorization=basic("admin", "x"))
        self.assertNoResult(sent)
        sent.cancel()
        client.http.flush()
        self.failureResultOf(sent)
        self.clock.advance(10)

    @given(st.text(max_size=40))
    def test_any_header(self, header: str) -> None:
        """Credentials are read, or refused with 401."""
        try:
            read_credentials(header)
        except Refused as refused:
            self.assertEqual(401, refused.status)


class AccountTests(SynchronousTestCase):
    """The file."""

    def setUp(self) -> None:
        """A state directory, and few rounds."""
        self.folder = new_folder(self)
        self.patch(module, "_ROUNDS", 2)
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)

    def test_first(self) -> None:
        """Made once, its password written for the owner alone and not logged."""
        first = Accounts.open(self.folder)
        password = (self.folder / PASSWORD).read_text().strip()
        self.assertGreaterEqual(len(password), 20)
        self.assertTrue(first.fits(FIRST, password))
        self.assertFalse(first.fits(FIRST, password + "x"))
        self.assertFalse(first.fits("nobody", password))
        for name in (PASSWORD, ACCOUNTS):
            self.assertEqual(0o600, stat.S_IMODE((self.folder / name).stat().st_mode))
        self.assertNotIn(password, (self.folder / ACCOUNTS).read_text())
        (line,) = [e for e in self.events if "first administrator" in e.get("log_format", "")]
        self.assertEqual(str(self.folder / PASSWORD), line["file"])
        self.assertNotIn(password, str(self.events))

    def test_again(self) -> None:
        """The account stays, also when the password's file was removed."""
        Accounts.open(self.folder)
        password = (self.folder / PASSWORD).read_text().strip()
        (self.folder / PASSWORD).unlink()
        self.assertTrue(Accounts.open(self.folder).fits(FIRST, password))
        self.assertFalse((self.folder / PASSWORD).exists())

    def test_hash_of_others(self) -> None:
        """Each account says how it was hashed."""
        Accounts.open(self.folder)
        password = (self.folder / PASSWORD).read_text().strip()
        self.patch(module, "_ROUNDS", 4)
        self.assertTrue(Accounts.open(self.folder).fits(FIRST, password))

    def test_damaged(self) -> None:
        """The start is stopped by a line that names the file and the cure."""
        file = self.folder / ACCOUNTS
        for content in ("", "[]", '{"version": 2}', '{"version": 1, "accounts": {"a": {}}}', "{"):
            file.write_text(content)
            error = self.assertRaises(faults.ConfigurationError, Accounts.open, self.folder)
            self.assertIn(str(file), error.cause)
        file.write_text(json.dumps({"version": 1, "accounts": {}}))
        self.assertFalse(Accounts.open(self.folder).fits(FIRST, ""))
