"""What the door needs of the XMPP server behind it."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from cms.linkprotocol import join
from cms.protection.connections import Admitted
from cms.signalflow import StepError


@frozen
class Unserved:
    """Nobody could decide, through no fault of the guest."""

    fault: StepError


Outcome = join.Admitted | join.Refused | join.Over | join.Slowed | Unserved


class Guests(Protocol):
    """The XMPP server, as far as guests are concerned."""

    def admit(self, wish: join.Admit) -> Deferred[Outcome]:
        """Have somebody admitted; does not fail."""
        ...


class Server(Guests, Protocol):
    """The XMPP server."""

    @property
    def is_shut(self) -> bool:
        """Whether it takes no new streams, for a while."""
        ...

    def open_stream(self, connection: Admitted) -> IProtocol:
        """
        What speaks over a connection that has become a WebSocket.

        @param connection: How the listener knows it.
        """
        ...
