"""The splice and the tree: two readers that must never disagree about a stream."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any
from xml.parsers import expat

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream import ns, splice, splicedstanza
from cms.xmlstream.limits import Limits
from cms.xmlstream.reader import (
    AcknowledgementRead,
    Event,
    RequestRead,
    SlicesRead,
    StanzaRead,
    StreamBroken,
    StreamEnd,
    TreeReader,
)
from cms.xmlstream.serialize import serialize
from cms.xmlstream.splice import SPLICED_BYTES, SpliceReader
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Slice, Stanza
from tests.support import element_of, header

# Whatever the splice still waits for, so much more makes it ask the tree.
PATIENCE = b" " * (SPLICED_BYTES + 1)
SMALL = Limits(stanza_bytes=600, elements=130, depth=64)
USUAL = Limits(stanza_bytes=262_144, elements=4_096, depth=64)
LARGE = Limits(stanza_bytes=1_000_000, elements=100_000, depth=64)

PLAIN = header(ns.CLIENT)
HEADERS = (
    PLAIN,
    header(ns.COMPONENT),
    header(ns.CLIENT, " xmlns:p='urn:p' xmlns:c='jabber:client' xml:lang='de'"),
    f"<s:stream xmlns='{ns.CLIENT}' xmlns:s='{ns.STREAMS}'>".encode(),
    f"<stream xmlns='{ns.COMPONENT}' xmlns:stream='urn:other'>".encode(),
)


@frozen
class Outcome:
    """What a reader made of a stream; C{end} is empty while it could go on."""

    stanzas: list[Stanza]
    slices: list[Slice | None]
    end: str

    @property
    def shown(self) -> tuple[object, ...]:
        """All that anybody could see of it."""
        return (*map(meaning, self.stanzas), self.end)


def outcome(events: Sequence[Event]) -> Outcome:
    """The events put together; an end that is not the last of them is shown as such."""
    stanzas: list[Stanza] = []
    slices: list[Slice | None] = []
    end = ""
    for event in events:
        if end:
            end += " and more"
        if isinstance(event, SlicesRead):
            slices += event.slices
            stanzas += map(SplicedStanza, event.slices)
        elif isinstance(event, StanzaRead):
            slices.append(None)
            stanzas.append(event.stanza)
        elif isinstance(event, StreamBroken):
            end += event.error.condition
        elif isinstance(event, StreamEnd):
            end += "closed"
        elif (made := element_of(event)) is not None:
            slices.append(None)
            stanzas.append(made)
    return Outcome(stanzas, slices, end)


def received(raw: bytes, content: str) -> list[bytes]:
    """What forwarded bytes mean to the next reader, whose stream binds only C{stream}."""
    reader = TreeReader(LARGE)
    reader.feed(header(content))
    result = outcome(reader.feed(raw + b"<after/>"))
    return [serialize(stanza.element) for stanza in result.stanzas] + [result.end.encode()]


def meaning(stanza: Stanza) -> tuple[object, ...]:
    """What is routed by, then what the receivers see, and only then the tree."""
    return (
        (stanza.name, stanza.type, stanza.id, stanza.to, stanza.sender, stanza.payload),
        None if stanza.child is None else serialize(stanza.child),
        received(stanza.raw, ns.CLIENT),
        received(stanza.raw, ns.COMPONENT),
        serialize(stanza.element),
        (stanza.uri, stanza.is_stanza, stanza.to, stanza.sender, stanza.payload),
    )


def cut(body: bytes, places: Sequence[int] | int) -> list[bytes]:
    """The body in pieces: at these places, or always so long."""
    if isinstance(places, int):
        places = range(places, len(body), places)
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(edges) if a < b]


def by_tree(head: bytes, pieces: Sequence[bytes], given_limits: Limits = USUAL) -> Outcome:
    """The reference."""
    reader = TreeReader(given_limits)
    reader.feed(head)
    return outcome([event for piece in pieces for event in reader.feed(piece)])


def by_splice(
    head: bytes,
    pieces: Sequence[bytes],
    given_limits: Limits = USUAL,
    handover: int = 0,
) -> Outcome:
    """The fast way, which begins after so many pieces, at first with the tree's help."""
    tree = TreeReader(given_limits)
    tree.feed(head + b" ")
    events = [event for piece in pieces[:handover] for event in tree.feed(piece)]
    reader = SpliceReader(tree)
    reader.feed(b"" if handover else b" ")
    return outcome(events + [event for piece in pieces[handover:] for event in reader.feed(piece)])


