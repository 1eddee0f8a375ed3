"""What the door needs of the XMPP server behind it."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IProtocol

from cms.protection.connections import Admitted


class Server(Protocol):
    """The XMPP server."""

    def open_stream(self, connection: Admitted) -> IProtocol:
        """
        What speaks over a connection that has become a WebSocket.

        @param connection: How the listener knows it.
        """
        ...
