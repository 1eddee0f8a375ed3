"""The elements of stream management (XEP-0198), as bytes for the stream."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.management import MODULUS, AcknowledgedTooManyError
from cms.xmlstream.serialize import quote_attribute

_COUNTER: Final = re.compile(r"[0-9]{1,10}")


@frozen
class Resume:
    """
    A C{resume} element.

    @ivar previous: The id of the session.
    @ivar handled: How many of its stanzas the client has handled.
    """

    previous: str
    handled: int


ENABLE: Final = f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>".encode()


def ask_resume(identifier: str, handled: int) -> bytes:
    """What asks for the resumption of an earlier stream."""
    previous = quote_attribute(identifier)
    return f"<resume xmlns='{ns.MANAGEMENT}' previd={previous} h='{handled}'/>".encode()


def enabled(identifier: str | None, seconds: float) -> bytes:
    """The answer to C{enable}; without an id the session cannot be resumed."""
    if identifier is None:
        return f"<enabled xmlns='{ns.MANAGEMENT}'/>".encode()
    resumption = f"id={quote_attribute(identifier)} resume='true' max='{seconds:.0f}'"
    return f"<enabled xmlns='{ns.MANAGEMENT}' {resumption}/>".encode()


def acknowledgement(handled: int) -> bytes:
    """The answer to C{r}."""
    return f"<a xmlns='{ns.MANAGEMENT}' h='{handled}'/>".encode()


def resumed(identifier: str, handled: int) -> bytes:
    """The answer to C{resume}."""
    previous = quote_attribute(identifier)
    return f"<resumed xmlns='{ns.MANAGEMENT}' previd={previous} h='{handled}'/>".encode()


def failed(condition: str, handled: int | None = None) -> bytes:
    """
    The answer where something cannot be.

    @param condition: A stanza error's (XEP-0198 6).
    @param handled: C{h} of a session that has ended.
    """
    count = "" if handled is None else f" h='{handled}'"
    reason = f"<{condition} xmlns='{ns.STANZAS}'/>"
    return f"<failed xmlns='{ns.MANAGEMENT}'{count}>{reason}</failed>".encode()


def too_many(error: AcknowledgedTooManyError) -> StreamError:
    """The stream error for who acknowledges what was never sent (XEP-0198 5)."""
    detail = Element((ns.MANAGEMENT, "handled-count-too-high"))
    detail["h"], detail["send-count"] = str(error.acknowledged), str(error.sent)
    return StreamError("undefined-condition", appCondition=detail)


def counter(element: Element) -> int:
    """
    C{h} of an element.

    @raise ValueError: it is no number below 2^32.
    """
    written = element.getAttribute("h") or ""
    if not _COUNTER.fullmatch(written) or int(written) >= MODULUS:
        raise ValueError("no counter")
    return int(written)


def resume(element: Element) -> Resume | None:
    """What a C{resume} element asks for; C{None} if that cannot be told."""
    previous = element.getAttribute("previd")
    try:
        return Resume(previous, counter(element)) if previous else None
    except ValueError:
        return None


def wants_resumption(element: Element) -> bool:
    """Whether an C{enable} asks for it (an xs:boolean)."""
    return element.getAttribute("resume") in ("true", "1")
