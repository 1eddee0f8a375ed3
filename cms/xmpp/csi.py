"""
Client State Indication (XEP-0352): presence waits while a client says that nobody looks.

Of each sender the newest is kept.  Whatever else comes for the client, it is behind the
presence that came before it, so nothing is overtaken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime

from cms.xmlstream.backlog import Item, as_bytes
from cms.xmlstream.flow import Party, SendLimits
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


class PatientParty(Party):
    """A party that need not hear of presence while its client is inactive."""

    def __init__(self, clock: IReactorTime, limits: SendLimits) -> None:
        super().__init__(clock, limits)
        self._held: HeldPresence | None = None  # while it is

    @property
    def is_away(self) -> bool:
        """It has no connection now, and may be resumed."""
        return self.is_open and self.carrier is None

    @property
    def kept_bytes(self) -> int:
        """See L{Party}; with the presence that is held back."""
        return super().kept_bytes + (0 if self._held is None else self._held.size)

    def forget_held(self) -> None:
        """Nothing is held back any more."""
        if self._held is not None:
            self._held = None
            del self.deliver, self.queue

    def indicate(self, inactive: bool) -> None:
        """The client says whether nobody looks at it."""
        if inactive and self._held is None:
            self._held = HeldPresence()
            # not asked for each stanza: only who is inactive pays for it
            self.deliver = self._deliver_inactive  # type: ignore[method-assign]
            self.queue = self._queue_inactive  # type: ignore[method-assign]
        elif not inactive and self._held is not None:
            self._let_out(self._held)
            self.forget_held()

    def _let_out(self, held: HeldPresence) -> None:
        self.keeps(-held.size)
        for raw, source in held.take():
            super().queue(raw, source)
        if not self._paused:
            self.drain()

    def _deliver_inactive(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        return [raw for raw in raws if not self._queue_inactive(raw, source)]

    def _queue_inactive(self, item: Item, source: object) -> bool:
        held, raw = self._held, as_bytes(item)
        if held is None:
            return super().queue(item, source)
        if is_presence(raw):
            before = held.size
            has_room = held.hold(raw, source)
            if self.is_away:
                self.keeps(held.size - before)
            if not has_room:
                self._let_out(held)
            return True
        self._let_out(held)
        waits = super().queue(item, source)
        if not self._paused:
            self.drain()
        return waits
