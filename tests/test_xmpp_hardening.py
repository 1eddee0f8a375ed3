"""What a hostile review found, and must not come back."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.configuration.tomlfile import Secret
from cms.linkprotocol import login as lp
from cms.process.endpoints import expand
from cms.process.endpointstrings import check_plain, parse_endpoint
from cms.process.logs import AT_ONCE, LineLimiter, Logger
from cms.protection.connections import Limits
from cms.protection.sources import network_of
from cms.xmlstream import limits, ns
from cms.xmlstream.header import new_stream_id
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.reader import RENEW_AFTER, StanzaRead, StreamBroken, StreamEnd, TreeReader
from cms.xmlstream.replies import ping_payload, request, result_reply
from cms.xmlstream.requests import RequestLost, Requests, TooManyRequests
from cms.xmlstream.stanza import Stanza
from cms.xmpp.clientnegotiation import ClientNegotiation
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.componentpolicy import ComponentRecord
from cms.xmpp.listeners import StreamFactory
from tests.support import as_observer, header, one_stanza
from tests.xmppserver import DOMAIN, Peer, Server

CB1 = f"cb1.{DOMAIN}"


class GrowthTests(SynchronousTestCase):
    """No stanza grows on its way through, and no stream without end."""

    def test_text_does_not_grow(self) -> None:
        """What need not be escaped is not."""
        for body in (">" * 1000, "'" * 1000, '"' * 1000, "\t\n" * 500):
            stanza = one_stanza(f"<message><body>{body}</body></message>")
            self.assertLess(len(stanza.raw), 1100)
        apostrophes = "'" * 1000
        quoted = one_stanza(f'<message id="{apostrophes}"/>')
        self.assertLess(len(quoted.raw), 1100)
        self.assertEqual("]]>", str(one_stanza("<a>]]&gt;</a>").element))
        self.assertIn(b"]]&gt;", one_stanza("<a>]]&gt;</a>").raw)

    def test_long_namespace(self) -> None:
        """A prefix cannot multiply a long name: such a name is refused."""
        reader = TreeReader(limits.CLIENT)
        reader.feed(header(ns.CLIENT))
        (event,) = reader.feed(f"<message xmlns:x='{'a' * 300}'><x:a/></message>".encode())
        assert isinstance(event, StreamBroken)
        self.assertEqual("policy-violation", event.error.condition)

    def test_too_long_to_forward(self) -> None:
        """A stanza that grew beyond what its receiver takes goes back, and no link is cut."""
        server = Server()
        callbridge = server.callbridge()
        client = server.bound(callbridge)
        prefix = f"xmlns:x='{'u' * 250}'"
        inner = f"<message to='{CB1}' id='1' {prefix}>{'<x:a/>' * 3000}</message>"
        self.assertLess(len(inner), limits.CLIENT.stanza_bytes)
        client.say(inner)
        self.assertIn("policy-violation", client.heard())
        self.assertEqual("", callbridge.heard())

    def test_parser_is_renewed(self) -> None:
        """A long stream goes on through several parsers, with the header's prefixes."""
        reader = TreeReader(limits.CLIENT)
        opening = (
            "<?xml version='1.0'?><s:stream xmlns='jabber:client' xmlns:p='urn:p&amp;q'"
            f" xmlns:s='{ns.STREAMS}'>"
        )
        reader.feed(opening.encode())
        first = reader._parser
        stanza = b"<message><body>" + b"x" * 50_000 + b"</body><p:a/></message>"
        for _ in range(3 * RENEW_AFTER // len(stanza)):
            for half in (stanza[:777], stanza[777:]):
                events = reader.feed(half)
            (event,) = events
            assert isinstance(event, StanzaRead)
            last = event.stanza.element.children[-1]
            self.assertEqual("urn:p&q", last.uri)
            self.assertTrue(event.stanza.is_stanza)
        self.assertIsNot(first, reader._parser)
        self.assertIsInstance(reader.feed(b"</s:stream>")[0], StreamEnd)

    def test_not_renewed_within_a_token(self) -> None:
        """What looks like the end of a tag, but is not, waits for its end."""
        reader = TreeReader(limits.CLIENT)
        reader.feed(header(ns.CLIENT))
        for _ in range(6):
            reader.feed(b"<message><body>" + b"x" * 50_000 + b"</body></message>")
        reader.feed(b"<message to='a>")
        (event,) = reader.feed(b"b'/>")
        assert isinstance(event, StanzaRead)
        self.assertEqual("a>b", event.stanza.to)


class FlawTests(SynchronousTestCase):
    """What other parsers do not read is forwarded to nobody."""

    FLAWED = "<x xmlns='a|b'/>"

    def setUp(self) -> None:
        """A client, and a component that it writes to."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.client = self.server.bound(self.callbridge)
        self.callbridge.heard()

    def test_of_a_client(self) -> None:
        """Its sender is told, and its stream goes on; presence is no way around."""
        for said in (
            f"<message id='1' to='{CB1}'>{self.FLAWED}</message>",
            f"<iq id='1' type='get' to='{CB1}'>{self.FLAWED}</iq>",
            f"<presence id='1'>{self.FLAWED}</presence>",
            f"<presence id='1' to='{CB1}'>{self.FLAWED}</presence>",
        ):
            self.client.say(said)
            heard = self.client.heard()
            self.assertIn("<bad-request ", heard)
            self.assertIn("a namespace is no URI", heard)
            self.assertNotIn("a|b", heard)
            self.assertEqual("", self.callbridge.heard())
        self.client.say(f"<message to='{CB1}'><body>x</body></message>")
        self.assertIn("<body>x</body>", self.callbridge.heard())

    def test_of_a_component(self) -> None:
        """The link of a component goes on as well."""
        to = self.client.handler.jid.full()
        self.callbridge.say(f"<message from='{CB1}' id='1' to='{to}'>{self.FLAWED}</message>")
        self.assertIn("<bad-request ", self.callbridge.heard())
        self.assertEqual("", self.client.heard())
        self.assertFalse(self.callbridge.lost)

    def test_address_like_a_tag(self) -> None:
        """A resource that ends a tag is stamped once, whatever is stamped besides."""
        for resource in ("r>", "/>", "r'>"):
            header = {"xml:lang": "de"}
            written = resource.replace(">", "&gt;")
            bob = self.server.bound(self.callbridge, "bob", written, **header)
            self.callbridge.heard()
            for said in (
                f"<message to='{CB1}'/>",
                f"<message to='alice@{DOMAIN}' type='chat'/>",
                f"<iq type='get' id='1' to='{CB1}'><ping xmlns='urn:xmpp:ping'/></iq>",
                f"<presence to='{CB1}'/>",
            ):
                self.client.say("<presence/>")
                self.client.heard()
                bob.say(said)
                (stanza,) = [
                    s
                    for peer in (self.callbridge, self.client)
                    for s in peer.received()
                    if s.sender != self.client.handler.jid.full()
                ]
                self.assertEqual(f"bob@{DOMAIN}/{resource}", stanza.sender)
                self.assertEqual("de", stanza.element[ns.XML, "lang"])

    def test_text_in_two_reads(self) -> None:
        """What must be escaped is, in however many reads it came."""
        self.client.say(f"<message to='{CB1}'><body>&#93;&#93;")
        self.client.say("&gt;</body></message >")
        self.assertIn("<body>]]&gt;</body>", self.callbridge.heard())


class AddressTests(SynchronousTestCase):
    """L{parse_jid}."""

    def test_malformed(self) -> None:
        """Every bad address is refused, and none of them takes long."""
        for text in (
            "",
            "@",
            "a@",
            "@b",
            "b/",
            "a..b",
            "x@a..b",
            ".b",
            "x@.b",
            "a@b@c",
            "a b",
            "a@b c",
            "\ud800",
            "a" + "\u0301\u0323" * 40_000,
            "x@" + "a" * 1100,
            "x@b/" + "r" * 1100,
            "\u00ad" * 250_000 + "x",
            "xn--" + "a" * 1100,
        ):
            self.assertRaises(MalformedJID, parse_jid, text)

    def test_good(self) -> None:
        """Addresses as RFC 6122 prepares them."""
        for text, full in (
            ("Alice@Meet.Example.COM/R", "alice@meet.example.com/R"),
            ("meet.example.com.", "meet.example.com"),
            ("a@b/r@s/t", "a@b/r@s/t"),
            ("b/@", "b/@"),
            ("a@xn--bcher-kva.example", "a@bücher.example"),
            ("XN--BCHER-KVA.Example/xn--r", "bücher.example/xn--r"),
            ("xn--zca.example", "xn--zca.example"),  # a sharp s, which nameprep folds
            ("xn--a.example", "xn--a.example"),
        ):
            self.assertEqual(full, parse_jid(text).full())

    def test_bad_directed_presence(self) -> None:
        """Presence to an address that is none is answered, and the session ends well."""
        server = Server()
        client = server.bound(server.callbridge())
        client.say("<presence to='x@a..b'/>")
        self.assertIn("jid-malformed", client.heard())
        client.transport.lose()
        self.assertTrue(client.stream.ended.called)
        self.assertEqual(0, len(server.sessions))

    def test_bad_header(self) -> None:
        """A header with such an address is answered as RFC 6120 has it."""
        client = Server().client()
        self.assertIn("host-unknown", client.open(to="a..b"))


class EndTests(SynchronousTestCase):
    """Whoever is leaving gets nothing more, and whoever wrote to it is told."""

    def setUp(self) -> None:
        """Two clients."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.alice = self.server.bound(self.callbridge, "alice")
        self.bob = self.server.bound(self.callbridge, "bob")

    def test_closing_session(self) -> None:
        """An IQ to a session that is closing is answered with an error."""
        self.alice.stream.close()
        self.bob.say(f"<iq type='get' id='q' to='alice@{DOMAIN}/r'><x xmlns='urn:x'/></iq>")
        self.assertIn("service-unavailable", self.bob.heard())

    def test_closing_link(self) -> None:
        """A Callbridge that is closing is not chosen any more."""
        self.callbridge.stream.close()
        self.bob.say(f"<iq type='get' id='q' to='{CB1}'><x xmlns='urn:x'/></iq>")
        heard = self.bob.heard()
        self.assertIn("not connected", heard)
        self.assertIn("<no-callbridge xmlns='urn:x-cms:fault:1' step='1'/></error>", heard)
        client = self.server.client()
        client.open()
        self.server.clock.advance(8)
        self.assertIn("step 1", client.heard())

    def test_exchange_after_its_link(self) -> None:
        """A response whose Callbridge is gone is answered at once."""
        other = self.server.callbridge("cb2", ("SCRAM-SHA-256",))
        client = self.server.client()
        client.open()
        client.authenticate("SCRAM-SHA-256")
        (stanza,) = other.received()
        start = lp.parse(stanza.element.firstChildElement())
        assert isinstance(start, lp.Start)
        other.answer(stanza, lp.Challenge(start.exchange, b"x"))
        client.heard()
        other.transport.lose()
        client.say(f"<response xmlns='{ns.SASL}'>eA==</response>")
        heard = client.heard()
        self.assertIn("login-link-lost", heard)
        self.assertIn("was lost", heard)

    def test_requests_are_bounded(self) -> None:
        """A stream that owes many answers is asked nothing more until one has come."""
        clock, sent = Clock(), list[Stanza]()
        requests = Requests(clock, sent.append, own=DOMAIN, most=2)

        def ask() -> Deferred[Stanza]:
            ping = request("get", DOMAIN, CB1, ping_payload())
            return requests.ask(ping, 10)

        one, _ = ask(), ask()
        self.failureResultOf(ask(), TooManyRequests)
        self.assertEqual(2, len(sent))
        self.assertTrue(requests.take(result_reply(sent[0])))
        self.successResultOf(one)
        self.assertNoResult(ask())

    def test_requests_after_the_end(self) -> None:
        """A lost stream is asked nothing more."""
        requests = Requests(Clock(), lambda stanza: self.fail("sent"), own=DOMAIN)
        requests.lost()
        self.failureResultOf(requests.ask(one_stanza("<iq to='x'/>"), 5), RequestLost)

    def test_replay_leaves_out_what_ended(self) -> None:
        """A session that ends while others are told of is not told of."""
        for number in range(205):
            self.server.bound(self.callbridge, f"user{number}")
            self.server.sessions.most_per_user = 500
        self.callbridge.transport.lose()
        again = self.server.callbridge()
        told = again.received()
        self.assertEqual(200, len(told))
        late = [s for s in self.server.sessions if s.jid.user == "user204"]
        late[0].end()
        for stanza in told:
            again.say(result_reply(stanza).raw)
        text = again.heard()
        self.assertNotIn(
            "session-begin", "".join(re.findall(r"<[^>]*user204[^>]*resumed[^>]*>", text))
        )


class GuessingTests(SynchronousTestCase):
    """The limits on guesses."""

    def test_networks(self) -> None:
        """A /64 counts as one, this host as itself."""
        self.assertEqual("192.0.2.1", network_of("192.0.2.1"))
        self.assertEqual(network_of("2001:db8::1"), network_of("2001:db8::ffff:2"))
        self.assertNotEqual(network_of("2001:db8::1"), network_of("2001:db8:0:1::1"))
        self.assertEqual("192.0.2.1", network_of("::ffff:192.0.2.1"))
        for local in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "local"):
            self.assertEqual("local", network_of(local))

    def test_tries_in_the_clear_are_counted(self) -> None:
        """Log-ins in the clear are refused, and not for ever."""
        client = Server().client(tls=object())
        client.open()
        for _ in range(6):
            client.authenticate()
        self.assertTrue(client.lost)

    def test_malformed_payloads(self) -> None:
        """Elements in the payload, or too much of it, are not relayed."""
        for payload in ("AAAA<x/>BBBB", "A" * 5500):
            server = Server()
            callbridge = server.callbridge()
            client = server.client()
            client.open()
            client.say(f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>{payload}</auth>")
            self.assertIn("<malformed-request/>", client.heard())
            self.assertEqual("", callbridge.heard())


class LinkTests(SynchronousTestCase):
    """Components."""

    def test_two_newcomers(self) -> None:
        """Of two that wait for the same dead link one is registered, the other refused."""
        server = Server()
        older = server.register()
        older.received()
        newer = []
        for _ in range(2):
            peer = server.component()
            found = re.search("id='([^']*)'", peer.open(to=CB1, version=""))
            assert found is not None
            digest = hashlib.sha1((found[1] + "one").encode()).hexdigest()
            peer.say(f"<handshake>{digest}</handshake>")
            newer.append(peer)
        server.clock.advance(server.components.settings.probe_timeout)
        heard = [peer.heard() for peer in newer]
        self.assertEqual(1, sum("<handshake/>" in text for text in heard))
        self.assertEqual(1, sum("<conflict" in text for text in heard))

    def test_foreign_component_decides_nothing(self) -> None:
        """A component outside the domain cannot make itself the judge of log-ins."""
        server = Server()
        foreign = f"x{DOMAIN}"
        server.components.registry.secrets[foreign] = (Secret("four"),)
        peer = server.component()
        peer.register(foreign, "four")
        self.assertEqual("", peer.heard())
        names = lp.Mechanisms(("PLAIN",)).to_xml()
        for number in range(3):
            peer.say(
                f"<iq type='result' id='c{number}' from='{foreign}' to='{DOMAIN}'>{names}</iq>"
            )
        client = server.client()
        client.open()
        server.clock.advance(8)
        self.assertIn("step 1 link-before-login", client.heard())

    def test_answers_to_others(self) -> None:
        """
        What a Callbridge answers to a client is no answer to the server, even where the
        client has chosen the id of a log-in of somebody else.
        """
        server = Server()
        callbridge = server.callbridge()
        mallory = server.bound(callbridge, "mallory", "r&amp;d")
        client = server.client()
        client.open()
        client.authenticate()
        (start,) = callbridge.received()
        for identifier in (start.id, *(f"c{number}" for number in range(20))):
            ping = f"<iq type='get' id='{identifier}' to='{CB1}'><ping xmlns='{ns.PING}'/></iq>"
            mallory.say(ping)
            (asked,) = callbridge.received()
            callbridge.say(result_reply(asked).raw)
            (answer,) = mallory.received()
            self.assertEqual(("result", identifier), (answer.type, answer.id))
        self.assertEqual("", client.heard())
        message = lp.parse(start.child)
        assert isinstance(message, lp.Start)
        callbridge.answer(start, lp.Success(message.exchange, f"alice@{DOMAIN}"))
        self.assertIn("<success", client.heard())

    def test_sloppy_answers(self) -> None:
        """An answer without from or to is the component's own, to the server (XEP-0114 3)."""
        escaped = DOMAIN.replace(".", "&#x2E;")
        for written in (
            *("", f" from='{CB1}'", f" to='{DOMAIN}'", f" from='CB1.{DOMAIN}'"),
            *(f" to='{escaped}'", f" from='cb1.{escaped}' to=\"{escaped}\""),
        ):
            server = Server()
            peer = server.register()
            (question,) = peer.received()
            names = lp.Mechanisms(("PLAIN",)).to_xml()
            peer.say(f"<iq type='result' id='{question.id}'{written}>{names}</iq>")
            self.assertEqual(1, len(server.links.authorities), written)

    def test_addresses_with_references(self) -> None:
        """They are whose they are meant to be, and what is written so is only forwarded."""
        server = Server()
        callbridge, echo = server.callbridge(), server.register("echo")
        echo.received()
        bob = server.bound(callbridge, "bob", "r&amp;d&apos;s &lt;b>")
        jid = f"bob@{DOMAIN}/r&d's <b>"
        self.assertEqual(jid, bob.handler.jid.full())
        self.patch(server.router, "route", self.fail)
        for written in (
            f"'bob@{DOMAIN}/r&amp;d&apos;s &lt;b>'",
            f'"bob@{DOMAIN}/r&#38;d\'s &#x3c;b&gt;"',
            f"'bob&#64;{DOMAIN}/r&amp;d&#39;s\n&lt;b>'",
        ):
            callbridge.say(f"<message to={written} id='1'><body>x</body></message>")
            (message,) = bob.received()
            self.assertEqual((jid, CB1), (message.to, message.sender))
            bob.say(f"<message from={written} to='{CB1}'/><message to='&#69;cho.{DOMAIN}'/>")
            (message,) = callbridge.received()
            self.assertEqual((CB1, jid), (message.to, message.sender))
            (message,) = echo.received()
            self.assertEqual((f"Echo.{DOMAIN}", jid), (message.to, message.sender))
        callbridge.say(f"<message from='a&#43;b@cb1&#46;{DOMAIN}' to='echo&#46;{DOMAIN}'/>")
        (message,) = echo.received()
        self.assertEqual(f"a+b@{CB1}", message.sender)

    def test_addresses_of_others_with_references(self) -> None:
        """Nobody speaks for somebody else, however that one is written."""
        server = Server()
        callbridge, echo = server.callbridge(), server.register("echo")
        bob = server.bound(callbridge, "bob", "r&amp;d")
        bob.say(f"<message from='alice&#64;{DOMAIN}/r&amp;d' to='{CB1}'/>")
        self.assertIn("<invalid-from", bob.heard())
        callbridge.received()
        echo.say(f"<message from='a@cb1&#46;{DOMAIN}' to='{CB1}'/>")
        self.assertIn("<invalid-from", echo.heard())
        self.assertEqual([], callbridge.received())

    def test_slow_callbridge_is_asked_again(self) -> None:
        """A Callbridge that was too busy to name its mechanisms is asked again."""
        server = Server()
        peer = server.register()
        peer.received()
        server.clock.advance(15)
        server.clock.advance(15)
        question = peer.received()[-1]
        peer.answer(question, lp.Mechanisms(("PLAIN",)))
        self.assertEqual(1, len(server.links.authorities))

    def test_asked_no_more(self) -> None:
        """After the link has ended nothing is pending."""
        server = Server()
        peer = server.register()
        server.clock.advance(15)
        peer.transport.lose()
        self.assertEqual([], server.clock.getDelayedCalls())

    def test_silent_stranger_that_learns(self) -> None:
        """A component that begins to answer pings is watched from then on."""
        server = Server()
        peer = server.register()
        answered = False
        for _ in range(80):
            server.clock.advance(1)
            pings = [s for s in peer.received() if s.payload == (ns.PING, "ping")]
            if pings and not answered and server.clock.seconds() > 30:
                peer.say(result_reply(pings[-1]).raw)
                answered = True
        self.assertTrue(answered)
        self.assertTrue(peer.lost)

    def test_iq_without_a_type(self) -> None:
        """An IQ that is neither request nor answer is a bad request."""
        server = Server()
        peer = server.register()
        peer.received()
        for type_ in ("", " type='foo'"):
            peer.say(f"<iq id='1' from='{CB1}' to='cb2.{DOMAIN}'{type_}/>")
            self.assertIn("bad-request", peer.heard())


class SecretNameTests(SynchronousTestCase):
    """What must not be guessed has at least 128 bits."""

    def test_stream_ids(self) -> None:
        """RFC 6120 4.7.3: an ID that can be foretold makes a proof that can be prepared."""
        ids = {new_stream_id() for _ in range(100)}
        self.assertEqual(100, len(ids))
        self.assertTrue(all(re.fullmatch("[0-9a-f]{32,}", each) for each in ids))

    def test_exchanges(self) -> None:
        """Each exchange has a fresh name."""
        server = Server()
        callbridge = server.callbridge()
        names = set()
        for _ in range(20):
            client = server.client()
            client.open()
            client.authenticate()
            start = lp.parse(callbridge.received()[-1].element.firstChildElement())
            assert isinstance(start, lp.Start)
            names.add(start.exchange)
        self.assertEqual(20, len(names))
        self.assertTrue(all(len(name) >= 32 for name in names))


class ListenerTests(SynchronousTestCase):
    """Listeners."""

    def test_plain_only_on_this_host(self) -> None:
        """A listener without TLS that could be reached is refused."""
        for good in (
            "unix:/run/x",
            "tcp:5347:interface=127.0.0.1",
            "tcp6:5347:interface=\\:\\:1",
            "tcp:interface=127.0.0.1:port=1",
        ):
            check_plain("listen.x", good, "f")
        for bad in (
            "tcp:5347",
            "tcp:5347:interface=0.0.0.0",
            "tcp:5347:interface=192.0.2.1",
            "tcp6:5347:interface=\\:\\:",
            "tcp:0:interface=127.0.0.1:interface=0.0.0.0",
            "tcp:5347:interface=localhost",
            "",
        ):
            self.assertRaises(faults.ConfigurationError, check_plain, "listen.x", bad, "f")

    def test_all_addresses(self) -> None:
        """A bare port means both families."""
        for text, expected in (
            ("tcp:5223", [("tcp6", "::", 5223), ("tcp", "", 5223)]),
            ("tcp:1:interface=192.0.2.1", [("tcp", "192.0.2.1", 1)]),
        ):
            found = expand(parse_endpoint(text))
            self.assertEqual(expected, [(each.kind, each.host, each.port) for each in found])

    def test_bounds(self) -> None:
        """Connections are bounded, in all and from one address, and given back."""
        server = Server()
        few = Limits(
            most=3,
            per_address=2,
            unauthenticated=3,
            unauthenticated_per_address=2,
            guests=3,
            reserve=0,
        )
        factory = StreamFactory(lambda: server.client().stream, few, server.clock.seconds)
        remote = IPv4Address("TCP", "192.0.2.1", 1)
        first, second = factory.buildProtocol(remote), factory.buildProtocol(remote)
        for stream in (first, second):
            stream.on_trusted()  # type: ignore[union-attr]
        self.assertIsNone(factory.buildProtocol(remote))
        local: Any = factory.buildProtocol(IPv6Address("TCP", "::1", 1))
        local.on_trusted()
        self.assertIsNone(factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)))
        self.assertEqual(2, factory.turned_away)
        for stream in (first, second):
            stream.transport.lose()  # type: ignore[union-attr]
        self.assertIsNotNone(factory.buildProtocol(IPv6Address("TCP", "::ffff:192.0.2.1", 1)))

    def crowded(self, server: Server) -> tuple[list[Peer], StreamFactory]:
        """A listener with two places for strangers of an address, and who has come to it."""
        clients: list[Peer] = []

        def make() -> Any:
            clients.append(server.client())
            return clients[-1].stream

        few = Limits(
            most=9,
            per_address=9,
            unauthenticated=5,
            unauthenticated_per_address=2,
            guests=9,
            reserve=0,
        )
        return clients, StreamFactory(make, few, server.clock.seconds)

    def decide(self, client: Peer, callbridge: Peer) -> None:
        """A client logs in as Alice."""
        client.authenticate()
        (start,) = callbridge.received()
        message: Any = lp.parse(start.element.firstChildElement())
        callbridge.answer(start, lp.Success(message.exchange, f"alice@{DOMAIN}"))

    def test_strangers_make_room(self) -> None:
        """Who has not logged in goes for the next of his address; who has stays."""
        server = Server()
        callbridge = server.callbridge()
        clients, factory = self.crowded(server)
        for _ in range(5):
            factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
            client = clients[-1]
            client.open()
            if len(clients) == 1:
                self.decide(client, callbridge)
                client.open()
                client.say(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>")
        self.assertEqual([False, True, True, False, False], [c.lost for c in clients])
        self.assertEqual((3, 2), (factory.limiter.taken, factory.turned_away))

    def test_lines_about_strangers(self) -> None:
        """Of a flood of them the log has a part, and how many there were; never of who belongs."""
        server = Server()
        told: list[str] = []

        def note(event: LogEvent) -> None:
            told.append(formatEvent(event))

        for kind in (ClientNegotiation, ClientSession, ComponentRecord, LineLimiter):
            self.patch(kind, "log", Logger(observer=as_observer(note)))
        registered = server.callbridge()
        member = server.bound(registered, "alice")
        for _ in range(300):
            server.client().say("GET / HTTP/1.1\r\n\r\n")
            server.component().say("GET / HTTP/1.1\r\n\r\n")
        lines = [line for line in told if "192.0.2.7" in line or "198.51.100.9" in line]
        self.assertGreater(len(lines), AT_ONCE)
        self.assertLess(len(lines), 2 * AT_ONCE + 5)
        told.clear()
        member.say("<x/>")
        self.assertIn("stream closed with unsupported-stanza-type", told[0])
        server.clock.advance(1.0)
        told.clear()
        server.client().say("GET / HTTP/1.1\r\n\r\n")
        self.assertEqual("left out 500 lines about unauthenticated peers", told[0])

    def test_log_ins_without_end(self) -> None:
        """One account that logs in again and again, and binds nothing, keeps no place."""
        server = Server()
        callbridge = server.callbridge()
        clients, factory = self.crowded(server)
        for _ in range(5):
            factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
            client = clients[-1]
            client.open()
            self.decide(client, callbridge)
            self.assertIn("success", client.heard())
        self.assertEqual([True, True, True, False, False], [c.lost for c in clients])
