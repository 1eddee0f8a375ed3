"""
Several directories in their order.

Whose a name is, is decided by what is stored here: the local users, and those that the syncs
of LDAP directories found.  So it does not depend on which directory answers at the moment.
Only a name that nobody has stored is asked of each directory that can be asked.  If one of
these cannot answer and no other knows the name, that is no "no such user".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from cms.callbridge.directories.directory import AccountLocked, DirectoryError
from cms.callbridge.passwords.scram import StoredKeys
from cms.linkprotocol.people import Person

_T = TypeVar("_T")


class Source(Protocol):
    """
    One of several directories; what is not said here is as in L{Directory}.

    @ivar name: As the configuration calls it.
    @ivar asks: Whether it has users that are not stored here.
    @ivar mechanisms: Those that work for its users.
    """

    @property
    def name(self) -> str: ...

    @property
    def asks(self) -> bool: ...

    @property
    def mechanisms(self) -> tuple[str, ...]: ...

    @property
    def usual_wait(self) -> float:
        """How long a wrong password takes, in seconds; varies as it does."""
        ...

    def holds(self, name: str) -> Deferred[bool]:
        """Whether this user is stored here as one of its; fails with L{DirectoryError}."""
        ...

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """See L{Directory.keys}; C{None} as well for a mechanism that does not work here."""
        ...

    def verify(self, name: str, password: str) -> Deferred[bool | None]:
        """See L{Directory.verify}; at once for an unknown user."""
        ...

    def over(self, name: str, since: datetime) -> Deferred[str | None]:
        """See L{Directory.over}."""
        ...

    def person(self, name: str) -> Deferred[Person | None]:
        """See L{Directory.person}; of those who are stored here."""
        ...

    def close(self) -> None:
        """See L{Directory.close}."""
        ...


class Directories:
    """
    Implements L{Directory<cms.callbridge.directories.directory.Directory>} over several.

    @param mechanisms: What is offered, whichever directory a user is in.
    @param decoy: Makes keys for unknown users.
    """

    def __init__(
        self,
        clock: IReactorTime,
        sources: Sequence[Source],
        mechanisms: tuple[str, ...],
        decoy: Callable[[str, str], StoredKeys],
    ) -> None:
        self._clock = clock
        self.sources = tuple(sources)
        self.mechanisms = mechanisms
        self._decoy = decoy

    async def owner(self, name: str) -> Source | None:
        """
        Whose a name is.

        @return: C{None}: nobody's that is stored.
        @raise DirectoryError: that cannot be told.
        """
        for source in self.sources:
            if await source.holds(name):
                return source
        return None

    async def has_beside(self, name: str) -> bool:
        """
        Whether a directory other than the local store has this user.

        @raise DirectoryError: that cannot be told.
        """
        now = datetime.now(UTC)
        for source in self.sources:
            if source.asks and await source.over(name, now) != "deleted":
                return True
        return False

    async def _ask(self, name: str, ask: Callable[[Source], Awaitable[_T | None]]) -> _T | None:
        owner = await self.owner(name)
        if owner is not None:
            return await ask(owner)
        problem: DirectoryError | None = None
        for source in self.sources:
            if source.asks:
                try:
                    answer = await ask(source)
                except DirectoryError as error:
                    problem = problem or error
                    continue
                if answer is not None:
                    return answer
        if problem is not None:
            raise problem
        return None

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """See L{Directory.keys}."""
        return Deferred.fromCoroutine(self._ask(name, lambda source: source.keys(name, mechanism)))

    def verify(self, name: str, password: str) -> Deferred[bool | None]:
        """See L{Directory.verify}."""
        return Deferred.fromCoroutine(self._verify(name, password))

    async def _verify(self, name: str, password: str) -> bool | None:
        began = self._clock.seconds()
        right, locked = None, None
        try:
            right = await self._ask(name, lambda source: source.verify(name, password))
        except AccountLocked as problem:
            locked = problem
        if not right:
            # A wrong password takes as long in each directory, and for a name in none.
            usual = max((source.usual_wait for source in self.sources), default=0.0)
            left = began + usual - self._clock.seconds()
            if left > 0:
                await deferLater(self._clock, left)
        if locked is not None:
            raise locked
        return right

    def decoy(self, name: str, mechanism: str) -> StoredKeys:
        """See L{Directory.decoy}."""
        return self._decoy(name, mechanism)

    def holds(self, name: str) -> Deferred[bool]:
        """See L{Directory.holds}."""
        return Deferred.fromCoroutine(self._holds(name))

    async def _holds(self, name: str) -> bool:
        return await self.owner(name) is not None

    def over(self, name: str, since: datetime) -> Deferred[str | None]:
        """See L{Directory.over}."""
        return Deferred.fromCoroutine(self._over(name, since))

    async def _over(self, name: str, since: datetime) -> str | None:
        owner = await self.owner(name)
        if owner is not None:
            return await owner.over(name, since)
        for source in self.sources:
            if source.asks and await source.over(name, since) is None:
                return None
        return "deleted"

    def person(self, name: str) -> Deferred[Person | None]:
        """See L{Directory.person}: who is not stored here is not asked for."""
        return Deferred.fromCoroutine(self._person(name))

    async def _person(self, name: str) -> Person | None:
        owner = await self.owner(name)
        return None if owner is None else await owner.person(name)

    def close(self) -> None:
        """See L{Directory.close}."""
        for source in self.sources:
            source.close()
