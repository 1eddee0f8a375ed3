"""
Limits on wrong passwords and secrets.

Only a proof that was checked and found wrong counts.  docs/design/guessing.md gives the
reasons for the limits, and how many guesses a day they allow.

Each limit is a leaky bucket.  A wrong proof adds one, and time removes one after another.
While the bucket is full, log-ins are refused before their proof is checked.  An account
has a bucket for each address that it is tried from, and one for all of these addresses
together.  An address has one for all accounts.  An account that has logged in from an
address has a bucket of its own for it.  Attempts from other addresses, or at other
accounts, do not fill that bucket.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from hashlib import blake2b

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from cms.protection.sources import LOCAL, network_of

FREE = 2  # wrong proofs without a delay: people make typing errors
MAX_DELAY = 8.0  # seconds
KNOWN_FOR = 7 * 86_400.0  # seconds; so that it holds over a weekend
MOST_KNOWN = 8  # addresses at which one account is known
LOOK_AT = 8  # the oldest buckets, of which one is removed when there are too many


class TooManyGuesses(Exception):
    """
    The log-in is refused before its proof is checked.  The user may be shown the text.

    @ivar seconds: For how long; 0.0 if there are only too many attempts at the same time.
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
    @ivar burst: How many wrong proofs are checked in a row.
    @ivar every: Seconds after which one more is.
    """

    burst: int
    every: float


ACCOUNT_AT_ADDRESS = Limit(10, 300.0)  # one account from one address
KNOWN = Limit(100, 300.0)  # the same, where the account has logged in before
ACCOUNT = Limit(30, 300.0)  # one account from all addresses where it is not known
ADDRESS = Limit(200, 30.0)  # one address, for all accounts that are not known there


@frozen
class Limits:
    """
    Those of one kind of proof.

    @ivar pair: One account from one address.
    @ivar known: The same, where the account has logged in before.
    @ivar account: One account from all addresses where it is not known.
    @ivar address: One address, for all accounts that are not known there.
    """

    pair: Limit = ACCOUNT_AT_ADDRESS
    known: Limit = KNOWN
    account: Limit = ACCOUNT
    address: Limit = ADDRESS


@frozen
class Lock:
    """
    Proofs that are refused now.

    @ivar account: What may be shown of the account; empty: all from this address that are
        not known there.
    @ivar address: Empty: from wherever the account is not known.
    @ivar seconds: For how long, if nothing else is wrong.
    """

    account: str
    address: str
    seconds: float


class _Buckets:
    """
    A bounded table of buckets.  When it is full, the emptiest of the L{LOOK_AT} oldest is
    removed.  So nobody can reset an account's bucket by one guess at each of many others.
    """

    def __init__(self, clock: IReactorTime, limit: Limit, most: int) -> None:
        self._clock = clock
        self._limit = limit
        self._most = most
        self._levels: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def level(self, key: bytes) -> float:
        """How many wrong proofs are in the bucket."""
        held = self._levels.get(key)
        if held is None:
            return 0.0
        left = held[0] - (self._clock.seconds() - held[1]) / self._limit.every
        if left <= 0:
            del self._levels[key]
            return 0.0
        return left

    def refused_for(self, key: bytes) -> float:
        """Seconds until one more proof is checked."""
        over = self.level(key) + 1 - self._limit.burst
        return max(0.0, over * self._limit.every)

    def has_room(self, key: bytes, under_way: int) -> bool:
        """Whether one more may be checked, besides those that are not decided yet."""
        return self.level(key) + under_way + 1 <= self._limit.burst

    def add(self, key: bytes) -> float:
        """Add a wrong proof; returns the new level."""
        level = min(self.level(key), 2.0 * self._limit.burst) + 1
        self._levels[key] = level, self._clock.seconds()
        self._levels.move_to_end(key)
        if len(self._levels) > self._most:
            self._drop()
        return level

    def take_back(self, key: bytes) -> None:
        """One that was added was not wrong after all."""
        level = self.level(key) - 1
        if level > 0:
            self._levels[key] = level, self._clock.seconds()
        else:
            self._levels.pop(key, None)

    def used(self) -> list[bytes]:
        """The keys of all buckets."""
        return list(self._levels)

    def clear(self, key: bytes) -> None:
        """Empty a bucket."""
        self._levels.pop(key, None)

    def _drop(self) -> None:
        oldest = [self._levels.popitem(last=False) for _ in range(min(LOOK_AT, self._most))]
        now, every = self._clock.seconds(), self._limit.every
        lowest = min(oldest, key=lambda held: held[1][0] - (now - held[1][1]) / every)
        for held in oldest:
            if held is not lowest:
                self._levels[held[0]] = held[1]


class Guesses:
    """
    The counts of one daemon.

    @param most: Bounds each of its tables.
    @param together: Whether an account has a limit for all addresses together.  That is
        right for people's passwords.  A Callbridge must not have it: a few addresses
        could keep it out, and with it everybody's log-ins.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        most: int = 20_000,
        together: bool = True,
        limits: Limits = Limits(),
    ) -> None:
        self._clock = clock
        self._most = most
        self.together = together
        self.pairs = _Buckets(clock, limits.pair, most)
        self.known_pairs = _Buckets(clock, limits.known, most)
        self.accounts = _Buckets(clock, limits.account, most)
        self.addresses = _Buckets(clock, limits.address, most)
        self.under_way: Counter[bytes] = Counter()
        self._known: OrderedDict[bytes, OrderedDict[str, float]] = OrderedDict()
        self._labels: OrderedDict[bytes, tuple[str, str]] = OrderedDict()

    # who is locked out, for who runs the daemon

    def label(self, key: bytes, shown: str, address: str) -> None:
        """What is shown of a bucket; for L{Guess}."""
        self._labels[key] = shown, address
        self._labels.move_to_end(key)
        if len(self._labels) > 3 * self._most:
            self._labels.popitem(last=False)

    def shown(self, account: str) -> str:
        """What L{label} was told of an account; empty if nothing is known of it any more."""
        return self._labels.get(_key(account), _UNLABELLED)[0]

    def locks(self) -> list[Lock]:
        """What is refused now, the longest first."""
        found = []
        for buckets in (self.pairs, self.known_pairs, self.accounts, self.addresses):
            for key in buckets.used():
                seconds = buckets.refused_for(key)
                if seconds > 0:
                    shown, address = self._labels.get(key, _UNLABELLED)
                    found.append(Lock(shown, address, seconds))
        return sorted(found, key=lambda lock: -lock.seconds)

    def release(self, account: str = "", host: str = "") -> int:
        """
        Forget wrong proofs: of an account, from an address, of one from the other, or, with
        neither, all.

        @return: How many locks there were of these.
        """
        address = network_of(host) if host else ""
        released = 0
        for buckets in (self.pairs, self.known_pairs, self.accounts, self.addresses):
            for key in buckets.used():
                if self._concerns(key, account, address):
                    released += buckets.refused_for(key) > 0
                    buckets.clear(key)
        return released

    def _concerns(self, key: bytes, account: str, address: str) -> bool:
        """Whether a bucket is of this account and this address, as far as they are given."""
        if not account and not address:
            return True
        shown, at = self._labels.get(key, _UNLABELLED)
        if not account:
            return at == address
        parts = (account, at) if at else (account,)
        is_theirs = account == shown or key == _key(*parts)
        return is_theirs and (not address or at == address)

    def begin(self, account: str, host: str) -> Guess:
        """
        Somebody claims to be C{account}.

        @param host: Its IP address.
        @raise TooManyGuesses: it is refused now.
        """
        address = network_of(host)
        guess = Guess(self, _key(account), address, _key(account, address))
        guess.check()
        return guess

    def knows(self, account: bytes, address: str) -> bool:
        """Whether an account has logged in from an address; for L{Guess}."""
        since = self._known.get(account, _NOWHERE).get(address)
        return since is not None and since + KNOWN_FOR > self._clock.seconds()

    def trust(self, account: bytes, address: str) -> None:
        """An account has logged in from an address; for L{Guess}."""
        known = self._known.setdefault(account, OrderedDict())
        known[address] = self._clock.seconds()
        known.move_to_end(address)
        if len(known) > MOST_KNOWN:
            known.popitem(last=False)
        self._known.move_to_end(account)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def remember(self, account: str, host: str) -> None:
        """The XMPP server says that an account has logged in from an address."""
        self.trust(_key(account), network_of(host))


