"""OpenSSL's verify results (x509_vfy.h) and their entries in the fault catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from attrs import frozen
from cryptography import x509

from cms import faults
from cms.fast.openssl import verify_words
from cms.signalflow import StepError
from cms.trust.chain import is_intermediate_of_ours, issued_by, path_of
from cms.trust.facts import UNREADABLE, CertificateFacts, constraints, when

Role = Literal["server", "client"]
"""As what a certificate is presented."""

NOT_YET_VALID = 9
EXPIRED = 10
_SELF_SIGNED = 18
_ROOT = 19
_NO_ISSUER = (2, 20, 21)
_PURPOSE = 26
# Results that depend on the verifier, not on the certificates.
NOT_TRUSTED = frozenset({_SELF_SIGNED, _ROOT, *_NO_ISSUER})
DATES = frozenset({NOT_YET_VALID, EXPIRED})
TOO_WEAK = frozenset({66, 67, 68})
_USES = {"server": "serverAuth", "client": "clientAuth"}

_FAULTS: dict[int, faults.Fault] = {
    **dict.fromkeys((4, 6, 7, 29, 30, 31, 76, 77, 78), faults.CERTIFICATE_SIGNATURE_WRONG),
    NOT_YET_VALID: faults.CERTIFICATE_NOT_YET_VALID,
    EXPIRED: faults.CERTIFICATE_EXPIRED,
    _SELF_SIGNED: faults.CERTIFICATE_SELF_SIGNED,
    _ROOT: faults.CERTIFICATE_ROOT_UNTRUSTED,
    **dict.fromkeys(_NO_ISSUER, faults.CERTIFICATE_UNTRUSTED),
    22: faults.CERTIFICATE_CHAIN_LONG,
    **dict.fromkeys((24, 32, 79), faults.CERTIFICATE_ISSUER_NO_CA),
    25: faults.CERTIFICATE_PATH_LENGTH,
    34: faults.CERTIFICATE_CRITICAL_EXTENSION,
    39: faults.CERTIFICATE_KEY_USAGE,
    **dict.fromkeys((47, 48, 49, 51, 52, 53), faults.CERTIFICATE_NAME_CONSTRAINTS),
    66: faults.CERTIFICATE_WEAK,
    67: faults.CERTIFICATE_CA_WEAK,
    68: faults.CERTIFICATE_SIGNATURE_WEAK,
}


@frozen
class Refusal:
    """
    One objection of OpenSSL.

    @ivar code: C{X509_V_ERR_*}.
    @ivar depth: Where on the path: 0 is the leaf.
    @ivar certificate: The one at that depth.
    """

    code: int
    depth: int
    certificate: x509.Certificate

    @property
    def evidence(self) -> dict[str, str]:
        """In OpenSSL's words."""
        return {
            "openssl": verify_words(self.code),
            "code": str(self.code),
            "depth": str(self.depth),
            "at": CertificateFacts.of(self.certificate).subject or "(no subject)",
        }


@frozen
class Presented:
    """
    The certificates that a peer presented.

    @ivar chain: As it was sent, leaf first.
    @ivar role: Whether the peer is server or client.
    @ivar trusted: The CAs of C{tls.trust}, if they are known.
    """

    peer: str
    chain: tuple[x509.Certificate, ...]
    role: Role = "server"
    trusted: Sequence[x509.Certificate] = ()

    def explain(self, refusal: Refusal) -> StepError:
        """The entry of the catalogue for a refusal."""
        facts = CertificateFacts.of(refusal.certificate)
        if facts.names == UNREADABLE and refusal.code not in DATES:
            # OpenSSL finds no issuer for a certificate that it cannot read
            return faults.IDENTITY_MALFORMED.error(
                peer=self.peer,
                problem="an extension is malformed",
                wanted="names that can be read",
                **refusal.evidence,
            )
        fault = self._fault(refusal, facts)
        if fault is faults.CERTIFICATE_UNTRUSTED and self.chain:
            facts = CertificateFacts.of(self.chain[0])  # whose chain it is
        seen = {
            **facts.evidence(),
            **refusal.evidence,
            "peer": self.peer,
            "subject": facts.subject or "(no subject)",
            "not_after": when(facts.not_after),
            "not_before": when(facts.not_before),
            "usages": ", ".join(facts.usages) or "not limited",
            "key_usages": ", ".join(facts.key_usages) or "not limited",
            "role": self.role,
            "use": _USES[self.role],
            "key": facts.key,
            "fingerprint": facts.fingerprint,
            "problem": refusal.evidence["openssl"],
        }
        if fault is faults.CERTIFICATE_NAME_CONSTRAINTS:
            seen["constraints"] = "; ".join(self._constraints()) or "not readable here"
        elif fault is faults.CERTIFICATE_CRITICAL_EXTENSION:
            seen["extensions"] = ", ".join(facts.critical) or "unknown"
        return fault.error(**seen)

    def _fault(self, refusal: Refusal, facts: CertificateFacts) -> faults.Fault:
        code, depth = refusal.code, refusal.depth
        if code == EXPIRED and depth:
            ours = refusal.certificate in self.trusted or refusal.certificate not in self.chain
            return faults.TRUST_EXPIRED if ours else faults.CERTIFICATE_INTERMEDIATE_EXPIRED
        if code == _PURPOSE:
            return self._purpose(depth, facts)
        if code in (7, _ROOT, *_NO_ISSUER) and self._has_namesake(refusal):
            return faults.TRUST_OTHER_KEY
        if code in _NO_ISSUER:
            names = [ca.subject for ca in self.trusted]
            if is_intermediate_of_ours(self.chain, names):
                return faults.CERTIFICATE_INTERMEDIATE_MISSING
        return _FAULTS.get(code, faults.CERTIFICATE_REFUSED)

    def _purpose(self, depth: int, facts: CertificateFacts) -> faults.Fault:
        if depth:
            return faults.CERTIFICATE_ISSUER_USAGE
        if not facts.usages or _USES[self.role] in facts.usages:
            return faults.CERTIFICATE_KEY_USAGE
        if self.role == "client":
            return faults.CERTIFICATE_USAGE_CLIENT
        return faults.CERTIFICATE_USAGE_SERVER

    def _has_namesake(self, refusal: Refusal) -> bool:
        """Whether a CA of that name is trusted, but with another key."""
        certificate = refusal.certificate
        return any(
            ca.subject == certificate.issuer and not issued_by(certificate, ca)
            for ca in self.trusted
        )

    def _constraints(self) -> Iterator[str]:
        path = path_of(self.chain)
        above = [ca for ca in self.trusted if path and ca.subject == path[-1].issuer]
        for ca in (*path[1:], *above):
            told = constraints(ca)
            if told:
                yield f"{CertificateFacts.of(ca).subject}: {told}"