def declared(raw: bytes) -> set[str | None]:
    """The namespaces that bytes declare."""
    found: set[str | None] = set()
    parser = expat.ParserCreate("UTF-8", " ")
    parser.StartNamespaceDeclHandler = lambda prefix, uri: found.add(uri)
    parser.Parse(b"<r xmlns:stream='s'>" + raw + b"</r>", True)
    return found


def misread(slices: Sequence[Slice | None], stanzas: Sequence[Stanza]) -> list[str]:
    """Addresses in slices that are not those of the stanza."""
    wrong = []
    for piece, true in zip(slices, stanzas, strict=False):
        if piece is None:
            continue
        name, to, sender, _ = piece
        routed = {"message": True, "iq": true.is_request or true.is_answer}
        if to is not None and not (
            name.decode() == true.name
            and to.decode() == true.to
            and routed.get(true.name, true.type is None)
        ):
            wrong.append(f"to {to!r} of {true.raw!r}")
        if sender is not None and sender.decode() != (true.sender or ""):
            wrong.append(f"from {sender!r} of {true.raw!r}")
        if sender == b"" and true.sender is not None:
            wrong.append(f"from {true.sender!r} not seen")
        # The tree reader takes one content namespace for the other; a receiver does not.
        if {ns.CLIENT, ns.COMPONENT} & declared(piece[3]):
            wrong.append(f"a content namespace is forwarded: {piece[3]!r}")
    return wrong


def difference(
    head: bytes,
    body: bytes,
    places: Sequence[int] | int = (),
    handover: int = 0,
    given_limits: Limits = USUAL,
) -> tuple[object, ...] | None:
    """
    What the two readers disagree about.

    Of two errors in a row the tree itself finds sometimes the one and sometimes
    the other, as the stream is cut.
    """
    pieces = [*cut(body, places), PATIENCE]
    tree = by_tree(head, [body, PATIENCE], given_limits)
    splice = by_splice(head, pieces, given_limits, handover)
    wrong = misread(splice.slices, tree.stanzas)
    same = splice.shown in (
        tree.shown,
        by_tree(head, [*cut(body, 1), PATIENCE], given_limits).shown,
    )
    return None if same and not wrong else (tree.shown, splice.shown, wrong)


def closing(head: bytes) -> bytes:
    """The end of the stream that began so."""
    return b"</" + head[head.rindex(b"<") + 1 :].split(b" ")[0] + b">"


