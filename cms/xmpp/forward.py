"""
The fast way through the router, for stanzas that are bytes proved to be well-formed.

The stanzas of one read are joined for each receiver and written at once.  A stanza for which
the address alone does not decide goes to L{cms.xmpp.router}, after everything that was sent
before it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from cms.xmlstream.flow import Party
from cms.xmlstream.management import Ledger
from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Slice, Stanza
from cms.xmpp.receiver import Receiver
from cms.xmpp.router import Router

A_TURN = 30  # stanzas of one peer that go the general way in one turn of the reactor
MOST_SENDERS = 1_000  # addresses of the peer's own that are remembered
_NAMES = (b"message", b"presence", b"iq")
# A start tag with an xml:lang that is no part of another attribute's value.
_SPEAKS = re.compile(rb"""<\w+(?: [^ =]+=(?:'[^']*'|"[^"]*"))*? xml:lang=""")


class Forwarder:
    """
    Forwards what one stream's peer sends.

    @param source: The peer's party.
    @param address: The C{from} for stanzas that have none.
    @param owns: Whether the peer may use an address as C{from}.
    @param general: The general way: handles a stanza that is not simply forwarded.
    @ivar most: How many stanzas may go the general way at once.
    @ivar looked_into: Names of stanzas that always go the general way.
    @ivar reached: How many of the slices had begun when the last went the general way.
    @param language: The C{xml:lang} of the peer's header, for stanzas that have none
        (RFC 6120 8.1.5).
    """

    def __init__(
        self,
        router: Router,
        source: Party,
        address: str,
        *,
        owns: Callable[[str], bool],
        general: Callable[[Stanza], None],
        most: int = sys.maxsize,
        looked_into: frozenset[bytes] = frozenset(),
        language: str | None = None,
    ) -> None:
        self._router = router
        self._source = source
        self._owns = owns
        self._general = general
        self.most = most
        self.looked_into = looked_into
        self.reached = 0
        self._senders: set[bytes] = set()
        self._address = address.encode()
        stamp = b" from=" + quote_attribute(address).encode()
        self._stamps = {name: b"<" + name + stamp for name in _NAMES}
        self._language = b""
        if language is not None:
            self._language = b" xml:lang=" + quote_attribute(language).encode()

    def forward(self, slices: list[Slice]) -> list[Slice]:
        """
        Deliver the slices in their order.

        @return: Those that remain when C{most} have gone the general way, or when the source
            has closed.
        """
        left = self.most
        self.reached = 0
        gathered: dict[Receiver, list[bytes]] = {}
        looked_into, stamps = self.looked_into, self._stamps
        if self._language:
            slices = [self._in_language(piece) for piece in slices]
        last_to = last_sender = add = None
        for number, piece in enumerate(slices, 1):
            name, to, sender, raw = piece
            if to != last_to or sender != last_sender or add is None or name in looked_into:
                add = None
                receiver = None if name in looked_into else self._receiver(to, sender)
                if receiver is None:
                    self._send(gathered)
                    self.reached = number
                    self._general(SplicedStanza(piece))
                    left -= 1
                    if not (left and self._source.is_open):
                        return slices[number:]
                    continue
                add = gathered.setdefault(receiver, []).append
                last_to, last_sender = to, sender
            if sender is None:
                raw = stamps[name] + raw[len(name) + 1 :]
            add(raw)
        self._send(gathered)
        return []

    def forward_counted(self, slices: list[Slice], ledger: Ledger) -> list[Slice]:
        """
        The same for a managed stream.

        What has begun counts as handled, whatever becomes of it: it must not be sent again.
        """
        try:
            left = self.forward(slices)
        except Exception:
            ledger.count_handled(self.reached)
            raise
        ledger.count_handled(len(slices) - len(left))
        return left

    def _in_language(self, piece: Slice) -> Slice:
        name, to, sender, raw = piece
        if raw.find(b" xml:lang=", 0, raw.index(b">")) >= 0 and _SPEAKS.match(raw):
            return piece
        tag = b"<" + name
        if sender is None:  # both at once
            sender, tag = self._address, self._stamps[name]
        return name, to, sender, tag + self._language + raw[len(name) + 1 :]

    def _receiver(self, to: bytes | None, sender: bytes | None) -> Receiver | None:
        if to is None or not (sender is None or sender in self._senders or self._knows(sender)):
            return None
        return self._router.find(to)

    def _knows(self, sender: bytes) -> bool:
        if not self._owns(sender.decode()):
            return False
        if len(self._senders) >= MOST_SENDERS:
            self._senders.clear()
        self._senders.add(sender)
        return True

    def _send(self, gathered: dict[Receiver, list[bytes]]) -> None:
        for receiver, raws in gathered.items():
            for raw in receiver.deliver(raws, self._source):
                name = raw[1 : raw.index(b" ")]  # from is written there, at least
                self._router.refuse(SplicedStanza((name, None, None, raw)))
        gathered.clear()
