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
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from peers.certs import Pair, write_pair

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
DAY = timedelta(days=1)
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
CA = x509.BasicConstraints(ca=True, path_length=None)
NO_CA = x509.BasicConstraints(ca=False, path_length=None)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
# RFC 3820: a certificate that a user issued for himself.
PROXY = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"),
    bytes.fromhex("300c300a06082b06010505071501"),
)


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
        self,
        name: str,
        issuer: Authority | None = None,
        validity: Validity | None = None,
        *,
        basic: x509.BasicConstraints = CA,
        extensions: Iterable[x509.ExtensionType] = (),
        key: Key | None = None,
        identified: bool = True,
    ) -> None:
        """
        @param basic: What it says of itself: a CA, if it is a sane one.
        @param extensions: More extensions, critical.
        @param key: That key instead of a new one.
        @param identified: Whether it and what it issues have key identifiers.
        """
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = _common_name(name)
        self.identified = identified
        issuer = issuer or self
        public = self.key.public_key()
        builder = issuer.begin(self.name, public, validity or Validity(ends=365))
        builder = builder.add_extension(basic, critical=True)
        if identified:
            identifier = x509.SubjectKeyIdentifier.from_public_key(public)
            builder = builder.add_extension(identifier, critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    def renewed(
        self, issuer: Authority | None = None, validity: Validity | None = None
    ) -> Authority:
        """The same name and key in another certificate: cross-signed, or with other dates."""
        name = self.name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return Authority(str(name), issuer, validity, key=self.key, identified=self.identified)

    def begin(
        self,
        subject: x509.Name,
        public: PublicKey,
        validity: Validity,
    ) -> x509.CertificateBuilder:
        """What every certificate of this CA has."""
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
        builder = builder.public_key(public).serial_number(x509.random_serial_number())
        if not self.identified:
            return validity.on(builder)
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
        extensions: Iterable[x509.ExtensionType] = (),
    ) -> Leaf:
        """
        A certificate for a server.

        @param names: Its subjectAltName, hosts and addresses as they stand here.
        @param usages: Its extended key usage; empty leaves the extension out.
        @param san: Another subjectAltName, for what no sane CA would write.
        @param key: For that key instead of a new one.
        @param extensions: More extensions, critical.
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
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return Leaf(builder.sign(self.key, hashes.SHA256()), key)


# AlgorithmIdentifier of ECDSA with SHA-256 and with SHA-1 (RFC 5758 3.2, RFC 3279 2.2.3)
_SHA256, _SHA1 = (bytes.fromhex(h) for h in ("300a06082a8648ce3d040302", "300906072a8648ce3d0401"))


def signed_with_sha1(ca: Authority, names: Iterable[str]) -> Leaf:
    """A certificate signed as nobody should any more; no library writes one, so this does."""
    leaf = ca.issue(names)
    content = leaf.certificate.tbs_certificate_bytes[4:]
    signed = _sequence(content.replace(_SHA256, _SHA1, 1))
    assert isinstance(ca.key, ec.EllipticCurvePrivateKey)
    signature = b"\0" + ca.key.sign(signed, ec.ECDSA(hashes.SHA1()))
    whole = _sequence(signed + _SHA1 + bytes([3, len(signature)]) + signature)
    return Leaf(x509.load_der_x509_certificate(whole), leaf.key)


def _sequence(content: bytes) -> bytes:
    """In DER; of 256 bytes or more."""
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


RSA_PSS = Path(__file__).with_name("rsapss")
# fits.crt: RSA-PSS with a salt of 32 bytes; never.crt: with one of 64, for SHA-256, which TLS
# has no signature scheme for.  No library here makes such keys; each stands for 100 years.


def self_signed(names: Iterable[str]) -> Leaf:
    """A certificate for a server that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name("self-signed")
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    san = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = Validity().on(builder).add_extension(san, critical=False)
    return Leaf(builder.sign(key, hashes.SHA256()), key)


def key_usage(*allowed: str) -> x509.KeyUsage:
    """A key usage of these kinds, such as C{digital_signature}."""
    kinds = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    more = ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{kind: kind in allowed for kind in (*kinds, *more)})


def malformed_san() -> x509.ExtensionType:
    """A subjectAltName whose one name is written in Latin-1 instead of A-labels."""
    name = "b\u00fcro.example.com".encode("latin-1")
    octets = bytes([0x30, len(name) + 2, 0x82, len(name)]) + name
    return x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, octets)


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
