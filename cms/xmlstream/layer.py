"""
TLS on a connection that is up: Twisted's C{startTLS} without what a stream does not need.

Twisted's layer delivers record by record, holds small writes back for a turn of the
reactor to gather them, and gives every connection interfaces of its own.  An XML
stream gathers what it writes itself, and reads the better the more it is given at
once.  docs/performance.md has what each of these costs.
"""

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL
from twisted.internet._newtls import _BypassTLS
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

READ_BYTES = 32_768  # a record has half of that at most (RFC 8446 5.1)


class Layer(TLSMemoryBIOProtocol):
    """TLS between a connection and its stream."""

    def makeConnection(self, transport: Any) -> None:
        """Begin the handshake; the stream is connected already."""
        self._appSendBuffer = []
        self.connected = 1
        self.transport = transport
        self._checkHandshakeStatus()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, and what held its parts together goes."""
        super().connectionLost(reason)
        self.transport = None

    def _flushReceiveBIO(self) -> None:
        """Deliver all that has come together, and then its end if that came with it."""
        pieces: list[bytes] = []
        receive = self._tlsConnection.recv
        end: SSL.Error | None = None
        try:
            while True:
                pieces.append(receive(READ_BYTES))
        except SSL.WantReadError:
            pass
        except SSL.Error as problem:
            end = problem.with_traceback(None)  # whose frame is this one, and holds it
        if pieces and not self._aborted:
            ProtocolWrapper.dataReceived(self, b"".join(pieces))
        if self._lostTLSConnection:
            return
        if isinstance(end, SSL.ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        elif end is not None:
            self._tlsShutdownFinished(Failure(end))
        self._flushSendBIO()


class _Factory:
    """Of no layer in particular; Twisted's keeps a list of them."""

    def unregisterProtocol(self, protocol: Layer) -> None:
        """Nothing was registered."""


_factory = cast("Any", _Factory())


def start_tls(transport: Any, creator: Any) -> None:
    """
    Start TLS on a connection, in the direction in which it was made.

    @param creator: Makes the TLS connection, see C{ITLSTransport.startTLS}.
    """
    if not isinstance(transport, Connection):
        transport.startTLS(creator)
        return
    producer, streaming = transport.producer, transport.streamingProducer
    if producer is not None:
        transport.unregisterProducer()
    below: Any = transport
    layer = Layer(_factory, below.protocol, False)
    if below._tlsClientDefault:
        connection = creator.clientConnectionForTLS(layer)
        connection.set_connect_state()
    else:
        connection = creator.serverConnectionForTLS(layer)
        connection.set_accept_state()
    layer._tlsConnection = connection
    below.protocol, below.TLS = layer, True
    below.getHandle, below.getPeerCertificate = layer.getHandle, layer.getPeerCertificate
    layer.makeConnection(_BypassTLS(FileDescriptor, below))
    if producer is not None:
        below.registerProducer(producer, streaming)
