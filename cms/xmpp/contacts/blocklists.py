"""
The addresses that users have blocked (XEP-0191), in memory: who has blocked nobody is not
asked about again.
"""

from __future__ import annotations

from collections.abc import Collection

from twisted.words.protocols.jabber.jid import JID


class Blocklists:
    """
    The lists of all users who have any.

    @param domain: The XMPP domain: whoever blocks it blocks its users, and not the server.
    @ivar users: The blocked addresses of each, by his bare address.
    """

    def __init__(self, domain: str) -> None:
        self._domain = domain
        self.users: dict[str, frozenset[str]] = {}

    def set(self, user: str, addresses: Collection[str]) -> None:
        """A user has another list."""
        if addresses:
            self.users[user] = frozenset(addresses)
        else:
            self.users.pop(user, None)

    def blocks(self, user: str, other: JID) -> bool:
        """Whether a user has blocked an address."""
        blocked = self.users.get(user)
        if blocked is None or other.userhost() in (user, self._domain):
            return False
        return matches(blocked, other.full())

    def part(self, one: JID, other: JID) -> bool:
        """Whether one of two has blocked the other."""
        return self.blocks(one.userhost(), other) or self.blocks(other.userhost(), one)


def matches(addresses: Collection[str], address: str) -> bool:
    """
    Whether an address is among these, by itself or by a part of it (XEP-0191 6).

    @param address: As it was prepared.
    """
    bare, slash, resource = address.partition("/")
    host = bare.rpartition("@")[2]
    return (
        bare in addresses
        or host in addresses
        or address in addresses
        or (bool(slash) and f"{host}/{resource}" in addresses)
    )
