"""The XMPP server's judgement of its own set-up, when it starts."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.names import error
from twisted.trial.unittest import SynchronousTestCase

from cms.audit.ownserver import OwnServer
from cms.configuration.tomlfile import Secret
from cms.discovery.resolver import DNS
from cms.trust.files import PEMFiles
from cms.xmpp.selfcheck import SelfCheck
from tests.fakedns import FakeResolver, a, srv
from tests.support import observe_log

DOMAIN = "meet.example.com"
HOST = "localhost.meet.example.com"
COMPONENT = f"_xmpp-component._tcp.{DOMAIN}"
CLIENT = f"_xmpp-client._tcp.{DOMAIN}"
ZONE: dict[str, Any] = {
    COMPONENT: [srv(10, 10, 5223, HOST)],
    CLIENT: [srv(10, 10, 5222, HOST)],
    HOST: [a("127.0.0.1")],
}
SERVER = OwnServer(
    file=Path("xmpp.toml"),
    domain=DOMAIN,
    hostname=HOST,
    state_dir=Path("state"),
    files=PEMFiles("xmpp.toml", None, None, None),
    listen={"component": ["tcp:5223"], "client": ["tcp:5222"]},
    secrets={f"cb1.{DOMAIN}": [Secret("one")]},
)


class SelfCheckTests(SynchronousTestCase):
    """What is in the log afterwards; certificates have tests of their own."""

    def setUp(self) -> None:
        """Listen to the log."""
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)
        self.reactor: Any = MemoryReactorClock()
        self.reactor.advance(1_800_000_000)

    def check(self, server: OwnServer = SERVER, zone: dict[str, Any] | None = None) -> SelfCheck:
        """Begin one."""
        self.resolver = FakeResolver(ZONE if zone is None else zone)
        dns = DNS(self.resolver, "the test", self.reactor)
        check = SelfCheck(self.reactor, lambda: server, dns, Random(1))
        check.start()
        return check

    def told(self) -> list[str]:
        """The faults that were logged; each has its words, and no more than warns."""
        self.reactor.advance(0)
        for event in self.events:
            self.assertLessEqual(event["log_level"], LogLevel.warn)
        faults = [event for event in self.events if "fault" in event]
        for event in faults:
            shown = formatEvent(event)
            self.assertIn(event["cause"], shown)
            self.assertIn(event["cure"], shown)
        return [event["fault"] for event in faults]

    def test_healthy(self) -> None:
        """One line says so."""
        self.check()
        self.assertEqual([], self.told())
        self.assertEqual(
            ["own set-up checked: nothing is wrong"], [formatEvent(e) for e in self.events]
        )

    def test_start_is_not_delayed(self) -> None:
        """Nothing is asked, read or connected to before the start is over."""
        self.check()
        self.assertEqual([], self.resolver.asked)
        self.told()
        self.assertNotEqual([], self.resolver.asked)
        self.assertEqual([], self.reactor.tcpClients)

    def test_single_box(self) -> None:
        """Without records in DNS it is told how the server is found then, and no more."""
        zone = {HOST: [a("127.0.0.1")]}
        self.check(zone=zone)
        self.assertEqual(["own-srv-missing", "client-srv-missing"], self.told())
        shown = formatEvent(self.events[0])
        self.assertIn("only where its server_address is configured", shown)

    def test_localhost(self) -> None:
        """A trial on one box: nobody wants records that lead to localhost."""
        self.check(evolve(SERVER, hostname="localhost"), zone={})
        self.assertEqual([], self.told())

    def test_wrong_records(self) -> None:
        """What is there, and wrong, is told."""
        self.check(zone={**ZONE, COMPONENT: [srv(10, 10, 5222, HOST)]})
        self.assertEqual(["own-srv-port", "srv-client-port"], self.told())

    def test_systemd_socket(self) -> None:
        """Nobody knows the port of a socket that systemd has opened."""
        listen = {"component": ["systemd:domain=INET6:name=c"], "client": ["tcp:5222"]}
        self.check(evolve(SERVER, listen=listen))
        self.assertEqual([], self.told())

    def test_no_callbridge(self) -> None:
        """A server just installed."""
        self.check(evolve(SERVER, secrets={}))
        self.assertEqual(["no-callbridge-known"], self.told())

    def test_secrets_are_not_shown(self) -> None:
        """Two with one secret: their names, not the secret."""
        secrets = {f"{name}.{DOMAIN}": [Secret("hush-hush")] for name in ("cb1", "cb2")}
        self.check(evolve(SERVER, secrets=secrets))
        self.assertEqual(["equal-secrets"], self.told())
        self.assertNotIn("hush-hush", str(self.events))

    def test_silent_dns(self) -> None:
        """It ends, and says what it waited for."""
        self.check(zone=dict.fromkeys(ZONE))
        for _ in range(6):
            self.told()
            self.reactor.advance(5)
        self.assertEqual(["dns-silent-srv", "dns-silent-address"], self.told())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_broken_dns(self) -> None:
        """So is a name server that fails."""
        self.check(zone=dict.fromkeys(ZONE, error.DNSServerError()))
        self.assertEqual(["dns-failed-srv", "dns-failed-address"], self.told())

    def test_stop(self) -> None:
        """A server that stops has no more questions, and logs nothing of it."""
        for early in (True, False):
            check = self.check(zone=dict.fromkeys(ZONE))
            if not early:
                self.told()
            asked = len(self.resolver.asked)
            check.stop()
            self.assertEqual([], self.told())
            self.assertEqual([], self.reactor.getDelayedCalls())
            self.assertEqual(asked, len(self.resolver.asked))

    def test_once(self) -> None:
        """One that is under way is left to end; another may follow."""
        check = self.check()
        check.start()
        self.told()
        self.assertEqual(1, len(self.events))
        check.start()
        self.told()
        self.assertEqual(2, len(self.events))
