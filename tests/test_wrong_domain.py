"""A Callbridge with another domain than its XMPP server: each side says that it is the domain."""

from __future__ import annotations

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StanzaError

from cms import faults
from cms.callbridge.administration import CallbridgeAdministration
from cms.configuration.tomlfile import Secret
from cms.linkprotocol import login as lp
from cms.signalflow import Step, StepError
from cms.trust.identity import check_identity
from cms.trust.issue import CertificateAuthority
from cms.xmlstream import ns
from cms.xmlstream.replies import error_reply
from tests.support import header, stanzas
from tests.test_callbridge_link import World
from tests.test_callbridge_registration import RegistrationTests, error
from tests.xmppserver import DOMAIN, Server

HOST, OTHER = f"xmpp1.{DOMAIN}", "office.example.com"
CA = CertificateAuthority("test CA")


class CertificateTests(SynchronousTestCase):
    """Step 8: the host is right, the domain is not in the certificate."""

    def judged(self, *names: str, domain: str = OTHER, host: str = HOST) -> StepError:
        """What is said of a certificate with these names."""
        issued = CA.issue(names[0], list(names))
        leaf = x509.load_pem_x509_certificate(issued.certificate)
        error: StepError = self.assertRaises(
            faults.TrustError,
            check_identity,
            leaf,
            domain=domain,
            host=host,
            host_is_ip=False,
            peer="x",
        )
        return error

    def test_other_domain(self) -> None:
        """The domain that the certificate names is offered before a new certificate is."""
        said = self.judged(DOMAIN, HOST)
        self.assertEqual("identity-other-domain", said.fault)
        self.assertIn(f"perhaps the domain is {DOMAIN}.", said.cause)
        self.assertTrue(said.cure.startswith(f"If {DOMAIN} is the XMPP domain, correct domain"))
        self.assertIn(f"also holds DNS:{OTHER}", said.cure)
        self.assertEqual(f'domain = "{DOMAIN}"     # callbridge.toml', said.mend)

    def test_the_nearest(self) -> None:
        """Of several names the longest above the host."""
        said = self.judged("www.example.net", "example.com", DOMAIN, HOST)
        self.assertEqual(DOMAIN, said.evidence["other"])
        said = self.judged("localhost", DOMAIN, HOST, host="localhost")
        self.assertEqual(DOMAIN, said.evidence["other"])

    def test_no_other(self) -> None:
        """Where the certificate names the host alone, or by a wildcard, it is what lacks a name."""
        for names in ((HOST,), (HOST, f"*.{DOMAIN}")):
            self.assertEqual("identity-domain-missing", self.judged(*names).fault)
        said = self.judged(DOMAIN, HOST, host="xmpp9.example.net")
        self.assertEqual("identity-both-missing", said.fault)
        self.assertTrue(said.cure.startswith("Check domain here"))


class RefusedTests(RegistrationTests):
    """Step 10 on the Callbridge: the server does not know the address."""

    def refused(self, sender: str) -> StepError:
        """The server's header is from this domain."""
        self.setUp()
        opened = header(ns.COMPONENT, f" id='i1' from='{sender}'")
        self.world.say(opened + error("host-unknown"))
        return self.failure

    def test_served(self) -> None:
        """The server's own domain is told, and to be compared before anything is added."""
        said = self.refused(OTHER)
        self.assertEqual(("domain-mismatch", Step.REGISTERED), (said.fault, said.step))
        self.assertIn(f"serves the domain {OTHER}", said.cause)
        self.assertIn("correct domain", said.cure)
        self.assertEqual(f'domain = "{OTHER}"     # callbridge.toml', said.mend)

    def test_within(self) -> None:
        """Of the same domain it is the name that is not known; what is no domain says nothing."""
        for sender in (DOMAIN, f"cb1.{DOMAIN}", "", "x@y", "a b", "&quot;; rm -rf /", "$(reboot)"):
            said = self.refused(sender)
            self.assertEqual("unknown-id", said.fault, sender)
            self.assertNotIn("rm", said.mend)


