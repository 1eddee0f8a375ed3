"""SASL2 (XEP-0388) with Bind 2 (XEP-0386) and stream management in it (XEP-0198)."""

from __future__ import annotations

import base64
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cms.linkprotocol import login as lp
from cms.xmlstream import ns
from cms.xmlstream.replies import result_reply
from cms.xmpp import carbons, csi
from tests.support import stanzas
from tests.xmppserver import DOMAIN, Peer, Server, mechanisms

ALICE = f"alice@{DOMAIN}"
AGENT = "d4565fa7-4d72-4749-b3d3-740edbf87770"
USER_AGENT = f"<user-agent id='{AGENT}'><software>x</software><device>y</device></user-agent>"
SM = f"xmlns='{ns.MANAGEMENT}'"
ENABLE = f"<enable {SM} resume='true'/>"
INITIAL = "<initial-response>AGFsaWNlAHg=</initial-response>"
SASL2 = f"xmlns='{ns.SASL2}'"


def bind(inner: str = "<tag>x</tag>") -> str:
    """A request of Bind 2."""
    return f"<bind xmlns='{ns.BIND2}'>{inner}</bind>"


def authenticate(
    more: str = "", *, mechanism: str = "PLAIN", initial: str = INITIAL, agent: str = USER_AGENT
) -> str:
    """An C{authenticate} element, with all that follows the log-in."""
    return f"<authenticate {SASL2} mechanism='{mechanism}'>{initial}{agent}{more}</authenticate>"


def failure(condition: str, more: str = "") -> str:
    """How a log-in fails."""
    return f"<failure {SASL2}><{condition} xmlns='{ns.SASL}'/>{more}</failure>"


class Sasl2TestCase(SynchronousTestCase):
    """A server with a Callbridge that decides PLAIN and SCRAM."""

    resume_seconds = 60.0

    def setUp(self) -> None:
        """And a client that has read the features."""
        self.server = Server(resume=self.resume_seconds)
        self.callbridge = self.server.callbridge("cb1", ("SCRAM-SHA-256", "PLAIN"))
        self.client, self.features = self.connected()

    def connected(self, **header: str) -> tuple[Peer, str]:
        """Another client."""
        client = self.server.client()
        return client, client.open(**header)

    def asked(self) -> list[Any]:
        """The questions that the Callbridge has got about log-ins; it confirms the rest."""
        questions = []
        for stanza in self.callbridge.received():
            message = None if stanza.payload == (ns.PING, "ping") else lp.parse(stanza.child)
            if isinstance(message, (lp.Start, lp.Response)):
                questions.append((stanza, message))
            else:
                self.callbridge.say(result_reply(stanza).raw.decode())
        return questions

    def answer(self, kind: Any, *more: Any) -> None:
        """The Callbridge answers its one question."""
        ((stanza, message),) = self.asked()
        self.callbridge.answer(stanza, kind(message.exchange, *more))

    def log_in(self, more: str, client: Peer | None = None, **rest: Any) -> str:
        """Ask for this at the log-in, which succeeds; what the client hears."""
        client = client or self.client
        client.say(authenticate(more, **rest))
        self.answer(lp.Success, ALICE)
        return client.heard()

    def resources(self) -> list[str]:
        """What is bound."""
        return [str(session.jid.resource) for session in self.server.sessions.of(ALICE)]


