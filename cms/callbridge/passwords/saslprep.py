"""SASLprep (RFC 4013): user names and passwords as they are compared."""

from __future__ import annotations

from cms.xmlstream.preparation import (
    MAX_SECRET,
    SASLPREP,
    PreparationError,
    check_direction,
)


class SASLPrepError(ValueError):
    """The text holds a character that no user name or password may hold."""


def saslprep(text: str) -> str:
    """
    @raise SASLPrepError: when the text is empty or too long, before or after its
        preparation, or holds what is prohibited.
    """
    try:
        prepared = SASLPREP.prepare(text, MAX_SECRET)
        check_direction(prepared)
    except PreparationError as problem:
        raise SASLPrepError(str(problem)) from None
    return prepared
