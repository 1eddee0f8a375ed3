"""
The certificate of this side, and the CAs that it trusts.

The only judge of them: both daemons at their start, C{cms check}, C{cms check --server}
and C{cms xmpp certs} use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from attrs import frozen
from cryptography import x509

from cms import faults
from cms.audit.certificate import chain_evidence, chain_warnings, name_warnings
from cms.audit.clock import audit_clock
from cms.audit.finding import Finding, failed, passed, warned
from cms.signalflow import Step, StepError
from cms.trust.chain import is_intermediate_of_ours, is_self_issued
from cms.trust.facts import CertificateFacts, when
from cms.trust.files import PEMFiles, system_authorities
from cms.trust.identity import check_identity
from cms.trust.refusals import DATES, NOT_TRUSTED, Presented
from cms.trust.rehearsal import Rehearsal


@frozen
class Names:
    """The names that a server's certificate must have, in A-labels."""

    domain: str
    host: str


def audit_certificate(
    files: PEMFiles,
    now: datetime,
    *,
    serves: bool = False,
    tells_clock: bool = True,
) -> Iterator[Finding]:
    """
    Whether key and certificate fit, whether peers will accept them, and whether the
    trusted CAs are still valid.

    @param serves: Whether a client's certificate is also shown to the clients of a
        listener.
    @param tells_clock: Whether to say that dates are not judged, because this host's
        clock cannot be right.
    """
    clock = audit_clock(now)
    dates = now if clock.result == "passed" else None
    if dates is None and tells_clock:
        yield clock
    try:
        judgement = judge_own(files, dates)
        as_server = judge_own(files.as_server(), dates) if serves else None
    except StepError as problem:
        yield failed(problem)
        return
    if judgement is not None:
        yield from _certificate(files, judgement, as_server)
    for warning in judge_trust(files, dates) if dates is not None else ():
        yield warned(warning, str(files.trust))


def _certificate(
    files: PEMFiles, judgement: Judgement, as_server: Judgement | None
) -> Iterator[Finding]:
    about = str(files.certificate)
    if not judgement.failures:
        facts = CertificateFacts.of(judgement.chain[0])
        evidence = {**facts.evidence(), **chain_evidence(judgement.chain)}
        if files.role == "client":
            note = "presented when the server asks"
            yield passed(Step.CONFIGURATION, about, evidence, note)
        else:
            yield passed(Step.TLS, about, evidence)
    for failure in judgement.failures:
        yield failed(failure, about)
    for warning in judgement.warnings:
        yield warned(warning, about)
    known = {problem.fault for problem in judgement.problems}
    for failure in as_server.failures if as_server is not None else ():
        if failure.fault not in known:
            yield failed(failure, about)


def audit_names(
    wanted: Names | None, chain: Sequence[x509.Certificate], about: str
) -> Iterator[Finding]:
    """
    Whether the first certificate has all names, and not only by a wildcard.

    @param about: The file or peer it is from.
    """
    if wanted is None or not chain:
        return
    leaf = chain[0]
    domain, host = wanted.domain, wanted.host
    try:
        check_identity(leaf, domain=domain, host=host, host_is_ip=False, peer=about)
    except StepError as problem:
        yield failed(problem, about)
        return
    yield passed(Step.IDENTITY, about, {"names": ", ".join(CertificateFacts.of(leaf).names)})
    for warning in name_warnings(leaf, domain=domain, host=host, peer=about):
        yield warned(warning, about)


@frozen
class Judgement:
    """
    The judgement on this side's certificate.

    @ivar chain: As it is in the file.
    @ivar path: As a peer builds it from that, leaf first, its root included where
        that is known here.
    @ivar failures: Why peers will not believe it.
    @ivar warnings: What works, and should be put right.
    """

    chain: tuple[x509.Certificate, ...]
    path: tuple[x509.Certificate, ...]
    failures: tuple[StepError, ...]
    warnings: tuple[StepError, ...]

    @property
    def problems(self) -> tuple[StepError, ...]:
        """Failures, then warnings."""
        return (*self.failures, *self.warnings)


_OF_OUR_FILE = {faults.CERTIFICATE_CHAIN_ORDER.name, faults.CERTIFICATE_CHAIN_SURPLUS.name}