NAMES = ("message", "message", "iq", "presence", "messages", "message-x", "iqx", "c:message")
TOP = (
    *("<r xmlns='urn:xmpp:sm:3'/>", '<a xmlns="urn:xmpp:sm:3" h="7"/>'),
    *("<a h='4294967295' xmlns='urn:xmpp:sm:3' />", "<r xmlns='urn:xmpp:sm:3'></r>"),
    *("<a h='4294967296' xmlns='urn:xmpp:sm:3'/>", "<a h='' xmlns='urn:xmpp:sm:3'/>"),
    *("<r xmlns='urn:xmpp:sm:2'/>", "<r xmlns='urn:xmpp:sm:3'>", "<a xmlns='urn:xmpp:sm:3'/>"),
    *("<presence/>", "<iq type='get'/>", "<message to='a@b'><body>x</body></message>", " \r\n\t"),
    *("<stream:error/>", "<handshake/>", "<auth xmlns='urn:x'>x</auth>", "x", "&#32;", "</iq>"),
    *("<!-- x -->", "<?a b?>", "<!DOCTYPE a>", "<![CDATA[ ]]>", "<![CDATA[<iq/>]]>", "&undefined;"),
    *("<?xml version='1.0'?>", "\0", "]]>", "<", ">", "'", "\ufeff", "</r><r>", "</stream:stream>"),
)
ATTRIBUTES = (
    *(" to='a@b'", " from='c@d/e'", " id='1'", " type='get'", " type='chat'", " xml:lang='de'"),
    *(' to="a@b"', ' from="c@d/e"', ' id="1"', ' type="result"', "", "", " to=''", ' from=""'),
    *(" to='a@b/c&lt;d'", " from='c@d/&#x26;&amp;'", " to='&#x10FFFF;&#0000000097;'", " to='a b'"),
    *(
        " to='&#xD800;'",
        " to='&#1;'",
        " from='&#xFFFE;'",
        ' to="a\'b"',
        " to='a\r\nb'",
        " to='a>b'",
    ),
    *(" type=''", " to='" + "&#97;" * 65 + "'", " to='&#38;lt;'", " to='&amp;lt;'", " from='&u;'"),
    *(" to = 'x'", "\nto='x'", "\tfrom\n=\r\n'x'", "  id='2'", " to='a&amp;b'", " from='&#120;'"),
    *(" a=\" to='x'\"", " a=' from=\"x\" '", " a='b to=c'", " a='to='", " a=' from='", " a='>'"),
    *(' a=">"', " a='/>'", " a='</message>'", " a='x>' b='>'", " a='=' b=' to='", " xto='x'"),
    *(" p:to='x'", " stream:to='x'", " x:from='f' xmlns:x='urn:x'", " xmlns='jabber:client'"),
    *(' xmlns="jabber:client"', " xmlns='jabber:component:accept'", " xmlns=''", " xmlns='urn:x'"),
    *(
        " xmlns='&#106;abber:client'",
        " xmlns:q='jabber:client'",
        " to='\u00e4@b'",
        " to='a\u00a0b'",
    ),
    *(
        " xmlns:stream='urn:s'",
        " a='&undefined;'",
        "to='x'",
        " to=x",
        " to",
        " /",
        " a='\n'",
        " a=''",
    ),
    *(" xmlns:from='urn:x'", " from-x='y'", " type='&#103;et'", " xmlns:n='" + "n" * 257 + "'"),
)
CONTENT = (
    *("x", "<body>x</body>", "<a xmlns='urn:a'/>", '<b xmlns="urn:b"><c/></b>', " \r\n ", "", ""),
    *("<q:a xmlns:q='urn:q' q:b='c'/>", "&lt;&#169;&gt;", "\u00e4\U0001f600", "jabber:client"),
    *("<a xmlns=''/>", "<a xmlns='jabber:client'/>", "<a xmlns='jabber:component:accept'/>"),
    *(
        "<q:a xmlns:q='jabber:client'/>",
        "<a xmlns='&#106;abber:client'/>",
        "<a b='jabber:client'/>",
    ),
    *("<a xmlns='jabber&#x3a;component:accept'/>", "<a xmlns\n=\n'jabber:clien&#116;'/>"),
    *("<stream:a stream:b='c'/>", "<p:a/>", "<c:a/>", "<a p:b='c'/>", "<s:a/>", "<stream/>"),
    *(
        "<forwarded xmlns='urn:f'><message to='x'>y</message></forwarded>",
        "<message/>",
        "<iq></iq>",
    ),
    *(
        "<messages/>",
        "<message-x></message-x>",
        "<iqx/>",
        "</message>",
        "</iq>",
        "</message >",
        "<a>",
    ),
    *(
        "<![CDATA[</message>]]>",
        "<![CDATA[<message>]]>",
        "<!-- </message> -->",
        "<?a </iq>?>",
        "]]>",
    ),
    *(
        "<!---->",
        "&undefined;",
        "&#0;",
        "\0",
        "\ufffe",
        "</r><r>",
        "<a b='1' b='2'/>",
        "<a b='>'/>",
    ),
    *("<a b='</iq>'/>", "<a xmlns='" + "n" * 256 + "'/>", "<a xmlns='" + "n" * 257 + "'/>"),
    *("<q:a xmlns:q=\"urn:'" + "\u00e4" * 256 + '"/>', "<a xmlns=' '/>", "<a xmlns:xml='urn:x'/>"),
    *("<a>" * 63 + "</a>" * 63, "<a>" * 64 + "</a>" * 64, "<a>" * 62 + "<b/>" + "</a>" * 62),
    *("<a>" * 63 + "<b/>" + "</a>" * 63, "<a/>" * 300, "<a xmlns='urn:>" + "n" * 250 + "'/>"),
    *(
        "<x:a xmlns:x=''/>",
        "<a xmlns='jabber:client '/>",
        "<x xmlns:stream='urn:s'><stream:y/></x>",
    ),
)
GOOD_ATTRIBUTES, GOOD_CONTENT = ATTRIBUTES[:14], CONTENT[:12]
ENDS = ("</{}>",) * 6 + ("</{} >", "</{}\n>", "</{}\t></{}>", "", "</x>")


