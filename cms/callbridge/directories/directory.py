"""Looking up users: the interface of a directory, and the local one."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any, Protocol, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from cms.callbridge.config import LoginLimits
from cms.callbridge.directories.store import StoreError, UserStore, find_end, find_keys, find_shown
from cms.callbridge.passwords.recent import RecentPasswords
from cms.callbridge.passwords.saslprep import SASLPrepError
from cms.callbridge.passwords.scram import (
    DEFAULT_ITERATIONS,
    HASHES,
    SALT_BYTES,
    StoredKeys,
    derive,
)
from cms.linkprotocol.people import Person
from cms.process.logs import Logger
from cms.process.threads import SlowWork, TooMuchWork
from cms.signalflow import StepError
from cms.state.folder import has_room

_T = TypeVar("_T")
MOST_LOOKUPS = 1_000  # that wait for the store
PLAIN_KEYS = "SCRAM-SHA-256"  # the keys that PLAIN's password is checked against
OTHER_KEYS = "SCRAM-SHA-1"  # the same, of who was taken from another server with these alone


class DirectoryError(Exception):
    """
    The directory cannot answer.  The text is logged, so it holds no secret.

    @ivar fault: The entry of the catalogue, if there is one.
    """

    def __init__(self, text: str, fault: StepError | None = None) -> None:
        super().__init__(text)
        self.fault = fault


class DirectoryBusy(DirectoryError):
    """Too many look-ups wait already."""


class AccountLocked(Exception):
    """The directory looks at no password for now: too many were wrong."""


class AccountDisabled(Exception):
    """The password is right, and the account is disabled; the text says more, if there is any."""

    condition = "account-disabled"  # RFC 6120 6.5.1


class PasswordExpired(AccountDisabled):
    """The password is right, and has to be changed first."""

    condition = "credentials-expired"  # RFC 6120 6.5.3


class Directory(Protocol):
    """
    A user directory.  Its answers can be waited for and cancelled.

    @ivar mechanisms: The SASL mechanisms, without -PLUS, that it supports, the strongest
        first.  A directory that only verifies passwords, as LDAP does, has C{("PLAIN",)}.
        Its C{keys} is never called.
    """

    mechanisms: tuple[str, ...]

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """
        The SCRAM keys of a user.

        @param name: The prepared local part.
        @param mechanism: Without -PLUS.
        @return: Fires with C{None} for an unknown user; fails with
            L{DirectoryError}.
        """
        ...

    def verify(self, name: str, password: str) -> Deferred[bool | None]:
        """
        Whether this is the user's password.  Takes as long for an unknown user.

        @return: Fires with C{None} for an unknown user; fails with L{AccountDisabled},
            L{AccountLocked} and L{DirectoryError}.
        """
        ...

    def decoy(self, name: str, mechanism: str) -> StoredKeys:
        """Keys without a password, always the same for the same unknown name."""
        ...

    def holds(self, name: str) -> Deferred[bool]:
        """Whether a user is stored here, whoever else is away; may fail in any way."""
        ...

    def over(self, name: str, since: datetime) -> Deferred[str | None]:
        """
        Why a session of a user is over; asked for those that the server has when the link
        comes up.

        @param since: When it began, with its time zone.
        @return: Fires with C{None} if it goes on, or with a reason of
            L{End<cms.linkprotocol.ending.End>}; fails with L{DirectoryError}.
        """
        ...

    def person(self, name: str) -> Deferred[Person | None]:
        """
        Who somebody is, for people.

        @return: Fires with C{None} for a name that nobody has who is stored here; fails with
            L{DirectoryError}.
        """
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


class LocalDirectory:
    """
    The local store.

    SCRAM needs one look-up.  It takes some microseconds, a hundredth of the hand-over to
    another thread, so it runs in the reactor's thread.  Only if the store is locked does a
    thread wait for it.  PLAIN also needs one PBKDF2.  It runs in the reactor's thread pool,
    C{hashes_at_once} at the same time.  C{most_hashes_waiting} wait, the rest is refused.

    @param remember: Seconds for which a right password needs no PBKDF2 again.
    """

    log = Logger()
    name = "local"
    asks = False
    usual_wait = 0.0
    mechanisms: tuple[str, ...] = (*reversed(HASHES), "PLAIN")

    def __init__(
        self,
        store: UserStore,
        reactor: Any,
        *,
        limits: LoginLimits = LoginLimits(),  # noqa: B008 - it is frozen
        remember: float = 0.0,
    ) -> None:
        self._database = store.database
        self._store, self._reactor = store, reactor
        self._path = store.path
        self._decoy_key = store.decoy_key()
        self._work = SlowWork(
            reactor, at_once=limits.hashes_at_once, most_waiting=limits.most_hashes_waiting
        )
        self._verified = RecentPasswords(reactor, remember)
        self._lookups = 0
        self._connection: sqlite3.Connection | None = None
        self._pool = ConnectionPool(
            "sqlite3",
            str(store.path),
            cp_min=1,
            cp_max=2,
            cp_reactor=reactor,
            cp_noisy=False,
            check_same_thread=False,
            timeout=5,
        )  # its threads start when the reactor runs, after twistd has forked

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """See L{Directory.keys}; fails with L{DirectoryBusy} as well."""
        if self._database.lacking is not None:
            return self._keys_on_full_disk(name, mechanism)
        try:
            return succeed(find_keys(self._cursor(), name, mechanism))
        except sqlite3.OperationalError:
            if not has_room(self._path.parent):
                return self._keys_on_full_disk(name, mechanism)
            return Deferred.fromCoroutine(self._in_thread(find_keys, name, mechanism))
        except sqlite3.Error:
            return Deferred.fromCoroutine(self._in_thread(find_keys, name, mechanism))

    def _keys_on_full_disk(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """By another connection, which needs no room (L{cms.state.database.connect})."""
        self._close_connection()  # the other connection locks the file
        try:
            with closing(self._database.connect(timeout=0)) as connection:
                return succeed(find_keys(connection.cursor(), name, mechanism))
        except sqlite3.Error as problem:
            return fail(DirectoryError(f"the user store failed: {problem}"))

    def _cursor(self) -> sqlite3.Cursor:
        """A cursor that does not wait for locks.  It is opened late, after twistd has forked."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, timeout=0)
        return self._connection.cursor()

    async def _in_thread(self, find: Callable[..., _T], *what: object) -> _T:
        if self._lookups >= MOST_LOOKUPS:
            raise DirectoryBusy("too many look-ups wait for the user store")
        answer: Deferred[_T] = Deferred()

        def done(result: _T | Failure) -> None:
            # Cancelling the answer does not remove the look-up from the queue.
            self._lookups -= 1
            answer.callback(result)

        self._lookups += 1
        self._pool.runInteraction(find, *what).addBoth(done)
        try:
            return await answer
        except sqlite3.Error as problem:
            raise DirectoryError(f"the user store failed: {problem}") from None

    def holds(self, name: str) -> Deferred[bool]:
        """Whether there is this user; fails with L{DirectoryBusy} as well."""
        found = Deferred.fromCoroutine(self._keys_for_plain(name))
        return found.addCallback(lambda keys: keys[1] is not None)

    async def _keys_for_plain(self, name: str) -> tuple[str, StoredKeys | None]:
        keys = await self.keys(name, PLAIN_KEYS)
        others = None if keys else await self.keys(name, OTHER_KEYS)
        return (OTHER_KEYS, others) if others else (PLAIN_KEYS, keys)

    def verify(self, name: str, password: str) -> Deferred[bool | None]:
        """See L{Directory.verify}; fails with L{DirectoryBusy} as well."""
        return Deferred.fromCoroutine(self._verify(name, password))

    async def _verify(self, name: str, password: str) -> bool | None:
        mechanism, keys = await self._keys_for_plain(name)
        if keys is not None and self._verified.holds(name, password, keys.stored_key):
            return self._allowed(keys)
        against = keys or self.decoy(name, PLAIN_KEYS)

        def compute() -> bool:
            try:
                derived = derive(password, HASHES[mechanism], against.salt, against.iterations)
            except SASLPrepError:
                return False
            if not hmac.compare_digest(derived.stored_key, against.stored_key):
                return False
            if mechanism != PLAIN_KEYS:
                self._complete(name, password, against.stored_key)
            return True

        try:
            right = await self._work.run(compute)
        except TooMuchWork:
            raise DirectoryBusy("too many passwords wait to be checked") from None
        if keys is None:
            return None
        if not right:
            return False
        self._verified.remember(name, password, keys.stored_key)
        return self._allowed(keys)

    def _complete(self, name: str, password: str, stored_key: bytes) -> None:
        """In a thread.  The next log-in tries it again."""
        try:
            self._store.complete(name, password, stored_key)
        except StoreError as problem:
            text = "{name} has keys for {mechanism} alone still: {why}"
            facts = {"name": name, "mechanism": OTHER_KEYS, "why": str(problem)}
            self._reactor.callFromThread(self.log.warn, text, **facts)

    def _allowed(self, keys: StoredKeys) -> bool:
        if keys.disabled:
            raise AccountDisabled
        return True

    def decoy(self, name: str, mechanism: str) -> StoredKeys:
        """See L{Directory.decoy}; the salt looks like that of a user."""
        seed = hmac.digest(self._decoy_key, f"{mechanism} {name}".encode(), "sha512")
        size = hashlib.new(HASHES[mechanism]).digest_size
        return StoredKeys(seed[:SALT_BYTES], DEFAULT_ITERATIONS, seed[-size:], seed[-size:])

    def over(self, name: str, since: datetime) -> Deferred[str | None]:
        """See L{Directory.over}."""
        try:
            return succeed(find_end(self._cursor(), name, since))
        except sqlite3.Error:
            return Deferred.fromCoroutine(self._in_thread(find_end, name, since))

    def person(self, name: str) -> Deferred[Person | None]:
        """See L{Directory.person}."""
        try:
            return succeed(_person(find_shown(self._cursor(), name)))
        except sqlite3.Error:
            found = Deferred.fromCoroutine(self._in_thread(find_shown, name))
            return found.addCallback(_person)

    def close(self) -> None:
        """Close the connections to the store."""
        self._close_connection()
        self._pool.close()

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _person(shown: str | None) -> Person | None:
    return None if shown is None else Person(shown)
