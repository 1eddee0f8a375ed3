"""
Our own IQs whose payload is written as text, so that log-ins need no trees.

The payload is XML written by this program, with L{quote_attribute} and
L{escape_text} for every value from elsewhere.
"""

from __future__ import annotations

from functools import lru_cache

from cms.xmlstream import ns
from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Stanza


class WrittenRequest(SplicedStanza):
    """
    An IQ request.  L{Requests<cms.xmlstream.requests.Requests>} gives it its id.
    """

    __slots__ = ("_around", "_from", "_to")

    def __init__(self, type_: str, sender: str, to: str, payload: str) -> None:
        start = _start(type_, sender, to)
        rest = f">{payload}</iq>" if payload else "/>"
        super().__init__((b"iq", None, None, b""))
        self._around = start, rest
        self._from, self._to = sender, to

    @property
    def sender(self) -> str:
        """See L{Stanza.sender}."""
        return self._from

    @property
    def to(self) -> str:
        """See L{Stanza.to}."""
        return self._to

    def identify(self, identifier: str) -> None:
        """See L{Stanza.identify}."""
        start, rest = self._around
        self._raw = f"{start} id={quote_attribute(identifier)}{rest}".encode()
        self._element = self._attributes = None


@lru_cache(maxsize=64)
def _start(type_: str, sender: str, to: str) -> str:
    """Of one link all requests have the same addresses."""
    return f"<iq type='{type_}' from={quote_attribute(sender)} to={quote_attribute(to)}"


def written_result(request: Stanza, payload: str = "") -> Stanza:
    """The C{result} of an IQ request (RFC 6120 8.2.3)."""
    return _written(request, "result", payload)


def written_error(stanza: Stanza, type_: str, condition: str) -> Stanza | None:
    """
    The error that answers a stanza, written without a tree.

    @return: C{None} if there must be no answer (RFC 6120 8.3.1), or none is due.
    """
    if not stanza.is_stanza or stanza.type == "error" or stanza.is_answer:
        return None
    error = f"<error type='{type_}'><{condition} xmlns='{ns.STANZAS}'/></error>"
    return _written(stanza, "error", error)


def _written(stanza: Stanza, type_: str, payload: str) -> Stanza:
    start = f" type='{type_}'"
    for key, value in (("id", stanza.id), ("to", stanza.sender), ("from", stanza.to)):
        if value is not None:
            start += f" {key}={quote_attribute(value)}"
    name = stanza.name
    rest = f">{payload}</{name}>" if payload else "/>"
    return SplicedStanza((name.encode(), None, None, f"<{name}{start}{rest}".encode()))
