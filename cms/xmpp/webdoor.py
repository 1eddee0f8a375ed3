"""C{listen.web} and C{listen.web_plain}: browsers, and streams over WebSocket (RFC 7395)."""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from cms.door.application import DoorApplication
from cms.door.interfaces import Outcome
from cms.door.look import read_look
from cms.door.pages import DoorPages
from cms.linkprotocol import join
from cms.protection.connections import Admitted
from cms.trust.server import ServerTrust
from cms.web.listeners import HTTPListeners
from cms.web.root import Root
from cms.websocket.stream import WebSocketStream
from cms.xmpp import clientstates
from cms.xmpp.admissions import Admissions
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.config import WEB, XmppConfig
from cms.xmpp.listeners import StreamFactory


class WebDoor:
    """
    Implements L{cms.door.interfaces.Server}, with the listeners.

    @ivar application: Its routes; more may be added before L{open}.
    @param trust: For C{listen.web}.
    """

    def __init__(
        self,
        config: XmppConfig,
        reactor: Any,
        policy: ClientPolicy,
        admissions: Admissions,
        trust: ServerTrust | None,
    ) -> None:
        self._admissions = admissions
        self._config = config
        self._reactor = reactor
        self._policy = policy
        self._trust = {"web": trust, "web_plain": None}
        self._listeners = HTTPListeners(
            reactor, config.file, config.listen.proxies, forwarded_for=config.listen.forwarded_for
        )
        self._factories: dict[str, StreamFactory] = {}
        self.application = DoorApplication(config.web, self, reactor.seconds)
        look = read_look(config.web, config.file)
        pages = DoorPages(look, config.domain, enabled=config.web.enabled)
        pages.add_to(self.application.routes)

    @property
    def factories(self) -> list[StreamFactory]:
        """The streams of each listener."""
        return list(self._factories.values())

    def open(self) -> None:
        """
        Open the listeners that are configured.

        @raise ConfigurationError: one cannot be read, or bound.
        """
        limits, application = self._config.connection_limits(), self.application
        root = Root(application, application.admit, count(1), self._reactor)
        for kind in WEB:
            descriptions = self._config.listen[kind]
            if descriptions:
                factory = StreamFactory(self._make, limits, self._reactor.seconds, kind=kind)
                self._factories[kind] = factory
                self._listeners.open_within(factory.limiter, descriptions, root, self._trust[kind])

    def _make(self) -> WebSocketStream:
        """
        A stream that needs no TLS of its own: it has the listener's, or a proxy's.

        So channel binding is not offered: no browser could use it.
        """
        return WebSocketStream(self._reactor, clientstates.begin(self._policy, None))

    def open_stream(self, connection: Admitted) -> IProtocol:
        """See L{cms.door.interfaces.Server}."""
        return self._factories[connection.kind].open(connection)

    def admit(self, wish: join.Admit) -> Deferred[Outcome]:
        """See L{cms.door.interfaces.Guests}."""
        return self._admissions.admit(wish)

    @property
    def is_shut(self) -> bool:
        """See L{cms.door.interfaces.Server}."""
        return any(factory.limiter.is_shut for factory in self.factories)

    def shut(self) -> None:
        """Refuse connections and new streams, for a while."""
        self._listeners.shut()

    async def reopen(self) -> None:
        """
        Accept them again.

        @raise StepError: a listener cannot be opened.
        """
        await self._listeners.reopen()

    def close(self) -> Deferred[Any]:
        """Accept no more; fires when the ports are free."""
        return self._listeners.close()