class OfferTests(Sasl2TestCase):
    """The features, beside those of RFC 6120."""

    def test_offered(self) -> None:
        """The same mechanisms, and what may be asked for with them."""
        for namespace in (ns.SASL, ns.SASL2):
            self.assertEqual(["SCRAM-SHA-256", "PLAIN"], mechanisms(self.features, namespace))
        inline = (
            f"<inline><sm {SM}/><bind xmlns='{ns.BIND2}'><inline>"
            f"<feature var='{ns.MANAGEMENT}'/><feature var='{csi.NS}'/>"
            f"<feature var='{carbons.NS}'/></inline></bind></inline>"
        )
        self.assertIn(f"{inline}</authentication>", self.features)

    def test_not_in_the_clear(self) -> None:
        """Neither offered nor taken before TLS, where there is TLS; then it is."""
        client = self.server.client(tls=object())
        self.assertNotIn(ns.SASL2, client.open())
        for _ in range(self.server.clients.settings.most_login_tries):
            client.say(authenticate(bind()))
            self.assertEqual(failure("encryption-required"), client.heard())
        client.say(authenticate(bind()))
        self.assertIn("policy-violation", client.heard())
        self.assertEqual([], self.asked())

    def test_no_resumption(self) -> None:
        """Where no session can be resumed, that is not offered."""
        self.resume_seconds = 0.0
        self.setUp()
        self.assertNotIn(f"<sm {SM}/>", self.features)
        heard = self.log_in(bind(ENABLE))
        self.assertIn(f"<bound xmlns='{ns.BIND2}'><enabled {SM}/></bound>", heard)


class ExchangeTests(Sasl2TestCase):
    """The steps."""

    def test_bare(self) -> None:
        """Without C{bind} the features follow at once, and a resource is bound as ever."""
        heard = self.log_in("")
        self.assertEqual(
            f"<success {SASL2}><authorization-identifier>{ALICE}</authorization-identifier>"
            f"</success><stream:features><bind xmlns='{ns.BIND}'/>"
            f"<session xmlns='{ns.SESSION}'><optional/></session><sm {SM}/>"
            f"<csi xmlns='{csi.NS}'/></stream:features>",
            heard,
        )
        self.client.say(
            f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'><resource>r</resource></bind></iq>"
            "<presence>"
            + "<x xmlns='y'/>" * 100  # more than before the log-in
            + "</presence>"
        )
        self.assertIn(f"<jid>{ALICE}/r</jid>", self.client.heard())
        self.assertIsNotNone(self.server.sessions.of(ALICE)[0].presence)

    def test_steps(self) -> None:
        """Challenges, responses and the data of the success are passed on as they are."""
        self.client.say(authenticate(mechanism="SCRAM-SHA-256", initial=""))
        ((stanza, start),) = self.asked()
        self.assertEqual(("SCRAM-SHA-256", None), (start.mechanism, start.payload))
        self.callbridge.answer(stanza, lp.Challenge(start.exchange, b""))
        self.assertEqual(f"<challenge {SASL2}></challenge>", self.client.heard())
        for sent, payload in (("AA==", b"\0"), ("", b"")):
            self.client.say(f"<response {SASL2}>{sent}</response>")
            ((stanza, response),) = self.asked()
            self.assertEqual(payload, response.payload)
            self.callbridge.answer(stanza, lp.Challenge(start.exchange, b"\1"))
            self.assertEqual(f"<challenge {SASL2}>AQ==</challenge>", self.client.heard())
        self.client.say(f"<response {SASL2}/>")
        self.answer(lp.Success, ALICE, b"v=1")
        data = f"<success {SASL2}><additional-data>dj0x</additional-data>"
        self.assertTrue(self.client.heard().startswith(data))

    def test_empty_initial_response(self) -> None:
        """There is no C{=}: an empty element is an empty response."""
        self.client.say(authenticate(initial="<initial-response/>"))
        ((_, start),) = self.asked()
        self.assertEqual(b"", start.payload)

    def test_refused(self) -> None:
        """The condition of RFC 6120 in the new element; then either way may be tried."""
        self.client.say(authenticate(bind(ENABLE)))
        self.answer(lp.Failed, "not-authorized", "no")
        text = "<text xml:lang='en'>no</text>"
        self.assertEqual(failure("not-authorized", text), self.client.heard())
        self.assertEqual([], self.resources())
        self.client.authenticate()
        self.answer(lp.Failed, "not-authorized")
        self.assertIn(f"<failure xmlns='{ns.SASL}'><not-authorized", self.client.heard())
        self.assertIn("<bound", self.log_in(bind()))
        self.assertEqual(1, len(self.resources()))

    def test_not_for_ever(self) -> None:
        """Failed attempts of both ways count together."""
        for number in range(self.server.clients.settings.most_login_tries):
            self.assertFalse(self.client.lost)
            self.client.say(authenticate() if number % 2 else f"<auth xmlns='{ns.SASL}'/>")
            if number % 2:
                self.answer(lp.Failed, "not-authorized")
            heard = self.client.heard()
        self.assertIn("policy-violation", heard)

    def test_abort(self) -> None:
        """The client gives up; the Callbridge is told, and asked again."""
        self.client.say(authenticate(bind()))
        ((stanza, start),) = self.asked()
        self.client.say(f"<abort {SASL2}><text>x</text></abort>")
        self.assertEqual(failure("aborted"), self.client.heard())
        self.callbridge.answer(stanza, lp.Success(start.exchange, ALICE))
        self.assertEqual("", self.client.heard())
        self.assertEqual([], self.resources())
        self.assertIn("<bound", self.log_in(bind()))

    def test_unserved(self) -> None:
        """A Callbridge that is lost ends the stream, as in the old way."""
        self.client.say(authenticate(bind()))
        self.callbridge.transport.lose()
        self.assertIn("<remote-connection-failed", self.client.heard())
        self.assertTrue(self.client.lost)

    def test_leaves(self) -> None:
        """A client that leaves amid the exchange leaves nothing."""
        self.client.say(authenticate(bind(ENABLE)))
        ((stanza, start),) = self.asked()
        self.client.transport.lose()
        self.callbridge.answer(stanza, lp.Success(start.exchange, ALICE))
        self.assertEqual([], self.resources())

    def test_another_domain(self) -> None:
        """A Callbridge speaks for its server's domain only."""
        self.client.say(authenticate(bind()))
        self.answer(lp.Success, "alice@elsewhere.example")
        self.assertIn("internal-server-error", self.client.heard())
        self.assertEqual(0, len(self.server.sessions))

    def test_waits(self) -> None:
        """Without a Callbridge it waits for one, as the old way does."""
        self.callbridge.transport.lose()
        self.client.say(authenticate(bind()))
        self.assertEqual("", self.client.heard())
        self.callbridge = self.server.callbridge()
        self.answer(lp.Success, ALICE)
        self.assertIn("<bound", self.client.heard())


