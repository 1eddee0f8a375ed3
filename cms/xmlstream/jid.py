"""Addresses: RFC 6122 preparation, with the cases that twisted.words lets through."""

from __future__ import annotations

import re
from functools import lru_cache

import idna
from twisted.words.protocols.jabber.jid import JID, InvalidFormat

MAX_PART = 1023  # bytes of each part, RFC 6122 2.1
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Addresses that are as the preparation would leave them, which takes 100 us to say so.
_PREPARED = re.compile(
    r"(?:([a-z0-9!#$%()*+,.;=?[\]^_`{|}~-]{1,256})@)?"
    rf"((?!.*xn--)(?:{_LABEL}\.)*{_LABEL})"
    r"(?:/([ -~]{1,256}))?"
)


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
    prepared = _PREPARED.fullmatch(text) if len(text) <= MAX_PART else None
    if prepared is not None:
        return _jid(*prepared.groups())
    bare, slash, resource = text.partition("/")
    local, at, domain = bare.rpartition("@") if bare.count("@") == 1 else ("", "", bare)
    if (slash and not resource) or (at and not local):
        raise MalformedJID("a part of the address is empty")
    if max(len(local), len(domain), len(resource)) > MAX_PART:
        # before the preparation, whose time grows with the square of the length
        raise MalformedJID("a part of the address is too long")
    domain = domain.removesuffix(".")  # RFC 7622 3.2
    if not all(domain.split(".")):
        raise MalformedJID("a label of the domain is empty")
    try:
        if "xn--" in domain.lower():
            domain = _without_a_labels(domain)
        jid = JID(f"{local}{at}{domain}{slash}{resource}")
    except (InvalidFormat, UnicodeError, IndexError) as error:
        raise MalformedJID(str(error) or "it does not prepare") from None
    for part in (jid.user, jid.host, jid.resource):
        if part is not None and not 0 < len(part.encode()) <= MAX_PART:
            raise MalformedJID("a part of the address is empty or too long")
    if any(character.isspace() or character in "@/" for character in jid.host):
        raise MalformedJID("the domain holds a character that no domain has")
    return jid


def _jid(user: str | None, host: str, resource: str | None) -> JID:
    """What C{JID} would make of parts that need no preparation."""
    jid = JID.__new__(JID)
    jid.user, jid.host, jid.resource = user, host, resource
    return jid


def _without_a_labels(domain: str) -> str:
    """
    The domain without labels in the form that DNS has them in (RFC 7622 3.2.1),
    so that both spellings are one address.  A label that would not come back
    from it, such as one with a sharp s, which RFC 6122 folds, stays as it is.
    """
    return ".".join(map(_shown_label, domain.split(".")))


def _shown_label(label: str) -> str:
    if not label.lower().startswith("xn--"):
        return label
    try:
        shown = str(JID(idna.decode(label)).host)
        return shown if idna.encode(shown).decode() == label.lower() else label
    except (idna.IDNAError, InvalidFormat, UnicodeError):
        return label
