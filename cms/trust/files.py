"""Keys, certificates and trust from PEM files; errors name the key of the configuration."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from OpenSSL._util import lib

from cms.errors import CONFIGURATION_VALUE
from cms.signalflow import StepError

# As Mozilla orders them.  SHA-256, which processors know, makes a handshake 7 % cheaper
# than SHA-384, which they do not.
_SUITES_1_3 = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
# Forward secrecy and authenticated encryption, nothing else (RFC 9325 4.2; no CBC, no
# RSA key transport, no finite-field Diffie-Hellman, 4.1).
_SUITES_1_2 = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    b":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    b":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
# X25519 takes 32 us.  What is left out takes 8 times (X448) to 54 times (ffdhe4096) as long,
# at the wish of any stranger; P-521 is there for certificates that hold such a key (TLS 1.2).
_GROUPS = b"X25519:P-256:P-384:P-521"


def openssl_error(error: SSL.Error) -> str:
    """OpenSSL's own words."""
    stack = (error.args or ((),))[0]
    if isinstance(stack, list | tuple):
        return "; ".join(str(entry[-1]) for entry in stack if entry)
    return str(error)


def system_authorities() -> list[x509.Certificate]:
    """The CAs that this system trusts, those that can be read."""
    found = []
    for der in ssl.create_default_context().get_ca_certs(binary_form=True):
        with suppress(ValueError):
            found.append(x509.load_der_x509_certificate(der))
    return found


class PEMFiles:
    """
    The C{[tls]} files of one configuration.

    @ivar file: The configuration file, for messages.
    @ivar expires: When the first certificate of our own chain does, in seconds
        since the epoch; C{None} before it is loaded, or without one.
    @ivar trusted: The subjects of the CAs in C{tls.trust}, once a context was
        made; empty where the system's are trusted.
    """

    def __init__(
        self, file: str, trust: Path | None, certificate: Path | None, key: Path | None
    ) -> None:
        self.file = file
        self.trust = trust
        self.certificate = certificate
        self.key = key
        self.expires: float | None = None
        self.trusted: tuple[x509.Name, ...] = ()

    def context(self) -> SSL.Context:
        """
        A TLS context with these files in it: TLS 1.2 or later, no compression,
        no renegotiation (RFC 7590, RFC 9325).

        @raise ConfigurationError: naming the key whose file is at fault.
        """
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_tls13_ciphersuites(_SUITES_1_3)
        context.set_cipher_list(_SUITES_1_2)
        # pyOpenSSL has no name for it.
        assert lib.SSL_CTX_set1_curves_list(context._context, _GROUPS) == 1  # noqa: S101
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # idle connections keep no buffers
        self._load_own(context)
        self._load_trust(context)
        return context

    def _load_own(self, context: SSL.Context) -> None:
        if self.certificate is None and self.key is None:
            return
        if self.certificate is None or self.key is None:
            missing = "tls.certificate" if self.certificate is None else "tls.key"
            raise self._wrong(missing, "is missing", "Give both tls.certificate and tls.key.")
        chain = self.chain("tls.certificate", self.certificate)
        try:
            key = load_pem_private_key(self._read("tls.key", self.key), password=None)
        except TypeError:
            mend = "Give a key without a passphrase, readable by this user alone."
            raise self._wrong("tls.key", f"{self.key} asks for a passphrase", mend) from None
        except (ValueError, UnsupportedAlgorithm):
            mend = "Give the private key of tls.certificate in PEM form."
            raise self._wrong("tls.key", f"{self.key} holds no PEM private key", mend) from None
        if chain[0].public_key() != key.public_key():
            mend = (
                "Give the key that the certificate was made with, and the leaf certificate first."
            )
            problem = f"{self.key} does not fit the first certificate in {self.certificate}"
            raise self._wrong("tls.key", problem, mend)
        try:
            context.use_certificate(chain[0])
            for intermediate in chain[1:]:
                context.add_extra_chain_cert(intermediate)
            context.use_privatekey(key)  # type: ignore[arg-type]
        except SSL.Error as problem:
            why = openssl_error(problem)
            mend = "Issue it anew with a key that is strong enough (P-256, or RSA of 2,048 bits)."
            raise self._wrong("tls.certificate", f"{self.certificate}: {why}", mend) from None
        self.expires = min(part.not_valid_after_utc for part in chain).timestamp()

    def _load_trust(self, context: SSL.Context) -> None:
        if self.trust is None:
            context.set_default_verify_paths()
            return
        store = context.get_cert_store()
        assert store is not None  # noqa: S101 - a fresh context has one
        trusted = self.chain("tls.trust", self.trust)
        for certificate in trusted:
            store.add_cert(crypto.X509.from_cryptography(certificate))
        self.trusted = tuple(certificate.subject for certificate in trusted)

    def chain(self, key: str, path: Path) -> list[x509.Certificate]:
        """
        The certificates in a file, at least one.

        @raise ConfigurationError: when there is none, or it cannot be read.
        """
        try:
            return x509.load_pem_x509_certificates(self._read(key, path))
        except ValueError:
            mend = "Give a file with one or more certificates in PEM form."
            raise self._wrong(key, f"{path} holds no PEM certificate", mend) from None

    def _read(self, key: str, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as problem:
            mend = "Name a file that this user can read; a relative path counts from the"
            mend += " configuration file."
            raise self._wrong(key, f"{path}: {problem.strerror}", mend) from None

    def _wrong(self, key: str, problem: str, mend: str) -> StepError:
        return CONFIGURATION_VALUE.error(file=self.file, key=key, problem=problem, mend=mend)
