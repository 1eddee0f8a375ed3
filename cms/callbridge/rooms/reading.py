"""What stanzas to a room say."""

from __future__ import annotations

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID

from cms.xmlstream import ns
from cms.xmlstream.stanza import Stanza

MOST_NICK = 128  # bytes
# What says that a session can hear no more (RFC 6120 8.3.3).
_GONE = frozenset(
    {
        *("gone", "item-not-found", "recipient-unavailable", "redirect", "service-unavailable"),
        *("remote-server-not-found", "remote-server-timeout", "jid-malformed"),
    }
)


def wanted_nick(to: JID) -> str:
    """
    The nickname that is asked for.

    @raise StanzaError: it cannot be one.
    """
    if not to.resource:
        raise StanzaError("jid-malformed", text="there is no nickname")
    nick = str(to.resource).strip()
    if not nick or not nick.isprintable() or len(nick.encode()) > MOST_NICK:
        text = f"a nickname has 1 to {MOST_NICK} bytes that can be shown"
        raise StanzaError("not-acceptable", type="modify", text=text)
    return nick


def check_length(stanza: Stanza, most: int) -> None:
    """
    @raise StanzaError: a presence is longer than can be made into one of this size.
    """
    if len(stanza.raw) > 2 * most:
        text = f"a presence has at most {most} bytes"
        raise StanzaError("policy-violation", type="modify", text=text)


def given_passcode(stanza: Stanza) -> str:
    """The password of a join (XEP-0045 7.2.6); empty where there is none."""
    passcode = ""
    for x in stanza.element.elements(ns.MUC, "x"):
        for given in x.elements(ns.MUC, "password"):
            passcode = str(given)
    return passcode


def is_other(stanza: Stanza, nick: str) -> bool:
    """Whether a nickname is not as it was asked for."""
    return (stanza.to or "").partition("/")[2] != nick


def condition(stanza: Stanza) -> str | None:
    """What an error says."""
    for error in stanza.element.elements(ns.CLIENT, "error"):
        for child in error.elements():
            if child.uri == ns.STANZAS and child.name != "text":
                return str(child.name)
    return None


def is_gone(stanza: Stanza) -> bool:
    """Whether an error says that its sender can hear no more."""
    return condition(stanza) in _GONE
