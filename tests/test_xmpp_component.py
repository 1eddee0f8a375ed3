"""Steps 9 to 11 on the XMPP server: who may register, and how others are refused."""

from __future__ import annotations

import gc
import hashlib
import hmac
import re
import weakref
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.logger import LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cms.configuration.tomlfile import Secret
from cms.process.logs import Logger
from cms.signalflow import Step
from cms.xmlstream import limits, ns
from cms.xmlstream.flow import SEND_LIMITS
from cms.xmlstream.replies import result_reply
from cms.xmpp.componentlink import ComponentLink
from cms.xmpp.registry import Registry
from cms.xmpp.router import Router
from cms.xmpp.undelivered import A_TURN
from tests.support import header, one_stanza, stanzas
from tests.xmppserver import DOMAIN, Peer, Server

CB1 = f"cb1.{DOMAIN}"


class RegistrationTests(SynchronousTestCase):
    """XEP-0114 as a table of transcripts."""

    def setUp(self) -> None:
        """A server without links."""
        self.server = Server()

    def refused(self, peer: Peer, condition: str) -> None:
        """The stream ended with this condition and the peer is not registered."""
        heard = peer.heard()
        self.assertIn(f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'", heard)
        self.assertTrue(heard.endswith("</stream:stream>"), heard)
        self.assertTrue(peer.lost)
        self.assertEqual([], self.server.clock.getDelayedCalls())

    def test_registers(self) -> None:
        """The right secret for a known ID is answered with a handshake."""
        peer = self.server.component()
        heard = peer.open(to=CB1, version="")
        self.assertIn(f"from='{CB1}'", heard)
        self.assertIn("xmlns='jabber:component:accept'", heard)
        peer = self.server.component()
        peer.register(CB1, "one")
        self.assertIs(peer.handler, self.server.links.get(CB1))

    def test_refusals(self) -> None:
        """Each bad header or handshake is told apart."""
        right = f" to='{CB1}'"
        for said, condition in (
            (header(ns.COMPONENT, f" to='nobody.{DOMAIN}'"), "host-unknown"),
            (header(ns.COMPONENT, f" to='{DOMAIN}'"), "host-unknown"),
            (header(ns.COMPONENT), "improper-addressing"),
            (header(ns.COMPONENT, " to='@'"), "host-unknown"),
            (header(ns.CLIENT, right), "invalid-namespace"),
            (header("urn:other", right), "invalid-namespace"),
            (header(ns.COMPONENT, right).replace(b"etherx", b"other"), "invalid-namespace"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not-well-formed"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "not-well-formed"),
            (b"<!DOCTYPE x []>", "restricted-xml"),
            (header(ns.COMPONENT, right) + b"<handshake/>", "not-authorized"),
            (header(ns.COMPONENT, right) + b"<handshake>00</handshake>", "not-authorized"),
            (header(ns.COMPONENT, right) + "<handshake>é</handshake>".encode(), "not-authorized"),
            (header(ns.COMPONENT, right) + b"<iq type='get' id='1'/>", "not-authorized"),
            (header(ns.COMPONENT, right) + b"<handshake>" + b"0" * 9000, "policy-violation"),
            (header(ns.COMPONENT, right) + b"<a><b/><b/>" * 20, "policy-violation"),
        ):
            self.setUp()
            peer = self.server.component()
            peer.say(said)
            self.refused(peer, condition)
            self.assertEqual(0, len(self.server.links))

    def test_digest_in_pieces(self) -> None:
        """It does not matter in how many reads the proof comes."""
        peer = self.server.component()
        peer.open(to=CB1, version="")
        digest = hashlib.sha1((peer.stream_id + "one").encode()).hexdigest()
        peer.say(f"<handshake>{digest[:7]}")
        peer.say(f"{digest[7:]}</handshake>")
        self.assertIn("<handshake/>", peer.heard())

    def test_digest_case(self) -> None:
        """Upper-case hexadecimal digits are as good."""
        peer = self.server.component()
        peer.open(to=CB1, version="")
        digest = hashlib.sha1((peer.stream_id + "one").encode()).hexdigest().upper()
        peer.say(f"<handshake>{digest}</handshake>")
        self.assertIn("<handshake/>", peer.heard())

    def test_constant_time(self) -> None:
        """The proof is compared by C{hmac.compare_digest}, and with every secret."""
        compared: list[tuple[bytes, bytes]] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        self.patch(hmac, "compare_digest", compare)
        self.server.components.registry.secrets[CB1] = (Secret("one"), Secret("other"))
        self.server.component().register(CB1, "one")
        self.assertEqual(2, len(compared))

    def test_silence(self) -> None:
        """A peer that does not register in time is closed."""
        for said in (b"", header(ns.COMPONENT, f" to='{CB1}'")):
            peer = self.server.component()
            peer.say(said)
            self.server.clock.advance(self.server.components.settings.register_timeout)
            self.refused(peer, "connection-timeout")

    def test_guessing_is_slowed_then_refused(self) -> None:
        """Failures from one address take ever longer, and then are not heard at all."""
        waits = []
        for _ in range(10):
            peer = self.server.component("203.0.113.5")
            peer.say(header(ns.COMPONENT, f" to='{CB1}'") + b"<handshake>0</handshake>")
            waited = 0.0
            while not peer.lost and waited < 20:
                self.server.clock.advance(0.25)
                waited += 0.25
            waits.append(waited)
        self.assertEqual([0.0, 0.0], waits[:2])
        self.assertEqual(sorted(waits), waits)
        self.assertEqual(8.0, waits[-1])
        peer = self.server.component("203.0.113.5")
        peer.say(header(ns.COMPONENT, f" to='{CB1}'"))
        heard = peer.heard()
        self.assertIn("too many failures", heard)
        self.assertIn("<peer-refused xmlns='urn:x-cms:fault:1' seconds='260' step='10'/>", heard)
        self.server.component("203.0.113.6").register(CB1, "one")
        self.server.clock.advance(300)
        self.assertNotIn("too many", self.server.component("203.0.113.5").open(to=CB1))

    def test_unknown_ids_are_guesses(self) -> None:
        """Who names an unknown component again and again is not heard any more."""
        said = header(ns.COMPONENT, f" to='cb9.{DOMAIN}'")
        heard = []
        for _ in range(11):
            peer = self.server.component("203.0.113.5")
            peer.say(said)
            self.server.clock.advance(8.0)
            heard.append(peer.heard())
        self.assertEqual([True] * 10 + [False], ["host-unknown" in each for each in heard])
        self.assertIn("too many failures", heard[-1])

    def test_a_guesser_keeps_nobody_out(self) -> None:
        """One component's wrong secrets stand against no other, nor its own usual place."""
        self.server.component("203.0.113.5").register(CB1, "one")
        link = self.server.links.get(CB1)
        assert link is not None
        link.replace()
        for host, name in (("203.0.113.5", f"cb2.{DOMAIN}"), ("203.0.113.6", CB1)):
            for _ in range(15):
                peer = self.server.component(host)
                peer.say(header(ns.COMPONENT, f" to='{name}'") + b"<handshake>0</handshake>")
                self.server.clock.advance(8.0)
        self.assertIn("too many", self.server.component("203.0.113.6").open(to=CB1))
        self.server.component("203.0.113.5").register(CB1, "one")

    def test_rotated_secret(self) -> None:
        """While a secret is rotated both are accepted."""
        registry = self.server.components.registry
        registry.secrets[CB1] = (Secret("old"), Secret("new"))
        for secret in ("old", "new"):
            peer = self.server.component()
            peer.register(CB1, secret)
            peer.transport.lose()

    def test_no_secret_in_repr(self) -> None:
        """A secret does not show itself."""
        self.assertNotIn("one", repr(self.server.components.registry.secrets))


class ConflictTests(SynchronousTestCase):
    """A second link for the same address (issue: probe first)."""

    def setUp(self) -> None:
        """One link, and another that proves the same secret."""
        self.server = Server()
        self.older = self.server.register()
        self.older.received()
        self.newer = self.server.component()
        heard = self.newer.open(to=CB1, version="")
        stream_id = re.search("id='([^']*)'", heard)[1]  # type: ignore[index]
        digest = hashlib.sha1((stream_id + "one").encode()).hexdigest()
        self.newer.say(f"<handshake>{digest}</handshake>")

    def test_older_is_alive(self) -> None:
        """An older link that answers stays; the newcomer gets conflict."""
        (ping,) = self.older.received()
        self.assertEqual("", self.newer.heard())
        self.older.say(result_reply(ping).raw)
        self.assertIn("<conflict", self.newer.heard())
        self.assertTrue(self.newer.lost)
        self.assertIs(self.older.handler, self.server.links.get(CB1))

    def test_older_is_dead(self) -> None:
        """An older link that says nothing is replaced."""
        self.server.clock.advance(self.server.components.settings.probe_timeout)
        self.assertIn("<handshake/>", self.newer.heard())
        self.assertTrue(self.older.lost)
        self.assertIs(self.newer.handler, self.server.links.get(CB1))

    def test_older_goes_meanwhile(self) -> None:
        """An older link that ends while it is probed makes room at once."""
        self.older.transport.lose()
        self.assertIn("<handshake/>", self.newer.heard())
        self.assertIs(self.newer.handler, self.server.links.get(CB1))

    def test_newer_goes_meanwhile(self) -> None:
        """A newcomer that leaves while the older is probed changes nothing."""
        self.newer.transport.lose()
        self.server.clock.advance(self.server.components.settings.probe_timeout)
        self.assertFalse(self.older.lost)
        self.assertIs(self.older.handler, self.server.links.get(CB1))

    def test_impatience(self) -> None:
        """Stanzas before the answer are refused."""
        self.newer.say("<iq type='get' id='x'/>")
        self.assertIn("not-authorized", self.newer.heard())
        self.server.clock.advance(self.server.components.settings.probe_timeout)
        self.assertIs(self.older.handler, self.server.links.get(CB1))


class ActiveTests(SynchronousTestCase):
    """Step 11: an active link is watched, and speaks only for itself."""

    def setUp(self) -> None:
        """Two components."""
        self.server = Server()
        self.one = self.server.register("cb1")
        self.two = self.server.register("cb2")
        self.one.received()
        self.two.received()

    def test_stanzas_pass(self) -> None:
        """A stanza from one component reaches the other as it is."""
        self.one.say(f"<message from='a@{CB1}' to='b@cb2.{DOMAIN}'><body>x</body></message>")
        self.assertEqual(
            f"<message from='a@{CB1}' to='b@cb2.{DOMAIN}'><body>x</body></message>",
            self.two.heard(),
        )

    def test_long_stanza(self) -> None:
        """Once registered, a component may send more than a stranger."""
        body = "x" * (2 * limits.UNAUTHENTICATED.stanza_bytes)
        self.one.say(f"<message to='cb2.{DOMAIN}'><body>{body}</body></message>")
        self.assertIn(body, self.two.heard())
        self.assertFalse(self.one.lost)

    def test_undeliverable_presence(self) -> None:
        """That presence cannot be delivered is told of what announces somebody, no other."""
        for kind in ("unavailable", "error", "probe"):
            self.one.say(f"<presence type='{kind}' to='echo.{DOMAIN}'/>")
            self.assertEqual("", self.one.heard(), kind)
        self.one.say(f"<presence to='echo.{DOMAIN}'/>")
        self.assertIn("service-unavailable", self.one.heard())

    def test_forged_from(self) -> None:
        """A stanza from somebody else's address ends the stream and is not delivered."""
        for forged in (f"cb2.{DOMAIN}", DOMAIN, f"alice@{DOMAIN}", "@", f"x.{CB1}"):
            self.setUp()
            self.one.say(f"<message from='{forged}' to='cb2.{DOMAIN}'/>")
            self.assertIn("<invalid-from", self.one.heard())
            self.assertEqual("", self.two.heard())

    def test_missing_from_is_stamped(self) -> None:
        """A stanza without a from is the component's own."""
        self.one.say(f"<message to='cb2.{DOMAIN}'/>")
        self.assertIn(f"from='{CB1}'", self.two.heard())

    def test_undeliverable(self) -> None:
        """Whoever cannot be reached, the sender is told."""
        for to, condition in (
            (f"echo.{DOMAIN}", "service-unavailable"),
            ("elsewhere.example.org", "remote-server-not-found"),
            ("@", "jid-malformed"),
            (f"nobody@{DOMAIN}", "service-unavailable"),
            (f"nobody@{DOMAIN}/r", "service-unavailable"),
        ):
            for kind in ("<message id='1'", "<iq type='get' id='1'"):
                self.one.say(
                    f"{kind} from='{CB1}' to='{to}'><x xmlns='urn:x'/></{kind[1:].split()[0]}>"
                )
                (reply,) = self.one.received()
                self.assertEqual(("error", "1", CB1), (reply.type, reply.id, reply.to))
                self.assertIn(condition, reply.raw.decode(), to)

    def test_errors_are_not_answered(self) -> None:
        """An error, or an answer, that cannot be delivered vanishes."""
        for kind in (
            "<message type='error'",
            "<iq type='result' id='1'",
            "<iq type='error' id='1'",
        ):
            self.one.say(f"{kind} from='{CB1}' to='nobody.example.org'/>")
        self.assertEqual("", self.one.heard())

    def test_server_answers(self) -> None:
        """The server answers ping, disco and version itself, with or without a to."""
        for to in (f" to='{DOMAIN}'", ""):
            for query in (
                f"<ping xmlns='{ns.PING}'/>",
                f"<query xmlns='{ns.DISCO_INFO}'/>",
                f"<query xmlns='{ns.DISCO_ITEMS}'/>",
                f"<query xmlns='{ns.VERSION}'/>",
            ):
                self.one.say(f"<iq type='get' id='7' from='{CB1}'{to}>{query}</iq>")
                (reply,) = self.one.received()
                self.assertEqual(("result", "7"), (reply.type, reply.id), query)

    def test_silent_link_is_dropped(self) -> None:
        """A component that once answered pings and falls silent is dropped in under 30 s."""
        self.server.clock.advance(8)
        (ping,) = self.one.received()
        self.one.say(result_reply(ping).raw)
        for _ in range(29):
            self.server.clock.advance(1)
        self.assertTrue(self.one.lost)
        self.assertIsNone(self.server.links.get(CB1))

    def test_silent_stranger_is_kept(self) -> None:
        """A component that has never answered an IQ is left to TCP."""
        for _ in range(60):
            self.server.clock.advance(1)
        self.assertFalse(self.two.lost)

    def test_not_a_stanza(self) -> None:
        """Something else than a stanza ends the stream."""
        self.one.say("<foo/>")
        self.assertIn("unsupported-stanza-type", self.one.heard())

    def test_shut_down(self) -> None:
        """On our stop the stream is closed with system-shutdown."""
        self.one.handler.shut_down()
        heard = self.one.heard()
        self.assertIn("<system-shutdown", heard)
        self.assertTrue(heard.endswith("</stream:stream>"))

    def test_events_in_any_order(self) -> None:
        """After the end of a stream, nothing that still arrives does harm."""
        link = self.one.handler
        self.one.transport.lose()
        assert isinstance(link, ComponentLink)
        self.one.stream.dataReceived(b"<message/>")
        link.send(one_stanza("<presence/>"))
        self.assertEqual([], self.flushLoggedErrors())


class EndTests(SynchronousTestCase):
    """The end of a stream is finished, whatever fails in it."""

    def setUp(self) -> None:
        """A server without links."""
        self.server = Server()

    def fail_once(self, *told: object) -> None:
        """Something that fails."""
        raise ZeroDivisionError

    def test_of_a_link(self) -> None:
        """The address is free, the next listeners are told, nobody waits for ever."""
        peer = self.server.component()
        peer.register(CB1, "one")
        peer.heard()
        waiting = peer.handler.probe()
        told: list[str] = []
        self.server.links.on_down.insert(0, self.fail_once)
        self.server.links.on_down.append(lambda link: told.append(link.component))
        for collaborator, name in (
            (self.server.router, "forget"),
            (peer.handler, "_let_go"),
            (peer.handler, "_tell_end"),
        ):
            self.patch(collaborator, name, self.fail_once)
        peer.transport.lose()
        self.assertEqual([CB1], told)
        self.assertIsNone(self.server.links.get(CB1))
        self.assertFalse(self.successResultOf(waiting))
        self.successResultOf(peer.stream.ended)
        self.assertEqual([], self.server.clock.getDelayedCalls())
        (attempt,) = self.server.flow.registrations()
        self.assertIsNone(attempt.running)
        self.assertEqual(4, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_of_an_attempt(self) -> None:
        """It does not run for ever."""
        peer = self.server.component()
        self.patch(peer.handler, "done", self.fail_once)
        peer.transport.lose()
        (attempt,) = self.server.flow.registrations()
        self.assertEqual(["skipped"], [record.result for record in attempt.records])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_nothing_keeps_it(self) -> None:
        """An ended link is freed at once, and does not wait for the garbage collector."""
        self.patch(ComponentLink, "log", Logger(observer=LogPublisher()))
        peer = self.server.component()
        peer.register(CB1, "one")
        gone = weakref.ref(peer.handler)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        peer.transport.lose()
        peer.transport.protocol = peer.transport.producer = None  # as TCP's are
        del peer
        self.assertIsNone(gone())


class UndeliveredTests(SynchronousTestCase):
    """What waited for a component when its link ended: each sender is told of each stanza."""

    def setUp(self) -> None:
        """Alice writes to echo, which reads nothing."""
        self.server = Server()
        self.callbridge = self.server.callbridge()
        self.echo = self.server.register("echo")
        self.alice = self.server.bound(self.callbridge)
        self.echo.heard()
        self.echo.transport.stop_reading()
        for number in range(40):
            self.alice.say(
                f"<message to='x@echo.{DOMAIN}' id='m{number}'><body>{'x' * 9_000}</body></message>"
                f"<iq type='get' to='echo.{DOMAIN}' id='q{number}'><q xmlns='urn:x'/></iq>"
                f"<presence to='x@echo.{DOMAIN}' id='p{number}'/>"
                f"<iq type='result' to='echo.{DOMAIN}' id='r{number}'/>"
            )

    def assert_accounted(self) -> None:
        """What was not written came back, in order, if it may be answered; nothing twice."""
        arrived = [stanza.id for stanza in self.echo.received()]
        back = self.alice.received()
        self.assertEqual({"error"}, {stanza.type for stanza in back})
        for stanza in back:
            self.assertIn("<recipient-unavailable", stanza.raw.decode())
        told = [stanza.id for stanza in back]
        self.assertGreater(len(told), 10)
        said = [f"{kind}{number}" for number in range(40) for kind in "mq"]
        self.assertEqual(said, [i for i in arrived if i in said] + told)

    def test_lost(self) -> None:
        """The connection broke."""
        self.echo.transport.lose(ConnectionLost())
        self.assert_accounted()
        self.assertIsNone(self.server.links.get(f"echo.{DOMAIN}"))

    def test_never_reads(self) -> None:
        """It read nothing for too long."""
        self.server.clock.advance(SEND_LIMITS.patience)
        self.server.clock.advance(SEND_LIMITS.stall_timeout - SEND_LIMITS.patience)
        self.assertTrue(self.echo.lost)
        self.assert_accounted()

    def test_in_parts(self) -> None:
        """Much is given back over some turns of the reactor."""
        for number in range(3 * A_TURN):
            self.alice.say(f"<message to='x@echo.{DOMAIN}' id='n{number}'/>")
        self.echo.transport.lose(ConnectionLost())
        at_once = len(stanzas(self.alice.transport.take(), ns.CLIENT))
        self.assertLessEqual(at_once, A_TURN)
        self.server.clock.pump([0] * 5)
        later = [stanza.id for stanza in self.alice.received()]
        self.assertEqual(f"n{3 * A_TURN - 1}", later[-1])


class UnexpectedTests(SynchronousTestCase):
    """An error of this program is told at the step where it happened, and ends one stream."""

    def told(self, server: Server) -> tuple[Step, str]:
        """The failure of the only attempt."""
        (attempt,) = server.flow.registrations()
        assert attempt.failure is not None
        self.assertIn("KeyError", attempt.failure.cause)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        return attempt.failure.step, attempt.failure.fault

    def test_each_step(self) -> None:
        """While the header, the proof and what a link carries are read."""
        for method, step in (("__contains__", Step.REGISTER), ("proved", Step.REGISTERED)):
            server = Server()
            patch = self.patch(Registry, method, broken)
            peer = server.component()
            peer.say(header(ns.COMPONENT, f" to='{CB1}'") + b"<handshake>0</handshake>")
            patch.restore()
            self.assertEqual((step, "internal"), self.told(server))
            self.assertIn("internal-server-error", peer.heard())
            self.assertTrue(peer.lost)

    def test_link(self) -> None:
        """On a link that is up."""
        server = Server()
        callbridge = server.callbridge()
        self.patch(Router, "route", broken)
        callbridge.say(f"<message from='{CB1}' to='{DOMAIN}'><body/></message>")
        self.assertEqual((Step.ACTIVE, "internal"), self.told(server))
        self.assertIn("internal-server-error", callbridge.heard())


def broken(*_: object) -> Any:
    """What nobody thought of."""
    raise KeyError("bug")
