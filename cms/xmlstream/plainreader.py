"""
Short plain XML, read without a parser.

While a stream is negotiated, nearly everything is a header or a small element of
printable ASCII without prefixes and references.  A pattern reads it in a fraction of
the time that a parser and its callbacks take.  Everything else goes to L{TreeReader}.
Only that reader decides what is an error.
"""

from __future__ import annotations

import re
from typing import Final

from twisted.words.xish.domish import Element

from cms.fast.tls import MOST_HEARD
from cms.xmlstream import ns
from cms.xmlstream.limits import Limits
from cms.xmlstream.portable import is_namespace
from cms.xmlstream.reader import (
    Context,
    Event,
    Relying,
    StanzaRead,
    StreamStart,
    TreeReader,
    canonical,
)
from cms.xmlstream.stanza import Stanza

MOST_BYTES = 2_048  # these three are less than any limit of a stream
MOST_ELEMENTS = 16
MOST_DEPTH = 4

# Printable ASCII without & and <, and without what would need normalising.
_VALUE = """(?:'[ -%(-;=?-~]*'|"[ !#-%'-;=?-~]*")"""
_NAME = "[A-Za-z][A-Za-z0-9._-]*"
_ATTRIBUTES = rf"(?:[ \n]+{_NAME}={_VALUE})*"
_PREFIXED = rf"(?:[ \n]+(?:{_NAME}:)?{_NAME}={_VALUE})*"
_ATTRIBUTE = re.compile(rf"((?:{_NAME}:)?{_NAME})=({_VALUE})")
_DECLARATION = r"""(?:<\?xml version=(?:'1\.0'|"1\.0") ?\?>[ \n]*)?"""
_HEADER = re.compile(rf"{_DECLARATION}<stream:stream({_PREFIXED})[ \n]*>")
# An only child that holds only text, and the rest of its IQ.
_CHILD = re.compile(
    rf"<({_NAME})({_ATTRIBUTES})"
    r"(?:/>|>([ -%'-;=?-~\n]*)</\1>)</iq>"
)
# An end tag, or a start tag with its attributes and its slash; then the text that follows.
_TAG = re.compile(
    rf"<(?:/({_NAME})|({_NAME})({_ATTRIBUTES})[ \n]*(/?))>"
    r"([ -%'-;=?-~\n]*)"
)


class PlainReader(Relying):
    """
    Reads plain XML itself, and from the first other XML on with a L{TreeReader}.

    @param limits: Of the tree reader; plain XML is always within them.
    @ivar first: The first bytes, if they are not a plain header, to recognise another
        protocol.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._context: Context | None = None
        self.first = b""

    @property
    def context(self) -> Context:
        """What the stream header said; only after it was read."""
        if isinstance(self._slow, TreeReader):
            return self._slow.context
        assert self._context is not None  # noqa: S101 - see above
        return self._context

    @property
    def at_boundary(self) -> bool:
        """See L{Reader<cms.xmlstream.reader.Reader>}."""
        return self._context is not None if self._slow is None else self._slow.at_boundary

    def feed(self, data: bytes) -> list[Event]:
        """See L{TreeReader.feed}."""
        if self._slow is None:
            events = self._read(data)
            if events is not None:
                return events
            if self._context is None:
                self.first = data[:MOST_HEARD]
            self._slow = TreeReader(self._limits, self._context)
        return self._slow.feed(data)

    def _read(self, data: bytes) -> list[Event] | None:
        if self._context is not None:
            elements = read_elements(data, self._context.content)
            return None if elements is None else [StanzaRead(Stanza(e)) for e in elements]
        header = read_header(data)
        if header is None:
            return None
        content = header.default_namespace
        prefixes = {"": content, "stream": ns.STREAMS}
        self._context = Context("stream:stream", content, prefixes)
        return [header]


# Of nearly all elements: whether they are plain need not be asked.
_USUAL: Final = frozenset(
    {ns.BIND, ns.BIND2, ns.CLIENT, ns.COMPONENT, ns.MANAGEMENT, ns.SASL, ns.SASL2}
)


def read_header(data: bytes) -> StreamStart | None:
    """The stream header, if C{data} is a plain one and nothing else; else C{None}."""
    if len(data) > MOST_BYTES or not data.isascii():
        return None
    found = _HEADER.fullmatch(data.decode())
    attributes = None if found is None else _attributes(found[1])
    if attributes is None or attributes.pop("xmlns:stream", None) != ns.STREAMS:
        return None
    if len(attributes) > MOST_ELEMENTS:
        return None
    content = attributes.pop("xmlns", None)
    if content not in (ns.CLIENT, ns.COMPONENT):
        return None
    qualified: dict[str | tuple[str, str], str] = {}
    for name, value in attributes.items():
        if ":" not in name:
            qualified[name] = value
        elif name == "xml:lang":
            qualified[ns.XML, "lang"] = value
        else:
            return None
    return StreamStart(ns.STREAMS, "stream", content, qualified)


def read_elements(data: bytes, content: str) -> list[Element] | None:
    """
    The elements, if C{data} is complete plain elements and nothing else; else C{None}.

    @param content: The namespace of elements that declare none.
    """
    if len(data) > MOST_BYTES or not data.isascii():
        return None
    text = data.decode()
    read: list[Element] = []
    open_: list[tuple[Element, str]] = []
    position, count, default = 0, 0, content
    while position < len(text):
        tag = _TAG.match(text, position)
        if tag is None:
            return None
        position = tag.end()
        ending, name, written, empty, after = tag.groups()
        if ending is None:
            count += 1
            element = _element(name, written, default, content)
            if element is None or count > MOST_ELEMENTS or len(open_) >= MOST_DEPTH:
                return None
            (open_[-1][0].children if open_ else read).append(element)
            if not empty:
                open_.append((element, default))
                default = element.uri
        elif open_ and open_[-1][0].name == ending:
            _, default = open_.pop()
        else:
            return None
        if open_:
            open_[-1][0].children += [after] if after else []
        elif after.strip(" \n"):
            return None
    return None if open_ else read


def read_child(rest: bytes) -> Element | None:
    """
    The only child of a well-formed IQ, if it is plain and holds only text; else C{None}.

    @param rest: The bytes after the start tag of the IQ.
    """
    if len(rest) > MOST_BYTES or not rest.isascii():
        return None
    found = _CHILD.fullmatch(rest.decode())
    if found is None:
        return None
    child = _element(found[1], found[2], ns.CLIENT, ns.CLIENT)
    if child is not None and found[3]:
        child.children.append(found[3])
    return child


def _element(name: str, written: str, default: str, content: str) -> Element | None:
    attributes: dict[str, str] | None = {}
    uri = default
    if written:
        attributes = _attributes(written)
        if attributes is None:
            return None
        uri = attributes.pop("xmlns", default)
        if uri != default and uri not in _USUAL and not _is_plain(uri):
            return None
    if uri == ns.COMPONENT:
        uri = canonical(uri, content)
    return Element((uri, name), attribs=attributes)


def _attributes(written: str) -> dict[str, str] | None:
    """Attributes by name; C{None} if a name occurs twice."""
    if not written:
        return {}
    attributes = {}
    pairs = _ATTRIBUTE.findall(written)
    for name, value in pairs:  # a comprehension would be one more call
        attributes[name] = value[1:-1]
    return attributes if len(attributes) == len(pairs) else None


def _is_plain(uri: str) -> bool:
    """Whether it may be a default namespace here: not empty, not long, not one of XML."""
    return 0 < len(uri) <= 128 and is_namespace(uri) and not uri.startswith("http://www.w3.org/")
