"""Result codes of LDAP (RFC 4511 4.1.9, appendix A), those that mean something here."""

from __future__ import annotations

import re

from sansldap import LDAPResultCode

# Plain numbers: sansldap makes of a code that it does not know a member which equals SUCCESS.
SUCCESS = 0
OPERATIONS_ERROR = 1
SIZE_LIMIT_EXCEEDED = 4
REFERRAL = 10
SASL_BIND_IN_PROGRESS = 14
CONSTRAINT_VIOLATION = 19
NO_SUCH_OBJECT = 32
INVALID_DN_SYNTAX = 34
INAPPROPRIATE_AUTHENTICATION = 48
INVALID_CREDENTIALS = 49
UNWILLING_TO_PERFORM = 53

# The server is the one to blame, and another one may do better.
OF_THE_SERVER = frozenset({OPERATIONS_ERROR, 3, 11, 51, 52, 80})
NO_BASE = frozenset({NO_SUCH_OBJECT, INVALID_DN_SYNTAX})

_NAMES = {code.value: code.name for code in LDAPResultCode}

# Active Directory says why in a number within its text: MS-ERREF 2.2, as the "data" of
# "80090308: LdapErr: DSID-..., comment: AcceptSecurityContext error, data 533, v...".
_AD = re.compile(r"^[0-9A-F]{8}: .*, data ([0-9a-f]{1,8}), v", re.DOTALL)
_AD_WORDS = {
    "525": "there is no such user",
    "52e": "name or password is wrong",
    "530": "the account may not log in at this hour",
    "531": "the account may not log in from here (userWorkstations)",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password must be changed first",
    "775": "the account is locked after wrong passwords",
}
AD_DISABLED = frozenset({"530", "531", "533", "701"})  # said of a right password alone
AD_EXPIRED = frozenset({"532", "773"})  # and these
AD_LOCKED = "775"  # said of any password, for none is looked at


def code_name(code: int) -> str:
    """A code as RFC 4511 writes it, with its number."""
    words = _NAMES.get(code, "").lower().split("_")
    name = words[0] + "".join(word.capitalize() for word in words[1:])
    return f"{name} ({code})" if name else f"result code {code}"


def ad_reason(text: str) -> str:
    """Active Directory's number for why a bind failed; empty if it is not from there."""
    found = _AD.match(text)
    return found[1] if found else ""


def ad_words(text: str) -> str:
    """What Active Directory's number means; empty if it is not from there."""
    return _AD_WORDS.get(ad_reason(text), "")
