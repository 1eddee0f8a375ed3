"""What leaves is what libxml2 reads, and means what came in."""

from __future__ import annotations

from random import Random
from typing import Any

from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from cms.linkprotocol import login as lp
from cms.xmlstream import limits, ns, serialize
from cms.xmlstream.portable import MOST_DEPTH, MOST_NAME, is_namespace
from cms.xmlstream.reader import TreeReader
from cms.xmlstream.splice import SpliceReader
from tests.differential import HEADS, Given, Ours, examine, judge
from tests.support import header
from tests.xmppserver import DOMAIN, Peer, Server

STREAMS = 1_500
ERRORS = {"e": ns.STREAM_ERRORS}
COMPONENTS = header(ns.COMPONENT)


class DifferentialTests(SynchronousTestCase):
    """L{tests.differential}, bounded."""

    def test_by_chance(self) -> None:
        """The readers agree about streams made by chance."""
        for number in range(STREAMS):
            given, sender, difference = examine(Random(f"unit {number}"))
            self.assertIsNone(difference, (given, sender))

    def test_found_once(self) -> None:
        """They agree about what was ever taken for one thing and sent as another."""
        deep = "<a>" * MOST_DEPTH + "</a>" * MOST_DEPTH
        for body, *cuts in (
            (b"<message  to='a@b'><body>&#93;&#93;&gt;</body></message>", 37),
            (b"<message  to='a@b'><body>]&#93;&gt;</body></message>", 26),
            (b"<message><![CDATA[]]]]>&gt;</message>",),
            (b"<message><xml:a xml:b='c'/></message>",),
            (b"<message  a='&#10;&#9;&#13;'>\r\n&#13;</message>", 18),
            ("<message><a xmlns='urn:\u00e4'/></message>".encode(),),
            (b"<message><a xmlns='a|b'/></message>", 9, 20),
            (b"<message><q:a xmlns:q='a|b'/><b xmlns:q='a|b'/></message>",),
            (f"<message xmlns:xml='{ns.XML}' xmlns:xml='{ns.XML}'/>".encode(), 15, 29),
            (f"<message>{deep}</message>".encode(),),
            (f"<message>{deep[3:-4]}</message>".encode(),),
        ):
            for head in HEADS:
                self.assertIsNone(judge(Given(head, body, tuple(cuts))), (head, body))
                self.assertIsNone(judge(Given(head, body, tuple(cuts)), "a@b/]]>"), (head, body))

    def test_the_judge_sees(self) -> None:
        """What is wrong is found."""
        pieces = Given(HEADS[0], b"<message  to='a@b'><body>&#93;&#93;&gt;</body></message>", (37,))
        self.patch(TreeReader, "_end_text", _as_it_came)
        self.patch(serialize, "_write_text", _piecemeal)
        self.assertIn("ERR_MISPLACED_CDATA_END", judge(pieces) or "")
        self.patch(TreeReader, "_look_for_flaw", lambda *_: None)
        bad = Given(HEADS[0], b"<message  to='a@b'><a xmlns='a|b'/></message>")
        self.assertIn("WAR_NS_URI", judge(bad) or "")


def _as_it_came(reader: TreeReader) -> None:
    reader._open[-1].children += reader._text
    reader._text.clear()


