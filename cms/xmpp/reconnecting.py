"""
Who is in a room learns that one of the others has lost his connection.

A session whose connection broke stays bound for a while, with its presence (XEP-0198 5), so
nobody sees that it hears nothing.  After some seconds the server sends its last presence to
each room again, with a word that it has no connection, and without that when it is back.  For
a room that is a changed presence like any other (XEP-0045 7.7); clients that do not know the
word pass it over.  It is told to Callbridges alone: another component may take the presence of
somebody that it has thrown out for a wish to enter, in the way of before XEP-0045.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmlstream.stanza import Stanza
from cms.xmpp.router import Router
from cms.xmpp.sessions import Session

AFTER = 3.0  # seconds without a connection
MOST_BYTES = 1_024  # of a presence that is kept for this
MOST_ROOMS = 50  # of a session, likewise
# Sessions that it is told of at once, and one more in so many seconds.  When a whole network
# is cut, all of a room are away: what each would have to be told of the others waits for it.
AT_ONCE, EVERY = 20, 0.5


class Reconnecting:
    """
    Tells rooms who has no connection.

    @ivar shown: What each session that is in rooms shows there, by its address in the room.
    """

    def __init__(self, clock: IReactorTime, router: Router) -> None:
        self._clock = clock
        self._router = router
        self.shown: dict[Session, dict[str, bytes]] = {}
        self._timers: dict[Session, IDelayedCall] = {}
        self._told: dict[Session, list[str]] = {}  # and which rooms
        self._level, self._looked = 0.0, clock.seconds()

    def showed(self, session: Session, stanza: Stanza) -> None:
        """A session sends presence."""
        if stanza.to is None:
            if stanza.type == "unavailable":
                self.shown.pop(session, None)  # everywhere (RFC 6121 4.6.3)
            return
        try:
            to = parse_jid(stanza.to)
        except MalformedJID:
            return
        if to.host == self._router.domain:
            return  # to people, who see the session itself
        rooms = self.shown.setdefault(session, {})
        rooms.pop(to.full(), None)
        if stanza.type is None and len(stanza.raw) <= MOST_BYTES and len(rooms) < MOST_ROOMS:
            rooms[to.full()] = stanza.raw

    def left(self, session: Session) -> None:
        """The connection of a session is gone."""
        if session in self.shown:
            self._timers[session] = self._clock.callLater(AFTER, self._tell, session)

    def returned(self, session: Session) -> None:
        """It has one again."""
        rooms = self._stop(session)
        self._show(session, rooms, lambda presence: None)

    def ended(self, session: Session) -> None:
        """It is over: its unavailable presence says the rest."""
        self._stop(session)
        self.shown.pop(session, None)

    def told(self, session: Session) -> list[str]:
        """Which rooms know that it has no connection."""
        return self._told.get(session, [])

    def adopted(self, session: Session, shown: dict[str, bytes], told: Iterable[str]) -> None:
        """A session that another node had goes on here, without a connection at first."""
        if shown:
            self.shown[session] = shown
            self._told[session] = [to for to in told if to in shown]
            if not self._told[session]:
                self.left(session)

    def _stop(self, session: Session) -> list[str]:
        """Which rooms were told."""
        timer = self._timers.pop(session, None)
        if timer is not None and timer.active():
            timer.cancel()
        return self._told.pop(session, [])

    def _tell(self, session: Session) -> None:
        del self._timers[session]
        rooms = [to for to in self.shown[session] if self._is_of_callbridge(to)]
        if rooms and self._allows():
            self._told[session] = rooms
            self._show(session, rooms, _mark)

    def _is_of_callbridge(self, to: str) -> bool:
        link = self._router.links.get(parse_jid(to).host)
        return link is not None and bool(link.mechanisms)

    def _allows(self) -> bool:
        now = self._clock.seconds()
        self._level = max(0.0, self._level - (now - self._looked) / EVERY)
        self._looked = now
        allows = self._level <= AT_ONCE - 1
        self._level += allows
        return allows

    def _show(
        self, session: Session, rooms: list[str], change: Callable[[Element], object]
    ) -> None:
        for to in rooms:
            presence = of_bytes(self.shown[session][to]).element
            # Whoever asks to enter again is told everything again (XEP-0045 7.2).
            for child in list(presence.elements(ns.MUC, "x")):
                presence.children.remove(child)
            presence.attributes.pop("id", None)
            change(presence)
            self._router.route(Stanza(presence), session)


def _mark(presence: Element) -> None:
    presence.addElement((ns.MEETING, "reconnecting"))
