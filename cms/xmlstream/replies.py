"""Answers to stanzas: results and errors, addressed back to the sender."""

from __future__ import annotations

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.stanza import Stanza


def result_reply(request: Stanza, payload: Element | None = None) -> Stanza:
    """The C{result} of an IQ request (RFC 6120 8.2.3)."""
    reply = _reply(request, "result")
    if payload is not None:
        reply.addChild(payload)
    return Stanza(reply)


def error_reply(stanza: Stanza, error: StanzaError) -> Stanza | None:
    """
    The error that answers a stanza, without the content it carried.

    Only the empty C{x} of a join is repeated, because clients recognise a failed join by
    it (XEP-0045 7.2).

    @return: C{None} if there must be no answer: to errors and to IQ answers
        (RFC 6120 8.3.1).
    """
    if stanza.type == "error" or stanza.is_answer:
        return None
    reply = _reply(stanza, "error")
    if is_join(stanza):
        reply.addElement((ns.MUC, "x"))
    child = Element((ns.CLIENT, "error"))
    if error.type:
        child["type"] = error.type
    child.addElement((ns.STANZAS, error.condition))
    if error.text:
        text = child.addElement((ns.STANZAS, "text"), content=error.text)
        text[ns.XML, "lang"] = "en"
    if error.appCondition is not None:
        child.addChild(error.appCondition)
    reply.addChild(child)
    return Stanza(reply)


def is_join(stanza: Stanza) -> bool:
    """Whether it asks to join a room (XEP-0045 7.2)."""
    return (
        stanza.name == "presence"
        and stanza.type is None
        and any(True for _ in stanza.element.elements(ns.MUC, "x"))
    )


def _reply(stanza: Stanza, type_: str) -> Element:
    reply = Element((ns.CLIENT, stanza.name))
    reply["type"] = type_
    if stanza.id is not None:
        reply["id"] = stanza.id
    if stanza.sender is not None:
        reply["to"] = stanza.sender
    if stanza.to is not None:
        reply["from"] = stanza.to
    return reply


def request(type_: str, sender: str, to: str, payload: Element) -> Stanza:
    """An IQ request; L{Requests<cms.xmlstream.requests.Requests>} gives it its id."""
    iq = Element((ns.CLIENT, "iq"))
    iq["type"], iq["from"], iq["to"] = type_, sender, to
    iq.addChild(payload)
    return Stanza(iq)


def ping_payload() -> Element:
    """The child of a ping (XEP-0199)."""
    return Element((ns.PING, "ping"))
