"""Steps 1 and 12 on the XMPP server: a client's way from its header to its session."""

from __future__ import annotations

import re
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StanzaError

from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmlstream.replies import error_reply, result_reply
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from cms.xmlstream.toldfault import ToldFault, of_mark
from cms.xmpp.loginrelay import MOST_NOTICE_BYTES
from cms.xmpp.waitingroom import LET_IN, MOST_BYTES, PAUSE
from tests.support import header, one_stanza
from tests.xmppserver import DOMAIN, Peer, Server, mechanisms

CB1 = f"cb1.{DOMAIN}"
BIND = f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>"


class NoTLS:
    """Stands for TLS where the handshake is played by the test."""

    def for_peer(self, peer: str) -> NoTLS:
        """What is given to C{startTLS}."""
        return self


class HeaderTests(SynchronousTestCase):
    """RFC 6120 4: the stream header."""

    def test_refusals(self) -> None:
        """Each bad header has its condition, and the log names the peer."""
        good = f" to='{DOMAIN}' version='1.0'"
        for said, condition in (
            (header(ns.COMPONENT, good), "invalid-namespace"),
            (header(ns.CLIENT, good).replace(b"etherx", b"x"), "invalid-namespace"),
            (header(ns.CLIENT, " to='other.example.com' version='1.0'"), "host-unknown"),
            (header(ns.CLIENT, " to='@' version='1.0'"), "host-unknown"),
            (header(ns.CLIENT, f" to='{DOMAIN}'"), "unsupported-version"),
            (header(ns.CLIENT, f" to='{DOMAIN}' version='0.9'"), "unsupported-version"),
            (header(ns.CLIENT, f" to='{DOMAIN}' version='x'"), "unsupported-version"),
            (b"<html>", "invalid-namespace"),
            (b"SSH-2.0-x\r\n", "not-well-formed"),
        ):
            client = Server().client()
            client.say(said)
            heard = client.heard()
            self.assertIn(f"<{condition} ", heard)
            self.assertIn("id='", heard)
            self.assertIn(f" from='{DOMAIN}'", heard)
            self.assertTrue(client.lost)

    def test_answer(self) -> None:
        """A good header is answered with ours, with a fresh id each time."""
        one, two = Server().client().open(), Server().client().open()
        self.assertIn(f"from='{DOMAIN}'", one)
        self.assertIn("version='1.0'", one)
        self.assertNotEqual(one, two)

    def test_too_slow(self) -> None:
        """A client that does not log in in time is closed."""
        server = Server()
        client = server.client(NoTLS())
        client.open()
        server.clock.advance(server.clients.settings.login_timeout)
        self.assertIn("connection-timeout", client.heard())
        self.assertEqual([], server.clock.getDelayedCalls())


