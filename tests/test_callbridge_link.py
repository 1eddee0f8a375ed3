"""Steps 2 to 11 on the Callbridge: the link's machine and its registration."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.protocols.jabber.error import StanzaError

from cms import faults
from cms.callbridge.config import LinkSettings, Timing
from cms.callbridge.link.backoff import AT_ONCE, Backoff
from cms.callbridge.link.core import LinkCore
from cms.callbridge.link.machine import Link
from cms.callbridge.link.registration import ComponentRegistration
from cms.configuration.tomlfile import Secret
from cms.discovery.address import ServerAddress
from cms.discovery.failedaddresses import FailedAddresses
from cms.discovery.lookup import Found, Target
from cms.linkprotocol import login as lp
from cms.signalflow import Step
from cms.trust.verdict import Verdict
from cms.xmlstream import ns
from cms.xmlstream.replies import error_reply, result_reply
from cms.xmlstream.stanza import Stanza
from tests.support import MemoryTransport, TwoClocks, header, observe_log, stanzas

DOMAIN, COMPONENT = "meet.example.com", "cb1.meet.example.com"


class Verification:
    """Stands for the judgement of a server's certificate."""

    def __init__(self) -> None:
        self.verdict = Verdict("the server")


class World:
    """DNS, network and servers of the test's own making."""

    def __init__(self, **settings_: Any) -> None:
        self.clock = TwoClocks()
        self.searches: list[Deferred[Found]] = []
        self.lookups: list[tuple[Target, Deferred[Found]]] = []
        self.divided: list[tuple[Any, Any]] = []
        self.races: list[tuple[Target, Deferred[Any]]] = []
        self.transports: list[MemoryTransport] = []
        self.streams: list[ComponentRegistration] = []
        self.up: list[ComponentRegistration] = []
        self.stanzas: list[Stanza] = []
        self.downs = 0
        self.cancelled = 0
        self.core = LinkCore(
            clock=self.clock,
            discovery=self,
            connector=self,
            traffic=self,
            backoff=Backoff(Timing(), Random(1)),
            settings=self.settings(**settings_),
        )
        self.link = Link(self.core)

    @staticmethod
    def settings(**changes: Any) -> LinkSettings:
        """Settings for SRV unless something else is said."""
        usual = {"domain": DOMAIN, "component": COMPONENT, "server": None, "secret": Secret("s")}
        return LinkSettings(**({"unique_name": "cb1"} | usual | changes))

    # Discovery

    def _pending(self) -> Deferred[Any]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancel)

    def targets(self, domain: str) -> Deferred[Found]:
        """Step 4."""
        self.searches.append(self._pending())
        return self.searches[-1]

    def addresses(self, target: Target) -> Deferred[Found]:
        """Step 5."""
        self.lookups.append((target, self._pending()))
        return self.lookups[-1][1]

    # Connector

    def connect(
        self,
        registrant: object,
        settings: LinkSettings,
        target: Target,
        addresses: Any,
        last: Any,
    ) -> Deferred[Any]:
        """Step 6."""
        self.divided.append((addresses, last))
        self.races.append((target, self._pending()))
        return self.races[-1][1]

    # Traffic

    def sent_before(self, stream: ComponentRegistration, stanzas: Sequence[bytes]) -> None:
        """What the server never got of the link before."""

    def link_up(self, stream: ComponentRegistration) -> None:
        """Step 11."""
        self.up.append(stream)

    def link_down(self) -> None:
        """The end of step 11."""
        self.downs += 1

    def received(self, stanza: Stanza) -> None:
        """A stanza."""
        self.stanzas.append(stanza)

    # what happens

    def find(self, *hosts: str) -> None:
        """The search brings these targets."""
        places = tuple(Target(h, 5223, is_ip=False, source="SRV") for h in hosts)
        self.searches[-1].callback(Found(targets=places, evidence={"record": "r"}))

    def resolve(self, *addresses: str) -> None:
        """The look-up brings addresses."""
        found = Found(addresses=addresses or ("192.0.2.1",), evidence={"address": "a"})
        self.lookups[-1][1].callback(found)

    def connected(self, address: str = "192.0.2.1", *, secure: bool = True) -> MemoryTransport:
        """TCP is connected, and the server's certificate is good."""
        target, race = self.races[-1]
        transport = MemoryTransport()
        stream = ComponentRegistration(
            self.clock,
            self.core.settings,
            self.core.backoff.timing,
            None if self.core.settings.unprotected else Verification(),  # type: ignore[arg-type]
            self.core,
            peer=str(target),
            presents=False,
        )
        transport.connect(stream)
        self.transports.append(transport)
        self.streams.append(stream)
        race.callback((stream, address))
        if secure and not self.core.settings.unprotected:
            transport.handshake()
        return transport

    def say(self, text: str | bytes) -> None:
        """The server sends bytes."""
        self.streams[-1].dataReceived(text.encode() if isinstance(text, str) else text)

    def accept(self) -> None:
        """The server accepts the handshake."""
        self.say(header(ns.COMPONENT, f" from='{COMPONENT}' id='i1'") + b"<handshake/>")

    def answer_ping(self) -> None:
        """The server answers the last ping that it was sent."""
        pings = [s for s in stanzas(self.transports[-1].value().decode(), ns.COMPONENT) if s.id]
        self.say(result_reply(pings[-1]).raw.decode())

    def register(self) -> None:
        """The server accepts, and asks for nothing."""
        self.accept()
        self.answer_ping()

    def activate(self) -> None:
        """From a search to an active link."""
        self.find("x1.example.com")
        self.resolve()
        self.connected()
        self.register()

    def error(self, condition: str, text: str = "", told: str = "") -> None:
        """The server sends a stream error and closes."""
        inside = f"<text xmlns='{ns.STREAM_ERRORS}'>{text}</text>" if text else ""
        self.say(
            f"<stream:error><{condition} xmlns='{ns.STREAM_ERRORS}'/>{inside}{told}</stream:error>"
            "</stream:stream>"
        )

    @property
    def fault(self) -> str | None:
        """The failure that the newest attempt shows."""
        last = self.link.history.last
        return last.failure.fault if last is not None and last.failure is not None else None

    @property
    def failed_at(self) -> Step | None:
        """The step of that failure."""
        last = self.link.history.last
        return last.failure.step if last is not None and last.failure is not None else None

    def delay(self) -> float:
        """Seconds until the next round."""
        assert self.core.timer is not None
        return self.core.timer.getTime() - self.clock.seconds()


