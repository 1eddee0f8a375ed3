"""What the router delivers to, wherever it is."""

from __future__ import annotations

from typing import Protocol

from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import XMLStream


class Receiver(Protocol):
    """
    A link or a session, as the router sees it.

    @ivar is_slow: It does not keep up: whoever writes to it should L{hold}.
    @ivar is_full: Nothing more can be queued for it.
    """

    @property
    def is_slow(self) -> bool: ...

    @property
    def is_full(self) -> bool: ...

    def send(self, stanza: Stanza) -> None:
        """Deliver a stanza."""
        ...

    def send_raw(self, raws: list[bytes]) -> None:
        """Deliver the bytes of stanzas, together."""
        ...

    def hold(self, source: XMLStream) -> None:
        """Read nothing more from C{source} until this one has caught up."""
        ...
