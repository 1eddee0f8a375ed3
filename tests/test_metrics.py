"""What the figures of both daemons say."""

from __future__ import annotations

from random import Random
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.login.authority import Authority
from cms.callbridge.login.visitors import Visitors
from cms.callbridge.metrics import (
    STATES,
    CallbridgeCollector,
    CallbridgeCounters,
    GuestsCollector,
    RoomsCollector,
)
from cms.callbridge.rooms.admission import REASONS
from cms.callbridge.rooms.doorkeeper import RESULTS, DoorFigures
from cms.callbridge.rooms.service import Rooms
from cms.door.application import COUNTED
from cms.linkprotocol import join
from cms.linkprotocol import login as lp
from cms.metrics.exposition import Exposition
from cms.protection.connections import Limits
from cms.signalflow import Step
from cms.xmlstream import ns
from cms.xmpp.admissions import OUTCOMES, Admissions
from cms.xmpp.listeners import StreamFactory
from cms.xmpp.metrics import GuestsCollector as ServerGuests
from cms.xmpp.metrics import ServerCollector
from cms.xmpp.resumption import Resumptions
from tests.test_callbridge_link import World
from tests.test_login_authority import MemoryDirectory
from tests.xmppserver import DOMAIN, SECRETS, Server

CB1 = f"cb1.{DOMAIN}"


