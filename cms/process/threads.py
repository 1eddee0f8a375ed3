"""Run computations that take milliseconds in threads, a bounded number of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from cms.process.logs import Logger

T = TypeVar("T")
log = Logger()


class TooMuchWork(Exception):
    """Too many computations wait already; this one is refused."""


def shielded(work: Deferred[T]) -> Deferred[T]:
    """A Deferred that fires as C{work} does.  Cancelling it does not cancel C{work}."""
    answer: Deferred[T] = Deferred(lambda _: None)

    def done(result: Any) -> None:
        if not answer.called:
            answer.callback(result)
        elif isinstance(result, Failure):
            log.failure("what nobody waits for any more failed", result)

    work.addBoth(done)
    return answer


class SlowWork:
    """
    Runs functions in the reactor's thread pool.

    @param at_once: How many run at the same time.
    @param most_waiting: How many more may wait for their turn.
    """

    def __init__(self, reactor: Any, *, at_once: int = 2, most_waiting: int = 200) -> None:
        self._reactor = reactor
        self._turns = DeferredSemaphore(at_once)
        self._most_waiting = most_waiting

    def run(self, function: Callable[[], T]) -> Deferred[T]:
        """
        Run C{function} in a thread.

        @return: Fires with its result; fails with its exception, or with
            L{TooMuchWork}.  If it is cancelled while it waits, the function never runs.
        """
        if len(self._turns.waiting) >= self._most_waiting:
            return fail(TooMuchWork())
        return Deferred.fromCoroutine(self._run(function))

    async def _run(self, function: Callable[[], T]) -> T:
        await self._turns.acquire()
        work = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function)
        answer: Deferred[T] = Deferred()

        def done(result: Any) -> None:
            # Cancelling the answer does not stop the thread, so release only when it is done.
            self._turns.release()
            answer.callback(result)

        work.addBoth(done)
        return await answer