class WayUpTests(SynchronousTestCase):
    """From nothing to an active link."""

    def test_all_steps(self) -> None:
        """Each step is on record, in order, with its evidence."""
        world = World()
        world.link.start()
        world.activate()
        attempt = world.link.history.last
        assert attempt is not None
        self.assertEqual(list(range(2, 12)), [int(r.step) for r in attempt.records])
        self.assertEqual(["passed"] * 9 + ["running"], [r.result for r in attempt.records])
        self.assertEqual([world.streams[0]], world.up)
        status = world.link.status()
        self.assertEqual(("active", 11), (status["state"], status["step"]))
        self.assertEqual("x1.example.com:5223", status["peer"])

    def test_configured_address(self) -> None:
        """With an address there is no search."""
        world = World(server=ServerAddress("x1.example.com", 5555, is_ip=False))
        world.link.start()
        self.assertEqual([], world.searches)
        self.assertEqual(5555, world.lookups[0][0].port)
        attempt = world.link.history.last
        assert attempt is not None
        self.assertNotIn(Step.SRV, [r.step for r in attempt.records])

    def test_what_is_sent(self) -> None:
        """Header and handshake as XEP-0114 has them, and nothing before TLS."""
        world = World()
        world.link.start()
        world.find("x1.example.com")
        world.resolve()
        transport = world.connected(secure=False)
        self.assertEqual("", transport.take())
        transport.handshake()
        sent = transport.take()
        self.assertIn("xmlns='jabber:component:accept'", sent)
        self.assertIn(f"to='{COMPONENT}'", sent)
        world.say(header(ns.COMPONENT, " id='a&amp;b'"))
        digest = hashlib.sha1(b"a&bs").hexdigest()
        self.assertEqual(f"<handshake>{digest}</handshake>", transport.take())

    def test_unprotected(self) -> None:
        """Without TLS, only where it is said, and loudly."""
        world = World(unprotected=True)
        world.link.start()
        world.activate()
        self.assertIsNone(world.transports[0].tls)
        attempt = world.link.history.last
        assert attempt is not None
        (record,) = [r for r in attempt.records if r.step is Step.TLS]
        self.assertIn("unprotected", record.warnings[0])
        self.assertTrue(world.link.status()["unprotected"])
        self.assertEqual("active", world.link.status()["state"])

    def test_stanzas(self) -> None:
        """What arrives on the active link is handed on; answers go to who asked."""
        world = World()
        world.link.start()
        world.activate()
        world.say("<message from='a@b' to='c@d'/>")
        self.assertEqual(["message"], [s.name for s in world.stanzas])
        world.clock.pump([8, 8])
        (ping,) = stanzas(world.transports[0].take())[-1:]
        self.assertEqual((COMPONENT, DOMAIN), (ping.sender, ping.to))
        world.say(result_reply(ping).raw)
        self.assertEqual(1, len(world.stanzas))


