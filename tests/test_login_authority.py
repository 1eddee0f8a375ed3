"""Step 12 on the Callbridge: the decision about every log-in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from random import Random
from typing import Any

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.config import LoginLimits
from cms.callbridge.directories.directory import (
    AccountDisabled,
    AccountLocked,
    DirectoryBusy,
    DirectoryError,
)
from cms.callbridge.login.authority import Authority
from cms.callbridge.login.decision import Decision, run
from cms.callbridge.login.guests import Guests
from cms.callbridge.passwords.scram import HASHES, StoredKeys, derive
from cms.client.scram import ScramClient
from cms.linkprotocol import login as lp
from cms.linkprotocol.people import Person
from tests.support import observe_log

DOMAIN = "meet.example.com"
PEER = "192.0.2.7"
BOB = "b… (3 characters)"
EVE = "e… (3 characters)"  # what is shown of a name that nobody has
BINDING = ("tls-exporter", b"B" * 32)


@define(eq=False)
class MemoryDirectory:
    """
    A directory in memory.

    @ivar before: Called before each answer; what it returns is waited for.
    @ivar ended: Why the sessions of a user are over.
    @ivar held: The answer to whether a user is stored, if a test gives one.
    """

    passwords: dict[str, str]
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")
    before: Callable[[], Deferred[Any]] = field(default=lambda: succeed(None))
    disabled: bool | str = False  # and why
    locked: bool = False
    asked: list[str] = field(factory=list)
    ended: dict[str, str] = field(factory=dict)
    held: Deferred[bool] | None = None

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        self.asked.append(name)
        return self.before().addCallback(lambda _: self._keys(name, mechanism))

    def _keys(self, name: str, mechanism: str) -> StoredKeys | None:
        if name not in self.passwords:
            return None
        keys = derive(self.passwords[name], HASHES[mechanism], b"s" * 16, 16)
        return StoredKeys(keys.salt, 16, keys.stored_key, keys.server_key, bool(self.disabled))

    def verify(self, name: str, password: str) -> Deferred[bool | None]:
        self.asked.append(name)

        def check(_: object) -> bool:
            if self.locked:
                raise AccountLocked
            if self.passwords.get(name) == password and self.disabled:
                raise AccountDisabled(*([self.disabled] if isinstance(self.disabled, str) else []))
            return self.passwords.get(name) == password

        return self.before().addCallback(check)

    def decoy(self, name: str, mechanism: str) -> StoredKeys:
        return StoredKeys(b"d" * 16, 16, bytes(32), bytes(32))

    def holds(self, name: str) -> Deferred[bool]:
        return self.held if self.held is not None else succeed(name in self.passwords)

    def over(self, name: str, since: datetime) -> Deferred[str | None]:
        return succeed(self.ended.get(name, None if name in self.passwords else "deleted"))

    def person(self, name: str) -> Deferred[Person | None]:
        return succeed(Person(name.title()) if name in self.passwords else None)

    def close(self) -> None:
        """Nothing is held."""


LIMITS = LoginLimits()


class AuthorityTestCase(SynchronousTestCase):
    """An authority with a directory that knows alice."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.directory = MemoryDirectory({"alice": "pencil"})
        self.authority = self.make(allow_guests=True)
        self.lines: list[str] = []
        self.events: list[LogEvent] = []

        def observe(event: LogEvent) -> None:
            if event["log_namespace"].startswith("cms."):
                self.events.append(event)
                self.lines.append(formatEvent(event))

        observe_log(self, observe)

    def make(self, *, allow_guests: bool, limits: LoginLimits = LIMITS) -> Authority:
        """A fresh authority."""
        return Authority(
            *(self.clock, self.directory, DOMAIN),
            allow_guests=allow_guests,
            limits=limits,
            random=Random(7),
        )

    def start(
        self,
        payload: bytes | None,
        mechanism: str = "PLAIN",
        exchange: str = "e1",
        peer: str = PEER,
        binding: tuple[str, bytes] | None = None,
    ) -> Deferred[Any]:
        """Begin an exchange."""
        return self.authority.start(lp.Start(exchange, mechanism, payload, peer, binding))

    def respond(self, payload: bytes | None, exchange: str = "e1") -> Deferred[Any]:
        """Continue it."""
        return self.authority.respond(lp.Response(exchange, payload))

    def plain(self, password: str, name: str = "alice", **rest: Any) -> Any:
        """The answer to a PLAIN log-in."""
        started = self.start(f"\0{name}\0{password}".encode(), **rest)
        self.clock.pump([1.0] * 9)
        return self.successResultOf(started)

    def assert_undecided(self, answer: lp.Message) -> None:
        """It failed for no fault of the client's, who is to come back."""
        assert isinstance(answer, lp.Failed)
        self.assertEqual(("temporary-auth-failure", True), (answer.condition, answer.undecided))

    def condition(self, answer: Any) -> str:
        """The condition of a refusal."""
        self.assertIsInstance(answer, lp.Failed)
        return str(answer.condition)

    def nothing_left(self) -> None:
        """No exchange and no timer is kept."""
        self.assertEqual(len(self.authority._exchanges), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class MechanismTests(AuthorityTestCase):
    """Each mechanism, from its start to its end."""

    def scram(self, client: ScramClient, binding: tuple[str, bytes] | None = None) -> Any:
        """A SCRAM exchange; the last answer."""
        first = self.successResultOf(self.start(client.first(), client.mechanism, binding=binding))
        if not isinstance(first, lp.Challenge):
            return first
        return self.successResultOf(self.respond(client.final(first.payload or b"")))

    def test_scram(self) -> None:
        """All four forms let alice in and prove the server's own knowledge."""
        for mechanism in HASHES:
            for binding in (None, BINDING):
                plus = "-PLUS" if binding else ""
                data = binding[1] if binding else None
                client = ScramClient(mechanism + plus, "alice", "pencil", data)
                answer = self.scram(client, binding)
                self.assertEqual(answer.jid, f"alice@{DOMAIN}")
                client.verify(answer.payload)
                self.nothing_left()

    def test_scram_refused(self) -> None:
        """A wrong password and an unknown user end alike, at the proof."""
        for name, password in (("alice", "pen"), ("eve", "pencil")):
            answer = self.scram(ScramClient("SCRAM-SHA-256", name, password))
            shown = name if name == "alice" else EVE  # for the server's operator
            self.assertEqual(answer, lp.Failed("e1", "not-authorized", user=shown))
        self.nothing_left()

    def test_decoy_is_nobody(self) -> None:
        """Whoever proves the keys that are shown for an unknown user is refused as well."""
        keys = derive("pencil", "sha256", b"d" * 16, 16)
        self.patch(MemoryDirectory, "decoy", lambda *_: keys)
        answer = self.scram(ScramClient("SCRAM-SHA-256", "eve", "pencil"))
        self.assertEqual(answer, lp.Failed("e1", "not-authorized", user=EVE))

    def test_nonces(self) -> None:
        """Each challenge has a nonce of its own, from the given source."""
        first = ScramClient("SCRAM-SHA-256", "alice", "x", nonce="abc").first()
        challenges = {
            self.successResultOf(self.start(first, "SCRAM-SHA-256", f"e{n}")).payload
            for n in range(9)
        }
        self.assertEqual(len(challenges), 9)
        # The client's part, "r=abc", and 18 bytes in base64.
        self.assertEqual({len(c.split(b",")[0]) for c in challenges}, {len(b"r=abc") + 24})
        self.authority = self.make(allow_guests=False)
        again = self.successResultOf(self.start(first, "SCRAM-SHA-256", "x"))
        self.assertIn(again.payload, challenges)

    def test_plain(self) -> None:
        """PLAIN takes the name alone, the whole address, and an own authzid."""
        for message in (
            b"\0alice\0pencil",
            b"\0Alice@meet.example.com\0pencil",
            b"alice@meet.example.com\0alice\0pencil",
            b"alice\0alice\0pencil",
        ):
            answer = self.successResultOf(self.start(message))
            self.assertEqual(answer, lp.Success("e1", f"alice@{DOMAIN}"))
        self.nothing_left()

    def test_plain_refused(self) -> None:
        """Each way in which PLAIN can be wrong has its condition."""
        for message, condition in (
            (b"\0alice\0pen", "not-authorized"),
            (b"\0eve\0pencil", "not-authorized"),
            (b"\0alice@other.example.com\0pencil", "not-authorized"),
            (b"\0a b\0pencil", "not-authorized"),
            (b"\0\x07\0pencil", "not-authorized"),
            (b"\0alice@b..c\0pencil", "not-authorized"),
            (b"bob\0alice\0pencil", "invalid-authzid"),
            (b"alice@meet.example.com/x\0alice\0pencil", "invalid-authzid"),
            (b"alice", "malformed-request"),
            (b"", "malformed-request"),
            (b"\0alice\0", "malformed-request"),
            (b"\0\0pencil", "malformed-request"),
            (b"\0alice\0a\0b", "malformed-request"),
            (b"\0alice\0\xff", "malformed-request"),
        ):
            answer = self.successResultOf(self.start(message))
            self.assertEqual(self.condition(answer), condition, message)
        self.nothing_left()

    def test_scram_authzid(self) -> None:
        """SCRAM's authorization identity is the user's own, too."""
        for authzid, kind in ((b"alice@meet.example.com", lp.Challenge), (b"bob", lp.Failed)):
            first = b"n,a=" + authzid + b",n=alice,r=abc"
            answer = self.successResultOf(self.start(first, "SCRAM-SHA-1", authzid.decode()))
            self.assertIsInstance(answer, kind)

    def test_disabled(self) -> None:
        """A disabled account is told so after the right password only."""
        self.directory.disabled = True
        for password, condition in (("pencil", "account-disabled"), ("pen", "not-authorized")):
            self.assertEqual(self.condition(self.plain(password)), condition)
            client = ScramClient("SCRAM-SHA-256", "alice", password)
            self.assertEqual(self.condition(self.scram(client)), condition)

    def test_disabled_and_why(self) -> None:
        """What the directory says of it is told with it."""
        self.directory.disabled = "the account has expired"
        answer = self.plain("pencil")
        self.assertEqual("account-disabled", self.condition(answer))
        self.assertEqual("the account has expired", answer.text)

    def test_locked_by_directory(self) -> None:
        """The client learns nothing but that it failed, the operator why; it counts as a guess."""
        decided: list[Decision] = []
        self.authority = Authority(
            *(self.clock, self.directory, DOMAIN),
            allow_guests=False,
            limits=LIMITS,
            random=Random(7),
            decided=decided.append,
        )
        self.directory.locked = True
        answer = self.plain("pencil")
        self.assertEqual(("not-authorized", None), (self.condition(answer), answer.text))
        self.assertEqual(1, len(self.authority.guesses.pairs._levels))
        self.assertEqual(["locked-by-directory"], [each.reason for each in decided])

    def test_no_initial_response(self) -> None:
        """A client that sent none is asked for it with an empty challenge."""
        self.assertEqual(self.successResultOf(self.start(None)), lp.Challenge("e1", b""))
        answer = self.successResultOf(self.respond(b"\0alice\0pencil"))
        self.assertIsInstance(answer, lp.Success)

    def test_guests(self) -> None:
        """ANONYMOUS makes a guest, with and without trace, where it is allowed."""
        jids = set()
        for payload in (None, b"", b"sirhc"):
            answer = self.successResultOf(self.start(payload, "ANONYMOUS"))
            self.assertRegex(answer.jid, rf"^guest\d{{10}}@{DOMAIN}$")
            jids.add(answer.jid)
        self.assertEqual(len(jids), 3)
        self.assertIn("created guest account with user ID", self.lines[0])
        self.authority = self.make(allow_guests=False)
        answer = self.successResultOf(self.start(None, "ANONYMOUS"))
        self.assertEqual(self.condition(answer), "invalid-mechanism")

    def test_offer(self) -> None:
        """What is offered is what the directory can serve, and guests where allowed."""
        scram = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1")
        self.assertEqual(self.authority.mechanisms, (*scram, "PLAIN", "ANONYMOUS"))
        self.directory.mechanisms = ("PLAIN",)
        self.authority = self.make(allow_guests=False)
        self.assertEqual(self.authority.mechanisms, ("PLAIN",))
        answer = self.successResultOf(self.start(b"n,,n=alice,r=x", "SCRAM-SHA-256"))
        self.assertEqual(self.condition(answer), "invalid-mechanism")
        self.assertIsInstance(self.plain("pencil"), lp.Success)

    @given(
        st.sampled_from(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "ANONYMOUS"]),
        st.lists(st.none() | st.binary(max_size=60), min_size=1, max_size=3),
    )
    def test_fuzz(self, mechanism: str, payloads: list[bytes | None]) -> None:
        """Whatever a client sends is answered, and leaves nothing behind but its exchange."""
        self.setUp()
        first, *rest = payloads
        self.successResultOf(self.start(first, mechanism, binding=BINDING))
        for payload in rest:
            self.successResultOf(self.respond(payload))
        self.authority.abort(lp.Abort("e1"))
        self.nothing_left()
        self.assertFalse(any("unexpected" in line or "directory" in line for line in self.lines))


