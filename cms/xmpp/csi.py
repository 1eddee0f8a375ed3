"""
Client State Indication (XEP-0352): presence waits while a client says that nobody looks.

Of each sender the newest is kept.  Whatever else comes for the client, it is behind the
presence that came before it, so nothing is overtaken.
"""

from __future__ import annotations

from typing import Final

from cms.xmlstream.splicedstanza import of_bytes

NS: Final = "urn:xmpp:csi:0"
MOST_HELD = 200  # senders; of one more, all leaves
MOST_BYTES = 65_536  # together


def is_presence(raw: bytes) -> bool:
    """Whether it is presence that may wait: an error or a subscription may not."""
    return raw.startswith(b"<presence") and of_bytes(raw).type in (None, "unavailable")


class HeldPresence:
    """
    The newest presence of each sender, in the order in which those came.

    @ivar size: Its bytes.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[bytes, object]] = {}
        self.size = 0

    def hold(self, raw: bytes, source: object) -> bool:
        """
        Keep it.

        @return: Whether there is room for more.
        """
        sender = of_bytes(raw).sender or ""
        older = self._held.pop(sender, None)
        if older is not None:
            self.size -= len(older[0])
        self._held[sender] = raw, source
        self.size += len(raw)
        return len(self._held) < MOST_HELD and self.size < MOST_BYTES

    def take(self) -> list[tuple[bytes, object]]:
        """All of it, each with its source."""
        held = list(self._held.values())
        self._held.clear()
        self.size = 0
        return held
