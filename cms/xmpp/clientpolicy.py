"""What all clients of this server share: services, settings and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import Factory, define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StreamError

from cms.process.logs import LineLimiter
from cms.xmlstream import managementelements as elements
from cms.xmlstream.flow import SendLimits
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmpp.config import ClientSettings
from cms.xmpp.loginrelay import LoginRelay
from cms.xmpp.observer import NoObserver, Observer
from cms.xmpp.resumption import NotResumed, Resumable, Resumptions
from cms.xmpp.router import Router
from cms.xmpp.sessions import Sessions
from cms.xmpp.sessionservice import SessionService
from cms.xmpp.undelivered import Undelivered
from cms.xmpp.waitingroom import WaitingRoom


@define
class ClientPolicy:
    """
    What all clients of this server share.

    @ivar settings: The time limits of each.
    @ivar send_limits: The limits on what waits for one that does not read.
    @ivar is_draining: Whether this server is drained, so that nothing is fetched.
    @ivar fetch: Has a session handed over by another node, if there can be any; see
        L{Handover<cms.xmpp.handover.Handover>}.
    """

    clock: IReactorTime
    domain: str
    router: Router
    sessions: Sessions
    service: SessionService
    relay: LoginRelay
    waiting_room: WaitingRoom
    observer: Observer = field(factory=NoObserver)
    resumptions: Resumptions = field(
        default=Factory(lambda self: Resumptions(self.clock), takes_self=True)
    )
    undelivered: Undelivered = field(
        default=Factory(
            lambda self: Undelivered(self.clock, self.router.give_back), takes_self=True
        ),
    )
    line_limiter: LineLimiter = field(
        init=False, default=Factory(lambda self: LineLimiter(self.clock.seconds), takes_self=True)
    )
    settings: ClientSettings = field(factory=ClientSettings)
    send_limits: SendLimits = field(
        default=Factory(lambda self: SendLimits(self.settings.send_limit), takes_self=True)
    )

    fetch: Callable[[str, str], Deferred[int | None]] | None = None
    is_draining: bool = False

    def claim(
        self, asked: elements.Resume | None, account: str
    ) -> Deferred[tuple[Resumable, bytes]]:
        """
        The same as L{Resumptions.claim}, which has what it fails with; a session of another
        node is handed over first.
        """
        return Deferred.fromCoroutine(self._claim(asked, account))

    async def _claim(self, asked: elements.Resume | None, account: str) -> tuple[Resumable, bytes]:
        fetch = self.fetch
        if fetch is None or asked is None or self.resumptions.has(asked.previous, account):
            return self.resumptions.claim(asked, account)
        handled = await fetch(asked.previous, account)
        try:
            return self.resumptions.claim(asked, account)
        except NotResumed:
            if handled is None:
                raise
            raise NotResumed("item-not-found", handled) from None

    def is_ours(self, address: str) -> bool:
        """Whether an address is that of this server."""
        try:
            return bool(parse_jid(address).full() == self.domain)
        except MalformedJID:
            return False

    def note_end(
        self,
        log: Logger | None,
        who: str,
        error: StreamError,
        address: str,
        ids: Mapping[str, str],
    ) -> None:
        """
        A stream ends with an error that the client caused.

        @param log: Gets a line about it; C{None} for no line.
        @param who: The client's JID, or its network address.
        """
        if log is not None:
            log.info(
                "client {peer}: stream closed with {condition}{text}",
                peer=who,
                condition=error.condition,
                text=f" ({error.text})" if error.text else "",
                address=address,
                **ids,
            )
        self.observer.stream_refused(error.condition)
