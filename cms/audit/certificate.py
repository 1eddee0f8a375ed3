"""
Warnings about a certificate and its chain, beyond whether it is accepted.

They are about the path that a verifier builds; other certificates that were sent do no
harm.  L{cms.audit.owncertificate} uses them for this side's own files.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509

from cms import faults
from cms.signalflow import StepError
from cms.trust.chain import MOST, issued_by, path_of
from cms.trust.facts import UNREADABLE, CertificateFacts, when

SOON = timedelta(days=30)


def chain_evidence(chain: Sequence[x509.Certificate]) -> dict[str, str]:
    """Each certificate as it came, and what the leaf may be used for."""
    if not chain:
        return {}
    facts = [CertificateFacts.of(certificate) for certificate in chain]
    order = "in order" if is_in_order(chain) else "OUT OF ORDER"
    subjects = " <- ".join(each.subject or "(no subject)" for each in facts)
    return {
        "chain": f"{len(chain)} {order}: {subjects}",
        "usage": ", ".join(facts[0].usages) or "not limited",
    }


def is_in_order(chain: Sequence[x509.Certificate]) -> bool:
    """Whether each certificate comes after the one that it issued."""
    return path_of(chain) == list(chain)


def chain_warnings(
    chain: Sequence[x509.Certificate],
    path: Sequence[x509.Certificate],
    peer: str,
    now: datetime,
) -> list[StepError]:
    """
    Warnings about this chain: soon to expire, out of order, with
    certificates that belong to nothing.

    @param chain: As it was sent.
    @param path: The path that verifies it, leaf first; empty if it was refused.
    """
    if not chain:
        return []
    by_signature = path_of(chain)
    found = [_expires_soon(certificate, peer, now) for certificate in path or by_signature]
    sent = chain[:MOST]
    if [certificate for certificate in sent if certificate in by_signature] != by_signature:
        order = "; then ".join(CertificateFacts.of(certificate).subject for certificate in sent)
        found.append(faults.CERTIFICATE_CHAIN_ORDER.error(peer=peer, order=order))
    for extra in sent:
        if extra not in by_signature and not any(
            issued_by(other, extra) for other in sent if other != extra
        ):
            subject = CertificateFacts.of(extra).subject
            found.append(faults.CERTIFICATE_CHAIN_SURPLUS.error(peer=peer, subject=subject))
    return [warning for warning in found if warning is not None]


def _expires_soon(certificate: x509.Certificate, peer: str, now: datetime) -> StepError | None:
    facts = CertificateFacts.of(certificate)
    left = facts.not_after - now
    if not timedelta(0) <= left < SOON:
        return None
    return faults.CERTIFICATE_EXPIRES_SOON.error(
        peer=peer,
        subject=facts.subject,
        days=left.days,
        not_after=when(facts.not_after),
    )


def name_warnings(
    certificate: x509.Certificate, *, domain: str, host: str, peer: str
) -> list[StepError]:
    """
    Warnings about names that only a wildcard covers.

    @param host: In A-labels, or an IP address.
    """
    names = CertificateFacts.of(certificate).names
    if names == UNREADABLE:
        return []
    exact = {name.lower() for name in names}
    wild = [
        name
        for name in dict.fromkeys((domain, host))
        if f"dns:{name}" not in exact and f"dns:*.{name.partition('.')[2]}" in exact
    ]
    if not wild:
        return []
    covered = " and ".join(wild)
    return [faults.IDENTITY_WILDCARD.error(peer=peer, covered=covered, names=", ".join(names))]
