"""A stanza of bytes that were proved well-formed; its tree is built only when needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.limits import COMPONENT
from cms.xmlstream.plainreader import read_child, read_elements
from cms.xmlstream.reader import Context, StanzaRead, TreeReader
from cms.xmlstream.serialize import quote_attribute, unquote_attribute
from cms.xmlstream.stanza import Slice, Stanza

_OURS = Context("stream:stream", ns.CLIENT, {"": ns.CLIENT, "stream": ns.STREAMS})
_KIND = re.compile(rb"<(message|presence|iq)")
_ATTRIBUTE = re.compile(r"""[ ]([^\s=<>'"/]+)[ ]*=[ ]*(?:'([^']*)'|"([^"]*)")""")
# To the end of a start tag: a value may hold C{>}, if it was stamped.
_OPENING = re.compile(rb"""<[^'">]*(?:(?:'[^']*'|"[^"]*")[^'">]*)*>""")
MARKED = re.compile(rb"[&\t\r\n]").search
_ID = re.compile(rb"""(<\w+(?:[ ][^\s=<>'"/]+=(?:'[^']*'|"[^"]*"))*?[ ]id=)(?:'[^']*'|"[^"]*")""")
_PAYLOAD = re.compile(rb"""\s*<([a-zA-Z][\w-]*) xmlns=(?:'([^'&\s]*)'|"([^"&\s]*)")[\s/>]""")


_readers = [TreeReader(COMPONENT, _OURS)]  # to make a parser costs more than to use it


def _tree(raw: bytes) -> Element:
    """The tree of bytes that were proved to be a stanza."""
    plain = read_elements(raw, ns.CLIENT)
    if plain is not None:
        return plain[0]
    reader = _readers[0]
    _readers[0] = TreeReader(COMPONENT, _OURS) if not reader.at_boundary else reader
    (event,) = _readers[0].feed(raw)
    assert isinstance(event, StanzaRead)  # noqa: S101 - it was proved
    return event.stanza.element


class SplicedStanza(Stanza):
    """A stanza of bytes that were proved well-formed; the tree is built only when needed."""

    __slots__ = ("_attributes", "_name")

    def __init__(self, piece: Slice) -> None:
        super().__init__(None, piece[3])
        self._name = piece[0].decode()
        self._attributes: Mapping[Any, str] | None = None

    @property
    def element(self) -> Element:
        """See L{Stanza.element}."""
        if self._element is None:
            self._element = _tree(self.raw)
            self._attributes = self._element.attributes
        return self._element

    @property
    def name(self) -> str:
        """See L{Stanza.name}."""
        return self._name

    @property
    def uri(self) -> str:
        """C{jabber:client}."""
        return ns.CLIENT

    @property
    def child(self) -> Element | None:
        """See L{Stanza.child}."""
        found = self._plain_child()
        return super().child if found is None else found

    def _plain_child(self) -> Element | None:
        if self._element is not None or self._name != "iq":
            return None
        raw = self._raw or self.raw
        opening = _OPENING.match(raw)
        return None if opening is None else read_child(raw[opening.end() :])

    @property
    def only_child(self) -> Element | None:
        """See L{Stanza.only_child}."""
        found = self._plain_child()
        return super().only_child if found is None else found

    @property
    def payload(self) -> tuple[str, str] | None:
        """See L{Stanza.payload}."""
        if self._element is None:
            raw = self._raw or self.raw
            opening = _OPENING.match(raw)
            found = None if opening is None else _PAYLOAD.match(raw, opening.end())
            if found is not None:
                return (found[2] or found[3] or b"").decode(), found[1].decode()
        return super().payload

    # Asked for again and again of each stanza of a log-in: a call less for each.

    @property
    def type(self) -> str | None:
        """See L{Stanza.type}."""
        return (self._attributes or self._read_start_tag()).get("type")

    @property
    def id(self) -> str | None:
        """See L{Stanza.id}."""
        return (self._attributes or self._read_start_tag()).get("id")

    @property
    def to(self) -> str | None:
        """See L{Stanza.to}."""
        return (self._attributes or self._read_start_tag()).get("to")

    @property
    def sender(self) -> str | None:
        """See L{Stanza.sender}."""
        return (self._attributes or self._read_start_tag()).get("from")

    def stamp(self, sender: str) -> None:
        """See L{Stanza.stamp}; only the start tag is written anew."""
        if self._element is None and self.sender is None:
            tag, rest = self.raw[: len(self._name) + 1], self.raw[len(self._name) + 1 :]
            self._raw = tag + b" from=" + quote_attribute(sender).encode() + rest
            self._attributes = {**(self._attributes or {}), "from": sender}
        else:
            super().stamp(sender)

    def identify(self, identifier: str) -> None:
        """See L{Stanza.identify}; only the start tag is written anew."""
        raw = self.raw
        found = _ID.match(raw) if self._element is None else None
        if found is None:
            super().identify(identifier)
        else:
            written = quote_attribute(identifier).encode()
            self._raw = b"".join((found[1], written, raw[found.end() :]))
            self._attributes = None

    def _attribute(self, name: str) -> str | None:
        return (self._attributes or self._read_start_tag()).get(name)

    def _read_start_tag(self) -> Mapping[Any, str]:
        opening = _OPENING.match(self._raw or self.raw)
        assert opening is not None  # noqa: S101 - it was proved, or written here
        tag = opening[0]
        if b"xmlns" in tag:
            read: Mapping[Any, str] = self.element.attributes
        else:
            read = {name: one or two for name, one, two in _ATTRIBUTE.findall(tag.decode())}
            if MARKED(tag):
                read = {name: unquote_attribute(value) for name, value in read.items()}
        self._attributes = read
        return read


def of_bytes(raw: bytes) -> SplicedStanza:
    """The stanza of bytes that were proved to be one."""
    name = _KIND.match(raw)
    assert name is not None  # noqa: S101 - they were proved
    return SplicedStanza((name[1], None, None, raw))
