"""Timers and intervals do not see the wall clock; dates see nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock, LoopingCall
from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.config import Timing
from cms.callbridge.login.decision import Decision
from cms.callbridge.login.record import Logins
from cms.fast.reactor import PromptReactor
from cms.process import clocks
from cms.process.clocks import Timeline, make_steady, wall_clock
from cms.protection.guessing import ACCOUNT_AT_ADDRESS, TooManyGuesses
from cms.signalflow import Attempt, Step
from tests.support import TwoClocks
from tests.test_callbridge_link import World
from tests.xmppserver import Server

HOUR = 3600.0


class SteadyTests(SynchronousTestCase):
    """A reactor, ours or Twisted's."""

    def setUp(self) -> None:
        """Both clocks are the test's."""
        self.steady, self.wall = 50.0, 1_700_000_000.0
        self.patch(clocks, "steady", lambda: self.steady)
        self.patch(clocks, "wall", lambda: self.wall)

    def reactor(self, kind: Callable[[], Any]) -> Any:
        """One that does not run, and whose time was the wall clock's when it was made."""
        reactor = kind()
        self.addCleanup(reactor._poller.close)
        reactor.seconds = lambda: self.wall
        return reactor

    def passes(self, reactor: Any, seconds: float, set_by: float = 0.0) -> None:
        """Time passes, and somebody sets the wall clock."""
        self.steady += seconds
        self.wall += seconds + set_by
        reactor.runUntilCurrent()

    def test_timers(self) -> None:
        """A call comes when it is due, an hour back or not; so does one made before."""
        for kind in (PromptReactor, EPollReactor):
            reactor, called = self.reactor(kind), list[str]()
            reactor.callLater(10, called.append, "before")
            make_steady(reactor)
            reactor.callLater(10, called.append, "after")
            self.assertEqual(10.0, reactor.timeout())
            self.passes(reactor, 9.0, -HOUR)
            self.assertEqual([], called)
            self.passes(reactor, 1.5)
            self.assertEqual({"before", "after"}, set(called))

    def test_put_off(self) -> None:
        """A call that was made before can be put off."""
        reactor, called = self.reactor(PromptReactor), list[str]()
        call = reactor.callLater(10, called.append, "x")
        make_steady(reactor)
        call.reset(20)
        self.passes(reactor, 15.0)
        self.assertEqual([], called)
        self.passes(reactor, 6.0)
        self.assertEqual(["x"], called)

    def test_loops(self) -> None:
        """A loop, such as the watchdog's, goes on."""
        reactor, called = self.reactor(PromptReactor), list[int]()
        make_steady(reactor)
        loop = LoopingCall(called.append, 1)
        loop.clock = reactor
        loop.start(10)
        for _ in range(5):
            self.passes(reactor, 10.0, -HOUR)
        self.assertEqual(6, len(called))

    def test_dates(self) -> None:
        """The date is the wall clock's."""
        reactor = self.reactor(PromptReactor)
        make_steady(reactor)
        self.assertEqual((50.0, self.wall), (reactor.seconds(), wall_clock(reactor)()))

    def test_one_clock(self) -> None:
        """What has no wall clock has one clock for both."""
        clock = Clock()
        clock.advance(7)
        self.assertEqual(7, wall_clock(clock)())

    def test_real(self) -> None:
        """Outside of tests the two are the kernel's."""
        self.assertEqual(["monotonic", "time"], [f.__name__ for f in (_STEADY, _WALL)])


_STEADY, _WALL = clocks.steady, clocks.wall


class TimelineTests(SynchronousTestCase):
    """Dates of what follows each other."""

    def test_distances(self) -> None:
        """They are the real ones; what begins later believes the wall clock again."""
        clock = TwoClocks()
        line = Timeline(clock)
        began = line.now
        self.assertEqual(clock.wall_seconds(), began)
        clock.advance(5)
        clock.offset -= HOUR
        self.assertEqual(5.0, line.now - began)
        line.restart()
        self.assertEqual(clock.wall_seconds(), line.now)


class DaemonTests(SynchronousTestCase):
    """What both daemons show and do while somebody sets the clock."""

    def took(self, attempt: Attempt, step: Step) -> float | None:
        """How long a step took."""
        (record,) = [r for r in attempt.records if r.step is step]
        return record.seconds

    def test_registration(self) -> None:
        """A component's registration: real dates, real durations."""
        server = Server()
        clock = server.clock
        began = clock.wall_seconds()
        peer = server.component()
        clock.advance(2)
        clock.offset -= HOUR
        peer.register("cb1.meet.example.com", "one")
        (attempt,) = server.flow.registrations()
        self.assertEqual(began, attempt.began)
        self.assertLess(abs(2.0 - (self.took(attempt, Step.REGISTER) or 0)), 0.1)
        (link,) = server.links
        self.assertLess(abs(began + 2 - link.since), 0.1)
        clock.advance(100)
        clock.offset += 2 * HOUR
        peer.transport.lose()
        self.assertLess(abs(100.0 - (self.took(attempt, Step.ACTIVE) or 0)), 0.1)

    def test_session(self) -> None:
        """A session began when the wall clock says it did."""
        server = Server()
        server.bound(server.callbridge())
        began = datetime.fromisoformat(server.told[0].since)  # type: ignore[union-attr]
        expected = datetime.fromtimestamp(server.clock.wall_seconds(), UTC)
        self.assertLess(abs((expected - began).total_seconds()), 1)
        (attempt,) = server.flow.logins()
        self.assertLess(abs(server.clock.wall_seconds() - attempt.began), 1)

    def test_guesses(self) -> None:
        """Who is refused is refused for as long as he was told."""
        server = Server()
        guesses = server.components.guesses
        for _ in range(ACCOUNT_AT_ADDRESS.burst):
            guess = guesses.begin("alice", "192.0.2.1")
            guess.weigh()
            guess.failed()

        def refused() -> float:
            refused: TooManyGuesses = self.assertRaises(
                TooManyGuesses, guesses.begin, "alice", "192.0.2.1"
            )
            return refused.seconds

        seconds = refused()
        server.clock.offset += HOUR
        self.assertEqual(seconds, refused())
        server.clock.offset -= 2 * HOUR
        server.clock.advance(seconds)
        guesses.begin("alice", "192.0.2.1").weigh()

    def test_link(self) -> None:
        """A link that held is a stable one, whatever the wall clock says of its length."""
        world = World()
        timing = Timing()
        world.link.start()
        world.activate()
        self.assertEqual(world.clock.wall_seconds(), world.link.since)
        for _ in range(int(timing.stable)):
            world.clock.advance(1)
            world.say(" ")
        world.clock.offset -= HOUR
        world.transports[-1].lose()
        attempt = world.link.history.last
        assert attempt is not None
        self.assertEqual(timing.stable, self.took(attempt, Step.ACTIVE))
        self.assertEqual(0, world.core.backoff.failures)
        world.clock.advance(world.delay())
        attempt = world.link.history.last
        assert attempt is not None
        self.assertLess(abs(world.clock.wall_seconds() - attempt.began), 0.01)

    def test_logins(self) -> None:
        """A Callbridge's log-ins are dated."""
        clock = TwoClocks()
        logins = Logins(clock, lambda: "cb1")
        logins.decided(Decision("PLAIN", "success", 0.5))
        logins.decided(Decision("PLAIN", "not-authorized", 0.25))
        dates = [attempt.began - clock.wall_seconds() for attempt in logins]
        self.assertEqual([-0.25, -0.5], dates)