_NOWHERE: OrderedDict[str, float] = OrderedDict()
_UNLABELLED = ("", "")


@define
class Guess:
    """
    One log-in, from the claim of a name to its outcome: L{weigh} it before the
    proof is checked, then call one of the other methods, once.

    Until L{weigh} is called it counts for nothing.  So a peer that only claims to be
    alice, again and again, does not lock alice out.
    """

    _guesses: Guesses
    _account: bytes
    _address: str
    _pair: bytes
    _holds: tuple[bytes, ...] = field(default=(), init=False)
    _added: tuple[tuple[_Buckets, bytes], ...] = field(default=(), init=False)

    @property
    def _is_known(self) -> bool:
        return self._guesses.knows(self._account, self._address)

    def check(self) -> list[tuple[_Buckets, bytes]]:
        """
        @return: The buckets in which it counts now.
        @raise TooManyGuesses: it is refused now.
        """
        guesses, is_known = self._guesses, self._is_known
        limits = self._limits(is_known=is_known)
        wait = 0.0
        for buckets, key in limits:
            wait = max(wait, buckets.refused_for(key))
        if not is_known and self._address != LOCAL:
            wait = max(wait, guesses.addresses.refused_for(_key(self._address)))
        if wait > 0:
            raise TooManyGuesses(wait)
        return limits

    def _limits(self, *, is_known: bool) -> list[tuple[_Buckets, bytes]]:
        """The buckets in which it counts while it is checked, and for good if it is wrong."""
        guesses = self._guesses
        if is_known:
            return [(guesses.known_pairs, self._pair)]
        limits = [(guesses.pairs, self._pair), (guesses.accounts, self._account)]
        return limits if guesses.together else limits[:1]

    def weigh(self) -> None:
        """
        The proof is about to be checked.

        @raise TooManyGuesses: it must not be.
        """
        limits, open_ = self.check(), self._guesses.under_way
        for buckets, key in limits:
            if not buckets.has_room(key, open_[key]):
                raise TooManyGuesses(0.0)  # or many at the same time would pass the limit
        for _, key in limits:
            open_[key] += 1
            self._holds += (key,)

    def failed(self, *, everywhere: bool = True) -> float:
        """
        The proof was wrong.  Without L{weigh} before it, that counts for nothing.

        @param everywhere: Whether it counts for the account at all addresses, too.
        @return: How long to delay the answer, in seconds.
        """
        if not self._holds:
            return 0.0
        self.abandoned()
        is_known = self._is_known
        limits = self._limits(is_known=is_known)[: None if everywhere else 1]
        if not is_known and self._address != LOCAL:  # a proxy may be there
            limits.append((self._guesses.addresses, _key(self._address)))
        level, *_ = [buckets.add(key) for buckets, key in limits]
        self.name("")
        self._added = tuple(limits)
        excess = int(level + 0.5) - FREE
        return 0.0 if excess <= 0 else float(min(MAX_DELAY, 2.0 ** min(excess - 2, 10)))

    def name(self, shown: str) -> None:
        """
        A proof was wrong.

        @param shown: What may be shown of the account's name.
        """
        guesses, address = self._guesses, self._address
        guesses.label(_key(address), "", address)
        guesses.label(self._account, shown, "")
        guesses.label(self._pair, shown, address)

    def forgiven(self) -> None:
        """It was wrong here, and right elsewhere."""
        added, self._added = self._added, ()
        for buckets, key in added:
            buckets.take_back(key)

    def succeeded(self) -> None:
        """It was right."""
        self.abandoned()
        self._guesses.trust(self._account, self._address)

    def abandoned(self) -> None:
        """It was not decided.  Harmless after L{failed} or L{succeeded}."""
        holds, self._holds = self._holds, ()
        open_ = self._guesses.under_way
        for key in holds:
            open_[key] -= 1
            if open_[key] <= 0:
                del open_[key]


def _key(*parts: str) -> bytes:
    """A key of a fixed size, however long the names are."""
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
