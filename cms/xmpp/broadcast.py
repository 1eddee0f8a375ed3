"""
One stanza to many: presence to a user's resources, and what a room says.

It is serialised once, and its receivers share the bytes.  Each turn of the reactor sends a
part, so that other work does not wait for all of it.  If the same source sends another
stanza to one of the receivers meanwhile, it waits behind the broadcast, so that the order
is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IReactorTime
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Stanza
from cms.xmpp.receiver import Receiver
from cms.xmpp.sessions import Session

BYTES_A_TURN = 262_144


class Broadcast:
    """
    Sends to many, a part in each turn.

    @param a_turn: Bytes; one stanza more may leave.
    """

    def __init__(self, clock: IReactorTime, *, a_turn: int = BYTES_A_TURN) -> None:
        self._clock = clock
        self._a_turn = a_turn
        self._left = a_turn
        self._waiting = False
        self._behind: dict[Receiver, None] = {}

    def send(
        self, stanza: Stanza, receivers: Iterable[tuple[Receiver, str]], source: object
    ) -> int:
        """
        Send a stanza that has no C{to}.

        @param receivers: Each with the address that its copy gets.
        @param source: See L{Receiver.deliver}.
        @return: How many copies had no room at a receiver that does not read.
        """
        dropped = 0
        start, rest = _parts(stanza)
        for receiver, to in receivers:
            if receiver.queue((start + quote_attribute(to).encode(), rest), source):
                self._behind[receiver] = None
            else:
                dropped += 1
        self._send()
        return dropped

    def _send(self) -> None:
        while self._behind and self._left > 0:
            receiver = next(iter(self._behind))
            sent = receiver.drain(self._left)
            self._left -= sent
            if not (sent and receiver.is_slow and self._left <= 0):
                del self._behind[receiver]  # or it goes on by itself when its peer reads
        if not self._waiting and self._left < self._a_turn:
            self._waiting = True
            self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._waiting = False
        self._left = self._a_turn
        self._send()


def addressed(stanza: Stanza, to: str) -> Stanza:
    """A copy, with its address, of a stanza that has none."""
    start, rest = _parts(stanza)
    raw = start + quote_attribute(to).encode() + rest
    return SplicedStanza((stanza.name.encode(), None, None, raw))


def unavailable(session: Session) -> Stanza:
    """The presence of a session that is not available any more; it has no C{to}."""
    element = Element((ns.CLIENT, "presence"))
    element["type"] = "unavailable"
    stanza = Stanza(element)
    stanza.stamp(session.jid.full())
    return stanza


def _parts(stanza: Stanza) -> tuple[bytes, bytes]:
    """What is before the value of its C{to}, and what is after it."""
    name = stanza.name.encode()
    return b"<" + name + b" to=", stanza.raw[len(name) + 1 :]