def element(name: str, attributes: list[str], tail: str, content: list[str], end: str) -> str:
    """A stanza, if it is one."""
    opening = f"<{name}{''.join(attributes)}{tail}"
    return f"{opening}/>" if end == "/" else f"{opening}>{''.join(content)}{end.format(name, name)}"


def some(
    good: Sequence[str], all_of_them: Sequence[str], most: int
) -> st.SearchStrategy[list[str]]:
    """A few, of which about half of the time all are harmless."""
    kinds = st.one_of(st.sampled_from(good), st.sampled_from(all_of_them))
    return st.one_of(
        st.lists(st.sampled_from(good), max_size=most, unique_by=lambda a: a[:3]),
        st.lists(kinds, max_size=most),
    )


ELEMENTS = st.builds(
    element,
    st.one_of(st.sampled_from(NAMES[:4]), st.sampled_from(NAMES)),
    some(GOOD_ATTRIBUTES, ATTRIBUTES, 3),
    st.sampled_from(["", "", "", " ", "\n", " \t"]),
    some(GOOD_CONTENT, CONTENT, 3),
    st.one_of(st.just(ENDS[0]), st.sampled_from([*ENDS, "/", "/"])),
)
PARTS = st.one_of(ELEMENTS, ELEMENTS, ELEMENTS, st.sampled_from(TOP[:12]), st.sampled_from(TOP))
BODIES = st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: "".join(parts).encode())
CUTS = st.one_of(st.lists(st.integers(0, 3000), max_size=6), st.integers(1, 7), st.just(()))
GOOD = b"".join(
    (
        b"<message to='a@b' from='c@d/e' id='1' type='chat'><body>x &amp; y</body></message> \n",
        b'<iq to="a@b" from="c@d" type="get" id="2"><query xmlns="jabber:iq:version"/></iq>',
        b"<presence from='c@d/e' xmlns='jabber:client'/><presence type='unavailable'/>",
        b"<iq type='result' id='3'/>",
        b"<message a='>'><x xmlns='u:r'><q:y xmlns:q='u:q'/></x></message>",
        b"<message><![CDATA[</message>]]></message >",
        "<message to='\u00e4@b'>\u00e4<m><iq/></m><stream:x/></message></stream:stream>".encode(),
    )
)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, len(GOOD)),
        st.integers(0, 3),
        st.one_of(
            st.sampled_from([bytes([c]) for c in b"<>/='\" &;:!?]\n\0tx\xff\xc3"]),
            st.binary(max_size=2),
        ),
    ),
    min_size=1,
    max_size=4,
)


