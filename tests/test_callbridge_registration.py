"""Steps 7 to 10 on the Callbridge: what the server says, and what becomes of it."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.config import Timing
from cms.callbridge.link import registration
from cms.signalflow import Attempt, Step, StepError
from cms.trust.client import ServerVerification
from cms.xmlstream import limits, ns
from cms.xmlstream.stanza import Stanza
from tests.support import MemoryTransport, header
from tests.test_callbridge_link import COMPONENT, World

ID = header(ns.COMPONENT, " id='i1'")


def error(condition: str, text: str = "") -> bytes:
    """A stream error."""
    inside = f"<text xmlns='{ns.STREAM_ERRORS}'>{text}</text>" if text else ""
    return (
        f"<stream:error><{condition} xmlns='{ns.STREAM_ERRORS}'/>{inside}</stream:error>"
        "</stream:stream>"
    ).encode()


class RegistrationTests(SynchronousTestCase):
    """A link at step 9, with a server that says what the test lets it say."""

    def setUp(self) -> None:
        """TLS is done, our header is sent."""
        self.world = World()
        self.world.link.start()
        self.world.find("x1.example.com")
        self.world.resolve()
        self.transport: MemoryTransport = self.world.connected()

    @property
    def attempt(self) -> Attempt:
        """The newest."""
        attempt = self.world.link.history.last
        assert attempt is not None
        return attempt

    @property
    def failure(self) -> StepError:
        """Of the newest attempt."""
        failure = self.attempt.failure
        assert failure is not None
        return failure


class TranscriptTests(RegistrationTests):
    """Wire transcripts: the server's bytes, the fault and its step."""

    TABLE: tuple[tuple[bytes, str, int], ...] = (
        (ID + error("not-authorized"), "wrong-secret", 10),
        (ID + error("host-unknown"), "unknown-id", 10),
        (ID + error("conflict"), "already-connected", 10),
        (ID + error("policy-violation", "slow down"), "registration-rejected", 10),
        (ID + error("internal-server-error"), "registration-rejected", 10),
        (header(ns.COMPONENT) + error("host-unknown"), "unknown-id", 10),
        (header(ns.COMPONENT) + error("host-gone"), "register-rejected", 9),
        (header(ns.COMPONENT) + error("system-shutdown"), "register-rejected", 9),
        (header(ns.CLIENT, " id='i1'"), "register-not-xmpp", 9),
        (b"<stream xmlns='jabber:component:accept' id='i1'>", "register-not-xmpp", 9),
        (b"welcome\r\n", "register-not-xmpp", 9),
        (b"<?xml version='1.0'?><!DOCTYPE x><x>", "register-not-xmpp", 9),
        (ID + b"<handshake", "registered-silent", 10),
        (ID + b"</stream:stream>", "registered-closed", 10),
        (header(ns.COMPONENT) + b"</stream:stream>", "register-closed", 9),
        (header(ns.COMPONENT) + b"<handshake/>", "register-not-xmpp", 9),
    )

    def wait(self) -> None:
        """Until the server is given up, if that has not happened yet."""
        if not self.transport.lost:
            self.world.clock.advance(self.world.core.backoff.timing.stage)

    def test_table(self) -> None:
        """Each way of refusing ends as its own fault, at its step, and the link tries again."""
        for said, fault, step in self.TABLE:
            self.setUp()
            self.world.say(said)
            self.wait()
            self.assertEqual((fault, step), (self.failure.fault, int(self.failure.step)), said)
            self.assertTrue(self.transport.lost, said)
            self.assertEqual([], self.world.up, said)
            self.assertEqual("waiting", self.world.link.status()["state"], said)

    def test_byte_by_byte(self) -> None:
        """The same bytes in pieces mean the same."""
        for said, fault, _ in self.TABLE:
            self.setUp()
            for number in range(len(said)):
                if not self.transport.lost:
                    self.world.say(said[number : number + 1])
            self.wait()
            self.assertEqual(fault, self.failure.fault, said)

    def test_strangers(self) -> None:
        """What a peer is that answers the stream header with another protocol (in one piece)."""
        for said, fault in (
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "register-http"),
            (b"<!DOCTYPE html><html>", "register-http"),
            (b"<html></html>", "register-http"),
            (b"\x15\x03\x03\x00\x02\x02\x46", "register-other-service"),
            (b"SSH-2.0-x\r\n", "register-other-service"),
        ):
            self.setUp()
            self.world.say(said)
            self.wait()
            self.assertEqual(fault, self.failure.fault, said)
            self.assertTrue(self.failure.evidence["heard"])

    def test_no_handshake_before_the_proof(self) -> None:
        """A server that accepts before it gave a stream ID has checked no secret."""
        self.world.say(header(ns.COMPONENT) + b"<handshake/>")
        self.assertEqual([], self.world.up)

    def test_too_much_before_registration(self) -> None:
        """Before step 10 a server is read no further than a stranger is."""
        self.world.say(ID)
        self.world.say(b"<x>" + b"y" * limits.UNAUTHENTICATED.stanza_bytes)
        self.assertTrue(self.transport.lost)
        self.assertEqual("register-not-xmpp", self.failure.fault)

    def test_more_afterwards(self) -> None:
        """After it, a long stanza passes."""
        self.world.register()
        body = "y" * (limits.UNAUTHENTICATED.stanza_bytes * 2)
        self.world.say(f"<message from='a@b' to='{COMPONENT}'><body>{body}</body></message>")
        self.assertEqual(1, len(self.world.stanzas))
        self.assertFalse(self.transport.lost)

    def test_nothing_before_registration_is_believed(self) -> None:
        """A stanza before the server accepted us reaches nobody."""
        for said in (
            f"<message from='a@b' to='{COMPONENT}'/>",
            "<stream:features/>",
            "<handshake xmlns='urn:x'/>",
            "<accepted/>",
        ):
            self.setUp()
            self.world.say(ID + said.encode())
            self.assertEqual([], self.world.stanzas)
            self.assertEqual([], self.world.up, said)
            self.assertFalse(self.transport.lost)

    def test_server_words(self) -> None:
        """What a server says is shown on one line, and not without end."""
        self.world.say(ID + error("internal-server-error", "first\nsecond " + "x" * 4_000))
        self.assertIn("first second", self.failure.cause)
        self.assertNotIn("\n", self.failure.cause)
        self.assertLess(len(self.failure.cause), 500)

    def test_secret_is_nowhere(self) -> None:
        """Neither the record nor a text of the stream shows the secret or its proof."""
        world = World()
        world.core.settings = world.settings(secret=world.settings().secret.__class__("s3cret"))
        world.link.start()
        world.find("x1.example.com")
        world.resolve()
        transport = world.connected()
        world.say(ID)
        proof = transport.take().rpartition("<handshake>")[2].partition("<")[0]
        self.assertEqual(40, len(proof))
        world.say(error("not-authorized"))
        attempt = world.link.history.last
        assert attempt is not None
        shown = f"{attempt.as_dict()} {attempt!r} {world.core!r} {world.link.status()}"
        self.assertNotIn("s3cret", shown)
        self.assertNotIn(proof, shown)


