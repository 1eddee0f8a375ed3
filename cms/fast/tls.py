"""
TLS on a connection that is up: a faster C{startTLS} for XML streams (docs/design/tls.md).

Twisted's layer delivers record by record, delays small writes for a turn of the reactor
to join them, and computes interfaces for each connection.  pyOpenSSL allocates a buffer
for each call and raises an exception when there is nothing more to read.  An XML stream
joins its writes itself, and reads faster in larger pieces.

Handshake, end and errors are Twisted's and pyOpenSSL's own.  If their private parts have
changed, everything is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from cms.fast.needs import Need, find, lacking

_CONNECTION = "twisted.internet.tcp:Connection"
_LAYER = "twisted.protocols.tls:TLSMemoryBIOProtocol"
_LIB = "OpenSSL._util:lib"
_SSL = "OpenSSL.SSL:Connection"
NEEDS = (
    Need("twisted.internet._newtls:_BypassTLS", "__init__", "self, base, connection"),
    Need("twisted.internet._newtls:ClientMixin", "_tlsClientDefault"),
    Need("twisted.internet._newtls:ServerMixin", "_tlsClientDefault"),
    Need("twisted.internet.abstract:FileDescriptor", "write", "self, data"),
    Need("twisted.protocols.policies:ProtocolWrapper", "dataReceived", "self, data"),
    *(Need(_CONNECTION, name) for name in ("TLS", "producer", "protocol", "streamingProducer")),
    Need(_LAYER, "__init__", "self, factory, wrappedProtocol, _connectWrapped=..."),
    Need(_LAYER, "_bufferedWrite", "self, octets"),
    Need(_LAYER, "_checkHandshakeStatus", "self"),
    Need(_LAYER, "_flushReceiveBIO", "self"),
    Need(_LAYER, "_flushSendBIO", "self"),
    Need(_LAYER, "_shutdownTLS", "self"),
    Need(_LAYER, "_tlsShutdownFinished", "self, reason"),
    Need(_LAYER, "_unbufferPendingWrites", "self"),
    Need(_LAYER, "_write", "self, bytes"),
    Need(_LAYER, "_aborted"),
    Need(_LAYER, "_appSendBuffer"),
    Need(_LAYER, "_handshakeDone"),
    Need(_LAYER, "_lostTLSConnection"),
    Need(_LAYER, "_tlsConnection"),
    Need(_SSL, "_raise_ssl_error", "self, ssl, result"),
    Need(_SSL, "_from_ssl"),
    Need(_SSL, "_into_ssl"),
    Need(_SSL, "_ssl"),
    Need("OpenSSL._util", "ffi"),
    Need(_LIB, "BIO_read", "int(*)(BIO *, void *, int)"),
    Need(_LIB, "BIO_write", "int(*)(BIO *, void *, int)"),
    Need(_LIB, "SSL_get_error", "int(*)(SSL *, int)"),
    Need(_LIB, "SSL_read", "int(*)(SSL *, void *, int)"),
    Need(_LIB, "SSL_write", "int(*)(SSL *, void *, int)"),
    Need(_LIB, "SSL_ERROR_WANT_READ"),
)
_LOST = "TLS in and out is Twisted's own, record by record; what was said in its place is not shown"
ABSENT = lacking("Twisted", NEEDS, _LOST)

MOST_HEARD = 512  # bytes of a peer kept until the handshake is complete
RECORD = 16_384  # bytes of a full one (RFC 8446 5.1)
_SIZE = 2 * RECORD
if not ABSENT:
    ffi, lib = find("OpenSSL._util:ffi"), find(_LIB)
    _BypassTLS = find("twisted.internet._newtls:_BypassTLS")
    _buffer = ffi.new("char[]", _SIZE)  # of all layers: what is read into it is copied at once


class Layer(TLSMemoryBIOProtocol):
    """
    TLS between a connection and its stream.

    @ivar send: Writes encrypted bytes to the connection.
    @ivar heard: The peer's first bytes, until the handshake is complete.
    """

    send: Callable[[bytes], object]
    heard: bytes = b""

    def makeConnection(self, transport: Any) -> None:
        """Begin the handshake; the stream is connected already."""
        self._appSendBuffer = []
        self.connected = 1
        self.transport = transport
        self._checkHandshakeStatus()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: drop the references between its parts."""
        super().connectionLost(reason)
        self.transport = None
        del self.send

    def dataReceived(self, data: bytes) -> None:
        """From the connection."""
        lib.BIO_write(self._tlsConnection._into_ssl, ffi.from_buffer(data), len(data))
        if not self._handshakeDone:
            self.heard = (self.heard + data)[:MOST_HEARD]
            self._checkHandshakeStatus()
            if self._handshakeDone:
                self.heard = b""
        if self._handshakeDone:
            if self._appSendBuffer:
                self._unbufferPendingWrites()
            self._flushReceiveBIO()

    def _flushReceiveBIO(self) -> None:
        """Deliver all records that have arrived, and then the end if it has arrived too."""
        if self._lostTLSConnection:
            return
        connection = self._tlsConnection
        pieces: list[bytes] = []
        while (size := lib.SSL_read(connection._ssl, _buffer, _SIZE)) > 0:
            pieces.append(ffi.buffer(_buffer, size)[:])
        end: SSL.Error | None = None
        if lib.SSL_get_error(connection._ssl, size) != lib.SSL_ERROR_WANT_READ:
            try:
                connection._raise_ssl_error(connection._ssl, size)
            except SSL.Error as problem:
                end = problem.with_traceback(None)  # whose frame is this one, and holds it
        if pieces and not self._aborted:
            ProtocolWrapper.dataReceived(self, b"".join(pieces))
        if self._lostTLSConnection:
            return
        if isinstance(end, SSL.ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        elif end is not None and not isinstance(end, SSL.WantReadError):
            self._tlsShutdownFinished(Failure(end))
        self._flushSendBIO()

    def _write(self, data: bytes) -> None:
        """From the stream."""
        if self._lostTLSConnection:
            return
        connection, size, sent = self._tlsConnection, len(data), 0
        source = ffi.from_buffer(data)
        while sent < size:
            done = lib.SSL_write(connection._ssl, source + sent, min(size - sent, RECORD))
            if done <= 0:
                self._cannot_write(done, data[sent:])
                return
            sent += done
            self._flushSendBIO()

    def _cannot_write(self, result: int, rest: bytes) -> None:
        connection = self._tlsConnection
        try:
            connection._raise_ssl_error(connection._ssl, result)
        except SSL.WantReadError:
            self._bufferedWrite(rest)
        except SSL.Error as problem:
            self._tlsShutdownFinished(Failure(problem.with_traceback(None)))

    def _flushSendBIO(self) -> None:
        """Write what is encrypted to the connection."""
        size = lib.BIO_read(self._tlsConnection._from_ssl, _buffer, _SIZE)
        if size > 0:
            self.send(ffi.buffer(_buffer, size)[:])


class _Factory:
    """Stands for Twisted's factory, which keeps a list of its layers."""

    def unregisterProtocol(self, protocol: Layer) -> None:
        """Nothing was registered."""


_factory = cast("Any", _Factory())


def start_tls(transport: Any, creator: Any) -> Layer | None:
    """
    Start TLS on a connection, in the direction in which it was made.

    @param creator: Makes the TLS connection, see C{ITLSTransport.startTLS}.
    @return: The layer; C{None} for a transport that starts TLS in its own way, and
        where what a layer needs is not there.
    """
    if ABSENT or not isinstance(transport, Connection):
        transport.startTLS(creator)
        return None
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
    layer.send = partial(FileDescriptor.write, below)
    below.protocol, below.TLS = layer, True
    below.getHandle, below.getPeerCertificate = layer.getHandle, layer.getPeerCertificate
    layer.makeConnection(_BypassTLS(FileDescriptor, below))
    if producer is not None:
        below.registerProducer(producer, streaming)
    return layer