def judge_own(files: PEMFiles, now: datetime | None) -> Judgement | None:
    """
    Judge the configured certificate by a handshake in memory, with the files as they were
    last read, or are read now.

    @param now: C{None} if this host's clock cannot be right: then dates are not judged.
    @return: C{None} if no certificate is configured.
    @raise ConfigurationError: it cannot be used at all.
    """
    if files.rehearsal is None:
        files.context()
    if files.rehearsal is None:
        return None
    about, chain, rehearsal = str(files.certificate), files.own, files.rehearsal
    failures = [*_refusals(files, rehearsal, chain, about)]
    found: list[StepError] = []
    if now is not None:
        failures = [*_dates(files, rehearsal, chain, about, now), *failures]
    no_date = datetime.max.replace(tzinfo=UTC)
    for warning in chain_warnings(chain, rehearsal.dated, about, now or no_date):
        # Our own file, and quickly mended.
        (failures if warning.fault in _OF_OUR_FILE else found).append(warning)
    if rehearsal.ends_open:
        for problem in _open_end(files, rehearsal.path[-1], chain, about):
            (found if problem.fault == faults.CHAIN_UNVERIFIED.name else failures).append(problem)
    found += _no_client_use(files, chain[0], about) if not failures else []
    return Judgement(chain, rehearsal.path, tuple(failures), tuple(found))


def _refusals(
    files: PEMFiles, rehearsal: Rehearsal, chain: tuple[x509.Certificate, ...], about: str
) -> Iterator[StepError]:
    """The first objection to each certificate; dates and trust are judged elsewhere."""
    presented = Presented(about, chain, files.role, files.trusted)
    seen = set()
    for refusal in rehearsal.refusals:
        if refusal.code not in DATES | NOT_TRUSTED and refusal.depth not in seen:
            seen.add(refusal.depth)
            yield presented.explain(refusal)


def _dates(
    files: PEMFiles,
    rehearsal: Rehearsal,
    chain: tuple[x509.Certificate, ...],
    about: str,
    now: datetime,
) -> Iterator[StepError]:
    for depth, certificate in enumerate(rehearsal.dated):
        facts = CertificateFacts.of(certificate)
        seen = {"peer": about, "subject": facts.subject}
        if now > facts.not_after:
            fault = faults.CERTIFICATE_EXPIRED
            if depth:
                ours = certificate in files.trusted or certificate not in chain
                fault = faults.TRUST_EXPIRED if ours else faults.CERTIFICATE_INTERMEDIATE_EXPIRED
            yield fault.error(not_after=when(facts.not_after), **seen)
        elif now < facts.not_before:
            fault = faults.CERTIFICATE_NOT_YET_VALID
            yield fault.error(not_before=when(facts.not_before), **seen)


def _open_end(
    files: PEMFiles, last: x509.Certificate, chain: Sequence[x509.Certificate], about: str
) -> Iterator[StepError]:
    """Whether an intermediate is missing, if the last issuer is not known here."""
    if is_self_issued(last):
        return
    facts = CertificateFacts.of(last)
    seen = {"peer": about, "subject": facts.subject, "issuer": facts.issuer}
    known = [ca.subject for ca in (files.trusted or system_authorities())]
    if is_intermediate_of_ours(chain, known):
        yield faults.OWN_CHAIN_INCOMPLETE.error(**seen)
    elif files.role == "server":
        yield faults.CHAIN_UNVERIFIED.error(**seen)


def _no_client_use(files: PEMFiles, leaf: x509.Certificate, about: str) -> list[StepError]:
    facts = CertificateFacts.of(leaf)
    if files.role == "client" or not facts.usages or "clientAuth" in facts.usages:
        return []
    seen = {"peer": about, "subject": facts.subject, "usages": ", ".join(facts.usages)}
    return [faults.CERTIFICATE_NO_CLIENT_USE.error(**seen)]


def judge_trust(files: PEMFiles, now: datetime) -> list[StepError]:
    """The CAs of C{tls.trust} that have expired, and have no valid namesake in it."""
    valid = {ca.subject for ca in files.trusted if now <= ca.not_valid_after_utc}
    found = []
    for ca in files.trusted:
        if now > ca.not_valid_after_utc and ca.subject not in valid:
            facts = CertificateFacts.of(ca)
            seen = {"path": files.trust, "subject": facts.subject}
            found.append(faults.TRUST_CA_EXPIRED.error(not_after=when(facts.not_after), **seen))
    return found
