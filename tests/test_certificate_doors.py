"""One verdict on a certificate, whoever is asked: commands, checks, and both daemons' starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as NobodyListens
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent
from twisted.python.failure import Failure

from cms.audit.finding import Finding
from cms.callbridge.daemon import make_daemon
from cms.callbridge.settings import current_config
from cms.check.renderers import JSONDocument
from cms.check.report import Report
from cms.check.run import LinkCheck
from cms.check.serverside import ServerCheck
from cms.check.subject import from_config
from cms.commands import certificates
from cms.discovery.resolver import DNS
from cms.signalflow import StepError
from cms.xmpp.config import read_config
from cms.xmpp.selfcheck import SelfCheck, held_secrets, own_server
from peers.pki import CLIENT, SERVER, Authority, Leaf, Validity, pem
from tests.commandline import DOMAIN, CommandLineTests
from tests.fakedns import FakeResolver, a, srv
from tests.support import observe_log
from tests.xmppserver import Threads

HOST = f"localhost.{DOMAIN}"
XMPP = f"""
domain = "{DOMAIN}"
hostname = "{HOST}"
state_dir = "xmpp"
[tls]
certificate = "own.crt"
key = "own.key"
trust = "ca.pem"
[listen]
component = ["tcp:5223"]
client = ["tcp:5222"]
[callbridges]
cb1 = {{ secret = "in the file" }}
"""
CALLBRIDGE = f"""
unique_name = "cb1"
domain = "{DOMAIN}"
server_address = "192.0.2.1:5223"
shared_secret = "not to be seen"
state_dir = "callbridge"
[tls]
certificate = "own.crt"
key = "own.key"
trust = "ca.pem"
"""
ZONE: dict[str, Any] = {
    f"_xmpp-component._tcp.{DOMAIN}": [srv(10, 10, 5223, HOST)],
    f"_xmpp-client._tcp.{DOMAIN}": [srv(10, 10, 5222, HOST)],
    HOST: [a("127.0.0.1")],
}
NAMES = (DOMAIN, HOST)
ROOT = Authority("Root")
LOWER = Authority("Lower CA", ROOT)
STRANGER = Authority("Issuing CA", Authority("Root of others"))
EXPIRED, SOON = Validity(-30, -1), Validity(-30, 21.5)
NOW = datetime.now(UTC)
STATES = {"failed": "wrong", "warning": "warning"}


class Certificate:
    """
    Files of one side.

    @ivar server: The fault that every door of a server names, if any, a failure or a warning.
    @ivar client: The same of a Callbridge.
    """

    def __init__(
        self,
        leaf: Leaf,
        chain: Sequence[Authority] = (),
        *,
        trusted: Sequence[Authority] = (ROOT,),
        key: Leaf | None = None,
        now: datetime = NOW,
        both: str = "",
        server: str = "",
        client: str = "",
    ) -> None:
        self.leaf, self.chain, self.trusted, self.key, self.now = leaf, chain, trusted, key, now
        self.server = {server or both} - {""}
        self.client = {client or both} - {""}


TABLE = {
    "good": Certificate(
        LOWER.issue(NAMES),
        [LOWER],
    ),
    # Between 21 and 30 days: one command had one limit, the other the other.
    "expires soon": Certificate(
        LOWER.issue(NAMES, validity=SOON),
        [LOWER],
        both="certificate-expires-soon",
    ),
    "intermediate expires soon": Certificate(
        (soon := Authority("Soon CA", ROOT, validity=SOON)).issue(NAMES),
        [soon],
        both="certificate-expires-soon",
    ),
    "expired": Certificate(
        ROOT.issue(NAMES, validity=EXPIRED),
        both="certificate-expired",
    ),
    "not yet valid": Certificate(
        ROOT.issue(NAMES, validity=Validity(1, 60)),
        both="certificate-not-yet-valid",
    ),
    "wrong order": Certificate(
        LOWER.issue(NAMES),
        [ROOT, LOWER],
        both="certificate-chain-order",
    ),
    "surplus": Certificate(
        ROOT.issue(NAMES),
        [LOWER],
        both="certificate-chain-surplus",
    ),
    "missing intermediate": Certificate(STRANGER.issue(NAMES), both="own-chain-incomplete"),
    "for servers": Certificate(
        ROOT.issue(NAMES, usages=[SERVER]),
        server="certificate-no-client-use",
        client="certificate-usage-client",
    ),
    "for clients": Certificate(
        ROOT.issue(NAMES, usages=[CLIENT]), server="certificate-usage-server"
    ),
    "host is not named": Certificate(ROOT.issue([DOMAIN]), server="identity-host-missing"),
    "no name": Certificate(ROOT.issue([]), server="identity-no-san"),
    "wildcard": Certificate(ROOT.issue([DOMAIN, f"*.{DOMAIN}"]), server="identity-wildcard"),
    "another key": Certificate(
        ROOT.issue(NAMES),
        key=ROOT.issue(NAMES),
        both="configuration-value",
    ),
    "expired trust": Certificate(
        ROOT.issue(NAMES),
        trusted=[ROOT, Authority("Old root", validity=EXPIRED)],
        both="trust-ca-expired",
    ),
    "no clock": Certificate(
        ROOT.issue(NAMES),
        now=datetime(1980, 1, 1, tzinfo=UTC),
        both="clock-wrong",
    ),
}


def problems(findings: Iterable[Finding]) -> set[tuple[str, str, str]]:
    """State, fault and cure of what is wrong with files."""
    return {
        (STATES[each.result], each.problem.fault, each.problem.cure)
        for each in findings
        if each.problem is not None and each.problem.fault not in ELSEWHERE
    }


ELSEWHERE = {"connect-refused"}  # that there is no server is no matter of certificates


class LonelyReactor(Threads, MemoryReactorClock):
    """Nobody listens anywhere."""

    def connectTCP(self, *arguments: Any, **options: Any) -> Any:
        """Refused."""
        connector = super().connectTCP(*arguments, **options)
        refused = Failure(NobodyListens())
        self.callLater(0, arguments[2].clientConnectionFailed, connector, refused)
        return connector


class DoorTests(CommandLineTests):
    """Each row of the table, at every door."""

    status = 0

    def setUp(self) -> None:
        """Both configurations, a reactor at the right time, and an ear for the log."""
        super().setUp()
        self.write("xmpp.toml", XMPP)
        self.write("callbridge.toml", CALLBRIDGE)
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)

    def put(self, files: Certificate) -> None:
        """The files of a row."""
        pair = files.leaf.write(self.folder, *files.chain)
        self.write("own.crt", pair.certificate.read_bytes())
        key = files.key.write(self.folder).key if files.key is not None else pair.key
        self.write("own.key", key.read_bytes())
        (self.folder / "own.key").chmod(0o600)
        self.write("ca.pem", pem(*(ca.certificate for ca in files.trusted)))
        self.reactor: Any = LonelyReactor()
        self.reactor.advance(files.now.timestamp())
        self.dns = DNS(FakeResolver(ZONE), "the test", self.reactor)

    def logged(self, words: str) -> set[tuple[str, str, str]]:
        """What is in the log under these words."""
        told = [e for e in self.events if (e.get("log_format") or "").startswith(words)]
        self.events.clear()
        return {(STATES.get(e.get("result", ""), ""), e["fault"], e["cure"]) for e in told}

    # the doors of a server

    def certs(self, files: Certificate) -> set[tuple[str, str]]:
        """C{cms xmpp certs}: state and cure."""
        with patch.object(certificates, "now", lambda: files.now):
            found = self.facts("xmpp", "certs", status=self.status)["findings"]
        return {(each["state"], each["cure"]) for each in found if each["state"] != "ok"}

    def server_check(self) -> set[tuple[str, str, str]]:
        """C{cms check --server}."""
        config = read_config(self.folder / "xmpp.toml")
        check = ServerCheck(
            own_server(config, held_secrets(config)),
            JSONDocument(lambda text: None),
            random=Random(1),
        )
        with patch("cms.check.serverside.make_dns", lambda *_, **__: self.dns):
            return problems(self.run_check(check).findings)

    def run_check(self, check: ServerCheck | LinkCheck) -> Report:
        """A whole check, with all the time that it takes."""
        running = Deferred.fromCoroutine(check.run(self.reactor))
        for _ in range(60):
            self.reactor.advance(1)
        return self.successResultOf(running)

    def server_start(self) -> set[tuple[str, str, str]]:
        """The start of cms-xmpp."""
        config = read_config(self.folder / "xmpp.toml")
        SelfCheck(
            self.reactor, lambda: own_server(config, held_secrets(config)), self.dns, Random(1)
        ).start()
        self.reactor.advance(0)
        return self.logged("own set-up: ")

    # the doors of a Callbridge

    def link_check(self) -> set[tuple[str, str, str]]:
        """C{cms check}."""
        config = current_config(self.folder / "callbridge.toml")
        check = LinkCheck(from_config(config), JSONDocument(lambda text: None), random=Random(1))
        with patch("cms.check.run.make_dns", lambda *_, **__: self.dns):
            return problems(self.run_check(check).findings)

    def link_start(self) -> set[tuple[str, str]]:
        """The start of cms-callbridge: fault and cure; its log warns of all of them."""
        try:
            make_daemon(self.folder / "callbridge.toml", self.reactor).startService()
        except StepError as problem:
            return {(problem.fault, problem.cure)}
        return {(fault, cure) for _, fault, cure in self.logged("own certificates: ")}

    def test_table(self) -> None:
        """The same faults with the same cures, as failures or as warnings."""
        for name, files in TABLE.items():
            self.put(files)
            server = self.server_check()
            self.assertEqual(files.server, {fault for _, fault, _ in server}, name)
            self.assertEqual(server, self.server_start(), name)
            self.status = 1 if any(state == "wrong" for state, *_ in server) else 0
            self.assertEqual({(s, cure) for s, _, cure in server}, self.certs(files), name)
            link = self.link_check()
            self.assertEqual(files.client, {fault for _, fault, _ in link}, name)
            self.assertEqual({told[1:] for told in link}, self.link_start(), name)

    def test_shown_to_clients(self) -> None:
        """What the Callbridge's administration shows is judged as a server's too, by both."""
        self.write(
            "callbridge.toml", CALLBRIDGE + '[listen]\napi = ["tcp:0:interface=127.0.0.1"]\n'
        )
        self.put(TABLE["for clients"])
        told = self.link_check()
        self.assertEqual({("wrong", "certificate-usage-server")}, {(s, f) for s, f, _ in told})
        self.assertEqual({each[1:] for each in told}, self.link_start())
