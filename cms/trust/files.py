"""Keys, certificates and trust from PEM files; errors name the key of the configuration."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from cms import faults
from cms.fast.openssl import allow_groups
from cms.signalflow import StepError
from cms.state.folder import mend_unread
from cms.state.textencoding import Unreadable
from cms.trust.chain import MOST
from cms.trust.facts import CertificateFacts
from cms.trust.pem import certificates, check_key
from cms.trust.refusals import Role
from cms.trust.rehearsal import Rehearsal, openssl_error, rehearse

MOST_CAS = 10  # between a leaf and its root, which bounds the cost of building a path
# In Mozilla's order.  Processors have instructions for SHA-256 and none for SHA-384, so the
# first makes a handshake 7 % cheaper.
_SUITES_1_3 = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
# Forward secrecy and authenticated encryption, nothing else (RFC 9325 4.2; no CBC, no
# RSA key transport, no finite-field Diffie-Hellman, 4.1).
_SUITES_1_2 = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    b":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    b":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
# X25519 takes 32 us.  The groups left out take 8 times (X448) to 54 times (ffdhe4096) as long,
# and any peer could ask for them.  P-521 is for certificates with such a key (TLS 1.2).
_GROUPS = b"X25519:P-256:P-384:P-521"


def system_authorities() -> list[x509.Certificate]:
    """The CAs that this system trusts, those that can be read."""
    found = []
    for der in ssl.create_default_context().get_ca_certs(binary_form=True):
        with suppress(ValueError):
            found.append(x509.load_der_x509_certificate(der))
    return found


_Own = tuple[list[x509.Certificate], crypto.PKey]


class PEMFiles:
    """
    The C{[tls]} files of one configuration.

    @ivar file: The configuration file, for messages.
    @ivar trust_key: The key that names C{trust}, for messages: C{tls.trust}, or that of another
        C{section}.
    @ivar role: Whether the certificate is presented as a server's or a client's.
    @ivar own: Our own certificates, leaf first, once a context was made.
    @ivar rehearsal: The result of a handshake in memory, once a context was made.
    @ivar trusted: The CAs in C{tls.trust}, once a context was made; empty where the
        system's are trusted.
    """

    def __init__(
        self,
        file: str,
        trust: Path | None,
        certificate: Path | None,
        key: Path | None,
        *,
        role: Role = "server",
        section: str = "",
    ) -> None:
        self.file = file
        self.trust_key = f"{section} trust" if section else "tls.trust"
        self.trust = trust
        self.certificate = certificate
        self.key = key
        self.role = role
        self.own: tuple[x509.Certificate, ...] = ()
        self.rehearsal: Rehearsal | None = None
        self.trusted: tuple[x509.Certificate, ...] = ()

    def as_server(self) -> PEMFiles:
        """The same files, for a listener."""
        return PEMFiles(self.file, self.trust, self.certificate, self.key)

    @property
    def expires(self) -> float | None:
        """
        The earliest expiry date on the path that verifies our certificate, in seconds since
        the epoch; C{None} before it is loaded, or without one.
        """
        if self.rehearsal is None:
            return None
        return min(part.not_valid_after_utc for part in self.rehearsal.dated).timestamp()

    def context(self) -> SSL.Context:
        """
        A TLS context with these files in it: TLS 1.2 or later, no compression,
        no renegotiation (RFC 7590, RFC 9325).

        @raise ConfigurationError: naming the key whose file is at fault.
        """
        own = self._read_own()
        trusted = self.chain(self.trust_key, self.trust) if self.trust is not None else []
        if own is not None:
            # A context that has made a connection cannot be changed any more.
            rehearsal = rehearse(self._make(own, trusted), own[0], self.role, trusted)
            if rehearsal.problem:
                raise self._unusable(own[0], rehearsal.problem)
            self.rehearsal, self.own = rehearsal, tuple(own[0])
        self.trusted = tuple(trusted)
        return self._make(own, trusted)

    def _make(self, own: _Own | None, trusted: list[x509.Certificate]) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_tls13_ciphersuites(_SUITES_1_3)
        context.set_cipher_list(_SUITES_1_2)
        allow_groups(context, _GROUPS)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # idle connections keep no buffers
        context.set_verify_depth(MOST_CAS)
        if own is not None:
            self._use(context, *own)
        if self.trust is None:
            context.set_default_verify_paths()
        store = context.get_cert_store()
        assert store is not None  # noqa: S101 - a fresh context has one
        for certificate in trusted:
            store.add_cert(crypto.X509.from_cryptography(certificate))
        return context

    def _use(self, context: SSL.Context, chain: list[x509.Certificate], key: crypto.PKey) -> None:
        try:
            context.use_certificate(chain[0])
            for intermediate in chain[1:]:
                context.add_extra_chain_cert(intermediate)
            context.use_privatekey(key)
            context.check_privatekey()
        except SSL.Error as problem:
            raise self._unusable(chain, openssl_error(problem)) from None

    def _unusable(self, chain: list[x509.Certificate], problem: str) -> StepError:
        facts = [CertificateFacts.of(certificate) for certificate in chain[:MOST]]
        keys = ", ".join(f'"{each.subject}" {each.key}' for each in facts)
        path = self.certificate
        return faults.OWN_CERTIFICATE_UNUSABLE.error(
            file=self.file, path=path, problem=problem, keys=keys
        )

    def _read_own(self) -> _Own | None:
        if self.certificate is None and self.key is None:
            return None
        if self.certificate is None or self.key is None:
            missing = "tls.certificate" if self.certificate is None else "tls.key"
            raise self._wrong(missing, "is missing", "Give both tls.certificate and tls.key.")
        chain = self.chain("tls.certificate", self.certificate)
        pem = self._read("tls.key", self.key)
        try:
            check_key(pem)
            key = load_pem_private_key(pem, password=None)
        except Unreadable as found:
            raise self._wrong("tls.key", f"{self.key} {found.problem}", found.mend) from None
        except TypeError:
            mend = "Give a key without a passphrase, readable by this user alone."
            raise self._wrong("tls.key", f"{self.key} asks for a passphrase", mend) from None
        except (ValueError, UnsupportedAlgorithm):
            mend = "Give the private key of tls.certificate in PEM form."
            raise self._wrong("tls.key", f"{self.key} holds no PEM private key", mend) from None
        try:
            fits = chain[0].public_key() == key.public_key()
            # OpenSSL itself reads the key, so that an RSA-PSS key keeps its parameters.
            usable = crypto.load_privatekey(crypto.FILETYPE_PEM, pem, b"")
        except (ValueError, UnsupportedAlgorithm, crypto.Error) as problem:
            raise self._unusable(chain, f"its key cannot be read: {problem}") from None
        if not fits:
            mend = (
                "Give the key that the certificate was made with, and the leaf certificate first."
            )
            why = f"{self.key} does not fit the first certificate in {self.certificate}"
            raise self._wrong("tls.key", why, mend)
        return chain, usable

    def chain(self, key: str, path: Path) -> list[x509.Certificate]:
        """
        The certificates in a file, at least one.

        @raise ConfigurationError: when there is none, or it cannot be read.
        """
        try:
            return certificates(self._read(key, path))
        except Unreadable as problem:
            raise self._wrong(key, f"{path} {problem.problem}", problem.mend) from None

    def _read(self, key: str, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as problem:
            mend = "Name a file that this user can read; a relative path counts from the"
            mend += " configuration file."
            mend = mend_unread(problem, mend)
            raise self._wrong(key, f"{path}: {problem.strerror}", mend) from None

    def _wrong(self, key: str, problem: str, mend: str) -> StepError:
        return faults.CONFIGURATION_VALUE.error(file=self.file, key=key, problem=problem, mend=mend)
