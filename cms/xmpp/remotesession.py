"""A session at another node of the cluster, as this one knows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.words.protocols.jabber.jid import JID

from cms.cluster.peer import Peer
from cms.xmlstream.backlog import Item, as_bytes, sender_of
from cms.xmlstream.stanza import Stanza
from cms.xmpp import nodemessages as messages
from cms.xmpp.sessions import ADMINISTRATOR, REPLACED


class Remote:
    """
    A receiver at another node.

    @ivar peer: That node.
    @ivar key: Its address.
    @ivar told: Whether its node has named it since it began to tell all that it has.
    @param give_back: Answers stanzas that cannot reach it.
    """

    def __init__(self, peer: Peer, key: str, give_back: Callable[[Sequence[bytes]], object]):
        self.peer = peer
        self.key = key.encode()
        self.told = True
        self._give_back = give_back

    @property
    def is_slow(self) -> bool:
        """See L{Receiver<cms.xmpp.receiver.Receiver>}."""
        return self.peer.party.is_slow

    @property
    def is_gone(self) -> bool:
        """Whether nothing reaches it now."""
        return self.peer.is_over or self.peer.is_cut

    def send(self, stanza: Stanza) -> None:
        """See L{Receiver<cms.xmpp.receiver.Receiver>}."""
        self.deliver((stanza.raw,), None)

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """See L{Receiver<cms.xmpp.receiver.Receiver>}."""
        if self.is_gone:
            self._give_back(raws)
            return ()
        message = messages.deliver(self.key, sender_of(source), raws)
        return raws if self.peer.party.deliver((message,), source) else ()

    def queue(self, item: Item, source: object) -> bool:
        """See L{Receiver<cms.xmpp.receiver.Receiver>}."""
        if self.is_gone:
            self._give_back((as_bytes(item),))
            return True
        message = messages.deliver(self.key, sender_of(source), (as_bytes(item),))
        return self.peer.party.queue(message, source)

    def drain(self, most: int | None = None) -> int:
        """See L{Receiver<cms.xmpp.receiver.Receiver>}."""
        return self.peer.party.drain(most)


class RemoteSession(Remote):
    """
    A L{Session<cms.xmpp.sessions.Session>} whose client is connected to another node.

    @ivar number: Which of that node's sessions it is.
    @ivar stamp: When it was bound, by the engine's clock, in milliseconds since the epoch:
        of two with one address the newer stays.
    """

    def __init__(
        self,
        peer: Peer,
        jid: JID,
        give_back: Callable[[Sequence[bytes]], object],
        *,
        number: int,
        stamp: int,
        authority: str,
        host: str,
        guest: bool,
    ) -> None:
        super().__init__(peer, jid.full(), give_back)
        self.jid = jid
        self.number = number
        self.stamp = stamp
        self.since = stamp / 1000
        self.node = peer.member.name
        self.authority = authority
        self.peer_host = host
        self.is_guest = guest
        self.presence: Stanza | None = None
        self.priority = 0
        self.directed: set[str] = set()
        self.is_copied = False
        self.is_away, self.away_seconds, self.kept_bytes = False, 0.0, 0  # its node knows
        self.ids: dict[str, str] = {}
        self.forget: Callable[[RemoteSession], object] = lambda _: None
        self.on_replaced: Callable[[RemoteSession], object] = lambda _: None

    @property
    def peer_text(self) -> str:
        """See L{Session<cms.xmpp.sessions.Session>}."""
        return f"{self.peer_host} at {self.peer.member.name}"

    def set_guarded(self, guarded: bool) -> None:
        """See L{Session<cms.xmpp.sessions.Session>}; its own node looks into what it sends."""

    def set_copied(self, copied: bool) -> None:
        """See L{Session<cms.xmpp.sessions.Session>}."""
        self.is_copied = copied
        self.forget(self)

    def replace(self) -> None:
        """Ask its node to end it: a newer session has its address, and it counts no more."""
        self.end(REPLACED)
        self.on_replaced(self)

    def end(self, why: str = ADMINISTRATOR) -> None:
        """Ask its node to end it; see L{Session<cms.xmpp.sessions.Session>}."""
        if not self.peer.is_over:
            jid = self.jid.full()
            self.peer.party.write(
                messages.told(messages.END_SESSION, jid, number=self.number, why=why)
            )
