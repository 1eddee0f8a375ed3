"""What one other node is told of this one: all that there is, and then each change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.cluster.peer import Peer
from cms.xmpp.remotelink import LATE_SECONDS

KNOWN_SECONDS = 1.0  # at most, that a client waits to be told that its session has begun
ORDER_SECONDS = 3.0  # the same, so that a session that moves keeps the order of what is said
A_TURN = 100  # messages that tell all, in one turn of the reactor
MOST_ENDS = 1_000  # that a node has not heard of
READY_SECONDS = 0.2  # after which is looked whether a node can be told all


class Telling:
    """
    Tells one node.

    While much waits for it, changes are left out, and it is told all again afterwards: a client
    that changes its presence all the time must not fill what waits.

    @param everything: Makes the messages that tell all.
    @ivar knows: Whether it is told of changes, since it is told all.
    """

    def __init__(
        self, clock: IReactorTime, peer: Peer, everything: Callable[[], Iterator[bytes]]
    ) -> None:
        self.knows = False
        self._clock = clock
        self._peer = peer
        self._everything = everything
        self._rest: Iterator[bytes] | None = None
        self._ends: list[bytes] = []
        self._timer: IDelayedCall | None = None

    def begin(self) -> None:
        """It knows nothing, or too little: tell it all as soon as it can be told."""
        self.knows, self._rest = False, None
        if self._timer is None:
            self._timer = self._clock.callLater(0, self._go_on)

    def tell(self, message: bytes) -> None:
        """Something has changed."""
        if not self.knows:
            return
        if self._peer.party.is_full:
            self.begin()
        else:
            self._peer.party.write(message)

    def tell_later(self, message: bytes) -> None:
        """The same, if nobody waits for it: it leaves with what is said next."""
        if self.knows and not self._peer.party.is_slow:
            self._peer.write_later(message)
        else:
            self.tell(message)

    def insist(self, end: bytes) -> None:
        """A session has to end: this is told even if the node knows nothing, or never got it."""
        self._ends.append(end)
        del self._ends[:-MOST_ENDS]
        if self._timer is None:
            self._go_on()

    def stop(self) -> None:
        """It is there no more."""
        self.knows = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        """Tell of ends, and a part of the rest, and no more than it takes."""
        self._timer = None
        if not self._peer.is_ready:
            self._timer = self._clock.callLater(READY_SECONDS, self._go_on)
            return
        ends, self._ends = self._ends, []
        for end in ends:
            self._peer.party.write(end)
        if self._rest is None:
            if self.knows:
                return
            self.knows, self._rest = True, self._everything()
        for number, message in enumerate(self._rest, 1):
            self._peer.party.write(message)
            if number >= A_TURN:
                self._timer = self._clock.callLater(0, self._go_on)
                return
        self._rest = None


def when_known(
    clock: IReactorTime, peers: Iterable[Peer], seconds: float = KNOWN_SECONDS
) -> Deferred[None]:
    """
    Fires when all nodes that can be told now have read what they were told until now, or after
    so many seconds.  One that has read nothing for that time, or L{LATE_SECONDS}, is not waited
    for.
    """
    able = [peer for peer in peers if peer.is_ready and (peer.kept_bytes or peer.out.pieces)]
    waiting = [peer.known() for peer in able if peer.behind < max(seconds, LATE_SECONDS)]
    if not waiting:
        return succeed(None)
    known: Deferred[None] = Deferred()
    timer = clock.callLater(seconds, known.callback, None)

    def all_know(_: object) -> None:
        if timer.active():
            timer.cancel()
            known.callback(None)

    DeferredList(waiting).addCallback(all_know)
    return known
