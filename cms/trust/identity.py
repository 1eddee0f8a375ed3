"""
Step 8: the certificate must name the XMPP domain and the server (RFC 9525).

Both are obligatory; a common name never counts.
"""

from __future__ import annotations

from cryptography import x509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity

from cms import errors
from cms.signalflow import StepError
from cms.trust.facts import CertificateFacts


def check_identity(
    certificate: x509.Certificate, *, domain: str, host: str, host_is_ip: bool, peer: str
) -> None:
    """
    The SAN rule.

    @param domain: The XMPP domain, in A-labels.
    @param host: What was connected to: a name in A-labels or an IP address.
    @param peer: For the report.
    @raise TrustError: (C{identity-*}) naming what the certificate lacks; also
        when the certificate cannot be understood.
    """
    facts = CertificateFacts.of(certificate)
    wanted = f"DNS:{domain}, {'IP' if host_is_ip else 'DNS'}:{host}"
    names = ", ".join(facts.names) or "nothing"
    try:
        wanted_ids: list[ServiceID] = [DNS_ID(domain)]
        if host_is_ip:
            wanted_ids.append(IPAddress_ID(host))
        elif host != domain:
            wanted_ids.append(DNS_ID(host))
        patterns = extract_patterns(certificate)
        if not patterns:
            raise errors.IDENTITY_NO_SAN.error(peer=peer, subject=facts.subject, wanted=wanted)
        verify_service_identity(patterns, wanted_ids, optional_ids=[])
    except VerificationError as mismatch:
        raise _missing(mismatch, domain, host, names, peer) from None
    except (CertificateError, ValueError, TypeError, x509.DuplicateExtension) as problem:
        raise errors.IDENTITY_MALFORMED.error(
            peer=peer, problem=str(problem) or type(problem).__name__, wanted=wanted
        ) from None


def _missing(
    mismatch: VerificationError, domain: str, host: str, names: str, peer: str
) -> StepError:
    """Which of the two names the certificate lacks."""
    lacking = [error.mismatched_id for error in mismatch.errors]
    if any(f"DNS:{name}." in names.lower().split(", ") for name in (domain, host)):
        wanted = ", ".join(dict.fromkeys(f"DNS:{name}" for name in (domain, host)))
        return errors.IDENTITY_TRAILING_DOT.error(peer=peer, names=names, wanted=wanted)
    no_domain = any(isinstance(i, DNS_ID) and i.hostname.decode() == domain for i in lacking)
    no_host = any(
        not (isinstance(i, DNS_ID) and i.hostname.decode() == domain) for i in lacking
    ) or (host == domain and no_domain)
    if no_domain and no_host and host != domain:
        fault, missing = errors.IDENTITY_BOTH_MISSING, f"{domain}, {host}"
    elif no_domain:
        fault, missing = errors.IDENTITY_DOMAIN_MISSING, domain
    else:
        fault, missing = errors.IDENTITY_HOST_MISSING, host
    return fault.error(peer=peer, names=names, missing=missing, certificate=names)
