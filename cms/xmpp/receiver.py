"""The interface that the router delivers to: a link or a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cms.xmlstream.backlog import Item
from cms.xmlstream.stanza import Stanza


class Receiver(Protocol):
    """
    A link or a session, as the router sees it.

    @ivar is_slow: Whether stanzas wait because it does not read.
    """

    @property
    def is_slow(self) -> bool: ...

    def send(self, stanza: Stanza) -> None:
        """Send a stanza of the server's own, before those of others."""
        ...

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """
        Deliver the bytes of stanzas, together.

        @param source: The party that they come from; each source has its own lane.
        @return: Those for which there is no room.
        """
        ...

    def queue(self, item: Item, source: object) -> bool:
        """Put a stanza into the backlog until L{drain} is called; returns whether there is room."""
        ...

    def drain(self, most: int | None = None) -> int:
        """Send up to C{most} bytes of the backlog, if the peer reads; returns how many."""
        ...