class AlertTests(RegistrationTests):
    """In TLS 1.3 the server refuses our certificate when our handshake is long complete."""

    def alert(self, words: str) -> SSL.Error:
        """As OpenSSL reports it."""
        return SSL.Error([("SSL routines", "", words)])

    def test_certificate_refused(self) -> None:
        """Such an alert is a failure of step 7, whenever it arrives."""
        for said in (b"", header(ns.COMPONENT), ID):
            self.setUp()
            self.world.say(said)
            self.transport.lose(self.alert("tlsv13 alert certificate required"))
            self.assertEqual("tls-client-certificate-required", self.failure.fault)
            self.assertIs(Step.TLS, self.failure.step)

    def test_own_certificate_refused(self) -> None:
        """With a certificate of ours, it is that certificate that was refused."""
        self.world.streams[0].presents = True
        self.transport.lose(self.alert("tlsv1 alert unknown ca"))
        self.assertEqual("tls-client-certificate-refused", self.failure.fault)

    def test_other_alerts(self) -> None:
        """Another alert is what it is, at the step where it arrived."""
        self.transport.lose(self.alert("tlsv1 alert internal error"))
        self.assertEqual("register-closed", self.failure.fault)
        self.assertIn("internal error", self.failure.cause)

    def test_active(self) -> None:
        """On an active link it is the link that was lost."""
        self.world.register()
        self.transport.lose(self.alert("tlsv1 alert unknown ca"))
        self.assertEqual("link-lost", self.failure.fault)


class RecordTests(RegistrationTests):
    """What the attempt shows of each step."""

    def test_steps_are_begun_and_ended(self) -> None:
        """The step that runs is the one that is being waited for."""
        running = self.attempt.running
        assert running is not None
        self.assertIs(Step.REGISTER, running.step)
        self.world.say(ID)
        running = self.attempt.running
        assert running is not None
        self.assertIs(Step.REGISTERED, running.step)

    def test_times(self) -> None:
        """Each step's time is its own."""
        self.world.clock.advance(2)
        self.world.say(ID)
        self.world.clock.advance(3)
        self.world.say(b"<handshake/>")
        seconds = {int(r.step): r.seconds for r in self.attempt.records}
        self.assertEqual((0.0, 2.0, 3.0), (seconds[7], seconds[9], seconds[10]))

    def test_socket(self) -> None:
        """TCP is told to watch the connection as well, once it has won its race."""
        watched: list[object] = []
        self.patch(registration, "watch_socket", lambda *seen: watched.append(seen))
        self.setUp()
        self.assertEqual([(self.transport, 20.0)], watched)

    def test_deadline_is_for_each_stage(self) -> None:
        """A server that is slow, but within the time at each stage, is accepted."""
        timing = self.world.core.backoff.timing
        self.world.clock.advance(timing.stage - 1)
        self.world.say(ID)
        self.world.clock.advance(timing.stage - 1)
        self.world.say(b"<handshake/>")
        self.world.answer_ping()
        self.world.clock.advance(2)
        self.assertEqual("active", self.world.link.status()["state"])

    def test_unprotected_steps(self) -> None:
        """Without TLS there is no step 8, and step 9 follows step 7."""
        world = World(unprotected=True)
        world.link.start()
        world.activate()
        attempt = world.link.history.last
        assert attempt is not None
        self.assertEqual([7, 9, 10, 11], [int(r.step) for r in attempt.records if r.step > 6])

    def test_one_report(self) -> None:
        """However many things go wrong at the end, one failure is reported."""
        self.world.say(ID + error("not-authorized"))
        self.transport.lose(ConnectionLost())
        self.assertEqual(1, sum(r.result == "failed" for r in self.attempt.records))


