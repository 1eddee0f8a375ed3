"""A TCP port that several processes listen on (C{SO_REUSEPORT}); the kernel spreads what comes."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from cms.process.endpointstrings import Endpoint


@implementer(IStreamServerEndpoint)
class SharedPortEndpoint:
    """
    Listens where other processes of the same user listen so too.

    Twisted's own ports cannot be told to.
    """

    def __init__(self, reactor: Any, endpoint: Endpoint) -> None:
        self._reactor = reactor
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """From Twisted."""
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> Any:
        asked = self._endpoint
        is_ipv6 = asked.kind == "tcp6" or ":" in asked.host
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        try:
            found = socket.getaddrinfo(
                asked.host or None, asked.port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            with socket.socket(family, socket.SOCK_STREAM) as shared:
                shared.setblocking(False)
                shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                shared.bind(found[0][4])
                shared.listen(asked.backlog)
                return self._reactor.adoptStreamPort(shared.fileno(), family, factory)
        except OSError as problem:
            raise CannotListenError(asked.host, asked.port, problem) from None


def takes_both(port: IListeningPort) -> bool:
    """Whether an open port takes IPv4 and IPv6."""
    opened: socket.socket = port.socket  # type: ignore[attr-defined]
    if opened.family != socket.AF_INET6:
        return False
    return not opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
