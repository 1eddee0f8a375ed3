"""
How many connections a listener accepts, and which it closes when it is full.

A connection is unauthenticated until L{Admitted.trust} is called: its peer has logged in,
registered, or shown a password.  Unauthenticated connections may use only a part of the
limit.  When this part is full, a new connection is not refused.  It replaces the oldest
unauthenticated connection of the network that has most of them.  So a network that opens
many connections loses its own first.  A trusted connection is never replaced, unless it is a
guest's: guests have a part of the limit, and when that is full, the newest guest of the
network that has most of them goes.
docs/design/connections.md has the reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import define, field, frozen

from cms.process.logs import Logger
from cms.protection.sources import LOCAL, network_of
from cms.signalflow import counted

MOST_API_CONNECTIONS = 200  # unless the configuration says otherwise
SELDOM = 60.0  # seconds between two lines about the same listener


@frozen(kw_only=True)
class Limits:
    """
    The limits of one listener.

    @ivar most: Connections at a time.
    @ivar per_address: Of those, from one address (a /64 of IPv6) that is not this host's.
    @ivar unauthenticated: Of C{most}, unauthenticated ones.
    @ivar unauthenticated_per_address: Of these, from one address that is not this host's.
    @ivar guests: Of C{most}, those of guests.
    @ivar reserve: ConnectionLimiter of C{most} that only this host gets.
    """

    most: int
    per_address: int
    unauthenticated: int
    unauthenticated_per_address: int
    guests: int
    reserve: int

    @classmethod
    def of(cls, most: int, per_address: int | None = None, strangers: int | None = None) -> Limits:
        """
        The limits that follow from the number of connections.

        @param per_address: By default a tenth of C{most}.
        @param strangers: Unauthenticated ones from one address; by default a hundredth of
            C{most}, at least 20.
        """
        few = max(1, most // 4)
        return cls(
            most=most,
            per_address=min(most, per_address or max(1, most // 10)),
            unauthenticated=max(1, most // 2),
            unauthenticated_per_address=min(strangers or max(20, most // 100), few),
            guests=max(1, most // 2),
            reserve=min(16, most // 4),
        )


def _gone() -> None:
    """Stands for C{drop} when the connection is gone, and keeps no reference to it."""


@define(eq=False)
class Admitted:
    """
    One connection that was admitted.

    @ivar network: Its network, see L{network_of}.
    @ivar drop: Closes it at once.
    @ivar here: Whether it is open.
    @ivar replaceable: Whether a newer connection may replace it.
    @ivar guest: Whether it is a guest's.
    """

    _limiter: ConnectionLimiter
    network: str
    drop: Callable[[], object] = _gone
    trusted: bool = False
    guest: bool = False
    here: bool = True
    replaceable: bool = True

    @property
    def kind(self) -> str:
        """The key of its listener in the configuration."""
        return self._limiter.kind

    def trust(self, *, guest: bool = False) -> bool:
        """
        Its peer is authenticated: from now on no other connection replaces it.

        @param guest: Anybody can be one, so only other guests are replaced by it.
        @return: Whether there is a place for it; if not, it should be closed.
        """
        if self.here:
            self.set_waiting(True)
            self.trusted = True
            if guest and not self.guest:
                self.guest = self._limiter.add_guest(self)
                return self.guest
        return True

    def set_waiting(self, waits: bool) -> None:
        """
        An unauthenticated connection that waits for something of ours, such as a Callbridge,
        is not replaced while it waits.  After a restart many wait, many from one address.

        @param waits: Whether it waits from now on.
        """
        if self.here and not self.trusted and waits == self.replaceable:
            self.replaceable = not waits
            if waits:
                self._limiter.remove_unauthenticated(self)
            else:
                self._limiter.add_unauthenticated(self)

    def leave(self) -> None:
        """It is closed.  Calling this twice does no harm."""
        if self.here:
            self.here = False
            self._limiter.left(self)
            self.drop = _gone


@define(eq=False)
class _Crowds:
    """
    Connections by network, and which network has most of them.

    @ivar count: How many there are.
    """

    count: int = 0
    # The connections of each network, the oldest first; networks by their number.
    _networks: dict[str, dict[Admitted, None]] = field(factory=dict)
    _by_size: dict[int, dict[str, None]] = field(factory=dict)
    _largest: int = 0

    def of(self, network: str) -> int:
        """How many a network has."""
        return len(self._networks.get(network, ()))

    @property
    def most_crowded(self) -> str:
        """The network that has most; there must be one."""
        return next(iter(self._by_size[self._largest]))

    def oldest(self, network: str) -> Admitted:
        """Of a network that has some."""
        return next(iter(self._networks[network]))

    def newest(self, network: str) -> Admitted:
        """Likewise."""
        return next(reversed(self._networks[network]))

    def add(self, connection: Admitted) -> None:
        """One more, the newest of its network."""
        self._networks.setdefault(connection.network, {})[connection] = None
        self._resized(connection.network, +1)

    def remove(self, connection: Admitted) -> None:
        """One less."""
        del self._networks[connection.network][connection]
        self._resized(connection.network, -1)

    def _resized(self, network: str, by: int) -> None:
        now = len(self._networks[network])
        before = now - by
        self.count += by
        if before:
            self._by_size[before].pop(network)
            if not self._by_size[before]:
                del self._by_size[before]
        if now:
            self._by_size.setdefault(now, {})[network] = None
        else:
            del self._networks[network]
        # By one at a time: the next smaller is where this network is now, or none is left.
        if now > self._largest or (before == self._largest and before not in self._by_size):
            self._largest = now


@define(eq=False)
class ConnectionLimiter:
    """
    Admits the connections of one listener.

    @ivar kind: The listener's key in the configuration, for the log.
    @ivar refused: How many connections were refused, because the listener was full.
    @ivar dropped: How many unauthenticated ones were closed for newer ones.
    @ivar taken: How many are open.
    @ivar is_shut: Whether it admits none, for a while; nobody is told of each.
    """

    limits: Limits
    clock: Callable[[], float]
    kind: str = ""
    refused: int = 0
    dropped: int = 0
    taken: int = 0
    is_shut: bool = False
    log: Logger = field(factory=Logger)
    _networks: Counter[str] = field(factory=Counter)
    _replaceable: _Crowds = field(factory=_Crowds)
    _guests: _Crowds = field(factory=_Crowds)
    _told: float | None = None
    _untold: int = 0

    def admit(self, host: str) -> Admitted | None:
        """
        A peer has connected.

        @param host: Its address, or C{"local"}.
        @return: C{None} if the connection must be closed.
        """
        if self.is_shut:
            return None
        network, limits = network_of(host), self.limits
        local = network == LOCAL
        most = limits.most if local else limits.most - limits.reserve
        if not local and self._is_crowded(network):
            self._make_room(network)
        elif self._replaceable.count >= limits.unauthenticated or self.taken >= most:
            self._make_room()
        full = not local and self._networks[network] >= limits.per_address
        if full or self.taken >= most:
            self.refused += 1
            self._tell("refused", host)
            return None
        connection = Admitted(self, network)
        self.taken += 1
        self._networks[network] += 1
        self._replaceable.add(connection)
        return connection

    def _is_crowded(self, network: str) -> bool:
        replaceable = self._replaceable.of(network)
        full = self._networks[network] >= self.limits.per_address and replaceable > 0
        return full or replaceable >= self.limits.unauthenticated_per_address

    def left(self, connection: Admitted) -> None:
        """A connection is closed; called by it."""
        self.taken -= 1
        self._networks[connection.network] -= 1
        if not self._networks[connection.network]:
            del self._networks[connection.network]
        if connection.replaceable:
            self.remove_unauthenticated(connection)
        if connection.guest:
            self._guests.remove(connection)

    def remove_unauthenticated(self, connection: Admitted) -> None:
        """A connection cannot be replaced any more; called by it."""
        self._replaceable.remove(connection)

    def add_unauthenticated(self, connection: Admitted) -> None:
        """A connection can be replaced again, as the newest; called by it."""
        self._replaceable.add(connection)

    def add_guest(self, connection: Admitted) -> bool:
        """A connection is a guest's; called by it.  Whether there is a place for it."""
        guests = self._guests
        guests.add(connection)
        if guests.count > self.limits.guests:
            other = guests.newest(guests.most_crowded)
            if other is connection:
                guests.remove(connection)
                self.refused += 1
                self._tell("of guests refused", connection.network)
                return False
            self._replace(other)
        return True

    def _make_room(self, network: str = "") -> None:
        """Close the oldest replaceable connection of a network, by default the most crowded."""
        crowds = self._replaceable
        if crowds.count:
            self._replace(crowds.oldest(network or crowds.most_crowded))

    def _replace(self, connection: Admitted) -> None:
        self.dropped += 1
        self._tell("dropped to make room", connection.network)
        drop = connection.drop
        connection.leave()
        drop()

    def _tell(self, what: str, host: str) -> None:
        """Log at most one line in L{SELDOM}: a flood of connections must not flood the log."""
        self._untold += 1
        now = self.clock()
        if self._told is not None and now - self._told < SELDOM:
            return
        self.log.warn(
            "{kind}: {connections} {what}, the last of {host}: {taken} of {most} are"
            " open, {unauthenticated} of them not authenticated",
            kind=self.kind,
            connections=counted(self._untold, "connection"),
            what=what,
            host=host,
            taken=self.taken,
            most=self.limits.most,
            unauthenticated=self._replaceable.count,
        )
        self._told, self._untold = now, 0
