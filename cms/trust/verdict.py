"""
The fail-closed verify callback that both sides use (steps 7 and 8).

Twisted's own identity check accepts a certificate without a subjectAltName, or with
an unreadable one, and only logs a line.  So this module has its own callback, set on
the connection.  Any exception inside it refuses the peer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509
from OpenSSL import SSL, crypto

from cms import faults
from cms.signalflow import StepError
from cms.trust.facts import CertificateFacts
from cms.trust.refusals import Presented, Refusal, Role


class Verdict:
    """
    The verdict on the peer's certificate.

    @param trusted: The CAs of C{tls.trust}, if they are known: the fault reported can
        depend on them.
    @param role: Whether the peer is server or client.
    @ivar error: Why it was refused.
    @ivar facts: Of the leaf, as soon as it was seen.
    @ivar chain: What the peer sent, leaf first, also when it was refused.
    @ivar path: The path that OpenSSL built, leaf first; once the certificate is accepted,
        the path that verifies it.
    @ivar agreed: Protocol and cipher, as soon as the chain was seen.
    """

    def __init__(
        self,
        peer: str,
        check_leaf: Callable[[x509.Certificate], None] | None = None,
        trusted: Sequence[x509.Certificate] = (),
        role: Role = "server",
    ) -> None:
        self._peer = peer
        self._check_leaf = check_leaf
        self._trusted = trusted
        self._role = role
        self.error: StepError | None = None
        self.facts: CertificateFacts | None = None
        self.chain: tuple[x509.Certificate, ...] = ()
        self.path: tuple[x509.Certificate, ...] = ()
        self.agreed: dict[str, str] = {}

    def callback(
        self, connection: SSL.Connection, cert: crypto.X509, number: int, depth: int, ok: int
    ) -> bool:
        """From OpenSSL, for each certificate of the chain, the leaf last."""
        try:
            if not self.chain:
                sent = connection.get_peer_cert_chain(as_cryptography=True)
                self.chain = tuple(sent or ())
                self.agreed = {
                    "protocol": connection.get_protocol_version_name(),
                    "cipher": connection.get_cipher_name() or "none",
                }
            return self._judge(cert.to_cryptography(), number, depth, bool(ok))
        except StepError as error:
            self.error = self.error or error
            return False
        except Exception as problem:  # noqa: BLE001 - whatever it is, it must not let the peer in
            self.error = self.error or faults.IDENTITY_MALFORMED.error(
                peer=self._peer, problem=type(problem).__name__, wanted="names that can be read"
            )
            return False

    def _judge(self, certificate: x509.Certificate, number: int, depth: int, ok: bool) -> bool:
        facts = CertificateFacts.of(certificate)
        if depth == 0:
            self.facts = facts
        if not ok:
            self.error = self.error or self._explain(Refusal(number, depth, certificate))
            return False
        self.path = (certificate, *self.path)  # from the root down, each depth once
        if depth == 0 and self._check_leaf is not None:
            self._check_leaf(certificate)
        return self.error is None

    def _explain(self, refusal: Refusal) -> StepError:
        chain = self.chain
        if refusal.depth == 0 and refusal.certificate not in chain:
            chain = (refusal.certificate, *chain)  # a server gets what comes after it
        return Presented(self._peer, chain, self._role, self._trusted).explain(refusal)