class FailureTests(SynchronousTestCase):
    """Each way in which a step fails: the step, the next thing done, the delay."""

    def setUp(self) -> None:
        """A link with two targets, connecting to the first."""
        self.world = World()
        self.world.link.start()
        self.world.find("x1.example.com", "x2.example.com")
        self.world.resolve()

    def test_search_fails(self) -> None:
        """Without targets there is a rest, and then a new search."""
        world = World()
        world.link.start()
        world.searches[0].errback(faults.SRV_NXDOMAIN.error(record="r", server="s"))
        self.assertEqual("srv-nxdomain", world.fault)
        self.assertEqual("waiting", world.link.status()["state"])
        world.clock.advance(2.1)
        self.assertEqual(2, len(world.searches))

    def test_targets_of_an_earlier_round(self) -> None:
        """What a round left untried is nothing to try in the next one."""
        world = self.world
        world.connected()
        world.register()
        self.assertEqual("active", world.link.status()["state"])
        world.transports[0].lose()
        world.clock.advance(1)
        world.searches[1].errback(faults.SRV_NXDOMAIN.error(record="r", server="s"))
        self.assertEqual("waiting", world.link.status()["state"])

    def test_hostile_words(self) -> None:
        """What a server says cannot draw on a terminal."""
        world = self.world
        world.races[-1][1].errback(faults.CONNECT_REFUSED.error(address="a\x9b2J\r\n", port=1))
        last = world.link.history.last
        assert last is not None
        assert last.failure is not None
        self.assertIn("a 2J  ", last.failure.cause)

    def test_next_target(self) -> None:
        """A target that fails in any way makes place for the next."""

        def fails_to_resolve(world: World) -> None:
            world.lookups[-1][1].errback(faults.HOST_NXDOMAIN.error(host="h", server="s"))

        def is_refused(world: World) -> None:
            world.resolve()
            world.races[-1][1].errback(faults.CONNECT_REFUSED.error(address="a", port=1))

        def fails_tls(world: World) -> None:
            world.resolve()
            world.connected(secure=False).lose(ConnectionLost())

        def conflicts(world: World) -> None:
            world.resolve()
            world.connected()
            world.say(header(ns.COMPONENT, " id='i'"))
            world.error("conflict")

        for fails, fault in (
            (fails_to_resolve, "host-nxdomain"),
            (is_refused, "connect-refused"),
            (fails_tls, "tls-closed"),
            (conflicts, "already-connected"),
        ):
            world = World()
            world.link.start()
            world.find("x1.example.com", "x2.example.com")
            fails(world)
            self.assertEqual(fault, world.fault)
            self.assertEqual(
                ["x1.example.com", "x2.example.com"], [t.host for t, _ in world.lookups]
            )

    def test_registration_table(self) -> None:
        """What the server may say, and the fault it becomes."""
        good = header(ns.COMPONENT, " id='i1'").decode()
        error = (
            "<stream:error><{} xmlns='" + ns.STREAM_ERRORS + "'/></stream:error></stream:stream>"
        )
        for said, fault, step in (
            (good + error.format("host-unknown"), "unknown-id", 10),
            (good + error.format("not-authorized"), "wrong-secret", 10),
            (good + error.format("conflict"), "already-connected", 10),
            (good + error.format("invalid-namespace"), "registration-rejected", 10),
            (good + error.format("internal-server-error"), "registration-rejected", 10),
            (good + error.format("system-shutdown"), "registration-rejected", 10),
            (header(ns.CLIENT, " id='i'").decode(), "register-not-xmpp", 9),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", "register-http", 9),
            ("<html/>", "register-http", 9),
            (good + "<!DOCTYPE x>", "register-not-xmpp", 9),
            ("</x>", "register-not-xmpp", 9),
        ):
            world = World()
            world.link.start()
            world.find("x1.example.com")
            world.resolve()
            world.connected()
            world.say(said)
            self.assertEqual(fault, world.fault, said)
            last = world.link.history.last
            assert last is not None
            assert last.failure is not None
            self.assertEqual(step, last.failure.step, said)
            self.assertEqual("waiting", world.link.status()["state"])
            self.assertTrue(world.transports[0].lost)

    def test_error_without_a_useful_header(self) -> None:
        """Some servers send an error after a header without an id."""
        self.world.connected()
        self.world.say(header(ns.COMPONENT))
        self.world.error("host-unknown")
        self.assertEqual("unknown-id", self.world.fault)

    def test_slowed(self) -> None:
        """A server that slows guesses is understood."""
        self.world.connected()
        self.world.say(header(ns.COMPONENT, " id='i'"))
        told = f"<peer-refused xmlns='{ns.FAULT}' seconds='42'/>"
        self.world.error("policy-violation", "whatever it says", told)
        self.assertEqual("registration-slowed", self.world.fault)
        last = self.world.link.history.last
        assert last is not None
        assert last.failure is not None
        self.assertIn("is refused for 42 s", last.failure.cause)

    def test_slowed_by_words(self) -> None:
        """Nothing is read out of the words of a server; they are shown."""
        self.world.connected()
        self.world.say(header(ns.COMPONENT, " id='i'"))
        self.world.error("policy-violation", "too many failures, refused for 42 s")
        self.assertEqual("registration-rejected", self.world.fault)

    def test_silence(self) -> None:
        """A server that falls silent is given up at each stage, with its own fault."""
        for said, secure, fault in (
            (b"", False, "tls-silent"),
            (b"", True, "register-silent"),
            (header(ns.COMPONENT), True, "register-not-xmpp"),
            (header(ns.COMPONENT, " id='i'"), True, "registered-silent"),
        ):
            world = World()
            world.link.start()
            world.find("x1.example.com")
            world.resolve()
            world.connected(secure=secure)
            world.say(said)
            world.clock.advance(world.core.backoff.timing.stage)
            self.assertEqual(fault, world.fault)

    def test_closed_early(self) -> None:
        """A connection that ends before the registration is told apart by stage."""
        for secure, fault in ((False, "tls-closed"), (True, "register-closed")):
            world = World()
            world.link.start()
            world.find("x1.example.com")
            world.resolve()
            world.connected(secure=secure).lose(ConnectionLost())
            self.assertEqual(fault, world.fault)

    def test_refused_certificate(self) -> None:
        """What the verification found is what is reported, at its own step."""
        transport = self.world.connected(secure=False)
        refusal = faults.IDENTITY_DOMAIN_MISSING.error(peer="p", names="n", missing=DOMAIN)
        verification: Any = self.world.streams[0].verification
        verification.verdict.error = refusal
        transport.lose(ConnectionLost())
        attempt = self.world.link.history.last
        assert attempt is not None
        self.assertIs(refusal, attempt.failure)
        results = {int(r.step): r.result for r in attempt.records}
        self.assertEqual(("passed", "failed"), (results[7], results[8]))

    def test_credentials_end_the_round(self) -> None:
        """A refusal of ID or secret tries no other target and waits long."""
        delays = []
        for _ in range(8):
            self.world.connected()
            self.world.say(header(ns.COMPONENT, " id='i'"))
            self.world.error("not-authorized")
            delays.append(self.world.delay())
            self.world.clock.advance(delays[-1])
            self.world.find("x1.example.com", "x2.example.com")
            self.world.resolve()
        for delay, expected in zip(delays, (15, 30, 60, 120, 240, 300, 300, 300), strict=True):
            self.assertTrue(expected <= delay <= expected + 1, delays)

    def test_back_off(self) -> None:
        """Failed rounds are spaced ever wider, with jitter, up to a minute."""
        world = World()
        world.link.start()
        delays = []
        for _ in range(9):
            world.searches[-1].errback(faults.SRV_NXDOMAIN.error(record="r", server="s"))
            delays.append(world.delay())
            world.clock.advance(delays[-1])
        for delay, expected in zip(delays, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True):
            self.assertTrue(expected <= delay <= expected + 1, delays)
        self.assertGreater(len({round(delay % 1, 6) for delay in delays}), 5)

    def _fail_to_reach(self, world: World) -> float:
        """One round in which the only server refuses the connection; seconds until the next."""
        world.find("x1.example.com")
        world.resolve()
        refused = faults.CONNECT_REFUSED.error(address="192.0.2.1", port=5223)
        world.races[-1][1].errback(refused)
        return world.delay()

    def test_unreachable(self) -> None:
        """
        A server that is down for five minutes is found within 2 s, by a few
        hundred attempts that cost it nothing.
        """
        world = World()
        world.link.start()
        attempts = 0
        while world.clock.seconds() < 300:
            delay = self._fail_to_reach(world)
            self.assertTrue(0.5 <= delay <= 1.5, delay)
            world.clock.advance(delay)
            attempts += 1
        self.assertTrue(200 <= attempts <= 600, attempts)

    def test_unreachable_is_told_seldom(self) -> None:
        """What fails alike is logged at first, then once a minute; what changes at once."""
        world = World()
        world.link.start()
        lines: list[dict[str, Any]] = []
        observe_log(self, lines.append)
        while world.clock.seconds() < 300:
            world.clock.advance(self._fail_to_reach(world))
        failed = [line for line in lines if line.get("fault") == "connect-refused"]
        waiting = [line for line in lines if line["log_format"].startswith("next attempt")]
        self.assertTrue(14 <= len(failed) <= 18, len(failed))
        self.assertEqual(len(failed), len(waiting))
        lines.clear()
        world.find("x1.example.com")
        world.resolve()
        world.connected()
        world.say(header(ns.COMPONENT, " id='i'"))
        world.error("host-unknown")
        self.assertEqual(["unknown-id"], [line["fault"] for line in lines if "fault" in line])

    def test_reached(self) -> None:
        """A server that can be reached and refuses is not tried that often."""
        world = World()
        world.link.start()
        delays = []
        for _ in range(3):
            world.find("x1.example.com", "x2.example.com")
            world.resolve()
            world.connected()
            world.error("undefined-condition")
            world.resolve()
            refused = faults.CONNECT_REFUSED.error(address="192.0.2.1", port=5223)
            world.races[-1][1].errback(refused)
            delays.append(world.delay())
            world.clock.advance(delays[-1])
        for delay, expected in zip(delays, (1, 2, 4), strict=True):
            self.assertTrue(expected <= delay <= expected + 1, delays)

    def test_bug(self) -> None:
        """An error that nobody expected is logged, and the link goes on."""
        world = World()
        world.link.start()
        world.searches[0].errback(KeyError("bug"))
        self.assertEqual(("internal", Step.SRV), (world.fault, world.failed_at))
        self.assertEqual("waiting", world.link.status()["state"])
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))


