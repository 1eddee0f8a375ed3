"""What a TLS connection, established or failed, tells about its peer."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed
from twisted.python.failure import Failure

from cms import faults
from cms.signalflow import StepError
from cms.trust.facts import CertificateFacts
from cms.trust.rehearsal import openssl_error
from cms.trust.verdict import Verdict

EXPORTER_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 2
EXPORTER_LENGTH = 32

_NOT_TLS = ("wrong version number", "packet length too long", "http request", "unknown protocol")
_WANTS_CERTIFICATE = ("certificate required", "peer did not return a certificate")
_TOO_OLD = ("alert protocol version", "unsupported protocol", "version too low")
_NO_SUCH_NAME = "unrecognized name"
_FAILURE_ALERT = "alert handshake failure"
_REFUSES_CERTIFICATE = (
    "alert bad certificate",
    "alert unsupported certificate",
    "alert certificate revoked",
    "alert certificate expired",
    "alert certificate unknown",
    "alert unknown ca",
    "alert access denied",
)


def connection_of(transport: object) -> SSL.Connection | None:
    """The TLS connection under a Twisted transport, if there is one."""
    handle = getattr(transport, "getHandle", lambda: None)()
    return handle if isinstance(handle, SSL.Connection) else None


def only_looked(connection: SSL.Connection | None, reason: Failure) -> bool:
    """
    Whether a peer disconnected before it sent a ClientHello, as monitors and load
    balancers do that check whether a port is open.

    @param reason: Why the connection was lost.
    """
    if connection is None or not reason.check(ConnectionClosed):
        return False
    return connection.client_random() is None  # which OpenSSL knows as soon as it has read one


def tls_evidence(connection: SSL.Connection | None) -> dict[str, str]:
    """Protocol, cipher and the peer's certificate."""
    if connection is None:
        return {}
    evidence = {
        "protocol": connection.get_protocol_version_name(),
        "cipher": connection.get_cipher_name() or "none",
    }
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is not None:
        evidence.update(CertificateFacts.of(certificate).evidence())
    return evidence


def peer_expiry(connection: SSL.Connection | None) -> float | None:
    """
    The earliest expiry date on the path that verified the peer's certificate, in seconds
    since the epoch; C{None} if it showed none.  Other certificates that it sent do not
    count.
    """
    if connection is None:
        return None
    path = connection.get_verified_chain(as_cryptography=True)
    leaf = connection.get_peer_certificate(as_cryptography=True)
    if leaf is None:
        return None
    return min(part.not_valid_after_utc for part in path or [leaf]).timestamp()


def tls_exporter(connection: SSL.Connection | None) -> bytes | None:
    """
    The C{tls-exporter} channel binding (RFC 9266).

    @return: 32 bytes; C{None} below TLS 1.3, where the value is not unique
        without further conditions (RFC 9266 4.2).
    """
    if connection is None or connection.get_protocol_version_name() != "TLSv1.3":
        return None
    return connection.export_keying_material(EXPORTER_LABEL, EXPORTER_LENGTH, b"")


def explain_alert(reason: Failure, *, peer: str, presented: bool) -> StepError | None:
    """
    The fault behind a peer's TLS alert about our certificate.

    In TLS 1.3 it arrives when our side of the handshake is long complete, so it
    must be looked for whenever a connection ends early.

    @param presented: Whether we have a certificate.
    """
    problem = openssl_words(reason)
    words = problem.lower()
    seen: dict[str, object] = {"peer": peer, "problem": problem}
    if any(said in words for said in _WANTS_CERTIFICATE):
        return faults.TLS_CLIENT_CERTIFICATE_REQUIRED.error(**seen)
    if any(said in words for said in _REFUSES_CERTIFICATE):
        if presented:
            return faults.TLS_CLIENT_CERTIFICATE_REFUSED.error(**seen)
        return faults.TLS_CLIENT_CERTIFICATE_REQUIRED.error(**seen)
    return None


def explain_handshake(
    reason: Failure, *, peer: str, presented: bool, verdict: Verdict | None = None
) -> StepError:
    """Why a handshake failed: our own verdict first, then the peer's alert."""
    if verdict is not None and verdict.error is not None:
        return verdict.error
    alert = explain_alert(reason, peer=peer, presented=presented)
    if alert is not None:
        return alert
    problem = openssl_words(reason)
    if verdict is not None and verdict.facts is not None and _FAILURE_ALERT in problem.lower():
        # TLS 1.2 has no alert of its own for a missing certificate, but by now
        # protocol, cipher and the server's certificate are agreed upon.
        refused, required = (
            faults.TLS_CLIENT_CERTIFICATE_REFUSED,
            faults.TLS_CLIENT_CERTIFICATE_REQUIRED,
        )
        return (refused if presented else required).error(peer=peer, problem=problem)
    for words, fault in (
        (_NOT_TLS, faults.TLS_NOT_SPOKEN),
        (_TOO_OLD, faults.TLS_TOO_OLD),
        ((_NO_SUCH_NAME,), faults.TLS_NAME_UNKNOWN),
    ):
        if any(said in problem.lower() for said in words):
            return fault.error(peer=peer, problem=problem)
    if reason.check(SSL.Error) and problem:
        is_alert = "alert" in problem.lower() and _FAILURE_ALERT not in problem.lower()
        return (faults.TLS_ALERT if is_alert else faults.TLS_FAILED).error(
            peer=peer, problem=problem
        )
    return faults.TLS_CLOSED.error(peer=peer, problem=problem or "connection closed")


def openssl_words(reason: Failure) -> str:
    """OpenSSL's own words for what happened, else Twisted's."""
    if isinstance(reason.value, SSL.Error):
        return openssl_error(reason.value)
    if reason.check(ConnectionClosed):
        return reason.getErrorMessage().rstrip(".")
    return str(reason.value)
