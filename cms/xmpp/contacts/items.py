"""Rosters on the wire (RFC 6121 2.1): what a client may write, and what it is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import frozen
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import escape_text, quote_attribute
from cms.xmpp.contacts.store import Contact, Refused
from cms.xmpp.contacts.subscription import ASKED

VERSIONING: Final = "urn:xmpp:features:rosterver"  # RFC 6121 2.6
MOST_BYTES: Final = 1_024  # of an address, a name and groups together
MOST_GROUPS: Final = 20  # of one contact


class Keys:
    """
    How the store writes addresses.

    @param domain: The XMPP domain.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self._end = f"@{domain}"

    def key(self, jid: JID) -> str:
        """Of the bare address."""
        if jid.user is None:
            return f"@{jid.host}"
        return str(jid.user) if jid.host == self.domain else str(jid.userhost())

    def full_key(self, jid: JID) -> str:
        """Of the address with its resource, if it has one."""
        return self.key(jid) if jid.resource is None else f"{self.key(jid)}/{jid.resource}"

    def own(self, bare: str) -> str:
        """Of the bare address of one of our users."""
        return bare.removesuffix(self._end)

    def address(self, key: str) -> str:
        """The address."""
        bare, slash, resource = key.partition("/")
        if bare.startswith("@"):
            bare = bare[1:]
        elif "@" not in bare:
            bare += self._end
        return bare + slash + resource


@frozen
class Wanted:
    """
    What a roster set asks for.

    @ivar removed: The contact is to go.
    """

    jid: JID
    removed: bool
    name: str = ""
    groups: tuple[str, ...] = ()


def read(query: Element, own: JID) -> Wanted:
    """
    The item of a roster set.

    @param own: Who asks.
    @raise Refused: it is none that can be made (RFC 6121 2.1.5, 2.3.3).
    """
    items = list(query.elements(ns.ROSTER, "item"))
    if len(items) != 1:
        raise Refused("bad-request", "a roster set has one item")
    (item,) = items
    try:
        jid = parse_jid(item.getAttribute("jid") or "")
    except MalformedJID:
        raise Refused("bad-request", "the item has no address") from None
    if jid.userhost() == own.userhost():
        raise Refused("not-allowed", "nobody is a contact of himself")
    if item.getAttribute("subscription") == "remove":
        return Wanted(jid, removed=True)
    name = item.getAttribute("name") or ""
    groups = tuple(str(group) for group in item.elements(ns.ROSTER, "group"))
    if len(set(groups)) != len(groups):
        raise Refused("bad-request", "a group is named twice")
    if "" in groups:
        raise Refused("not-acceptable", "a group has no name")
    if len(groups) > MOST_GROUPS or _size((jid.userhost(), name, *groups)) > MOST_BYTES:
        text = f"a contact has at most {MOST_GROUPS} groups, and {MOST_BYTES} bytes"
        raise Refused("not-acceptable", text)
    return Wanted(jid, False, name, groups)


def _size(texts: Iterable[str]) -> int:
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def written(address: str, contact: Contact | None) -> str:
    """
    An item.

    @param contact: C{None}: it was removed.
    """
    start = f"<item jid={quote_attribute(address)}"
    if contact is None:
        return f"{start} subscription='remove'/>"
    start += f" subscription='{contact.state.subscription}'"
    if contact.state.mine == ASKED:
        start += " ask='subscribe'"
    if contact.name:
        start += f" name={quote_attribute(contact.name)}"
    if not contact.groups:
        return start + "/>"
    groups = "".join(f"<group>{escape_text(group)}</group>" for group in contact.groups)
    return f"{start}>{groups}</item>"


def query(items: str, version: str | None) -> str:
    """The payload of an answer, or of a push."""
    told = "" if version is None else f" ver={quote_attribute(version)}"
    return f"<query xmlns='{ns.ROSTER}'{told}>{items}</query>"