class UnexpectedTests(SynchronousTestCase):
    """An error of this program is told at the step where it happened."""

    def setUp(self) -> None:
        """A link with two targets, connecting to the first."""
        self.world = World()
        self.world.link.start()
        self.world.find("x1.example.com", "x2.example.com")
        self.world.resolve()

    def told(self) -> tuple[Step, str]:
        """The failure that was told last."""
        attempt = self.world.link.history.last
        assert attempt is not None
        record = next(r for r in reversed(attempt.records) if r.failure is not None)
        assert record.failure is not None
        self.assertEqual(record.step, record.failure.step)
        self.assertIn("KeyError", record.failure.cause)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        return record.step, record.failure.fault

    def breaks(self, what: str) -> None:
        """Something of the link that its stream calls does not work."""

        def broken(*_: object) -> None:
            raise KeyError("bug")

        self.patch(LinkCore, what, broken)

    def test_later_target(self) -> None:
        """Not at the furthest step of the round, which another target had reached."""
        self.world.connected()
        self.world.say(header(ns.COMPONENT, " id='i'"))
        self.world.error("undefined-condition")
        self.world.lookups[-1][1].errback(KeyError("bug"))
        self.assertEqual((Step.ADDRESS, "internal"), self.told())

    def test_connecting(self) -> None:
        """At step 6."""
        self.world.races[-1][1].errback(KeyError("bug"))
        self.assertEqual((Step.CONNECT, "internal"), self.told())

    def test_registering(self) -> None:
        """While the server's answers are read: it is not the server that closed."""
        self.world.connected()
        self.breaks("stage_passed")
        self.world.say(header(ns.COMPONENT, " id='i'"))
        self.assertEqual((Step.REGISTER, "internal"), self.told())

    def test_registered(self) -> None:
        """The same at the answer to the handshake."""
        self.world.connected()
        self.world.say(header(ns.COMPONENT, " id='i'"))
        self.breaks("stage_passed")
        self.world.say("<handshake/>")
        self.assertEqual((Step.REGISTERED, "internal"), self.told())

    def test_active(self) -> None:
        """And on a link that is up."""
        self.world.connected()
        self.world.register()
        self.breaks("received")
        self.world.say("<message from='a@b' to='c@d'/>")
        self.assertEqual((Step.ACTIVE, "internal"), self.told())


class FailedAddressTests(SynchronousTestCase):
    """An address that takes a connection and then fails is not preferred any more."""

    SIX, FOUR, OTHER = "2001:db8::1", "192.0.2.1", "192.0.2.2"

    def round(self, world: World, *addresses: str) -> tuple[Any, Any]:
        """The next round comes to step 6: what to try, and what only then."""
        if world.core.timer is not None:
            world.clock.advance(world.delay())
        world.find("x1.example.com")
        world.resolve(*addresses)
        return world.divided[-1]

    def test_next_round(self) -> None:
        """IPv6 that says nothing waits until IPv4 cannot be connected to."""
        world = World()
        world.link.start()
        both = (self.SIX, self.FOUR)
        self.assertEqual((both, ()), self.round(world, *both))
        world.connected(self.SIX, secure=False)
        world.clock.advance(world.core.backoff.timing.stage)
        self.assertEqual("tls-silent", world.fault)
        self.assertEqual(((self.FOUR,), (self.SIX,)), self.round(world, *both))
        world.connected(self.FOUR)
        world.register()
        world.transports[-1].lose()
        self.assertEqual(((self.FOUR,), (self.SIX,)), self.round(world, *both), "it is known still")

    def test_all_failed(self) -> None:
        """Where all have failed they take turns; what is new comes first."""
        world = World()
        world.link.start()
        both = (self.SIX, self.FOUR)
        for address in both:
            self.round(world, *both)
            world.connected(address, secure=False)
            world.transports[-1].lose()
        self.assertEqual(((self.SIX,), (self.FOUR,)), self.round(world, *both))
        world.connected(self.SIX, secure=False)
        world.transports[-1].lose()
        self.assertEqual(((self.FOUR,), (self.SIX,)), self.round(world, *both))
        world.connected(self.FOUR, secure=False)
        world.transports[-1].lose()
        three = (*both, self.OTHER)
        self.assertEqual(((self.OTHER,), both), self.round(world, *three))

    def test_works_again(self) -> None:
        """An address that led to a link is as good as any; so are all with other settings."""
        world = World()
        world.link.start()
        both = (self.SIX, self.FOUR)
        self.round(world, *both)
        world.connected(self.SIX, secure=False)
        world.transports[-1].lose()
        self.round(world, *both)
        world.connected(self.SIX)
        world.register()
        world.transports[-1].lose()
        self.assertEqual((both, ()), self.round(world, *both))
        world.connected(self.SIX, secure=False)
        world.transports[-1].lose()
        world.link.configure(world.core.settings)
        self.assertEqual((both, ()), self.round(world, *both))

    def test_refused_secret(self) -> None:
        """A server that refuses the secret is no dead address."""
        world = World()
        world.link.start()
        self.round(world, self.SIX, self.FOUR)
        world.connected(self.SIX)
        world.say(header(ns.COMPONENT, f" from='{COMPONENT}' id='i1'"))
        world.error("not-authorized")
        self.assertEqual("wrong-secret", world.fault)
        self.assertEqual(((self.SIX, self.FOUR), ()), self.round(world, self.SIX, self.FOUR))

    def test_bounded(self) -> None:
        """However many fail, a bounded number is remembered, the latest."""
        addresses_failed, target = FailedAddresses(), Target("x1", 5223, is_ip=False, source="SRV")
        addresses = [f"192.0.2.{n}" for n in range(200)]
        for address in addresses:
            addresses_failed.note(target, address)
        good, failed = addresses_failed.divide(target, addresses)
        self.assertEqual((72, 128), (len(good), len(failed)))
        self.assertEqual("192.0.2.199", failed[-1])

    def test_told(self) -> None:
        """A failure names target and address, wherever it happens."""
        world = World()
        world.link.start()
        for secure, step in ((False, "tls"), (True, "register")):
            self.round(world, self.FOUR)
            world.connected(self.FOUR, secure=secure)
            world.transports[-1].lose()
            failure = world.link.status()["lastFailure"]
            self.assertEqual(step, failure["name"])
            told = failure["evidence"]["target"], failure["evidence"]["address"]
            self.assertEqual(("x1.example.com:5223", self.FOUR), told)


