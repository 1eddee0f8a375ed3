"""SASLprep (RFC 4013): the preparation of user names and passwords."""

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
    @raise SASLPrepError: the text is empty or too long, before or after preparation, or
        holds prohibited characters.
    """
    try:
        prepared = SASLPREP.prepare(text, MAX_SECRET)
        check_direction(prepared)
    except PreparationError as problem:
        raise SASLPrepError(str(problem)) from None
    return prepared