def mutated(changes: list[tuple[int, int, bytes]]) -> bytes:
    """A good stream after a few accidents: some bytes replaced, put in, lost or doubled."""
    body = GOOD
    for place, length, new in changes:
        replaced = body[place : place + length * 4] * 2 if new == b"tx" else new
        body = body[:place] + replaced + body[place + length :]
    return body


OTHERWISE = (  # how an address is written, and which it is
    ("'a@b/c&amp;d'", "a@b/c&d"),
    ("'a@b/&lt;&gt;&quot;&apos;'", "a@b/<>\"'"),
    ('"a@b/c\'d"', "a@b/c'd"),
    ("'a@b/c\"d>'", 'a@b/c"d>'),
    ("'a@b/c d'", "a@b/c d"),
    ("'a&#64;b/&#x1F600;'", "a@b/\U0001f600"),
    ("'a&#x0000000000040;b'", "a@b"),
    ("'a@b/&amp;lt;'", "a@b/&lt;"),
    ("'a@b/&#38;lt;'", "a@b/&lt;"),
    ("'a@b/&#38;amp;'", "a@b/&amp;"),
    ("'a@b/&#xA;'", "a@b/\n"),
    ("'a@b/\r\n\t'", "a@b/  "),
)


class Counted(TreeReader):
    """A tree reader that is counted."""

    made = 0

    def __init__(self, *arguments: Any) -> None:
        Counted.made += 1
        super().__init__(*arguments)


class UnusualTests(SynchronousTestCase):
    """Nobody makes a stanza, or the answers to it, expensive by the way it is written."""

    def setUp(self) -> None:
        """Trees are counted."""
        tree = TreeReader(USUAL)
        tree.feed(PLAIN)
        self.reader = SpliceReader(tree)
        self.reader.feed(b" ")
        self.patch(splice, "TreeReader", Counted)
        self.patch(splicedstanza, "TreeReader", Counted)
        Counted.made = 0

    def read(self, raw: str) -> list[Event]:
        """What is read in one go."""
        return self.reader.feed(raw.encode())

    def test_addresses(self) -> None:
        """Both addresses are known as they are meant, and no tree is made."""
        for written, meant in OTHERWISE:
            raw = f"<iq type='result' id='1' to={written} from={written}/>"
            (event,) = self.read(raw)
            assert isinstance(event, SlicesRead)
            ((name, to, sender, piece),) = event.slices
            self.assertEqual((b"iq", meant.encode(), meant.encode()), (name, to, sender), raw)
            stanza = SplicedStanza(event.slices[0])
            self.assertEqual((meant, meant, "1"), (stanza.to, stanza.sender, stanza.id))
            self.assertEqual(received(raw.encode(), ns.CLIENT), received(piece, ns.CLIENT))
        self.assertEqual(0, Counted.made)

    def test_forms(self) -> None:
        """Other white space, quotes and names, among usual ones, in one read."""
        forms = (
            "<message  to='a@b'>x</message>",
            "<message\n\tto='a@b'>x</message>",
            "<message to = \r\n'a@b' id=\"1\">x</message>",
            "<message id='a>b' to='a@b'/>",
            "<message id=\"a'b\" to='a@b'/>",
            "<message to='a@b' type=''/>",
            "<message to='a@b' xmlns:q='urn:q' q:a='1'/>",
            "<message  to='a@b' xmlns='jabber:client' />",
        )
        usual = "<message to='a@b' id='2'><body>x</body></message>"
        (event,) = self.read("".join(form + usual for form in forms * 10))
        assert isinstance(event, SlicesRead)
        self.assertEqual({b"a@b"}, {to for _, to, _, _ in event.slices})
        self.assertEqual(160, len(event.slices))
        self.assertEqual(0, Counted.made)
        self.assertTrue(all(b" xmlns=" not in piece[3] for piece in event.slices))

    def test_alone(self) -> None:
        """What cannot be cut takes neither its neighbours with it nor a tree of its own."""
        odd = "<message to='a@b'>x</message >"
        usual = "<message to='a@b'>x</message>"
        events = self.read((odd + usual) * 50)
        kinds = [type(event) for event in events]
        self.assertEqual([StanzaRead, SlicesRead] * 50, kinds)
        self.assertEqual(1, Counted.made)

    def test_not_proved(self) -> None:
        """What hides in a read is looked for once, not again for each stanza of it."""
        proofs = []
        proves = SpliceReader._proves

        def prove(reader: SpliceReader, data: bytes, end: int) -> bool:
            proofs.append(end)
            return proves(reader, data, end)

        self.patch(SpliceReader, "_proves", prove)
        for hidden in (
            "<![CDATA[x]]>",
            "<body xmlns='jabber:client'/>",
            "<a><message></message></a>",
        ):
            proofs.clear()
            Counted.made = 0
            events = self.read(f"<message to='a@b'>{hidden}</message>" * 100)
            self.assertEqual(100, len(outcome(events).stanzas))
            self.assertEqual(1, Counted.made)
            self.assertLessEqual(len(proofs), 2, hidden)
            (event,) = self.read("<presence/>")
            self.assertIsInstance(event, SlicesRead)  # and the next read is as fast as ever

    def test_management(self) -> None:
        """Requests and acknowledgements are read in their place, without tree or parser."""
        usual = "<message to='a@b' id='2'><body>x</body></message>"
        ask, answer = "<r xmlns='urn:xmpp:sm:3'/>", '<a h="4294967295" xmlns="urn:xmpp:sm:3"/>'
        acknowledged = AcknowledgementRead(4294967295)
        events = self.read(ask + usual * 2 + answer + ask + usual + ask)
        self.assertEqual(
            [RequestRead(), 2, acknowledged, RequestRead(), 1, RequestRead()],
            [len(e.slices) if isinstance(e, SlicesRead) else e for e in events],
        )
        self.patch(SpliceReader, "_proves", self.fail)
        self.assertEqual([acknowledged, RequestRead()], self.read(answer + " " + ask))
        for cut in range(1, len(ask)):
            self.assertEqual([], self.read(ask[:cut]))
            self.assertEqual([RequestRead()], self.read(ask[cut:]))
        self.assertEqual(0, Counted.made)

    def test_another_id_needs_no_tree(self) -> None:
        """Only the value of C{id} is another one then."""
        with_tree = splicedstanza._tree
        for start in (
            "<iq id='1' type='get'",
            """<iq to="a/ id='2'" id='1' type='get'""",
            """<iq type='get' from='a/ id="2"' id="1\"""",
        ):
            self.patch(splicedstanza, "_tree", self.fail)
            stanza = splicedstanza.of_bytes(f"{start}><q xmlns='u:q' id='3'/></iq>".encode())
            before = stanza.to, stanza.sender, stanza.type
            stanza.identify("a&b")
            self.assertEqual(("a&b", *before), (stanza.id, stanza.to, stanza.sender, stanza.type))
            self.assertEqual(1, stanza.raw.count(b"a&amp;b"))
            self.patch(splicedstanza, "_tree", with_tree)
            read = splicedstanza.of_bytes(stanza.raw).element
            self.assertEqual(("a&b", "3"), (read["id"], read.firstChildElement()["id"]))
        stanza = splicedstanza.of_bytes(b"<iq type='get'><q xmlns='u:q' id='3'/></iq>")
        stanza.identify("4")
        self.assertEqual("4", splicedstanza.of_bytes(stanza.raw).id)

    def test_an_iq_needs_no_tree(self) -> None:
        """Neither its attributes nor its payload, whatever its addresses are."""
        for written, meant in OTHERWISE:
            (event,) = self.read(f"<iq type='get' id='a&amp;b' to={written}><q xmlns='u:q'/></iq>")
            assert isinstance(event, SlicesRead)
            stanza = SplicedStanza(event.slices[0])
            self.patch(splicedstanza, "_tree", self.fail)
            self.assertEqual((meant, "a&b", "get"), (stanza.to, stanza.id, stanza.type))
            self.assertEqual(("u:q", "q"), stanza.payload)
            assert stanza.child is not None
            self.assertEqual("u:q", stanza.child.uri)
            assert stanza.only_child is not None
            self.assertEqual("q", stanza.only_child.name)


