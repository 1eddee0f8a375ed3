"""
How often one session's presence goes to many.

Presence is a state: of several changes in a moment only the last matters.  So whoever is seen by
few tells each change at once, and whoever is seen by many waits a little, as long as the last
change was work for the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.xmpp.sessions import Session

FREE: Final = 25  # receivers for which nobody waits
SECONDS_EACH: Final = 0.002  # for each receiver of the change before


class Pace:
    """
    The sessions that wait.

    @param say: Tells of a session what it is now.
    """

    def __init__(self, clock: IReactorTime, say: Callable[[Session], object]) -> None:
        self._clock = clock
        self._say = say
        self._until: dict[Session, float] = {}
        self._later: dict[Session, IDelayedCall] = {}

    def holds(self, session: Session) -> bool:
        """Whether a change has to wait: then C{say} is called when its time has come."""
        until = self._until.get(session)
        if until is None or session in self._later:
            return until is not None
        now = self._clock.seconds()
        if now >= until:
            del self._until[session]
            return False
        self._later[session] = self._clock.callLater(until - now, self._go_on, session)
        return True

    def _go_on(self, session: Session) -> None:
        del self._later[session], self._until[session]
        self._say(session)

    def sent(self, session: Session, receivers: int) -> None:
        """So many were told of a change."""
        if receivers > FREE:
            self._until[session] = self._clock.seconds() + receivers * SECONDS_EACH

    def ended(self, session: Session) -> bool:
        """The session is over; whether something had to wait."""
        self._until.pop(session, None)
        later = self._later.pop(session, None)
        if later is not None:
            later.cancel()
        return later is not None
