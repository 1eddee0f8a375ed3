"""
Bytes to stanzas without trees: the validated splice (docs/design/splice.md).

A read is cut into slices by the start tag and the first end tag of each stanza.  Expat
then parses the whole read once, without a callback for any element, and so proves that
it is well-formed.  The bytes of a stanza are then forwarded as they came.

Why a proof of the whole proves each slice:  There are no comments, processing
instructions and CDATA sections, so no tag can hide, and C{<} cannot occur in a value.
A slice begins with C{<message} and ends with the first C{</message} after it.  So only
its last tag can close its first element, and no tag in it can close an element that was
open before.  If a slice is not a complete element, it leaves an element open that no
other slice can close.  Then the whole is not well-formed.

A start tag in an unusual form (references in an address, quotes of both kinds, other
white space) is rewritten in the usual form, so that the code behind this reader sees one
form only.  The proof is made of the bytes as they came.

Everything else goes to L{TreeReader}: a stanza inside a stanza, CDATA, a prefix of the
stream header, anything long or deep.  Only that reader decides what is an error.  A
stanza that cannot be cut takes only itself there.  If the proof fails, the faulty stanza
is not known, and the rest of the read goes there: to cut and prove again for each stanza
would take quadratic time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from xml.parsers import expat

from cms.xmlstream import ns
from cms.xmlstream.management import MODULUS
from cms.xmlstream.plainreader import PlainReader
from cms.xmlstream.portable import MOST_DEPTH, is_namespace
from cms.xmlstream.reader import (
    LONG_TOKEN,
    MOST_NAMESPACE,
    AcknowledgementRead,
    Context,
    Event,
    Relying,
    RequestRead,
    SlicesRead,
    StreamEnd,
    TreeReader,
)
from cms.xmlstream.serialize import unquote_attribute
from cms.xmlstream.splicedstanza import MARKED
from cms.xmlstream.stanza import Slice

SPLICED_BYTES = 16_384  # a longer stanza goes to the tree, which need not start over
_ELEMENT = 4  # bytes of the shortest element
_ATTRIBUTE_BYTES = 5  # bytes of the shortest attribute
_NESTED = 7  # bytes of the shortest element that holds another
_SPACE = b" \t\r\n"
_GREATER = ord(">")


_KINDS = {name: (b"</" + name, len(name) + 3) for name in (b"message", b"iq", b"presence")}


def _start_tag(quote: str, content: str) -> re.Pattern[bytes]:
    """
    The start tag of a stanza, attribute by attribute, with one kind of quote.

    Its groups: name, from, to, type, the content namespace if it is declared
    once more, and the slash of an element without content.
    """
    address = f"{quote}([^{quote}&<>\\t\\r\\n]+){quote}"
    pattern = (
        f"<(message|iq|presence)(?: from={address}| to={address}| type={address}"
        f"|( xmlns={quote}{re.escape(content)}{quote})"
        f"| (?!from=|to=|type=|xmlns)[a-zA-Z_][a-zA-Z0-9_:.-]*={quote}[^{quote}<>]*{quote})*"
        " ?(/?)>"
    )
    return re.compile(pattern.encode())


_START_TAGS = {
    content: (_start_tag("'", content), _start_tag('"', content))
    for content in (ns.CLIENT, ns.COMPONENT)
}
_IQ_TYPES = frozenset({b"get", b"set", b"result", b"error"})
_END_TAG = re.compile(rb"</(?:message|iq|presence)\s*>")
# Any start tag of a stanza that is well-formed: its name, its attributes, the slash.
_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:.-]*+"
_UNUSUAL_TAG = re.compile(
    rb"<(message|iq|presence)"
    rb"((?:[ \t\r\n]++" + _NAME + rb"[ \t\r\n]*+=[ \t\r\n]*+(?:'[^'<]*+'|\"[^\"<]*+\"))*+)"
    rb"[ \t\r\n]*+(/?)>"
)
_UNUSUAL_ATTRIBUTE = re.compile(rb"(" + _NAME + rb")[ \t\r\n]*+=[ \t\r\n]*+('[^']*+'|\"[^\"]*+\")")
_MOST_REFERENCES = 64  # to characters by number, in one address: each costs a call
_BEGINS = (
    *(b"<" + name + after for name in _KINDS for after in (b" ", b">", b"/")),
    *(b"<r ", b"<a "),
)
# Requests and acknowledgements (XEP-0198 4) as they are usually written: complete elements.
_SM = b"xmlns=(?:'urn:xmpp:sm:3'|\"urn:xmpp:sm:3\")"
_H = b"h=(?:'(%b)'|\"(%b)\")" % ((rb"\d{1,10}",) * 2)
_MANAGEMENT = re.compile(b"<(?:r %b|a (?:%b %b|%b %b)) ?/>" % (_SM, _SM, _H, _H, _SM))


class _Unusual(NamedTuple):
    """
    A start tag in an unusual form.

    @ivar tag: The tag rewritten, without C{xmlns}.
    @ivar opened: Where it ends.
    """

    name: bytes
    to: bytes | None
    sender: bytes | None
    type: bytes | None
    tag: bytes
    opened: int
    empty: bool
    declares: bool


def _read_unusual(data: bytes, position: int, content: bytes) -> _Unusual | None:
    """The start tag at a position; C{None} if there is none, or only the tree can tell."""
    match = _UNUSUAL_TAG.match(data, position)
    if match is None:
        return None
    name, written, slash = match.groups()
    values: dict[bytes, bytes] = {}
    for key, value in _UNUSUAL_ATTRIBUTE.findall(written):
        if key in values:
            return None
        values[key] = value
    declared = values.pop(b"xmlns", None)
    if declared is not None and declared[1:-1] != content:
        return None
    # Where no value holds it, the first > is the end of the tag.
    attributes = [b" " + key + b"=" + value for key, value in values.items()]
    tag = b"<" + name + b"".join(attributes).replace(b">", b"&gt;") + slash + b">"
    try:
        to, sender, type_ = (_address(values.get(key)) for key in (b"to", b"from", b"type"))
    except ValueError:
        return None
    if sender == b"":
        return None
    declares = declared is not None
    return _Unusual(name, to or None, sender, type_, tag, match.end(), bool(slash), declares)


def _address(quoted: bytes | None) -> bytes | None:
    """The value of an attribute, if it is there."""
    if quoted is None or not MARKED(quoted):
        return quoted and quoted[1:-1]
    if quoted.count(b"&#") > _MOST_REFERENCES:
        raise ValueError("too many references")
    return unquote_attribute(quoted[1:-1].decode()).encode()


class _NotProvedError(Exception):
    """The tree reader must read it."""


def _is_too_much(data: bytes, opened: int, end: int, size: int, bounds: tuple[int, int]) -> bool:
    """Whether a stanza is longer, or perhaps deeper, than this reader allows."""
    most, depth = bounds
    deep = depth * _NESTED
    # Elements that nest so deep take C{deep} bytes, of which the last are end tags.
    return size > most or (
        end - opened > deep
        and data.count(b"</", opened + deep - 64, end) >= 8
        and data.count(b"</", opened, end) >= depth
    )


class SpliceReader(Relying):
    """
    Reads the stanzas of a stream that has been opened and authenticated.

    @param tree: The reader that has read the stream so far, perhaps within a stanza.  It
        goes on to the next boundary.
    """

    def __init__(self, tree: TreeReader | PlainReader) -> None:
        super().__init__(tree.limits)
        self._context: Context = tree.context
        # An idle stream has no parser, which takes more memory than the rest of it.
        self._slow = None if tree.at_boundary else tree
        self._pending = b""
        self._end_tag = f"</{self._context.root}>".encode()
        self._ended = False
        self._start, self._other_start = _START_TAGS[self._context.content]
        self._content = self._context.content.encode()
        self._tree: TreeReader | None = None  # kept to the end of a read
        self._declarations = 0
        # Requests and acknowledgements among the slices: how many are before each.
        self._marks: list[tuple[int, Event]] = []
        self._last = 0, False  # where the last slice begins, and whether it declares
        streams = self._context.prefixes.get("stream") == ns.STREAMS
        self._root = f"<r xmlns:stream='{ns.STREAMS}'>".encode() if streams else b"<r>"

    @property
    def at_boundary(self) -> bool:
        """Whether only white space followed the last stanza."""
        if self._slow is not None:
            return self._slow.at_boundary
        return not self._pending and not self._ended

    def feed(self, data: bytes) -> list[Event]:
        """See L{Reader<cms.xmlstream.reader.Reader>}."""
        events: list[Event] = []
        while data and not self._ended:
            data = self._read_slowly(data, events) if self._slow else self._read(data, events)
        self._tree = None
        return events

    def read_apart(self, texts: Sequence[bytes]) -> list[Event] | None:
        """
        Read texts that stand apart, each of which is one element.

        @return: C{None} if only the tree can tell that they are, or what else they are.
        """
        slices: list[Slice] = []
        marks: list[tuple[int, Event]] = []
        declarations = 0
        for text in texts:
            cut, end = self._cut(text)
            if end < len(text) or len(cut) + len(self._marks) != 1:
                return None
            marks += [(len(slices), mark) for _, mark in self._marks]
            slices += cut
            declarations += self._declarations
        self._declarations = declarations
        whole = b"".join(texts)
        return _among(slices, marks) if self._proves(whole, len(whole)) else None

    # the slow way

    def _read_slowly(self, data: bytes, events: list[Event]) -> bytes:
        """Read with the tree until it is at a boundary; returns the rest."""
        tree = self._slow
        assert tree is not None  # noqa: S101 - asked before
        position = 0
        while position < len(data):
            end = _END_TAG.search(data, position)
            upto = end.end() if end else len(data)
            events += tree.feed(data[position:upto])
            position = upto
            if tree.at_boundary:
                self._slow = None
                break
        return data[position:]

    def _read_all_slowly(self, data: bytes, events: list[Event]) -> bytes:
        """Read bytes that were not proved with the tree, all of them."""
        tree = self._slow
        assert tree is not None  # noqa: S101 - asked before
        events += tree.feed(data)
        if tree.at_boundary:
            self._slow = None
        return b""

    def _go_slow(self, data: bytes) -> bytes:
        """Read with the tree; one tree reader serves the whole read."""
        self._pending = b""
        if self._tree is None:
            self._tree = TreeReader(self._limits, self._context)
        self._slow = self._tree
        return data

    # the fast way

    def _read(self, data: bytes, events: list[Event]) -> bytes:
        """Cut and keep what can be cut; returns the bytes for the tree."""
        if self._pending:
            data = self._pending + data
        slices, end = self._cut(data)
        if slices and not self._proves(data, end):
            # It may be only the last: a stanza within a stanza ends the cutting.
            slices.pop()
            end, declared = self._last
            self._declarations -= declared
            self._marks = [mark for mark in self._marks if mark[0] <= len(slices)]
            if not slices or not self._proves(data, end):
                self._go_slow(b"")
                return self._read_all_slowly(data, events)
        if self._marks:
            events += _among(slices, self._marks)
        elif slices:
            events.append(SlicesRead(slices))
        rest = data[end:].lstrip(_SPACE)
        if rest == self._end_tag:
            events.append(StreamEnd())
            self._ended = True
            return b""
        if not rest or self._may_wait(rest):
            self._pending = rest
            return b""
        return self._go_slow(rest)

    def _cut(self, data: bytes) -> tuple[list[Slice], int]:  # noqa: PLR0912, PLR0915 - no call in it for a usual stanza
        """The slices at the beginning of C{data}, not proved yet, and where they end."""
        slices: list[Slice] = []
        add, kinds, find = slices.append, _KINDS, data.find
        bounds = most, depth = self._bounds()
        shallow = min(most, depth * _NESTED)
        start_tag = self._start
        position = begin = 0
        stop = len(data)
        last_declared: bytes | bool | None = None
        self._declarations = 0
        self._marks = []
        while position < stop:
            match = start_tag.match(data, position)
            if match is None:
                if data[position] in _SPACE:
                    position += 1
                    continue
                if self._other_start.match(data, position):
                    start_tag = self._other_start
                    self._start, self._other_start = start_tag, self._start
                    continue
                unusual = self._cut_unusual(data, position, bounds)
                if unusual is None:
                    end = self._cut_mark(data, position, len(slices))
                    if end == position:
                        break
                    position = end
                    continue
                piece, end, declares = unusual
                add(piece)
                self._declarations += declares
                begin, position, last_declared = position, end, declares
                continue
            name, sender, to, type_, declared, slash = match.groups()
            end_tag, length = kinds[name]
            opened = match.end()
            if slash:
                end = opened
            else:
                end = find(end_tag, opened) + length
                if end < opened or end > stop or data[end - 1] != _GREATER:
                    break
            size = end - position
            if size > shallow and _is_too_much(data, opened, end, size, bounds):
                break
            if (name == b"iq" and type_ not in _IQ_TYPES) or (name == b"presence" and type_):
                to = None
            raw = data[position:end]
            if declared:
                self._declarations += 1
                raw = data[position : match.start(5)] + data[match.end(5) : end]
            add((name, to, sender, raw))
            begin, position, last_declared = position, end, declared
        if slices:
            self._last = begin, bool(last_declared)
        return slices, position

    def _bounds(self) -> tuple[int, int]:
        """How long and how deep a slice may be."""
        limits = self._limits
        most = min(SPLICED_BYTES, limits.stanza_bytes, _ELEMENT * limits.elements)
        return min(most, _ATTRIBUTE_BYTES * limits.attributes), min(limits.depth, MOST_DEPTH)

    def _cut_unusual(
        self, data: bytes, position: int, bounds: tuple[int, int]
    ) -> tuple[Slice, int, bool] | None:
        """A slice with an unusual start tag, where it ends, and whether it declares a namespace."""
        read = _read_unusual(data, position, self._content)
        if read is None:
            return None
        name, to, sender, type_, tag, opened, empty, declares = read
        end = opened
        if not empty:
            end_tag, length = _KINDS[name]
            end = data.find(end_tag, opened) + length
            if end < opened or end > len(data) or data[end - 1] != _GREATER:
                return None
        if _is_too_much(data, opened, end, end - position, bounds):
            return None
        if (name == b"iq" and type_ not in _IQ_TYPES) or (
            name == b"presence" and type_ is not None
        ):
            to = None
        return (name, to, sender, tag + data[opened:end]), end, declares

    def _cut_mark(self, data: bytes, position: int, before: int) -> int:
        """Note the request or acknowledgement there, after so many slices; where it ends."""
        match = _MANAGEMENT.match(data, position)
        event = None if match is None else _read_mark(match)
        if match is None or event is None:
            return position
        self._marks.append((before, event))
        return match.end()

    def _may_wait(self, rest: bytes) -> bool:
        """Whether this may be the beginning of one more slice."""
        if len(rest) >= LONG_TOKEN and b">" not in rest:
            return False  # the tree counts the pieces of a long tag
        if len(rest) > SPLICED_BYTES or rest.rstrip(_SPACE).endswith(b">"):
            return False  # it may be complete, in a form unknown here
        if b">" not in rest:
            begins = rest.startswith(_BEGINS) or any(b.startswith(rest) for b in _BEGINS)
            return begins and b"<" not in rest[1:]
        match = self._start.match(rest) or self._other_start.match(rest)
        match = match or _UNUSUAL_TAG.match(rest)
        return match is not None and rest.find(_KINDS[match[1]][0]) < 0

    def _proves(self, data: bytes, end: int) -> bool:
        """Whether expat proves that the slices of C{data[:end]} are stanzas."""
        declared: list[str] = []
        note = declared.append
        parser = expat.ParserCreate("UTF-8", " ")
        parser.StartNamespaceDeclHandler = lambda prefix, uri: note(uri)
        parser.CommentHandler = parser.ProcessingInstructionHandler = _refuse
        parser.StartCdataSectionHandler = parser.StartDoctypeDeclHandler = _refuse
        try:
            parser.Parse(b"".join((self._root, memoryview(data)[:end], b"</r>")), True)
        except (expat.ExpatError, _NotProvedError):
            return False
        # Beside those that say what the header said, the declaration of a content
        # namespace would mean something else on another stream.
        contents = declared.count(ns.CLIENT) + declared.count(ns.COMPONENT)
        return contents == self._declarations and all(map(_is_usual, set(declared)))


def _read_mark(mark: re.Match[bytes]) -> Event | None:
    """What a request or an acknowledgement says; C{None} where C{h} is no counter."""
    value = mark[1] or mark[2] or mark[3] or mark[4]
    if value is None:
        return RequestRead()
    handled = int(value)
    return AcknowledgementRead(handled) if handled < MODULUS else None


def _among(slices: list[Slice], marks: list[tuple[int, Event]]) -> list[Event]:
    """Slices and marks in their order."""
    events: list[Event] = []
    begin = 0
    for before, mark in marks:
        if before > begin:
            events.append(SlicesRead(slices[begin:before]))
        events.append(mark)
        begin = before
    if begin < len(slices):
        events.append(SlicesRead(slices[begin:]))
    return events


@lru_cache(maxsize=4_096)
def _is_usual(uri: str | None) -> bool:
    """Whether a namespace, or none, may be declared in what is forwarded as it came."""
    return uri is None or (len(uri) <= MOST_NAMESPACE and is_namespace(uri))


def _refuse(*_: object) -> None:
    raise _NotProvedError
