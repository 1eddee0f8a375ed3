"""Steps 7 and 8 from the Callbridge's side: believing the XMPP server, or saying why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from cms.trust.facts import CertificateFacts
from cms.trust.identity import check_identity
from cms.trust.verdict import Verdict


@implementer(IOpenSSLClientConnectionCreator)
class ServerVerification:
    """
    Makes the TLS connection of one attempt and judges the server's certificate.

    The handshake does not complete before the certificate has been judged, so
    no byte of XMPP is sent to, or believed from, a server that is refused.

    @param context: From L{PEMFiles.context<cms.trust.files.PEMFiles.context>}.
    @param domain: The XMPP domain, in A-labels.
    @param host: The FQDN that was connected to, or the IP address.
    @param trusted: See L{Verdict}.
    @ivar verdict: Its C{error} tells why the certificate was refused.
    """

    def __init__(
        self,
        context: SSL.Context,
        *,
        domain: str,
        host: str,
        host_is_ip: bool,
        peer: str,
        trusted: Sequence[x509.Name] = (),
    ) -> None:
        self._context = context
        self._host = host
        self._host_is_ip = host_is_ip

        def check_leaf(certificate: x509.Certificate) -> None:
            check_identity(certificate, domain=domain, host=host, host_is_ip=host_is_ip, peer=peer)

        self.verdict = Verdict(peer, check_leaf, trusted)

    @property
    def facts(self) -> CertificateFacts | None:
        """Of the server's certificate, once it was seen."""
        return self.verdict.facts

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """From Twisted, for C{startTLS}."""
        connection = SSL.Connection(self._context, None)
        connection.set_verify(SSL.VERIFY_PEER, self.verdict.callback)
        if not self._host_is_ip:
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection
