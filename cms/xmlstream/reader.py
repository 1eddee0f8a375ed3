"""
Bytes to stanzas: the sans-I/O reader of one XML stream (RFC 6120 4 and 11).

Feed it the bytes of the transport and it returns events.  It refuses what RFC 6120
section 11 forbids (comments, processing instructions, DTDs, entity references) and
everything beyond its L{Limits}.  An error is the last event of a stream; stanzas
before it are still delivered.

The parser of C{twisted.words} refuses none of this, and adds text in quadratic time:
a 450-byte entity bomb costs it 14 s of CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from attrs import field, frozen
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.xish.domish import Element

from cms.xmlstream import ns
from cms.xmlstream.limits import Limits
from cms.xmlstream.portable import MOST_DEPTH, MOST_NAME, is_namespace
from cms.xmlstream.stanza import Slice, Stanza


@frozen
class StreamStart:
    """
    The peer's stream header.

    @ivar default_namespace: The content namespace it declared, or C{""}.
    @ivar attributes: As written; C{xml:lang} under C{(ns.XML, "lang")}.
    """

    uri: str
    name: str
    default_namespace: str
    attributes: Mapping[str | tuple[str, str], str] = field(repr=False)

    def get(self, name: str) -> str | None:
        """An attribute without prefix."""
        return self.attributes.get(name)


@frozen
class StanzaRead:
    """One complete top-level element."""

    stanza: Stanza


@frozen
class SlicesRead:
    """Complete stanzas in order, as L{cms.xmlstream.splice} cuts them."""

    slices: list[Slice]


@frozen
class RequestRead:
    """C{<r/>}: the peer asks how many stanzas were handled (XEP-0198 4)."""


@frozen
class AcknowledgementRead:
    """
    C{<a/>}: the peer says how many stanzas it has handled (XEP-0198 4).

    @ivar handled: C{h}, below 2^32.
    """

    handled: int


@frozen
class StreamEnd:
    """The peer closed its stream properly (RFC 6120 4.4)."""


@frozen
class StreamBroken:
    """
    The peer's XML cannot be read any further.

    @ivar error: The stream error that RFC 6120 4.9.3 has for it.
    """

    error: StreamError


Event = (
    StreamStart
    | StanzaRead
    | SlicesRead
    | RequestRead
    | AcknowledgementRead
    | StreamEnd
    | StreamBroken
)


class Reader(Protocol):
    """
    Turns a stream's bytes into events.

    @ivar limits: May be changed at any time.
    """

    limits: Limits

    @property
    def at_boundary(self) -> bool:
        """
        Whether only white space followed the last stanza.

        Unencrypted bytes after C{<starttls/>} must not count after the handshake
        (RFC 6120 5.4.3.3).
        """
        ...

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes; return the events they complete, in order."""


