"""How much Twisted's connections read and keep at once, which they do not document."""

from __future__ import annotations

from typing import Any

from cms.fast.needs import Need, lacking

NEEDS = (Need("twisted.internet.abstract:FileDescriptor", "bufferSize"),)
_LOST = "a turn of the reactor reads and keeps as much of a peer as Twisted likes"
ABSENT = lacking("Twisted", NEEDS, _LOST)


def set_buffer(transport: Any, size: int) -> None:
    """
    Read no more of a peer in one turn, and let no more wait for it before its producer is
    paused; without what it needs, Twisted's own size stays.
    """
    if not ABSENT:
        transport.bufferSize = size
