"""
What rooms have to send: a part in each turn of the reactor, each room in its turn.

A copy is written out when it leaves.  So a room of 500 into which 500 come at once holds
lists of addresses, not the 100 MB that leave; and when the server does not read,
nothing more is written.  What one room sends stays in order, for all its receivers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.callbridge.rooms.copies import Item

A_TURN = 131_072  # bytes that leave in a turn of the reactor
OF_ONE = 32_768  # of one room at a time
FULL = 262_144  # bytes that wait for the server, beyond which no more is given to it
AGAIN = 0.02  # seconds until it is looked at again


class Link(Protocol):
    """
    The stream that all goes out on.

    @ivar waiting_bytes: What waits for the server to read.
    """

    @property
    def waiting_bytes(self) -> int:
        """See above."""
        ...

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """See L{Party.deliver<cms.xmlstream.flow.Party.deliver>}."""
        ...


@define
class _Lane:
    """
    @ivar items: With what is called when all of it has left.
    @ivar current: Copies of the first that have not left.
    """

    items: deque[tuple[Item, Callable[[], object]]] = field(factory=deque)
    current: Iterator[bytes] | None = None
    size: int = 0


class Outbox:
    """
    Sends for all rooms.

    @ivar held: Bytes that what waits takes here.
    @ivar copies: How many have left.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._link: Link | None = None
        self._call: IDelayedCall | None = None
        self._left = A_TURN
        self._working = False
        self.held = 0
        self.copies = 0

    def use(self, link: Link | None) -> None:
        """Send over this link; C{None}: what waits, and what comes, waits for the next one."""
        self._link = link
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._left = A_TURN
        if link is not None:
            self._work()

    def clear(self) -> None:
        """Forget what waits."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._lanes.clear()
        self.held = 0

    def flush(self) -> None:
        """Give all that waits to the link at once, since there will be no other turn."""
        while self._lanes and self._link is not None:
            _, lane = self._lanes.popitem(last=False)
            while lane.items:
                raws, _ = self._take(lane, OF_ONE)
                self._link.deliver(raws, self)

    def waiting(self, room: str) -> int:
        """About as many bytes of a room are still to leave."""
        lane = self._lanes.get(room)
        return 0 if lane is None else lane.size

    def put(self, room: str, item: Item, left: Callable[[], object]) -> None:
        """
        Send something, now if there is time.

        @param left: Called when all of it has left.
        """
        lane = self._lanes.setdefault(room, _Lane())
        lane.items.append((item, left))
        lane.size += item.size
        self.held += item.held
        if self._call is None and not self._working:
            self._work()

    def _work(self) -> None:
        self._working = True
        try:
            self._send()
        finally:
            self._working = False

    def _send(self) -> None:
        link = self._link
        while link is not None and self._lanes and self._left > 0:
            if link.waiting_bytes > FULL:
                self._call = self._clock.callLater(AGAIN, self._next_turn)
                return
            room, lane = next(iter(self._lanes.items()))
            raws, done = self._take(lane, min(OF_ONE, self._left))
            self._left -= sum(map(len, raws))
            self.copies += len(raws)
            if lane.items:
                self._lanes.move_to_end(room)
            else:
                del self._lanes[room]
            link.deliver(raws, room)
            for left in done:
                left()
        if self._left < A_TURN and self._call is None and link is not None:
            self._call = self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._call = None
        self._left = A_TURN
        self._work()

    def _take(self, lane: _Lane, most: int) -> tuple[list[bytes], list[Callable[[], object]]]:
        """The next copies, and whom to tell that all of theirs have left."""
        raws: list[bytes] = []
        done: list[Callable[[], object]] = []
        while lane.items and most > 0:
            item, left = lane.items[0]
            if lane.current is None:
                lane.current = iter(item)
            for raw in lane.current:
                raws.append(raw)
                most -= len(raw)
                if most <= 0:
                    break
            else:
                lane.items.popleft()
                lane.current = None
                lane.size -= item.size
                self.held -= item.held
                done.append(left)
        return raws, done
