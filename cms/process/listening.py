"""What a process listens on, which can be shut for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort

from cms.process.endpoints import close_ports
from cms.signalflow import StepError

Listen = Callable[[], list[IListeningPort]]


class Limiter(Protocol):
    """Admits the connections of a listener: L{cms.protection.connections.ConnectionLimiter}."""

    is_shut: bool


@define(eq=False)
class _Opened:
    """
    One endpoint string.

    @ivar listen: Opens it.
    @ivar limiter: Closes what comes to it meanwhile, if it stays open.
    @ivar is_own: Whether its sockets are this process's alone.
    @ivar ports: Of those that are open.
    """

    listen: Listen
    limiter: Limiter
    is_own: bool
    ports: list[IListeningPort]


@define(eq=False)
class Listening:
    """
    The endpoints that are open.

    A socket of systemd's, or a path, stays open: others hold it as well, or could not make it
    anew.
    """

    _opened: list[_Opened] = field(factory=list)
    _shutting: Deferred[Any] = field(factory=lambda: succeed(None))

    def open(self, listen: Listen, limiter: Limiter, *, kind: str) -> list[IListeningPort]:
        """
        Open an endpoint.

        @param kind: See L{Endpoint<cms.process.endpointstrings.Endpoint>}.
        """
        opened = _Opened(listen, limiter, kind.startswith("tcp"), listen())
        self._opened.append(opened)
        return opened.ports

    def shut(self) -> list[IListeningPort]:
        """
        Let the kernel refuse what comes: processes that share the port take it.

        @return: The ports that are closed.
        """
        closed: list[IListeningPort] = []
        for each in self._opened:
            each.limiter.is_shut = True
            if each.is_own:
                closed += each.ports
                each.ports = []
        self._shutting = close_ports(closed)
        return closed

    async def reopen(self) -> list[IListeningPort]:
        """
        Open again what was shut.

        @return: The ports that are open now.
        @raise StepError: one cannot be opened; the others are.
        """
        for each in self._opened:
            each.limiter.is_shut = False
        await self._shutting
        failed: StepError | None = None
        opened: list[IListeningPort] = []
        for each in self._opened:
            if not each.ports:
                try:
                    each.ports = each.listen()
                except StepError as error:
                    failed = error
                opened += each.ports
        if failed is not None:
            raise failed
        return opened

    def close(self) -> Deferred[Any]:
        """Close all, for good."""
        ports = [port for each in self._opened for port in each.ports]
        self._opened.clear()
        return close_ports(ports)
