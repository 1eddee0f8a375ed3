"""Guessing passwords is slowed, then refused; nobody locks another out."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.guessing import ACCOUNT, ADDRESS, PAIR, Guesses, TooManyGuesses


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
        return self.assertRaises(TooManyGuesses, self.guesses.begin, account, peer).seconds

    def heard(self, account: str, peer: str) -> None:
        """A log-in is looked at."""
        self.guesses.begin(account, peer).abandoned()

    def test_delays(self) -> None:
        """Two failures are free, then the wait doubles up to 8 s."""
        delays = [self.guess("alice", "192.0.2.7") for _ in range(PAIR.refused_after)]
        self.assertEqual(delays, [0, 0, 0.5, 1, 2, 4, 8, 8, 8, 8])

    def test_refused(self) -> None:
        """After ten, this account is refused from this address until a minute has passed."""
        self.guess("alice", "192.0.2.7", PAIR.refused_after)
        self.clock.advance(20)
        self.assertEqual(self.refused("alice", "192.0.2.7"), 40)
        self.heard("alice", "192.0.2.8")
        self.heard("bob", "192.0.2.7")
        self.clock.advance(40)
        self.heard("alice", "192.0.2.7")

    def test_at_the_same_time(self) -> None:
        """Guesses whose outcome is open count, so that many at once gain nothing."""
        begun = [self.guesses.begin("alice", "192.0.2.7") for _ in range(30)]
        for guess in begun[: PAIR.refused_after]:
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
        self.assertEqual(heard, PAIR.refused_after)
        self.assertEqual(self.refused("alice", "192.0.2.7"), 60)

    def test_failures_elsewhere_meanwhile(self) -> None:
        """So are those of an account that others guessed at after they were begun."""
        begun = self.guesses.begin("alice", "203.0.113.1")
        for n in range(ACCOUNT.refused_after):
            self.guess("alice", f"192.0.2.{n}")
        self.assertEqual(self.assertRaises(TooManyGuesses, begun.weigh).seconds, 60)

    def test_claims_are_no_guesses(self) -> None:
        """Whoever only claims a name keeps nobody out."""
        for _ in range(1_000):
            self.guesses.begin("alice", "192.0.2.7")
        self.heard("alice", "192.0.2.7")
        self.guesses.begin("alice", "192.0.2.7").weigh()

    def test_success_forgives(self) -> None:
        """The right password clears the count of its account at its address only."""
        self.guess("alice", "192.0.2.7", 9)
        self.guesses.begin("alice", "192.0.2.7").succeeded()
        self.assertEqual(self.guess("alice", "192.0.2.7"), 0)

    def test_one_account_from_everywhere(self) -> None:
        """Guesses spread over addresses are refused; the user's own address is not."""
        self.guesses.begin("alice", "198.51.100.1").succeeded()
        for n in range(ACCOUNT.refused_after):
            self.guess("alice", f"192.0.2.{n}")
        self.assertEqual(self.refused("alice", "203.0.113.1"), 60)
        self.heard("alice", "198.51.100.1")
        self.clock.advance(60)
        self.heard("alice", "203.0.113.1")

    def test_trust_ends(self) -> None:
        """A day after the last log-in an address is like any other."""
        self.guesses.begin("alice", "198.51.100.1").succeeded()
        self.clock.advance(86_400)
        for n in range(ACCOUNT.refused_after):
            self.guess("alice", f"192.0.2.{n}")
        self.refused("alice", "198.51.100.1")

    def test_many_accounts_from_one_address(self) -> None:
        """One password tried on many accounts is refused, whoever logged in from there."""
        self.guesses.begin("bob", "192.0.2.7").succeeded()
        for n in range(ADDRESS.refused_after):
            self.guess(f"user{n}", "192.0.2.7")
        self.refused("alice", "192.0.2.7")
        self.refused("bob", "192.0.2.7")
        self.heard("alice", "192.0.2.8")

    def test_networks(self) -> None:
        """A /64 is one address, a mapped IPv4 address is IPv4, loopback is a proxy's."""
        self.guess("alice", "2001:db8::1", PAIR.refused_after)
        self.refused("alice", "2001:db8::2")
        self.heard("alice", "2001:db8:0:1::1")
        self.guess("alice", "::ffff:192.0.2.7", PAIR.refused_after)
        self.refused("alice", "192.0.2.7")
        for peer in ("127.0.0.1", "::1", "local"):
            for n in range(ADDRESS.refused_after):
                self.guess(f"user{n}", peer)
            self.heard("alice", peer)

    def test_bounded(self) -> None:
        """Each table forgets the oldest entry beyond its bound."""
        self.guesses = Guesses(self.clock, most=3)
        self.guess("alice", "192.0.2.7", PAIR.refused_after)
        for n in range(3):
            self.guess(f"user{n}", f"192.0.2.{n}")
        for n in range(4):
            self.guesses.begin(f"user{n}", "198.51.100.1").succeeded()
        self.heard("alice", "192.0.2.7")
        tables = (self.guesses._pairs, self.guesses._accounts, self.guesses._addresses)
        self.assertTrue(all(len(table._records) <= 3 for table in tables))
        self.assertEqual(len(self.guesses._known), 3)
        self.assertEqual(len(self.guesses._open), 0)
