"""
Step 8, once more: does the server show a certificate that fits when it is asked for by
another name (SNI, RFC 6066 3)?

A server for many names chooses its certificate by the name that it is asked for.  That
is the server's own, its FQDN; some are set up to show the right certificate for the
XMPP domain alone, and then it helps to know.
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
    """The same judgement under another name, if a failure is one that this could explain."""
    is_of_names = error.step is Step.IDENTITY or error.fault == faults.TLS_NAME_UNKNOWN.name
    if verification is None or not is_of_names:
        return None
    return verification.under_domain()


@implementer(IHandshakeListener)
@define(eq=False)
class _Handshake(Protocol):
    """
    Shakes hands and leaves.

    @ivar over: Fires with whether the certificate was found good.
    """

    verification: ServerVerification
    over: Deferred[bool] = field(factory=Deferred)

    def connectionMade(self) -> None:
        """TLS from the first byte."""
        transport: Any = self.transport
        transport.startTLS(self.verification)

    def handshakeCompleted(self) -> None:
        """It would have been believed."""
        self._finish(True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It would not, or TLS did not come about."""
        self._finish(False)

    def _finish(self, fits: bool) -> None:
        if not self.over.called:
            self.over.callback(fits)


async def fits_under(
    reactor: Any, verification: ServerVerification, address: str, port: int, timeout: float
) -> bool:
    """
    Shake hands once, and say nothing else.

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
    """The failure, with what helps."""
    seen = {
        **error.evidence,
        "host": verification.host,
        "other": verification.sni,
        "refused": error.cause,
        "names": ", ".join(verification.facts.names) if verification.facts else "",
    }
    return faults.IDENTITY_OTHER_SNI.error(**seen)
