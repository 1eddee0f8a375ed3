"""Occupant ids (XEP-0421): the same for an account in a space, whatever nickname it has."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

_BYTES = 18


class OccupantIds:
    """
    Makes them; nobody finds an address by one.

    @param key: Secret, and the same as long as the spaces are.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, space: str, account: str) -> str:
        """@param account: The bare address."""
        digest = hmac.digest(self._key, f"{space}\0{account}".encode(), "sha256")
        return urlsafe_b64encode(digest[:_BYTES]).decode()
