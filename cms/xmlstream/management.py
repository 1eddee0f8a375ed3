"""
Stream management (XEP-0198 1.6) without I/O: what was sent and not acknowledged, and
how many stanzas were handled.

A client's session has one L{Ledger} (docs/design/stream-management.md).  It outlives the
connection: what a peer did not acknowledge is sent again when the peer resumes, and answered
for when it does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from cms.xmlstream import ns
from cms.xmlstream.backlog import Item, as_bytes, size_of

REQUEST = f"<r xmlns='{ns.MANAGEMENT}'/>".encode()
MODULUS = 2**32  # XEP-0198 4: the counters wrap
WINDOW_STANZAS = 4_000  # sent and not acknowledged; what comes then waits
WINDOW_BYTES = 1_048_576
ASK_STANZAS = 250  # after so many an acknowledgement is asked for
ASK_BYTES = 131_072
ASK_SECONDS = 1.0  # and so long after the first stanza that was not asked for
MOST_AWAY = 2_000  # stanzas that wait for a client while it has no connection


class AcknowledgedTooManyError(Exception):
    """
    The peer acknowledges stanzas that were never sent (XEP-0198 5).

    @ivar acknowledged: C{h}, as it says.
    @ivar sent: How many were sent, as a counter that wraps.
    """

    def __init__(self, acknowledged: int, sent: int) -> None:
        super().__init__(f"{acknowledged} of {sent}")
        self.acknowledged = acknowledged
        self.sent = sent


class Ledger:
    """
    The counters of both directions, and the stanzas that were not acknowledged yet.

    @ivar handled: How many of the peer's stanzas were handled; wraps at 2^32.
    @ivar unacknowledged: How many stanzas the peer has not acknowledged.
    @ivar size: Their bytes.
    """

    __slots__ = (
        "_acknowledged",
        "_batches",
        "_bytes_asked",
        "_skipped",
        "_stanzas_asked",
        "handled",
        "size",
        "unacknowledged",
    )

    def __init__(self) -> None:
        self.handled = self.unacknowledged = self.size = 0
        self._acknowledged = 0
        # Stanzas that left together are one entry: that costs less than one for each.
        self._batches: deque[tuple[Sequence[Item], int]] = deque()
        self._skipped = 0  # stanzas of the first entry that are acknowledged
        self._stanzas_asked = self._bytes_asked = 0  # sent since the last request

    @classmethod
    def continued(cls, handled: int, acknowledged: int, stanzas: Sequence[bytes]) -> Ledger:
        """
        The ledger of a stream that goes on elsewhere.

        @param acknowledged: How many were, as a counter that wraps.
        @param stanzas: What was sent after those.
        """
        ledger = cls()
        ledger.handled, ledger._acknowledged = handled % MODULUS, acknowledged % MODULUS
        if stanzas:
            ledger.keep(tuple(stanzas), sum(map(len, stanzas)))
        return ledger

    @property
    def acknowledged(self) -> int:
        """How many the peer has acknowledged, as a counter that wraps."""
        return self._acknowledged

    @property
    def sent(self) -> int:
        """How many stanzas were sent, as a counter that wraps."""
        return (self._acknowledged + self.unacknowledged) % MODULUS

    @property
    def is_full(self) -> bool:
        """So much is not acknowledged that nothing more should be sent."""
        return self.unacknowledged >= WINDOW_STANZAS or self.size >= WINDOW_BYTES

    def count_handled(self, stanzas: int) -> None:
        """Note that so many stanzas of the peer were handled."""
        self.handled = (self.handled + stanzas) % MODULUS

    def keep(self, stanzas: Sequence[Item], size: int) -> bool:
        """
        Keep stanzas that leave now, in their order.

        @param size: Their bytes.
        @return: Whether it is time to ask for an acknowledgement.
        """
        self._batches.append((stanzas, size))
        self.unacknowledged += len(stanzas)
        self.size += size
        self._stanzas_asked += len(stanzas)
        self._bytes_asked += size
        return self._stanzas_asked >= ASK_STANZAS or self._bytes_asked >= ASK_BYTES

    @property
    def is_unasked(self) -> bool:
        """Something was sent since the last request."""
        return bool(self._stanzas_asked) and bool(self.unacknowledged)

    def asked(self) -> None:
        """Note that an acknowledgement was asked for."""
        self._stanzas_asked = self._bytes_asked = 0

    def acknowledge(self, handled: int) -> None:
        """
        Forget what the peer has handled.

        @param handled: C{h}, its counter.
        @raise AcknowledgedTooManyError: so many were never sent; nothing changes.
        """
        new = (handled - self._acknowledged) % MODULUS
        if new > self.unacknowledged:
            raise AcknowledgedTooManyError(handled, self.sent)
        self._acknowledged = handled
        self.unacknowledged -= new
        while new:
            stanzas, size = self._batches[0]
            left = len(stanzas) - self._skipped
            if new < left:
                gone = sum(map(size_of, stanzas[self._skipped : self._skipped + new]))
                self._batches[0] = stanzas, size - gone
                self._skipped += new
                self.size -= gone
                return
            self._batches.popleft()
            self._skipped = 0
            self.size -= size
            new -= left

    def waiting(self) -> Iterator[bytes]:
        """What the peer has not acknowledged, in its order; it stays."""
        skipped = self._skipped
        for stanzas, _ in self._batches:
            for stanza in stanzas[skipped:]:
                yield as_bytes(stanza)
            skipped = 0
