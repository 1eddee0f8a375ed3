"""Addresses: RFC 6122 preparation, with the cases that twisted.words lets through."""

from __future__ import annotations

from functools import lru_cache

from twisted.words.protocols.jabber.jid import JID, InvalidFormat

MAX_PART = 1023  # bytes of each part, RFC 6122 2.1


class MalformedJID(ValueError):
    """The text is no address (C{jid-malformed})."""


@lru_cache(maxsize=16_384)
def parse_jid(text: str) -> JID:
    """
    Prepare an address.

    The result is shared and must not be changed; the cache is bounded, unlike
    C{internJID}'s.

    @raise MalformedJID: when a part is empty, too long or does not prepare.
    """
    bare, slash, resource = text.partition("/")
    local, at, _ = bare.partition("@")
    if (slash and not resource) or (at and not local):
        raise MalformedJID("a part of the address is empty")
    try:
        jid = JID(text)
    except (InvalidFormat, UnicodeError) as error:
        raise MalformedJID(str(error)) from None
    for part in (jid.user, jid.host, jid.resource):
        if part is not None and not 0 < len(part.encode()) <= MAX_PART:
            raise MalformedJID("a part of the address is empty or too long")
    if any(character.isspace() or character in "@/" for character in jid.host):
        raise MalformedJID("the domain holds a character that no domain has")
    return jid
