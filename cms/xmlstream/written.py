"""
IQs of our own whose payload is text: what is sent for every log-in needs no tree.

The payload is XML that this program wrote, with L{quote_attribute} and
L{escape_text} around whatever came from elsewhere.
"""

from __future__ import annotations

from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.splice import SplicedStanza
from cms.xmlstream.stanza import Stanza


class WrittenRequest(SplicedStanza):
    """
    An IQ request; only with the id that L{Requests<cms.xmlstream.requests.Requests>}
    gives it is it complete.
    """

    __slots__ = ("_around", "_to")

    def __init__(self, type_: str, sender: str, to: str, payload: str) -> None:
        start = f"<iq type='{type_}' from={quote_attribute(sender)} to={quote_attribute(to)}"
        rest = f">{payload}</iq>" if payload else "/>"
        super().__init__((b"iq", None, None, b""))
        self._around = start, rest
        self._to = to

    @property
    def to(self) -> str:
        """See L{Stanza.to}."""
        return self._to

    def identify(self, identifier: str) -> None:
        """See L{Stanza.identify}."""
        start, rest = self._around
        self._raw = f"{start} id={quote_attribute(identifier)}{rest}".encode()
        self._element = self._attributes = None


def written_result(request: Stanza, payload: str = "") -> Stanza:
    """The C{result} of an IQ request (RFC 6120 8.2.3)."""
    attributes = {"type": "result", "id": request.id, "to": request.sender, "from": request.to}
    start = "".join(
        f" {name}={quote_attribute(value)}"
        for name, value in attributes.items()
        if value is not None
    )
    rest = f">{payload}</iq>" if payload else "/>"
    return SplicedStanza((b"iq", None, None, f"<iq{start}{rest}".encode()))
