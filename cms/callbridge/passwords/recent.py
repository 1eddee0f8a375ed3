"""
Passwords that were right a moment ago, for which PLAIN needs no PBKDF2 again
(docs/design/remembered-passwords.md).

A recorder logs in for each meeting, and after a network failure everybody does.  Each
log-in would cost one PBKDF2, or one question to another server.  What is kept is a keyed
digest of the password and of its state: the stored key that it matched, or what a directory
changes together with the password.  Only this process knows the digest's key.  When the
state changes, the digest does not match any more.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from random import Random, SystemRandom

from twisted.internet.interfaces import IReactorTime

MOST_REMEMBERED = 10_000
_KEY_BYTES = 32


class RecentPasswords:
    """
    The remembered passwords.

    @param seconds: How long one is remembered; 0 for not at all.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, *, random: Random | None = None
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._key = (random or SystemRandom()).randbytes(_KEY_BYTES)
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def remember(self, name: str, password: str, state: bytes) -> None:
        """Remember that this is the password of C{name}, as long as the state is the same."""
        if self._seconds:
            now = self._clock.seconds()
            self._known.pop(name, None)
            self._known[name] = (self._digest(password, state), now + self._seconds)
            while len(self._known) > MOST_REMEMBERED or self._oldest <= now:
                self._known.popitem(last=False)

    @property
    def _oldest(self) -> float:
        return next(iter(self._known.values()))[1]

    def holds(self, name: str, password: str, state: bytes) -> bool:
        """Whether this password is remembered for C{name} in this state."""
        if name not in self._known:
            return False
        digest, until = self._known[name]
        if until <= self._clock.seconds():
            del self._known[name]
            return False
        return hmac.compare_digest(digest, self._digest(password, state))

    def _digest(self, password: str, state: bytes) -> bytes:
        # Its length first: no other state and password are the same bytes.
        mac = hashlib.blake2b(len(state).to_bytes(8) + state, key=self._key)
        mac.update(password.encode())
        return mac.digest()
