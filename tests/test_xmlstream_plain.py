"""Plain XML read by patterns: the tree must never see it otherwise."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream import limits, ns, plainreader
from cms.xmlstream.plainreader import PlainReader
from cms.xmlstream.reader import Event, Reader, StanzaRead, StreamBroken, TreeReader
from cms.xmlstream.serialize import serialize

HEADER = (
    f"<?xml version='1.0'?><stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'"
    " to='meet.example.com' version='1.0' xml:lang='en'>"
)
COMPONENT = f"<stream:stream xmlns:stream='{ns.STREAMS}' xmlns='{ns.COMPONENT}' to='cb1.x'>"
AUTH = f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>AGEAYg==</auth>"
BIND = f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'><resource>r</resource></bind></iq>"

_ATTRIBUTE = st.sampled_from(
    (
        *(
            " to='a'",
            " to='b'",
            ' id="x\'y"',
            " id='x\"y'",
            " a=''",
            " a = 'b'",
            "\na='b'",
            "\ta='b'",
        ),
        *(" a='>'", " a='<'", " a='&amp;'", " a='\u00e4'", " a='\t'", " a='b\nc'", " a='\x7f'"),
        *(f" xmlns='{ns.CLIENT}'", f" xmlns='{ns.COMPONENT}'", " xmlns='urn:x'", " xmlns=''"),
        *(f" xmlns:stream='{ns.STREAMS}'", " xmlns:stream='urn:s'", " xmlns:p='urn:p'", " p:a='b'"),
        *(" xml:lang='en'", " xml:space='x'", f" xmlns='{ns.XML}'", " xmlns='urn:a b'", " :a='b'"),
        *(
            " xmlns='http://www.w3.org/2000/xmlns/'",
            f" xmlns='{'n' * 257}'",
            "a='b'",
            " a",
            " 1='b'",
        ),
        *(" a='b'c='d'", " a=b", " a.b-c_='d'", " \u00e4='b'", " /"),
    )
)
_ATTRIBUTES = st.lists(_ATTRIBUTE, max_size=3).map("".join)
_NAME = st.sampled_from(
    ("a", "iq", "auth", "a-b.c_d", "stream:stream", "p:a", "\u00e4", "1", "stream")
)
_TEXT = st.sampled_from(
    ("", "x", " \n", "a b'c\"d", "]]>", "&amp;", "&x;", "\u00e4", "\r\n", "\t", "<!-- -->", "<?a?>")
)


@st.composite
def tags(draw: st.DrawFn, depth: int = 0) -> str:
    """An element, well-formed or nearly."""
    name, attributes = draw(_NAME), draw(_ATTRIBUTES)
    if draw(st.booleans()):
        return f"<{name}{attributes}{draw(st.sampled_from(('', ' ')))}/>"
    inside = [draw(_TEXT)]
    if depth < 5:
        inside += draw(st.lists(st.one_of(tags(depth + 1), _TEXT), max_size=2))
    ending = draw(st.sampled_from((name, name, name, name + " ", "b")))
    return f"<{name}{attributes}>{''.join(inside)}</{ending}>"


@st.composite
def headers(draw: st.DrawFn) -> str:
    """A stream header, well-formed or nearly."""
    before = draw(
        st.sampled_from(
            (
                "",
                "",
                "<?xml version='1.0'?>",
                '<?xml version="1.0" ?>\n',
                " ",
                "<?xml version='1.1'?>",
                "<?xml version='1.0' encoding='utf-8'?>",
                "<?xml version='1.0'?>\x0b",
            )
        )
    )
    usual = (
        f" xmlns='{draw(st.sampled_from((ns.CLIENT, ns.COMPONENT)))}' xmlns:stream='{ns.STREAMS}'"
    )
    attributes = draw(st.sampled_from((usual, usual, ""))) + draw(_ATTRIBUTES)
    name = draw(st.sampled_from(("stream:stream", "stream:stream", "stream", "stream:x")))
    return f"{before}<{name}{attributes}>{draw(st.sampled_from(('', '', ' ', 'x')))}"


def seen(events: list[Event]) -> list[object]:
    """Events that can be compared."""
    return [
        (event.stanza.name, event.stanza.uri, serialize(event.stanza.element))
        if isinstance(event, StanzaRead)
        else (event.error.condition, event.error.text)
        if isinstance(event, StreamBroken)
        else event
        for event in events
    ]


class SameTests(SynchronousTestCase):
    """Both readers, side by side."""

    def compare(self, pieces: list[str]) -> None:
        """Feed both the same."""
        readers: list[Reader] = [PlainReader(limits.CLIENT), TreeReader(limits.CLIENT)]
        for piece in pieces:
            data = piece.encode()
            mine, its = (seen(reader.feed(data)) for reader in readers)
            self.assertEqual(its, mine, pieces)
            self.assertEqual(readers[1].at_boundary, readers[0].at_boundary, pieces)

    @settings(max_examples=1_500)
    @given(
        headers(), st.lists(st.lists(st.one_of(tags(), _TEXT), max_size=2).map("".join), max_size=3)
    )
    @example(HEADER, [AUTH, BIND])
    @example(COMPONENT, [f"<handshake xmlns='{ns.COMPONENT}'>x</handshake>", "<a><b/></a>"])
    @example(HEADER[:-1] + "".join(f" a{n}=''" for n in range(70)) + ">", [])
    @example(HEADER, ["<a><b></a></b>"])
    @example(HEADER, ["<a><b xmlns='urn:b'><c/></b><d/></a>"])
    @example(HEADER, ["<a/></stream:stream>"])
    @example(HEADER, ["<a", "/>", AUTH])
    @example(HEADER, ["<a></a>x"])
    @example(HEADER, ["<a b='1' b='2'/>"])
    @example(HEADER, ["<a><b/>", "</a>"])
    @example(HEADER, ["<a p:b='c'/>"])
    @example(HEADER, ["<a xml:space='c'/>"])
    @example(HEADER, ["<a xmlns='urn:a b'/>"])
    @example(HEADER, [f"<a xmlns='{ns.XML}'/>"])
    @example(HEADER.replace(ns.STREAMS, "urn:x"), [])
    @example(HEADER.replace("xml:lang", "xml:space"), [])
    def test_whole(self, head: str, pieces: list[str]) -> None:
        """What comes in whole pieces, plain or not."""
        self.compare([head, *pieces])

    @settings(max_examples=500)
    @given(headers(), tags(), tags(), st.integers(0, 400))
    def test_cut(self, head: str, one: str, other: str, place: int) -> None:
        """What comes cut at any place."""
        whole = head + one + other
        self.compare([whole[:place], whole[place:]])


class UseTests(SynchronousTestCase):
    """When a parser is made, and what comes with it."""

    def test_none_is_needed(self) -> None:
        """A usual negotiation needs none."""
        self.patch(plainreader, "TreeReader", lambda *_: self.fail("made"))
        for pieces in ((HEADER, AUTH, BIND), (COMPONENT, "<handshake>00</handshake>")):
            reader = PlainReader(limits.UNAUTHENTICATED)
            for piece in pieces:
                self.assertEqual(1, len(reader.feed(piece.encode())))
                self.assertTrue(reader.at_boundary)

    def test_what_comes_later(self) -> None:
        """From the first surprise on the parser reads, and knows the header."""
        reader = PlainReader(limits.UNAUTHENTICATED)
        reader.feed(COMPONENT.encode())
        (event,) = reader.feed("<a>\u00e4</a>".encode())
        assert isinstance(event, StanzaRead)
        self.assertEqual((ns.CLIENT, "\u00e4"), (event.stanza.uri, str(event.stanza.element)))
        self.assertEqual(
            (ns.COMPONENT, "stream:stream"), (reader.context.content, reader.context.root)
        )

    def test_limits(self) -> None:
        """What is too much for the stream is never plain; new limits hold for the parser too."""
        strict = limits.UNAUTHENTICATED
        self.assertLess(plainreader.MOST_BYTES, strict.stanza_bytes)
        self.assertLess(plainreader.MOST_ELEMENTS, strict.elements)
        self.assertLess(plainreader.MOST_DEPTH, strict.depth)
        reader = PlainReader(strict)
        reader.feed(HEADER.encode())
        reader.feed(b"<a>\r</a>")
        reader.limits = limits.CLIENT
        self.assertEqual(limits.CLIENT, reader.limits)
        (event,) = reader.feed(b"<a>" + b"x" * strict.stanza_bytes + b"</a>")
        self.assertIsInstance(event, StanzaRead)
