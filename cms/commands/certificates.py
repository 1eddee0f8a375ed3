"""The configured certificates: their content, and whether they are good."""

from __future__ import annotations

import grp
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from cms import faults
from cms.audit.finding import Finding
from cms.audit.owncertificate import Judgement, audit_certificate, audit_names, judge_own
from cms.audit.ownserver import OwnServer
from cms.commands.outcomes import Outcome
from cms.signalflow import StepError
from cms.trust.facts import CertificateFacts
from cms.xmpp.config import XmppConfig
from cms.xmpp.selfcheck import own_server

# This command's own words for texts of the catalogue about peers.
_WORDS = {
    faults.CERTIFICATE_EXPIRED.name: "The certificate expired on {not_after}.",
    faults.CERTIFICATE_NOT_YET_VALID.name: '"{subject}" is not valid before {not_before}.',
    faults.CERTIFICATE_USAGE_SERVER.name: "The certificate is not for servers: {cause}",
    faults.CERTIFICATE_CHAIN_SURPLUS.name: "A certificate did not issue any other: {cause}",
}
_DATE = "%Y-%m-%d %H:%M UTC"


def rows(config: XmppConfig) -> list[tuple[str, object]]:
    """The files, and what is in them as far as it can be read."""
    found: list[tuple[str, object]] = [
        ("Key file", config.tls.key),
        ("Certificate file", config.tls.certificate),
        ("Trust bundle", config.tls.trust or "the system's CAs"),
        ("Callbridge certificates", config.tls.callbridge_certificates),
    ]
    try:
        chain = _chain(config)
    except StepError:
        return found
    if chain:
        facts = CertificateFacts.of(chain[0])
        found += [
            ("Subject", facts.subject or "(no subject)"),
            ("Names", list(facts.names)),
            ("Issuer", facts.issuer),
            ("Valid from", f"{facts.not_before:{_DATE}}"),
            ("Valid until", f"{facts.not_after:{_DATE}}"),
            ("Fingerprint", facts.fingerprint),
            ("Intermediates", len(chain) - 1),
        ]
    return found


def findings(config: XmppConfig, now: datetime) -> Iterator[Outcome]:
    """Everything that can be checked without a peer."""
    if config.tls.certificate is None:
        yield Outcome("ok", "No listener speaks TLS, and there is no certificate.")
        return
    own = own_server(config, {})
    found = list(audit_certificate(own.files, now))
    try:
        judgement = judge_own(own.files, now)
    except StepError as error:
        yield Outcome.of(error)
        return
    assert judgement is not None  # noqa: S101 - there is a certificate
    yield Outcome("ok", "The key fits the certificate.")
    yield from _key_file(config.tls.key, config.state_dir)
    yield from _names(own, judgement.chain)
    yield from _validity(judgement)
    for finding in found:
        yield from _outcomes(finding)


def _outcomes(finding: Finding) -> Iterator[Outcome]:
    """Failures and warnings, in the words of this command."""
    problem = finding.problem
    if problem is not None and finding.result == "failed":
        text = _WORDS.get(problem.fault, "{cause}").format(cause=problem.cause, **problem.evidence)
        yield Outcome("wrong", text, problem.cure)
    elif problem is not None:
        yield Outcome("warning", problem.cause, problem.cure)


def _names(own: OwnServer, chain: Sequence[x509.Certificate]) -> Iterator[Outcome]:
    for finding in audit_names(own.names, chain, str(own.files.certificate)):
        if own.names is not None and finding.result == "passed":
            names = f"{own.names.domain} and {own.names.host}"
            yield Outcome("ok", f"The certificate names {names}.")
        yield from _outcomes(finding)


def _validity(judgement: Judgement) -> Iterator[Outcome]:
    """The dates of each certificate on the path that has no failure or warning."""
    told = {str(problem.evidence.get("subject")) for problem in judgement.problems}
    for number, certificate in enumerate(judgement.path):
        facts = CertificateFacts.of(certificate)
        if facts.subject not in told:
            what = f'The CA "{facts.subject}"' if number else "The certificate"
            yield Outcome("ok", f"{what} is valid until {facts.not_after:{_DATE}}.")


def name_findings(config: XmppConfig) -> Iterator[Outcome]:
    """Only whether the certificate names the domain and the server."""
    try:
        chain = _chain(config)
    except StepError as error:
        yield Outcome.of(error)
        return
    yield from _names(own_server(config, {}), chain)


def _chain(config: XmppConfig) -> list[x509.Certificate]:
    if config.tls.certificate is None:
        return []
    return own_server(config, {}).files.chain("tls.certificate", config.tls.certificate)


def _key_file(key: Path | None, state_dir: Path) -> Iterator[Outcome]:
    """
    Whether other users can read the key.  The group may: if the daemon runs as a user of its
    own, the key belongs to root with that user's group (0640).
    """
    if key is None or not key.stat().st_mode & stat.S_IRWXO:
        return
    text = f"{key} can be read by other users of this host."
    yield Outcome("warning", text, closed(key, state_dir))


def closed(key: Path, state_dir: Path) -> str:
    """The command that closes a key to others but not to the daemon, which owns C{state_dir}."""
    mine = key.stat()
    with suppress(OSError, KeyError):
        daemon = state_dir.stat()
        if mine.st_uid != daemon.st_uid and mine.st_gid != daemon.st_gid:
            return f"chgrp {grp.getgrgid(daemon.st_gid).gr_name} {key} && chmod 640 {key}"
    return f"chmod o= {key}"


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)
