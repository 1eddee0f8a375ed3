"""
Passwords that were found right a moment ago, so that PLAIN need not stretch them anew.

A recorder that logs in for each meeting, or everybody after a network cut, would
else cost one PBKDF2 each.  What is kept is a digest under a key that only this
process knows, of the password and of the stored key that it matched: it is of no
use elsewhere, and of none at all once the password is changed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from random import Random, SystemRandom

from twisted.internet.interfaces import IReactorTime

from cms.callbridge.passwords.scram import StoredKeys

MOST_REMEMBERED = 10_000
_KEY_BYTES = 32


class Verified:
    """
    What is remembered.

    @param seconds: For how long; 0: nothing is.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, *, random: Random | None = None
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._key = (random or SystemRandom()).randbytes(_KEY_BYTES)
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def remember(self, name: str, password: str, keys: StoredKeys) -> None:
        """This password was found to be that of C{name}."""
        if self._seconds:
            now = self._clock.seconds()
            self._known.pop(name, None)
            self._known[name] = (self._digest(password, keys), now + self._seconds)
            while len(self._known) > MOST_REMEMBERED or self._oldest <= now:
                self._known.popitem(last=False)

    @property
    def _oldest(self) -> float:
        return next(iter(self._known.values()))[1]

    def holds(self, name: str, password: str, keys: StoredKeys) -> bool:
        """Whether it was, not long ago, and the stored key is still the same."""
        if name not in self._known:
            return False
        digest, until = self._known[name]
        if until <= self._clock.seconds():
            del self._known[name]
            return False
        return hmac.compare_digest(digest, self._digest(password, keys))

    def _digest(self, password: str, keys: StoredKeys) -> bytes:
        mac = hashlib.blake2b(keys.stored_key, key=self._key)
        mac.update(password.encode())
        return mac.digest()