class ConfirmingTests(SynchronousTestCase):
    """Step 11 comes when the server knows what it asked for."""

    MECHANISMS = "<mechanisms xmlns='urn:x-cms:login:1'/>"

    def setUp(self) -> None:
        """The handshake was accepted."""
        self.world = World()
        self.world.link.start()
        self.world.find("x1.example.com")
        self.world.resolve()
        self.world.connected()
        self.world.accept()

    def ask_mechanisms(self, sender: str = DOMAIN) -> None:
        """The question of the log-in protocol."""
        self.world.say(
            f"<iq type='get' id='m' from='{sender}' to='{COMPONENT}'>{self.MECHANISMS}</iq>"
        )

    def pings(self) -> int:
        """How many pings were sent."""
        sent: bytes = self.world.transports[-1].value()
        return sent.count(b"urn:xmpp:ping")

    def assert_active(self, *, active: bool) -> None:
        """What the status says."""
        status = self.world.link.status()
        expected = ("active", 11) if active else ("registered", 10)
        self.assertEqual(expected, (status["state"], status["step"]))
        self.assertEqual(active, status["since"] is not None)

    def test_mechanisms(self) -> None:
        """It is active when a ping that followed the mechanisms is answered, not before."""
        (first,) = [s for s in stanzas(self.world.transports[-1].value().decode()) if s.id]
        self.ask_mechanisms()
        self.assertEqual([(lp.NS, "mechanisms")], [s.payload for s in self.world.stanzas])
        self.assertEqual(2, self.pings())
        self.world.say(result_reply(first).raw.decode())
        self.assert_active(active=False)
        self.world.answer_ping()
        self.assert_active(active=True)
        self.ask_mechanisms()
        self.assertEqual(2, self.pings())

    def test_nobody_asks(self) -> None:
        """A server that knows no log-in protocol: its answer is enough, an error too."""
        self.assert_active(active=False)
        (ping,) = [s for s in stanzas(self.world.transports[-1].value().decode()) if s.id]
        refusal = error_reply(ping, StanzaError("service-unavailable"))
        assert refusal is not None
        self.world.say(refusal.raw.decode())
        self.assert_active(active=True)

    def test_nobody_answers(self) -> None:
        """One that answers no ping is believed in the end."""
        self.world.clock.advance(9.9)
        self.assert_active(active=False)
        self.world.clock.advance(0.2)
        self.assert_active(active=True)

    def test_strangers(self) -> None:
        """A client's question delays nothing."""
        for _ in range(5):
            self.ask_mechanisms(f"mallory@{DOMAIN}/x")
        self.assertEqual(1, self.pings())
        self.world.answer_ping()
        self.assert_active(active=True)

    def test_ends(self) -> None:
        """A link that ends before is sought again like one that was active."""
        self.world.transports[-1].lose(ConnectionLost())
        self.assertEqual("link-lost", self.world.fault)
        self.assertEqual(1, self.world.downs)
        self.assertLess(self.world.delay(), AT_ONCE)

    def test_stops(self) -> None:
        """It can be stopped."""
        stopped = self.world.link.stop()
        self.assertEqual(1, self.world.downs)
        self.world.transports[-1].lose()
        self.successResultOf(stopped)
        self.assertEqual("stopped", self.world.link.status()["state"])


class ActiveTests(SynchronousTestCase):
    """Step 11."""

    def setUp(self) -> None:
        """An active link."""
        self.world = World()
        self.world.link.start()
        self.world.activate()

    def test_ends(self) -> None:
        """However it ends, it is on record, and sought again at once."""
        for end, fault in (
            (lambda w: w.transports[-1].lose(ConnectionLost()), "link-lost"),
            (lambda w: w.say("</stream:stream>"), "link-closed"),
            (lambda w: w.error("system-shutdown"), "link-closed"),
            (lambda w: w.error("conflict"), "link-error"),
            (lambda w: w.say("<!-- -->"), "link-lost"),
        ):
            self.setUp()
            end(self.world)
            self.assertEqual(fault, self.world.fault)
            self.assertEqual(1, self.world.downs)
            self.assertLess(self.world.delay(), AT_ONCE)
            self.world.clock.advance(AT_ONCE)
            self.assertEqual(2, len(self.world.searches))

    def test_flapping(self) -> None:
        """A link that ends as soon as it is up is not sought at full speed."""
        delays = []
        for _ in range(4):
            self.world.transports[-1].lose(ConnectionLost())
            delays.append(self.world.delay())
            self.world.clock.advance(delays[-1])
            self.world.activate()
        self.assertLess(delays[0], AT_ONCE)
        for delay, expected in zip(delays[1:], (1, 2, 4), strict=True):
            self.assertTrue(expected <= delay <= expected + 1, delays)

    def test_silent_server(self) -> None:
        """A server that says nothing any more is noticed in under 30 s."""
        for _ in range(29):
            self.world.clock.advance(1)
        self.assertIn(
            "link-silent", [a.failure.fault for a in self.world.link.history if a.failure]
        )

    def test_stability_forgives(self) -> None:
        """After a minute of stability, delays begin anew."""
        self.world.core.backoff.failures = 5
        for _ in range(61):
            self.world.clock.advance(1)
            self.world.say(" ")
        self.world.transports[-1].lose(ConnectionLost())
        self.assertEqual(0, self.world.core.backoff.failures)