class OtherNameTests(SynchronousTestCase):
    """A certificate without the names, from a server that may have another (SNI)."""

    def setUp(self) -> None:
        """A stream at step 7; C{looks} are the handshakes under another name that it wants."""
        self.failures: list[StepError] = []
        self.looks: list[tuple[ServerVerification, str, int]] = []
        self.looking: Deferred[bool] = Deferred()
        self.begin("x1.example.com")

    def begin(self, host: str) -> None:
        """A new stream to that host."""
        self.verification = ServerVerification(
            SSL.Context(SSL.TLS_METHOD),
            domain="example.com",
            host=host,
            host_is_ip=False,
            peer=host,
        )
        self.stream = registration.ComponentRegistration(
            *(Clock(), World.settings(), Timing(), self.verification, self),
            peer=host,
            presents=False,
            look=self.look,
        )
        self.transport = MemoryTransport("192.0.2.9", 5223)
        self.transport.connect(self.stream)
        self.stream.begin()

    def look(self, verification: ServerVerification, address: str, port: int) -> Deferred[bool]:
        """Remember it."""
        self.looks.append((verification, address, port))
        return self.looking

    def stage_begun(self, step: Step) -> None:
        """From the stream."""

    def stage_passed(self, evidence: dict[str, str], *warnings: StepError) -> None:
        """From the stream."""

    def registration_failed(self, error: StepError) -> None:
        """From the stream."""
        self.failures.append(error)

    def registered(self) -> None:
        """From the stream."""

    def received(self, stanza: Stanza) -> None:
        """From the stream."""

    def resumed(self) -> None:
        """Nothing."""

    def not_resumed(self) -> None:
        """Nothing."""

    def link_broken(self, error: StepError) -> None:
        """Nothing."""

    def link_ended(self, error: StepError) -> None:
        """From the stream."""

    def refuse(self, fault: faults.Fault) -> StepError:
        """The certificate is refused, and the connection ends."""
        refused = fault.error(peer="x1", names="DNS:x1", missing="example.com", wanted="", **SEEN)
        self.verification.verdict.error = refused
        self.transport.lose(ConnectionLost())
        return refused

    def test_fits(self) -> None:
        """It is looked at once, where the first one was, and told when that is known."""
        refused = self.refuse(faults.IDENTITY_DOMAIN_MISSING)
        ((verification, *at),) = self.looks
        self.assertEqual(["192.0.2.9", 5223], at)
        self.assertEqual(("x1.example.com", "example.com"), (verification.host, verification.sni))
        self.assertEqual([], self.failures)
        self.looking.callback(True)
        (failure,) = self.failures
        self.assertEqual("identity-other-sni", failure.fault)
        self.assertIn(refused.cause, failure.cause)

    def test_does_not_fit(self) -> None:
        """Nothing is better elsewhere: the first failure stands."""
        refused = self.refuse(faults.IDENTITY_DOMAIN_MISSING)
        self.looking.callback(False)
        self.assertEqual([refused], self.failures)

    def test_name_unknown(self) -> None:
        """A server that knows no such name may know the domain."""
        self.transport.lose(SSL.Error([("SSL routines", "", "tlsv1 unrecognized name")]))
        self.looking.callback(True)
        self.assertEqual("identity-other-sni", self.failures[0].fault)

    def test_no_other_name(self) -> None:
        """Where the host is the domain, or names are not the problem, nobody is asked again."""
        refused = self.refuse(faults.CERTIFICATE_EXPIRED)
        self.begin("example.com")
        also = self.refuse(faults.IDENTITY_DOMAIN_MISSING)
        self.assertEqual(([refused, also], []), (self.failures, self.looks))

    def test_quit(self) -> None:
        """Whoever gives up meanwhile hears nothing more, and nothing stays behind."""
        cancelled: list[object] = []
        self.looking = Deferred(cancelled.append)
        self.refuse(faults.IDENTITY_DOMAIN_MISSING)
        self.stream.quit()
        self.assertEqual(([self.looking], []), (cancelled, self.failures))


SEEN = dict.fromkeys(("subject", "not_after", "not_before"), "-")
