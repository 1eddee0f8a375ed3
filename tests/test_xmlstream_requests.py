"""Requests that wait for their answers."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream.replies import ping_payload, request, result_reply
from cms.xmlstream.requests import RequestLost, Requests
from cms.xmlstream.stanza import Stanza


class TimeTests(SynchronousTestCase):
    """One timer watches over all requests of a stream."""

    def setUp(self) -> None:
        """Requests of a stream."""
        self.clock = Clock()
        self.sent: list[Stanza] = []
        self.requests = Requests(self.clock, self.sent.append)

    def ask(self, timeout: float) -> Deferred[Stanza]:
        """Ask something."""
        return self.requests.ask(request("get", "a", "b", ping_payload()), timeout)

    def test_each_its_time(self) -> None:
        """Each request has its own time, in whatever order they were sent."""
        slow, quick, between = self.ask(15), self.ask(5), self.ask(10)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        for answer in (quick, between, slow):
            self.clock.advance(4.9)
            self.assertNoResult(answer)
            self.clock.advance(0.1)
            self.failureResultOf(answer, DeferredTimeout)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(0, len(self.requests))

    def test_after_an_answer(self) -> None:
        """An answer in time is no reason to forget the time of others."""
        first = self.ask(5)
        self.clock.advance(3)
        second = self.ask(5)
        self.assertTrue(self.requests.take(result_reply(self.sent[0])))
        self.successResultOf(first)
        self.clock.advance(4.9)
        self.assertNoResult(second)
        self.clock.advance(0.2)
        self.failureResultOf(second, DeferredTimeout)

    def test_late_answer(self) -> None:
        """An answer that comes too late is nobody's."""
        self.failureResultOf(self._timed_out(), DeferredTimeout)
        self.assertFalse(self.requests.take(result_reply(self.sent[0])))

    def _timed_out(self) -> Deferred[Stanza]:
        answer = self.ask(5)
        self.clock.advance(5)
        return answer

    def test_asked_again_at_once(self) -> None:
        """Who asks again when there is no answer gets the whole time once more."""
        again: list[Deferred[Stanza]] = []
        self.ask(5).addErrback(lambda _: again.append(self.ask(5)))
        self.clock.advance(5)
        self.clock.advance(4.9)
        self.assertNoResult(again[0])
        self.clock.advance(0.1)
        self.failureResultOf(again[0], DeferredTimeout)

    def test_many(self) -> None:
        """Many that run out one after the other are not looked through for each."""
        for _ in range(1_000):
            self.ask(5).addErrback(lambda failure: failure.trap(DeferredTimeout))
            self.clock.advance(0.001)
        looks: list[None] = []
        look = self.requests._look
        self.patch(self.requests, "_look", lambda: (looks.append(None), look()))
        for _ in range(600):
            self.clock.advance(0.01)
        self.assertEqual(0, len(self.requests))
        self.assertLess(len(looks), 25)

    def test_lost(self) -> None:
        """The end of the stream ends all, in their order, and nothing is watched any more."""
        order: list[int] = []
        for number in range(3):
            self.ask(5 + number).addErrback(
                lambda failure, number=number: failure.trap(RequestLost) and order.append(number)
            )
        self.requests.lost()
        self.assertEqual([0, 1, 2], order)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cancelled(self) -> None:
        """Who waits no more is forgotten."""
        answer = self.ask(5)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(0, len(self.requests))
        self.assertFalse(self.requests.take(result_reply(self.sent[0])))
