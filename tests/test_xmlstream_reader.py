"""Bytes to stanzas: what is accepted, what is refused, and what it may cost."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream import limits, ns
from cms.xmlstream.limits import Limits
from cms.xmlstream.reader import (
    LONG_TOKEN,
    MOST_IN_HEADER,
    MOST_PIECES,
    Event,
    StanzaRead,
    StreamBroken,
    StreamEnd,
    StreamStart,
    TreeReader,
)
from tests.support import header

SMALL = Limits(stanza_bytes=200, elements=5, depth=3)


def read(*pieces: bytes, given_limits: Limits = limits.CLIENT) -> list[Event]:
    """The events of a stream."""
    reader = TreeReader(given_limits)
    return [event for piece in pieces for event in reader.feed(piece)]


def shown(events: list[Event]) -> list[object]:
    """Events in a form that can be compared."""
    return [
        (e.stanza.raw if isinstance(e, StanzaRead) else None)
        or (e.error.condition if isinstance(e, StreamBroken) else type(e))
        for e in events
    ]


STREAM = (
    header(ns.CLIENT, " to='meet.example.com' version='1.0'")
    + b"<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq> \n"
    + "<message to='a@b'><body>h\u00e4 &amp; &lt;\U0001f600</body>".encode()
    + b"<x xmlns='u:r'><y/></x></message>"
    + b"<presence/></stream:stream>"
)


class AcceptedTests(SynchronousTestCase):
    """What a good stream becomes."""

    def test_events(self) -> None:
        """A header, each stanza and the end are events, in order."""
        start, *rest = read(STREAM)
        assert isinstance(start, StreamStart)
        self.assertEqual(
            (ns.STREAMS, "stream", ns.CLIENT), (start.uri, start.name, start.default_namespace)
        )
        self.assertEqual("meet.example.com", start.get("to"))
        self.assertEqual([StanzaRead, StanzaRead, StanzaRead, StreamEnd], [type(e) for e in rest])

    @given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12))
    def test_cutting_changes_nothing(self, places: list[int]) -> None:
        """However the transport cuts the bytes, the events are the same."""
        edges = [0, *sorted(places), len(STREAM)]
        pieces = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
        self.assertEqual(shown(read(STREAM)), shown(read(*pieces)))

    def test_text_is_whole(self) -> None:
        """Text is one string, in however many reads it came."""
        stream = header() + b"<a>one &amp; <b>two</b>thr&#101;e</a>"
        event = read(*(stream[i : i + 1] for i in range(len(stream))))[1]
        assert isinstance(event, StanzaRead)
        one, inner, three = event.stanza.element.children
        self.assertEqual(("one & ", ["two"], "three"), (one, inner.children, three))

    def test_component_namespace_is_canonical(self) -> None:
        """A component's stanza is held, and written, as a client's."""
        events = read(header(ns.COMPONENT), b"<message><body>x</body></message>")
        assert isinstance(events[1], StanzaRead)
        self.assertTrue(events[1].stanza.is_stanza)
        self.assertEqual(b"<message><body>x</body></message>", events[1].stanza.raw)

    def test_keepalives_are_free(self) -> None:
        """White space between stanzas does not count against the limit."""
        reader = TreeReader(SMALL)
        reader.feed(header())
        events = [e for _ in range(1000) for e in reader.feed(b" \n")]
        self.assertEqual([], events)
        self.assertIsInstance(reader.feed(b"<iq/>")[0], StanzaRead)

    def test_boundary(self) -> None:
        """Only white space may follow C{<starttls/>}, whole or in part."""
        for tail, clean in ((b"", True), (b"\r\n", True), (b"<", False), (b"<auth", False)):
            reader = TreeReader(limits.UNAUTHENTICATED)
            reader.feed(header(ns.CLIENT) + b"<starttls xmlns='urn:x'/>" + tail)
            self.assertEqual(clean, reader.at_boundary, tail)

    def test_boundary_within_a_stanza(self) -> None:
        """The end of a tag is no boundary while an element is open."""
        reader = TreeReader(limits.UNAUTHENTICATED)
        reader.feed(header(ns.CLIENT) + b"<starttls xmlns='urn:x'/><auth>")
        self.assertFalse(reader.at_boundary)


class RefusedTests(SynchronousTestCase):
    """RFC 6120 11: what must not be accepted."""

    def test_table(self) -> None:
        """Each kind of bad XML is refused with its condition."""
        for bad, condition in (
            (b"<!-- x -->", "restricted-xml"),
            (b"<?php x?>", "restricted-xml"),
            (b"<iq>&undefined;</iq>", "restricted-xml"),
            (b"<iq a='&undefined;'/>", "restricted-xml"),
            (b"<iq><p:x/></iq>", "not-well-formed"),
            (b"<iq p:x='1'/>", "not-well-formed"),
            (b"<iq></message>", "not-well-formed"),
            (b"<iq>\xff\xfe</iq>", "not-well-formed"),
            (b"<iq a='1' a='2'/>", "not-well-formed"),
            (b"hello", "bad-format"),
            (b"<iq>]]></iq>", "not-well-formed"),
        ):
            self.assertEqual(
                [StreamStart, b"<presence/>", condition],
                shown(read(header(), b"<presence/>" + bad + b"<presence/>")),
                bad,
            )

    def test_document_type(self) -> None:
        """A DTD is refused before anything in it is looked at."""
        bomb = b"<!DOCTYPE x [" + b"<!ENTITY a '" + b"a" * 50 + b"'>"
        self.assertEqual(["restricted-xml"], shown(read(bomb)))

    def test_encoding(self) -> None:
        """A stream is in UTF-8."""
        declared = b"<?xml version='1.0' encoding='iso-8859-1'?>"
        self.assertEqual(["unsupported-encoding"], shown(read(declared + header()[21:])))
        good = b"<?xml version='1.0' encoding='UTF-8'?>" + header()[21:]
        self.assertEqual([StreamStart], shown(read(good)))

    def test_nothing_after_an_error(self) -> None:
        """After an error nothing more is read."""
        reader = TreeReader(limits.CLIENT)
        reader.feed(header() + b"<!-- -->")
        self.assertEqual([], reader.feed(b"<iq/>"))

    def test_nothing_after_the_end(self) -> None:
        """After the closing tag nothing more is read, good or bad."""
        events = read(header(), b"</stream:stream><iq/>", b"<<<")
        self.assertEqual([StreamStart, StreamEnd], shown(events))

    @given(st.binary(max_size=300), st.booleans())
    def test_any_bytes(self, data: bytes, after_header: bool) -> None:
        """Whatever the bytes, the answer is events and never an exception."""
        events = read(header() if after_header else b"", data, given_limits=SMALL)
        broken = [e for e in events if isinstance(e, StreamBroken)]
        self.assertLessEqual(len(broken), 1)
        if broken:
            self.assertIs(broken[0], events[-1])


class EncodingTests(SynchronousTestCase):
    """RFC 6120 11.6."""

    def test_only_utf_8(self) -> None:
        """Whatever else it is, with a mark or without, in one piece or many."""
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
            data = header(ns.CLIENT).decode().encode(encoding)
            for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
                events = read(*pieces, given_limits=limits.UNAUTHENTICATED)
                self.assertEqual(["unsupported-encoding"], shown(events), encoding)


class LimitTests(SynchronousTestCase):
    """A peer costs a bounded amount."""

    def refused(self, *pieces: bytes) -> None:
        """The stream is refused for its size."""
        self.assertEqual(
            ["policy-violation"], shown(read(header(), *pieces, given_limits=SMALL))[-1:]
        )

    def test_long_stanza(self) -> None:
        """A stanza over the limit is refused, in one piece or in many."""
        self.refused(b"<iq>" + b"x" * 300)
        self.refused(*[b"<iq>", *[b"x" * 10] * 30])
        self.refused(b"<iq a='" + b"x" * 300 + b"'/>")

    def test_long_stanza_that_is_complete(self) -> None:
        """It is refused also where it ends in the same read."""
        self.refused(b"<iq>" + b"x" * 199 + b"</iq>" + b"<presence/>" * 40)

    def test_stanzas_within_the_limit(self) -> None:
        """Many stanzas in one read are fine, each within its limit."""
        events = read(header(), (b"<iq>" + b"x" * 150 + b"</iq>") * 50, given_limits=SMALL)
        self.assertEqual(51, len(events))
        self.assertNotIn(StreamBroken, [type(e) for e in events])

    def test_long_header(self) -> None:
        """A header over the limit is refused."""
        self.assertEqual(
            ["policy-violation"],
            shown(read(b"<stream:stream a='" + b"x" * 300, given_limits=SMALL)),
        )

    def test_elements(self) -> None:
        """Elements are counted for each stanza anew."""
        four = b"<iq><a/><a/><a/><a/></iq>"
        self.assertEqual(4, len(read(header(), four * 3, given_limits=SMALL)))
        self.refused(b"<iq><a/><a/><a/><a/><a/></iq>")

    def test_header_does_not_count(self) -> None:
        """A long header leaves the first stanza its whole limit."""
        events = read(header(), b"<iq>" + b"x" * 180 + b"</iq>", given_limits=SMALL)
        self.assertIsInstance(events[-1], StanzaRead)

    def test_depth(self) -> None:
        """Elements nest only so deep."""
        self.assertEqual(2, len(read(header(), b"<iq><a><b/></a></iq>", given_limits=SMALL)))
        self.refused(b"<iq><a><b><c/></b></a></iq>")

    def test_attributes(self) -> None:
        """Attributes and declarations are counted, for each stanza anew."""
        few = Limits(stanza_bytes=2_000, elements=5, depth=3, attributes=4)
        good = b"<iq a='' xmlns:p='u'><b c='' p:d=''/></iq>"
        bad = b"<iq a='' xmlns:p='u'><b c='' p:d='' xmlns='u'/></iq>"
        self.assertEqual(4, len(read(header(), good * 3, given_limits=few)))
        events = read(header(), bad, given_limits=few)
        self.assertEqual([StreamStart, "policy-violation"], shown(events))

    def test_attributes_of_the_header(self) -> None:
        """A header has few: its declarations are kept as long as the stream."""
        for each in (" a{}=''", " xmlns:a{}='u'"):
            many = "".join(map(each.format, range(MOST_IN_HEADER)))
            self.assertEqual(["policy-violation"], shown(read(header(ns.CLIENT, many))))
            few = "".join(map(each.format, range(MOST_IN_HEADER - 2)))
            self.assertEqual([StreamStart], shown(read(header(ns.CLIENT, few))))

    def test_long_tag_in_many_pieces(self) -> None:
        """A tag that comes in ever more pieces is refused before its cost grows with each."""
        opening = b"<message a='" + b"x" * LONG_TOKEN
        (event,) = read(header(ns.CLIENT), opening, *[b"x>"] * (MOST_PIECES + 1))[1:]
        self.assertEqual(["policy-violation"], shown([event]))
        whole = read(header(ns.CLIENT), opening, *[b"x>"] * (MOST_PIECES - 1), b"'/>" + opening)
        self.assertIsInstance(whole[1], StanzaRead)
