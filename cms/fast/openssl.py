"""What OpenSSL can do and pyOpenSSL has no name for."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

from cms.fast.needs import Need, find, lacking

_LIB = "OpenSSL._util:lib"
GROUPS_NEEDS = (
    Need("OpenSSL.SSL:Context", "_context"),
    Need(_LIB, "SSL_CTX_set1_curves_list", "long(*)(SSL_CTX *, char *)"),
)
WORDS_NEEDS = (
    Need("OpenSSL._util", "ffi"),
    Need(_LIB, "X509_verify_cert_error_string", "char *(*)(long)"),
)
NEEDS = (*GROUPS_NEEDS, *WORDS_NEEDS)
_LOST = "for a key exchange any client may choose one of the slow groups of OpenSSL's own list"
GROUPS_ABSENT = lacking("pyOpenSSL", GROUPS_NEEDS, _LOST)
_LOST = "why a certificate is refused is told by OpenSSL's number, without its words"
WORDS_ABSENT = lacking("pyOpenSSL", WORDS_NEEDS, _LOST)

if not (GROUPS_ABSENT and WORDS_ABSENT):
    lib: Any = find(_LIB)
if not WORDS_ABSENT:
    ffi: Any = find("OpenSSL._util:ffi")


def allow_groups(context: SSL.Context, groups: bytes) -> None:
    """
    Exchange keys in these groups alone; without what it needs, in OpenSSL's own.

    @param groups: The best first, with colons between them.
    @raise ValueError: OpenSSL does not know one of them.
    """
    if GROUPS_ABSENT:
        return
    if lib.SSL_CTX_set1_curves_list(context._context, groups) != 1:
        raise ValueError(f"OpenSSL does not know all of {groups!r}")


def verify_words(code: int) -> str:
    """OpenSSL's own words for a verify result (x509_vfy.h)."""
    if WORDS_ABSENT:
        return f"verify result {code}"
    return str(ffi.string(lib.X509_verify_cert_error_string(code)), "ascii", "replace")