class ExchangeTests(AuthorityTestCase):
    """What becomes of exchanges that do not go straight on."""

    def hold(self) -> Deferred[Any]:
        """Let the directory wait; returns what it waits for."""
        held: Deferred[Any] = Deferred()
        self.directory.before = lambda: held
        return held

    def test_unknown(self) -> None:
        """A response to no exchange is a temporary failure."""
        answer = self.successResultOf(self.respond(b"x"))
        self.assertEqual(self.condition(answer), "temporary-auth-failure")

    def test_expires(self) -> None:
        """An exchange lives 60 s from its last step."""
        self.start(None)
        self.clock.advance(LIMITS.response_timeout - 1)
        self.assertIn("e1", self.authority._exchanges)
        self.clock.advance(1)
        self.nothing_left()
        self.start(b"n,,n=alice,r=abc", "SCRAM-SHA-256")
        self.clock.advance(LIMITS.response_timeout - 1)
        self.successResultOf(self.respond(b"x"))
        self.nothing_left()

    def test_most(self) -> None:
        """Beyond 1000 the oldest is dropped, and told so if it waits."""
        self.hold()
        waiting = self.start(b"\0alice\0pencil", exchange="oldest")
        for n in range(LIMITS.most_exchanges):
            self.start(None, exchange=f"e{n}")
        self.assert_undecided(self.successResultOf(waiting))
        self.assertEqual(len(self.authority._exchanges), 1000)

    def test_same_name(self) -> None:
        """A second start of the same name ends both."""
        self.start(None)
        answer = self.successResultOf(self.start(None))
        self.assertEqual(self.condition(answer), "malformed-request")
        self.nothing_left()

    def test_two_at_once(self) -> None:
        """A response before the last one is answered ends the exchange."""
        self.hold()
        waiting = self.start(b"n,,n=alice,r=abc", "SCRAM-SHA-256")
        for asked in (self.respond(b"x"), waiting):
            self.assertEqual(self.condition(self.successResultOf(asked)), "malformed-request")
        self.nothing_left()

    def test_abort(self) -> None:
        """An exchange that is given up is answered, forgotten, and its look-up cancelled."""
        held = self.hold()
        waiting = self.start(b"\0alice\0pencil")
        self.authority.abort(lp.Abort("e1"))
        self.assertEqual(self.condition(self.successResultOf(waiting)), "aborted")
        self.assertTrue(held.called)
        self.nothing_left()
        self.authority.abort(lp.Abort("e1"))  # twice is harmless

    def test_cancelled(self) -> None:
        """Cancelling an answer gives the exchange up."""
        self.hold()
        waiting = self.start(b"\0alice\0pencil")
        waiting.cancel()
        self.assertEqual(self.condition(self.successResultOf(waiting)), "aborted")
        self.nothing_left()

    def test_link_lost(self) -> None:
        """Exchanges, sessions and timers go with the link; nobody is answered any more."""
        self.hold()
        waiting = self.start(b"\0alice\0pencil")
        self.start(None, exchange="e2")
        self.authority.session_began(lp.SessionBegin(f"bob@{DOMAIN}/x", PEER, "now"))
        self.authority.link_lost()
        self.assertNoResult(waiting)
        self.assertEqual(self.authority.sessions, {})
        self.nothing_left()

    def test_slow_directory(self) -> None:
        """A directory that does not answer in time is not waited for."""
        self.hold()
        waiting = self.start(b"\0alice\0pencil")
        self.clock.advance(LIMITS.directory_timeout)
        self.assert_undecided(self.successResultOf(waiting))
        self.nothing_left()

    def test_failing_directory(self) -> None:
        """Whatever a directory fails with is temporary; only vouched words are logged."""
        for error, shown in (
            (DirectoryError("no route to the directory"), "no route to the directory"),
            (DirectoryBusy("too many wait"), "too many wait"),
            (ValueError("pencil"), "ValueError"),
            (CancelledError("pencil"), "CancelledError"),
        ):
            self.directory.before = partial(fail, error)
            for message, mechanism in ((b"\0alice\0pencil", "PLAIN"),
                                       (b"n,,n=alice,r=x", "SCRAM-SHA-1")):  # fmt: skip
                answer = self.successResultOf(self.start(message, mechanism))
                self.assert_undecided(answer)
                self.assertIn(shown, self.lines[-1])
        self.assertNotIn("pencil", " ".join(self.lines))
        self.nothing_left()

    def test_name_when_away(self) -> None:
        """Of a user who is stored here the whole name is told; a name that is not may be secret."""
        self.directory.before = lambda: fail(DirectoryError("down"))
        waiting: Deferred[bool] = Deferred()
        for name, held, shown in (
            ("alice", None, "alice"),
            ("bob", None, BOB),
            ("alice", fail(DirectoryError("down too")), "a… (5 characters)"),
            ("alice", waiting, "a… (5 characters)"),
        ):
            self.directory.held = held
            answer = self.plain("pencil", name)
            self.assert_undecided(answer)
            self.assertEqual(shown, answer.user)
            self.assertIn(shown, self.lines[-1])
        self.assertTrue(waiting.called)  # it is not waited for
        self.nothing_left()


