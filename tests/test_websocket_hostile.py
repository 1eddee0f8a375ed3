"""What a client of a WebSocket may not do, and what that costs (RFC 6455, RFC 7395)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from twisted.trial.unittest import SynchronousTestCase
from websockets.frames import Frame, Opcode

from cms.websocket.incoming import FRAMING, MOST_FRAGMENTS, PIECE, FrameReader, Frames
from cms.websocket.outgoing import declared
from cms.websocket.stream import A_TURN
from cms.xmlstream import limits, ns
from cms.xmlstream.reader import StreamBroken
from cms.xmlstream.stream import CLOSE_TIMEOUT
from tests.differential import INNER, Maker, canonical
from tests.websocketpeer import WebServer, WebSocketPeer, masked
from tests.xmppserver import DOMAIN, Peer, Server

OPEN = f"<open xmlns='{FRAMING}' to='{DOMAIN}' version='1.0'/>".encode()
CLOSE = f"<close xmlns='{FRAMING}'/>"
MESSAGE = f"<message xmlns='{ns.CLIENT}' to='alice@{DOMAIN}/r' id='m'><body>x</body></message>"


def unmasked(data: bytes) -> bytes:
    """A frame as a server sends it."""
    return Frame(Opcode.TEXT, data).serialize(mask=False)


class HostileTestCase(SynchronousTestCase):
    """Alice is logged in; Mallory has connected."""

    def setUp(self) -> None:
        """Connect both."""
        self.server = WebServer()
        self.callbridge = self.server.callbridge()
        self.alice = self.server.bound(self.callbridge)
        self.mallory = self.server.client()

    def ends(self, sent: bytes, peer: WebSocketPeer | None = None) -> tuple[int | None, str]:
        """With what code and what stream error the connection ends, on which nothing follows."""
        peer = peer or self.mallory
        peer.give(sent)
        frames = peer.frames()
        self.assertEqual(CLOSE, frames[-1], frames)
        (error,) = (frame for frame in frames if frame.startswith("<stream:error"))
        found = etree.fromstring(error)[0].tag
        peer.give(masked(MESSAGE.encode()))
        if not peer.transport.lost:
            peer.close()
        self.assertTrue(peer.transport.lost)
        self.assertEqual([], peer.frames())
        self.alice.say(MESSAGE)
        self.assertIn("<body>x", self.alice.heard())
        return peer.closed, found.rpartition("}")[2]


class FrameTests(HostileTestCase):
    """What breaks RFC 6455."""

    def test_unmasked(self) -> None:
        """5.1: a client masks."""
        self.assertEqual((1002, "bad-format"), self.ends(unmasked(OPEN)))

    def test_no_frame(self) -> None:
        """5.2: reserved bits and opcodes; control frames that are long or in parts (5.5)."""
        for sent in (
            b"\xc1" + masked(OPEN)[1:],
            b"\x83" + masked(OPEN)[1:],
            b"\x8b" + masked(b"x")[1:],
            b"\x89\xfe\x00\x7e" + bytes(4 + 126),
            b"\x09" + masked(b"x")[1:],
            masked(OPEN, Opcode.CONT),
            masked(b"<op", fin=False) + masked(OPEN),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            self.setUp()
            self.assertEqual((1002, "bad-format"), self.ends(sent), sent)

    def test_too_large(self) -> None:
        """Refused by its head alone, whatever it says: before the log-in and after it."""
        for peer, most in (
            (self.mallory, limits.UNAUTHENTICATED.stanza_bytes),
            (self.server.bound(self.callbridge, "bob"), limits.CLIENT.stanza_bytes),
        ):
            head = b"\x81\xff" + (most + 1_000).to_bytes(8, "big") + b"mask"
            self.assertEqual((1009, "policy-violation"), self.ends(head, peer))
        huge = self.server.client()
        head = b"\x81\xff" + (2**63 - 1).to_bytes(8, "big") + b"mask"
        self.assertEqual((1009, "policy-violation"), self.ends(head, huge))

    def test_too_large_in_parts(self) -> None:
        """So it is when its fragments together are."""
        most = limits.UNAUTHENTICATED.stanza_bytes
        sent = masked(b"<a>" + b"x" * (most - 1_000), fin=False)
        sent += masked(b"x" * 2_000, Opcode.CONT, fin=False)
        self.assertEqual((1009, "policy-violation"), self.ends(sent))

    def test_fragments(self) -> None:
        """RFC 7395 3.3 allows them, and cuts through a character; but not any number of them."""
        text = MESSAGE.replace("x</", "\u00fc\U0001f600</").encode()
        pieces = [text[n : n + 3] for n in range(0, len(text), 3)]
        frames = [
            masked(piece, Opcode.CONT if n else Opcode.TEXT, fin=n == len(pieces) - 1)
            for n, piece in enumerate(pieces)
        ]
        self.assertLess(len(frames), MOST_FRAGMENTS)
        frames.insert(2, masked(b"now?", Opcode.PING))  # which may come between them (5.4)
        self.alice.give(b"".join(frames))
        self.assertIn("\u00fc\U0001f600", self.alice.heard())
        self.assertEqual([b"now?"], self.alice.pongs)
        sent = masked(b"<", fin=False) + masked(b"", Opcode.CONT, fin=False) * MOST_FRAGMENTS
        self.assertEqual((1008, "policy-violation"), self.ends(sent))

    def test_no_text(self) -> None:
        """RFC 7395 3.2: text frames alone, which are UTF-8 (RFC 6455 5.6)."""
        self.assertEqual((1003, "bad-format"), self.ends(masked(OPEN, Opcode.BINARY)))
        texts = b"<a>\xff</a>", b"<a>\xed\xa0\x80</a>", b"<a>\xc0\xaf</a>", b"\xff", b"<\xe2"
        for text in texts:
            self.setUp()
            for peer in (self.mallory, self.server.bound(self.callbridge, "bob")):
                self.assertEqual((1007, "bad-format"), self.ends(masked(text), peer), text)

    def test_close(self) -> None:
        """A close frame without C{close} is a connection that was lost (RFC 7395 3.6)."""
        self.alice.say(f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        self.alice.heard()
        self.alice.give(masked(MESSAGE.encode()) + masked(b"\x03\xe9", Opcode.CLOSE))
        frames = self.alice.frames()
        self.assertIn("<body>x", "".join(frames))  # what came before it was handled
        self.assertEqual(1001, self.alice.closed)
        self.assertTrue(self.alice.transport.lost)
        (session,) = self.server.sessions
        self.assertTrue(session.is_away)
        for bad, code in ((b"\x03", 1002), (b"\x00\x00", 1002), (b"\x03\xe8\xff", 1007)):
            peer = self.server.client()
            peer.give(masked(bad, Opcode.CLOSE))
            peer.frames()
            self.assertEqual(code, peer.closed, bad)
            self.assertTrue(peer.transport.lost)


class ElementTests(HostileTestCase):
    """What breaks RFC 7395: each with an error of RFC 6120 4.9.3."""

    def test_before_open(self) -> None:
        """3.4: C{open} comes first, and it alone."""
        for text, condition in (
            (MESSAGE, "invalid-namespace"),
            ("<open/>", "invalid-namespace"),
            ("<open xmlns='jabber:client'/>", "invalid-namespace"),
            ("<?xml version='1.0'?>" + OPEN.decode(), "not-well-formed"),
            (f"<stream:stream xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'>", "not-well-formed"),
            (f"<stream:stream xmlns:stream='{ns.STREAMS}'/>", "invalid-namespace"),
            (OPEN.decode().replace(DOMAIN, "other.example"), "host-unknown"),
            (OPEN.decode().replace("1.0", "0.9"), "unsupported-version"),
            (OPEN.decode() * 2, "not-well-formed"),
            (OPEN.decode() + MESSAGE, "not-well-formed"),
            (" " + OPEN.decode(), "bad-format"),
            (" ", "bad-format"),
            ("", "bad-format"),
            ("<", "not-well-formed"),
            ("</r>", "not-well-formed"),
            ("<!-- x -->", "restricted-xml"),
            ("<?x y?>", "restricted-xml"),
            ("<!DOCTYPE x><x/>", "not-well-formed"),
            ("<a>&b;</a>", "restricted-xml"),
            ("<a>" * 40, "policy-violation"),
        ):
            self.mallory = self.server.client()
            self.assertEqual(condition, self.ends(masked(text.encode()))[1], text)

    def test_after_login(self) -> None:
        """One frame is one element, of a session too."""
        cut = len(MESSAGE) // 2
        for text, condition in (
            (MESSAGE * 2, "not-well-formed"),
            (MESSAGE + "<r xmlns='urn:xmpp:sm:3'/>", "not-well-formed"),
            ("<r xmlns='urn:xmpp:sm:3'/>" * 2, "not-well-formed"),
            (MESSAGE + "x", "bad-format"),
            (MESSAGE + "<!-- -->", "restricted-xml"),
            ("<!-- -->" + MESSAGE, "restricted-xml"),
            ("<?x y?>", "restricted-xml"),
            (MESSAGE[:cut], "not-well-formed"),
            (MESSAGE[:-1], "not-well-formed"),
            (MESSAGE + "</r>", "not-well-formed"),
            ("</r><r>" + MESSAGE, "not-well-formed"),
            (MESSAGE.replace("<body>", "<stream:x/><body>"), "not-well-formed"),
            (OPEN.decode(), "unsupported-stanza-type"),
            ("<foo xmlns='bar'/>", "unsupported-stanza-type"),
            ("x" + MESSAGE, "bad-format"),
        ):
            self.setUp()
            peer = self.server.bound(self.callbridge, "bob")
            self.assertEqual(condition, self.ends(masked(text.encode()), peer)[1], text)

    def test_half_and_half(self) -> None:
        """An element in two frames is none."""
        peer = self.server.bound(self.callbridge, "bob")
        both = masked(MESSAGE[:60].encode()) + masked(MESSAGE[60:].encode())
        self.assertEqual("not-well-formed", self.ends(both, peer)[1])

    def test_without_namespace(self) -> None:
        """A stanza that declares none is taken for one; nobody sees that it did not."""
        self.alice.say(MESSAGE.replace(f" xmlns='{ns.CLIENT}'", ""))
        self.assertIn(f"<message xmlns='{ns.CLIENT}'", self.alice.heard())

    def test_restart(self) -> None:
        """3.7: what comes in the same read as a log-in's last step is not believed."""
        self.mallory.open()
        self.mallory.authenticate()
        self.mallory.give(masked(MESSAGE.encode()))
        self.assertTrue(self.mallory.frames()[-1].startswith("<close"))


