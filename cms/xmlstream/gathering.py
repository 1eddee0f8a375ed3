"""
Joins small writes: they are sent at the end of a read, or of a turn of the reactor.

L{Gathering} is the way out of one connection.  Everything sent passes here and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

GATHERED_BYTES = 65_536  # more than this is sent without waiting
PLAINLY: Final = b"".join


class Writable(Protocol):
    """A transport, or TLS over it."""

    def write(self, data: bytes) -> object:
        """Send bytes."""


class Gathering:
    """
    The way out of one connection.

    @ivar to: The transport; C{None} while there is no connection: then nothing is sent.
    @ivar pieces: The writes to be joined; C{None} if writes are sent at once.  Code that
        sets it to a list must call L{end} or L{flush}.
    @ivar bytes_sent: What was written for the peer; TLS is not counted.
    @ivar stanzas_sent: Stanzas among them, or waiting; the caller of L{write} counts them.
    """

    __slots__ = ("_size", "_turn", "bytes_sent", "pieces", "stanzas_sent", "to")

    def __init__(self) -> None:
        self.to: Writable | None = None
        self.bytes_sent = self.stanzas_sent = 0
        self.pieces: list[bytes] | None = None
        self._size = 0
        self._turn: IDelayedCall | None = None

    join: Callable[[Iterable[bytes]], bytes] = staticmethod(PLAINLY)
    """Elements as they leave: one after the other, or each in a frame."""

    def write(self, data: bytes) -> None:
        """Send bytes, at once unless something is being gathered."""
        self.bytes_sent += len(data)
        if self.pieces is None:
            if self.to is not None:
                self.to.write(data)
            return
        self.pieces.append(data)
        self._size += len(data)
        if self._size >= GATHERED_BYTES:  # only what was written can make the peer slow
            self.flush()

    put = write
    """Send one element."""

    def end(self) -> None:
        """Send the joined writes."""
        if self.pieces or self._turn is not None:
            self.flush()
        else:
            self.pieces = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Join what is written meanwhile, up to L{GATHERED_BYTES}."""
        if self.pieces is not None:
            yield  # it is joined with more
            return
        self.pieces = []
        try:
            yield
        finally:
            self.end()

    def for_this_turn(self, clock: IReactorTime) -> None:
        """Gather until the turn of the reactor ends."""
        self.pieces = []
        self._turn = clock.callLater(0, self.flush)

    def flush(self) -> None:
        """Send the joined writes now, and send later ones at once."""
        gathered, self.pieces, self._size = self.pieces, None, 0
        if self._turn is not None:
            turn, self._turn = self._turn, None
            if turn.active():
                turn.cancel()
        if gathered and self.to is not None:
            self.to.write(b"".join(gathered))
