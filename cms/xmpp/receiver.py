"""What the router delivers to, wherever it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cms.xmlstream.backlog import Item
from cms.xmlstream.stanza import Stanza


class Receiver(Protocol):
    """
    A link or a session, as the router sees it.

    @ivar is_slow: Something waits for it to read.
    """

    @property
    def is_slow(self) -> bool: ...

    def send(self, stanza: Stanza) -> None:
        """Send a word of the server's own, before those of others."""
        ...

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """
        Deliver the bytes of stanzas, together.

        @param source: Whose they are: each has a share of what may wait, and a turn.
        @return: Those for which there is no room.
        """
        ...

    def queue(self, item: Item, source: object) -> bool:
        """Let a stanza wait until L{drain} is called; whether there is room for it."""
        ...

    def drain(self, most: int | None = None) -> int:
        """Send so many bytes of what waits, if the peer reads; how many it were."""
        ...
