"""A server's certificate as a browser judges it: by the name in the address alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from cms import faults
from cms.trust.facts import CertificateFacts
from cms.trust.verdict import Verdict


@implementer(IOpenSSLClientConnectionCreator)
class BrowserVerification:
    """
    Makes one TLS connection of a browser, and judges the certificate within the handshake.

    @param context: From L{PEMFiles.context<cms.trust.files.PEMFiles.context>}.
    @param host: The host of the address, in A-labels or as IP address.
    @param trusted: See L{Verdict}.
    @param other_name: The fault of a certificate that does not name the host.
    @ivar verdict: Its C{error} tells why the certificate was refused.
    """

    def __init__(
        self,
        context: SSL.Context,
        *,
        host: str,
        host_is_ip: bool,
        peer: str,
        other_name: faults.Fault,
        trusted: Sequence[x509.Certificate] = (),
    ) -> None:
        self._context = context
        self._host = host
        self._host_is_ip = host_is_ip
        self._peer = peer
        self._other_name = other_name
        self.verdict = Verdict(peer, self._check_name, trusted)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """From Twisted."""
        connection = SSL.Connection(self._context, None)
        connection.set_verify(SSL.VERIFY_PEER, self.verdict.callback)
        if not self._host_is_ip:
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection

    def _check_name(self, certificate: x509.Certificate) -> None:
        wanted: ServiceID = IPAddress_ID(self._host) if self._host_is_ip else DNS_ID(self._host)
        patterns = extract_patterns(certificate)
        try:
            verify_service_identity(patterns, [wanted], optional_ids=[])
        except (CertificateError, VerificationError):
            names = ", ".join(CertificateFacts.of(certificate).names) or "nothing"
            kind = "IP" if self._host_is_ip else "DNS"
            raise self._other_name.error(
                peer=self._peer, host=self._host, names=names, san=f"{kind}:{self._host}"
            ) from None
