"""Which rooms each session is in, and what is known of sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class Sessions(Protocol):
    """What is known of the sessions that this Callbridge decided."""

    def began(self, jid: str) -> str | None:
        """When a session began, as its notice has it; C{None}: there is none of ours."""
        ...

    def peer(self, jid: str) -> str | None:
        """Its IP address, likewise."""
        ...


class Places:
    """
    The rooms of each full address.

    @ivar total: How many are in rooms, one who is in two of them counted twice.
    """

    def __init__(self) -> None:
        self.total = 0
        self._where: dict[str, set[str]] = {}

    def __contains__(self, jid: object) -> bool:
        return jid in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._where))

    def of(self, jid: str) -> Sequence[str]:
        """The rooms that a session is in, by their local parts."""
        return tuple(self._where.get(jid, ()))

    def enter(self, jid: str, uri: str) -> None:
        """A session is in one more room."""
        self._where.setdefault(jid, set()).add(uri)
        self.total += 1

    def leave(self, jid: str, uri: str) -> None:
        """It is in it no more; calling this twice does no harm."""
        places = self._where.get(jid)
        if places is not None and uri in places:
            self.total -= 1
            places.discard(uri)
            if not places:
                del self._where[jid]

    def clear(self) -> None:
        """Nobody is anywhere."""
        self._where.clear()
        self.total = 0
