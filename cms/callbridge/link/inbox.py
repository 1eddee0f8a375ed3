"""
Stanzas for the Callbridge that are not from the server itself.

A ping costs its sender nothing, but the Callbridge builds a tree and asks wokkel's
handlers.  So only some stanzas are handled in each turn of the reactor, one of each
sender in rotation.  If too many of a sender wait, further ones are refused.  Log-ins do
not wait here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.xmlstream.backlog import Lanes
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.stanza import Stanza

A_TURN = 16  # stanzas that are handled in each turn of the reactor
EACH = 2_560  # bytes that each stanza counts for at least
MOST = 4 * 1024 * 1024  # bytes that wait
# Of one sender.  The meeting page may have said 100 things when it is back; of what is refused in
# the middle of them the order would be lost.
MOST_OF_ONE = 120 * EACH
LEAST_OF_ONE = 8_192  # bytes that each sender may have however many others wait


class Inbox:
    """
    Stanzas that wait to be handled.

    @param handle: Called with each, in the order in which its sender sent them.
    @param refuse: Called with each for which there is no room.
    @param share: Gives the account or component that a sender counts as: L{share_of}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        handle: Callable[[Stanza], object],
        refuse: Callable[[Stanza], object],
        share: Callable[[str | None], str],
    ) -> None:
        self._clock = clock
        self._handle = handle
        self._refuse = refuse
        self._share = share
        self._left = A_TURN
        self._call: IDelayedCall | None = None
        self._lanes: Lanes[Stanza] = Lanes(MOST, guaranteed=LEAST_OF_ONE)

    def put(self, stanza: Stanza) -> None:
        """Handle a stanza, at once if this turn allows it."""
        if self._left > 0 and not self._lanes:
            self._left -= 1
            self._handle(stanza)
        else:
            sender = self._share(stanza.sender)
            size = max(EACH, len(stanza.raw))
            if self._lanes.waiting(sender) + size > MOST_OF_ONE or not self._lanes.put(
                sender, stanza, size
            ):
                self._refuse(stanza)
        if self._call is None:
            self._call = self._clock.callLater(0, self._next_turn)

    def finish(self) -> None:
        """Handle all that wait, because no other turn comes."""
        self._left = 0
        while self._lanes:
            for stanza in self._lanes.take(sys.maxsize)[0]:
                self._handle(stanza)
        self._left = A_TURN
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _next_turn(self) -> None:
        self._call = None
        self._left = A_TURN
        while self._lanes and self._left > 0:
            self._left -= 1
            for stanza in self._lanes.take(1, 1)[0]:
                self._handle(stanza)
        if self._left < A_TURN:
            self._call = self._clock.callLater(0, self._next_turn)


def share_of(address: str | None, domain: str) -> str:
    """
    The account or component that an address counts as.  In the XMPP domain it is the
    account, with all its resources.  Elsewhere it is the whole component, because a
    component may use any number of accounts.

    @param domain: The XMPP domain.  Its server has prepared the addresses in it.
    """
    account = (address or "").partition("/")[0]
    if not address or account.rpartition("@")[2] == domain:
        return account
    try:
        return str(parse_jid(address).host)
    except MalformedJID:
        return ""