class ControlTests(SynchronousTestCase):
    """Stopping and configuring, in every state."""

    STATES = (
        "idle",
        "finding",
        "resolving",
        "connecting",
        "securing",
        "registering",
        "confirming",
        "active",
        "waiting",
    )

    def world_in(self, state: str) -> World:
        """A world whose link is in a state."""
        world = World()
        if state == "idle":
            return world
        world.link.start()
        if state == "waiting":
            world.searches[0].errback(faults.SRV_NXDOMAIN.error(record="r", server="s"))
        for name, advance in (
            ("finding", lambda: world.find("x1.example.com", "x2.example.com")),
            ("resolving", world.resolve),
            ("connecting", lambda: world.connected(secure=False)),
            ("securing", lambda: world.transports[0].handshake()),  # noqa: PLW0108 - not there yet
            ("registering", world.accept),
            ("confirming", world.answer_ping),
        ):
            if state in (name, "waiting"):
                break
            advance()
        return world

    def close_peer(self, world: World) -> None:
        """The server answers our closing tag."""
        if world.transports and not world.transports[-1].lost:
            world.say("</stream:stream>")

    def test_stop(self) -> None:
        """Stop leaves no timer, no connection and no question behind."""
        for state in self.STATES:
            world = self.world_in(state)
            stopped = world.link.stop()
            self.close_peer(world)
            self.successResultOf(stopped)
            self.assertEqual([], world.clock.getDelayedCalls(), state)
            self.assertTrue(all(t.lost for t in world.transports), state)
            self.assertEqual("stopped", world.link.status()["state"])
            self.assertEqual(state in ("confirming", "active"), bool(world.downs))
            world.link.start()
            self.assertEqual("srv", world.link.status()["state"], state)

    def test_stop_closes_the_stream(self) -> None:
        """An active link is closed with its closing tag, and waits for the server's."""
        world = self.world_in("active")
        world.transports[0].clear()
        stopped = world.link.stop()
        self.assertEqual("</stream:stream>", world.transports[0].take())
        self.assertNoResult(stopped)
        world.say("</stream:stream>")
        self.successResultOf(stopped)

    def test_stop_does_not_hang(self) -> None:
        """A server that does not answer does not hold us."""
        world = self.world_in("active")
        stopped = world.link.stop()
        world.clock.advance(6)
        self.successResultOf(stopped)

    def test_configure(self) -> None:
        """New settings end what is under way, and a new round uses them at once."""
        for state in self.STATES[1:]:
            world = self.world_in(state)
            searches, attempts = len(world.searches), len(world.link.history)
            world.link.configure(world.settings(component="cb9.meet.example.com"))
            self.close_peer(world)
            self.assertEqual(searches + 1, len(world.searches), state)
            self.assertEqual(attempts + 1, len(world.link.history))
            self.assertTrue(all(t.lost for t in world.transports))
            world.activate()
            self.assertIn("to='cb9.meet.example.com'", world.transports[-1].take())
            self.assertEqual("active", world.link.status()["state"])

    def test_configure_forgives(self) -> None:
        """What failed with the old settings does not slow the new ones down."""
        world = self.world_in("waiting")
        world.core.backoff.failures = world.core.backoff.refusals = 5
        world.link.configure(world.settings())
        self.assertEqual((0, 0), (world.core.backoff.failures, world.core.backoff.refusals))

    def test_configure_while_halting(self) -> None:
        """Settings that follow one another quickly: the last ones count."""
        world = self.world_in("active")
        for name in ("cb7", "cb8"):
            world.link.configure(world.settings(component=f"{name}.meet.example.com"))
        self.close_peer(world)
        world.activate()
        self.assertIn("to='cb8.", world.transports[-1].take())
        self.assertEqual(2, len(world.searches))

    def test_stop_while_halting(self) -> None:
        """A stop that follows a configuration wins."""
        world = self.world_in("active")
        world.link.configure(world.settings())
        stopped = world.link.stop()
        self.close_peer(world)
        self.successResultOf(stopped)
        self.assertEqual(1, len(world.searches))

    def test_start_twice(self) -> None:
        """A second start changes nothing, nor does a second stop."""
        world = self.world_in("active")
        world.link.start()
        self.assertEqual(1, len(world.searches))
        one, two = world.link.stop(), world.link.stop()
        self.close_peer(world)
        self.successResultOf(one)
        self.successResultOf(two)

    def test_start_while_stopping(self) -> None:
        """A start that follows a stop waits for the old connection, in every state."""
        for state in self.STATES:
            world = self.world_in(state)
            stopped = world.link.stop()
            searches = len(world.searches)
            halting = any(not t.lost for t in world.transports)
            world.link.start()
            self.assertEqual(searches + (not halting), len(world.searches), state)
            self.close_peer(world)
            self.successResultOf(stopped)
            self.assertEqual(searches + 1, len(world.searches), state)
            world.activate()
            self.assertEqual("active", world.link.status()["state"], state)

    def test_second_stop_waits_too(self) -> None:
        """Whoever stops it a second time hears when it has really ended."""
        world = self.world_in("active")
        world.link.stop()
        second = world.link.stop()
        self.assertNoResult(second)
        self.assertEqual("ending", world.link.status()["state"])
        self.close_peer(world)
        self.successResultOf(second)
        self.successResultOf(world.link.stop())

    def test_configure_while_stopped(self) -> None:
        """Settings given to a stopped link start nothing, and count from the next start."""
        world = self.world_in("idle")
        world.link.configure(world.settings(component="cb9.meet.example.com"))
        self.assertEqual([], world.searches)
        world.link.start()
        world.activate()
        self.assertIn("to='cb9.", world.transports[-1].take())

    def test_late_results(self) -> None:
        """What was given up brings nothing any more: its cancellation is not a failure."""
        for state in ("finding", "resolving", "connecting"):
            world = self.world_in(state)
            world.link.configure(world.settings())
            self.assertEqual(1, world.cancelled, state)
            first, second = list(world.link.history)
            self.assertIsNone(first.failure)
            self.assertIsNone(second.failure)

    def test_cancelled_by_somebody_else(self) -> None:
        """A question that somebody else cancels does not leave the link waiting for ever."""
        world = self.world_in("finding")
        world.searches[0].cancel()
        self.assertEqual("internal", world.fault)
        self.assertEqual("waiting", world.link.status()["state"])
        self.assertEqual(1, len(self.flushLoggedErrors(CancelledError)))

    def test_error_while_registering_begins(self) -> None:
        """An unexpected error in TLS's begin ends that connection before the next is made."""
        world = self.world_in("resolving")
        world.resolve()

        def refuse(*_: object) -> None:
            raise KeyError("bug")

        self.patch(MemoryTransport, "startTLS", refuse)
        world.connected(secure=False)
        self.assertTrue(world.transports[0].lost)
        self.assertEqual("internal", world.fault)
        steps = [r.step for r in world.link.history.last.records if r.failure]  # type: ignore[union-attr]
        self.assertEqual([Step.TLS], steps)
        self.assertEqual(2, len(world.lookups))  # the next target
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))

    def test_history_is_bounded(self) -> None:
        """Only the last attempts are kept."""
        world = World()
        world.link.start()
        for _ in range(50):
            world.searches[-1].errback(faults.SRV_NXDOMAIN.error(record="r", server="s"))
            world.clock.advance(world.delay())
        self.assertEqual(20, len(world.link.history))


