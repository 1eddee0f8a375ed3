"""
Guessing passwords: slowed, then refused for a while.

Failures are counted for an account from one address, for the account from
everywhere, and for the address.  The first has the small limit, so that one
guesser cannot lock a user out; the other two are wide, against guesses that
are spread over many addresses or many accounts.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from attrs import define, frozen
from twisted.internet.interfaces import IReactorTime

MAX_DELAY = 8.0  # seconds
FORGET_AFTER = 60.0  # seconds without a failure
TRUST_FOR = 86_400.0  # seconds in which an account's own address is known


class TooManyGuesses(Exception):
    """
    This log-in is not even looked at; the text may be shown to the user.

    @ivar seconds: For how long; 0.0 when it is only too much at the same time.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"too many failed log-ins, refused for {max(1, round(seconds))} s"
            if seconds
            else "too many log-ins of this account at once, try again"
        )
        self.seconds = seconds


@frozen
class Limit:
    """
    @ivar free: So many failures cost no wait.
    @ivar refused_after: So many within L{FORGET_AFTER} of each other end in refusal.
    """

    free: int
    refused_after: int


PAIR = Limit(free=2, refused_after=10)
ACCOUNT = Limit(free=20, refused_after=100)
ADDRESS = Limit(free=50, refused_after=200)


@define
class _Record:
    failures: int
    last: float


class _Failures:
    """A bounded table of failures; the one that failed longest ago is forgotten first."""

    def __init__(self, clock: IReactorTime, limit: Limit, most: int) -> None:
        self._clock = clock
        self._limit = limit
        self._most = most
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def add(self, key: str) -> float:
        """@return: How long the answer should wait, in seconds."""
        record = self._current(key) or _Record(0, 0.0)
        record.failures += 1
        record.last = self._clock.seconds()
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > self._most:
            self._records.popitem(last=False)
        excess = record.failures - self._limit.free
        return 0.0 if excess <= 0 else min(MAX_DELAY, 2.0 ** min(excess - 2, 10))

    def forget(self, key: str) -> None:
        self._records.pop(key, None)

    def refused_for(self, key: str, under_way: int = 0) -> float:
        """
        @param under_way: Guesses whose outcome is open; they count as failures,
            or many at the same time would go past the limit.
        @return: Seconds; 0.0 when the key is heard.
        """
        record = self._current(key)
        failures = record.failures if record else 0
        if failures + under_way < self._limit.refused_after:
            return 0.0
        last = record.last if record else self._clock.seconds()
        return last + FORGET_AFTER - self._clock.seconds()

    def _current(self, key: str) -> _Record | None:
        record = self._records.get(key)
        if record is not None and record.last + FORGET_AFTER <= self._clock.seconds():
            del self._records[key]
            return None
        return record


class Guesses:
    """
    Keeps the counts.

    @param most: Bounds each of its tables.
    """

    def __init__(self, clock: IReactorTime, *, most: int = 10_000) -> None:
        self._clock = clock
        self._most = most
        self._pairs = _Failures(clock, PAIR, most)
        self._accounts = _Failures(clock, ACCOUNT, most)
        self._addresses = _Failures(clock, ADDRESS, most)
        self._open: Counter[str] = Counter()
        self._known: OrderedDict[str, float] = OrderedDict()

    def begin(self, account: str, peer: str) -> Guess:
        """
        A client claims to be C{account}.

        @param peer: Its IP address.
        @raise TooManyGuesses: it is not heard now.
        """
        address = _network(peer)
        pair = f"{account} {address or peer}"
        self._hear(account, address, pair)
        return Guess(self, account, address, pair)

    def open(self, account: str, address: str | None, pair: str) -> None:
        """
        A password is about to be looked at; for L{Guess} only.

        @raise TooManyGuesses: it is not.
        """
        self._hear(account, address, pair)
        if self._pairs.refused_for(pair, self._open[pair]) > 0:
            raise TooManyGuesses(0.0)
        self._open[pair] += 1

    def _hear(self, account: str, address: str | None, pair: str) -> None:
        refused = [self._pairs.refused_for(pair)]
        if self._known.get(pair, -TRUST_FOR) + TRUST_FOR <= self._clock.seconds():
            # what others do does not lock a user out of the usual place
            refused.append(self._accounts.refused_for(account))
        if address is not None:
            refused.append(self._addresses.refused_for(address))
        if max(refused) > 0:
            raise TooManyGuesses(max(refused))

    def close(self, pair: str) -> None:
        """The outcome of a guess is known; for L{Guess} only."""
        self._open[pair] -= 1
        if self._open[pair] <= 0:
            del self._open[pair]

    def count(self, account: str, address: str | None, pair: str) -> float:
        """A guess was wrong; for L{Guess} only."""
        delays = [self._pairs.add(pair), self._accounts.add(account)]
        if address is not None:
            delays.append(self._addresses.add(address))
        return max(delays)

    def trust(self, pair: str) -> None:
        """A guess was right; for L{Guess} only."""
        self._pairs.forget(pair)
        self._known[pair] = self._clock.seconds()
        self._known.move_to_end(pair)
        if len(self._known) > self._most:
            self._known.popitem(last=False)


@define
class Guess:
    """
    One log-in, from the claim of a name to its outcome: L{weigh} it before the
    password is looked at, then call one of the other methods, once.

    Until it is weighed it counts for nothing: whoever only claims to be alice,
    again and again, does not keep alice out.
    """

    _guesses: Guesses
    _account: str
    _address: str | None
    _pair: str
    _open: bool = False

    def weigh(self) -> None:
        """
        The password is about to be looked at.

        @raise TooManyGuesses: it must not be.
        """
        self._guesses.open(self._account, self._address, self._pair)
        self._open = True

    def failed(self) -> float:
        """
        It was wrong.

        @return: How long the answer should wait, in seconds.
        """
        self.abandoned()
        return self._guesses.count(self._account, self._address, self._pair)

    def succeeded(self) -> None:
        """It was right."""
        self.abandoned()
        self._guesses.trust(self._pair)

    def abandoned(self) -> None:
        """It had no outcome; harmless after one of the others."""
        if self._open:
            self._open = False
            self._guesses.close(self._pair)


@lru_cache(maxsize=4_096)
def _network(peer: str) -> str | None:
    """
    What counts as one address: an IPv4 address, or the /64 that a single host
    has in IPv6.  C{None} where many clients share it by design: the loopback
    address of a proxy, or what is no address.
    """
    try:
        address = ip_address(peer)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return _network(str(address.ipv4_mapped))
        if not address.is_loopback:
            return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return None if address.is_loopback else str(address)