class StarttlsTests(SynchronousTestCase):
    """RFC 6120 5."""

    def setUp(self) -> None:
        """A client on the STARTTLS port."""
        self.server = Server()
        self.client = self.server.client(NoTLS())
        self.features = self.client.open()

    def test_only_tls_is_offered(self) -> None:
        """In the clear nothing but STARTTLS is offered, and it is required."""
        self.assertIn(f"<starttls xmlns='{ns.STARTTLS}'><required/>", self.features)
        self.assertNotIn("mechanism", self.features)

    def test_proceeds(self) -> None:
        """After the handshake a new stream offers the mechanisms."""
        self.client.say(f"<starttls xmlns='{ns.STARTTLS}'/>")
        self.assertEqual(f"<proceed xmlns='{ns.STARTTLS}'/>", self.client.heard())
        self.assertIsInstance(self.client.transport.tls, NoTLS)
        self.server.callbridge("cb1", ("SCRAM-SHA-256",))
        self.client.transport.handshake()
        self.assertIn("<mechanism>SCRAM-SHA-256</mechanism>", self.client.open())

    def test_no_login_in_the_clear(self) -> None:
        """A log-in in the clear is refused before anything is relayed."""
        callbridge = self.server.callbridge()
        self.client.authenticate()
        self.assertIn("<encryption-required/>", self.client.heard())
        self.assertEqual("", callbridge.heard())

    def test_bytes_after_starttls(self) -> None:
        """What follows STARTTLS in the clear closes the stream (RFC 6120 5.4.3.3)."""
        for tail in ("<auth", f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>eA==</auth>", "x"):
            self.setUp()
            self.client.say(f"<starttls xmlns='{ns.STARTTLS}'/>" + tail)
            self.assertIn("policy-violation", self.client.heard())
            self.assertTrue(self.client.lost)
            self.assertIsNone(self.client.transport.tls)

    def test_anything_else(self) -> None:
        """Anything else in the clear closes the stream."""
        self.client.say(BIND)
        self.assertIn("policy-violation", self.client.heard())

    def test_direct_tls(self) -> None:
        """On a direct listener TLS comes first (XEP-0368)."""
        client = self.server.client(NoTLS(), direct=True)
        self.assertIsInstance(client.transport.tls, NoTLS)
        self.server.callbridge()
        client.transport.handshake()
        self.assertIn("mechanisms", client.open())


class WaitingTests(SynchronousTestCase):
    """Step 1: a client that comes before the Callbridge waits for it."""

    def setUp(self) -> None:
        """A server without a Callbridge, and a client."""
        self.server = Server(wait=8.0, most_waiting=3)
        self.client = self.server.client()

    def assert_unserved(self, client: Peer, heard: str | None = None) -> None:
        """The stream ended with what real clients retry, and the text names step 1."""
        heard = client.heard() if heard is None else heard
        self.assertIn(f"<remote-connection-failed xmlns='{ns.STREAM_ERRORS}'/>", heard)
        self.assertIn("step 1 link-before-login", heard)
        self.assertIn(f"<no-callbridge xmlns='{ns.FAULT}' step='1'/>", heard)
        self.assertTrue(heard.endswith("</stream:stream>"), heard)
        self.assertNotIn("failure", heard)
        self.assertTrue(client.lost)

    def test_in_time(self) -> None:
        """The features come with the Callbridge, and are what it decides."""
        self.assertNotIn("features", self.client.open())
        self.server.clock.advance(7.5)
        self.assertEqual("", self.client.heard())
        registered = self.server.register()
        self.assertEqual("", self.client.heard())  # what it decides is not known yet
        (question,) = registered.received()
        registered.answer(question, lp.Mechanisms(("ANONYMOUS",)))
        heard = self.client.heard()
        self.assertEqual(["ANONYMOUS"], mechanisms(heard))
        self.client.authenticate("ANONYMOUS", b"t")
        self.assertEqual(1, len(registered.received()))

    def test_makes_no_room(self) -> None:
        """While it waits its listener does not push it out; afterwards it may again."""
        told: list[bool] = []
        self.client.stream.on_waiting = told.append
        self.client.open()
        self.assertEqual([True], told)
        self.server.callbridge()
        self.assertEqual([True, False], told)

    def test_too_late(self) -> None:
        """Nothing came: the stream ends, and nothing of it stays behind."""
        self.client.open()
        self.server.clock.advance(8.0)
        self.assert_unserved(self.client)
        self.assertEqual(0, len(self.server.waiting_room))
        self.assertEqual([], [c for c in self.server.clock.getDelayedCalls() if c.active()])

    def test_each_its_time(self) -> None:
        """Each waits as long, whenever it came."""
        self.client.open()
        self.server.clock.advance(5)
        later = self.server.client()
        later.open()
        self.server.clock.advance(3)
        self.assert_unserved(self.client)
        self.assertEqual("", later.heard())
        self.server.clock.advance(5)
        self.assert_unserved(later)

    def test_full(self) -> None:
        """More than may wait are sent away at once; a place that is left is free again."""
        clients = [self.server.client() for _ in range(3)]
        for client in clients:
            client.open()
        self.assert_unserved(self.client, self.client.open())
        clients[1].transport.lose()
        late = self.server.client()
        self.assertNotIn("error", late.open())
        self.server.callbridge()
        for client in (clients[0], clients[2], late):
            self.assertIn("<mechanism>PLAIN</mechanism>", client.heard())

    def test_nobody_is_expected(self) -> None:
        """Where no Callbridge is known, or nobody shall wait, the stream ends at once."""
        self.server.registry.secrets.clear()
        self.assert_unserved(self.client, self.client.open())
        self.server = Server(wait=0)
        client = self.server.client()
        self.assert_unserved(client, client.open())

    def test_lost_before_the_exchange(self) -> None:
        """A log-in that began while the Callbridge was lost is decided when it is back."""
        callbridge = self.server.callbridge()
        self.client.open()
        callbridge.transport.lose()
        self.client.authenticate()
        self.assertEqual("", self.client.heard())
        callbridge = self.server.callbridge()
        (stanza,) = callbridge.received()
        start = lp.parse(stanza.element.firstChildElement())
        assert isinstance(start, lp.Start)
        self.assertEqual(("PLAIN", b"\0alice\0x"), (start.mechanism, start.payload))
        callbridge.answer(stanza, lp.Success(start.exchange, f"alice@{DOMAIN}"))
        self.assertIn("<success", self.client.heard())

    def test_lost_for_long(self) -> None:
        """If it does not come back, the stream ends."""
        callbridge = self.server.callbridge()
        self.client.open()
        callbridge.transport.lose()
        self.client.authenticate()
        self.server.clock.advance(8)
        self.assert_unserved(self.client)

    def test_aborted(self) -> None:
        """A client that gives up meanwhile is told so, once, and may try again."""
        self.server.callbridge().transport.lose()
        callbridge = self.server.callbridge()
        self.client.open()
        callbridge.transport.lose()
        told: list[bool] = []
        self.client.stream.on_waiting = told.append
        self.client.authenticate()
        self.client.say(f"<abort xmlns='{ns.SASL}'/>")
        self.assertIn("<aborted/>", self.client.heard())
        self.assertEqual([True, False], told)  # its place is not kept any longer
        self.assertEqual(0, len(self.server.waiting_room))
        callbridge = self.server.callbridge()
        self.assertEqual([], callbridge.received())
        self.client.authenticate()
        self.assertEqual(1, len(callbridge.received()))

    def test_hasty(self) -> None:
        """Nothing is read before the features."""
        self.client.open()
        self.client.authenticate()
        self.assertIn("<policy-violation", self.client.heard())
        self.assertEqual(0, len(self.server.waiting_room))

    def test_bytes(self) -> None:
        """What they say meanwhile is bounded for all of them together."""
        self.assertFalse(self.server.waiting_room.wait(MOST_BYTES).called)
        self.assertFalse(self.successResultOf(self.server.waiting_room.wait(1)))

    def test_all_at_once(self) -> None:
        """A crowd is let in by the hundred, so that the Callbridge is not overrun."""
        self.server = Server(most_waiting=1_000)
        room = self.server.waiting_room
        there: list[bool] = []
        for _ in range(1_000):
            room.wait().addCallback(there.append)
        self.server.callbridge()
        seen = [len(there)]
        while len(room):
            self.server.clock.advance(PAUSE)
            seen.append(len(there))
        self.assertEqual(list(range(LET_IN, 1_001, LET_IN)), seen)
        self.assertEqual({True}, set(there))

    def test_lost_again(self) -> None:
        """Who has not been let in when the Callbridge is lost again waits on."""
        self.server = Server(most_waiting=1_000)
        ends = [self.server.waiting_room.wait() for _ in range(LET_IN + 1)]
        self.server.callbridge().transport.lose()
        self.server.clock.advance(PAUSE)
        self.assertFalse(ends[-1].called)
        self.server.clock.advance(8)
        self.assertFalse(self.successResultOf(ends[-1]))


class LoginTests(SynchronousTestCase):
    """RFC 6120 6, relayed."""

    def setUp(self) -> None:
        """A server with one Callbridge, and a client that may log in."""
        self.server = Server()
        self.callbridge = self.server.callbridge("cb1", ("SCRAM-SHA-256", "PLAIN"))
        self.client = self.server.client()
        self.features = self.client.open()

    def started(self) -> tuple[Stanza, lp.Start]:
        """The relayed start of the exchange."""
        (stanza,) = self.callbridge.received()
        message = lp.parse(stanza.element.firstChildElement())
        assert isinstance(message, lp.Start)
        return stanza, message

    def test_mechanisms(self) -> None:
        """What is offered is what the Callbridges decide; -PLUS needs TLS 1.3."""
        self.assertEqual(["SCRAM-SHA-256", "PLAIN"], mechanisms(self.features))
        self.server.callbridge("cb2", ("SCRAM-SHA-256-PLUS", "PLAIN", "ANONYMOUS"))
        offered = mechanisms(self.server.client().open())
        self.assertEqual(["SCRAM-SHA-256", "PLAIN", "ANONYMOUS"], offered)

    def test_guests_are_the_callbridges_business(self) -> None:
        """ANONYMOUS is never offered of the server's own accord, nor relayed then."""
        client = self.server.client()
        self.assertNotIn("ANONYMOUS", mechanisms(client.open()))
        client.authenticate("ANONYMOUS", b"trace")
        self.assertIn("<invalid-mechanism/>", client.heard())
        self.assertEqual("", self.callbridge.heard())

    def test_success(self) -> None:
        """The Callbridge's yes becomes success, and a resource can be bound."""
        self.client.authenticate("SCRAM-SHA-256", b"n,,n=alice,r=x")
        stanza, start = self.started()
        self.assertEqual(
            ("SCRAM-SHA-256", b"n,,n=alice,r=x", "198.51.100.9", None),
            (start.mechanism, start.payload, start.peer, start.channel_binding),
        )
        self.assertEqual((DOMAIN, CB1), (stanza.sender, stanza.to))
        self.callbridge.answer(stanza, lp.Challenge(start.exchange, b"r=xy"))
        self.assertEqual(f"<challenge xmlns='{ns.SASL}'>cj14eQ==</challenge>", self.client.heard())
        self.client.say(f"<response xmlns='{ns.SASL}'>Yz1i</response>")
        (second,) = self.callbridge.received()
        response = lp.parse(second.element.firstChildElement())
        self.assertEqual(lp.Response(start.exchange, b"c=b"), response)
        self.callbridge.answer(second, lp.Success(start.exchange, f"alice@{DOMAIN}", b"v=1"))
        self.assertEqual(f"<success xmlns='{ns.SASL}'>dj0x</success>", self.client.heard())
        self.assertIn(f"<bind xmlns='{ns.BIND}'/>", self.client.open())
        self.client.say(BIND)
        self.assertIn(f"<jid>alice@{DOMAIN}/", self.client.heard())
        begun = lp.parse(self.callbridge.received()[0].element.firstChildElement())
        self.assertIsInstance(begun, lp.SessionBegin)

    def test_bad_requests(self) -> None:
        """What is no proper step of SASL has its condition, and the stream goes on."""
        auth = f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>"
        for said, condition in (
            (auth + "%%%</auth>", "incorrect-encoding"),
            (auth + "eA=</auth>", "incorrect-encoding"),
            (auth + "e A==</auth>", "incorrect-encoding"),
            (auth.replace("PLAIN", "EXTERNAL") + "</auth>", "invalid-mechanism"),
            (f"<auth xmlns='{ns.SASL}'>eA==</auth>", "invalid-mechanism"),
            (f"<response xmlns='{ns.SASL}'/>", "malformed-request"),
            (f"<abort xmlns='{ns.SASL}'/>", "malformed-request"),
        ):
            self.setUp()
            self.client.say(said)
            self.assertIn(f"<{condition}/>", self.client.heard(), said)
            self.assertEqual("", self.callbridge.heard())
            self.assertFalse(self.client.lost)

    def test_not_offered(self) -> None:
        """A mechanism that a Callbridge knows but this connection cannot have is not relayed."""
        other = self.server.callbridge("cb2", ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"))
        client = self.server.client()
        self.assertNotIn("PLUS", client.open())
        client.authenticate("SCRAM-SHA-256-PLUS", b"p=tls-exporter,,n=alice,r=abc")
        self.assertIn("<invalid-mechanism/>", client.heard())
        self.assertEqual("", other.heard())

    def test_stanza_before_login(self) -> None:
        """A stanza before the log-in closes the stream with not-authorized."""
        self.client.say("<message to='x@y'/>")
        self.assertIn(
            "<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'", self.client.heard()
        )

    def test_refused(self) -> None:
        """The Callbridge's no is passed on, and the client may try again."""
        self.client.authenticate()
        stanza, start = self.started()
        self.callbridge.answer(stanza, lp.Failed(start.exchange, "not-authorized"))
        self.assertIn("<not-authorized/>", self.client.heard())
        self.client.authenticate()
        self.started()

    def test_not_for_ever(self) -> None:
        """After five refusals the stream is closed."""
        for _ in range(5):
            self.client.authenticate()
            stanza, start = self.started()
            self.callbridge.answer(stanza, lp.Failed(start.exchange, "account-disabled"))
        self.assertIn("policy-violation", self.client.heard())

    def test_abort(self) -> None:
        """A client that gives up is told so, and the Callbridge is."""
        self.client.authenticate("SCRAM-SHA-256")
        stanza, start = self.started()
        self.callbridge.answer(stanza, lp.Challenge(start.exchange, b"x"))
        self.client.heard()
        self.client.say(f"<abort xmlns='{ns.SASL}'/>")
        self.assertIn("<aborted/>", self.client.heard())
        (told,) = self.callbridge.received()
        self.assertEqual(lp.Abort(start.exchange), lp.parse(told.element.firstChildElement()))

    def test_abort_while_it_is_decided(self) -> None:
        """An answer that comes after an abort is not believed."""
        self.client.authenticate()
        stanza, start = self.started()
        self.client.say(f"<abort xmlns='{ns.SASL}'/>")
        self.client.heard()
        self.callbridge.answer(stanza, lp.Success(start.exchange, f"alice@{DOMAIN}"))
        self.assertEqual("", self.client.heard())

    def test_link_lost(self) -> None:
        """When the Callbridge is lost in the middle, the stream ends; the client returns."""
        self.client.authenticate("SCRAM-SHA-256")
        self.started()
        self.callbridge.transport.lose()
        heard = self.client.heard()
        self.assertIn("<remote-connection-failed ", heard)
        self.assertIn("<login-link-lost xmlns='urn:x-cms:fault:1' step='12'/>", heard)
        self.assertIn("step 12 login", heard)
        self.assertTrue(self.client.lost)

    def test_undecided(self) -> None:
        """When the Callbridge cannot decide, too; when it refuses for the time being, not."""
        self.client.authenticate()
        stanza, start = self.started()
        said = "the user directory cannot answer now"
        failed = lp.Failed(start.exchange, "temporary-auth-failure", said)
        self.callbridge.answer(stanza, failed)
        self.assertIn("<temporary-auth-failure/>", self.client.heard())
        self.client.authenticate()
        stanza, start = self.started()
        self.callbridge.answer(stanza, evolve(failed, exchange=start.exchange, undecided=True))
        heard = self.client.heard()
        self.assertIn("<remote-connection-failed ", heard)
        self.assertIn("<login-undecided xmlns='urn:x-cms:fault:1' step='12'/>", heard)
        self.assertIn(said, heard)
        self.assertTrue(self.client.lost)

    def test_slowed(self) -> None:
        """Who guessed too often is told for how long, in what programs can read."""
        self.client.authenticate()
        stanza, start = self.started()
        self.callbridge.answer(
            stanza, lp.Failed(start.exchange, "temporary-auth-failure", "wait", wait=300)
        )
        failure = one_stanza(self.client.heard()).element
        self.assertEqual("temporary-auth-failure", next(failure.elements()).name)
        self.assertEqual(ToldFault("login-slowed", 300, 12), of_mark(failure))

    def test_link_silent(self) -> None:
        """When it does not answer in time, too."""
        self.client.authenticate()
        self.started()
        self.server.clock.advance(15)
        self.assertIn("did not decide", self.client.heard())

    def test_nonsense_from_the_callbridge(self) -> None:
        """An answer that is none is a temporary failure and harms nobody."""
        for spoil in (
            lambda stanza, start: error_reply(stanza, StanzaError("service-unavailable")),
            lambda stanza, start: result_reply(stanza),
            lambda stanza, start: written_result(stanza, lp.Mechanisms(("PLAIN",)).to_xml()),
        ):
            self.setUp()
            self.client.authenticate()
            stanza, start = self.started()
            reply = spoil(stanza, start)
            assert reply is not None
            self.callbridge.say(reply.raw)
            self.assertIn(
                "<login-bad-answer xmlns='urn:x-cms:fault:1' step='12'/>", self.client.heard()
            )
            self.assertTrue(self.client.lost)

    def test_login_for_another_domain(self) -> None:
        """A Callbridge cannot make a client of another domain."""
        self.client.authenticate()
        stanza, start = self.started()
        self.callbridge.answer(stanza, lp.Success(start.exchange, "alice@other.example.com"))
        self.assertIn("internal-server-error", self.client.heard())
        self.assertTrue(self.client.lost)

    def test_client_goes_meanwhile(self) -> None:
        """A client that leaves while it is decided is forgotten, and the Callbridge told."""
        self.client.authenticate()
        stanza, start = self.started()
        self.client.transport.lose()
        (told,) = self.callbridge.received()
        self.assertEqual(lp.Abort(start.exchange), lp.parse(told.element.firstChildElement()))
        self.callbridge.answer(stanza, lp.Success(start.exchange, f"alice@{DOMAIN}"))
        self.assertEqual(0, len(self.server.sessions))

    def test_stays_with_its_callbridge(self) -> None:
        """New exchanges are spread; one that has begun stays."""
        other = self.server.callbridge("cb2", ("SCRAM-SHA-256",))
        seen = []
        for _ in range(4):
            client = self.server.client()
            client.open()
            client.authenticate("SCRAM-SHA-256")
            asked = [(peer, peer.received()) for peer in (self.callbridge, other)]
            ((peer, (stanza,)),) = [one for one in asked if one[1]]
            start = lp.parse(stanza.element.firstChildElement())
            assert isinstance(start, lp.Start)
            peer.answer(stanza, lp.Challenge(start.exchange, b"x"))
            client.say(f"<response xmlns='{ns.SASL}'>eA==</response>")
            self.assertEqual(1, len(peer.received()))
            seen.append(peer)
        self.assertEqual(2, seen.count(other))

    def test_refusals_are_no_concern_of_the_address(self) -> None:
        """Who guesses is known to the Callbridge; here nobody is made to wait for others."""
        for _ in range(50):
            client = self.server.client()
            client.open()
            client.authenticate()
            stanza, start = self.started()
            self.callbridge.answer(stanza, lp.Failed(start.exchange, "not-authorized"))
            self.assertIn("<not-authorized/>", client.transport.take())
            client.authenticate()  # and it may try again
            self.started()
            client.transport.lose()
            self.callbridge.received()


class BindTests(SynchronousTestCase):
    """RFC 6120 7."""

    def setUp(self) -> None:
        """A Callbridge."""
        self.server = Server()
        self.callbridge = self.server.callbridge()

    def logged_in(self) -> Peer:
        """A client that must bind."""
        client = self.server.client()
        client.open()
        client.authenticate()
        (stanza,) = self.callbridge.received()
        start = lp.parse(stanza.element.firstChildElement())
        assert isinstance(start, lp.Start)
        self.callbridge.answer(stanza, lp.Success(start.exchange, f"alice@{DOMAIN}"))
        client.heard()
        client.open()
        return client

    def test_fault_at_the_beginning(self) -> None:
        """A session whose beginning fails ends whole, and nobody hears of it."""
        client = self.logged_in()
        self.patch(client.stream, "on_trusted", lambda **_: 1 / 0)
        client.say(BIND)
        self.assertIn("internal-server-error", client.heard())
        self.assertTrue(client.lost)
        self.assertEqual(0, len(self.server.sessions))
        self.assertFalse(client.stream.party.is_open)
        self.assertEqual("", self.callbridge.heard())
        (fault,) = self.flushLoggedErrors()
        fault.trap(ZeroDivisionError)

    def test_stanza_before_bind(self) -> None:
        """Nothing else may come before."""
        client = self.logged_in()
        client.say("<presence/>")
        self.assertIn("not-authorized", client.heard())

    def test_chosen(self) -> None:
        """The resource that was asked for, prepared (7.7); without a wish the server's (7.6)."""
        for asked, bound in (
            ("desk", "desk"),
            ("\uff21b", "Ab"),  # RFC 6122 B: compatibility forms are one
            ("a/b@c", "a/b@c"),
            ("x" * 1023, "x" * 1023),
        ):
            self.callbridge.heard()
            client = self.logged_in()
            client.say(BIND.replace("/></iq>", f"><resource>{asked}</resource></bind></iq>"))
            self.assertIn(f"<jid>alice@{DOMAIN}/{bound}</jid>", client.heard())
        made = set()
        for bind in (BIND, BIND.replace("/></iq>", "><resource/></bind></iq>")) * 2:
            self.callbridge.heard()
            client = self.logged_in()
            client.say(bind)
            found = re.search(f"<jid>alice@{DOMAIN}/([0-9a-f]{{24}})</jid>", client.heard())
            assert found is not None
            made.add(found[1])
        self.assertEqual(4, len(made))

    def test_bad_resource(self) -> None:
        """A resource that does not prepare is refused, and another may be tried."""
        client = self.logged_in()
        client.say(BIND.replace("'/></iq>", f"'><resource>{'x' * 1100}</resource></bind></iq>"))
        self.assertIn("<error type='modify'><bad-request ", client.heard())
        client.say(BIND)
        self.assertIn("<jid>", client.heard())

    def test_notices_travel_together(self) -> None:
        """What begins and ends within a moment is told in one message, in its order."""
        clients = [self.server.bound(self.callbridge, name) for name in "abc"]
        for client in clients:
            client.say("</stream:stream>")
        self.assertEqual("", self.callbridge.transport.take())
        (told,) = self.callbridge.received()
        ends = tuple(lp.SessionEnd(f"{name}@{DOMAIN}/r", "closed") for name in "abc")
        self.assertEqual(lp.Sessions(ends), lp.parse(told.child))

    def test_notices_are_bounded(self) -> None:
        """A message that is full does not wait."""
        self.patch(lp, "MOST_NOTICES", 2)
        clients = [self.server.bound(self.callbridge, name) for name in "abc"]
        for client in clients:
            client.say("</stream:stream>")
        full, rest = self.callbridge.received()
        self.assertIsInstance(lp.parse(full.child), lp.Sessions)
        self.assertEqual(lp.SessionEnd(f"c@{DOMAIN}/r", "closed"), lp.parse(rest.child))

    def test_notices_of_long_addresses(self) -> None:
        """However long the clients' resources are, no message is too long for the link."""
        self.server.sessions.most_per_user = 200
        evil = "&quot;" + "&apos;" * 1018
        clients = [
            self.server.bound(self.callbridge, "a", f"{evil}{number:04}") for number in range(100)
        ]
        for client in clients:
            client.say("</stream:stream>")
        told = self.callbridge.received()
        self.assertLess(max(len(stanza.raw) for stanza in told), MOST_NOTICE_BYTES + 500)
        notices = [lp.parse(stanza.child) for stanza in told]
        ended = [n for m in notices for n in (m.notices if isinstance(m, lp.Sessions) else [m])]
        self.assertEqual(
            [client.handler.jid.full() for client in clients],
            [n.jid for n in ended if isinstance(n, lp.SessionEnd)],
        )
        self.assertEqual(len(clients), len(ended))

    def test_notices_and_a_lost_link(self) -> None:
        """What waits for a link that has gone is not told to the next."""
        client = self.server.bound(self.callbridge)
        client.say("</stream:stream>")
        self.callbridge.transport.lose()
        again = self.server.callbridge()
        self.assertEqual([], again.received())

    def test_conflict_replaces(self) -> None:
        """The same resource, bound anew, ends the older session (7.7.2.2)."""
        older = self.server.bound(self.callbridge)
        newer = self.server.bound(self.callbridge)
        self.assertIn("<conflict ", older.heard())
        self.assertEqual(lp.SessionEnd(f"alice@{DOMAIN}/r", "replaced"), self.server.told[0])
        self.assertIsInstance(self.server.told[1], lp.SessionBegin)
        older.say("</stream:stream>")
        self.assertEqual("", self.callbridge.heard())
        self.assertEqual([newer.handler], list(self.server.sessions))

    def test_too_many(self) -> None:
        """A user's resources are bounded."""
        self.server.sessions.most_per_user = 2
        self.server.bound(self.callbridge, resource="one")
        self.server.bound(self.callbridge, resource="two")
        client = self.logged_in()
        client.say(BIND)
        heard = client.heard()
        self.assertIn("<error type='wait'><resource-constraint ", heard)  # RFC 6120 7.6.2.1
        self.assertIn("id='b'", heard)


class SessionTests(SynchronousTestCase):
    """RFC 6120 8, RFC 6121: stanzas, presence, and how sessions end."""

    def setUp(self) -> None:
        """Alice with two resources and Bob, all logged in."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.alice = self.server.bound(self.callbridge, "alice", "r")
        self.phone = self.server.bound(self.callbridge, "alice", "phone")
        self.bob = self.server.bound(self.callbridge, "bob", "r")

    def test_message_to_full(self) -> None:
        """A message reaches the resource it names, stamped with its sender."""
        self.bob.say(f"<message to='alice@{DOMAIN}/r' type='chat'><body>x</body></message>")
        heard = self.alice.heard()
        self.assertIn(f"from='bob@{DOMAIN}/r'", heard)
        self.assertIn("<body>x</body>", heard)
        self.assertEqual("", self.phone.heard())

    def test_message_to_bare(self) -> None:
        """It goes to the available resources of the highest priority."""
        message = f"<message to='alice@{DOMAIN}' id='m'><body>x</body></message>"
        self.bob.say(message)
        self.assertIn("service-unavailable", self.bob.heard())
        self.alice.say("<presence><priority>5</priority></presence>")
        self.phone.say("<presence><priority>1</priority></presence>")
        for peer in (self.alice, self.phone):
            peer.heard()
        self.bob.say(message)
        self.assertIn("<body>x", self.alice.heard())
        self.assertEqual("", self.phone.heard())
        self.alice.say("<presence><priority>-1</priority></presence>")
        for peer in (self.alice, self.phone):
            peer.heard()
        self.bob.say(message)
        self.assertIn("<body>x", self.phone.heard())
        self.phone.say("<presence><priority>-2</priority></presence>")
        for peer in (self.alice, self.phone):
            peer.heard()
        self.bob.say(message)  # nobody wants it: RFC 6121 8.5.2.1.1
        self.assertIn("service-unavailable", self.bob.heard())
        self.assertEqual(("", ""), (self.alice.heard(), self.phone.heard()))

    def test_message_to_a_resource_that_left(self) -> None:
        """Chat goes to the others, a headline nowhere, a groupchat back."""
        self.alice.say("<presence/>")
        self.alice.heard()
        gone = f"to='alice@{DOMAIN}/gone' id='m'"
        self.bob.say(f"<message {gone} type='chat'><body>x</body></message>")
        self.assertIn("<body>x", self.alice.heard())
        self.bob.say(f"<message {gone} type='headline'><body>x</body></message>")
        self.assertEqual(("", ""), (self.alice.heard(), self.bob.heard()))
        self.bob.say(f"<message {gone} type='groupchat'><body>x</body></message>")
        self.assertIn("service-unavailable", self.bob.heard())

    def test_iq(self) -> None:
        """An IQ reaches a full address, and its answer comes back."""
        self.bob.say(f"<iq type='get' id='q' to='alice@{DOMAIN}/r'><x xmlns='urn:x'/></iq>")
        (question,) = self.alice.received()
        self.alice.say(result_reply(question).raw)
        (answer,) = self.bob.received()
        self.assertEqual(
            ("result", "q", f"alice@{DOMAIN}/r"), (answer.type, answer.id, answer.sender)
        )

    def test_iq_to_component_and_back(self) -> None:
        """A client speaks with a Callbridge over the same router."""
        self.bob.say(f"<iq type='get' id='q' to='{CB1}'><ping xmlns='{ns.PING}'/></iq>")
        (question,) = self.callbridge.received()
        self.callbridge.say(result_reply(question).raw)
        self.assertEqual("result", self.bob.received()[0].type)

    def test_own_account(self) -> None:
        """Roster, session, ping and disco of one's own account."""
        for query, kind in (
            (f"<query xmlns='{ns.ROSTER}'/>", "get"),
            (f"<session xmlns='{ns.SESSION}'/>", "set"),
            (f"<ping xmlns='{ns.PING}'/>", "get"),
            (f"<query xmlns='{ns.DISCO_INFO}'/>", "get"),
        ):
            for to in ("", f" to='bob@{DOMAIN}'"):
                self.bob.say(f"<iq type='{kind}' id='q'{to}>{query}</iq>")
                (reply,) = self.bob.received()
                self.assertEqual(("result", "q"), (reply.type, reply.id), query)
        self.bob.say(
            f"<iq type='set' id='q'><session xmlns='{ns.SESSION}'/></iq>".replace(
                "id='q'", f"id='q' to='{DOMAIN}'"
            )
        )
        self.assertEqual("result", self.bob.received()[0].type)

    def test_server_errors(self) -> None:
        """What the server does not know is answered with the right error."""
        for iq, condition in (
            ("<iq type='get' id='q'><x xmlns='urn:x'/></iq>", "service-unavailable"),
            (f"<iq type='set' id='q'><query xmlns='{ns.ROSTER}'/></iq>", "not-allowed"),
            ("<iq type='get' id='q'/>", "bad-request"),
            (
                f"<iq type='get' id='q' to='alice@{DOMAIN}'><query xmlns='{ns.DISCO_INFO}'/></iq>",
                "service-unavailable",
            ),
            ("<iq type='get' id='q' to='@'><x xmlns='urn:x'/></iq>", "jid-malformed"),
            ("<message id='q' to='x@example.org'/>", "remote-server-not-found"),
        ):
            self.bob.say(iq)
            (reply,) = self.bob.received()
            self.assertEqual(("error", "q"), (reply.type, reply.id), iq)
            self.assertIn(f"<{condition} ", reply.raw.decode())

    def test_forged_from(self) -> None:
        """Another's address ends the stream; one's own, full or bare, is fine."""
        for own in (f"bob@{DOMAIN}", f"bob@{DOMAIN}/r"):
            self.bob.say(f"<message from='{own}' to='alice@{DOMAIN}/r'/>")
            self.assertIn(f"from='bob@{DOMAIN}/r'", self.alice.heard())
        self.bob.say(f"<message from='alice@{DOMAIN}/r' to='alice@{DOMAIN}/r'/>")
        self.assertIn("<invalid-from ", self.bob.heard())
        self.assertEqual("", self.alice.heard())

    def test_presence(self) -> None:
        """Presence goes to all own resources; a newcomer learns of the others."""
        self.alice.say("<presence><show>away</show></presence>")
        self.assertIn("<show>away", self.alice.heard())
        self.assertEqual("", self.phone.heard())
        self.phone.say("<presence/>")
        self.assertIn(f"from='alice@{DOMAIN}/phone'", self.alice.heard())
        heard = self.phone.heard()
        self.assertIn(f"from='alice@{DOMAIN}/r'", heard)
        self.assertIn("<show>away", heard)
        self.phone.say("<presence type='unavailable'/>")
        self.assertIn("type='unavailable'", self.alice.heard())

    def test_presence_that_grows(self) -> None:
        """What is longer written than it was sent is no longer than any other stanza."""
        self.alice.say("<presence/>")
        self.alice.heard()
        children = "<n:q/>" * 2_000
        self.phone.say(f"<presence xmlns:n='urn:{'x' * 200}'>{children}</presence>")
        (error,) = self.phone.received()
        self.assertIn(b"<policy-violation ", error.raw)
        self.assertEqual("", self.alice.heard())
        self.assertIsNone(self.phone.handler.presence)

    def test_presence_is_kept_as_bytes(self) -> None:
        """What is kept has no tree, which may take a hundred times its bytes."""
        for tag in ("<presence>", "<presence  >"):  # the fast way, and the slow one
            self.alice.say(f"{tag}{'<q/>' * 1_000}<priority>1</priority></presence>")
            kept: Any = self.alice.handler.presence
            self.assertIsNone(kept._element)
            self.assertEqual(1, self.alice.handler.priority)
            self.assertIn(b"<q/><priority>1<", kept.raw)

    def test_directed_presence(self) -> None:
        """Whoever was sent presence is told when the session ends."""
        self.bob.say(f"<presence to='{CB1}'/><presence to='alice@{DOMAIN}/r'/>")
        self.callbridge.heard()
        self.assertIn("<presence", self.alice.heard())
        self.bob.transport.lose()
        self.assertIn("type='unavailable'", self.alice.heard())
        kinds = [s.type for s in self.callbridge.received()]
        self.assertIn("unavailable", kinds)

    def test_ends(self) -> None:
        """The Callbridge is told of the end, whatever way the session ended."""
        for end, reason in (
            (lambda peer: peer.say("</stream:stream>"), "closed"),
            (lambda peer: peer.transport.lose(), "lost"),
            (lambda peer: peer.say("<!-- -->"), "error"),
            (lambda peer: peer.say("<foo/>"), "error"),
            (lambda peer: (peer.handler.shut_down(), peer.transport.lose()), "shutdown"),
        ):
            self.setUp()
            end(self.bob)
            told = [
                lp.parse(s.element.firstChildElement())
                for s in self.callbridge.received()
                if s.name == "iq"
            ]
            self.assertEqual([lp.SessionEnd(f"bob@{DOMAIN}/r", reason)], told)
            self.assertEqual(2, len(self.server.sessions))

    def test_silent_client(self) -> None:
        """A client that answers nothing is dropped."""
        for _ in range(151):
            self.server.clock.advance(1)
        self.assertTrue(self.bob.lost)

    def test_ping_answer(self) -> None:
        """One that answers our ping stays."""
        self.server.clock.advance(60)
        (ping,) = self.bob.received()
        self.bob.say(result_reply(ping).raw)
        self.server.clock.advance(30)
        self.assertFalse(self.bob.lost)

    def test_new_link_is_told_of_sessions(self) -> None:
        """A Callbridge whose link comes up anew learns of the sessions that live on."""
        self.callbridge.transport.lose()
        again = self.server.callbridge()
        told = [lp.parse(s.element.firstChildElement()) for s in again.received()]
        self.assertEqual(
            {f"alice@{DOMAIN}/r", f"alice@{DOMAIN}/phone", f"bob@{DOMAIN}/r"},
            {t.jid for t in told if isinstance(t, lp.SessionBegin) and t.resumed},
        )

    def test_one_bad_peer_harms_nobody(self) -> None:
        """Whatever one client sends, the others go on."""
        for bad in (b"\xff", b"<iq></x>", b"<!DOCTYPE x>", b"<message>" + b"<a>" * 400):
            self.setUp()
            self.alice.say(bad)
            self.assertTrue(self.alice.lost)
            self.bob.say(f"<message to='alice@{DOMAIN}/phone'><body>x</body></message>")
            self.assertIn("<body>x", self.phone.heard())
