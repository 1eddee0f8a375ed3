"""SASLprep (RFC 4013): user names and passwords as they are compared."""

from __future__ import annotations

from typing import Any

from twisted.words.protocols.jabber import xmpp_stringprep as tables


class SASLPrepError(ValueError):
    """The text holds a character that no user name or password may hold."""


class _SpacesToSpace:
    """RFC 4013 2.1: every space of table C.1.2 is an ASCII space."""

    def map(self, character: str) -> str:
        return " " if tables.C_12.lookup(character) else character


# twisted.words brings the tables and the machinery, but not this profile.
_profile: Any = tables.Profile(
    mappings=[_SpacesToSpace(), tables.B_1],
    prohibiteds=[
        tables.C_12,
        tables.C_21,
        tables.C_22,
        tables.C_3,
        tables.C_4,
        tables.C_5,
        tables.C_6,
        tables.C_7,
        tables.C_8,
        tables.C_9,
    ],
    check_unassigneds=False,  # the text is a query, RFC 3454 7
)


def saslprep(text: str) -> str:
    """
    @raise SASLPrepError: when the text is empty after preparation, or holds
        what is prohibited.
    """
    if text.isascii() and text.isprintable() and text:
        return text  # nothing in it is mapped or prohibited
    try:
        prepared = str(_profile.prepare(text))
    except UnicodeError:
        raise SASLPrepError("it holds a character that is not allowed") from None
    if not prepared:
        raise SASLPrepError("it is empty")
    return prepared