class GuessingTests(AuthorityTestCase):
    """Wrong passwords."""

    def test_slowed(self) -> None:
        """From the third wrong password on, the answer waits."""
        for _ in range(2):
            self.assertTrue(self.start(b"\0alice\0pen").called)
        waiting = self.start(b"\0alice\0pen")
        self.assertNoResult(waiting)
        self.clock.advance(0.5)
        self.assertEqual(self.condition(self.successResultOf(waiting)), "not-authorized")
        self.nothing_left()

    def test_refused(self) -> None:
        """After ten, right and wrong passwords get the same answer, without a look-up."""
        for _ in range(10):
            self.plain("pen")
        self.directory.asked.clear()
        answers = [self.plain("pencil"), self.plain("pen")]
        self.assertEqual(*[(a.condition, a.text[:20]) for a in answers])
        self.assertEqual(answers[0].condition, "temporary-auth-failure")
        self.assertFalse(answers[0].undecided)  # a guesser is to give up
        for answer in answers:
            self.assertIn(f"refused for {answer.wait} s", answer.text)
            self.assertTrue(200 < answer.wait <= 300)
        first = self.successResultOf(self.start(b"n,,n=alice,r=x", "SCRAM-SHA-256"))
        self.assertEqual(first.condition, "temporary-auth-failure")
        self.assertEqual(self.directory.asked, [])
        self.assertIsInstance(self.plain("pencil", peer="192.0.2.8"), lp.Success)
        self.clock.advance(300)
        self.assertIsInstance(self.plain("pencil"), lp.Success)

    def test_who_belongs_there(self) -> None:
        """Ten wrong passwords refuse nobody who logged in from there a minute ago."""
        self.assertIsInstance(self.plain("pencil"), lp.Success)
        for _ in range(10):
            self.plain("pen")
        self.assertIsInstance(self.plain("pencil"), lp.Success)

    def test_sessions_tell_who_belongs_there(self) -> None:
        """So it is for who was logged in when this Callbridge came."""
        begin = lp.SessionBegin("alice@meet.example.com/x", PEER, "2026-11-28T12:00:00Z", True)
        self.authority.note(begin)
        for _ in range(10):
            self.plain("pen")
        self.assertIsInstance(self.plain("pencil"), lp.Success)

    def test_no_proof_no_guess(self) -> None:
        """What is refused before a proof is looked at counts for nothing."""
        data, other = ("tls-exporter", b"x" * 32), ("tls-exporter", b"y" * 32)
        for n in range(50):
            asked = self.start(b"y,,n=alice,r=x", "SCRAM-SHA-256", f"a{n}", binding=data)
            self.assertEqual(self.condition(self.successResultOf(asked)), "not-authorized")
            client = ScramClient("SCRAM-SHA-256-PLUS", "alice", "pencil", data[1], f"n{n}")
            asked = self.start(client.first(), client.mechanism, f"b{n}", binding=other)
            final = client.final(self.successResultOf(asked).payload)
            asked = self.respond(final, f"b{n}")
            self.assertEqual(self.condition(self.successResultOf(asked)), "not-authorized")
            for payload in (b"\0alice", b"n,,n=alice", b"\xff"):
                mechanism = "PLAIN" if b"," not in payload else "SCRAM-SHA-1"
                asked = self.start(payload, mechanism, f"c{n}")
                self.assertEqual(self.condition(self.successResultOf(asked)), "malformed-request")
            self.start(b"n,,n=alice,r=x", "SCRAM-SHA-256", f"d{n}")
            self.authority.abort(lp.Abort(f"d{n}"))
        self.assertIsInstance(self.plain("pencil"), lp.Success)
        self.assertEqual(0, len(self.authority.guesses.pairs._levels))

    def test_many_at_once(self) -> None:
        """Guesses begun together do not go past the limit, and claims alone lock nobody out."""
        clients = [ScramClient("SCRAM-SHA-256", "alice", "pen", None, f"n{n}") for n in range(12)]
        finals = []
        for n, client in enumerate(clients):
            first = self.successResultOf(self.start(client.first(), client.mechanism, f"e{n}"))
            finals.append(client.final(first.payload))
        answers = [self.respond(final, f"e{n}") for n, final in enumerate(finals)]
        self.clock.pump([1.0] * 9)
        conditions = [self.condition(self.successResultOf(answer)) for answer in answers]
        self.assertEqual(conditions.count("not-authorized"), 10)
        self.assertEqual(conditions.count("temporary-auth-failure"), 2)
        self.assertEqual(self.condition(self.plain("pencil")), "temporary-auth-failure")
        self.nothing_left()

    def test_right_ones_at_once(self) -> None:
        """One account may log in from one address many times at the same moment."""
        clients = [
            ScramClient("SCRAM-SHA-256", "alice", "pencil", None, f"n{n}") for n in range(50)
        ]
        finals = []
        for n, client in enumerate(clients):
            first = self.successResultOf(self.start(client.first(), client.mechanism, f"e{n}"))
            finals.append(client.final(first.payload))
        for n, final in enumerate(finals):
            self.assertIsInstance(self.successResultOf(self.respond(final, f"e{n}")), lp.Success)

    def test_passwords_at_once(self) -> None:
        """Of passwords that are being checked at the same moment no more than that count."""
        pending: list[Deferred[Any]] = []

        def before() -> Deferred[Any]:
            pending.append(Deferred())
            return pending[-1]

        self.directory.before = before
        answers = [self.start(b"\0alice\0pen", exchange=f"e{n}") for n in range(12)]
        self.assertEqual(len(pending), 10)
        late = self.successResultOf(answers[-1])
        self.assertEqual(self.condition(late), "temporary-auth-failure")
        self.assertIn("at once", late.text)
        for each in pending:
            each.callback(None)
        self.clock.pump([1.0] * 9)
        self.nothing_left()

    def test_other_faults_are_free(self) -> None:
        """A directory that fails and a wrong authzid are no guesses."""
        self.directory.before = lambda: fail(DirectoryError("down"))
        for _ in range(20):
            self.plain("pencil")
        self.directory.before = lambda: succeed(None)
        for _ in range(20):
            self.successResultOf(self.start(b"bob\0alice\0pencil"))
        self.assertIsInstance(self.plain("pencil"), lp.Success)


