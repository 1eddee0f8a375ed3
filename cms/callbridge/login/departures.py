"""
Users who were deleted from the local store: the XMPP server forgets their contacts.

Otherwise who gets the name next would have them, and be seen by them.  The store knows whom the
server was not told of: there was no link, or no Callbridge ran.  It is told when it listens again.

Who is missing in LDAP loses nothing: a mistake there must not cost what nothing brings back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from cms import faults
from cms.callbridge.directories.directory import DirectoryError
from cms.callbridge.directories.store import UserStore
from cms.callbridge.login.endings import Endings, Forgotten
from cms.process.logs import Logger
from cms.process.threads import SlowWork
from cms.state.database import StoreUnusable

FIRST_DELAY, MOST_DELAY = 60.0, 3600.0  # seconds until a server that did not answer is told again


class Departures:
    """
    Tells the server of them.

    @param beside: Whether another directory has a user of this name; fails with
        L{DirectoryError}.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        store: UserStore,
        endings: Endings,
        beside: Callable[[str], Awaitable[bool]],
        random: Random,
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._endings = endings
        self._beside = beside
        self._random = random
        self._work = SlowWork(reactor, at_once=1)
        self._delay = FIRST_DELAY
        self._again: IDelayedCall | None = None
        endings.on_named = self.tell_all

    async def tell(self, name: str) -> Forgotten:
        """
        A user was deleted.

        @param name: The prepared local part.
        @raise StoreUnusable: the store fails.
        """
        try:
            if await self._beside(name):
                outcome = Forgotten()  # he is a user still
            else:
                outcome = await self._endings.forget(name)
        except DirectoryError as problem:
            fault = faults.CONTACTS_LATER.error(jid=name, problem=problem)
            self.log.warn("{step_text}: {cause} Cure: {cure}", **fault.fields)
            outcome = Forgotten(problem=fault, later=True)
        if outcome.later:
            self._try_again()
        else:
            await self._work.run(lambda: self._store.told_of(name))
        return outcome

    def tell_all(self) -> None:
        """The server listens: tell it of all whom it was not told of."""
        self.stop()
        telling = Deferred.fromCoroutine(self._tell_all())
        telling.addErrback(lambda failure: self.log.failure("unexpected error", failure))

    async def _tell_all(self) -> None:
        try:
            for name in await self._work.run(self._store.departed):
                if (await self.tell(name)).later:
                    return
        except StoreUnusable as problem:
            self.log.error("{step_text}: {cause} Cure: {cure}", **problem.fault.fields)
            return
        self._delay = FIRST_DELAY

    def _try_again(self) -> None:
        if self._again is None and self._endings.can_ask:
            delay = self._delay * (0.75 + 0.5 * self._random.random())
            self._delay = min(MOST_DELAY, self._delay * 2)
            self._again = self._reactor.callLater(delay, self._retry)

    def _retry(self) -> None:
        self._again = None
        self.tell_all()

    def stop(self) -> None:
        """Do not try again by itself."""
        if self._again is not None:
            self._again.cancel()
        self._again = None
