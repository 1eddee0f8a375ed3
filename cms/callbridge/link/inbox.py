"""
What others than the server itself want of the Callbridge.

A ping costs its sender nothing and the Callbridge a tree and a walk through wokkel's
handlers.  So only a part of what has come is handled in each turn of the reactor, each
sender in its turn, and a sender of whom too much waits is told to wait.  Log-ins pass
all that by.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.xmlstream.backlog import Lanes
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.stanza import Stanza

A_TURN = 16  # stanzas that are handled in each turn of the reactor
EACH = 8_192  # bytes that a stanza counts for at least, whatever its length
MOST = 4 * 1024 * 1024  # bytes that wait
MOST_OF_ONE = 40 * EACH  # of one sender


class Inbox:
    """
    Stanzas that wait to be handled.

    @param handle: Called with each, in the order in which its sender sent them.
    @param refuse: Called with those for which there is no room.
    @param share: Whose share a sender's stanzas are part of: L{share_of}.
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
        self._lanes: Lanes[Stanza] = Lanes(MOST, guaranteed=EACH)

    def put(self, stanza: Stanza) -> None:
        """Handle a stanza, now if there is time."""
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

    def clear(self) -> None:
        """Forget what waits."""
        self._lanes = Lanes(MOST, guaranteed=EACH)
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
    Whose share something is part of: an account's of the XMPP domain, whatever its
    resources; else a whole component's, which may speak for as many accounts as it likes.

    @param domain: The XMPP domain; its server has seen to how these addresses are written.
    """
    account = (address or "").partition("/")[0]
    if not address or account.rpartition("@")[2] == domain:
        return account
    try:
        return str(parse_jid(address).host)
    except MalformedJID:
        return ""
