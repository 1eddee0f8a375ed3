"""
The guests that were admitted to a space: their one-use passwords, and what brings them back.

A guest who was admitted has an address of his own, a pass to log in with it once, and a
token that brings him back as the same occupant.  A pass lives for a minute, in memory.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterable
from random import Random

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.callbridge.passwords.scram import StoredKeys
from cms.callbridge.spaces.model import Way

PASS_SECONDS = 60  # that a password can be used
SECRET_BYTES = 16
# How long a guest is known.  He may come back for an hour after he was last here, but not
# after a day: who comes to another meeting joins anew.
COMES_BACK = 3_600.0
MOST_SECONDS = 86_400.0
SWEEP = 10.0  # between two looks at whose time is over
MOST = 20_000  # as many as the rooms take in all
MOST_OF_SPACE = 2_000  # twice those that a room takes
RETURNS, RETURN_EVERY = 10, 5.0  # how often a guest may come back in a row; seconds, one more
MOST_NEW_OF_ADDRESS = 100  # of one address, that have not logged in yet


@define(eq=False)
class Visitor:
    """
    A guest that was admitted.

    @ivar name: The local part of his address.
    @ivar space: The id of the space.
    @ivar way: By which he came: the id of a space's own way in, or of an access method.
    @ivar key: The passcode or the secret that let him in; while it is the same he may come back.
    @ivar by_link: It is the secret.
    @ivar called: The name that he gave himself.
    @ivar nick: His nickname: that, with a number if others have it.
    @ivar network: That of his address.
    @ivar began: When he was admitted.
    @ivar last: When he was last seen.
    @ivar sessions: His full addresses that are logged in.
    @ivar returned: How often he came back lately, a leaky bucket as of C{issued}.
    """

    name: str
    space: str
    way: str
    key: str = field(repr=False)
    by_link: bool
    called: str
    network: str
    began: float
    last: float
    nick: str = ""
    was_here: bool = False
    sessions: set[str] = field(factory=set)
    keys: StoredKeys | None = field(default=None, repr=False)
    password: bytes = field(default=b"", repr=False)  # its digest: 128 random bits need no rounds
    issued: float = 0.0
    returned: float = 0.0
    tokens: tuple[bytes, ...] = field(default=(), repr=False)

    def may_come_by(self, way: Way | None) -> bool:
        """
        Whether what let him in would still do so.

        @param way: As it is now; C{None}: it is gone.
        """
        if way is None or way.space.id != self.space or not way.space.non_member_access:
            return False
        key = way.secret if self.by_link else way.passcode
        return hmac.compare_digest(key.encode(), self.key.encode())


class TooManyVisitors(Exception):
    """
    There is no room for another guest now.

    @ivar of_address: Only this address has too many who have not logged in yet.
    """

    def __init__(self, *, of_address: bool) -> None:
        super().__init__("too many guests")
        self.of_address = of_address


class Visitors:
    """
    All guests that this Callbridge has admitted, a bounded number.

    @param random: For names, passwords and tokens; it must not be guessable.
    """

    def __init__(self, clock: IReactorTime, random: Random, *, most: int = MOST) -> None:
        self._clock = clock
        self._random = random
        self._most = most
        self._known: dict[str, Visitor] = {}
        self._by_token: dict[bytes, Visitor] = {}
        self._of_space: dict[str, dict[str, Visitor]] = {}
        self._new: Counter[str] = Counter()  # of an address, that have not logged in
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._known)

    def find(self, name: str) -> Visitor | None:
        """The guest of this name, if he is known here."""
        visitor = self._known.get(name)
        if visitor is not None and self._is_over(visitor):
            self.end(visitor)
            return None
        return visitor

    def of_space(self, space: str) -> Iterable[Visitor]:
        """Those of one space."""
        return list(self._of_space.get(space, {}).values())

    # coming in

    def check_room(self, space: str, network: str, *, limited: bool) -> None:
        """
        @param limited: Whether an address has a limit.
        @raise TooManyVisitors: another one cannot be admitted now.
        """
        if limited and self._new.get(network, 0) >= MOST_NEW_OF_ADDRESS:
            raise TooManyVisitors(of_address=True)
        if len(self._known) >= self._most or len(self._of_space.get(space, ())) >= MOST_OF_SPACE:
            raise TooManyVisitors(of_address=False)

    def admit(self, way: Way, called: str, network: str, *, by_link: bool) -> Visitor:
        """A new guest."""
        space, key = way.space.id, way.secret if by_link else way.passcode
        now = self._clock.seconds()
        while (name := f"guest-{self._random.getrandbits(64):016x}") in self._known:
            pass
        visitor = Visitor(name, space, way.id, key, by_link, called, network, now, now)
        self._known[name] = self._of_space.setdefault(space, {}).setdefault(name, visitor)
        self._new[network] += 1
        if self._timer is None:
            self._timer = self._clock.callLater(SWEEP, self._sweep)
        return visitor

    def new_secret(self) -> str:
        """128 bits, for a password or a token."""
        raw = self._random.randbytes(SECRET_BYTES)
        return urlsafe_b64encode(raw).decode().rstrip("=")

    def give(self, visitor: Visitor, password: str, keys: StoredKeys, used: str = "") -> str:
        """
        A guest gets a pass.

        @param keys: Of his password.
        @param used: The token with which he came back.
        @return: The token that brings him back.  The one that he came with is good until he
            has logged in: this answer may never reach him.
        """
        now = self._clock.seconds()
        visitor.keys, visitor.issued, visitor.last = keys, now, now
        visitor.password = _digest(password)
        token = self.new_secret()
        kept = (_digest(used),) if used else ()
        self._set_tokens(visitor, (_digest(token), *kept))
        return token

    def by_token(self, token: str) -> Visitor | None:
        """Whom a token brings back."""
        visitor = self._by_token.get(_digest(token))
        return None if visitor is None else self.find(visitor.name)

    def may_return(self, visitor: Visitor) -> float:
        """
        A guest comes back.  Each time costs a computation, so nobody does it without end.

        @return: Seconds that he has to wait; 0.0: it counts.
        """
        now = self._clock.seconds()
        level = max(0.0, visitor.returned - (now - visitor.issued) / RETURN_EVERY)
        if level + 1 > RETURNS:
            return (level + 1 - RETURNS) * RETURN_EVERY
        visitor.returned = level + 1
        return 0.0

    def _set_tokens(self, visitor: Visitor, tokens: tuple[bytes, ...]) -> None:
        for old in visitor.tokens:
            self._by_token.pop(old, None)
        visitor.tokens = tokens
        for new in tokens:
            self._by_token[new] = visitor

    # logging in

    def keys(self, name: str) -> StoredKeys | None:
        """Of a guest's pass, if it can be used."""
        visitor = self.find(name)
        if visitor is None or self._clock.seconds() - visitor.issued > PASS_SECONDS:
            return None
        return visitor.keys

    def use(self, name: str, keys: StoredKeys | None) -> bool:
        """
        A guest has shown his password.

        @param keys: Those that it was checked against.
        @return: Whether it could still be used.  It can be used no more.
        """
        visitor = self.find(name)
        if visitor is None or keys is None or self.keys(name) is not keys:
            return False
        visitor.keys = None
        self._set_tokens(visitor, visitor.tokens[:1])
        self._see(visitor)
        return True

    def use_password(self, name: str, password: str) -> bool:
        """As L{use}, of a password as it is; only the right one uses it up."""
        keys, visitor = self.keys(name), self._known.get(name)
        if visitor is None or not hmac.compare_digest(visitor.password, _digest(password)):
            return False
        return self.use(name, keys)

    def _see(self, visitor: Visitor) -> None:
        visitor.last = self._clock.seconds()
        if not visitor.was_here:
            visitor.was_here = True
            self._is_no_longer_new(visitor)

    def _is_no_longer_new(self, visitor: Visitor) -> None:
        self._new[visitor.network] -= 1
        if self._new[visitor.network] <= 0:
            del self._new[visitor.network]

    # sessions

    def session_began(self, jid: str) -> None:
        """A session of a guest has begun."""
        visitor = self._known.get(jid.partition("@")[0])
        if visitor is not None:
            visitor.sessions.add(jid)
            self._see(visitor)

    def session_ended(self, jid: str) -> None:
        """One is over: he may come back."""
        visitor = self._known.get(jid.partition("@")[0])
        if visitor is not None and jid in visitor.sessions:
            visitor.sessions.discard(jid)
            visitor.last = self._clock.seconds()

    def link_lost(self) -> None:
        """Nothing is known of sessions until the link is back."""
        now = self._clock.seconds()
        for visitor in self._known.values():
            if visitor.sessions:
                visitor.sessions.clear()
                visitor.last = now

    # the end

    def end(self, visitor: Visitor) -> None:
        """He may neither log in nor come back."""
        if self._known.pop(visitor.name, None) is None:
            return
        self._set_tokens(visitor, ())
        visitor.keys = None
        others = self._of_space[visitor.space]
        del others[visitor.name]
        if not others:
            del self._of_space[visitor.space]
        if not visitor.was_here:
            self._is_no_longer_new(visitor)

    def thrown_out(self, name: str) -> None:
        """A moderator has thrown somebody out of a room."""
        visitor = self._known.get(name)
        if visitor is not None:
            self.end(visitor)

    def sweep(self) -> None:
        """Forget those whose time is over."""
        for visitor in [v for v in self._known.values() if self._is_over(v)]:
            self.end(visitor)
        now = self._clock.seconds()
        for visitor in self._known.values():
            if visitor.keys is not None and now - visitor.issued > PASS_SECONDS:
                visitor.keys = None

    def _sweep(self) -> None:
        self._timer = None
        self.sweep()
        if self._known:
            self._timer = self._clock.callLater(SWEEP, self._sweep)

    def stop(self) -> None:
        """The Callbridge ends."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _is_over(self, visitor: Visitor) -> bool:
        now = self._clock.seconds()
        if visitor.sessions:
            return False
        patience = COMES_BACK if visitor.was_here else PASS_SECONDS
        return now - visitor.last > patience or now - visitor.began > MOST_SECONDS


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
