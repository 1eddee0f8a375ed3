"""Where users are looked up: a small interface, and the local store behind it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Protocol

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool

from cms.callbridge.saslprep import SASLPrepError
from cms.callbridge.scram import DEFAULT_ITERATIONS, HASHES, SALT_BYTES, StoredKeys, derive
from cms.callbridge.store import UserStore, find_keys


class DirectoryBusy(Exception):
    """Too many passwords wait to be checked."""


class Directory(Protocol):
    """
    A user directory.  Its answers can be waited for and cancelled.

    @ivar mechanisms: The SASL mechanisms, without -PLUS, that it can decide:
        one that only verifies passwords (as LDAP does) has C{("PLAIN",)}.
    """

    mechanisms: tuple[str, ...]

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """
        The SCRAM keys of a user.

        @param name: The prepared local part.
        @return: Fires with C{None} for an unknown user; fails when the
            directory cannot answer.
        """
        ...

    def verify(self, name: str, password: str) -> Deferred[bool]:
        """
        Whether this is the user's password; takes the same time for a user
        that does not exist.
        """
        ...

    def decoy(self, name: str, mechanism: str) -> StoredKeys:
        """Keys that nobody can prove, always the same for the same unknown name."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


class LocalDirectory:
    """
    The local store.

    SCRAM needs one look-up.  PLAIN needs one PBKDF2, which runs in the
    reactor's thread pool, C{at_once} at the same time; beyond C{most_waiting}
    the rest is refused rather than queued.
    """

    mechanisms = (*reversed(HASHES), "PLAIN")

    def __init__(
        self, store: UserStore, reactor: Any, *, at_once: int = 2, most_waiting: int = 200
    ) -> None:
        self._reactor = reactor
        self._decoy_key = store.decoy_key()
        self._semaphore = DeferredSemaphore(at_once)
        self._most_waiting = most_waiting
        self._pool = ConnectionPool(
            "sqlite3",
            str(store.path),
            cp_min=1,
            cp_max=2,
            cp_reactor=reactor,
            cp_noisy=False,
            check_same_thread=False,
            timeout=5,
        )
        self._pool.start()

    def keys(self, name: str, mechanism: str) -> Deferred[StoredKeys | None]:
        """See L{Directory.keys}."""
        found: Deferred[StoredKeys | None] = self._pool.runInteraction(find_keys, name, mechanism)
        return found

    def verify(self, name: str, password: str) -> Deferred[bool]:
        """See L{Directory.verify}; fails with L{DirectoryBusy} as well."""
        return Deferred.fromCoroutine(self._verify(name, password))

    async def _verify(self, name: str, password: str) -> bool:
        if len(self._semaphore.waiting) >= self._most_waiting:
            raise DirectoryBusy
        mechanism = "SCRAM-SHA-256"
        keys = await self.keys(name, mechanism)
        against = keys or self.decoy(name, mechanism)

        def compute() -> bool:
            try:
                derived = derive(password, HASHES[mechanism], against.salt, against.iterations)
            except SASLPrepError:
                return False
            return hmac.compare_digest(derived.stored_key, against.stored_key)

        def in_thread() -> Deferred[bool]:
            return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), compute)

        right: bool = await self._semaphore.run(in_thread)
        return right and keys is not None

    def decoy(self, name: str, mechanism: str) -> StoredKeys:
        """See L{Directory.decoy}."""
        seed = hmac.digest(self._decoy_key, f"{mechanism} {name}".encode(), "sha512")
        size = hashlib.new(HASHES[mechanism]).digest_size
        return StoredKeys(seed[:SALT_BYTES], DEFAULT_ITERATIONS, seed[-size:], seed[-size:])

    def close(self) -> None:
        """Close the connections to the store."""
        self._pool.close()
