"""Sessions of other nodes that ended without a word: whom of this node it concerns is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.process.logs import Logger
from cms.xmlstream.jid import prepared_jid
from cms.xmlstream.stanza import Stanza
from cms.xmpp.broadcast import addressed, unavailable
from cms.xmpp.gate import Gate
from cms.xmpp.links import Link
from cms.xmpp.remotesession import RemoteSession
from cms.xmpp.sessions import Session, Sessions

A_TURN = 100  # sessions, in one turn of the reactor


class Vanishing:
    """
    Ends them for all who are here; the other nodes tell theirs.

    @ivar audience: Gives who else may see a session, at whatever node.
    @param receivers: The sessions and links of this node, by address.
    @param forget: Takes a session out of all tables.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        sessions: Sessions,
        receivers: Mapping[bytes, Session | Link | Gate],
        forget: Callable[[RemoteSession], object],
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._receivers = receivers
        self._forget = forget
        self._vanished: deque[RemoteSession] = deque()
        self._turn: IDelayedCall | None = None
        self.audience: Callable[[Session], Iterable[Session]] = lambda _: ()

    def add(self, remotes: Iterable[RemoteSession]) -> None:
        """These have ended; a part is told of at once."""
        self._vanished += list(remotes)
        if self._turn is None and self._vanished:
            self._work()

    def _work(self) -> None:
        self._turn = None
        for _ in range(min(A_TURN, len(self._vanished))):
            remote = self._vanished.popleft()
            try:
                self._end_for_all_here(remote)
            except Exception:  # noqa: BLE001 - the others must end as well
                self.log.failure("unexpected error at the end of {jid}", jid=remote.jid.full())
        if self._vanished:
            self._turn = self._clock.callLater(0, self._work)

    def _end_for_all_here(self, remote: RemoteSession) -> None:
        """Tell whom of this node it concerns; the other nodes tell theirs."""
        if self._sessions.find(remote.jid) is not remote:
            return  # somebody has taken its address meanwhile
        seen, directed = remote.presence is not None, remote.directed
        self._forget(remote)
        bare, stanza = remote.jid.userhost(), unavailable(remote)
        told_to: set[str] = set()
        if seen:
            told_to = {bare} | self._tell_account(bare, stanza)
            told_to |= self._tell_those(self.audience(remote), stanza)
        for to in directed - told_to:
            address = prepared_jid(to)
            receiver = self._receivers.get(to.encode()) or self._receivers.get(
                address.host.encode()
            )
            if receiver is not None:
                receiver.deliver((addressed(stanza, to).raw,), None)
            elif address.resource is None and address.user is not None:
                self._tell_account(to, stanza)

    def _tell_account(self, bare: str, stanza: Stanza) -> set[str]:
        """Send it to the available sessions of a user that are here; their addresses."""
        return self._tell_those(self._sessions.available(bare), stanza)

    def _tell_those(self, sessions: Iterable[Session], stanza: Stanza) -> set[str]:
        receivers = [each for each in sessions if not isinstance(each, RemoteSession)]
        for receiver in receivers:
            receiver.deliver((addressed(stanza, receiver.jid.full()).raw,), None)
        return {receiver.jid.full() for receiver in receivers}
