"""
What is to be said about a certificate and its chain, beyond whether it is believed.

The one judge of all who ask: C{cms check} about what a server sent, and both
daemons at their start, C{cms check --server} and C{cms xmpp certs} about the files
of their own side.  It judges the path that a verifier builds; a certificate that
was sent beside it harms nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from attrs import frozen
from cryptography import x509

from cms import faults
from cms.signalflow import StepError
from cms.trust.chain import MOST, is_intermediate_of_ours, is_self_issued, issued_by, path_of
from cms.trust.facts import UNREADABLE, CertificateFacts, when
from cms.trust.files import PEMFiles, system_authorities
from cms.trust.refusals import DATES, NOT_TRUSTED, Presented
from cms.trust.rehearsal import Rehearsal

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


def chain_doubts(
    chain: Sequence[x509.Certificate],
    path: Sequence[x509.Certificate],
    peer: str,
    now: datetime,
) -> list[StepError]:
    """
    What works with this chain only by luck: soon to expire, out of order, with
    certificates that belong to nothing.

    @param chain: As it was sent.
    @param path: As it was believed, leaf first; may be empty if it was not.
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
    return [doubt for doubt in found if doubt is not None]


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


@frozen
class Judgement:
    """
    What is to be said of a certificate of our own.

    @ivar chain: As it is in the file.
    @ivar path: As a peer builds it from that, leaf first, its root included where
        that is known here.
    @ivar failures: Why peers will not believe it.
    @ivar doubts: What works by luck.
    """

    chain: tuple[x509.Certificate, ...]
    path: tuple[x509.Certificate, ...]
    failures: tuple[StepError, ...]
    doubts: tuple[StepError, ...]

    @property
    def problems(self) -> tuple[StepError, ...]:
        """Failures, then doubts."""
        return (*self.failures, *self.doubts)


_OF_OUR_FILE = {faults.CERTIFICATE_CHAIN_ORDER.name, faults.CERTIFICATE_CHAIN_SURPLUS.name}


def judge_own(files: PEMFiles, now: datetime | None) -> Judgement | None:
    """
    Judge the certificate of a configuration by what a peer made of it in memory: the
    files as they were last read, or are read now.

    @param now: C{None} where this host's clock cannot be right: then dates are
        not judged.
    @return: C{None} where none is configured.
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
    for doubt in chain_doubts(chain, rehearsal.dated, about, now or no_date):
        # Our own file, and quickly mended.
        (failures if doubt.fault in _OF_OUR_FILE else found).append(doubt)
    if rehearsal.ends_open:
        for problem in _open_end(files, rehearsal.path[-1], chain, about):
            (found if problem.fault == faults.CHAIN_UNVERIFIED.name else failures).append(problem)
    found += _no_client_use(files, chain[0], about) if not failures else []
    return Judgement(chain, rehearsal.path, tuple(failures), tuple(found))


def _refusals(
    files: PEMFiles, rehearsal: Rehearsal, chain: tuple[x509.Certificate, ...], about: str
) -> Iterator[StepError]:
    """The first objection to each certificate; dates and trust are judged otherwise."""
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
    """Whether an intermediate is missing where nobody here knows the last issuer."""
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


def name_doubts(
    certificate: x509.Certificate, *, domain: str, host: str, peer: str
) -> list[StepError]:
    """
    Names that are covered by a wildcard only.

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
