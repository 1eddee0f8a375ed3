"""
Three readers of the same streams: the fast way, the slow way and libxml2.

Streams are made by chance: woven from what is good and what was ever an attack, and
good ones with some bytes changed; each is cut at any places.  The readers must agree
on what is accepted, on where stanzas begin and end, on their addresses and on their
canonical form; and whatever we would send must be to libxml2 what it was to it before.

    python -m tests.differential SECONDS [SEED]

makes and judges as many as it can.  The unit tests do it with some hundred.
"""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from attrs import frozen

try:
    from lxml import etree
except ImportError as missing:
    raise ImportError("lxml is not installed: .ci/environment test") from missing
from twisted.words.protocols.jabber.error import StanzaError

from cms.xmlstream import limits, ns
from cms.xmlstream.reader import (
    Event,
    Reader,
    SlicesRead,
    StanzaRead,
    StreamBroken,
    StreamEnd,
    TreeReader,
)
from cms.xmlstream.replies import error_reply
from cms.xmlstream.splice import SpliceReader
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Slice, Stanza
from cms.xmpp.forward import Forwarder
from tests.support import element_of, header

HEADS = (
    header(ns.CLIENT),
    header(ns.CLIENT),
    header(ns.COMPONENT),
    header(ns.CLIENT, " xmlns:p='urn:p' xmlns:c='jabber:client' xml:lang='de'"),
    header(ns.COMPONENT, " xmlns:p='urn:p' xmlns:b='urn:b'"),
    f"<s:stream xmlns='{ns.CLIENT}' xmlns:s='{ns.STREAMS}'>".encode(),
    f"<stream xmlns='{ns.COMPONENT}' xmlns:stream='urn:other'>".encode(),
)
# Of each kind what is good, and what is mostly not.
NAMES = (
    ("message", "message", "message", "iq", "iq", "presence", "presence", "auth"),
    ("messages", "message-x", "c:message", "stream:error", "q:iq", "xml:message", "u:iq"),
)
INNER = (
    ("a", "b", "body", "message", "iq", "a-b", "\u00e4", "q:a", "q:b", "stream:a", "xml:a"),
    ("p:a", "c:a", "u:a", "q:a:b", ":a", "a:", "xmlns:a", "1a", "xml:b", "stream:b"),
)
ATTRIBUTES = (
    ("to", "from", "id", "type", "a", "b", "xml:lang", "xml:space", "q:a", "q:to", "stream:a"),
    ("r:a", "p:a", "u:a", "xml:from", "c:to", "a:b:c", ":a", "xmlns", "to", "from", "xml:id"),
)
DECLARATIONS = (
    (
        *(" xmlns='urn:x'", ' xmlns="urn:y"', " xmlns:q='urn:q'", " xmlns:r='urn:q'", " xmlns=''"),
        *(" xmlns='jabber:client'", " xmlns:q='urn:p'", " xmlns:n2='urn:n'", " xmlns='u&amp;v'"),
        *(' xmlns="u\'v"', " xmlns='urn:&#113;'", " xmlns='http://[::1]:80/?a=b#c'"),
    ),
    (
        *(" xmlns:q=''", " xmlns:stream='urn:s'", f" xmlns:s='{ns.STREAMS}'", " xmlns:p='urn:o'"),
        *(" xmlns:xml='urn:x'", f" xmlns:xml='{ns.XML}'", f" xmlns:q='{ns.XML}'"),
        *(f" xmlns='{ns.XML}'", " xmlns='jabber:component:accept'", " xmlns:q='jabber:client'"),
        *(" xmlns:xmlns='urn:x'", " xmlns:q='http://www.w3.org/2000/xmlns/'", " xmlns='u&#39;v'"),
        *(" xmlns='urn:a b'", " xmlns='urn:\u00e4'", " xmlns='a|b'", " xmlns='a:b#c#d'"),
        *(" xmlns='//a@b@c'", " xmlns='%'", " xmlns=':'", " xmlns='" + "n" * 257 + "'"),
        *(" xmlns='urn:&lt;'", " xmlns:q='&#10;urn:q'", " xmlns:xmlq='urn:q'", " xmlns='1:2'"),
    ),
)
VALUES = (
    (
        *("a@b", "c@d/e", "1", "get", "set", "result", "chat", "", "x y", "a&amp;b", "&#10;"),
        *("&#xD;", "&#9;", "\n", "\r\n", "\t", "&lt;", ">", "&gt;", "]]>", "&quot;&apos;"),
        *("\u00e4\U0001f600", "\ufeff", "\ufffd", "\u2028", "&#x10FFFF;", "&#38;#60;", " to='x'"),
    ),
    (
        *("\ufffe", "&#xFFFE;", "&#xD800;", "&#0;", "&#x1F;", "\x7f\x85", "&u;", "<", "&", "\0"),
        *("</message>", "&#x110000;", "\ud800"),
    ),
)
# Of what addresses are made of, in all the ways that they are written.
ADDRESSES = (
    (
        *("a", "b@c", "/", "x y", "&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "'", '"', ">"),
        *("&#64;", "&#x40;", "&#0000000000064;", "&#x00000040;", "&#9;", "&#xA;", "&#13;", "\t"),
        *("\r\n", "\n", "&#38;amp;", "&amp;amp;", "&#38;#60;", "&amp;#60;", "&#xe4;", "\u00e4"),
        *("&#x1F600;", "&#128512;", "&#x10FFFF;", "&#xFFFD;", "&#x85;", "&#65;" * 65),
    ),
    (
        *("&#xFFFE;", "&#xD800;", "&#55296;", "&#0;", "&#x1F;", "&#x110000;", "&#99999999;", "&u;"),
        *("&#xFFFFFFFFFF;", "&amp", "&#;", "&#x;", "&#X41;", "&#4 1;", "&AMP;", "<", "&", "\x01"),
    ),
)
TEXTS = (
    (
        *("x", "x", "]", "]]", ">", "&gt;", "]]&gt;", "&#93;", "&#93;&#93;", "&#62;", "\r", "\n"),
        *("\r\n", "&#13;", "&#10;", "\t", " ", "&amp;", "&lt;", "&quot;", "'", '"', "&#38;"),
        *("\u00e4", "\U0001f600", "\ufeff", "\u0085", "\u2028", "\ufffd"),
    ),
    (
        *("]]>", "]]]]>>", "&#xFFFF;", "\uffff", "&#1;", "\x01", "\0", "&u;", "&", "<", "\udc00"),
        *("<![CDATA[x]]>", "<![CDATA[]]]]>", "<![CDATA[</iq>]]>", "<!-- x -->", "<?a b?>"),
        *("</a>", "</message>", "</iq >", "<!DOCTYPE a>", "&#xDC00;", "&#55296;"),
        *("<?xml version='1.0'?>", "<![CDATA[<message>]]>"),
    ),
)
BETWEEN = (
    (
        *("", "", "", "", "", " ", "\n", "\r\n\t", "&#32;", "<r xmlns='urn:xmpp:sm:3'/>"),
        *("<a h='7' xmlns='urn:xmpp:sm:3'/>", '<a xmlns="urn:xmpp:sm:3" h="4294967295" />'),
    ),
    ("x", "]]>", "<!-- -->", "<?a?>", "</iq>", "<r xmlns='urn:xmpp:sm:3'>"),
)
GOOD = b"".join(
    (
        b"<message to='a@b' from='c@d/e' id='1' type='chat'><body>x &amp; ]]&gt;</body></message>",
        b' \n<iq to="a@b" from="c@d" type="get" id="2"><query xmlns="jabber:iq:version"/></iq>',
        b"<message  to='a@b'><body>&#93;&#93;&gt;</body><xml:a/></message>",
        b"<message a='>'><x xmlns='u:r'><q:y q:a='1' xmlns:q='u:q'/></x>&#10;</message >",
        "<iq type='result' id='&#10;\u00e4'/><presence><m><iq/></m><stream:x/></presence>".encode(),
    )
)
BYTES = [bytes([c]) for c in b"<>/='\" &;:!?]\n\r\0txq#9\xff\xc3\xed"]

LANGUAGE = f"{{{ns.XML}}}lang"
# Faults of the input that libxml2 tells, but which are none of its XML.
_HARMLESS = frozenset({"DTD_XMLID_VALUE", "DTD_DUP_TOKEN"})
# What it refuses and expat does not: it may be read, and must not be sent.
_FLAWS = frozenset({"WAR_NS_URI", "ERR_RESOURCE_LIMIT"})
# What libxml2 takes though it is no XML.
_XML_TWICE = re.compile(rb"<[^<>]*\sxmlns:xml=[^<>]*\sxmlns:xml=")
# What we refuse though it is XML (RFC 6120 11).
_STRICT = frozenset({"restricted-xml", "policy-violation", "bad-format", "unsupported-encoding"})


class Maker:
    """Makes streams by chance."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def _one(self, of: tuple[Sequence[str], Sequence[str]], hostile: float) -> str:
        good, bad = of
        return self.random.choice(bad if self.random.random() < hostile else good)

    def attributes(self, name: str, hostile: float) -> str:
        """A few, with declarations of namespaces, for an element of this name."""
        random, made = self.random, ""
        names: set[str] = set()
        for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
            if random.random() < 0.3:
                declaration = self._one(DECLARATIONS, hostile)
                if hostile or declaration[:8] not in made:
                    made += declaration
                continue
            attribute = self._one(ATTRIBUTES, hostile)
            if attribute in names and random.random() > hostile:
                continue
            names.add(attribute)
            quote = random.choice("''\"")
            address = attribute in ("to", "from", "type") and random.random() < 0.7
            kinds = ADDRESSES if address else VALUES
            value = "".join(self._one(kinds, hostile) for _ in range(random.choice((1, 1, 2, 3))))
            if random.random() >= hostile / 10:
                value = value.replace(quote, "")
            space = random.choice((" ", " ", " ", " ", "  ", "\n"))
            made += f"{space}{attribute}={quote}{value}{quote}"
        for prefix in ("q", "r"):
            used = any(n.startswith(f"{prefix}:") for n in (name, *names))
            if used and f"xmlns:{prefix}=" not in made and random.random() > hostile:
                made += f" xmlns:{prefix}='urn:{prefix}'"
        return made

    def element(
        self, names: tuple[Sequence[str], Sequence[str]], hostile: float, depth: int = 0
    ) -> str:
        """An element, well-formed or nearly."""
        random = self.random
        name = self._one(names, hostile)
        opening = f"<{name}{self.attributes(name, hostile)}{random.choice(('', '', '', ' '))}"
        if random.random() < 0.2:
            return f"{opening}/>"
        inside = ""
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            if depth < 3 and random.random() < 0.5:
                inside += self.element(INNER, hostile, depth + 1)
            else:
                inside += self._one(TEXTS, hostile)
        if random.random() < 0.002:
            levels = random.choice((251, 252, 253, 254, 255, 318, 319, 320))
            inside += "<a>" * levels + "</a>" * levels
        ending = random.choice(("",) * 12 + (" ", "\n"))
        if random.random() < hostile / 10:
            ending = "x"
        return f"{opening}>{inside}</{name}{ending}>"

    def woven(self) -> bytes:
        """Stanzas of all kinds."""
        hostile = self.random.choice((0, 0, 0.02, 0.1, 0.4))
        parts = (
            self.element(NAMES, hostile) + self._one(BETWEEN, hostile)
            for _ in range(self.random.randint(1, 3))
        )
        return "".join(parts).encode("utf-8", "surrogatepass")

    def mutated(self) -> bytes:
        """A good stream after a few accidents."""
        random, body = self.random, GOOD
        for _ in range(random.randint(1, 3)):
            place, length = random.randrange(len(body)), random.randint(0, 9)
            new = random.choice((random.choice(BYTES), b"", body[place : place + length] * 2))
            body = body[:place] + new + body[place + length :]
        return body

    def stream(self) -> Given:
        """A stream with its cuts."""
        random = self.random
        head = random.choice(HEADS)
        body = self.woven() if random.random() < 0.75 else self.mutated()
        cuts: Sequence[int] = ()
        if random.random() < 0.75:
            cuts = sorted(random.randrange(len(body)) for _ in range(random.randint(1, 4)))
        elif random.random() < 0.2:
            cuts = range(1, len(body), random.randint(1, 9))
        return Given(head, body, tuple(cuts))


@frozen
class Given:
    """A stream: its header, all that follows but its end, and where that is cut."""

    head: bytes
    body: bytes
    cuts: tuple[int, ...] = ()

    @property
    def content(self) -> str:
        """The content namespace."""
        return ns.COMPONENT if ns.COMPONENT.encode() in self.head else ns.CLIENT

    @property
    def end(self) -> bytes:
        """The end tag of the stream."""
        return b"</" + self.head[self.head.rindex(b"<") + 1 :].split(b" ")[0] + b">"

    @property
    def pieces(self) -> list[bytes]:
        """What comes in one read each."""
        body = self.body + self.end
        return [body[a:b] for a, b in itertools.pairwise((0, *self.cuts, len(body))) if a < b]


@frozen
class Ours:
    """What one of our readers made of a stream; C{end} is C{closed} or an error."""

    stanzas: list[Stanza]
    slices: list[Slice]
    end: str

    @classmethod
    def read(cls, reader: Reader, pieces: Iterable[bytes]) -> Ours:
        """Read it."""
        events: list[Event] = [event for piece in pieces for event in reader.feed(piece)]
        stanzas: list[Stanza] = []
        slices: list[Slice] = []
        end = ""
        for event in events:
            if isinstance(event, SlicesRead):
                slices += event.slices
                stanzas += map(SplicedStanza, event.slices)
            elif isinstance(event, StanzaRead):
                stanzas.append(event.stanza)
            elif isinstance(event, StreamBroken):
                end = event.error.condition
            elif isinstance(event, StreamEnd):
                end = "closed"
            elif (made := element_of(event)) is not None:
                stanzas.append(made)
        return cls(stanzas, slices, end)


def _open(head: bytes) -> TreeReader:
    reader = TreeReader(limits.CLIENT)
    reader.feed(head + b" ")
    return reader


def _parser() -> Any:
    return etree.XMLParser(resolve_entities=False, no_network=True, collect_ids=False)


def _complaints(log: Any) -> set[str]:
    """What libxml2 found wrong, without what is none of the XML's."""
    return {e.type_name for e in log if e.level > 1} - _HARMLESS


def independent(xml: bytes) -> tuple[list[Any], set[str]]:
    """
    The children of a document's root as libxml2 reads it, those before a fault where
    there is one, and what the faults are.
    """
    parser = _parser()
    try:
        return list(etree.fromstring(xml, parser)), _complaints(parser.error_log)
    except etree.XMLSyntaxError:
        wrong = _complaints(parser.error_log)
    if not wrong:
        return list(etree.fromstring(xml, etree.XMLParser(recover=True))), wrong
    return [], wrong


def canonical(element: Any, content: str) -> object:
    """
    An element as a value: names expanded, attributes sorted, and the namespace of
    the stream for the one in which stanzas are held.
    """
    tag = element.tag
    if not isinstance(tag, str):
        return "no element"
    if tag.startswith(f"{{{content}}}"):
        tag = f"{{{ns.CLIENT}}}{tag[len(content) + 2 :]}"
    children = [(canonical(child, content), child.tail or "") for child in element]
    return tag, sorted(element.attrib.items()), element.text or "", children


def address(stanza: Stanza) -> tuple[object, ...]:
    """What is routed by, before anybody asked for the tree."""
    return stanza.name, stanza.type, stanza.id, stanza.to, stanza.sender


def judge(given: Given, sender: str = "") -> str | None:
    """
    What the readers do not agree about.

    @param sender: What is stamped on the stanzas; none if empty.
    """
    head = given.head
    fast = Ours.read(SpliceReader(_open(head)), given.pieces)
    slow = Ours.read(_open(head), given.pieces)
    whole = Ours.read(_open(head), [given.body + given.end]) if given.cuts else slow
    if fast.end not in (slow.end, whole.end):
        return f"the end: fast {fast.end}, slow {slow.end}, whole {whole.end}"
    if not len(fast.stanzas) == len(slow.stanzas) == len(whole.stanzas):
        return "the number of stanzas"
    if list(map(address, fast.stanzas)) != list(map(address, slow.stanzas)):
        return "addresses"
    if [s.flaw for s in fast.stanzas] != [s.flaw for s in slow.stanzas]:
        return "flaws"
    if wrong := [piece for piece in fast.slices if not _says(piece)]:
        return f"addresses of slices: {wrong}"
    if sender and (difference := _forwarded(fast.slices, sender)):
        return difference
    theirs, objections = independent(head + given.body + given.end)
    if slow.end == "closed" and objections - _FLAWS:
        return f"accepted, though {objections}"
    if not objections and slow.end != "closed" and slow.end not in _STRICT:
        if _XML_TWICE.search(given.body):
            return None  # which XML 1.0 3.1 forbids, as it does every attribute twice
        return f"refused with {slow.end}, though libxml2 takes it"
    if slow.end == "closed" and not objections:
        if len(theirs) != len(slow.stanzas):
            return "the number of stanzas to libxml2"
        if [address(s)[1:] for s in fast.stanzas] != [
            tuple(map(child.get, ("type", "id", "to", "from"))) for child in theirs
        ]:
            return "addresses to libxml2"
    taken = theirs if slow.end == "closed" and not objections else None
    return _sent(given, taken, fast, slow, sender)


def _sent(
    given: Given, theirs: list[Any] | None, fast: Ours, slow: Ours, sender: str
) -> str | None:
    """What is wrong with what would be sent."""
    sound = [not stanza.flaw for stanza in fast.stanzas]
    both: list[list[object]] = []
    for ours in (fast, slow):
        stanzas = [stanza for stanza in ours.stanzas if not stanza.flaw]
        replies: list[Stanza | None] = []
        if sender:
            replies = [error_reply(stanza, StanzaError("bad-request")) for stanza in ours.stanzas]
            for stanza in stanzas:
                stanza.stamp(sender)
        sent = b"".join(stanza.raw for stanza in stanzas)
        sent += b"".join(reply.raw for reply in replies if reply is not None)
        for content in (ns.COMPONENT, ns.CLIENT)[ours is slow :]:
            received, wrong = independent(header(content) + sent + b"</stream:stream>")
            if wrong:
                return f"sent, though {wrong}: {sent!r}"
            if content == ns.CLIENT:
                both.append([canonical(child, content) for child in received])
    if both[0] != both[1]:
        return f"fast and slow send another thing: {both}"
    if theirs is not None:
        true = []
        for child in itertools.compress(theirs, sound):
            if sender:
                child.set("from", sender)
            true.append(canonical(child, given.content))
        if both[0][: len(true)] != true:
            return f"what is sent is another thing: {both[0]} for {true}"
    return None


class Everybody:
    """A router, and whoever is reached through it, in place of the server's own."""

    is_slow, is_open = False, True

    def __init__(self) -> None:
        self.raws: list[bytes] = []

    def find(self, to: bytes) -> Any:
        """Everything goes the fast way that can."""
        return self

    def deliver(self, raws: list[bytes], source: object) -> list[bytes]:
        """It came, and there was room."""
        self.raws += raws
        return []


def _forwarded(slices: list[Slice], sender: str) -> str | None:
    """What is wrong with what the fast way through the router makes of slices."""
    all_: Any = Everybody()
    general: list[Stanza] = []
    forwarder = Forwarder(
        all_, all_, sender, owns=lambda _: True, general=general.append, language="de"
    )
    forwarder.forward(slices)
    for stanza in general:
        stanza.stamp(sender)
    sent, wrong = independent(
        header(ns.CLIENT) + b"".join(all_.raws + [s.raw for s in general]) + b"</stream:stream>"
    )
    if wrong:
        return f"forwarded, though {wrong}: {all_.raws} {general}"
    expected = []
    for piece in slices:
        ((child,), _) = independent(header(ns.CLIENT) + piece[3] + b"</stream:stream>")
        child.set(LANGUAGE, child.get(LANGUAGE, "de"))
        # A component may speak for others, so what says who speaks is left as it is.
        child.set("from", child.get("from", sender) if _goes_fast(piece) else sender)
        expected.append(canonical(child, ns.CLIENT))
    found = [canonical(child, ns.CLIENT) for child in sent]
    return (
        None
        if sorted(map(repr, found)) == sorted(map(repr, expected))
        else (f"what is forwarded is another thing: {found} for {expected}")
    )


def _says(piece: Slice) -> bool:
    """Whether a slice is routed by what it says, and stamped only where it says nothing."""
    name, to, sender, _ = piece
    stanza = SplicedStanza(piece)
    routed = {"message": True, "iq": stanza.is_request or stanza.is_answer}
    return (
        name.decode() == stanza.name
        and (None if sender is None else sender.decode()) == stanza.sender
        and (to is None or to.decode() == stanza.to)
        and (to is None or routed.get(stanza.name, stanza.type is None))
    )


def _goes_fast(piece: Slice) -> bool:
    return piece[1] is not None


SENDERS = ("", "", "", "a@b/c", "a@b/r>", "a@b/'&\"<>]]>\u00e4")


def examine(random: Random) -> tuple[Given, str, str | None]:
    """Make a stream and judge it."""
    given, sender = Maker(random).stream(), random.choice(SENDERS)
    return given, sender, judge(given, sender)


def main(seconds: float, seed: int) -> int:
    """Judge as many as there is time for; how many differed."""
    until, count, found = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until and found < 20:
        given, sender, difference = examine(Random(f"{seed} {count}"))
        count += 1
        if difference is not None:
            found += 1
            print(f"{seed} {count - 1}: {difference}\n    {given} {sender!r}", flush=True)
    print(f"seed {seed}: {count} streams, {found} differences", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0) > 0)
