"""Steps 7 and 8 on the Callbridge: verifying the XMPP server's certificate."""

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

    The certificate is judged within the handshake.  So no XMPP is exchanged with a
    server that is refused.

    @param context: From L{PEMFiles.context<cms.trust.files.PEMFiles.context>}.
    @param domain: The XMPP domain, in A-labels.
    @param host: The FQDN that was connected to, or the IP address.
    @param trusted: See L{Verdict}.
    @param sni: The name to ask for; the host, if it is one, unless given.
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
        trusted: Sequence[x509.Certificate] = (),
        sni: str = "",
    ) -> None:
        self._context = context
        self._domain = domain
        self._host_is_ip = host_is_ip
        self._peer = peer
        self._trusted = trusted
        self.host = host
        self.sni = sni or ("" if host_is_ip else host)

        def check_leaf(certificate: x509.Certificate) -> None:
            check_identity(certificate, domain=domain, host=host, host_is_ip=host_is_ip, peer=peer)

        self.verdict = Verdict(peer, check_leaf, trusted)

    @property
    def facts(self) -> CertificateFacts | None:
        """Of the server's certificate, once it was seen."""
        return self.verdict.facts

    def under_domain(self) -> ServerVerification | None:
        """The same, but asking for the XMPP domain; C{None} if that is no other name."""
        if self.sni == self._domain:
            return None
        return ServerVerification(
            self._context,
            domain=self._domain,
            host=self.host,
            host_is_ip=self._host_is_ip,
            peer=self._peer,
            trusted=self._trusted,
            sni=self._domain,
        )

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """From Twisted, for C{startTLS}."""
        connection = SSL.Connection(self._context, None)
        connection.set_verify(SSL.VERIFY_PEER, self.verdict.callback)
        if self.sni:
            connection.set_tlsext_host_name(self.sni.encode("ascii"))
        return connection
