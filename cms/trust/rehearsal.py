"""
A handshake in memory with our own certificate, to find out what peers will object to.

The peer in it has OpenSSL's defaults and trusts all CAs that this side knows.  It notes
its objections and goes on, so that one handshake finds them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache

from attrs import field, frozen
from cryptography import x509
from OpenSSL import SSL, crypto

from cms.fast.openssl import verify_words
from cms.trust.chain import is_self_issued
from cms.trust.issue import CertificateAuthority
from cms.trust.refusals import NOT_TRUSTED, TOO_WEAK, Refusal, Role

_ROUNDS = 20  # flights of a handshake in memory; it takes three
_MOST_CERTAIN = 2  # certificates of a path that every peer needs, whatever it trusts
_MOST_BYTES = 1 << 20


@frozen
class Rehearsal:
    """
    The result.

    @ivar path: As the peer built it, leaf first, as far as it got.
    @ivar refusals: The peer's objections, in OpenSSL's order.
    @ivar problem: Why no handshake can complete, whatever the peer trusts, in
        OpenSSL's words; empty if it completed.
    """

    path: tuple[x509.Certificate, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    problem: str = ""

    @property
    def ends_open(self) -> bool:
        """Whether the path ends with a certificate whose issuer is not known here."""
        return any(refusal.code in NOT_TRUSTED for refusal in self.refusals)

    @property
    def dated(self) -> tuple[x509.Certificate, ...]:
        """
        The part of the path whose dates count for every peer.  If the end of the path is
        not known here, its last certificate may be a cross-signed copy of a root that
        peers have themselves.  Then they ignore its date.
        """
        is_copy = self.ends_open and len(self.path) > _MOST_CERTAIN
        return self.path[:-1] if is_copy and not is_self_issued(self.path[-1]) else self.path


@frozen
class _Peer:
    """The other end: it accepts every certificate and notes its objections."""

    context: SSL.Context
    refusals: list[Refusal] = field(factory=list)

    def look(
        self, connection: SSL.Connection, cert: crypto.X509, number: int, depth: int, ok: int
    ) -> bool:
        """From OpenSSL, for each objection and each certificate."""
        if not ok:
            self.refusals.append(Refusal(number, depth, cert.to_cryptography()))
        return True


def rehearse(
    context: SSL.Context,
    chain: Sequence[x509.Certificate],
    role: Role,
    known: Iterable[x509.Certificate],
) -> Rehearsal:
    """
    Shake hands.

    @param context: Ours, with the certificate in it.
    @param chain: The certificates of our file, leaf first.
    @param role: Whether we are server or client.
    @param known: The CAs that the peer trusts, beside the system's.
    """
    peer = _Peer(SSL.Context(SSL.TLS_METHOD))
    peer.context.set_default_verify_paths()
    store = peer.context.get_cert_store()
    assert store is not None  # noqa: S101 - a fresh context has one
    for certificate in known:
        store.add_cert(crypto.X509.from_cryptography(certificate))
    mode = SSL.VERIFY_PEER
    if role == "client":
        certificate, key = _counterpart()
        peer.context.use_certificate(certificate)
        peer.context.use_privatekey(key)
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    ours, theirs = SSL.Connection(context, None), SSL.Connection(peer.context, None)
    ours.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    theirs.set_verify(mode, peer.look)
    client, server = (theirs, ours) if role == "server" else (ours, theirs)
    client.set_connect_state()
    server.set_accept_state()
    problem = _shake(client, server)
    weak = [refusal for refusal in peer.refusals if refusal.code in TOO_WEAK]
    if weak and not problem:
        problem = verify_words(weak[0].code)
    path = theirs.get_verified_chain(as_cryptography=True) or chain[:1]
    return Rehearsal(tuple(path), tuple(peer.refusals), problem)


def _shake(client: SSL.Connection, server: SSL.Connection) -> str:
    """@return: The first error, in OpenSSL's words; empty if both ends completed."""
    complete = {client: False, server: False}
    for _ in range(_ROUNDS):
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as problem:
                return openssl_error(problem)
            else:
                complete[end] = True
            with suppress(SSL.WantReadError):
                other.bio_write(end.bio_read(_MOST_BYTES))
        if all(complete.values()):
            return ""
    return "it does not come to an end"


@cache
def _counterpart() -> tuple[x509.Certificate, crypto.PKey]:
    """A certificate for the server that a client of ours talks to here."""
    issued = CertificateAuthority("rehearsal").issue("rehearsal")
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    return certificate, crypto.load_privatekey(crypto.FILETYPE_PEM, issued.key)


def openssl_error(error: SSL.Error) -> str:
    """OpenSSL's own words."""
    stack = (error.args or ((),))[0]
    if isinstance(stack, list | tuple):
        return "; ".join(str(entry[-1]) for entry in stack if entry)
    return str(error)
