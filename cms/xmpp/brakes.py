"""
Back-pressure over nodes: who writes to a client of another node that does not read is not read
himself, and nobody else is.

The receiver's node says so, and says it again as long as that is so: what it said holds for
L{HOLD_SECONDS}, whatever becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.cluster.peer import Peer
from cms.xmlstream.flow import NOWHERE, Distant, Party
from cms.xmlstream.gathering import Gathering
from cms.xmpp import nodemessages as messages

HOLD_SECONDS = 5.0  # without another word
REPEAT_SECONDS = 2.0


class Writer(Party):
    """
    Stands for a client of another node, some of whose stanzas wait here, so that it is held as
    a client of this one would be.  It is the carrier as well, for its node is told.
    """

    out: Gathering = NOWHERE

    def __init__(self, clock: IReactorTime, peer: Peer, name: str, writers: Writers) -> None:
        super().__init__(clock)
        self.is_open = True
        self.carrier = self
        self.name = name
        self._peer = peer
        self._writers = writers
        self._repeats: IDelayedCall | None = None

    def read_no_further(self) -> None:
        """See L{Carrier<cms.xmlstream.flow.Carrier>}."""
        if self._repeats is None:
            self._writers.found[self.name] = self
            self._repeat()

    def _repeat(self) -> None:
        self._repeats = self.clock.callLater(REPEAT_SECONDS, self._repeat)
        self._tell(True)

    def read_on(self) -> None:
        """See L{Carrier<cms.xmlstream.flow.Carrier>}."""
        if not self.held:
            self.forget()
            self._tell(False)

    def _tell(self, held: bool) -> None:
        if not self._peer.is_over:
            self._peer.party.write(messages.told(messages.HOLD, self.name, on=held))

    def too_slow(self) -> None:
        """Nothing is sent to it."""

    def forget(self) -> None:
        """Say nothing more."""
        if self._repeats is not None:
            self._repeats.cancel()
            self._repeats = None
        self._writers.found.pop(self.name, None)


class Writers:
    """
    The clients of one other node that are held for clients of this one.

    @param window: How much of that node may be on the way.
    @ivar found: By address.
    """

    def __init__(self, clock: IReactorTime, peer: Peer, window: int) -> None:
        self.found: dict[str, Writer] = {}
        self.window = window
        self._clock = clock
        self._peer = peer

    def get(self, name: str) -> Writer:
        """The one with this address; it is found again if it is held."""
        return self.found.get(name) or Writer(self._clock, self._peer, name, self)

    def told(self) -> Iterator[bytes]:
        """What a node is told that has forgotten it."""
        for name in list(self.found):
            yield messages.told(messages.HOLD, name, on=True)

    def stop(self) -> None:
        """The node is there no more."""
        for writer in list(self.found.values()):
            writer.forget()


class Lane(tuple[Writers, bytes], Distant):
    """
    Where the stanzas of one client of another node wait, or of all components there, which are
    as one link.
    """

    __slots__ = ()

    @property
    def room(self) -> int:
        """See L{Distant<cms.xmlstream.flow.Distant>}; nobody holds a component."""
        writers, name = self
        return writers.window if name else 0

    def held(self) -> Party | None:
        """See L{Distant<cms.xmlstream.flow.Distant>}."""
        writers, name = self
        return writers.get(name.decode()) if name else None


class Brake(Party):
    """Stands for all receivers of another node, and holds the clients of this one that it names."""

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock)
        self._until: dict[Party, IDelayedCall] = {}

    def hold(self, client: Party) -> None:
        """Read it no further, for so long."""
        if not client.is_open or (client.ledger is not None and client.ledger.is_full):
            return
        known = self._until.pop(client, None)
        if known is not None:
            known.cancel()
        self._until[client] = self.clock.callLater(HOLD_SECONDS, self.release, client)
        self.stop_reading(client, client)

    def release(self, client: Party) -> None:
        """Read it on."""
        known = self._until.pop(client, None)
        if known is not None and known.active():
            known.cancel()
        self._release(client)

    def release_all(self) -> None:
        """Nobody of the other node says anything now."""
        for client in list(self._until):
            self.release(client)