class LinkTests(SynchronousTestCase):
    """Step 11 on the Callbridge: the link is up."""

    def setUp(self) -> None:
        """An active link, which has asked the domain."""
        self.world = World()
        self.world.link.start()
        self.world.find("x1.example.com")
        self.world.resolve()
        self.world.connected()
        self.world.accept()
        self.stream = self.world.streams[-1]
        sent = self.world.transports[-1].take().partition("</handshake>")[2]
        (self.ping,) = stanzas(sent, ns.COMPONENT)

    def answer(self, condition: str) -> None:
        """The server refuses the ping."""
        reply = error_reply(self.ping, StanzaError(condition))
        assert reply is not None
        self.world.say(reply.raw.replace(b"jabber:client", ns.COMPONENT.encode()))

    def health(self) -> tuple[bool, str]:
        """As C{/healthz} and C{cms status} have it."""

        class Daemon:
            link = self.world.link

        health = CallbridgeAdministration(Daemon(), None, self.world.clock).health()  # type: ignore[arg-type]
        return health.good, health.fault.fault if health.fault is not None else ""

    def test_not_served(self) -> None:
        """A server that does not serve the domain decides no log-in over this link."""
        self.assertEqual(DOMAIN, self.ping.to)
        self.answer("remote-server-not-found")
        self.assertEqual((False, "domain-not-served"), self.health())
        assert self.stream.unserved is not None
        self.assertIn(f"does not serve the domain {DOMAIN}", self.stream.unserved.cause)
        self.assertIn("Correct domain on this side", self.stream.unserved.cure)
        self.assertEqual("active", self.world.link.status()["state"])

    def test_served(self) -> None:
        """Any other answer, and none, says nothing against it."""
        for condition in ("service-unavailable", "feature-not-implemented", "not-allowed"):
            self.setUp()
            self.answer(condition)
            self.assertEqual((True, ""), self.health(), condition)
        self.setUp()
        self.world.clock.advance(self.stream.timing.ping_timeout)
        self.assertIsNone(self.stream.unserved)


class ServerTests(SynchronousTestCase):
    """What the XMPP server says of them."""

    def setUp(self) -> None:
        """One that knows an address outside its domain."""
        self.server = Server()
        self.server.registry.secrets[f"cb1.{OTHER}"] = (Secret("one"),)

    def test_unknown(self) -> None:
        """Step 10: an address of another domain is no forgotten Callbridge."""
        for address, fault in (
            (f"cb9.{OTHER}", "peer-other-domain"),
            (f"cb9.{DOMAIN}", "peer-unknown-id"),
            (f"x{DOMAIN}", "peer-other-domain"),
        ):
            heard = self.server.component().open(to=address, version="")
            self.assertIn("host-unknown", heard)
            self.assertIn(f"from='{DOMAIN}'", heard)
            attempt = max(self.server.flow.registrations(), key=lambda each: each.number)
            assert attempt.failure is not None
            self.assertEqual(
                (fault, Step.REGISTERED), (attempt.failure.fault, attempt.failure.step)
            )
            if fault == "peer-other-domain":
                self.assertIn(f"correct domain there to {DOMAIN}", attempt.failure.cure)

    def test_outside(self) -> None:
        """Step 11, and step 1 of whoever logs in: connected, and of no use to log-ins."""
        self.assertEqual("no-callbridge", self.server.links.nobody().fault)
        peer = self.server.component()
        peer.register(f"cb1.{OTHER}", "one")
        link = self.server.links.get(f"cb1.{OTHER}")
        assert link is not None
        assert link.no_authority is not None
        self.assertEqual("link-outside-domain", link.no_authority.fault)
        self.assertEqual(Step.ACTIVE, link.no_authority.step)
        nobody = self.server.links.nobody()
        self.assertEqual(("no-authority", Step.LINK_BEFORE_LOGIN), (nobody.fault, nobody.step))
        self.assertIn(f"not within the domain of this server, {DOMAIN}", nobody.cause)
        self.assertIn(f"correct domain there to {DOMAIN}", nobody.cure)
        client = self.server.client()
        client.open()
        self.server.clock.advance(8)
        heard = client.heard()
        self.assertIn("<no-authority ", heard)
        self.assertIn("step 1 link-before-login: What is connected", heard)

    def test_no_callbridge(self) -> None:
        """A component that does not know the question, and one that has not answered it."""
        peer = self.server.register("echo")
        (question,) = peer.received()
        refusal = error_reply(question, StanzaError("forbidden"))
        assert refusal is not None
        peer.say(refusal.raw.replace(b"jabber:client", ns.COMPONENT.encode()))
        nobody = self.server.links.nobody()
        self.assertIn('the question which it decides with "forbidden"', nobody.cause)
        self.assertIn(f"compare domain there with {DOMAIN}", nobody.cure)
        peer = self.server.register("cb1")
        (question,) = peer.received()
        peer.answer(question, lp.Mechanisms(("PLAIN",)))
        self.assertEqual(1, len(self.server.links.authorities))
