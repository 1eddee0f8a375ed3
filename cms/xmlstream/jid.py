"""Addresses: RFC 6122 preparation at a bounded cost, also for addresses that are refused."""

from __future__ import annotations

import re
from functools import lru_cache

import idna
from twisted.words.protocols.jabber.jid import JID

from cms.xmlstream.preparation import (
    MAX_PART,
    NAMEPREP,
    NODEPREP,
    RESOURCEPREP,
    PreparationError,
    Profile,
    check_direction,
    check_length,
)

MAX_REMEMBERED = 256  # characters of an address that is cached
MAX_DNS, MAX_LABEL = 253, 63  # bytes of a name that DNS can have, RFC 1035 2.3.4
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Addresses that preparation would not change.
_PREPARED = re.compile(
    r"(?:([a-z0-9!#$%()*+,.;=?[\]^_`{|}~-]{1,256})@)?"
    rf"((?!.*xn--)(?:{_LABEL}\.)*{_LABEL})"
    r"(?:/([ -~]{1,256}))?"
)
_DOTS = re.compile("[\u3002\uff0e\uff61]")  # RFC 3490 3.1
_BAD_LABELS = re.compile(r"(?:^|\.)(?:-|\.|$)|-(?:\.|$)")


class MalformedJID(ValueError):
    """The text is no address (C{jid-malformed})."""


def parse_jid(text: str) -> JID:
    """
    Prepare an address.

    The result may be shared and must not be changed.  The cache is bounded, unlike
    C{internJID}'s.

    @raise MalformedJID: a part is empty, too long or cannot be prepared.
    """
    return _remembered(text) if len(text) <= MAX_REMEMBERED else _parse(text)


def prepared_jid(text: str) -> JID:
    """What L{parse_jid} has made, again from its full text, without the work of preparing it."""
    bare, slash, resource = text.partition("/")
    user, at, host = bare.rpartition("@")
    return _jid(user if at else None, host, resource if slash else None)


def _parse(text: str) -> JID:
    prepared = _PREPARED.fullmatch(text) if len(text) <= MAX_PART else None
    if prepared is not None:
        return _jid(*prepared.groups())
    bare, slash, resource = text.partition("/")
    local, at, domain = bare.rpartition("@") if bare.count("@") == 1 else ("", "", bare)
    try:
        # Check all lengths before any work.
        for part, given in ((local, at), (domain, True), (resource, slash)):
            if given:
                check_length(part, MAX_PART)
        host = _prepare_domain(domain)
        user = _prepare_part(NODEPREP, local) if at else None
        return _jid(user, host, _prepare_part(RESOURCEPREP, resource) if slash else None)
    except PreparationError as error:
        raise MalformedJID(f"a part of the address cannot be read: {error}") from None


_remembered = lru_cache(maxsize=16_384)(_parse)


def _jid(user: str | None, host: str, resource: str | None) -> JID:
    """What C{JID} would make of parts that are prepared."""
    jid = JID.__new__(JID)
    jid.user, jid.host, jid.resource = user, host, resource
    return jid


def _prepare_part(profile: Profile, text: str) -> str:
    prepared = profile.prepare(text)
    check_direction(prepared)
    return prepared


def _prepare_domain(domain: str) -> str:
    """Nameprep for all labels at once, since it treats each label by itself."""
    written = _DOTS.sub(".", domain).removesuffix(".")  # RFC 7622 3.2
    prepared = NAMEPREP.prepare(written)
    if _BAD_LABELS.search(prepared) or prepared.count(".") != written.count("."):
        raise PreparationError("a label of the domain is empty, or not one of a host")
    if not prepared.isascii():
        for label in prepared.split("."):
            check_direction(label)
    return _without_a_labels(prepared) if "xn--" in prepared else prepared


def _without_a_labels(domain: str) -> str:
    """
    The domain with A-labels decoded (RFC 7622 3.2.1), so that both spellings are one
    address.  A label that would not be the same after encoding it again stays as it is,
    such as one with a sharp s, which RFC 6122 folds.
    """
    check_length(domain, MAX_DNS)
    return ".".join(map(_shown_label, domain.split(".")))


@lru_cache(maxsize=1_024)
def _shown_label(label: str) -> str:
    if not label.startswith("xn--") or len(label) > MAX_LABEL:
        return label
    try:
        shown = _prepare_domain(idna.decode(label))
        return shown if idna.encode(shown).decode() == label else label
    except (idna.IDNAError, PreparationError, UnicodeError):
        return label
