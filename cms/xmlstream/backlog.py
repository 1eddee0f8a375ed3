"""
The queue for a peer that reads too slowly, with a lane for each source.

L{Backlog} is the queue of one stream.  docs/design/flow-control.md has the reasons for its
order and its limits.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from typing import Generic, TypeVar

from twisted.words.protocols.jabber.jid import JID

QUANTUM = 16_384  # bytes of each source in its turn
GUARANTEED = 16_384  # bytes that each source may always have waiting

_T = TypeVar("_T")
Item = bytes | tuple[bytes, ...]
"""A whole stanza, perhaps in parts that other queues hold too."""


class _Lane(Generic[_T]):
    """What waits of one source, in its order."""

    __slots__ = ("items", "size")

    def __init__(self) -> None:
        self.items: deque[tuple[_T, int]] = deque()
        self.size = 0


class Lanes(Generic[_T]):
    """
    Items of many sources that wait; the sources are served in rotation.

    @param most: The size of all items together, besides what is guaranteed to each source;
        one source may have half of it.
    @ivar size: The size of all items now.
    """

    def __init__(self, most: int, *, guaranteed: int = GUARANTEED) -> None:
        self._most = most
        self._guaranteed = guaranteed
        self._lanes: OrderedDict[object, _Lane[_T]] = OrderedDict()
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def put(self, source: object, item: _T, size: int, more: int = 0) -> bool:
        """
        Let something wait for the turn of its source.

        @param more: So much more may wait.
        @return: Whether there is room for it.
        """
        lane = self._lanes.get(source)
        waiting = size + (lane.size if lane is not None else 0)
        if waiting > self._guaranteed and (
            self.size + size > self._most + more or waiting > self._most // 2 + more
        ):
            return False
        if lane is None:
            lane = self._lanes[source] = _Lane()
        lane.items.append((item, size))
        lane.size += size
        self.size += size
        return True

    def waiting(self, source: object) -> int:
        """The size of what waits of this source."""
        lane = self._lanes.get(source)
        return lane.size if lane is not None else 0

    def take(self, most: int, quantum: int = QUANTUM) -> tuple[list[_T], list[object]]:
        """
        What is next.

        @param most: Its size; the last may go beyond it.
        @param quantum: Of each source in its turn; the last may go beyond it.
        @return: The things, and the sources of which nothing waits any more.
        """
        taken: list[_T] = []
        emptied: list[object] = []
        left = most
        while self._lanes and left > 0:
            source, lane = next(iter(self._lanes.items()))
            turn = 0
            while lane.items and turn < quantum and turn < left:
                item, size = lane.items.popleft()
                taken.append(item)
                turn += size
            lane.size -= turn
            self.size -= turn
            left -= turn
            if lane.items:
                self._lanes.move_to_end(source)
            else:
                del self._lanes[source]
                emptied.append(source)
        return taken, emptied


class Backlog:
    """
    The queue of one stream: first this side's own stanzas, then the sources in rotation.

    @param most: See L{Lanes}; in bytes.
    @ivar first_size: How many bytes wait that go before those of the sources.
    """

    def __init__(self, most: int) -> None:
        self._first: list[bytes] = []
        self._lanes: Lanes[Item] = Lanes(most)
        self.first_size = 0

    def __bool__(self) -> bool:
        return bool(self._first or self._lanes)

    @property
    def size(self) -> int:
        """How many bytes the sources have."""
        return self._lanes.size

    def put_first(self, data: bytes) -> None:
        """Let something leave before all that the sources have."""
        self._first.append(data)
        self.first_size += len(data)

    def put(self, source: object, item: Item, more: int = 0) -> bool:
        """See L{Lanes.put}."""
        return self._lanes.put(source, item, size_of(item), more)

    def waiting(self, source: object) -> int:
        """See L{Lanes.waiting}."""
        return self._lanes.waiting(source)

    def take(self, most: int = sys.maxsize) -> tuple[list[bytes], list[Item], list[object]]:
        """
        What leaves next.

        @param most: Bytes; what goes first and one stanza may be more.
        @return: What this side says itself, the stanzas of the sources, and the sources of
            which nothing waits any more.
        """
        most -= self.first_size
        first = self.take_first()
        return first, *self._lanes.take(most)

    def take_first(self) -> list[bytes]:
        """What this side says itself."""
        first, self._first, self.first_size = self._first, [], 0
        return first


def sender_of(source: object) -> bytes:
    """The full address of a client, wherever it is connected; none for what many share."""
    if isinstance(source, tuple) and isinstance(source[1], bytes):
        return source[1]  # at another node
    jid = getattr(source, "jid", None)
    return jid.full().encode() if isinstance(jid, JID) else b""


def lane_of(source: object) -> object:
    """
    The lane of a source: a client keeps its own when it moves from node to node, or what it says
    at the second would overtake what it has said at the first.
    """
    return sender_of(source) or source


def as_bytes(item: Item) -> bytes:
    """A stanza in one piece."""
    return item if isinstance(item, bytes) else b"".join(item)


def size_of(item: Item) -> int:
    """Its bytes."""
    return len(item) if isinstance(item, bytes) else sum(map(len, item))