class CloseTests(HostileTestCase):
    """RFC 7395 3.6, RFC 6455 7."""

    def test_by_client(self) -> None:
        """C{close} is answered, then the WebSocket is closed, then the connection."""
        self.alice.say(CLOSE)
        self.assertEqual([CLOSE], self.alice.frames())
        self.assertEqual(1000, self.alice.closed)
        self.assertFalse(self.alice.transport.lost)
        self.assertEqual(0, len(self.server.sessions))
        self.alice.close()
        self.assertTrue(self.alice.transport.lost)

    def test_half_open(self) -> None:
        """Who does not close his side is given up."""
        self.alice.say(CLOSE)
        self.server.clock.advance(CLOSE_TIMEOUT)
        self.assertTrue(self.alice.transport.lost)

    def test_codes(self) -> None:
        """Of the end by this side."""
        self.alice.handler.shut_down()
        self.assertIn("<system-shutdown", self.alice.heard())
        self.assertEqual(1001, self.alice.closed)

    def test_silent(self) -> None:
        """A silent client is pinged below XMPP, which every program answers, or is dropped."""
        settings = self.server.clients.settings
        for _ in range(5):
            self.server.clock.advance(settings.ping_interval)
            self.assertEqual([], self.alice.frames())
            self.server.clock.advance(settings.ping_timeout)
        self.assertLess(3, self.alice.pinged)
        self.assertFalse(self.alice.transport.lost)
        for _ in range(3):  # it answers nothing
            self.server.clock.advance(settings.ping_interval)
            self.server.clock.advance(settings.ping_timeout)
        self.assertTrue(self.alice.transport.lost)


