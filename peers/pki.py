"""Certificates as they should not be: chains, validity, usages and names as a test wants them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from peers.certs import Pair, write_pair

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
DAY = timedelta(days=1)
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@frozen
class Validity:
    """From so many days from now until so many days from now."""

    begins: float = -1
    ends: float = 90

    def on(self, builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        """Written into a certificate."""
        now = datetime.now(UTC)
        builder = builder.not_valid_before(now + self.begins * DAY)
        return builder.not_valid_after(now + self.ends * DAY)


@frozen
class Leaf:
    """A certificate for a server, not yet on disk."""

    certificate: x509.Certificate
    key: Key = field(repr=False)

    def write(self, directory: Path, *chain: Authority) -> Pair:
        """As files; C{chain} follows the leaf in the order given."""
        certificates = [self.certificate, *(authority.certificate for authority in chain)]
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return write_pair(directory, "custom", pem(*certificates), key)


class Authority:
    """A root CA, or one below another."""

    def __init__(
        self, name: str, issuer: Authority | None = None, validity: Validity | None = None
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _common_name(name)
        issuer = issuer or self
        self.certificate = (
            issuer.begin(self.name, self.key.public_key(), validity or Validity(ends=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
            )
            .sign(issuer.key, hashes.SHA256())
        )

    def begin(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        validity: Validity,
    ) -> x509.CertificateBuilder:
        """What every certificate of this CA has."""
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
        builder = builder.public_key(public).serial_number(x509.random_serial_number())
        return validity.on(builder).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
            critical=False,
        )

    def issue(
        self,
        names: Iterable[str] = (),
        *,
        common_name: str = "xmpp",
        usages: Sequence[x509.ObjectIdentifier] = (SERVER, CLIENT),
        validity: Validity | None = None,
        san: x509.ExtensionType | None = None,
        key: Key | None = None,
    ) -> Leaf:
        """
        A certificate for a server.

        @param names: Its subjectAltName, hosts and addresses as they stand here.
        @param usages: Its extended key usage; empty leaves the extension out.
        @param san: Another subjectAltName, for what no sane CA would write.
        @param key: For that key instead of a new one.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = self.begin(_common_name(common_name), key.public_key(), validity or Validity())
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        alternatives = [_general_name(name) for name in names]
        if san is None and alternatives:
            san = x509.SubjectAlternativeName(alternatives)
        if san is not None:
            builder = builder.add_extension(san, critical=False)
        return Leaf(builder.sign(self.key, hashes.SHA256()), key)


def self_signed(names: Iterable[str]) -> Leaf:
    """A certificate for a server that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name("self-signed")
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    san = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = Validity().on(builder).add_extension(san, critical=False)
    return Leaf(builder.sign(key, hashes.SHA256()), key)


def malformed_san() -> x509.ExtensionType:
    """A subjectAltName whose one name is written in Latin-1 instead of A-labels."""
    name = "b\u00fcro.example.com".encode("latin-1")
    octets = bytes([0x30, len(name) + 2, 0x82, len(name)]) + name
    return x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, octets)


def pem(*certificates: x509.Certificate) -> bytes:
    """A bundle."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
