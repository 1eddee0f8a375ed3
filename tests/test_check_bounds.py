"""Each part of a check ends in time, and says what it waited for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.check.bounds import Waits, within
from cms.signalflow import Step, StepError


class BoundTests(SynchronousTestCase):
    """Five seconds for work of which little is known."""

    def setUp(self) -> None:
        """Note each wait."""
        self.clock = Clock()
        self.told: list[tuple[Step, str, float]] = []
        self.waits = Waits(lambda *wait: self.told.append(wait))

    def begin(self, work: Any) -> Deferred[StepError | None]:
        """Do it."""
        return Deferred.fromCoroutine(within(self.clock, 5.0, work, self.waits))

    def test_in_time(self) -> None:
        """Nothing is said of work that ends."""

        async def work() -> None:
            pass

        self.assertIsNone(self.successResultOf(self.begin(work())))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_unfinished(self) -> None:
        """It is told at the step that was waited for, with the name of what was."""

        async def work() -> None:
            self.waits(Step.TLS, "xmpp1:5223", 2.0)
            await Deferred()

        done = self.begin(work())
        self.clock.advance(4.9)
        self.assertNoResult(done)
        self.clock.advance(0.1)
        error: Any = self.successResultOf(done)
        self.assertEqual(("check-unfinished", Step.TLS), (error.fault, error.step))
        self.assertIn("within its 5 s; it was waiting for step 7 tls (xmpp1:5223)", error.cause)
        self.assertEqual([(Step.TLS, "xmpp1:5223", 2.0)], self.told)

    def test_failures(self) -> None:
        """What breaks is told as well, whatever it is."""
        silent = faults.LINK_SILENT.error(peer="xmpp1", seconds="5")
        for problem, fault in ((silent, "link-silent"), (KeyError("x"), "internal")):

            async def work(problem: Exception = problem) -> None:
                self.waits(Step.LOGIN, "alice", 2.0)
                raise problem

            error: Any = self.successResultOf(self.begin(work()))
            self.assertEqual(fault, error.fault)
            self.assertEqual(problem.step if problem is silent else Step.LOGIN, error.step)
            self.assertEqual([], self.clock.getDelayedCalls())