class LogTests(AuthorityTestCase):
    """What operators read."""

    def test_words(self) -> None:
        """Log-ins are told in the field's words, with the step as a number."""
        self.plain("pencil")
        self.plain("pencil", name="bob")
        self.successResultOf(self.start(b"x"))
        nobody = "an unnamed user"
        step, how = "step 12 login:", f"PLAIN, {PEER}"
        self.assertEqual(
            self.lines,
            [
                f"{step} successful login request from alice@{DOMAIN} ({how})",
                f"{step} unsuccessful login request from {BOB} (not-authorized; {how})",
                f"{step} unsuccessful login request from {nobody} (malformed-request; {how})",
            ],
        )
        self.assertEqual({event["step"] for event in self.events}, {12})

    def test_no_payload(self) -> None:
        """No field of any event holds a payload, a password or a proof."""
        self.plain("pencil")
        self.plain("pen-wrong")
        client = ScramClient("SCRAM-SHA-256", "alice", "pencil", nonce="fyko")
        first = self.successResultOf(self.start(client.first(), "SCRAM-SHA-256"))
        self.successResultOf(self.respond(client.final(first.payload)))
        shown = repr([{k: v for k, v in e.items() if k != "log_source"} for e in self.events])
        for secret in ("pencil", "pen-wrong", "fyko", "c2lz"):
            self.assertNotIn(secret, shown)


