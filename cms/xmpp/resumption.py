"""
Which sessions can be resumed (XEP-0198 5).

A session whose connection is gone is away: it stays bound for some time, and comes back
when its client shows its id after another log-in.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.words.protocols.jabber.jid import JID

from cms.process.cleanup import run_all
from cms.process.logs import LineLimiter, Logger
from cms.signalflow import counted
from cms.xmlstream import managementelements as elements
from cms.xmlstream.management import Ledger
from cms.xmlstream.wire import Wire
from cms.xmpp.keptbytes import KeptBytes

MOST_AWAY = 10_000  # sessions; one more ends the one that is away for longest
MOST_REMEMBERED = 10_000  # sessions that have ended: how many stanzas each had handled
REMEMBERED = 600.0  # seconds


class NotResumed(Exception):
    """
    A session cannot be resumed.

    @ivar answer: What the client is told (XEP-0198 5).
    """

    def __init__(self, condition: str, handled: int | None = None) -> None:
        super().__init__(condition)
        self.answer = elements.failed(condition, handled)


class Resumable(Protocol):
    """
    A session that manages its stream.

    @ivar jid: Its full address.
    @ivar ledger: What it has counted.
    """

    jid: JID
    ledger: Ledger | None

    @property
    def kept_bytes(self) -> int:
        """What waits for it, or was not acknowledged."""
        ...

    @property
    def away_seconds(self) -> float:
        """How long it has had no connection."""
        ...

    def return_over(self, wire: Wire, answer: bytes) -> None:
        """Go on over this connection; first its client is told so."""
        ...

    def expire(self) -> None:
        """It was away for too long: it ends."""
        ...

    def shut_down(self) -> None:
        """The server stops: it ends."""
        ...


class Resumptions:
    """
    The sessions that can be resumed, by their ids.

    @param seconds: How long a session may be away; 0: none can be resumed.
    @param kept: Counts and limits what is kept for those that are away.
    @ivar resumed: How many were.
    @ivar expired: How many ended because nobody came back.
    @ivar crowded_out: How many ended because there were too many, or too much was kept.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        seconds: float = 60.0,
        *,
        most_away: int = MOST_AWAY,
        kept: KeptBytes[Resumable] | None = None,
    ) -> None:
        self.seconds = seconds
        self.resumed = self.expired = self.crowded_out = 0
        self._clock = clock
        self._most_away = most_away
        self._kept: KeptBytes[Resumable] = kept or KeptBytes()
        self._relief: IDelayedCall | None = None
        self._lines = LineLimiter(clock.seconds)
        self._sessions: dict[str, Resumable] = {}
        self._ids: dict[Resumable, str] = {}
        self._away: OrderedDict[Resumable, IDelayedCall] = OrderedDict()
        self._ended: OrderedDict[str, tuple[str, int, float]] = OrderedDict()

    @property
    def away(self) -> int:
        """How many sessions have no connection now."""
        return len(self._away)

    @property
    def away_bytes(self) -> int:
        """What waits for those, or was not acknowledged."""
        return self._kept.size

    def away_longest(self, most: int) -> list[Resumable]:
        """Those that are away for longest, at most so many."""
        return list(islice(self._away, most))

    def issue(self, session: Resumable) -> str:
        """An id for a session, which nobody can guess."""
        identifier = secrets.token_urlsafe(18)
        self.enter(identifier, session)
        return identifier

    def enter(self, identifier: str, session: Resumable) -> None:
        """A session has this id, which another node has issued."""
        self._sessions[identifier] = session
        self._ids[session] = identifier

    def find(self, identifier: str, account: str) -> Resumable | None:
        """The session of this account that has this id."""
        session = self._sessions.get(identifier)
        return session if session is not None and session.jid.userhost() == account else None

    def has(self, identifier: str, account: str) -> bool:
        """Whether an id is that of a session of this account which can be resumed."""
        return self.find(identifier, account) is not None

    def claim(self, asked: elements.Resume | None, account: str) -> tuple[Resumable, bytes]:
        """
        The session that a client asks for, and what the client is then told.

        What the client says to have handled of it is acknowledged.

        @param asked: See L{elements.resume}.
        @param account: A bare address, which has logged in again.
        @raise NotResumed: it is none of this account's, or was not asked for properly.
        @raise AcknowledgedTooManyError: the client has more of it than was sent.
        """
        if asked is None:
            raise NotResumed("bad-request")
        session = self._sessions.get(asked.previous)
        if session is None or session.jid.userhost() != account or session.ledger is None:
            raise NotResumed("item-not-found", self.handled(asked.previous, account))
        session.ledger.acknowledge(asked.handled)
        return session, elements.resumed(asked.previous, session.ledger.handled)

    def handled(self, identifier: str, account: str) -> int | None:
        """How many stanzas a session had handled that has ended, if that is still known."""
        owner, handled, until = self._ended.get(identifier, ("", 0, 0.0))
        return handled if owner == account and self._clock.seconds() < until else None

    def leaves(self, session: Resumable) -> None:
        """The connection of a session is gone: its time begins."""
        if len(self._away) >= self._most_away:
            self._crowd_out(next(iter(self._away)))
        self._away[session] = self._clock.callLater(self.seconds, self._expire, session)
        self._kept.add(session.jid.userhost(), session, session.kept_bytes)
        self._look()

    def has_room(self, session: Resumable, size: int) -> bool:
        """Whether so many bytes more may be kept for a session that is away."""
        return self._kept.has_room(session.jid.userhost(), size)

    def keeps(self, session: Resumable, size: int) -> None:
        """So many bytes more are kept for a session, or less."""
        if session in self._away:
            self._kept.grow(session.jid.userhost(), session, size)
            self._look()

    def _look(self) -> None:
        """See that there is room again, but not amid what makes something grow."""
        if self._kept.is_too_much and self._relief is None:
            self._relief = self._clock.callLater(0, self._relieve)

    def _relieve(self) -> None:
        self._relief = None
        before, sessions = self.away_bytes, self._kept.surplus()
        if not sessions:
            return  # they ended meanwhile
        run_all(self.log, "away", *(partial(self._crowd_out, session) for session in sessions))
        if before > self._kept.most:
            self.log.warn(
                "{sessions} without a connection ended early: {before}"
                " bytes were kept for all together, more than resume.most_bytes",
                sessions=counted(len(sessions), "session"),
                before=before,
            )
        elif self._lines.allows():
            self.log.info(
                "{sessions} without a connection ended early: more than"
                " {most} bytes were kept for those of {account}",
                sessions=counted(len(sessions), "session"),
                most=self._kept.most_of_one,
                account=", ".join(sorted({session.jid.userhost() for session in sessions})),
            )

    def returns(self, session: Resumable) -> None:
        """A session has a connection again."""
        self.resumed += 1
        self._stop(session)

    def make_room(self, sessions: Iterable[object]) -> bool:
        """
        End the one of these that is away for longest.

        @return: Whether one was away.
        """
        of = set(sessions)
        longest = next((session for session in self._away if session in of), None)
        if longest is not None:
            self._expire(longest)
        return longest is not None

    def shut_down(self) -> None:
        """The server stops: whoever is away ends."""
        for session in list(self._away):
            session.shut_down()
        if self._relief is not None:
            self._relief.cancel()
            self._relief = None

    def forget(self, session: Resumable) -> None:
        """A session has ended; how many stanzas it handled is told for a while."""
        self._stop(session)
        identifier = self._ids.pop(session, None)
        if identifier is None:
            return
        del self._sessions[identifier]
        self.remember(session, identifier)

    def move(self, session: Resumable) -> None:
        """It goes on at another node."""
        self._stop(session)
        del self._sessions[self._ids.pop(session)]

    def remember(self, session: Resumable, identifier: str) -> None:
        """
        Note how many stanzas a session has handled that has ended.

        One that ends amid what was read has not counted all of it yet, and says so again.
        """
        handled = 0 if session.ledger is None else session.ledger.handled
        self.note(identifier, session.jid.userhost(), handled)

    def note(self, identifier: str, account: str, handled: int) -> None:
        """The same of one that was at another node."""
        self._ended[identifier] = account, handled, self._clock.seconds() + REMEMBERED
        if len(self._ended) > MOST_REMEMBERED:
            self._ended.popitem(last=False)

    def _stop(self, session: Resumable) -> None:
        timer = self._away.pop(session, None)
        if timer is not None:
            self._kept.remove(session.jid.userhost(), session)
            if timer.active():
                timer.cancel()

    def _expire(self, session: Resumable) -> None:
        self._stop(session)
        self.expired += 1
        session.expire()

    def _crowd_out(self, session: Resumable) -> None:
        if session in self._away:  # not ended by what another did
            self._stop(session)
            self.crowded_out += 1
            session.expire()
