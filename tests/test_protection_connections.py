"""Who keeps a place, and who makes room."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import tcp
from twisted.trial.unittest import SynchronousTestCase

from cms.fast.reservedfile import ToldReservation
from cms.process import openfiles
from cms.process.logs import Logger
from cms.process.openfiles import tell_when_out
from cms.protection.connections import SELDOM, Admitted, ConnectionLimiter, Limits
from tests import LoggedError
from tests.support import as_observer

LIMITS = Limits(
    most=20, per_address=8, unauthenticated=10, unauthenticated_per_address=4, guests=6, reserve=2
)


class PlacesTests(SynchronousTestCase):
    """One listener with few places."""

    def setUp(self) -> None:
        """Nobody is there."""
        self.now = 0.0
        self.lines: list[Any] = []
        log = Logger(observer=as_observer(self.lines.append))
        self.limiter = ConnectionLimiter(LIMITS, lambda: self.now, "client", log=log)
        self.dropped: list[Admitted] = []

    def come(self, host: str, *, trusted: bool = False) -> Admitted | None:
        """Somebody connects, and may be trusted at once."""
        guest = self.limiter.admit(host)
        if guest is not None:
            guest.drop = lambda: self.dropped.append(guest)
            if trusted:
                guest.trust()
        return guest

    def test_own_network_replaceable(self) -> None:
        """Beyond what one address gets, its own oldest stranger goes, and nobody is refused."""
        other = self.come("192.0.2.1")
        guests = [self.come("198.51.100.1") for _ in range(30)]
        self.assertEqual(guests[:26], self.dropped)
        self.assertTrue(other is not None and other.here)
        self.assertEqual((5, 0), (self.limiter.taken, self.limiter.refused))

    def test_a_64_is_an_address(self) -> None:
        """However many addresses one customer has."""
        for number in range(30):
            self.come(f"2001:db8::{number:x}:1")
        self.assertEqual(4, self.limiter.taken)
        self.assertIsNotNone(self.come("2001:db8:0:1::1"))
        self.assertEqual(5, self.limiter.taken)

    def test_the_most_crowded_replaceable(self) -> None:
        """When strangers have all they get, who comes alone pushes out one of a crowd."""
        alone = [self.come(f"192.0.2.{n}") for n in range(6)]
        crowd = [self.come("198.51.100.1") for _ in range(4)]
        self.come("203.0.113.1")
        self.assertEqual([crowd[0]], self.dropped)
        self.come("203.0.113.2")
        self.come("203.0.113.3")
        self.assertEqual(crowd[:3], self.dropped)
        self.come("203.0.113.4")  # now everybody is alone: the oldest goes
        self.assertEqual([*crowd[:3], alone[0]], self.dropped)

    def test_waiting(self) -> None:
        """Who waits for a Callbridge makes no room; afterwards he does, as the newest."""
        waiting = self.come("192.0.2.1")
        assert waiting is not None
        for _ in range(2):
            waiting.set_waiting(True)
        others = [self.come("192.0.2.1") for _ in range(LIMITS.unauthenticated_per_address + 1)]
        self.assertEqual(others[:1], self.dropped)
        waiting.set_waiting(False)
        self.come("192.0.2.1")
        self.assertEqual(others[:2], self.dropped)
        for _ in range(LIMITS.unauthenticated_per_address):
            self.come("192.0.2.1")
        self.assertIn(waiting, self.dropped)
        taken = self.limiter.taken
        waiting.set_waiting(False)  # he is gone, and nothing brings him back
        waiting.leave()
        self.assertEqual(taken, self.limiter.taken)

    def test_trusted_stay(self) -> None:
        """Strangers push out strangers, and never all: half of the places are not theirs."""
        known = [self.come(f"192.0.2.{n}", trusted=True) for n in range(8)]
        for n in range(100):
            self.come(f"198.51.100.{n}")
        self.assertEqual(18, self.limiter.taken)
        self.assertTrue(all(guest is not None and guest.here for guest in known))
        late = self.come("203.0.113.1")
        assert late is not None
        late.trust()  # by the side of strangers who come and go
        for n in range(100):
            self.come(f"198.51.100.{n}")
        self.assertTrue(late.here)

    def test_full_of_trusted(self) -> None:
        """Then a newcomer is refused, but not one of this host."""
        for n in range(18):
            self.come(f"192.0.2.{n}", trusted=True)
        self.assertIsNone(self.come("203.0.113.1"))
        self.assertEqual(1, self.limiter.refused)
        for host in ("127.0.0.1", "local"):
            self.assertIsNotNone(self.come(host, trusted=True))
        self.assertIsNone(self.come("::1"))
        self.assertEqual([], self.dropped)

    def test_one_address_full_of_trusted(self) -> None:
        """It gets no more, and the others do."""
        for _ in range(8):
            self.assertIsNotNone(self.come("192.0.2.1", trusted=True))
        self.assertIsNone(self.come("192.0.2.1"))
        self.assertIsNotNone(self.come("192.0.2.2"))

    def test_this_host(self) -> None:
        """Behind its address may be a proxy with everybody: it has no limit of its own."""
        guests = [self.come("127.0.0.1") for _ in range(10)]
        self.assertEqual(10, self.limiter.taken)
        self.come("192.0.2.1")
        self.assertEqual([guests[0]], self.dropped)
        self.come("127.0.0.1")
        self.assertEqual(guests[:2], self.dropped)

    def test_leaving(self) -> None:
        """A place is given back once, by whoever had it."""
        guest = self.come("192.0.2.1")
        assert guest is not None
        guest.leave()
        guest.leave()
        guest.trust()
        self.assertEqual(0, self.limiter.taken)

    def guest(self, host: str) -> Admitted | None:
        """A guest logs in; C{None}: there was no place."""
        admitted = self.come(host)
        assert admitted is not None
        if admitted.trust(guest=True):
            return admitted
        admitted.leave()
        return None

    def test_guests(self) -> None:
        """They fill their part and no more, whoever they are, and users find places."""
        for number in range(40):
            self.guest(f"198.51.100.{number % 4}")
        self.assertEqual(LIMITS.guests, self.limiter.taken)
        users = [self.come(f"192.0.2.{n}", trusted=True) for n in range(12)]
        self.assertNotIn(None, users)
        self.assertTrue(all(user is not None and user.here for user in users))

    def test_guests_of_a_crowd(self) -> None:
        """In a full part the newest of the largest crowd go, and nobody of a smaller one."""
        crowd = [self.guest("198.51.100.1") for _ in range(5)]
        one = self.guest("192.0.2.1")
        self.assertIsNone(self.guest("198.51.100.1"))  # they themselves
        others = [self.guest("192.0.2.2"), self.guest("192.0.2.3")]
        self.assertEqual([crowd[4], crowd[3]], self.dropped)
        for admitted in (one, *others, *crowd[:3]):
            assert admitted is not None
            self.assertTrue(admitted.here)
        again = crowd[0]
        assert again is not None
        self.assertTrue(again.trust(guest=True))  # twice does no harm
        self.assertEqual(6, self.limiter._guests.count)

    def test_log(self) -> None:
        """A flood is one line a minute, with what is of use."""
        for _ in range(30):
            self.come("198.51.100.1")
        self.assertEqual(1, len(self.lines))
        self.now += SELDOM
        self.come("198.51.100.1")
        told = [line["connections"] for line in self.lines]
        self.assertEqual(["1 connection", "26 connections"], told)
        keys = ("taken", "most", "unauthenticated")
        self.assertEqual([4, 20, 4], [self.lines[1][key] for key in keys])

    def test_counts(self) -> None:
        """Whatever happens in whatever order, the books are right."""
        random, guests = Random(7), list[Admitted]()
        for _ in range(5_000):
            if random.random() < 0.6:
                host = random.choice(("local", *(f"192.0.2.{n}" for n in range(9))))
                guest = self.come(host)
                guests += [guest] if guest is not None else []
            elif guests:
                guest = random.choice(guests)
                stays = random.random() < 0.5 and guest.trust(guest=random.random() < 0.7)
                if not stays:
                    guest.leave()
            guests = [guest for guest in guests if guest.here]
            strangers = [guest for guest in guests if not guest.trusted]
            self.assertEqual(len(guests), self.limiter.taken)
            of_guests = [guest for guest in guests if guest.guest]
            self.assertLessEqual(len(of_guests), LIMITS.guests)
            for crowds, they in (
                (self.limiter._replaceable, strangers),
                (self.limiter._guests, of_guests),
            ):
                self.assertEqual(len(they), crowds.count)
                sizes = [sum(s.network == g.network for s in they) for g in they]
                self.assertEqual(max(sizes, default=0), crowds._largest)
            self.assertLessEqual(len(guests), LIMITS.most)

    def test_defaults(self) -> None:
        """For every number of places the limits fit together."""
        for most in (1, 2, 10, 200, 20_000):
            limits = Limits.of(most)
            self.assertLessEqual(limits.unauthenticated_per_address, limits.unauthenticated)
            self.assertLessEqual(limits.per_address, most)
            self.assertGreaterEqual(most - limits.reserve, 1)
            self.assertGreaterEqual(most, limits.guests)
        self.assertEqual(
            Limits(
                most=20_000,
                per_address=2_000,
                unauthenticated=10_000,
                unauthenticated_per_address=200,
                guests=10_000,
                reserve=16,
            ),
            Limits.of(20_000),
        )

    def test_few(self) -> None:
        """What is wanted is not said to be set: whoever set nothing is told of it, too."""
        warning = openfiles.judge("xmpp.toml", "most_connections", 1_000, 6, 40)
        assert warning is not None
        self.assertEqual(
            "xmpp.toml: each listener gets 6 places, where 1000 are wanted (most_connections):"
            " the daemon may open 40 files.",
            warning.cause,
        )
        self.assertIsNone(openfiles.judge("xmpp.toml", "most_connections", 6, 6, 40))


class ComplaintTests(SynchronousTestCase):
    """What is said when connections cannot be accepted for want of files."""

    def test_told(self) -> None:
        """Twisted's reserved descriptor works as before, and its use is told of, once a while."""
        now = [7.0]
        reserved = tcp._reservedFD
        self.patch(tcp, "_reservedFD", reserved)
        for _ in range(2):
            tell_when_out(lambda: now[0])
        told: Any = tcp._reservedFD
        self.assertIsInstance(told, ToldReservation)
        self.assertIs(reserved, told._reserved)
        told.reserve()
        for expected, now[0] in ((1, 7.0), (0, 66.0), (1, 67.0)):
            with told:
                pass
            errors = self.flushLoggedErrors(LoggedError)
            self.assertEqual(expected, len(errors))
            for error in errors:
                self.assertIn("as many files open as it may", str(error.value))
