"""The sessions of this node, and what the others are told of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial

from twisted.internet.defer import Deferred

from cms.linkprotocol import login as lp
from cms.xmpp import announcements
from cms.xmpp import nodemessages as messages
from cms.xmpp.announcements import Ours
from cms.xmpp.carbons import Carbons
from cms.xmpp.decided import Decided
from cms.xmpp.gate import Gate
from cms.xmpp.learning import Learning
from cms.xmpp.links import Link
from cms.xmpp.nodemessages import told
from cms.xmpp.remotesession import RemoteSession
from cms.xmpp.router import Router
from cms.xmpp.sessions import Session, Sessions


class OwnSessions:
    """
    Tells of them; L{Nodes<cms.xmpp.nodes.Nodes>} says to whom.

    Their addresses lead to what takes stanzas for them: a session that was handed over is
    passed on for a while.

    @ivar learning: Whether this node does not know yet what the others have.
    """

    learning: Learning

    def __init__(
        self, sessions: Sessions, router: Router, carbons: Carbons, decided: Decided
    ) -> None:
        self._sessions = sessions
        self._router = router
        self._carbons = carbons
        self._decided = decided
        self._ours: dict[str, Ours] = {}
        self._receivers: dict[bytes, Session | Link | Gate] = {}
        self._number = self._last_stamp = 0

    @abstractmethod
    def _now(self) -> float:
        """The engine's clock."""

    @abstractmethod
    def _freed(self, name: str) -> None:
        """Nobody holds an address now."""

    @abstractmethod
    def _tell(self, make: Callable[[], bytes], *, later: bool = False) -> None:
        """
        Tell the others that something has changed.

        @param later: Whether nobody waits for that.
        """

    @abstractmethod
    def _known(self) -> Deferred[None]:
        """Fires when they have read what they were told until now, or after a second."""

    def known(self) -> Deferred[None]:
        """See L{Others<cms.xmpp.elsewhere.Others>}."""
        return self.learning.over().addCallback(lambda _: self._known())

    def began(self, session: Session, since: str) -> Deferred[None]:
        """See L{Others<cms.xmpp.elsewhere.Others>}."""
        stamp = self._last_stamp = max(round(self._now() * 1000), self._last_stamp + 1)
        ours = self._enter(session, since, stamp)
        self._tell(lambda: announcements.session_named(ours))
        return self.known()

    def _enter(self, session: Session, since: str, stamp: int, *, moved: bool = False) -> Ours:
        self._number += 1
        jid = session.jid.full()
        ours = self._ours[jid] = Ours(session, self._number, stamp, since, moved)
        self._receivers[jid.encode()] = session
        return ours

    def ended(self, session: Session, reason: str) -> None:
        """See L{Others<cms.xmpp.elsewhere.Others>}."""
        jid = session.jid.full()
        ours = self._ours.get(jid)
        if ours is not None and ours.session is session:
            del self._ours[jid]
            del self._receivers[jid.encode()]
            end = partial(told, messages.SESSION_END, jid, number=ours.number, reason=reason)
            self._tell(end, later=True)
            self._freed(jid)

    def presence(self, session: Session) -> None:
        """See L{Others<cms.xmpp.elsewhere.Others>}."""
        self._tell_of(session, announcements.presence_told)

    def directed(self, session: Session, to: str, available: bool) -> None:
        """See L{Others<cms.xmpp.elsewhere.Others>}."""
        self._tell_of(session, lambda ours: announcements.directed_told(ours, to, available))

    def copies(self, session: Session, wanted: bool) -> None:
        """See L{Others<cms.xmpp.elsewhere.Others>}."""
        self._tell_of(session, lambda ours: announcements.copies_told(ours, wanted))

    def _all_of(self, ours: Ours) -> Iterator[bytes]:
        """All that there is to tell of one."""
        session = ours.session
        yield announcements.session_named(ours)
        if session.presence is not None:
            yield announcements.presence_told(ours)
        for to in session.directed:
            yield announcements.directed_told(ours, to, True)
        if session in self._carbons.enabled.get(session.jid.userhost(), ()):
            yield announcements.copies_told(ours, True)

    # those that are handed over: Book

    def ours(self, session: Session) -> Ours | None:
        """See L{Book<cms.xmpp.handover.Book>}."""
        ours = self._ours.get(session.jid.full())
        return ours if ours is not None and ours.session is session else None

    def moved(self, ours: Ours, remote: RemoteSession) -> None:
        """See L{Book<cms.xmpp.handover.Book>}."""
        jid = remote.jid.full()
        del self._ours[jid]
        self._receivers[jid.encode()] = remote
        self._sessions.add(remote, elsewhere=True)
        remote.forget = self._router.forget
        begin = lp.SessionBegin(jid, remote.peer_host, ours.since)
        self._decided.began(remote, ours.since, begin)

    def settled(self, ours: Ours, remote: RemoteSession) -> None:
        """See L{Book<cms.xmpp.handover.Book>}."""
        jid = remote.jid.full()
        if self._receivers.get(jid.encode()) is remote:
            del self._receivers[jid.encode()]
        end = told(messages.SESSION_END, jid, number=ours.number, reason="lost", moved=True)
        self._tell(lambda: end)

    def came(self, session: Session, since: str, stamp: int) -> None:
        """See L{Book<cms.xmpp.handover.Book>}."""
        ours = self._enter(session, since, stamp, moved=True)
        for change in self._all_of(ours):
            self._tell(lambda: change)  # noqa: B023 - it is called at once

    def _tell_of(self, session: Session, make: Callable[[Ours], bytes]) -> None:
        ours = self._ours.get(session.jid.full())
        if ours is not None and ours.session is session:
            self._tell(lambda: make(ours))