class LateTests(HostileTestCase):
    """Who takes his time."""

    def test_never_opened(self) -> None:
        """A WebSocket on which nobody logs in ends as a stream does, in the same time."""
        self.mallory.give(masked(b"", Opcode.PING))
        self.server.clock.advance(self.server.clients.settings.login_timeout)
        frames = self.mallory.frames()
        self.assertIn("<connection-timeout", frames[1])
        self.assertEqual(CLOSE, frames[2])
        self.server.clock.advance(CLOSE_TIMEOUT)
        self.assertTrue(self.mallory.transport.lost)

    def test_drop_by_drop(self) -> None:
        """Bytes that come one by one do not put it off."""
        frame = masked(OPEN)
        for byte in frame[:-1]:
            self.mallory.give(bytes([byte]))
            self.server.clock.advance(1)
        self.server.clock.advance(CLOSE_TIMEOUT)
        self.assertTrue(self.mallory.transport.lost)


class CostTests(HostileTestCase):
    """What others pay."""

    def turns(self, sent: bytes) -> list[int]:
        """How many frames of a read were handled in each turn of the reactor."""
        stream: Any = self.alice.stream
        seen: list[int] = []
        receive = stream._frames.receive

        def note(data: bytes) -> Any:
            found = receive(data)
            seen[-1] += found[1]
            return found

        def turn(call: Callable[[], object]) -> None:
            seen.append(0)
            if len(seen) > 1:
                self.assertEqual("paused", self.alice.transport.producerState)
            call()

        stream._frames.receive = note
        for name in ("_read", "_take_turn"):
            setattr(stream, name, partial(turn, getattr(stream, name)))
        self.alice.give(sent)
        self.server.clock.advance(0)
        self.assertEqual("producing", self.alice.transport.producerState)
        return seen

    def test_pings(self) -> None:
        """A flood of pings is answered in turns, so that others have theirs."""
        ping = masked(b"", Opcode.PING)
        seen = self.turns(ping * 3_000)
        self.assertEqual(3_000, sum(seen))
        self.assertLessEqual(max(seen), A_TURN + PIECE // len(ping) + 1)
        self.alice.frames()
        self.assertEqual(3_000, len(self.alice.pongs))

    def test_small_stanzas(self) -> None:
        """So are small stanzas."""
        self.server.relay.send_notices()
        seen = self.turns(masked(f"<message to='{DOMAIN}'/>".encode()) * 500)
        self.assertEqual(500, sum(seen))
        self.assertLessEqual(max(seen), A_TURN + PIECE // 30)

    def test_pings_of_who_does_not_read(self) -> None:
        """5.5.3: only the newest is answered; nothing grows."""
        transport = self.alice.transport
        transport.stop_reading()
        count = 0
        stream: Any = self.alice.stream
        while not stream._full:
            self.alice.give(masked(b"x" * 125, Opcode.PING) * 8)
            self.server.clock.advance(0)
            count += 8
        most = transport.unread
        for number in range(1_000):
            self.alice.give(masked(str(number).encode(), Opcode.PING))
        self.assertEqual(most, transport.unread)
        transport.read()
        self.alice.frames()
        self.assertEqual(b"999", self.alice.pongs[-1])
        self.assertEqual(count + 1, len(self.alice.pongs))

    def test_slow_reader(self) -> None:
        """As over TCP: what waits is bounded, its writer waits, and then it is dropped."""
        bob = self.server.bound(self.callbridge, "bob")
        self.alice.transport.stop_reading()
        large = MESSAGE.replace("x</", "x" * 10_000 + "</")
        sent = 0
        while bob.transport.producerState == "producing":
            bob.say(large)
            sent += 1
            self.assertLess(sent, 100)
        (session,) = self.server.sessions.of(f"alice@{DOMAIN}")
        self.assertTrue(session.is_slow)
        for _ in range(40):
            self.server.clock.advance(1)
        self.assertTrue(self.alice.transport.lost)
        self.assertEqual("producing", bob.transport.producerState)

    def test_waits(self) -> None:
        """What waited leaves in frames, when she reads."""
        bob = self.server.bound(self.callbridge, "bob")
        self.alice.transport.stop_reading()
        for number in range(60):
            bob.say(MESSAGE.replace("x</", f"{number} {'x' * 3_000}</"))
        self.alice.transport.read()
        frames = self.alice.frames()
        got = [etree.fromstring(frame)[0].text.split()[0] for frame in frames]
        self.assertEqual([str(n) for n in range(60)], got)

    def test_memory_of_a_head(self) -> None:
        """A head that promises much allocates nothing."""
        frames = Frames(limits.CLIENT)
        frames.receive(b"\x81\xff" + limits.CLIENT.stanza_bytes.to_bytes(8, "big") + b"mask")
        self.assertIsNone(frames.problem)
        self.assertLess(sys.getsizeof(frames._protocol.reader.buffer), 200)


class AnyBytesTests(SynchronousTestCase):
    """Whatever comes, in whatever pieces."""

    def told(self, pieces: list[bytes]) -> tuple[list[Any], Any]:
        """The messages of these reads, and how it ends."""
        frames = Frames(limits.UNAUTHENTICATED)
        messages: list[Any] = []
        for piece in pieces:
            if not frames.is_over:
                messages += frames.receive(piece)[0]
        problem = frames.problem
        return messages, None if problem is None else problem.condition

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_split(self, data: Any) -> None:
        """Where the reads are cut means nothing."""
        one = st.builds(
            masked,
            st.binary(max_size=200) | st.just(MESSAGE.encode()),
            st.sampled_from([Opcode.TEXT, Opcode.CONT, Opcode.BINARY, Opcode.PING, Opcode.PONG]),
        )
        sent = b"".join(data.draw(st.lists(one | st.binary(max_size=20), max_size=6)))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
        pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
        self.assertEqual(self.told([sent]), self.told(pieces))

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300), st.booleans())
    def test_no_exception(self, noise: bytes, is_framed: bool) -> None:
        """It ends with an error or goes on, and nothing is thrown."""
        server = WebServer()
        peer = server.client()
        peer.give(masked(OPEN))
        peer.give(masked(noise) if is_framed else noise)
        peer.frames()
        self.assertEqual([], self.flushLoggedErrors())

    @settings(max_examples=150, deadline=None)
    @given(
        st.text(max_size=60),
        st.sampled_from(["%s", "<a>%s</a>", "<a\tb='%s'/>", "<%s/>", "<a/>%s"]),
    )
    def test_one_element(self, text: str, shape: str) -> None:
        """A frame is taken if it is one document that another parser reads, and only then."""
        written = (shape % text).encode("utf-8", "surrogatepass")
        reader = FrameReader(limits.UNAUTHENTICATED)
        reader._is_open = True
        (event,) = reader.feed(written)
        if not isinstance(event, StreamBroken):
            root = etree.fromstring(written)
            self.assertIsNotNone(root.tag)
            self.assertTrue(written.startswith(b"<"))


