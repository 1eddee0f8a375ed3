"""Clock, secrets and certificate: what needs nobody else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509

from cms import doubts, errors
from cms.audit.results import Result, failed, passed, warned
from cms.audit.subject import OwnServer
from cms.signalflow import Step, StepError
from cms.tomlfile import Secret
from cms.trust.audit import chain_doubts, chain_evidence, name_doubts
from cms.trust.chain import is_intermediate_of_ours, is_self_issued, issued_by, path_of
from cms.trust.facts import CertificateFacts, when
from cms.trust.files import PEMFiles, system_authorities
from cms.trust.identity import check_identity

WRITTEN = datetime(2025, 1, 1, tzinfo=UTC)  # no clock is right before this program existed
_SERVER_USE = {"serverAuth", "anyExtendedKeyUsage"}
_CLIENT_USE = {"clientAuth", "anyExtendedKeyUsage"}


def audit_clock(now: datetime) -> Result:
    """Whether this host's clock can be right."""
    if now >= WRITTEN:
        return passed(Step.CONFIGURATION, "clock", now=when(now))
    problem = "this program is younger"
    return failed(errors.CLOCK_WRONG.error(now=when(now), problem=problem), "clock")


def audit_secrets(secrets: Mapping[str, Sequence[Secret]]) -> Iterator[Result]:
    """Whether there are Callbridges, and whether each has a secret of its own."""
    if not secrets:
        yield warned(doubts.NO_CALLBRIDGE_KNOWN.error())
        return
    holders: dict[str, list[str]] = defaultdict(list)
    for address, accepted in secrets.items():
        for value in dict.fromkeys(secret.value for secret in accepted):
            holders[value].append(address)
    shared = [names for names in holders.values() if len(names) > 1]
    for names in shared:
        doubt = doubts.EQUAL_SECRETS.error(names=" and ".join(names), name=names[-1])
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
        files.context()
    except StepError as problem:
        yield failed(problem)
        return
    assert files.certificate is not None  # noqa: S101 - a listener with TLS needs one
    about = str(files.certificate)
    chain = files.chain("tls.certificate", files.certificate)
    yield from _audit_leaf(chain, about, now, clock_is_right=clock_is_right)
    yield from _audit_chain(chain, files, about, now, clock_is_right=clock_is_right)
    yield from _audit_names(server, chain[0], about)


def _audit_leaf(
    chain: Sequence[x509.Certificate], about: str, now: datetime, *, clock_is_right: bool
) -> Iterator[Result]:
    facts = CertificateFacts.of(chain[0])
    seen = {"peer": about, "subject": facts.subject, "usages": ", ".join(facts.usages)}
    problem = None
    if clock_is_right and now > facts.not_after:
        problem = errors.CERTIFICATE_EXPIRED.error(not_after=when(facts.not_after), **seen)
    elif clock_is_right and now < facts.not_before:
        problem = errors.CERTIFICATE_NOT_YET_VALID.error(not_before=when(facts.not_before), **seen)
    elif facts.usages and not _SERVER_USE & set(facts.usages):
        problem = errors.CERTIFICATE_USAGE_SERVER.error(**seen)
    if problem is not None:
        yield failed(problem, about)
        return
    yield passed(Step.TLS, about, **facts.evidence(), **chain_evidence(chain))
    if facts.usages and not _CLIENT_USE & set(facts.usages):
        yield warned(doubts.CERTIFICATE_NO_CLIENT_USE.error(**seen), about)


def _audit_chain(
    chain: Sequence[x509.Certificate],
    files: PEMFiles,
    about: str,
    now: datetime,
    *,
    clock_is_right: bool,
) -> Iterator[Result]:
    for doubt in chain_doubts(chain, about, now):
        if doubt.fault == doubts.CERTIFICATE_CHAIN_ORDER.name:
            yield failed(doubt, about)  # our own file, and quickly mended
        elif clock_is_right or doubt.fault != doubts.CERTIFICATE_EXPIRES_SOON.name:
            yield warned(doubt, about)
    for above in path_of(chain)[1:]:
        facts = CertificateFacts.of(above)
        if clock_is_right and now > facts.not_after:
            seen = {"peer": about, "subject": facts.subject, "not_after": when(facts.not_after)}
            yield failed(errors.CERTIFICATE_INTERMEDIATE_EXPIRED.error(**seen), about)
    last = path_of(chain)[-1]
    if is_self_issued(last):
        return
    trusted = files.chain("tls.trust", files.trust) if files.trust else system_authorities()
    if any(last.issuer == ca.subject and issued_by(last, ca) for ca in trusted):
        return
    facts = CertificateFacts.of(last)
    seen = {"peer": about, "subject": facts.subject, "issuer": facts.issuer}
    if is_intermediate_of_ours(chain, [ca.subject for ca in trusted]):
        yield failed(errors.OWN_CHAIN_INCOMPLETE.error(**seen), about)
    else:
        yield warned(doubts.CHAIN_UNVERIFIED.error(**seen), about)


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
