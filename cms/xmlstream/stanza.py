"""One stanza on its way through: its addresses, its tree and its bytes."""

from __future__ import annotations

from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.serialize import serialize

KINDS = frozenset({"message", "presence", "iq"})

Slice = tuple[bytes, bytes | None, bytes | None, bytes]
"""
A stanza as L{cms.xmlstream.splice} cuts it: its name, its C{to}, its C{from} and
its bytes.  C{from} is C{None} if there is none.  C{to} is C{None} if there is none, or
if more than the address decides where the stanza goes.
"""


class Stanza:
    """
    A top-level element of a stream, in C{jabber:client} if it is a stanza.

    Routing reads only the attributes of the root.  The tree and the bytes are two views of
    the same stanza; each is made when it is asked for.

    @ivar flaw: Why other parsers may refuse it; if set, it must not be forwarded.
    """

    __slots__ = ("_element", "_raw", "flaw")

    def __init__(
        self, element: Element | None, raw: bytes | None = None, *, flaw: str | None = None
    ) -> None:
        self.flaw = flaw
        self._element = element
        self._raw = raw

    def __repr__(self) -> str:
        return f"<Stanza {self.name} type={self.type!r}>"  # never what it carries

    @property
    def element(self) -> Element:
        """The tree.  Its root's attributes may be changed until C{raw} is asked for."""
        assert self._element is not None  # noqa: S101 - it was made with one
        return self._element

    @property
    def name(self) -> str:
        """The local name of the root: C{message}, C{presence}, C{iq}, C{auth}..."""
        return str(self.element.name)

    @property
    def uri(self) -> str:
        """The namespace of the root."""
        return str(self.element.uri)

    @property
    def is_stanza(self) -> bool:
        """Whether it is a message, presence or iq (RFC 6120 8)."""
        return self.name in KINDS and self.uri == ns.CLIENT

    @property
    def type(self) -> str | None:
        """The C{type} attribute."""
        return self._attribute("type")

    @property
    def id(self) -> str | None:
        """The C{id} attribute."""
        return self._attribute("id")

    @property
    def to(self) -> str | None:
        """The C{to} address as written."""
        return self._attribute("to")

    @property
    def sender(self) -> str | None:
        """The C{from} address as written, or as stamped."""
        return self._attribute("from")

    @property
    def child(self) -> Element | None:
        """The first child element."""
        found: Element | None = self.element.firstChildElement()
        return found

    @property
    def payload(self) -> tuple[str, str] | None:
        """Namespace and name of the first child element, which say what an IQ asks."""
        child = self.child
        return (child.uri, child.name) if child is not None else None

    @property
    def only_child(self) -> Element | None:
        """The only child element; C{None} for none or several, which no request may have."""
        children = list(self.element.elements())
        return children[0] if len(children) == 1 else None

    @property
    def is_request(self) -> bool:
        """Whether it is an IQ that must be answered (RFC 6120 8.2.3)."""
        return self.name == "iq" and self.type in ("get", "set")

    @property
    def is_answer(self) -> bool:
        """Whether it is an IQ C{result} or C{error}."""
        return self.name == "iq" and self.type in ("result", "error")

    def stamp(self, sender: str) -> None:
        """Set C{from}, whatever it said (RFC 6120 8.1.2.1)."""
        if self.sender != sender:
            self.element["from"] = sender
            self._raw = None

    def in_language(self, language: str) -> None:
        """Set C{xml:lang} if it has none (RFC 6120 8.1.5)."""
        if (ns.XML, "lang") not in self.element.attributes:
            self.element[ns.XML, "lang"] = language
            self._raw = None

    def identify(self, identifier: str) -> None:
        """Set C{id}."""
        self.element["id"] = identifier
        self._raw = None

    def address(self, to: str) -> None:
        """Set C{to}."""
        self.element["to"] = to
        self._raw = None

    @property
    def raw(self) -> bytes:
        """The bytes, which fit a client stream and a component stream alike."""
        if self._raw is None:
            self._raw = serialize(self.element)
        return self._raw

    def _attribute(self, name: str) -> str | None:
        value = self.element.attributes.get(name)
        return None if value is None else str(value)
