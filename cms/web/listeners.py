"""The HTTP listeners of a daemon, with limits on connections and on the thread's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from cms.process import openfiles
from cms.process.endpoints import open_listener, show_address
from cms.process.endpointstrings import read_endpoint
from cms.process.listening import Listening
from cms.process.logs import Logger
from cms.process.proxy import Network
from cms.protection.connections import ConnectionLimiter, Limits
from cms.trust.server import ServerTrust
from cms.web.forwarded import Forwarded, Forwarding
from cms.web.pace import Pace, PacedFactory
from cms.web.root import Root
from cms.web.site import LimitedSite


class HTTPListeners:
    """
    Opens listeners that share one pace (L{cms.web.pace}).

    @param file: The configuration file, for messages.
    @param proxies: See L{open_listener}.
    @param forwarded_for: Whether those proxies say in a header who their clients are.
    @param timer: A fine clock, for measuring work.
    @param busy: How long the reactor's thread has worked.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        file: object,
        proxies: Sequence[Network] = (),
        *,
        forwarded_for: bool = False,
        timer: Callable[[], float] = time.perf_counter,
        busy: Callable[[], float] = time.thread_time,
    ) -> None:
        self._reactor = reactor
        self._file = file
        self._proxies = proxies
        self._forwarding = Forwarding(forwarded_for, tuple(proxies))
        self._pace = Pace(reactor, timer, busy)
        self._listening = Listening()

    def open(
        self,
        kind: str,
        descriptions: Sequence[str],
        root: Root,
        most: int,
        trust: ServerTrust | None = None,
    ) -> None:
        """
        Open the listeners of one key of the configuration.

        @param kind: The key below C{listen}.
        @param most: Connections at a time, to each of them.
        @param trust: Whose key and certificate they show; without, they speak no TLS.
        @raise ConfigurationError: one cannot be read, or bound.
        """
        # Half of the connections are for authenticated peers.  One address may have half of the
        # others, because a browser opens six and a page with live updates keeps one.
        most = openfiles.connections_each(most, 8)
        limits = Limits.of(most, max(1, most // 2), max(1, most // 4))
        limiter = ConnectionLimiter(limits, self._reactor.seconds, kind)
        self.open_within(limiter, descriptions, root, trust)

    def open_within(
        self,
        limiter: ConnectionLimiter,
        descriptions: Sequence[str],
        root: Root,
        trust: ServerTrust | None = None,
    ) -> None:
        """
        Open the listeners of one key, with limits that the caller has.

        @raise ConfigurationError: see L{open}.
        """
        kind, key = limiter.kind, f"listen.{limiter.kind}"
        for description in descriptions:
            said, forwarded = read_endpoint(key, description, self._file), None
            if not said.is_proxied:
                forwarded = Forwarded(key, self._forwarding, self._reactor.seconds)
            factory = self.factory(root, limiter, trust, forwarded)
            listen = partial(self._listen, kind, description, factory)
            self._pace.ports.extend(self._listening.open(listen, limiter, kind=said.kind))

    def _listen(
        self, kind: str, description: str, factory: IProtocolFactory
    ) -> list[IListeningPort]:
        key = f"listen.{kind}"
        opened = open_listener(
            self._reactor, self._file, key, description, factory, proxies=self._proxies
        )
        for port in opened:
            self.log.info(
                "{kind} listener ready on {at}", kind=kind, at=show_address(port.getHost())
            )
        return opened

    def factory(
        self,
        root: Root,
        limiter: ConnectionLimiter,
        trust: ServerTrust | None = None,
        forwarded: Forwarded | None = None,
    ) -> IProtocolFactory:
        """
        The factory for a listener that the caller opens.

        @param forwarded: Finds the clients of proxies.
        """
        served: IProtocolFactory = LimitedSite(root, self._reactor, forwarded)
        if trust is not None:
            creator = trust.for_peer(limiter.kind)  # it takes what the last reload read
            served = TLSMemoryBIOFactory(creator, False, served, self._reactor)
        return PacedFactory(served, self._pace, limiter)

    def shut(self) -> None:
        """Refuse connections, for a while; those that are open stay."""
        for port in self._listening.shut():
            self._pace.ports.remove(port)

    async def reopen(self) -> None:
        """
        Accept them again.

        @raise StepError: a listener cannot be opened.
        """
        self._pace.ports.extend(await self._listening.reopen())

    def close(self) -> Deferred[Any]:
        """Accept no more requests; fires when the ports are free."""
        self._pace.stop()
        return self._listening.close()
