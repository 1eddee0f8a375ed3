"""Resource binding: a client's request and the answer (RFC 6120 7)."""

from __future__ import annotations

import os

from twisted.words.protocols.jabber.jid import JID

from cms.xmlstream import ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import escape_text, quote_attribute
from cms.xmlstream.stanza import Stanza


def is_asked(stanza: Stanza) -> bool:
    """Whether this asks for a resource."""
    is_set = stanza.is_request and stanza.type == "set" and bool(stanza.id)
    return is_set and stanza.payload == (ns.BIND, "bind")


def address(account: JID, stanza: Stanza) -> JID | None:
    """The address with the requested resource, or with one of ours; C{None} if it is invalid."""
    bind = stanza.element.firstChildElement()
    chosen = next((str(e) for e in bind.elements(ns.BIND, "resource")), "")
    try:
        return parse_jid(f"{account.userhost()}/{chosen or os.urandom(12).hex()}")
    except MalformedJID:
        return None


def answer(stanza: Stanza, full: JID) -> Stanza:
    """The answer that gives the client its address."""
    identifier = quote_attribute(stanza.id or "")
    bound = f"<bind xmlns='{ns.BIND}'><jid>{escape_text(full.full())}</jid></bind>"
    return Stanza(None, f"<iq type='result' id={identifier}>{bound}</iq>".encode())
