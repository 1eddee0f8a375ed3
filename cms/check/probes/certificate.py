"""The certificate of this side: what it presents, and may present it as."""

from __future__ import annotations

from datetime import datetime

from cms.audit.certificate import chain_evidence, judge_own, judge_trust
from cms.check.findings import Lane
from cms.signalflow import Step
from cms.trust.facts import CertificateFacts
from cms.trust.files import PEMFiles


def judge_own_certificate(lane: Lane, files: PEMFiles, now: datetime) -> None:
    """
    Whether the certificate that a Callbridge presents will be accepted, and the
    CAs that it trusts still serve.

    @param files: Already read once, so that they can be read.
    """
    judgement = judge_own(files, now)
    if judgement is not None:
        about, chain = str(files.certificate), judgement.chain
        if not judgement.failures:
            evidence = {**CertificateFacts.of(chain[0]).evidence(), **chain_evidence(chain)}
            note = "presented when the server asks"
            lane.passed(Step.CONFIGURATION, about, 0.0, evidence, note)
        for failure in judgement.failures:
            lane.failed(failure, about)
        for doubt in judgement.doubts:
            lane.warned(doubt, about)
    for doubt in judge_trust(files, now):
        lane.warned(doubt, str(files.trust))
