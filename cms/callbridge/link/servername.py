"""
Step 8 again with another name (SNI, RFC 6066 3): does the server have a certificate that
fits?

A server with many names chooses its certificate by the name it is asked for.  We ask for
its FQDN.  Some servers show the right certificate only for the XMPP domain, and the error
should say so.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from cms import faults
from cms.discovery.race import Race
from cms.signalflow import Step, StepError
from cms.trust.client import ServerVerification


def other_name(
    error: StepError, verification: ServerVerification | None
) -> ServerVerification | None:
    """The verification under another name, if it could explain the failure."""
    is_of_names = error.step is Step.IDENTITY or error.fault == faults.TLS_NAME_UNKNOWN.name
    if verification is None or not is_of_names:
        return None
    return verification.under_domain()


@implementer(IHandshakeListener)
@define(eq=False)
class _Handshake(Protocol):
    """
    Makes a TLS handshake and disconnects.

    @ivar over: Fires with whether the certificate was accepted.
    """

    verification: ServerVerification
    over: Deferred[bool] = field(factory=Deferred)

    def connectionMade(self) -> None:
        """TLS from the first byte."""
        transport: Any = self.transport
        transport.startTLS(self.verification)

    def handshakeCompleted(self) -> None:
        """The certificate was accepted."""
        self._finish(True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It was refused, or the handshake failed."""
        self._finish(False)

    def _finish(self, fits: bool) -> None:
        if not self.over.called:
            self.over.callback(fits)


async def fits_under(
    reactor: Any, verification: ServerVerification, address: str, port: int, timeout: float
) -> bool:
    """
    Make one TLS handshake and send nothing else.

    @param timeout: Seconds for the connection, and as many for the handshake.
    """
    protocol = _Handshake(verification)
    try:
        await Race(reactor, lambda: protocol, [address], port, timeout=timeout).run()
        return await protocol.over.addTimeout(timeout, reactor)
    except (StepError, DeferredTimeout):
        return False
    finally:
        transport: Any = protocol.transport
        if transport is not None:
            transport.abortConnection()


def explain_other_name(error: StepError, verification: ServerVerification) -> StepError:
    """The failure, with the other name that would help."""
    seen = {
        **error.evidence,
        "host": verification.host,
        "other": verification.sni,
        "refused": error.cause,
        "names": ", ".join(verification.facts.names) if verification.facts else "",
    }
    return faults.IDENTITY_OTHER_SNI.error(**seen)