class BindTests(Sasl2TestCase):
    """Bind 2."""

    def test_bound(self) -> None:
        """All in one answer: the address, management, the features that are left."""
        heard = self.log_in(bind(f"<tag>x</tag>{ENABLE}"))
        (resource,) = self.resources()
        self.assertRegex(
            heard,
            f"^<success {SASL2}><authorization-identifier>{ALICE}/{resource}"
            f"</authorization-identifier><bound xmlns='{ns.BIND2}'>"
            rf"<enabled {SM} id='[\w-]+' resume='true' max='60'/></bound></success>"
            f"<stream:features><csi xmlns='{csi.NS}'/></stream:features>$",
        )
        self.assertRegex(resource, r"^x/[\w-]{12}$")
        self.client.say(f"<presence/><r {SM}/>")
        self.assertIn(f"<a {SM} h='1'/>", self.client.heard())

    def test_unmanaged(self) -> None:
        """What was not asked for is not enabled, and still offered."""
        heard = self.log_in(bind())
        self.assertIn(f"<bound xmlns='{ns.BIND2}'></bound></success>", heard)
        self.assertIn(f"<stream:features><sm {SM}/><csi", heard)
        self.client.say(ENABLE)
        self.assertIn("<enabled", self.client.heard())

    def test_told(self) -> None:
        """The Callbridge is told as of any session, once."""
        self.log_in(bind(ENABLE))
        (told,) = self.callbridge.received()
        (resource,) = self.resources()
        notice = lp.parse(told.child)
        assert isinstance(notice, lp.SessionBegin)
        self.assertEqual((f"{ALICE}/{resource}", "198.51.100.9"), (notice.jid, notice.peer))

    def test_copies(self) -> None:
        """The session gets copies from the beginning, with no answer to that (XEP-0280)."""
        heard = self.log_in(bind(f"<enable xmlns='{carbons.NS}'/>"))
        self.assertIn(f"<bound xmlns='{ns.BIND2}'></bound></success>", heard)
        other, _ = self.connected()
        self.log_in(bind(), other, agent="")
        other.say(f"<message type='chat' to='bob@{DOMAIN}'/>")
        self.assertIn(f"<sent xmlns='{carbons.NS}'>", self.client.heard())
        self.client.say(f"<message type='chat' to='bob@{DOMAIN}'/>")
        self.assertNotIn("<sent ", other.heard())

    def test_inactive(self) -> None:
        """The session begins inactive: presence waits."""
        self.log_in(bind(f"<inactive xmlns='{csi.NS}'/>"))
        (resource,) = self.resources()
        bob = self.server.bound(self.callbridge_confirmed(), "bob")
        bob.say(f"<presence to='{ALICE}/{resource}'/>")
        self.assertEqual("", self.client.heard())
        self.client.say(f"<active xmlns='{csi.NS}'/>")
        self.assertIn("<presence", self.client.heard())

    def callbridge_confirmed(self) -> Peer:
        """The Callbridge, which has read all."""
        self.asked()
        return self.callbridge

    def test_resources(self) -> None:
        """One installation has one resource for each tag and account; others have any."""
        resources = set()
        for tag, agent in (
            ("<tag>x</tag>", AGENT),
            ("<tag>x</tag>", AGENT.upper()),
            ("<tag>z</tag>", AGENT),
            ("", AGENT),
            ("<tag>x</tag>", ""),
            ("<tag>x</tag>", "b" * 36),
            ("<tag>x</tag>", "h" * 4000),
            ("<tag>x</tag>", "00000000-0000-1000-8000-00000000feed"),  # of a host, not of chance
        ):
            self.setUp()
            self.log_in(bind(tag), agent=f"<user-agent id='{agent}'/>")
            (resource,) = self.resources()
            self.assertNotIn(AGENT[:8], resource)
            resources.add(resource)
        self.assertEqual(7, len(resources))
        stable = {r.rpartition("/")[2] for r in resources}
        self.assertEqual(5, len(stable))

    def test_accounts_are_apart(self) -> None:
        """That two accounts are one installation's cannot be seen."""
        self.log_in(bind())
        (first,) = self.resources()
        client, _ = self.connected()
        client.say(authenticate(bind()))
        self.answer(lp.Success, f"bob@{DOMAIN}")
        client.heard()
        (other,) = self.server.sessions.of(f"bob@{DOMAIN}")
        self.assertNotEqual(first, other.jid.resource)

    def test_bad_tag(self) -> None:
        """A tag that is no resource is left out; what is escaped is told as it is."""
        for tag in ("\u0378", "x" * 1020, " \u0000".strip("\0")):
            self.setUp()
            self.assertIn("<bound", self.log_in(bind(f"<tag>{tag}</tag>")))
            self.assertRegex(self.resources()[0], r"^( /)?[\w-]{12}$")
        self.setUp()
        heard = self.log_in(bind("<tag>&lt;a&amp;b/c</tag>"))
        self.assertIn(f"<authorization-identifier>{ALICE}/&lt;a&amp;b/c/", heard)

    def test_replaced(self) -> None:
        """An earlier session of the installation ends, whatever its tag; no other does."""
        other, _ = self.connected()
        self.log_in(bind(), other, agent="")
        self.log_in(bind("<tag>x</tag>" + ENABLE))
        second, _ = self.connected()
        self.log_in(bind("<tag>z</tag>"), second)
        self.assertIn("<conflict", self.client.heard())
        self.assertTrue(self.client.lost)
        third, _ = self.connected()
        self.log_in(bind("<tag>z</tag>"), third)
        self.assertIn("<conflict", second.heard())
        self.assertFalse(other.lost)
        self.assertEqual(2, len(self.resources()))
        self.assertEqual(2, len(set(self.resources())))

    def test_replaced_while_away(self) -> None:
        """So does one that waits to be resumed, and its stanzas are answered for."""
        self.log_in(bind(ENABLE))
        (resource,) = self.resources()
        self.client.transport.lose()
        bob = self.server.bound(self.callbridge_confirmed(), "bob")
        bob.say(f"<message to='{ALICE}/{resource}' id='m'><body>x</body></message>")
        second, _ = self.connected()
        self.log_in(bind(), second)
        self.assertEqual(1, len(self.resources()))
        self.assertEqual(0, self.server.clients.resumptions.away)
        self.assertIn("type='error'", bob.heard())

    def test_most_resources(self) -> None:
        """One too many is not bound, and told so when it asks; one's own place is there."""
        self.server.sessions.most_per_user = 2
        self.log_in(bind())
        self.log_in(bind(), self.connected()[0], agent="")
        third, _ = self.connected()
        heard = self.log_in(bind(ENABLE), third, agent="")
        self.assertNotIn("<bound", heard)
        self.assertIn(f"<authorization-identifier>{ALICE}</authorization-identifier>", heard)
        self.assertIn(f"<bind xmlns='{ns.BIND}'/>", heard)
        third.say(f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>")
        self.assertIn("<resource-constraint", third.heard())
        again, _ = self.connected()
        self.assertIn("<bound", self.log_in(bind("<tag>y</tag>" + ENABLE), again))
        self.assertEqual(2, len(self.resources()))
        again.transport.lose()  # who is away makes room
        self.assertIn("<bound", self.log_in(bind(), self.connected()[0], agent=""))
        self.assertEqual(2, len(self.resources()))


class ResumeTests(Sasl2TestCase):
    """A session that goes on with the log-in."""

    def setUp(self) -> None:
        """Alice manages her stream, and has lost her connection; Bob has written to her."""
        super().setUp()
        heard = self.log_in(bind(ENABLE))
        (self.previd,) = re.findall(r" id='([\w-]+)'", heard)
        (self.resource,) = self.resources()
        self.client.say("<presence/>")
        self.asked()
        self.bob = self.server.bound(self.callbridge, "bob")
        self.client.heard()
        self.client.transport.lose()
        self.bob.say(f"<message to='{ALICE}/{self.resource}' id='m'><body>x</body></message>")

    def resume(self, handled: object = 0, previd: str = "") -> str:
        """The element."""
        return f"<resume {SM} h='{handled}' previd='{previd or self.previd}'/>"

    def test_resumed(self) -> None:
        """The answer, what waited, and nothing else: no features, no other resource."""
        client, _ = self.connected()
        heard = self.log_in(self.resume() + bind(ENABLE), client)
        success, _, rest = heard.partition("</success>")
        self.assertEqual(
            f"<success {SASL2}><authorization-identifier>{ALICE}/{self.resource}"
            f"</authorization-identifier><resumed {SM} previd='{self.previd}' h='1'/>",
            success,
        )
        self.assertEqual(["m"], [s.id for s in stanzas(rest, ns.CLIENT) if s.name == "message"])
        self.assertNotIn("features", rest)
        self.assertEqual([self.resource], self.resources())
        client.say(f"<message to='bob@{DOMAIN}/r' id='n'/>")
        self.assertIn("id='n'", self.bob.heard())

    def test_in_one_piece(self) -> None:
        """Success, what comes again, what waited and the request leave together."""
        for number in range(20):
            self.bob.say(f"<message to='{ALICE}/{self.resource}' id='m{number}'/>")
        client, _ = self.connected()
        written = client.writes()
        self.log_in(self.resume(), client)
        (whole,) = written
        heard = whole.decode()
        self.assertTrue(heard.startswith(f"<success {SASL2}>"), heard)
        self.assertEqual(["m", *(f"m{n}" for n in range(20))], re.findall(r" id='(m\d*)'", heard))
        self.assertTrue(heard.endswith(f"<r {SM}/>"), heard)

    def test_failed_then_bound(self) -> None:
        """If that cannot be, why is told, and a resource is bound."""
        for asked, condition in (
            (self.resume(previd="other"), "item-not-found"),
            (self.resume(handled="x"), "bad-request"),
            (f"<resume {SM} h='0'/>", "bad-request"),
        ):
            client, _ = self.connected()
            heard = self.log_in(asked + bind(ENABLE), client, agent="")
            failed = f"<failed {SM}><{condition} xmlns='{ns.STANZAS}'/></failed>"
            self.assertIn(f"</authorization-identifier>{failed}<bound", heard)
        self.assertEqual(4, len(self.resources()))

    def test_ended_then_bound(self) -> None:
        """Of a session that has ended it is told what it had handled."""
        self.server.clock.advance(61.0)
        client, _ = self.connected()
        heard = self.log_in(self.resume() + bind(), client)
        self.assertIn(f"<failed {SM} h='1'><item-not-found", heard)
        self.assertIn("<bound", heard)

    def test_failed_alone(self) -> None:
        """Without C{bind} a resource may be asked for, or another session resumed."""
        client, _ = self.connected()
        heard = self.log_in(self.resume(previd="other"), client)
        self.assertIn("<item-not-found", heard)
        self.assertIn(f"<bind xmlns='{ns.BIND}'/>", heard)
        client.say(self.resume())
        self.assertIn("<resumed", client.heard())

    def test_somebody_elses(self) -> None:
        """Another account's session is not there."""
        client, _ = self.connected()
        client.say(authenticate(self.resume() + bind()))
        self.answer(lp.Success, f"bob@{DOMAIN}")
        heard = client.heard()
        self.assertIn(f"<failed {SM}><item-not-found", heard)
        self.assertIn(f"<authorization-identifier>bob@{DOMAIN}/x/", heard)
        self.assertEqual(1, self.server.clients.resumptions.away)

    def test_not_before_success(self) -> None:
        """A log-in that fails resumes nothing, and ends nothing."""
        client, _ = self.connected()
        client.say(authenticate(self.resume() + bind()))
        self.answer(lp.Failed, "not-authorized")
        self.assertEqual(failure("not-authorized"), client.heard())
        self.assertEqual(1, self.server.clients.resumptions.away)

    def test_too_many(self) -> None:
        """Who has more than was sent is sent away, and the session stays."""
        client, _ = self.connected()
        heard = self.log_in(self.resume(5) + bind(), client)
        self.assertIn("handled-count-too-high", heard)
        self.assertNotIn("<success", heard)
        self.assertTrue(client.lost)
        self.assertEqual(1, self.server.clients.resumptions.away)
        self.assertIn("<resumed", self.log_in(self.resume(0), self.connected()[0]))

    def test_while_connected(self) -> None:
        """The old connection ends with C{conflict}."""
        first, _ = self.connected()
        self.log_in(self.resume(), first)
        second, _ = self.connected()
        self.assertIn("<resumed", self.log_in(self.resume(1), second))
        self.assertIn("<conflict", first.heard())


class HostileTests(Sasl2TestCase):
    """What a client must not say."""

    def test_malformed(self) -> None:
        """What cannot be read, or can be read in two ways, fails and asks nobody."""
        for said, condition in (
            (authenticate(mechanism="GSSAPI"), "invalid-mechanism"),
            (f"<authenticate {SASL2}/>", "invalid-mechanism"),
            (authenticate(initial="<initial-response>%</initial-response>"), "incorrect-encoding"),
            (authenticate(INITIAL), "malformed-request"),
            (authenticate(USER_AGENT), "malformed-request"),
            (authenticate(bind() * 2), "malformed-request"),
            (authenticate(f"<resume {SM} h='0' previd='x'/>" * 2), "malformed-request"),
        ):
            client, _ = self.connected()
            client.say(said)
            self.assertEqual(failure(condition), client.heard())
            self.assertEqual([], self.asked())
            self.assertIn("<bound", self.log_in(bind(), client))

    def test_unknown(self) -> None:
        """What is not known is passed over."""
        unknown = "<a xmlns='urn:example'/><upgrade/><a xmlns='urn:example'><b/></a>"
        heard = self.log_in(unknown + bind(unknown + ENABLE))
        self.assertIn("<enabled", heard)

    def test_out_of_order(self) -> None:
        """During the exchange there are responses and an end, and nothing else."""
        for said in (
            authenticate(),
            "<presence/>",
            f"<challenge {SASL2}/>",
            f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'/>",
            f"<response xmlns='{ns.SASL}'/>",
        ):
            client, _ = self.connected()
            client.say(authenticate(bind()) + said)
            self.assertIn(
                "<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'", client.heard()
            )
            self.assertTrue(client.lost)
            self.asked()
        self.assertEqual([], self.resources())

    def test_response_out_of_turn(self) -> None:
        """A response that nobody has asked for ends the exchange."""
        self.client.say(authenticate(bind()) + f"<response {SASL2}>AA==</response>")
        self.assertEqual(failure("malformed-request"), self.client.heard())
        self.asked()
        client, _ = self.connected()
        client.say(f"<response {SASL2}/>")
        self.assertIn("not-authorized", client.heard())
        self.assertTrue(client.lost)

    def test_again(self) -> None:
        """A log-in within a log-in ends the stream, before and after binding."""
        for more in ("", bind()):
            client, _ = self.connected()
            self.log_in(more, client)
            client.say(authenticate())
            self.assertIn("<stream:error>", client.heard())
            self.assertTrue(client.lost)
            self.assertEqual([], self.asked())

    def test_stanzas_before_success(self) -> None:
        """Nothing that comes before the success is believed."""
        self.client.say(authenticate(bind()) + f"<message to='bob@{DOMAIN}'/>")
        self.assertTrue(self.client.lost)
        self.asked()
        self.assertEqual([], self.resources())

    def test_half_a_stanza(self) -> None:
        """What begins before the success and ends after it is one stanza, wherever it is cut."""
        stanza = f"<message to='bob@{DOMAIN}/r' id='n'><body>x</body></message>"
        bob = self.server.bound(self.callbridge, "bob")
        for cut in (1, 5, len(stanza) - 1):
            client, _ = self.connected()
            client.say(authenticate(bind(ENABLE)) + stanza[:cut])
            self.answer(lp.Success, ALICE)
            self.assertIn("<bound", client.heard())
            client.say(stanza[cut:] + f"<r {SM}/>")
            self.assertIn(f"<a {SM} h='1'/>", client.heard())
            self.assertEqual(["n"], [s.id for s in bob.received() if s.name == "message"])
            self.asked()

    def test_too_much(self) -> None:
        """More elements, depth or bytes than an unknown client may send end the stream."""
        for inner in ("<x/>" * 40, "<x>" * 10 + "</x>" * 10, f"<tag>{'x' * 9000}</tag>"):
            client, _ = self.connected()
            client.say(authenticate(bind(inner)))
            self.assertIn("<policy-violation", client.heard())
            self.assertTrue(client.lost)
        self.assertEqual([], self.asked())

    def test_another_identity(self) -> None:
        """An authorization identity must be that of the header, if there is one."""
        for mechanism, payload in (
            ("PLAIN", f"{ALICE}\0alice\0x"),
            ("SCRAM-SHA-256", f"n,a={ALICE},n=alice,r=x"),
        ):
            text = base64.b64encode(payload.encode()).decode()
            initial = f"<initial-response>{text}</initial-response>"
            for claimed, right in (
                (f"bob@{DOMAIN}", False),
                ("@", False),
                (ALICE, True),
                ("", True),
            ):
                client, _ = self.connected(**{"from": claimed})
                heard = self.log_in(bind(), client, mechanism=mechanism, initial=initial)
                self.assertEqual(right, "<bound" in heard, (mechanism, claimed))
                if not right:
                    self.assertEqual(failure("invalid-authzid"), heard)
        client, _ = self.connected(**{"from": f"bob@{DOMAIN}"})
        self.assertIn("<bound", self.log_in(bind(), client))  # it names nobody


PARTS = st.lists(
    st.sampled_from(
        (
            *("", INITIAL, USER_AGENT, bind(), bind(ENABLE), bind(f"<inactive xmlns='{csi.NS}'/>")),
            *(f"<resume {SM} h='0' previd='x'/>", ENABLE, "<x xmlns='y'/>", "<initial-response/>"),
        )
    ),
    max_size=4,
).map("".join)
SAID = st.one_of(
    PARTS.map(lambda parts: f"<authenticate {SASL2} mechanism='PLAIN'>{parts}</authenticate>"),
    st.sampled_from(
        (
            *(f"<response {SASL2}>AA==</response>", f"<response {SASL2}>%</response>"),
            *(f"<abort {SASL2}/>", f"<auth xmlns='{ns.SASL}' mechanism='PLAIN'>AA==</auth>"),
            *(f"<response xmlns='{ns.SASL}'/>", "<presence/>", ENABLE, " ", "</stream:stream>"),
            f"<iq type='set' id='b'><bind xmlns='{ns.BIND}'/></iq>",
        )
    ),
)
ANSWERS = st.sampled_from(("success", "challenge", "failed", "none", "lost"))


class AnyOrderTests(Sasl2TestCase):
    """Whatever is said, in any order."""

    @given(st.lists(st.tuples(SAID, ANSWERS), max_size=8))
    def test_any_order(self, steps: list[tuple[str, str]]) -> None:
        """
        No error of ours; one exchange and one session at most; nothing bound but after a
        success; all that is said is well-formed; nothing is left when the client is gone.
        """
        self.setUp()
        heard, successes = "", 0
        for said, answer in steps:
            if self.client.lost:
                break
            self.client.say(said)
            questions = self.asked()
            self.assertLessEqual(len(questions), 1)
            for stanza, message in questions:
                if answer == "lost":
                    self.client.transport.lose()
                kind, more = {
                    "challenge": (lp.Challenge, (b"x",)),
                    "failed": (lp.Failed, ("not-authorized",)),
                }.get(answer, (lp.Success, (ALICE,)))
                successes += kind is lp.Success and answer == "success"
                if answer != "none":
                    self.callbridge.answer(stanza, kind(message.exchange, *more))
            heard += self.client.heard()
            self.asked()
            self.assertLessEqual(len(self.server.sessions), min(1, successes))
            self.assertEqual(heard.count("<bound"), min(1, heard.count("<bound")))
        body = heard.replace("</stream:stream>", "").rpartition("<?xml")[2].partition("?>")[2]
        self.assertNotIn("internal-server-error", body)
        stanzas(re.sub("<stream:stream[^>]*>", "", body), ns.CLIENT)
        self.client.transport.lose()
        self.server.clock.advance(61.0)
        self.assertEqual(0, len(self.server.sessions))
        self.assertEqual(0, self.server.clients.resumptions.away)
        self.assertEqual([], self.flushLoggedErrors())
