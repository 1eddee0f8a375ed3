"""Clock, secrets and certificate: what needs nobody else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509

from cms import faults
from cms.audit.certificate import chain_evidence, judge_own, judge_trust, name_doubts
from cms.audit.results import Result, failed, passed, warned
from cms.audit.subject import OwnServer
from cms.configuration.tomlfile import Secret
from cms.signalflow import Step, StepError
from cms.trust.facts import CertificateFacts, when
from cms.trust.identity import check_identity

WRITTEN = datetime(2025, 1, 1, tzinfo=UTC)  # no clock is right before this program existed


def audit_clock(now: datetime) -> Result:
    """Whether this host's clock can be right."""
    if now >= WRITTEN:
        return passed(Step.CONFIGURATION, "clock", now=when(now))
    problem = "this program is younger"
    return failed(faults.CLOCK_WRONG.error(now=when(now), problem=problem), "clock")


def audit_secrets(secrets: Mapping[str, Sequence[Secret]]) -> Iterator[Result]:
    """Whether there are Callbridges, and whether each has a secret of its own."""
    if not secrets:
        yield warned(faults.NO_CALLBRIDGE_KNOWN.error())
        return
    holders: dict[str, list[str]] = defaultdict(list)
    for address, accepted in secrets.items():
        for value in dict.fromkeys(secret.value for secret in accepted):
            holders[value].append(address)
    shared = [names for names in holders.values() if len(names) > 1]
    for names in shared:
        doubt = faults.EQUAL_SECRETS.error(names=" and ".join(names), name=names[-1])
        yield warned(doubt, ", ".join(names))
    if not shared:
        yield passed(Step.CONFIGURATION, "Callbridges", known=", ".join(secrets))


def audit_certificate(
    server: OwnServer, now: datetime, *, clock_is_right: bool
) -> Iterator[Result]:
    """
    Whether key and certificate fit, and whether peers will believe them.

    @param clock_is_right: Whether dates can be judged.
    """
    if not server.speaks_tls:
        return
    files = server.files
    try:
        judgement = judge_own(files, now if clock_is_right else None)
    except StepError as problem:
        yield failed(problem)
        return
    assert judgement is not None  # noqa: S101 - a listener with TLS needs a certificate
    about, leaf = str(files.certificate), judgement.chain[0]
    if not judgement.failures:
        facts = CertificateFacts.of(leaf)
        yield passed(Step.TLS, about, **facts.evidence(), **chain_evidence(judgement.chain))
    for failure in judgement.failures:
        yield failed(failure, about)
    for doubt in judgement.doubts:
        yield warned(doubt, about)
    for doubt in judge_trust(files, now) if clock_is_right else ():
        yield warned(doubt, about)
    if server.is_named:
        yield from _audit_names(server, leaf, about)


def _audit_names(server: OwnServer, leaf: x509.Certificate, about: str) -> Iterator[Result]:
    domain, host = server.ascii_domain, server.hostname
    try:
        check_identity(leaf, domain=domain, host=host, host_is_ip=False, peer=about)
    except StepError as problem:
        yield failed(problem, about)
        return
    names = ", ".join(CertificateFacts.of(leaf).names)
    yield passed(Step.IDENTITY, about, names=names)
    for doubt in name_doubts(leaf, domain=domain, host=host, peer=about):
        yield warned(doubt, about)
