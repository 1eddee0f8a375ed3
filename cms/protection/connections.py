"""
Who may stay connected to a listener, and who makes room.

A I{stranger} has a place until he is trusted (logged in, registered, admitted) or his time
is over.  Strangers have a part of the places only, and of that part nobody is refused: who
comes when it is taken has the place of the stranger who has been there longest, of those of
the most crowded network.  So a network pushes out itself, and who comes alone goes last.
Whoever is trusted stays; docs/design/connections.md says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import define, field, frozen

from cms.process.logs import Logger
from cms.protection.sources import LOCAL, network_of

MOST_API_CONNECTIONS = 200  # unless the configuration says otherwise
SELDOM = 60.0  # seconds between two lines about the same listener


@frozen(kw_only=True)
class Limits:
    """
    Of one listener.

    @ivar most: Connections at a time.
    @ivar per_address: Of those, from one address (a /64 of IPv6) that is not this host's.
    @ivar strangers: Of those, not yet trusted.
    @ivar strangers_per_address: Of these, from one address that is not this host's.
    @ivar reserve: Places of C{most} that only this host gets.
    """

    most: int
    per_address: int
    strangers: int
    strangers_per_address: int
    reserve: int

    @classmethod
    def of(cls, most: int, per_address: int | None = None, strangers: int | None = None) -> Limits:
        """
        What follows from the number of places.

        @param per_address: Left out: a tenth of them.
        @param strangers: From one address; left out: a hundredth, at least 20.
        """
        few = max(1, most // 4)
        return cls(
            most=most,
            per_address=min(most, per_address or max(1, most // 10)),
            strangers=max(1, most // 2),
            strangers_per_address=min(strangers or max(20, most // 100), few),
            reserve=min(16, most // 4),
        )


def _gone() -> None:
    """There is nothing left to end, and nothing that holds it."""


@define(eq=False)
class Guest:
    """
    One connection.

    @ivar network: Where it comes from, as L{network_of} has it.
    @ivar drop: Ends it at once.
    """

    _places: Places
    network: str
    drop: Callable[[], object] = _gone
    trusted: bool = False
    here: bool = True
    makes_room: bool = True  # it is among the strangers

    def trust(self) -> None:
        """It belongs here: nobody pushes it out any more."""
        if self.here:
            self.shelter(True)
            self.trusted = True

    def shelter(self, waits: bool) -> None:
        """
        A stranger who waits for something of ours, such as a Callbridge, makes room for
        nobody meanwhile: all who come back after a restart wait, many from one address.

        @param waits: Whether it does so from now on.
        """
        if self.here and not self.trusted and waits == self.makes_room:
            self.makes_room = not waits
            if waits:
                self._places.forget_stranger(self)
            else:
                self._places.remember_stranger(self)

    def leave(self) -> None:
        """It is gone; harmless when it was told before."""
        if self.here:
            self.here = False
            self._places.left(self)
            self.drop = _gone


@define(eq=False)
class Places:
    """
    The places of one listener.

    @ivar kind: Its key in the configuration, for the log.
    @ivar refused: How many were turned away, because all places were taken.
    @ivar dropped: How many strangers made room for others.
    """

    limits: Limits
    clock: Callable[[], float]
    kind: str = ""
    refused: int = 0
    dropped: int = 0
    taken: int = 0
    log: Logger = field(factory=Logger)
    _networks: Counter[str] = field(factory=Counter)
    # The strangers of each network, the oldest first; networks by how many they have.
    _strangers: dict[str, dict[Guest, None]] = field(factory=dict)
    _by_size: dict[int, dict[str, None]] = field(factory=dict)
    _count: int = 0
    _largest: int = 0
    _told: float | None = None
    _untold: int = 0

    def admit(self, host: str) -> Guest | None:
        """
        Somebody has connected.

        @param host: His address, or C{"local"}.
        @return: C{None} when there is no place for him.
        """
        network, limits = network_of(host), self.limits
        local = network == LOCAL
        open_to_him = limits.most if local else limits.most - limits.reserve
        if not local and self._is_crowded(network):
            self._make_room(network)
        elif self._count >= limits.strangers or self.taken >= open_to_him:
            self._make_room()
        full = not local and self._networks[network] >= limits.per_address
        if full or self.taken >= open_to_him:
            self.refused += 1
            self._tell("refused", host)
            return None
        guest = Guest(self, network)
        self.taken += 1
        self._networks[network] += 1
        self._resize(network, +1, guest)
        return guest

    def _is_crowded(self, network: str) -> bool:
        strangers = len(self._strangers.get(network, ()))
        full = self._networks[network] >= self.limits.per_address and strangers > 0
        return full or strangers >= self.limits.strangers_per_address

    def left(self, guest: Guest) -> None:
        """From the guest."""
        self.taken -= 1
        self._networks[guest.network] -= 1
        if not self._networks[guest.network]:
            del self._networks[guest.network]
        if guest.makes_room:
            self.forget_stranger(guest)

    def forget_stranger(self, guest: Guest) -> None:
        """From the guest: he is one no more."""
        self._resize(guest.network, -1, guest)

    def remember_stranger(self, guest: Guest) -> None:
        """From the guest: he is one again, the newest."""
        self._resize(guest.network, +1, guest)

    def _make_room(self, network: str = "") -> None:
        """The oldest stranger of a network goes; left out: of the most crowded one."""
        if not self._count:
            return
        network = network or next(iter(self._by_size[self._largest]))
        guest = next(iter(self._strangers[network]))
        self.dropped += 1
        self._tell("dropped to make room", network)
        drop = guest.drop
        guest.leave()
        drop()

    def _resize(self, network: str, by: int, guest: Guest) -> None:
        strangers = self._strangers.setdefault(network, {})
        before = len(strangers)
        if by > 0:
            strangers[guest] = None
        else:
            del strangers[guest]
        now = len(strangers)
        self._count += by
        if before:
            self._by_size[before].pop(network)
            if not self._by_size[before]:
                del self._by_size[before]
        if now:
            self._by_size.setdefault(now, {})[network] = None
        else:
            del self._strangers[network]
        # By one at a time: the next smaller is where this network is now, or none is left.
        if now > self._largest or (before == self._largest and before not in self._by_size):
            self._largest = now

    def _tell(self, what: str, host: str) -> None:
        """One line now and then: who floods us must not flood the log."""
        self._untold += 1
        now = self.clock()
        if self._told is not None and now - self._told < SELDOM:
            return
        self.log.warn(
            "{kind}: {count} connections {what}, the last of {host}: {taken} of {most} places"
            " are taken, {strangers} by strangers",
            kind=self.kind,
            count=self._untold,
            what=what,
            host=host,
            taken=self.taken,
            most=self.limits.most,
            strangers=self._count,
        )
        self._told, self._untold = now, 0
