"""Elements to bytes: nothing of a peer's becomes markup."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.xish.domish import Element

from cms.xmlstream import limits, ns
from cms.xmlstream.reader import StanzaRead, TreeReader
from cms.xmlstream.serialize import serialize
from tests.support import header, one_stanza

TEXT = st.text(
    st.characters(
        exclude_categories=["Cs"],
        exclude_characters="".join(map(chr, [*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF])),
    )
)
NAME = st.sampled_from(["a", "body", "x"])
URI = st.sampled_from(["jabber:client", "urn:x", "u'r<i>&\"", "http://a/b?c&d"])


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> Element:
    """Trees with hostile names for namespaces, attributes and text."""
    element = Element((draw(URI), draw(NAME)))
    for key in draw(st.lists(st.sampled_from(["k", "l", ("u'>x", "k"), (ns.XML, "lang")]))):
        element.attributes[key] = draw(TEXT)
    for _ in range(draw(st.integers(0, 2)) if depth else 0):
        if draw(st.booleans()):
            element.addChild(draw(elements(depth=depth - 1)))
        else:
            element.addContent(draw(TEXT))
    return element


def tree(element: Element) -> object:
    """An element as a value: adjacent text joined, empty text dropped."""
    children: list[object] = []
    for child in element.children:
        if isinstance(child, Element):
            children.append(tree(child))
        elif children and isinstance(children[-1], str):
            children[-1] += child
        elif child:
            children.append(str(child))
    return (element.uri, element.name, dict(element.attributes), children)


class SerializeTests(SynchronousTestCase):
    """L{serialize}."""

    @given(elements())
    def test_round_trip(self, element: Element) -> None:
        """What is written reads back as the same tree, whatever is in it."""
        element.uri = ns.CLIENT
        reader = TreeReader(limits.COMPONENT)
        reader.feed(header(ns.CLIENT))
        events = reader.feed(serialize(element))
        assert len(events) == 1, events
        assert isinstance(events[0], StanzaRead), events
        read = tree(events[0].stanza.element)
        self.assertEqual(tree(element), read)

    def test_namespace_cannot_smuggle(self) -> None:
        """A namespace URI with quotes and brackets stays one attribute value."""
        stanza = one_stanza('<message><x xmlns="a\'/>&lt;message/>&lt;x/>"/></message>')
        self.assertEqual(1, stanza.raw.count(b"<message"))
        self.assertEqual(stanza.raw, one_stanza(stanza.raw.decode()).raw)

    def test_text_in_pieces(self) -> None:
        """What a receiver sees as one text is escaped as one."""
        for pieces in (("]]", ">"), ("]", "]", ">"), ("]]", "", ">"), ("a]", "]>b")):
            element = Element((ns.CLIENT, "message"))
            element.children += pieces
            expected = "".join(pieces).replace(">", "&gt;")
            self.assertEqual(f"<message>{expected}</message>", serialize(element).decode())

    def test_namespace_of_xml(self) -> None:
        """It has its prefix everywhere, which no declaration may change."""
        element = Element((ns.CLIENT, "message"))
        element.addChild(Element((ns.XML, "a"), attribs={(ns.XML, "b"): "c"}))
        self.assertEqual("<message><xml:a xml:b='c'/></message>", serialize(element).decode())

    def test_control_characters(self) -> None:
        """What XML cannot carry is replaced, not written."""
        element = Element((ns.CLIENT, "message"))
        element.addContent("a\x00\x08\ud800b")
        element["k"] = "\x1f"
        self.assertEqual(
            "<message k='\ufffd'>a\ufffd\ufffd\ufffdb</message>", serialize(element).decode()
        )

    def test_stream_elements_keep_their_prefix(self) -> None:
        """Features and errors are written as C{stream:}."""
        element = Element((ns.STREAMS, "features"))
        element.addElement((ns.BIND, "bind"))
        self.assertEqual(
            f"<stream:features><bind xmlns='{ns.BIND}'/></stream:features>",
            serialize(element).decode(),
        )