class SessionTests(AuthorityTestCase):
    """Who is logged in."""

    def test_table(self) -> None:
        """Sessions are kept from their begin to their end."""
        begin = lp.SessionBegin(f"alice@{DOMAIN}/x", PEER, "2026-11-24T12:00:00Z")
        self.authority.session_began(begin)
        self.assertEqual(self.authority.sessions, {begin.jid: begin})
        self.authority.session_ended(lp.SessionEnd(begin.jid, "closed"))
        self.authority.session_ended(lp.SessionEnd(begin.jid, "closed"))
        self.assertEqual(self.authority.sessions, {})

    def test_bounded(self) -> None:
        """The table does not grow without end; known sessions are still replaced."""
        self.authority = self.make(allow_guests=False, limits=LoginLimits(most_sessions=2))
        for n in (1, 2, 3):
            self.authority.session_began(lp.SessionBegin(f"u{n}@{DOMAIN}/x", PEER, "a"))
        self.authority.session_began(lp.SessionBegin(f"u1@{DOMAIN}/x", PEER, "b"))
        sinces = [begin.since for begin in self.authority.sessions.values()]
        self.assertEqual(sinces, ["b", "a"])

    def test_configured(self) -> None:
        """Each limit is that of the configuration."""
        limits = LoginLimits(response_timeout=7, directory_timeout=3, most_exchanges=1)
        self.authority = self.make(allow_guests=False, limits=limits)
        answers, self.directory.before = self.directory.before, Deferred
        first = self.start(b"\0alice\0pencil")
        self.clock.advance(3)
        self.assertEqual("temporary-auth-failure", self.successResultOf(first).condition)
        self.directory.before = answers
        for n in (1, 2):
            self.start(None, exchange=f"e{n}")
        self.assertEqual(1, self.authority.exchanges)
        self.clock.advance(7)
        self.assertEqual(0, self.authority.exchanges)

    def test_guest_ends(self) -> None:
        """A guest's account ends with its session; alice's does not."""
        answer = self.successResultOf(self.start(None, "ANONYMOUS"))
        for jid in (answer.jid, f"alice@{DOMAIN}"):
            self.authority.session_ended(lp.SessionEnd(f"{jid}/x", "lost"))
        self.assertEqual(sum("destroying guest account" in line for line in self.lines), 1)


