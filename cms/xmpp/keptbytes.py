"""
How much is kept for the sessions without a connection: in all, and for each account.

It is counted as it grows, because it is asked for at every stanza for such a session.
docs/design/stream-management.md says who ends when it is too much, and why.
"""

from __future__ import annotations

import heapq
import sys
from typing import Generic, TypeVar

from attrs import define, field

MOST = 256 * 1024 * 1024  # bytes of all sessions together
MOST_OF_ONE = 4 * 1024 * 1024  # of one account: twice what one session usually may have
UNLIMITED = sys.maxsize
SPARE = 8  # when it is too much, an eighth of it is freed, so that this is seldom

_S = TypeVar("_S")


@define
class _Account(Generic[_S]):
    """Its sessions, the one that is away for longest first, and the bytes of each."""

    sizes: dict[_S, int] = field(factory=dict)
    size: int = 0


class KeptBytes(Generic[_S]):
    """
    The bytes that are kept for sessions, by account.

    @param most: Of all together.
    @param most_of_one: Of each account.
    @ivar size: How many there are.
    """

    def __init__(self, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self.most = most
        self.most_of_one = most_of_one
        self.size = 0
        self._accounts: dict[str, _Account[_S]] = {}
        self._crowded: set[str] = set()  # accounts that came with too much

    def add(self, account: str, session: _S, size: int) -> None:
        """So much is kept for a session from now on."""
        self._accounts.setdefault(account, _Account()).sizes[session] = 0
        self.grow(account, session, size)
        if self._accounts[account].size > self.most_of_one:
            self._crowded.add(account)

    def has_room(self, account: str, size: int) -> bool:
        """Whether an account may have so much more."""
        known = self._accounts.get(account)
        return (0 if known is None else known.size) + size <= self.most_of_one

    def grow(self, account: str, session: _S, size: int) -> None:
        """So much more is kept for a session, or less."""
        known = self._accounts[account]
        known.sizes[session] += size
        known.size += size
        self.size += size

    def remove(self, account: str, session: _S) -> None:
        """Nothing is kept for a session any more."""
        known = self._accounts[account]
        size = known.sizes.pop(session)
        known.size -= size
        self.size -= size
        if not known.sizes:
            del self._accounts[account]

    @property
    def is_too_much(self) -> bool:
        """Whether L{surplus} has sessions that must end."""
        return self.size > self.most or bool(self._crowded)

    def surplus(self) -> list[_S]:
        """
        The sessions that must end, so that there is room again; they stay until L{remove}.

        These are of each account that has too much those that keep most, and if all have too
        much, again and again the one that keeps most of the account that has most.
        """
        ending: list[_S] = []
        left = {
            name: dict(self._accounts[name].sizes) for name in self._crowded & {*self._accounts}
        }
        self._crowded.clear()
        size = self.size
        sizes = {name: account.size for name, account in self._accounts.items()}

        def end(name: str) -> None:
            nonlocal size
            sessions = left.setdefault(name, dict(self._accounts[name].sizes))
            longest = max(sessions, key=sessions.__getitem__)
            gone = sessions.pop(longest)
            sizes[name] -= gone
            size -= gone
            ending.append(longest)

        for name in list(left):
            while sizes[name] > self.most_of_one:
                end(name)
        if size > self.most:
            heap = [(-of_one, name) for name, of_one in sizes.items()]
            heapq.heapify(heap)
            while size > self.most - self.most // SPARE:
                name = heap[0][1]
                end(name)
                heapq.heapreplace(heap, (-sizes[name], name))
        return ending
