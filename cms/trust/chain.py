"""The order and completeness of a chain of certificates, as a server sent it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

MOST_SIGNATURES = 64
MOST = 16  # certificates of a chain that are reported
# What CAs call the certificates that they issue leaves with.
_INTERMEDIATE = re.compile(r"\b(intermediate|issuing|sub(ordinate)?[ -]?ca)\b", re.IGNORECASE)


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one certificate is signed by another; C{False} if one cannot be read."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def path_of(chain: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """
    The certificates of a chain in the order of RFC 8446 4.4.2, as far as they
    lead: the leaf first, each followed by the one that issued it.

    A peer can send any number of certificates, and checking a signature costs a tenth of a
    millisecond or more.  So at most L{MOST_SIGNATURES} are checked.
    """
    if not chain:
        return []
    path, left = [chain[0]], list(chain[1:])
    more = MOST_SIGNATURES
    while left and more > 0:
        looked_at = left[:more]
        issuer = next((other for other in looked_at if issued_by(path[-1], other)), None)
        if issuer is None or issuer in path:
            break
        more -= looked_at.index(issuer) + 1
        path.append(issuer)
        left.remove(issuer)
    return path


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Whether it names itself as its issuer, as a root does."""
    return certificate.subject == certificate.issuer


def is_intermediate_of_ours(
    chain: Sequence[x509.Certificate], trusted: Iterable[x509.Name]
) -> bool:
    """
    Whether the issuer that is missing at the end of a chain seems to be an intermediate,
    and not an untrusted CA.  Only its name can tell: it calls itself an intermediate, or
    has the organisation of a trusted CA.
    """
    path = path_of(chain)
    if not path or is_self_issued(path[-1]):
        return False
    issuer = path[-1].issuer
    if any(_INTERMEDIATE.search(name) for name in _texts(issuer, NameOID.COMMON_NAME)):
        return True
    organisations = _texts(issuer, NameOID.ORGANIZATION_NAME)
    return any(organisations & _texts(name, NameOID.ORGANIZATION_NAME) for name in trusted)


def _texts(name: x509.Name, oid: x509.ObjectIdentifier) -> set[str]:
    return {str(attribute.value) for attribute in name.get_attributes_for_oid(oid)}
