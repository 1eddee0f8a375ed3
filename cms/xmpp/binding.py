"""Resource binding: a client's request and the answer (RFC 6120 7)."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable

from twisted.words.protocols.jabber.jid import JID

from cms.xmlstream import ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import escape_text, quote_attribute
from cms.xmlstream.stanza import Stanza
from cms.xmpp.sessions import Session


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


def tagged(account: JID, tag: str, agent: str | None) -> tuple[JID, str]:
    """
    The address whose resource begins with the client's tag, if that is usable (XEP-0386 3.2.1).

    @param agent: The UUID of the client's installation, which gets the same resource
        each time.  It cannot be told from the resource, nor whether two accounts share it.
    @return: The address, and the end of its resource, which is ours.
    """
    bare = account.userhost()
    random = os.urandom(9) if agent is None else _digest(f"{bare} {agent}")
    identifier = base64.urlsafe_b64encode(random).decode()
    if tag:
        try:
            return parse_jid(f"{bare}/{tag}/{identifier}"), identifier
        except MalformedJID:
            pass  # it goes without
    return parse_jid(f"{bare}/{identifier}"), identifier


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:9]


def of_installation(sessions: Iterable[Session], identifier: str) -> list[Session]:
    """Those whose resource ends with this identifier, whatever their tag."""
    return [
        session for session in sessions if f"/{session.jid.resource}".endswith(f"/{identifier}")
    ]


def answer(stanza: Stanza, session: Session) -> Stanza:
    """The answer that gives the client its address."""
    identifier = quote_attribute(stanza.id or "")
    bound = f"<bind xmlns='{ns.BIND}'><jid>{escape_text(session.jid.full())}</jid></bind>"
    return Stanza(None, f"<iq type='result' id={identifier}>{bound}</iq>".encode())
