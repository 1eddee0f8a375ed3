"""What a certificate says, for logs, status pages and reports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID

_T = TypeVar("_T")
UNREADABLE = ("unreadable",)


@frozen
class CertificateFacts:
    """
    A certificate as people read it.

    @ivar names: Its subjectAltName, such as C{DNS:xmpp1.example.com}.
    @ivar not_before: UTC.
    @ivar not_after: UTC.
    @ivar usages: Extended key usages, by their usual names; empty without any.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    usages: tuple[str, ...]

    @classmethod
    def of(cls, certificate: x509.Certificate) -> CertificateFacts:
        """Read a certificate; what cannot be read says so, and nothing is raised."""
        return cls(
            subject=_readable(lambda: certificate.subject.rfc4514_string(), "unreadable"),  # noqa: PLW0108 - subject raises
            issuer=_readable(lambda: certificate.issuer.rfc4514_string(), "unreadable"),  # noqa: PLW0108
            names=_readable(lambda: _names(certificate), UNREADABLE),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            usages=_readable(lambda: _usages(certificate), UNREADABLE),
        )

    def evidence(self) -> dict[str, str]:
        """For the record of an attempt."""
        return {
            "certificate": self.subject or "(no subject)",
            "names": ", ".join(self.names) or "none",
            "issuer": self.issuer,
            "valid": f"{self.not_before:%Y-%m-%d} to {self.not_after:%Y-%m-%d %H:%M} UTC",
        }


def when(moment: datetime) -> str:
    """A moment as reports show it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _readable(read: Callable[[], _T], otherwise: _T) -> _T:
    try:
        return read()
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return otherwise


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    kinds: dict[type, str] = {
        x509.DNSName: "DNS",
        x509.IPAddress: "IP",
        x509.UniformResourceIdentifier: "URI",
    }
    return tuple(f"{kinds.get(type(name), 'other')}:{name.value}" for name in san.value)


def _usages(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        usage = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
    except x509.ExtensionNotFound:
        return ()
    assert isinstance(usage.value, x509.ExtendedKeyUsage)  # noqa: S101 - by its OID
    return tuple(oid._name for oid in usage.value)
