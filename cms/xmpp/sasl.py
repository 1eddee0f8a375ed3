"""The SASL elements of a client's stream (RFC 6120 6.4 and 6.5)."""

from __future__ import annotations

import base64
import binascii

from twisted.words.xish.domish import Element

from cms import faults
from cms.linkprotocol.login import MOST_PAYLOAD
from cms.signalflow import Step
from cms.xmlstream import ns
from cms.xmlstream.serialize import serialize
from cms.xmlstream.toldfault import ToldFault, mark

MOST_TEXT = (MOST_PAYLOAD + 2) // 3 * 4


class Unreadable(ValueError):
    """
    The text of a step cannot be read.

    @ivar condition: What the client is told.
    """

    condition = "malformed-request"


class IncorrectEncoding(Unreadable):
    """The text is not base64 (RFC 6120 6.5.5)."""

    condition = "incorrect-encoding"


class MalformedRequest(Unreadable):
    """No step of any mechanism looks like this (RFC 6120 6.5.7)."""


def decode(element: Element) -> bytes | None:
    """
    The data of an C{auth} or C{response} element.

    @return: C{None} when there is none, C{b""} for C{=} (RFC 6120 6.4.2).
    @raise IncorrectEncoding: for anything else than strict base64.
    @raise MalformedRequest: it is too long, or holds elements.
    """
    if any(isinstance(child, Element) for child in element.children):
        raise MalformedRequest
    text = "".join(element.children)
    if len(text) > MOST_TEXT:
        raise MalformedRequest
    if not text:
        return None
    if text == "=":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IncorrectEncoding from None


def step(name: str, payload: bytes | None) -> bytes:
    """A C{challenge} or C{success} element."""
    if payload is None:
        return f"<{name} xmlns='{ns.SASL}'/>".encode()
    text = base64.b64encode(payload).decode() or "="
    return f"<{name} xmlns='{ns.SASL}'>{text}</{name}>".encode()


def failure(
    condition: str, text: str | None = None, *, wait: int = 0, namespace: str = ns.SASL
) -> bytes:
    """
    A C{failure} element.

    @param wait: Seconds for which no proof of this user is looked at.
    @param namespace: Of all but the condition.
    """
    made = Element((namespace, "failure"))
    if wait:
        mark(made, ToldFault(faults.LOGIN_SLOWED.name, wait, int(Step.LOGIN)))
    made.addElement((ns.SASL, condition))
    if text:
        made.addElement("text", content=text)[(ns.XML, "lang")] = "en"
    return serialize(made)
