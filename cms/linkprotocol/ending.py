"""
The messages by which a Callbridge ends sessions, and says that a user is none any more
(docs/login-protocol.md, section 7).

They are an addition to the log-in protocol, with a namespace and version of their own.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen
from twisted.words.xish.domish import Element

from cms.linkprotocol.login import MalformedLogin, attribute
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import quote_attribute

NS: Final = "urn:x-cms:sessions:1"  # the number is the version of this part of the protocol
REASONS: Final = ("disabled", "deleted", "password")  # a server takes any other word as well

_REASON = re.compile(r"[a-z-]{1,32}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)
MOST_NUMBER = 999_999


@frozen
class End:
    """
    Callbridge to server: sessions whose log-in this Callbridge decided are over.

    @ivar jid: A bare address: all of this user, and his log-ins that have succeeded and have
        not bound a resource yet.  A full one: that session.
    @ivar reason: C{disabled}, C{deleted}, C{password} (there is another one), or another word.
    """

    jid: str
    reason: str

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        jid, reason = quote_attribute(self.jid), quote_attribute(self.reason)
        return f"<end xmlns='{NS}' jid={jid} reason={reason}/>"


@frozen
class Ended:
    """
    Server to Callbridge: they are.

    @ivar sessions: How many there were, at all servers of a cluster.
    """

    sessions: int

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return f"<ended xmlns='{NS}' sessions='{min(self.sessions, MOST_NUMBER)}'/>"


@frozen
class Forget:
    """
    Callbridge to server: this user was deleted, and his contacts are nobody's.

    @ivar jid: His bare address.
    """

    jid: str

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        return f"<forget xmlns='{NS}' jid={quote_attribute(self.jid)}/>"


@frozen
class Forgotten:
    """
    Server to Callbridge: they are forgotten, at all servers of a cluster.

    @ivar contacts: How many entries he had.
    """

    contacts: int

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return f"<forgotten xmlns='{NS}' contacts='{min(self.contacts, MOST_NUMBER)}'/>"


Message = End | Ended | Forget | Forgotten
_NAMES = frozenset({"end", "ended", "forget", "forgotten"})


def parse(element: Element | None) -> Message:
    """
    Read a message.

    @raise MalformedLogin: it is none; the text repeats nothing of it.
    """
    if element is None or element.uri != NS or element.name not in _NAMES:
        raise MalformedLogin("no element of this protocol version")
    if any(isinstance(child, Element) or str(child).strip() for child in element.children):
        raise MalformedLogin("it is not empty")
    if element.name == "ended":
        return Ended(int(attribute(element, "sessions", _NUMBER)))
    if element.name == "forgotten":
        return Forgotten(int(attribute(element, "contacts", _NUMBER)))
    try:
        jid = parse_jid(element.getAttribute("jid") or "")
    except MalformedJID:
        raise MalformedLogin("the jid does not prepare") from None
    if jid.user is None:
        raise MalformedLogin("the jid is not a user's")
    if element.name == "end":
        return End(str(jid.full()), attribute(element, "reason", _REASON))
    if jid.resource is not None:
        raise MalformedLogin("the jid is not bare")
    return Forget(str(jid.full()))
