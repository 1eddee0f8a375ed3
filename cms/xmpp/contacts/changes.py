"""
Changes of contacts on their way to the disk, in their order.

Of each user one change at a time is made, with those of others in one transaction in a thread, and
a pause follows.  So whoever changes his contacts all the time costs the others nothing, and a disk
that is slow makes all of them larger and not more of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from cms.process.logs import Logger
from cms.process.threads import SlowWork
from cms.state.database import StoreUnusable
from cms.xmpp.contacts.store import Change, ContactStore, Refused, Row

PAUSE = 0.02  # seconds from one transaction to the next
MOST_WAITING = 50  # changes of one user
MOST_AT_ONCE = 100  # changes in one transaction


@frozen
class _Asked:
    change: Change
    answer: Deferred[Any]


class Changes:
    """
    Makes changes.

    @ivar clock: Its clock.
    @ivar store: Where they are made.
    @ivar work: Runs functions in a thread, one at a time.
    @ivar on_rows: Called with the rows that were written, before who asked is answered.
    @ivar made: How many were made.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, store: ContactStore, work: SlowWork) -> None:
        self.clock = clock
        self.store = store
        self.work = work
        self._merging: tuple[Callable[[], Callable[[], Any]], Deferred[Any]] | None = None
        self._waiting: dict[str, deque[_Asked]] = {}
        self._busy = self._paused = False
        self._idle: list[Deferred[None]] = []
        self._failing = False
        self.on_rows: list[Callable[[list[Row]], object]] = []
        self.made = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def ask(self, account: str, change: Change) -> Deferred[Any]:
        """
        Make a change.

        @param account: Whose it is.
        @return: Fires with what it gives; fails with what it raises, with L{Refused} if too many
            wait, and with L{StoreUnusable}.
        """
        waiting = self._waiting.setdefault(account, deque())
        if len(waiting) >= MOST_WAITING:
            return fail(Refused("resource-constraint", "too many changes at once", "wait"))
        asked = _Asked(change, Deferred())
        waiting.append(asked)
        self._begin()
        return asked.answer

    def merge(self, take: Callable[[], Callable[[], Any]]) -> Deferred[Any]:
        """
        Take what other servers have changed, before what is asked for from now on.

        @param take: Gives, when its time has come, what is done in a thread.
        @return: Fires with what that gives.
        """
        answer: Deferred[Any] = Deferred()
        self._merging = take, answer
        self._begin()
        return answer

    def finish(self) -> Deferred[None]:
        """Fires when nothing waits any more."""
        if not self._busy and not self._waiting:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def _begin(self) -> None:
        if self._busy or self._paused:
            return
        if self._merging is not None:
            self._busy = True
            (take, answer), self._merging = self._merging, None
            self.work.run(take()).chainDeferred(answer)
            answer.addBoth(self._merged)
            return
        if not self._waiting:
            return
        self._busy = True
        asked: list[_Asked] = []
        for account in list(self._waiting)[:MOST_AT_ONCE]:
            waiting = self._waiting.pop(account)
            asked.append(waiting.popleft())
            if waiting:
                self._waiting[account] = waiting  # behind the others
        changes = [each.change for each in asked]
        done = self.work.run(lambda: self.store.apply(changes))
        done.addCallbacks(
            lambda made: self._made(made, asked), lambda why: self._failed(why, asked)
        )
        done.addErrback(lambda failure: self.log.failure("unexpected error in contacts", failure))
        done.addBoth(self._ended)

    def _merged(self, result: Any) -> Any:
        self._busy = False
        self._begin()
        return result

    def _made(self, made: tuple[list[Any], list[Row]], asked: list[_Asked]) -> None:
        results, rows = made
        if self._failing:
            self._failing = False
            self.log.info("contacts can be changed again")
        for told in self.on_rows if rows else ():
            told(rows)
        for each, result in zip(asked, results, strict=True):
            if isinstance(result, Exception):
                each.answer.errback(result)
            else:
                self.made += 1
                each.answer.callback(result)

    def _failed(self, failure: Failure, asked: list[_Asked]) -> None:
        problem = failure.value
        if isinstance(problem, StoreUnusable):
            if not self._failing:
                self.log.error(
                    "contacts cannot be changed: {cause} Cure: {cure}", **problem.fault.fields
                )
        else:
            self.log.failure("unexpected error in contacts", failure)
        self._failing = True
        for each in asked:
            each.answer.errback(failure)

    def _ended(self, _: object) -> None:
        self._busy, self._paused = False, True
        self.clock.callLater(0 if self._idle else PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._paused = False
        self._begin()
        if not self._busy:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)
