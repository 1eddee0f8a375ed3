"""
The fail-closed verify callback that both sides use (steps 7 and 8).

Twisted's own identity check accepts a certificate that has no subjectAltName,
or an unreadable one, with a line in the log.  Here the callback is ours, it is
set on the connection, and whatever goes wrong inside it refuses the peer.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from OpenSSL import SSL, crypto

from cms import errors
from cms.signalflow import StepError
from cms.trust.facts import UNREADABLE, CertificateFacts

# OpenSSL's verify results, x509_vfy.h
_NOT_YET_VALID = 9
_EXPIRED = 10
_REASONS = {
    7: "its signature is wrong",
    18: "it is self-signed",
    19: "the chain ends in a self-signed certificate that is not trusted",
    20: "its issuer is not known here",
    21: "its issuer is not known here and no intermediate was sent",
    23: "it is revoked",
    24: "an issuer is no CA",
    26: "its extended key usage does not allow this use",
}


class Verdict:
    """
    What became of the peer's certificate.

    @ivar error: Why it was refused.
    @ivar facts: Of the leaf, as soon as it was seen.
    """

    def __init__(
        self, peer: str, check_leaf: Callable[[x509.Certificate], None] | None = None
    ) -> None:
        self._peer = peer
        self._check_leaf = check_leaf
        self.error: StepError | None = None
        self.facts: CertificateFacts | None = None

    def callback(
        self, connection: SSL.Connection, cert: crypto.X509, number: int, depth: int, ok: int
    ) -> bool:
        """From OpenSSL, for each certificate of the chain, the leaf last."""
        try:
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
            self.error = self.error or self._chain_error(facts, number)
            return False
        if depth == 0 and self._check_leaf is not None:
            self._check_leaf(certificate)
        return self.error is None

    def _chain_error(self, facts: CertificateFacts, number: int) -> StepError:
        seen = {**facts.evidence(), "peer": self._peer, "subject": facts.subject}
        if number == _EXPIRED:
            not_after = f"{facts.not_after:%Y-%m-%d %H:%M} UTC"
            return errors.CERTIFICATE_EXPIRED.error(not_after=not_after, **seen)
        if number == _NOT_YET_VALID:
            not_before = f"{facts.not_before:%Y-%m-%d %H:%M} UTC"
            return errors.CERTIFICATE_NOT_YET_VALID.error(not_before=not_before, **seen)
        if facts.names == UNREADABLE:
            # OpenSSL finds no issuer for a certificate that it cannot read
            return errors.IDENTITY_MALFORMED.error(
                peer=self._peer,
                problem="an extension is malformed",
                wanted="names that can be read",
            )
        problem = _reason(number)
        return errors.CERTIFICATE_UNTRUSTED.error(problem=problem, **seen)


def _reason(number: int) -> str:
    return _REASONS.get(number, f"OpenSSL verify result {number}")
