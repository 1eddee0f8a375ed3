"""
The fail-closed verify callback that both sides use (steps 7 and 8).

Twisted's own identity check accepts a certificate that has no subjectAltName,
or an unreadable one, with a line in the log.  Here the callback is ours, it is
set on the connection, and whatever goes wrong inside it refuses the peer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509
from OpenSSL import SSL, crypto

from cms import errors
from cms.errors import Fault
from cms.signalflow import StepError
from cms.trust.chain import is_intermediate_of_ours
from cms.trust.facts import UNREADABLE, CertificateFacts, when

# OpenSSL's verify results, x509_vfy.h
_NOT_YET_VALID = 9
_EXPIRED = 10
_NO_ISSUER = (2, 20, 21)
_FAULTS = {
    _NOT_YET_VALID: errors.CERTIFICATE_NOT_YET_VALID,
    _EXPIRED: errors.CERTIFICATE_EXPIRED,
    18: errors.CERTIFICATE_SELF_SIGNED,
    26: errors.CERTIFICATE_USAGE_SERVER,
    66: errors.CERTIFICATE_WEAK,
    67: errors.CERTIFICATE_WEAK,
    68: errors.CERTIFICATE_WEAK,
}
_REASONS = {
    7: "its signature is wrong",
    19: "the chain ends in a self-signed certificate that is not trusted",
    20: "its issuer is not known here",
    21: "its issuer is not known here and no intermediate was sent",
    23: "it is revoked",
    24: "an issuer is no CA",
    66: "its key is too small",
    67: "the key of a CA above it is too small",
    68: "its hash is too weak",
}


class Verdict:
    """
    What became of the peer's certificate.

    @param trusted: The subjects of the CAs that are trusted, where they are
        known: a hint whether a certificate that is missing is an intermediate.
    @ivar error: Why it was refused.
    @ivar facts: Of the leaf, as soon as it was seen.
    @ivar chain: What the peer sent, leaf first, also when it was refused.
    @ivar agreed: Protocol and cipher, likewise.
    """

    def __init__(
        self,
        peer: str,
        check_leaf: Callable[[x509.Certificate], None] | None = None,
        trusted: Sequence[x509.Name] = (),
    ) -> None:
        self._peer = peer
        self._check_leaf = check_leaf
        self._trusted = trusted
        self.error: StepError | None = None
        self.facts: CertificateFacts | None = None
        self.chain: tuple[x509.Certificate, ...] = ()
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
            self.error = self.error or errors.IDENTITY_MALFORMED.error(
                peer=self._peer, problem=type(problem).__name__, wanted="names that can be read"
            )
            return False

    def _judge(self, certificate: x509.Certificate, number: int, depth: int, ok: bool) -> bool:
        facts = CertificateFacts.of(certificate)
        if depth == 0:
            self.facts = facts
        if not ok:
            self.error = self.error or self._chain_error(facts, number, depth)
            return False
        if depth == 0 and self._check_leaf is not None:
            self._check_leaf(certificate)
        return self.error is None

    def _chain_error(self, facts: CertificateFacts, number: int, depth: int) -> StepError:
        if facts.names == UNREADABLE and number not in (_EXPIRED, _NOT_YET_VALID):
            # OpenSSL finds no issuer for a certificate that it cannot read
            return errors.IDENTITY_MALFORMED.error(
                peer=self._peer,
                problem="an extension is malformed",
                wanted="names that can be read",
            )
        fault = self._chain_fault(number, depth)
        if fault is errors.CERTIFICATE_UNTRUSTED and self.chain:
            facts = CertificateFacts.of(self.chain[0])  # whose chain it is
        seen = {
            **facts.evidence(),
            "peer": self._peer,
            "subject": facts.subject,
            "not_after": when(facts.not_after),
            "not_before": when(facts.not_before),
            "usages": ", ".join(facts.usages) or "none",
            "problem": _REASONS.get(number, f"OpenSSL verify result {number}"),
        }
        return fault.error(**seen)

    def _chain_fault(self, number: int, depth: int) -> Fault:
        if number == _EXPIRED and depth:
            return errors.CERTIFICATE_INTERMEDIATE_EXPIRED
        if number in _NO_ISSUER and is_intermediate_of_ours(self.chain, self._trusted):
            return errors.CERTIFICATE_INTERMEDIATE_MISSING
        return _FAULTS.get(number, errors.CERTIFICATE_UNTRUSTED)