class GuestsTests(SynchronousTestCase):
    """Guest names."""

    def test_unique(self) -> None:
        """A name that is taken is not given again, even if it is drawn again."""

        class Stuck(Random):
            draws = iter((1_000_000_000, 1_000_000_000, 9_999_999_999))

            def randrange(self, *args: Any) -> int:
                return next(self.draws)

        guests = Guests(Stuck())
        self.assertEqual(guests.create(), "guest1000000000")
        self.assertEqual(guests.create(), "guest9999999999")

    def test_resumed(self) -> None:
        """A guest whose session outlived the link keeps its name; others are no guests."""
        guests = Guests(Random(7))
        for name in ("guest1234567890", "alice", "guest12", "guest12345678901"):
            guests.resumed(name)
        self.assertTrue(guests.destroy("guest1234567890"))
        self.assertFalse(guests.destroy("guest1234567890"))
        for name in ("alice", "guest12", "guest12345678901"):
            self.assertFalse(guests.destroy(name))

    def test_bounded(self) -> None:
        """The oldest is forgotten beyond the bound, and all with the link."""
        guests = Guests(Random(7), most=2)
        names = [guests.create() for _ in range(3)]
        self.assertEqual([guests.destroy(name) for name in names], [False, True, True])
        name = guests.create()
        guests.clear()
        self.assertFalse(guests.destroy(name))


class RunTests(SynchronousTestCase):
    """L{run}."""

    def test_at_once(self) -> None:
        """What need not wait is there at once, be it a value or an error."""

        async def work(answer: Deferred[int]) -> list[int]:
            return [await answer, 2]

        self.assertEqual([1, 2], self.successResultOf(run(work(succeed(1)))))
        self.failureResultOf(run(work(fail(KeyError("of the directory")))), KeyError)

    def test_later(self) -> None:
        """What must wait goes on with each answer, good or bad."""
        first: Deferred[Any] = Deferred()
        second: Deferred[Any] = Deferred()

        async def work() -> object:
            one = await first
            try:
                return one, await second
            except ValueError as problem:
                return one, str(problem)

        running = run(work())
        first.callback(1)
        self.assertNoResult(running)
        second.errback(ValueError("two"))
        self.assertEqual((1, "two"), self.successResultOf(running))

    def test_cancelled(self) -> None:
        """Who waits no more ends what is waited for; the coroutine hears of it."""
        cancelled: list[object] = []
        waiting: Deferred[Any] = Deferred(cancelled.append)

        async def work() -> None:
            try:
                await waiting
            finally:
                cancelled.append("heard")

        running = run(work())
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertEqual([waiting, "heard"], cancelled)
