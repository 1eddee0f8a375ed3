"""Guessing passwords is slowed, then refused; nobody locks another out."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.protection.guessing import (
    ACCOUNT,
    ACCOUNT_AT_ADDRESS,
    ADDRESS,
    KNOWN,
    KNOWN_FOR,
    MOST_KNOWN,
    Guesses,
    Limit,
    Limits,
    TooManyGuesses,
)
from tests import guesssimulation


class GuessesTests(SynchronousTestCase):
    """The counts."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.guesses = Guesses(self.clock)

    def guess(self, account: str, peer: str, times: int = 1) -> float:
        """Guess wrongly; the last delay."""
        delay = 0.0
        for _ in range(times):
            guess = self.guesses.begin(account, peer)
            guess.weigh()
            delay = guess.failed()
        return delay

    def refused(self, account: str, peer: str) -> float:
        """For how many seconds a log-in is refused."""
        refused: TooManyGuesses = self.assertRaises(
            TooManyGuesses, self.guesses.begin, account, peer
        )
        return refused.seconds

    def heard(self, account: str, peer: str) -> None:
        """A log-in is looked at."""
        self.guesses.begin(account, peer).abandoned()

    def test_delays(self) -> None:
        """Two failures are free, then the wait doubles up to 8 s."""
        delays = [self.guess("alice", "192.0.2.7") for _ in range(ACCOUNT_AT_ADDRESS.burst)]
        self.assertEqual(delays, [0, 0, 0.5, 1, 2, 4, 8, 8, 8, 8])

    def test_refused(self) -> None:
        """After ten, this account is refused from this address until there is room for one."""
        self.guess("alice", "192.0.2.7", ACCOUNT_AT_ADDRESS.burst)
        self.clock.advance(20)
        self.assertAlmostEqual(self.refused("alice", "192.0.2.7"), 280)
        self.heard("alice", "192.0.2.8")
        self.heard("bob", "192.0.2.7")
        self.clock.advance(280)
        self.guess("alice", "192.0.2.7")
        self.assertAlmostEqual(self.refused("alice", "192.0.2.7"), 300)

    def test_at_the_same_time(self) -> None:
        """Guesses whose outcome is open count, so that many at once gain nothing."""
        begun = [self.guesses.begin("alice", "192.0.2.7") for _ in range(30)]
        for guess in begun[: ACCOUNT_AT_ADDRESS.burst]:
            guess.weigh()
        failure = self.assertRaises(TooManyGuesses, begun[-1].weigh)
        self.assertEqual(failure.seconds, 0)
        self.assertNotIn("failed", str(failure))  # for none has
        begun[0].abandoned()
        begun[0].abandoned()  # twice is once
        begun[10].weigh()
        self.assertRaises(TooManyGuesses, begun[11].weigh)
        for guess in begun:
            guess.abandoned()
        begun[12].weigh()

    def test_weighed_anew(self) -> None:
        """Guesses that were begun together are refused once enough of them have failed."""
        begun = [self.guesses.begin("alice", "192.0.2.7") for _ in range(30)]
        heard = 0
        for guess in begun:
            try:
                guess.weigh()
            except TooManyGuesses:
                continue
            guess.failed()
            heard += 1
        self.assertEqual(heard, ACCOUNT_AT_ADDRESS.burst)
        self.assertAlmostEqual(self.refused("alice", "192.0.2.7"), 300)

    def test_failures_elsewhere_meanwhile(self) -> None:
        """So are those of an account that others guessed at after they were begun."""
        begun = self.guesses.begin("alice", "203.0.113.1")
        for n in range(ACCOUNT.burst):
            self.guess("alice", f"192.0.2.{n}")
        self.assertAlmostEqual(self.assertRaises(TooManyGuesses, begun.weigh).seconds, 300)

    def test_claims_are_no_guesses(self) -> None:
        """Whoever only claims a name keeps nobody out."""
        for _ in range(1_000):
            self.guesses.begin("alice", "192.0.2.7")
        self.heard("alice", "192.0.2.7")
        self.guesses.begin("alice", "192.0.2.7").weigh()

    def test_only_what_was_weighed(self) -> None:
        """A refusal before any proof was looked at is no guess."""
        for _ in range(1_000):
            self.assertEqual(0.0, self.guesses.begin("alice", "192.0.2.7").failed())
        self.heard("alice", "192.0.2.7")

    def test_right_ones_never_count(self) -> None:
        """However many there are, from one address or many, for one account or many."""
        for n in range(1_000):
            for account, peer in (("alice", "192.0.2.7"), (f"user{n}", "192.0.2.7")):
                guess = self.guesses.begin(account, peer)
                guess.weigh()
                guess.succeeded()
        self.assertEqual(0, len(self.guesses.under_way))
        tables = (self.guesses.pairs, self.guesses.accounts, self.guesses.addresses)
        self.assertEqual([0, 0, 0], [len(table._levels) for table in tables])

    def test_known_place(self) -> None:
        """Where an account has logged in it has a place of its own, which is wide."""
        self.guess("alice", "192.0.2.7", ACCOUNT_AT_ADDRESS.burst)
        self.guesses.begin("alice", "192.0.2.8").succeeded()
        self.guess("alice", "192.0.2.8", KNOWN.burst - 1)
        guess = self.guesses.begin("alice", "192.0.2.8")
        guess.weigh()
        guess.succeeded()
        self.guess("alice", "192.0.2.8")
        self.assertAlmostEqual(300, self.refused("alice", "192.0.2.8"))
        self.heard("alice", "203.0.113.1")  # none of these stands against her elsewhere
        self.refused("alice", "192.0.2.7")

    def test_one_account_from_everywhere(self) -> None:
        """Guesses spread over addresses are refused; the user's own address is not."""
        self.guesses.begin("alice", "198.51.100.1").succeeded()
        for n in range(ACCOUNT.burst):
            self.guess("alice", f"192.0.2.{n}")
        self.assertAlmostEqual(self.refused("alice", "203.0.113.1"), 300)
        self.heard("alice", "198.51.100.1")
        self.clock.advance(300)
        self.heard("alice", "203.0.113.1")

    def test_trust_ends(self) -> None:
        """A week after the last log-in an address is like any other."""
        self.guesses.begin("alice", "198.51.100.1").succeeded()
        self.clock.advance(KNOWN_FOR)
        for n in range(ACCOUNT.burst):
            self.guess("alice", f"192.0.2.{n}")
        self.refused("alice", "198.51.100.1")

    def test_many_accounts_from_one_address(self) -> None:
        """One password tried on many accounts is refused, but to who has logged in there."""
        self.guesses.begin("bob", "192.0.2.7").succeeded()
        for n in range(ADDRESS.burst):
            self.guess(f"user{n}", "192.0.2.7")
        self.assertAlmostEqual(30, self.refused("alice", "192.0.2.7"))
        self.heard("bob", "192.0.2.7")
        self.heard("alice", "192.0.2.8")

    def test_told_by_others(self) -> None:
        """Sessions that outlive the Callbridge say where their users belong."""
        self.guesses.remember("alice", "198.51.100.1")
        for n in range(ACCOUNT.burst):
            self.guess("alice", f"192.0.2.{n}")
        self.heard("alice", "198.51.100.1")

    def test_networks(self) -> None:
        """A /64 is one address, a mapped IPv4 address is IPv4, loopback is a proxy's."""
        self.guess("alice", "2001:db8::1", ACCOUNT_AT_ADDRESS.burst)
        self.refused("alice", "2001:db8::2")
        self.heard("alice", "2001:db8:0:1::1")
        self.guess("alice", "::ffff:192.0.2.7", ACCOUNT_AT_ADDRESS.burst)
        self.refused("alice", "192.0.2.7")
        for peer in ("127.0.0.1", "::1", "local"):
            for n in range(ADDRESS.burst):
                self.guess(f"user{n}", peer)
            self.heard("alice", peer)

    def test_other_limits(self) -> None:
        """Another kind of proof has its own, also for one account from one address."""
        few = Limits(pair=Limit(3, 2.0), account=Limit(9, 9.0), address=Limit(9, 9.0))
        self.guesses = Guesses(self.clock, limits=few)
        self.guess("team", "192.0.2.7", 3)
        self.assertEqual(2.0, self.refused("team", "192.0.2.7"))
        self.clock.advance(2.0)
        self.heard("team", "192.0.2.7")

    def test_here_alone(self) -> None:
        """What is no guess at the account counts for its address, and nowhere else."""
        for n in range(ACCOUNT.burst + 1):
            guess = self.guesses.begin("team", f"192.0.2.{n}")
            guess.weigh()
            guess.failed(everywhere=False)
        self.heard("team", "198.51.100.1")
        for n in range(ADDRESS.burst):
            guess = self.guesses.begin(f"team{n}", "203.0.113.1")
            guess.weigh()
            guess.failed(everywhere=False)
        self.refused("another", "203.0.113.1")

    def test_forgiven(self) -> None:
        """What was no guess after all counts no more, nor twice less."""
        for _ in range(3 * ADDRESS.burst):
            guess = self.guesses.begin("team", "192.0.2.7")
            guess.weigh()
            guess.failed()
            guess.forgiven()
            guess.forgiven()
        self.guess("team", "192.0.2.7", ACCOUNT_AT_ADDRESS.burst)
        self.refused("team", "192.0.2.7")

    def test_bounded(self) -> None:
        """Each table is, and who has many places, or long names, takes no more of it."""
        self.guesses = Guesses(self.clock, most=3)
        for n in range(5):
            self.guess(f"user{n}" * 1_000, f"192.0.2.{n}")
            self.guesses.begin(f"user{n}", "198.51.100.1").succeeded()
        for n in range(MOST_KNOWN + 5):
            self.guesses.begin("carol", f"198.51.100.{n}").succeeded()
        tables = (self.guesses.pairs, self.guesses.accounts, self.guesses.addresses)
        self.assertEqual([3, 3, 3], [len(table._levels) for table in tables])
        self.assertTrue(all(len(key) == 16 for table in tables for key in table._levels))
        self.assertEqual(3, len(self.guesses._known))
        self.assertEqual(MOST_KNOWN, max(len(places) for places in self.guesses._known.values()))
        self.assertEqual(0, len(self.guesses.under_way))

    def test_a_full_bucket_stays(self) -> None:
        """Nobody makes room for guesses at one account with a drop in many others."""
        self.guesses = Guesses(self.clock, most=20)
        for n in range(ACCOUNT.burst):
            self.guess("alice", f"192.0.2.{n}")
        for n in range(500):
            self.guess(f"user{n}", f"2001:db8:0:{n:x}::1")
        self.refused("alice", "203.0.113.1")


class SimulationTests(SynchronousTestCase):
    """docs/design/guessing.md promises numbers."""

    def test_table(self) -> None:
        """They are what a day of honest people and guessers comes to."""
        page = Path(__file__).parent.parent / "docs" / "design" / "guessing.md"
        self.assertIn(guesssimulation.table(), page.read_text())