class Figures:
    """What collectors say, by name and labels."""

    def __init__(self, *collectors: Collector) -> None:
        self._exposition = Exposition("test", *collectors)

    @property
    def text(self) -> str:
        """As it is scraped."""
        return self._exposition.render().decode()

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of one series."""
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                if (sample.name, sample.labels) == (name, labels):
                    return sample.value
        return None


class ExpositionTests(SynchronousTestCase):
    """What every process says."""

    def test_render(self) -> None:
        """The program, the process and the collector of garbage; nothing global."""
        figures = Figures()
        self.assertIn('cms_build_info{python="', figures.text)
        self.assertIn('role="test"', figures.text)
        self.assertGreater(figures("process_resident_memory_bytes") or 0, 1e6)
        self.assertIsNotNone(figures("python_gc_collections_total", generation="2"))
        self.assertEqual("text/plain; version=0.0.4; charset=utf-8", Exposition.content_type)


class ServerTests(SynchronousTestCase):
    """The XMPP server."""

    def setUp(self) -> None:
        """A server with one listener of each kind."""
        self.server = server = Server()
        server.components.resumptions = Resumptions(server.clock, 10.0)
        self.factories = [
            StreamFactory(
                lambda: server.component().stream, Limits.of(10), float, kind="component"
            ),
            StreamFactory(lambda: server.client().stream, Limits.of(1), float, kind="client"),
        ]
        server.links.on_down.append(server.counters.link_ended)
        server.counters.know(server.registry.secrets)
        collector = ServerCollector(
            *(server.registry, server.links, server.sessions, server.router),
            resumptions=server.clients.resumptions,
            link_resumptions=server.components.resumptions,
            factories=lambda: self.factories,
            expires=lambda: 1_800_000_000.0,
        )
        links_flow = (server.links, server.flow)
        self.admissions = Admissions(server.clock, DOMAIN, *links_flow)
        self.refused = dict.fromkeys(COUNTED, 0)
        guests = ServerGuests(self.admissions.figures, self.refused)
        self.figures = Figures(server.counters, collector, guests)

    def test_links(self) -> None:
        """Each known component has a series, whether it is connected or not."""
        cb1 = f"cb1.{DOMAIN}"
        for name in SECRETS:
            self.assertEqual(0, self.figures("cms_xmpp_link_up", component=f"{name}.{DOMAIN}"))
        self.assertEqual(0, self.figures("cms_xmpp_links_ended_total", component=cb1))
        callbridge = self.server.callbridge()
        since = callbridge.handler.since
        for name, value in (
            ("cms_xmpp_link_up", 1),
            ("cms_xmpp_link_decides_logins", 1),
            ("cms_xmpp_link_since_timestamp_seconds", since),
            ("cms_xmpp_link_queue_bytes", 0),
            ("cms_xmpp_link_open_requests", 0),
        ):
            self.assertEqual(value, self.figures(name, component=cb1), name)
        name = "cms_xmpp_registrations_total"
        self.assertEqual(1, self.figures(name, result="active", step="active"))
        callbridge.transport.lose()
        self.assertEqual(0, self.figures("cms_xmpp_link_up", component=cb1))
        self.assertEqual(1, self.figures("cms_xmpp_links_ended_total", component=cb1))

    def test_link_away(self) -> None:
        """A link without a connection is up, and is told apart until it has expired."""
        cb1 = f"cb1.{DOMAIN}"
        callbridge = self.server.callbridge()
        callbridge.say(f"<enable xmlns='{ns.MANAGEMENT}' resume='true'/>")
        self.assertEqual(0, self.figures("cms_xmpp_link_away", component=cb1))
        callbridge.transport.lose()
        self.assertEqual(1, self.figures("cms_xmpp_link_away", component=cb1))
        self.assertEqual(1, self.figures("cms_xmpp_link_up", component=cb1))
        self.server.clock.advance(10.0)
        self.assertEqual(0, self.figures("cms_xmpp_link_up", component=cb1))
        for result, number in (("resumed", 0), ("expired", 1)):
            self.assertEqual(number, self.figures("cms_xmpp_links_returned_total", result=result))

    def test_refused_registration(self) -> None:
        """By fault and step; an unknown name makes no series of its own."""
        peer = self.server.component()
        peer.open(to=f"mallory.{DOMAIN}", version="")
        name = "cms_xmpp_refusals_total"
        reason = faults.PEER_UNKNOWN_ID.name
        self.assertEqual(1, self.figures(name, stage="registration", reason=reason))
        name = "cms_xmpp_registrations_total"
        self.assertEqual(1, self.figures(name, result="failed", step="registered"))
        self.assertNotIn("mallory", self.figures.text)

    def test_logins(self) -> None:
        """By mechanism and result, each once; and no user's name anywhere."""
        callbridge = self.server.callbridge()
        self.server.bound(callbridge, "alice")
        client = self.server.client()
        client.open()
        client.authenticate("NONSENSE")
        client.authenticate()
        (start,) = callbridge.received()
        message = lp.parse(start.element.firstChildElement())
        assert isinstance(message, lp.Start)
        self.server.clock.advance(0.3)
        callbridge.answer(start, lp.Failed(message.exchange, "not-authorized"))
        client.authenticate()
        client.transport.lose()
        for mechanism, result in (
            ("PLAIN", "success"),
            ("PLAIN", "not-authorized"),
            ("PLAIN", "abandoned"),
            ("other", "invalid-mechanism"),
        ):
            labels = {"mechanism": mechanism, "result": result}
            self.assertEqual(1, self.figures("cms_xmpp_logins_total", **labels), labels)
        labels = {"stage": "login", "reason": "not-authorized"}
        self.assertEqual(1, self.figures("cms_xmpp_refusals_total", **labels))
        name = "cms_xmpp_step_duration_seconds"
        self.assertEqual(2, self.figures(f"{name}_count", step="login"))
        self.assertEqual(1, self.figures(f"{name}_bucket", step="login", le="0.25"))
        self.assertEqual(1, self.figures("cms_xmpp_sessions"))
        self.assertEqual(0, self.figures("cms_xmpp_sessions_away"))
        self.assertNotIn("alice", self.figures.text)

    def test_guests(self) -> None:
        """What became of each who asked, from 0."""
        for result in OUTCOMES:
            self.assertEqual(0, self.figures("cms_xmpp_guests_total", result=result))
        self.admissions.admit(join.Admit("::1", secret="s", name="B"))
        self.assertEqual(1, self.figures("cms_xmpp_guests_total", result=faults.NO_CALLBRIDGE.name))

    def test_refused_to_browsers(self) -> None:
        """Each fault that the web listeners count, from 0."""
        refused = "cms_xmpp_web_refusals_total"
        for fault in COUNTED:
            self.assertEqual(0, self.figures(refused, fault=fault))
        self.refused[faults.ORIGIN_REFUSED.name] += 2
        self.assertEqual(2, self.figures(refused, fault=faults.ORIGIN_REFUSED.name))

    def test_no_callbridge(self) -> None:
        """Step 1 has a reason of its own."""
        self.server.client().open()
        self.server.clock.advance(8)
        labels = {"stage": "login", "reason": faults.NO_CALLBRIDGE.name}
        self.assertEqual(1, self.figures("cms_xmpp_refusals_total", **labels))

    def test_stream_error(self) -> None:
        """A client's stream that fails is counted by its condition."""
        self.server.client().say("<a/>")
        labels = {"stage": "stream", "reason": "invalid-namespace"}
        self.assertEqual(1, self.figures("cms_xmpp_refusals_total", **labels))

    def test_bounced(self) -> None:
        """Stanzas that could not be delivered."""
        self.server.register("echo").say(
            f"<message from='echo.{DOMAIN}' to='nobody@{DOMAIN}/x'><body/></message>"
        )
        labels = {"condition": "service-unavailable"}
        self.assertEqual(1, self.figures("cms_xmpp_bounced_stanzas_total", **labels))

    def test_dropped(self) -> None:
        """What finds no room and has no answer, by kind."""
        callbridge = self.server.callbridge()
        bob = self.server.bound(callbridge, "bob")
        other = self.server.bound(callbridge, "bob", "other")
        name, jid = "cms_xmpp_dropped_stanzas_total", bob.handler.jid.full()
        for kind in ("iq", "message", "presence"):
            self.assertEqual(0, self.figures(name, kind=kind))
        bob.say("<presence/>")
        bob.transport.stop_reading()
        bob.stream.pauseProducing()
        long = f"<x>{'x' * 200_000}</x>"
        for number in range(2, 12):  # as many as 512 KiB of one source hold are kept
            callbridge.say(f"<iq type='result' id='{number}' from='{CB1}' to='{jid}'>{long}</iq>")
            other.say(f"<presence>{long}</presence>")
        callbridge.say(f"<message type='error' from='{CB1}' to='{jid}'>{long}</message>")
        # A slow one takes 512 KiB of each source, and 1 MiB in all.
        self.assertEqual(8, self.figures(name, kind="iq"))
        self.assertEqual(1, self.figures(name, kind="message"))
        self.assertEqual(8, self.figures(name, kind="presence"))
        callbridge.say(f"<presence from='{CB1}' to='bob@{DOMAIN}'>{long}</presence>")
        self.assertEqual(9, self.figures(name, kind="presence"))

    def test_streams(self) -> None:
        """Counted by listener, also what has ended; never less than before."""
        address = IPv4Address("TCP", "192.0.2.1", 1)
        stream: Any = self.factories[1].buildProtocol(address)
        stream.on_trusted()
        self.assertIsNone(self.factories[1].buildProtocol(address))
        heard = {"listener": "client", "direction": "received"}
        told = {"listener": "client", "direction": "sent"}
        stream.dataReceived(b"<str")
        stream.write(b"x" * 60)
        self.assertEqual(60, self.figures("cms_xmpp_bytes_total", **told))
        self.assertEqual(4, self.figures("cms_xmpp_bytes_total", **heard))
        self.assertEqual(1, self.figures("cms_xmpp_connections", listener="client"))
        self.assertEqual(1, self.figures("cms_xmpp_refused_connections_total", listener="client"))
        for name in ("slow_streams", "held_streams", "queue_bytes"):
            self.assertEqual(0, self.figures(f"cms_xmpp_{name}", listener="client"))
        stream.transport.lose()
        self.assertEqual(0, self.figures("cms_xmpp_connections", listener="client"))
        self.assertEqual(4, self.figures("cms_xmpp_bytes_total", **heard))
        self.assertEqual(60, self.figures("cms_xmpp_bytes_total", **told))

    def test_stanzas(self) -> None:
        """Those that are looked into and those that are not, both ways."""
        stream: Any = self.factories[0].buildProtocol(None)
        echo = self.server.register("echo")
        streams = self.factories[0].streams
        streams.clear()
        streams.add(echo.stream)
        count = "cms_xmpp_stanzas_total"
        labels = {"listener": "component"}
        before = self.figures(count, **labels, direction="received") or 0
        message = f"<message from='echo.{DOMAIN}' to='echo.{DOMAIN}'><body>x</body></message>"
        echo.say(message * 7)
        self.assertEqual(before + 7, self.figures(count, **labels, direction="received"))
        self.assertEqual(8, self.figures(count, **labels, direction="sent"))
        del stream

    def test_certificate(self) -> None:
        """Our own, and of peers only those that showed one."""
        self.server.callbridge()
        name = "cms_certificate_expiry_timestamp_seconds"
        self.assertEqual(1_800_000_000, self.figures(name, certificate="own"))
        self.assertIsNone(self.figures(name, certificate=f"cb1.{DOMAIN}"))


