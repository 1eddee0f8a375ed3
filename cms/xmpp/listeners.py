"""The listeners of the XMPP server; if one cannot be opened, the daemon does not start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol

from cms.process.endpoints import open_listener, plain_host, show_address
from cms.process.endpointstrings import read_endpoint
from cms.process.listening import Listening
from cms.process.logs import Logger
from cms.process.proxy import Network
from cms.protection.connections import Admitted, ConnectionLimiter, Limits
from cms.protection.sources import LOCAL
from cms.xmlstream.keepalive import send_at_once, watch_socket
from cms.xmlstream.stream import XMLStream
from cms.xmlstream.traffic import Traffic


class StreamFactory(Factory):
    """
    Makes the streams of one listener, within bounds.

    @ivar kind: Its key in the configuration.
    @ivar limiter: Limits the connections.
    @ivar carried: The traffic of its streams that have ended.
    @param make: Makes a stream.
    """

    noisy = False

    def __init__(
        self,
        make: Callable[[], XMLStream],
        limits: Limits,
        clock: Callable[[], float],
        *,
        kind: str = "",
    ) -> None:
        self.make = make
        self.kind = kind
        self.limiter = ConnectionLimiter(limits, clock, kind)
        self.carried = Traffic()
        self.streams: set[XMLStream] = set()

    @property
    def turned_away(self) -> int:
        """How many connections were closed because the listener was full."""
        return self.limiter.refused + self.limiter.dropped

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A stream for a connection, C{None} (which closes it) beyond the bounds."""
        host = plain_host(str(getattr(addr, "host", LOCAL)))
        admitted = self.limiter.admit(host)
        if admitted is None:
            return None
        return self.open(admitted)

    def open(self, admitted: Admitted) -> XMLStream:
        """A stream for a connection within bounds."""
        stream = self.make()
        admitted.drop = stream.abort
        stream.factory = self
        stream.on_trusted = admitted.trust
        stream.on_waiting = admitted.set_waiting
        self.streams.add(stream)

        def forget(_: None) -> None:
            admitted.leave()
            self.streams.discard(stream)
            self.carried.add(stream)

        stream.ended.addCallback(forget)
        return stream


class Listeners:
    """
    Opens the listeners of a server.

    @param file: The configuration file, for messages.
    @param proxies: See L{open_listener}.
    """

    log = Logger()

    def __init__(self, reactor: Any, file: object, proxies: Sequence[Network] = ()) -> None:
        self._reactor = reactor
        self._file = file
        self._proxies = proxies
        self._listening = Listening()
        self.factories: list[StreamFactory] = []

    def open(
        self, descriptions: Sequence[str], factory: StreamFactory, *, user_timeout: float = 0.0
    ) -> None:
        """
        Open the listeners of one key of the configuration.

        @param user_timeout: Seconds that sent data may stay unacknowledged; 0: TCP watches
            over none of its connections.
        @raise ConfigurationError: an endpoint cannot be read, or bound.
        """
        for description in descriptions:
            said = read_endpoint(f"listen.{factory.kind}", description, self._file)
            listen = partial(self._listen, description, factory, user_timeout)
            self._listening.open(listen, factory.limiter, kind=said.kind)
        if descriptions:
            self.factories.append(factory)

    def _listen(
        self, description: str, factory: StreamFactory, user_timeout: float
    ) -> list[IListeningPort]:
        kind = factory.kind
        opened = open_listener(
            *(self._reactor, self._file, f"listen.{kind}", description, factory),
            proxies=self._proxies,
        )
        for port in opened:  # Linux: what is accepted inherits what they are told
            send_at_once(port)
            if user_timeout:
                watch_socket(port, user_timeout)
            self.log.info(
                "{kind} listener ready on {at}", kind=kind, at=show_address(port.getHost())
            )
        return opened

    def shut(self) -> None:
        """Refuse connections, for a while."""
        self._listening.shut()

    async def reopen(self) -> None:
        """
        Accept them again.

        @raise StepError: a listener cannot be opened.
        """
        await self._listening.reopen()

    def close(self) -> Deferred[Any]:
        """Accept no more connections."""
        return self._listening.close()