class PassedOnTests(HostileTestCase):
    """What others send, over TCP or a WebSocket."""

    def test_parses_alone(self) -> None:
        """Each frame is read by another parser, as what its sender meant."""
        maker = Maker(Random(7))
        root = f"<r xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'>"
        senders = [Server.client(self.server), self.server.client()]
        passed = 0
        for number in range(400):
            inner = maker.element(INNER, maker.random.choice((0, 0, 0.02, 0.1)))
            inner = inner.replace("xml:id", "xml:x")  # which this parser wants to be a name
            if number % 5 == 0:
                inner += "<stream:x stream:y='1'/>"
            web = number % 2
            declared = f" xmlns='{ns.CLIENT}'" if web else ""
            text = f"<message{declared} to='alice@{DOMAIN}/r'>{inner}</message>"
            peer = self.sender(senders, web)
            peer.say(text.encode("utf-8", "surrogatepass"))
            for frame in self.alice.frames():
                heard = etree.fromstring(frame)
                (sent,) = etree.fromstring(f"{root}{text}</r>")
                for one in (sent, heard):  # which are not the same: from and xml:lang
                    one.attrib.clear()
                self.assertEqual(canonical(sent, ""), canonical(heard, ""), text)
                passed += 1
        self.assertGreater(passed, 150)

    def sender(self, senders: list[Peer], web: int) -> Peer:
        """Who is logged in, over TCP or a WebSocket."""
        if senders[web].lost or not senders[web].offered:
            self.setUp()
            tcp = partial(Server.client, self.server)
            made = self.server.client if web else tcp
            self.patch(self.server, "client", made)
            senders[web] = Server.bound(self.server, self.callbridge, f"bob{web}")
            senders[web].offered = "yes"
        return senders[web]