class NoSpaces:
    """A Callbridge without spaces and sessions."""

    occupant_key = b"key"

    def __init__(self) -> None:
        self.on_change: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def ask(*_: object) -> None:
            raise AssertionError(f"{name} is not asked for")

        return ask


class CallbridgeTests(SynchronousTestCase):
    """The Callbridge."""

    def setUp(self) -> None:
        """A Callbridge between attempts."""
        self.world = World()
        self.counters = CallbridgeCounters()
        self.world.link.on_step.append(self.counters.step)
        self.world.link.on_rest.append(self.counters.rest)
        self.authority = Authority(
            self.world.clock,
            MemoryDirectory({"alice": "pencil"}),
            DOMAIN,
            decided=lambda d: self.counters.login(d.mechanism, d.result, d.seconds),
        )
        collector = CallbridgeCollector(
            self.world.link, lambda: self.authority, lambda: 1_800_000_000.0
        )
        self.rooms = Rooms(
            *(self.world.clock, NoSpaces(), NoSpaces()),
            component=lambda: "cb1",
            domain=lambda: DOMAIN,
            run="r",
            visitors=Visitors(self.world.clock, Random(7)),
        )
        self.door = DoorFigures()
        self.figures = Figures(
            *(self.counters, collector, RoomsCollector(self.rooms)),
            GuestsCollector(self.door, self.rooms.admission.visitors),
        )

    def test_guests(self) -> None:
        """Those who are known, and what became of each who asked, from 0."""
        self.assertEqual(0, self.figures("cms_callbridge_guests_known"))
        self.door.results["passcode"] += 2
        self.assertEqual(2, self.figures("cms_callbridge_guests_total", result="passcode"))
        for result in RESULTS:
            self.assertIn(f'cms_callbridge_guests_total{{result="{result}"}}', self.figures.text)

    def test_rooms(self) -> None:
        """Rooms and occupants; who came in, and each reason why somebody did not, from 0."""
        self.assertEqual(0, self.figures("cms_callbridge_rooms"))
        self.assertEqual(0, self.figures("cms_callbridge_room_occupants"))
        self.rooms.figures.joined += 2
        self.rooms.figures.refused["passcode"] += 1
        joins = "cms_callbridge_room_joins_total"
        self.assertEqual(2, self.figures(joins, result="joined"))
        self.assertEqual(1, self.figures(joins, result="passcode"))
        for reason in REASONS:
            self.assertIn(f'{joins}{{result="{reason}"}}', self.figures.text)

    def assert_state(self, state: str) -> None:
        """It is in this state and no other."""
        for name in STATES:
            value = self.figures("cms_callbridge_link_state", state=name)
            self.assertEqual(float(name == state), value, name)

    def test_stopped(self) -> None:
        """Before the first attempt."""
        self.assert_state("stopped")
        self.assertEqual(0, self.figures("cms_callbridge_link_up"))
        self.assertEqual(0, self.figures("cms_callbridge_link_step"))

    def test_failed_attempt(self) -> None:
        """It counts once, at the step that decided."""
        world = self.world
        world.link.start()
        self.assert_state("srv")
        world.clock.advance(0.2)
        evidence = {"record": "r", "server": "s"}
        world.searches[-1].errback(faults.SRV_NXDOMAIN.error(**evidence))
        self.assert_state("waiting")
        labels = {"result": "failed", "step": "srv"}
        self.assertEqual(1, self.figures("cms_callbridge_attempts_total", **labels))
        labels = {"step": "srv", "reason": "srv-nxdomain"}
        self.assertEqual(1, self.figures("cms_callbridge_failures_total", **labels))
        labels = {"step": "srv", "result": "failed"}
        self.assertEqual(1, self.figures("cms_callbridge_steps_total", **labels))
        name = "cms_callbridge_step_duration_seconds_bucket"
        self.assertEqual(1, self.figures(name, step="srv", le="0.25"))
        self.assertEqual(0, self.figures(name, step="srv", le="0.1"))
        self.assertEqual(4, self.figures("cms_callbridge_link_step"))

    def test_link(self) -> None:
        """It comes up, carries, ends; the end of a link is no failed attempt."""
        world = self.world
        world.link.start()
        world.activate()
        self.assert_state("active")
        self.assertEqual(1, self.figures("cms_callbridge_link_up"))
        self.assertEqual(
            world.clock.wall_seconds(), self.figures("cms_callbridge_link_since_timestamp_seconds")
        )
        labels = {"result": "active", "step": "active"}
        self.assertEqual(1, self.figures("cms_callbridge_attempts_total", **labels))
        sent = self.figures("cms_callbridge_bytes_total", direction="sent")
        self.assertGreater(sent or 0, 50)
        world.transports[-1].lose()
        self.assert_state("waiting")
        self.assertEqual(0, self.figures("cms_callbridge_link_up"))
        self.assertEqual(sent, self.figures("cms_callbridge_bytes_total", direction="sent"))
        self.assertNotIn('cms_callbridge_attempts_total{result="failed"', self.figures.text)
        labels = {"step": "active", "reason": faults.LINK_LOST.name}
        self.assertEqual(1, self.figures("cms_callbridge_failures_total", **labels))

    def test_logins(self) -> None:
        """By mechanism and result, each once; and no user's name anywhere."""
        plain = b"\0alice\0"
        for number, (mechanism, payload) in enumerate(
            (("PLAIN", plain + b"pencil"), ("PLAIN", plain + b"x"), ("WORSE", b""))
        ):
            message = lp.Start(str(number), mechanism, payload, "192.0.2.7")
            self.successResultOf(self.authority.start(message))
        self.authority.start(lp.Start("a", "SCRAM-SHA-1", None, "192.0.2.7"))
        self.assertEqual(1, self.figures("cms_callbridge_exchanges"))
        self.authority.abort(lp.Abort("a"))
        self.authority.start(lp.Start("l", "SCRAM-SHA-1", None, "192.0.2.7"))
        self.authority.session_began(
            lp.SessionBegin(f"alice@{DOMAIN}/x", "192.0.2.7", "2026-11-24T12:00:00Z")
        )
        self.assertEqual(1, self.figures("cms_callbridge_sessions"))
        self.assertNotIn("alice", self.figures.text)
        self.authority.link_lost()
        for mechanism, result in (
            ("PLAIN", "success"),
            ("PLAIN", "not-authorized"),
            ("other", "invalid-mechanism"),
            ("SCRAM-SHA-1", "aborted"),
            ("SCRAM-SHA-1", "lost"),
        ):
            labels = {"mechanism": mechanism, "result": result}
            self.assertEqual(1, self.figures("cms_callbridge_logins_total", **labels), labels)
        self.assertEqual(0, self.figures("cms_callbridge_exchanges"))


class StepTests(SynchronousTestCase):
    """Names of steps in labels."""

    def test_states(self) -> None:
        """Each step that can be running is a state."""
        self.assertEqual(
            {step.title for step in Step if 2 <= step <= 11},
            set(STATES) - {"stopped", "waiting", "resuming", "ending"},
        )
