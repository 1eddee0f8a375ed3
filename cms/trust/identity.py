"""
Step 8: the certificate must name the XMPP domain and the server (RFC 9525).

Both are obligatory; a common name never counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cryptography import x509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity

from cms import faults
from cms.signalflow import StepError
from cms.trust.facts import CertificateFacts

_HOST_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")  # no wildcard, and safe to be copied


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
    wanted = (f"DNS:{domain}", f"{'IP' if host_is_ip else 'DNS'}:{host}")
    names = ", ".join(facts.names) or "nothing"
    seen = {
        "peer": peer,
        "wanted": ", ".join(wanted),
        "domain": domain,
        "san": ",".join(dict.fromkeys(wanted)),
    }
    try:
        wanted_ids: list[ServiceID] = [DNS_ID(domain)]
        if host_is_ip:
            wanted_ids.append(IPAddress_ID(host))
        elif host != domain:
            wanted_ids.append(DNS_ID(host))
        patterns = extract_patterns(certificate)
        if not patterns and facts.names:
            # Mail addresses and RFC 6120's XmppAddr are names too, but do not count.
            both = host != domain
            fault = faults.IDENTITY_BOTH_MISSING if both else faults.IDENTITY_DOMAIN_MISSING
            missing = f"{domain}, {host}" if both else domain
            raise fault.error(names=names, missing=missing, certificate=names, **seen)
        if not patterns:
            raise faults.IDENTITY_NO_SAN.error(subject=facts.subject, **seen)
        verify_service_identity(patterns, wanted_ids, optional_ids=[])
    except VerificationError as mismatch:
        raise _missing(mismatch, domain, host, facts.names, seen) from None
    except (CertificateError, ValueError, TypeError, x509.DuplicateExtension) as problem:
        shown = str(problem) or type(problem).__name__
        raise faults.IDENTITY_MALFORMED.error(problem=shown, **seen) from None


def _other_domain(names: Sequence[str], host: str) -> str:
    """
    The name that is probably the XMPP domain, in a certificate that names the host: a parent
    of the host in DNS, else a parent of another name, else any other name; empty if none.
    """
    dns = [name[4:].lower() for name in names if name.startswith("DNS:")]
    others = [name for name in dns if name != host and _HOST_NAME.fullmatch(name)]

    def above(*below: str) -> list[str]:
        return [name for name in others if any(each.endswith(f".{name}") for each in below)]

    return max(above(host) or above(*others) or others, key=len, default="")


def _missing(
    mismatch: VerificationError,
    domain: str,
    host: str,
    covered: Sequence[str],
    seen: dict[str, str],
) -> StepError:
    """Which of the two names the certificate lacks."""
    lacking = [error.mismatched_id for error in mismatch.errors]
    dotted = {f"dns:{name}." for name in (domain, host)}
    names = ", ".join(covered)
    if dotted & {name.lower() for name in covered}:
        return faults.IDENTITY_TRAILING_DOT.error(names=names, **seen)
    no_domain = any(isinstance(i, DNS_ID) and i.hostname.decode() == domain for i in lacking)
    no_host = any(
        not (isinstance(i, DNS_ID) and i.hostname.decode() == domain) for i in lacking
    ) or (host == domain and no_domain)
    if no_domain and no_host and host != domain:
        fault, missing = faults.IDENTITY_BOTH_MISSING, f"{domain}, {host}"
    elif no_domain:
        fault, missing = faults.IDENTITY_DOMAIN_MISSING, domain
        other = _other_domain(covered, host) if host != domain else ""
        if other:
            fault, seen = faults.IDENTITY_OTHER_DOMAIN, {**seen, "other": other}
    else:
        fault, missing = faults.IDENTITY_HOST_MISSING, host
    return fault.error(names=names, missing=missing, certificate=names, **seen)