class Relying:
    """
    A reader that hands what it cannot read itself to another reader.

    @ivar _slow: The other reader, while it is needed.
    """

    _slow: Reader | None

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slow = None

    @property
    def limits(self) -> Limits:
        """What a stanza may hold."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        if self._slow is not None:
            self._slow.limits = limits


_RESTRICTED = {expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]}
_ENCODING = {
    expat.errors.codes[expat.errors.XML_ERROR_UNKNOWN_ENCODING],
    expat.errors.codes[expat.errors.XML_ERROR_INCORRECT_ENCODING],
}


RENEW_AFTER = 262_144  # bytes
MOST_NAMESPACE = 256  # characters of a namespace's name
MOST_IN_HEADER = 64  # attributes and declarations, which are kept
LONG_TOKEN = 4_096  # bytes of a tag that is not complete yet
MOST_PIECES = 512  # reads that such a tag may come in
_MARKS = (b"\xfe\xff", b"\xff\xfe", b"<\0", b"\0<", b"\0\0\0<")  # of UTF-16 and UTF-32


@frozen
class Context:
    """
    What a stream header means for the stanzas that follow it.

    @ivar root: Its tag's name, with the prefix.
    @ivar content: The default namespace.
    @ivar prefixes: What it bound, the default namespace under C{""}.
    """

    root: str
    content: str
    prefixes: Mapping[str, str]


class TreeReader:
    """
    Reads a stream with expat, building a tree for each stanza.

    A parser keeps every name it has ever seen.  So it is replaced from time to time,
    between two stanzas, by one that knows the stream header's prefixes.

    @param context: Of a stream whose header was already read.
    """

    def __init__(self, limits: Limits, context: Context | None = None) -> None:
        self.limits = limits
        self._events: list[Event] = []
        self._default: list[str] = [""]
        self._content = ""
        self._root = ""
        self._prefixes: dict[str, str] = {}
        self._open: list[Element] = []
        self._text: list[str] = []
        self._depth = 0
        self._elements = self._attributes = 0
        self._flaw: str | None = None
        self._fed = 0
        self._mark = 0
        self._futile = 0
        self._head = b""
        self._finished = False
        self._parser = self._make_parser()
        if context is not None:
            self._root, self._content = context.root, context.content
            self._prefixes = dict(context.prefixes)
            self._renew()

    @property
    def context(self) -> Context:
        """What the stream header said; only once it was read."""
        return Context(self._root, self._content, dict(self._prefixes))

    def _make_parser(self) -> expat.XMLParserType:
        parser = expat.ParserCreate("UTF-8", " ")
        parser.buffer_text = True
        parser.namespace_prefixes = True  # so that the header's end tag can be told
        if hasattr(parser, "SetReparseDeferralEnabled"):  # expat 2.6: it would hold stanzas back
            parser.SetReparseDeferralEnabled(False)
        parser.StartElementHandler = self._start_element
        parser.EndElementHandler = self._end_element
        parser.CharacterDataHandler = self._characters
        parser.StartNamespaceDeclHandler = self._start_namespace
        parser.EndNamespaceDeclHandler = self._end_namespace
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._restricted
        parser.CommentHandler = self._restricted
        parser.ProcessingInstructionHandler = self._restricted
        parser.StartCdataSectionHandler = self._between
        return parser

    @property
    def at_boundary(self) -> bool:
        """See L{Reader}."""
        pending = self._parser.CurrentByteIndex != self._fed
        return self._depth == 1 and not self._open and not pending and not self._finished

    def feed(self, data: bytes) -> list[Event]:
        """
        Take bytes; return the events they complete, in order.

        After a L{StreamEnd} or L{StreamBroken} nothing more is read.
        """
        events: list[Event] = []
        self._events = events
        size = self.limits.stanza_bytes
        try:
            if self._depth == 0 and len(self._head) < 4:
                self._check_encoding(data)
            # Never parse more at once than one stanza may hold, so that a stanza
            # that is too long is refused before the work.
            for offset in range(0, len(data), size):
                if self._finished:
                    break
                piece = data[offset : offset + size]
                self._fed += len(piece)
                self._parser.Parse(piece, False)
                self._check_progress()
                if self._fed > RENEW_AFTER and self.at_boundary:
                    self._renew()
        except StreamError as error:
            self._break(error)
        except expat.ExpatError as error:
            if not self._finished:
                self._break(_translate(error))
        return events

    def _renew(self) -> None:
        """Go on with a fresh parser, within the same stream."""
        declared = "".join(
            f" xmlns{':' if prefix else ''}{prefix}={quoteattr(uri)}"
            for prefix, uri in self._prefixes.items()
        )
        opening = f"<{self._root}{declared}>".encode()
        events = self._events
        self._depth, self._default, self._events = 0, [""], []
        self._parser = self._make_parser()
        self._parser.Parse(opening, False)
        self._events = events
        self._fed = self._mark = len(opening)

    def _break(self, error: StreamError) -> None:
        self._finished = True
        self._events.append(StreamBroken(error))

    def _check_size(self, position: int) -> None:
        if not self._finished and position - self._mark > self.limits.stanza_bytes:
            raise StreamError("policy-violation", text="stanza too long")

    def _check_encoding(self, data: bytes) -> None:
        """Refuse UTF-16 and UTF-32, which expat would accept (RFC 6120 11.6)."""
        self._head += data[:4]
        if self._head.startswith(_MARKS) and not self._finished:
            raise StreamError("unsupported-encoding")

    def _check_progress(self) -> None:
        """
        Check the limits of a stanza or tag that is not complete yet.  The result does not
        depend on the pieces it comes in.

        Expat parses an incomplete tag from its beginning whenever more of it comes, so a
        long tag must not come in too many pieces.
        """
        done = self._parser.CurrentByteIndex
        self._check_size(done)
        self._check_size(self._mark + self._fed - done)
        self._futile = self._futile + 1 if self._fed - done >= LONG_TOKEN else 0
        if self._futile > MOST_PIECES and not self._finished:
            raise StreamError("policy-violation", text="a tag in too many pieces")

    # from expat

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        if self._finished:
            return
        self._depth += 1
        uri, local, prefix = _split(name)
        qualified = _qualify(attributes)
        self._count(len(attributes))
        if self._depth == 1:
            self._attributes = 0
            self._root = f"{prefix}:{local}" if prefix else local
            self._content = self._default[-1]
            self._events.append(StreamStart(uri, local, self._content, qualified))
            return
        if not self._open:
            self._mark = self._parser.CurrentByteIndex
            self._parser.StartCdataSectionHandler = None
        self._elements += 1
        if self._elements > self.limits.elements or self._depth - 1 > self.limits.depth:
            raise StreamError("policy-violation", text="stanza has too many elements")
        self._look_for_flaw(uri, local, qualified)
        # Parents are kept on a stack and not in the tree: a tree without cycles
        # is freed at once, without the garbage collector.
        element = Element((canonical(uri, self._content), local), attribs=qualified)
        if self._open:
            self._end_text()
            self._open[-1].children.append(element)
        self._open.append(element)

    def _end_element(self, name: str) -> None:
        if self._finished:
            return
        self._depth -= 1
        if self._depth == 0:
            self._finished = True
            self._events.append(StreamEnd())
            return
        self._end_text()
        element = self._open.pop()
        if not self._open:
            position = self._parser.CurrentByteIndex
            self._check_size(position)
            self._mark = position
            self._elements = self._attributes = 0
            self._parser.StartCdataSectionHandler = self._between
            self._events.append(StanzaRead(Stanza(element, flaw=self._flaw)))
            self._flaw = None

    def _end_text(self) -> None:
        """Join the text that came in several reads to one string."""
        if self._text:
            self._open[-1].children.append("".join(self._text))
            self._text.clear()

    def _look_for_flaw(
        self, uri: str, name: str, attributes: Mapping[str | tuple[str, str], str]
    ) -> None:
        """Note XML that expat reads and other parsers do not."""
        if self._depth - 1 > MOST_DEPTH:
            self._flaw = "elements nest too deep"
        for key in ((uri, name), *attributes):
            if isinstance(key, tuple):
                if not is_namespace(key[0]):
                    self._flaw = "a namespace is no URI"
                key = key[1]  # noqa: PLW2901
            if len(key) > MOST_NAME:
                self._flaw = "a name is too long"

    def _count(self, more: int) -> None:
        """Count attributes and declarations, of a stanza or of the header."""
        self._attributes += more
        if self._attributes > (self.limits.attributes if self._depth > 1 else MOST_IN_HEADER):
            raise StreamError("policy-violation", text="too many attributes")

    def _characters(self, data: str) -> None:
        if self._open:
            self._text.append(data)
        elif self._depth == 1 and not self._finished:
            if data.strip(" \t\r\n"):
                self._between()
            self._mark = max(self._mark, self._parser.CurrentByteIndex)

    def _between(self) -> None:
        raise StreamError("bad-format", text="text between stanzas")

    def _start_namespace(self, prefix: str | None, uri: str | None) -> None:
        if len(uri or "") > MOST_NAMESPACE:
            raise StreamError("policy-violation", text="namespace too long")
        if self._depth == 0:
            self._prefixes[prefix or ""] = uri or ""
        self._attributes += 1  # looked at with those of the element, which follows
        if prefix is None:
            self._default.append(uri or "")

    def _end_namespace(self, prefix: str | None) -> None:
        if prefix is None:
            self._default.pop()

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            raise StreamError("unsupported-encoding")

    def _restricted(self, *_: object) -> None:
        raise StreamError("restricted-xml")


def canonical(uri: str, content: str) -> str:
    """The namespace as it is held: that of stanzas is always C{jabber:client}."""
    return ns.CLIENT if uri == content == ns.COMPONENT else uri


def _split(name: str) -> tuple[str, str, str]:
    """Expat's C{"uri local prefix"}, of which only the local name is always there."""
    parts = name.split(" ")
    if len(parts) == 1:
        return "", name, ""
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""


def _qualify(attributes: dict[str, str]) -> dict[str | tuple[str, str], str]:
    """Expat's names as the pairs that domish uses."""
    qualified: dict[str | tuple[str, str], str] = {}
    for key, value in attributes.items():
        uri, name, _ = _split(key)
        qualified[(uri, name) if uri else key] = value
    return qualified


def _translate(error: expat.ExpatError) -> StreamError:
    if error.code in _RESTRICTED:
        return StreamError("restricted-xml")
    if error.code in _ENCODING:
        return StreamError("unsupported-encoding")
    return StreamError("not-well-formed", text=expat.ErrorString(error.code))
