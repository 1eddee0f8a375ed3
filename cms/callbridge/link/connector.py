"""Step 6 for the link: a stream to whichever address of a target answers first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from cms.audit.owncertificate import audit_certificate
from cms.callbridge.config import LinkSettings, Timing
from cms.callbridge.link.managedstream import Registrant
from cms.callbridge.link.registration import ComponentRegistration
from cms.callbridge.link.servername import fits_under
from cms.discovery.lookup import Target
from cms.discovery.race import Race
from cms.signalflow import StepError
from cms.trust.client import ServerVerification
from cms.trust.files import PEMFiles


def verification_for(
    settings: LinkSettings, target: Target, context: SSL.Context, files: PEMFiles
) -> ServerVerification | None:
    """
    What the certificate of a target has to fit; C{None}: there is no TLS.

    @param context: Made of the files.
    """
    if settings.unprotected:
        return None
    return ServerVerification(
        context,
        domain=settings.ascii_domain,
        host=target.host,
        host_is_ip=target.is_ip,
        peer=str(target),
        trusted=files.trusted,
    )


class TCPConnector:
    """
    Makes the stream of each attempt.

    @param files: The C{[tls]} files; the context made of them is kept until
        L{reload}.
    """

    def __init__(self, reactor: Any, timing: Timing, files: PEMFiles) -> None:
        self._reactor = reactor
        self._timing = timing
        self._files = files
        self._context: SSL.Context = files.context()

    @property
    def expires(self) -> float | None:
        """When our own certificate expires, in seconds since the epoch."""
        return self._files.expires

    def judge(self, now: datetime, *, serves: bool) -> list[StepError]:
        """
        What is wrong with our certificate, or with the CAs that we trust.

        @param serves: Whether the API uses it as a server's certificate, too.
        """
        found = audit_certificate(self._files, now, serves=serves)
        return [finding.problem for finding in found if finding.problem is not None]

    def reload(self) -> None:
        """
        Read the files again; a link that is up keeps what it has.

        @raise ConfigurationError: the new files are wrong; the old stay.
        """
        self._context = self._files.context()

    def _look(self, verification: ServerVerification, address: str, port: int) -> Deferred[bool]:
        timeout = self._timing.stage
        looking = fits_under(self._reactor, verification, address, port, timeout)
        return Deferred.fromCoroutine(looking)

    def connect(
        self,
        registrant: Registrant,
        settings: LinkSettings,
        target: Target,
        addresses: tuple[str, ...],
        last: tuple[str, ...],
    ) -> Deferred[tuple[ComponentRegistration, str]]:
        """See L{cms.callbridge.link.core.Connector}."""

        def make_stream() -> Protocol:
            verification = verification_for(settings, target, self._context, self._files)
            return ComponentRegistration(
                self._reactor,
                settings,
                self._timing,
                verification,
                registrant,
                peer=str(target),
                presents=self._files.certificate is not None,
                look=self._look,
            )

        race = Race(
            self._reactor,
            make_stream,
            addresses,
            target.port,
            timeout=self._timing.stage,
            last=last,
        )
        return race.run()  # type: ignore[return-value]
