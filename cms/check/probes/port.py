"""What really listens on a port where the TLS handshake failed (step 7)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from attrs import define, field
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from cms import faults
from cms.discovery.race import Race
from cms.signalflow import StepError
from cms.xmlstream import ns
from cms.xmlstream.wrongpeer import server_without_tls

MOST_SECONDS = 2.0  # that an answer to a plain stream header may take
MOST_BYTES = 4096

Place = tuple[str, int]
"""An address and a port."""

_UNCLEAR = {faults.TLS_NOT_SPOKEN.name, faults.TLS_CLOSED.name, faults.TLS_SILENT.name}
# A client's stream header, to which a port without TLS may answer.
_PLAIN_HEADER = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client'"
    f" xmlns:stream='{ns.STREAMS}' to='{{domain}}' version='1.0'>"
)


@define(eq=False)
class _Listen(Protocol):
    """
    Sends one text and receives.

    @ivar over: Fires when the peer has closed the connection, or has sent enough.
    """

    say: bytes
    until: bytes
    heard: bytes = b""
    ended: Failure | None = None
    over: Deferred[None] = field(factory=Deferred)

    def connectionMade(self) -> None:
        """Send it."""
        if self.transport is not None:
            self.transport.write(self.say)

    def dataReceived(self, data: bytes) -> None:
        """Receive, within bounds."""
        self.heard = (self.heard + data)[:MOST_BYTES]
        if self.until in self.heard or len(self.heard) == MOST_BYTES:
            self._finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It ended."""
        self.ended = reason
        self._finish()

    def _finish(self) -> None:
        if not self.over.called:
            self.over.callback(None)


async def _listen(
    reactor: Any, place: Place, say: bytes, until: bytes, seconds: float = MOST_SECONDS
) -> _Listen:
    address, port = place
    protocol = _Listen(say, until)
    race = Race(reactor, lambda: protocol, [address], port, timeout=seconds)
    await race.run()
    waiting = protocol.over
    timer = reactor.callLater(seconds, protocol._finish)
    await waiting
    if timer.active():
        timer.cancel()
    transport: Any = protocol.transport
    transport.abortConnection()
    return protocol


async def hears(reactor: Any, place: Place, say: bytes, until: bytes, seconds: float) -> bytes:
    """
    What a port answers to these bytes, nothing included; of a long answer the beginning.

    @param until: What ends the wait when it has come.
    """
    try:
        seconds = min(seconds, MOST_SECONDS)
        return (await _listen(reactor, place, say, until, seconds)).heard
    except StepError:
        return b""  # it does not answer any more


def client_hello() -> bytes:
    """The first bytes of a TLS client."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


async def what_listens(
    reactor: Any, error: StepError, *, address: str, port: int, domain: str, peer: str
) -> StepError:
    """
    A more precise failure than a failed handshake, if the port's answer tells one.

    @param error: The failure as the Callbridge would report it.
    @return: A more precise entry, or C{error} with more evidence.
    """
    if error.fault not in _UNCLEAR:
        return error
    header = _PLAIN_HEADER.format(domain=domain).encode()
    try:
        plain = await _listen(reactor, (address, port), header, b"<stream:features")
        if plain.heard:
            return server_without_tls(plain.heard, peer=peer) or error
        if error.fault != faults.TLS_CLOSED.name:
            return error
        hello = await _listen(reactor, (address, port), client_hello(), b"\x16\x03")
    except StepError:
        return error  # it does not answer any more
    if hello.ended is not None and not hello.ended.check(ConnectionDone) and not hello.heard:
        return faults.TLS_RESET.error(peer=peer, problem="reset after the ClientHello", port=port)
    return error