EVENTS = (
    "find",
    "nothing",
    "resolve",
    "connect",
    "secure",
    "register",
    "error",
    "lose",
    "configure",
    "time",
    "long",
    "stop",
    "start",
    "close",
)


class AnyOrderTests(SynchronousTestCase):
    """Whatever happens, in whatever order."""

    @given(st.lists(st.sampled_from(EVENTS), max_size=40))
    @settings(max_examples=300)
    def test_never_lost(self, events: tuple[str, ...]) -> None:
        """
        A started link always has something under way, and never two live
        connections; a stopped one has nothing.
        """
        world = World()
        world.link.start()
        started = True
        for event in events:
            self.happen(world, event)
            started = {"stop": False, "start": True}.get(event, started)
            live = [t for t in world.transports if not t.lost and not t.protocol.closing]
            self.assertLessEqual(len(live), 1)
            attempt = world.link.history.last
            assert attempt is not None
            running = [r for a in world.link.history for r in a.records if r.result == "running"]
            self.assertLessEqual(len(running), 1)
            if started:
                halting = any(not t.lost and t.protocol.closing for t in world.transports)
                asking = world.core.asked is not None  # confirming: registered, not yet active
                self.assertTrue(running or world.core.timer or halting or asking, event)
            else:
                self.assertIsNone(world.core.timer)
        self.ends_cleanly(world)

    def ends_cleanly(self, world: World) -> None:
        """A stop leaves nothing behind, and whoever waits for it hears."""
        stopped = world.link.stop()
        world.clock.advance(10)
        self.successResultOf(stopped)
        self.assertEqual([], world.clock.getDelayedCalls())
        self.assertTrue(all(t.lost for t in world.transports))
        self.assertEqual(len(world.up), world.downs)

    def happen(self, world: World, event: str) -> None:
        """One event, where it can happen at all."""
        search = world.searches[-1]
        lookup = world.lookups[-1][1] if world.lookups else None
        race = world.races[-1][1] if world.races else None
        transport = world.transports[-1] if world.transports else None
        open_ = transport is not None and not transport.lost
        if event == "find" and not search.called:
            world.find("x1.example.com", "x2.example.com")
        elif event == "nothing" and not search.called:
            search.errback(faults.SRV_NXDOMAIN.error(record="r", server="s"))
        elif event == "resolve" and lookup is not None and not lookup.called:
            world.resolve()
        elif event == "connect" and race is not None and not race.called:
            world.connected(secure=False)
        elif event == "secure" and open_ and transport is not None:
            if transport.protocol.step is Step.TLS:
                transport.handshake()
        elif event == "register" and open_:
            world.say(header(ns.COMPONENT, " id='i'") + b"<handshake/>")
        elif event == "error" and open_:
            world.error("not-authorized")
        elif event == "close" and open_:
            world.say("</stream:stream>")
        elif event == "lose" and transport is not None:
            transport.lose(ConnectionLost())
        elif event == "configure":
            world.link.configure(world.settings())
        elif event == "time":
            world.clock.advance(1)
        elif event == "long":
            world.clock.advance(400)
        elif event == "stop":
            world.link.stop()
        elif event == "start":
            world.link.start()
