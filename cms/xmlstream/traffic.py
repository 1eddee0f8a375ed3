"""Bytes and stanzas of streams, including those that have ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from attrs import define


class Counted(Protocol):
    """What a stream counts: L{XMLStream<cms.xmlstream.stream.XMLStream>}."""

    bytes_received: int
    stanzas_received: int

    @property
    def bytes_sent(self) -> int: ...

    @property
    def stanzas_sent(self) -> int: ...


@define
class Traffic:
    """
    Sums of what streams have counted.

    Each stream counts for itself, once a read or a write.  These sums are made when a
    stream ends, and when they are asked for.
    """

    bytes_received: int = 0
    bytes_sent: int = 0
    stanzas_received: int = 0
    stanzas_sent: int = 0

    def add(self, stream: Counted) -> None:
        """Add what one stream has carried."""
        self.bytes_received += stream.bytes_received
        self.bytes_sent += stream.bytes_sent
        self.stanzas_received += stream.stanzas_received
        self.stanzas_sent += stream.stanzas_sent

    def with_live(self, streams: Iterable[Counted]) -> Traffic:
        """These sums plus the counts of open streams until now."""
        received, sent = self.bytes_received, self.bytes_sent
        heard, said = self.stanzas_received, self.stanzas_sent
        for stream in streams:  # there may be many, and the reactor waits
            received += stream.bytes_received
            sent += stream.bytes_sent
            heard += stream.stanzas_received
            said += stream.stanzas_sent
        return Traffic(received, sent, heard, said)