class EquivalenceTests(SynchronousTestCase):
    """The same stanzas, the same addresses and the same errors, however it is written and cut."""

    def same(
        self, head: bytes, body: bytes, places: Sequence[int] | int, handover: int = 0
    ) -> None:
        """The readers agree about this stream."""
        self.assertIsNone(difference(head, body, places, handover), (head, body, places))

    @settings(max_examples=1200)
    @given(st.sampled_from(HEADERS), BODIES, CUTS, st.integers(0, 2))
    def test_woven(self, head: bytes, body: bytes, places: list[int] | int, handover: int) -> None:
        """Streams woven from what is good and what was ever an attack."""
        self.same(head, body + closing(head), places, handover)

    @settings(max_examples=1000)
    @given(CHANGES, CUTS)
    def test_mutated(self, changes: list[tuple[int, int, bytes]], places: list[int] | int) -> None:
        """A good stream with a few bytes changed."""
        self.same(PLAIN, mutated(changes), places)

    def test_one_stanza_does_not_excuse_another(self) -> None:
        """What a stanza means does not depend on what shares its read."""
        for content in (ns.CLIENT, ns.COMPONENT):
            inner = f"<message to='a@b'><body xmlns='{content}'>x</body></message>"
            outer = f"<message xmlns='{content}'/>"
            for body in (inner + outer, outer + inner, inner + outer + inner, outer + outer):
                self.same(header(content), body.encode() + closing(PLAIN), ())

    def test_long_tag_in_pieces(self) -> None:
        """What the tree refuses for its many pieces, the fast way does not take the pains of."""
        tree = TreeReader(USUAL)
        tree.feed(PLAIN)
        reader = SpliceReader(tree)
        tag = b"<message" + b" a='b'" * 2_000
        events = [event for byte in cut(tag, 1) for event in reader.feed(byte)]
        self.assertEqual("policy-violation", outcome(events).end)

    def test_each_alone(self) -> None:
        """Each fragment by itself, on each kind of stream, in one piece and byte by byte."""
        bodies = [
            *TOP,
            *(f"<message{a}>x</message>" for a in ATTRIBUTES),
            *(f"<iq id='1'{a}/>" for a in ATTRIBUTES),
            *(f"<message>{c}</message>" for c in CONTENT),
            *(f"<iq>{c}</iq >" for c in CONTENT),
        ]
        cuts: tuple[Sequence[int] | int, ...] = ((), 1)
        different = [
            (head, body, places, found)
            for body in bodies
            for head, places in itertools.product(HEADERS, cuts)
            if (found := difference(head, f"{body}<presence/>".encode() + closing(head), places))
        ]
        self.assertEqual([], different)

    @settings(max_examples=400)
    @given(
        st.lists(
            st.one_of(
                st.integers(560, 620).map(lambda n: f"<message><body>{'x' * n}</body></message>"),
                st.integers(60, 68).map(lambda n: f"<message>{'<a>' * n}{'</a>' * n}</message>"),
                st.integers(125, 135).map(lambda n: f"<iq type='set'>{'<a/>' * n}</iq>"),
                st.just("<presence/>"),
            ),
            min_size=1,
            max_size=4,
        ),
        CUTS,
    )
    def test_limits(self, parts: list[str], places: list[int] | int) -> None:
        """One byte, one element or one level too many is too many for both."""
        body = "".join(parts).encode() + closing(PLAIN)
        small = difference(PLAIN, body, places, given_limits=SMALL)
        self.assertIsNone(small, (body, places))
