"""The certificate of this side: what it presents, and may present it as."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from cms import errors
from cms.check.findings import Lane
from cms.signalflow import Step
from cms.trust.audit import chain_doubts, chain_evidence
from cms.trust.facts import CertificateFacts, when
from cms.trust.files import PEMFiles

_CLIENT_USE = ("clientAuth", "anyExtendedKeyUsage")


def judge_own_certificate(lane: Lane, files: PEMFiles, now: datetime) -> None:
    """
    Whether the certificate that a Callbridge presents will be accepted.

    @param files: Already read once, so that they can be read.
    """
    if files.certificate is None:
        return
    chain = files.chain("tls.certificate", files.certificate)
    about = str(files.certificate)
    facts = CertificateFacts.of(chain[0])
    seen = {"peer": about, "subject": facts.subject, "usages": ", ".join(facts.usages)}
    if now > facts.not_after:
        lane.failed(errors.CERTIFICATE_EXPIRED.error(not_after=when(facts.not_after), **seen))
    elif now < facts.not_before:
        not_before = when(facts.not_before)
        lane.failed(errors.CERTIFICATE_NOT_YET_VALID.error(not_before=not_before, **seen))
    elif facts.usages and not set(facts.usages) & set(_CLIENT_USE):
        lane.failed(errors.CERTIFICATE_USAGE_CLIENT.error(**seen))
    else:
        tell_own(lane, chain, about)
    for doubt in chain_doubts(chain, about, now):
        lane.warned(doubt, about)


def tell_own(lane: Lane, chain: list[x509.Certificate], about: str) -> None:
    """The facts of a certificate of ours."""
    evidence = {**CertificateFacts.of(chain[0]).evidence(), **chain_evidence(chain)}
    lane.passed(Step.CONFIGURATION, about, 0.0, evidence, "presented when the server asks")
