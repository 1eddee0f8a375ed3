"""Certificates as configured: what they say, and whether they serve."""

from __future__ import annotations

import itertools
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from cms.commands.findings import Finding
from cms.discovery.address import ascii_domain
from cms.signalflow import StepError
from cms.trust.facts import CertificateFacts
from cms.trust.files import PEMFiles
from cms.trust.identity import check_identity
from cms.xmpp.config import XmppConfig

SOON = timedelta(days=21)
_DATE = "%Y-%m-%d %H:%M UTC"


def rows(config: XmppConfig) -> list[tuple[str, object]]:
    """The files, and what is in them as far as it can be read."""
    found: list[tuple[str, object]] = [
        ("Key file", config.key),
        ("Certificate file", config.certificate),
        ("Trust bundle", config.trust or "the system's CAs"),
        ("Callbridge certificates", config.callbridge_certificates),
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


def findings(config: XmppConfig, now: datetime) -> Iterator[Finding]:
    """Everything that can be told without a peer."""
    if config.certificate is None:
        yield Finding("ok", "No listener speaks TLS, and there is no certificate.")
        return
    files = _files(config)
    try:
        files.context()
        chain = _chain(config)
    except StepError as error:
        yield Finding.of(error)
        return
    yield Finding("ok", "The key fits the certificate.")
    yield from _key_file(config.key)
    yield _names(chain[0], config)
    yield from _usage(chain[0])
    for number, certificate in enumerate(chain):
        what = "The certificate" if number == 0 else f"Intermediate certificate {number}"
        yield from dates(certificate, what, now)
    yield from _order(chain)
    if config.trust is not None:
        for ca in files.chain("tls.trust", config.trust):
            name = CertificateFacts.of(ca).subject
            yield from (f for f in dates(ca, f"The CA {name}", now) if f.state != "ok")


def name_findings(config: XmppConfig) -> Iterator[Finding]:
    """Only whether the certificate names the domain and the server."""
    try:
        chain = _chain(config)
    except StepError as error:
        yield Finding.of(error)
        return
    if chain:
        yield _names(chain[0], config)


def _files(config: XmppConfig) -> PEMFiles:
    return PEMFiles(str(config.file), config.trust, config.certificate, config.key)


def _chain(config: XmppConfig) -> list[x509.Certificate]:
    if config.certificate is None:
        return []
    return _files(config).chain("tls.certificate", config.certificate)


def _key_file(key: Path | None) -> Iterator[Finding]:
    if key is not None and stat.S_IMODE(key.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        text = f"{key} can be read by other users of this host."
        yield Finding("warning", text, f"chmod 600 {key}")


def _names(certificate: x509.Certificate, config: XmppConfig) -> Finding:
    domain, host = ascii_domain(config.domain), ascii_domain(config.hostname)
    try:
        check_identity(
            certificate, domain=domain, host=host, host_is_ip=False, peer=str(config.certificate)
        )
    except StepError as error:
        return Finding.of(error)
    return Finding("ok", f"The certificate names {domain} and {host}.")


def _usage(certificate: x509.Certificate) -> Iterator[Finding]:
    usages = CertificateFacts.of(certificate).usages
    if usages and not {"serverAuth", "anyExtendedKeyUsage"} & set(usages):
        yield Finding(
            "wrong",
            f"The certificate is not for servers (extended key usage {', '.join(usages)}).",
            "Issue it with the extended key usage serverAuth.",
        )


def dates(certificate: x509.Certificate, what: str, now: datetime) -> Iterator[Finding]:
    """Whether a certificate is valid now, and for how long."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        cure = "Set this host's clock right (chronyc tracking), or wait."
        yield Finding("wrong", f"{what} is not valid before {begin:{_DATE}}.", cure)
    elif now >= end:
        cure = "Renew it, then send the daemon SIGHUP."
        yield Finding("wrong", f"{what} expired on {end:{_DATE}}.", cure)
    elif now + SOON >= end:
        days = (end - now).days
        cure = "Renew it, then send the daemon SIGHUP."
        yield Finding("warning", f"{what} expires in {days} days, on {end:{_DATE}}.", cure)
    else:
        yield Finding("ok", f"{what} is valid until {end:{_DATE}}.")


def _order(chain: list[x509.Certificate]) -> Iterator[Finding]:
    """Each certificate of the file must have issued the one before it."""
    for number, (lower, upper) in enumerate(itertools.pairwise(chain), 1):
        if lower.issuer != upper.subject:
            yield Finding(
                "wrong",
                f"Certificate {number + 1} of the file did not issue certificate {number}.",
                "Put the leaf certificate first, then each one's issuer.",
            )


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)
