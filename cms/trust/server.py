"""Step 7 on the XMPP server: its own certificate, and the Callbridge's."""

from __future__ import annotations

from typing import Any, Literal

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from cms.trust.files import PEMFiles
from cms.trust.verdict import Verdict

PeerCertificates = Literal["required", "optional", "off"]


class ServerTrust:
    """
    What the TLS connections of a listener share.

    @param peers: Whether the peer is asked for a certificate.  If it presents one, that
        must be good, even if it is optional.
    @param alpn: The protocol to choose when the peer offers any (RFC 7301); a
        peer that offers others only is refused.
    """

    def __init__(
        self, files: PEMFiles, *, peers: PeerCertificates = "off", alpn: bytes | None = None
    ) -> None:
        self._files = files
        self._peers = peers
        self._alpn = alpn
        self._context = self._make_context()

    def reload(self) -> None:
        """
        Read the files again; connections that are up keep what they have.

        @raise ConfigurationError: the new files are wrong; the old stay.
        """
        self._context = self._make_context()

    @property
    def expires(self) -> float | None:
        """When our own certificate expires, in seconds since the epoch."""
        return self._files.expires

    def _make_context(self) -> SSL.Context:
        context = self._files.context()
        # No resumption: a resumed session would skip the look at the peer's
        # certificate, and links live too long to gain from it.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        if self._alpn is not None:
            context.set_alpn_select_callback(self._choose)
        return context

    def _choose(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        if self._alpn in offered:
            return self._alpn
        # Raised within OpenSSL's callback, this is the alert no_application_protocol
        # (RFC 7301 3.2): another protocol must not reach this listener.
        raise SSL.Error([("ALPN", "", "no protocol of ours was offered")])

    def for_peer(self, peer: str) -> PeerVerification:
        """Makes the TLS connection of one peer, and judges the peer's certificate."""
        return PeerVerification(self, Verdict(peer, trusted=self._files.trusted, role="client"))

    def connection(self, verdict: Verdict) -> SSL.Connection:
        """A connection whose peer is judged by C{verdict}, if it is at all."""
        connection = SSL.Connection(self._context, None)
        if self._peers != "off":
            mode = SSL.VERIFY_PEER
            if self._peers == "required":
                mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            connection.set_verify(mode, verdict.callback)
        return connection


@implementer(IOpenSSLServerConnectionCreator)
@frozen
class PeerVerification:
    """
    The TLS of one connection that a listener has accepted.

    @ivar verdict: Its C{error} tells why the peer's certificate was refused.
    """

    _trust: ServerTrust
    verdict: Verdict

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """From Twisted, for C{startTLS}."""
        return self._trust.connection(self.verdict)
