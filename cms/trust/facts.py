"""What a certificate says, for logs, status pages and reports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID

from cms.trust.oids import name_of

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
    @ivar key_usages: What its key may be used for; empty if that is not limited.
    @ivar key: The kind and size of its key.
    @ivar critical: The critical extensions, which a verifier must know.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    usages: tuple[str, ...]
    key_usages: tuple[str, ...]
    key: str
    critical: tuple[str, ...]

    @classmethod
    def of(cls, certificate: x509.Certificate) -> CertificateFacts:
        """Read a certificate.  Parts that cannot be read say so; nothing is raised."""
        return cls(
            subject=_readable(lambda: certificate.subject.rfc4514_string(), "unreadable"),  # noqa: PLW0108 - subject raises
            issuer=_readable(lambda: certificate.issuer.rfc4514_string(), "unreadable"),  # noqa: PLW0108
            names=_readable(lambda: _names(certificate), UNREADABLE),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            usages=_readable(lambda: _usages(certificate), UNREADABLE),
            key_usages=_readable(lambda: _key_usages(certificate), UNREADABLE),
            key=_readable(lambda: _key(certificate), "unreadable"),
            critical=_readable(lambda: _critical(certificate), UNREADABLE),
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
    except (
        *(ValueError, TypeError, UnsupportedAlgorithm),
        *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    ):
        return otherwise


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(_general_name(name) for name in san.value)


_KINDS: dict[type, str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.UniformResourceIdentifier: "URI",
    x509.RFC822Name: "email",
    x509.DirectoryName: "directory",
}
# RFC 6120 13.7.1.2.1 and RFC 4985: names of services, which the rule of step 8 does not count.
_OTHER_NAMES = {"1.3.6.1.5.5.7.8.5": "XmppAddr", "1.3.6.1.5.5.7.8.7": "SRV"}


def _general_name(name: x509.GeneralName) -> str:
    if isinstance(name, x509.OtherName):
        oid = name.type_id.dotted_string
        text = name.value[2:].decode("utf-8", "replace")  # past tag and length
        return f"{_OTHER_NAMES[oid]}:{text}" if oid in _OTHER_NAMES else f"other:{oid}"
    if isinstance(name, x509.DirectoryName):
        return f"directory:{name.value.rfc4514_string()}"
    return f"{_KINDS.get(type(name), 'other')}:{name.value}"


def constraints(certificate: x509.Certificate) -> str:
    """The names that a CA may issue certificates for; empty if they are not limited."""
    return _readable(lambda: _constraints(certificate), "unreadable")


def _constraints(certificate: x509.Certificate) -> str:
    try:
        limits = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ""
    told = (("only", limits.permitted_subtrees), ("not", limits.excluded_subtrees))
    return "; ".join(
        f"{words} {', '.join(_general_name(name) for name in names)}"
        for words, names in told
        if names
    )


# RFC 5280 4.2.1.3, by what cryptography calls them.
_KEY_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}


def _key_usages(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(shown for name, shown in _KEY_USAGES.items() if getattr(usage, name))


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")


def _critical(certificate: x509.Certificate) -> tuple[str, ...]:
    return tuple(name_of(each.oid) for each in certificate.extensions if each.critical)


def _usages(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        usage = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
    except x509.ExtensionNotFound:
        return ()
    assert isinstance(usage.value, x509.ExtendedKeyUsage)  # noqa: S101 - by its OID
    return tuple(map(name_of, usage.value))
