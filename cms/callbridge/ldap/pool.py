"""Connections of one kind to the servers of a directory: bounded, and watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall

from cms import faults
from cms.callbridge.ldap import codes
from cms.callbridge.ldap.connection import LdapConnection, Refused
from cms.callbridge.ldap.servers import LEAST_WAIT, Servers
from cms.callbridge.ldap.settings import LdapServer, LdapSettings
from cms.signalflow import StepError

_T = TypeVar("_T")
MOST_EMPTY = 100  # pages without an entry, as Active Directory gives some when a page takes long


def refusal(no: Refused, doing: str = "search") -> StepError:
    """A server's no, as a fault."""
    return faults.LDAP_REFUSED.error(peer=no.peer, doing=doing, problem=no.words)


def refuse_endless(empty: int, peer: str) -> None:
    """
    @param empty: Pages of an answer that have no entry, so far.
    @raise StepError: there are too many of them.
    """
    if empty > MOST_EMPTY:
        problem = f"it gives more than {MOST_EMPTY} pages without an entry, and no last one"
        raise faults.LDAP_BROKEN.error(peer=peer, doing="search", problem=problem)


class Pool:
    """
    The connections.

    Those that nobody needs are closed after C{idle} seconds, and those that the server has
    closed are thrown away.  If an operation fails, its connection is closed and the next
    server is tried, as long as there is time: searches and binds can be done twice.

    A server that says no to everything is left alone for a while, but not for what it says of a
    bind, or does not say: that it is unavailable, or waits, may be meant of this user alone, whose
    password another server has, and he could keep out everybody.  Each log-in has searched before,
    which shows the rest.

    @param as_account: Whether they are bound as our own account, for searches; else whoever
        uses one binds.
    """

    def __init__(
        self, clock: Any, settings: LdapSettings, servers: Servers, *, as_account: bool
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._servers = servers
        self._as_account = as_account
        self._turns = DeferredSemaphore(settings.most_connections)
        self._idle: dict[LdapConnection, IDelayedCall] = {}
        self._used: set[LdapConnection] = set()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._idle) + len(self._used)

    @property
    def peers(self) -> Counter[str]:
        """How many there are to each server."""
        return Counter(each.peer for each in (*self._idle, *self._used))

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._turns.waiting)

    async def use(
        self, work: Callable[[LdapConnection, float], Awaitable[_T]], deadline: float
    ) -> _T:
        """
        Do something with a connection.

        @param work: Gets it, and the seconds for its answer.
        @param deadline: On the clock, for all of it.
        @raise StepError: nothing came of it.
        @raise Refused: from C{work}.
        """
        await self._turn(deadline)
        try:
            return await self._use(work, deadline)
        finally:
            self._turns.release()

    async def _turn(self, deadline: float) -> None:
        if self.waiting >= self._settings.most_waiting:
            raise self._busy()
        turn = self._turns.acquire()
        if not turn.called:
            turn.addTimeout(max(LEAST_WAIT, deadline - self._clock.seconds()), self._clock)
        try:
            await turn
        except DeferredTimeout:
            raise self._busy() from None

    def _busy(self) -> StepError:
        return faults.LDAP_BUSY.error(directory=self._settings.name, waiting=self.waiting)

    async def _use(
        self, work: Callable[[LdapConnection, float], Awaitable[_T]], deadline: float
    ) -> _T:
        besides: set[LdapServer] = set()
        while True:
            connection = self._take(besides)
            is_fresh = connection is None
            if connection is None:
                connection = await self._servers.connect(
                    deadline, as_account=self._as_account, besides=besides
                )
            seconds = min(self._settings.timeout, deadline - self._clock.seconds())
            self._used.add(connection)
            try:
                result = await work(connection, max(LEAST_WAIT, seconds))
            except StepError as problem:
                connection.close()
                # A connection that waited may have been closed meanwhile: no server's fault.
                is_fault = is_fresh or problem.fault == faults.LDAP_SILENT.name
                goes_on = not is_fault or self._goes_on(connection, problem, seconds, besides)
                if not goes_on or deadline - self._clock.seconds() < LEAST_WAIT:
                    raise
            except Refused as no:
                if no.code not in codes.OF_THE_SERVER or self._is_nobody(no):
                    self._give_back(connection)
                    raise
                connection.close()
                if not self._goes_on(connection, refusal(no), seconds, besides):
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                self._give_back(connection)
                return result
            finally:
                self._used.discard(connection)

    def _goes_on(
        self,
        connection: LdapConnection,
        problem: StepError,
        seconds: float,
        besides: set[LdapServer],
    ) -> bool:
        """Blame a server for all, or for this one operation; whether another one is asked."""
        if self._as_account:
            self._servers.failed(connection.server, problem, seconds)
            return True
        besides.add(connection.server)
        return self._servers.works(besides)

    def _is_nobody(self, no: Refused) -> bool:
        """Whether it wants an account: so Active Directory says that, and no server does better."""
        return no.code == codes.OPERATIONS_ERROR and self._settings.bind_password is None

    def _take(self, besides: Collection[LdapServer]) -> LdapConnection | None:
        for connection in reversed(list(self._idle)):
            if connection.server not in besides:
                self._idle.pop(connection).cancel()
                if not connection.closed:
                    return connection
        return None

    def _give_back(self, connection: LdapConnection) -> None:
        if self._as_account:
            self._servers.answered(connection.server)
        if not connection.closed:
            connection.on_lost = self._lost
            self._idle[connection] = self._clock.callLater(
                self._settings.idle, self._close_idle, connection
            )

    def _lost(self, connection: LdapConnection) -> None:
        timer = self._idle.pop(connection, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _close_idle(self, connection: LdapConnection) -> None:
        self._idle.pop(connection, None)
        connection.close()

    def stop(self) -> None:
        """Close all."""
        for connection, timer in list(self._idle.items()):
            timer.cancel()
            connection.close()
        self._idle.clear()
        for connection in list(self._used):
            connection.close()