class DeclaredTests(SynchronousTestCase):
    """What leaves is a document of its own."""

    def parsed(self, element: str) -> None:
        """It, by another parser, as what is read of it within a stream."""
        stream = f"<r xmlns='{ns.CLIENT}' xmlns:stream='{ns.STREAMS}'>{element}</r>"
        (within,) = etree.fromstring(stream.encode())
        alone = etree.fromstring(declared(element.encode()))
        self.assertEqual(self.meant(within), self.meant(alone))

    def meant(self, element: Any) -> Any:
        """An element without its prefixes."""
        children = [(self.meant(child), child.tail) for child in element]
        return element.tag, dict(element.attrib), element.text, children

    def test_elements(self) -> None:
        """Each form that the server writes or passes on."""
        for element in (
            "<message/>",
            "<iq/>",
            "<presence type='x'/>",
            "<message\tto='a'/>",
            "<message from='a' to='b>c'><body>x</body></message>",
            "<message><stream:x/></message>",
            "<message stream:a='1'/>",
            "<message a='&quot;' b=\"'>\"><stream:x xmlns:stream='urn:other'/></message>",
            "<message xmlns:stream='urn:other'><stream:x/></message>",
            "<message id='xmlns:stream'><stream:x/></message>",
            "<message id=\" xmlns:stream='a'\"><stream:x/></message>",
            "<message xmlns:streams='a' xml:lang='xmlns:stream'><stream:x/></message>",
            "<message a='>' xmlns:stream = 'urn:other'><stream:x/></message>",
            "<messages xmlns='urn:x'/>",
            "<r xmlns='urn:xmpp:sm:3'/>",
            "<stream:features/>",
            "<stream:features><bind xmlns='urn:x'/></stream:features>",
            "<stream:error><a xmlns='urn:x'/></stream:error>",
            "<message xmlns='jabber:client'><body/></message>",
            "<iq><query xmlns='urn:stream:x'/></iq>",
        ):
            self.parsed(element)

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from(["message", "presence", "iq", "stream:features", "stream:error"]),
        st.sampled_from(["", " to='a'", ' to="b\'>"', " stream:x='1'", " id='xmlns:stream='"]),
        st.sampled_from(["", "<a/>", "<a xmlns=''/>", "<stream:a/>", "<a xmlns:stream='u'/>", "x"]),
    )
    def test_any(self, name: str, attributes: str, content: str) -> None:
        """In any combination."""
        if name.startswith("stream:") and " xmlns=" not in content:
            content = content.replace("<a", "<a xmlns='u'")  # what these hold has its own
        self.parsed(f"<{name}{attributes}>{content}</{name}>")