class NegotiationTests(SynchronousTestCase):
    """What the server says of its own: headers, features, failures, answers and errors."""

    WORDS = "x'\"&amp;&lt;>]]&gt;&#10;\u00e4"
    MEANT = "x'\"&<>]]>\n\u00e4"

    def heard(self, peer: Peer) -> Any:
        """All that the server has written, which must be a document, whole or to be."""
        xml = "".join(self.said) + peer.heard()
        end = "" if xml.endswith("</stream:stream>") else "</stream:stream>"
        return etree.fromstring((xml + end).encode())

    def setUp(self) -> None:
        """A client that has written a header, and a Callbridge."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.client = self.server.client()
        words = self.WORDS.replace("'", "&apos;")
        self.said = [self.client.open(**{"from": words})]

    def test_header(self) -> None:
        """Who it is from is said again as it was."""
        root = self.heard(self.client)
        self.assertEqual((self.MEANT, DOMAIN), (root.get("to"), root.get("from")))

    def test_failure(self) -> None:
        """The words of a Callbridge come through."""
        self.client.authenticate()
        (stanza,) = self.callbridge.received()
        start = lp.parse(stanza.child)
        assert isinstance(start, lp.Start)
        self.callbridge.answer(stanza, lp.Failed(start.exchange, "not-authorized", self.MEANT))
        root = self.heard(self.client)
        self.assertEqual(self.MEANT, root.findtext(f"{{{ns.SASL}}}failure/{{{ns.SASL}}}text"))

    def test_stream_error(self) -> None:
        """So does an error that ends the stream, whatever caused it."""
        for bad in ("<a>]]></a>", "<!-- -->", "\0", f"<a xmlns='{self.WORDS[:1]}|'/>", "</x>"):
            self.setUp()
            self.client.say(bad)
            error = self.heard(self.client)[-1]
            self.assertEqual(f"{{{ns.STREAMS}}}error", error.tag)
            self.assertEqual(1, len(error.xpath("*[not(self::e:text)]", namespaces=ERRORS)))

    def test_answers(self) -> None:
        """An identifier, a resource and an address come back as they were."""
        self.client = self.server.bound(self.callbridge, resource="r'&quot;&amp;&lt;>]]&gt;")
        words = self.WORDS.replace("'", "&apos;")
        for said in (
            f"<iq type='get' id='{words}'><ping xmlns='urn:xmpp:ping'/></iq>",
            f"<iq  type='get' id='{words}'><a xmlns='urn:x'/></iq>",
            f"<message to='{words}' id='{words}'/>",
            f"<iq type='get' id='{words}' to='nobody.example'><a xmlns='urn:x'/></iq>",
        ):
            self.said = [header(ns.CLIENT).decode()]
            self.client.say(said)
            (answer,) = self.heard(self.client)
            self.assertEqual(self.MEANT, answer.get("id"))
            self.assertEqual(f"alice@{DOMAIN}/r'\"&<>]]>", answer.get("to"))


def _piecemeal(parts: list[str], text: list[str]) -> None:
    parts += map(serialize.escape_text, text)
    text.clear()


class ReadableTests(SynchronousTestCase):
    """What expat reads and others do not."""

    def test_namespaces(self) -> None:
        """A namespace is what libxml2 takes for a URI reference."""
        for uri in (
            *("", "jabber:client", "vcard-temp", "storage:bookmarks", "urn:xmpp:jingle:apps:rtp:1"),
            *("http://jabber.org/protocol/disco#info", "http://[::1]:80/a?b=c/?#d/?", "u'r", "a@b"),
            *("%41", "a:", "//", "?", "#", "x-y.z+1:q", "a//b", "a/b:c", "//u@h", "//:80", "."),
        ):
            self.assertTrue(self.is_good(uri), uri)
            self.assertTrue(is_namespace(uri), uri)
        for uri in (
            *(
                "a b",
                "urn:\u00e4",
                "a|b",
                "a{b}",
                "a<b",
                'a"b',
                "a\\b",
                "a^b",
                "a`b",
                "\x7f",
                "a\nb",
            ),
            *("a#b#c", ":a", "1:a", "a@b:c", "%4", "%zz", "[", "a[b]", "//[", "//a@b@c", "//h:x/"),
            *("urn:\u0661", "\U0001f600", "urn:a\n"),
        ):
            self.assertFalse(self.is_good(uri), uri)
            self.assertFalse(is_namespace(uri), uri)

    def is_good(self, uri: str) -> bool:
        """Whether libxml2 takes it."""
        quoted = serialize.quote_attribute(uri)
        try:
            etree.fromstring(f"<a xmlns={quoted}/>".encode())
        except etree.XMLSyntaxError:
            return False
        return True

    def test_flaws(self) -> None:
        """They are told of the stanza that has them, whichever way it is read."""
        deep, name = "<a>" * (MOST_DEPTH - 1), "n" * MOST_NAME
        nest = deep + "</a>" * (MOST_DEPTH - 1)
        for inside, flaw in (
            (nest, None),
            (f"<b>{nest}</b>", "elements nest too deep"),
            (f"<b>{nest}</b>" + "x" * 500, "elements nest too deep"),
            ("<b/>" * 600, None),
            ("<b></b>" * 600, None),
            (f"<{name}/>", None),
            (f"<{name}n/>", "a name is too long"),
            (f"<a {name}n='1'/>", "a name is too long"),
            ("<a xmlns='a|b'/>", "a namespace is no URI"),
            ("<a q:b='c' xmlns:q='a|b'/>", "a namespace is no URI"),
            ("<a xmlns:q='a|b'/>", None),  # it is left out where it is not used
        ):
            body = f"<message to='a@b'>{inside}</message><presence/></stream:stream>".encode()
            for reader in (TreeReader(limits.CLIENT), SpliceReader(_opened())):
                head = b"" if isinstance(reader, SpliceReader) else COMPONENTS
                ours = Ours.read(reader, [head, body])
                self.assertEqual("closed", ours.end)
                self.assertEqual([flaw, None], [stanza.flaw for stanza in ours.stanzas], inside)


def _opened() -> TreeReader:
    reader = TreeReader(limits.CLIENT)
    reader.feed(COMPONENTS + b" ")
    return reader
