"""The Callbridge daemon, put together, on a reactor in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.callbridge.daemon import CallbridgeService, make_daemon
from cms.callbridge.directories.synced import Difference, SyncOutcome, SyncStore
from cms.callbridge.ldap.mapping import parse_template
from cms.callbridge.ldap.settings import LdapSettings, parse_ldap_server
from cms.discovery.address import ServerAddress
from cms.linkprotocol import groups as gp
from cms.linkprotocol.groups import Group
from cms.linkprotocol.login import NS as LOGIN
from cms.linkprotocol.login import SessionBegin
from cms.trust.issue import CertificateAuthority
from cms.xmlstream import ns
from cms.xmlstream.replies import result_reply
from peers.pki import CLIENT, SERVER, Authority, pem
from tests import LoggedError
from tests.support import MemoryTransport, header, new_folder, observe_log, stanzas
from tests.xmppserver import Threads

DOMAIN, COMPONENT = "meet.example.com", "cb1.meet.example.com"
CONFIG = f"""\
unique_name = "cb1"
domain = "{DOMAIN}"
server_address = "192.0.2.1:5555"
shared_secret = "s3cret"
"""
UNPROTECTED = "[tls]\nunprotected = true\n"


class Reactor(Threads, MemoryReactorClock):
    """Its threads are quick."""


class ServiceTests(SynchronousTestCase):
    """A daemon whose server is the test."""

    def setUp(self) -> None:
        """A folder for its files, and an ear for its log."""
        self.folder = new_folder(self)
        self.reactor: Any = Reactor()
        self.events: list[LogEvent] = []
        observe_log(self, self.events.append)

    def daemon(self, more: str = UNPROTECTED, config: str = CONFIG) -> CallbridgeService:
        """The daemon of a configuration file."""
        file = self.folder / "callbridge.toml"
        file.write_text(f"{config}{more}[record]\ndays = 0\n")  # there are no threads here
        return make_daemon(file, self.reactor)

    def connect(self) -> MemoryTransport:
        """The newest connection comes about."""
        factory = self.reactor.tcpClients[-1][2]
        transport = MemoryTransport("192.0.2.1", 5555)
        transport.connect(factory.buildProtocol(None))
        return transport

    def register(self) -> MemoryTransport:
        """And the server accepts the component."""
        transport = self.connect()
        self.say(transport, header(ns.COMPONENT, " id='i1'") + b"<handshake/>")
        *_, ping = stanzas(transport.take(), ns.COMPONENT)
        self.say(transport, result_reply(ping).raw)
        return transport

    def say(self, transport: MemoryTransport, data: str | bytes) -> None:
        """The server says something."""
        transport.protocol.dataReceived(data.encode() if isinstance(data, str) else data)

    def ask_mechanisms(self, transport: MemoryTransport, sender: str) -> str | None:
        """What kind of answer a question of the log-in protocol gets."""
        self.say(
            transport,
            f"<iq type='get' id='q' from='{sender}' to='{COMPONENT}'>"
            f"<mechanisms xmlns='{LOGIN}'/></iq>",
        )
        (answer,) = stanzas(transport.take(), ns.COMPONENT)
        return answer.type

    def logged(self, pattern: str) -> list[LogEvent]:
        """The events whose format matches."""
        return [e for e in self.events if re.search(pattern, e.get("log_format") or "")]


class LifeTests(ServiceTests):
    """Start, stop, and what happens between."""

    def test_whole_way(self) -> None:
        """It connects where it is told, registers, answers, and ends properly."""
        daemon = self.daemon()
        daemon.startService()
        self.assertEqual(("192.0.2.1", 5555), self.reactor.tcpClients[-1][:2])
        transport = self.register()
        self.assertEqual("active", daemon.link.status()["state"])
        self.say(transport, "<iq type='get' id='p' from='a@b'><ping xmlns='urn:xmpp:ping'/></iq>")
        (pong,) = stanzas(transport.take(), ns.COMPONENT)
        self.assertEqual(("result", "p"), (pong.type, pong.id))
        stopped = daemon.stopService()
        self.assertEqual("</stream:stream>", transport.take())
        self.say(transport, "</stream:stream>")
        self.successResultOf(stopped)
        self.assertTrue(transport.lost)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_log(self) -> None:
        """A step is one line with fields; the line of step 11 says so."""
        daemon = self.daemon()
        daemon.startService()
        self.register()
        (active,) = [e for e in self.events if e.get("step") == 11]
        self.assertEqual("step 11 active", active["step_text"])
        self.assertEqual(1, active["attempt"])
        self.assertEqual({"peer": "192.0.2.1:5555"}, active["evidence"])
        steps = [e["step"] for e in self.events if e.get("result") == "passed"]
        self.assertEqual([2, 3, 5, 6, 7, 9, 10], sorted(set(steps)))

    def test_failure_in_the_log(self) -> None:
        """A step that fails says why, and what mends it."""
        daemon = self.daemon()
        daemon.startService()
        transport = self.connect()
        self.say(transport, header(ns.COMPONENT, " id='i1'"))
        self.say(
            transport,
            f"<stream:error><not-authorized xmlns='{ns.STREAM_ERRORS}'/></stream:error>",
        )
        (failed,) = [e for e in self.events if e.get("result") == "failed"]
        self.assertEqual((10, "wrong-secret"), (failed["step"], failed["fault"]))
        self.assertIn(COMPONENT, failed["cause"])
        self.assertIn("shared_secret", failed["cure"])
        self.assertNotIn("s3cret", str(self.events))

    def test_loud_without_tls(self) -> None:
        """A link without TLS is warned of at the start, and again at each attempt."""
        daemon = self.daemon()
        daemon.startService()
        self.assertEqual(1, len(self.logged("^WARNING")))
        for attempt in (1, 2):
            transport = self.register()
            warned = [e for e in self.logged("^attempt.*{cause}$") if e.get("step") == 7]
            self.assertEqual(attempt, len(warned))
            self.assertIn("NO TLS", warned[-1]["cause"])
            transport.lose()
            self.reactor.advance(1)


class Looked(dict[str, SessionBegin]):
    """Sessions; counts how often all of them were looked at."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


class EndedTests(ServiceTests):
    """Many users may not have their sessions any more."""

    def test_many(self) -> None:
        """Those who have one end; it is looked once who they are, and not for each user."""
        daemon = self.daemon()
        daemon.startService()
        transport = self.register()
        begun = {
            jid: SessionBegin(jid, "192.0.2.7", "2026-11-29T12:00:00Z")
            for jid in (f"user{number}@{DOMAIN}/r" for number in range(50, 150))
        }
        daemon.authority.sessions = sessions = Looked(begun)
        told = daemon._users_ended([f"user{number}" for number in range(140, 400)], "deleted")
        self.assertEqual(10, told)
        self.reactor.advance(0)
        ended = [str(each.element.toXml()) for each in stanzas(transport.take(), ns.COMPONENT)]
        self.assertEqual(10, len(ended))
        self.assertIn(f"user149@{DOMAIN}", ended[-1])
        self.assertEqual(1, sessions.times)


class DirectoriesTests(ServiceTests):
    """Directories that the API makes and deletes."""

    def test_groups_are_told_again(self) -> None:
        """Those of a directory that is deleted are gone, and the server hears of it at once."""
        daemon = self.daemon()
        told: list[list[Group] | None] = []

        def changed() -> None:
            ours = daemon._own_groups()
            told.append(None if ours is None else ours.read())

        self.patch(daemon.groups, "changed", changed)
        ad = LdapSettings(
            name="api-1",
            servers=(parse_ldap_server("ldaps://192.0.2.3"),),
            base="dc=x",
            jid=parse_template(f"$uid$@{DOMAIN}"),
            groups_base="dc=x",
        )
        group = Group("0" * 16, "Board", ("anna", "bert"))
        for made in ((), (ad,), ()):
            self.successResultOf(Deferred.fromCoroutine(daemon.directories.use_made(made)))
            if made:
                outcome = SyncOutcome("api-1", "2026-11-29T05:00:00+00:00", 0.1)
                assert daemon.directories.store is not None
                daemon.directories.store.replace(outcome, [], Difference(), [], [group])
                daemon._synced()
        self.assertEqual([None, [], [group], []], told)

    def test_taken_out_of_the_file(self) -> None:
        """
        A start without the directories of before: the server is asked what it knows of them; what
        is left of them keeps no daemon from starting.
        """
        store = SyncStore(self.folder / "state")
        daemon = self.daemon()
        daemon.startService()
        transport = self.register()
        mechanisms = f"<mechanisms xmlns='{LOGIN}'/>"
        self.say(transport, f"<iq type='get' id='q' from='{DOMAIN}'>{mechanisms}</iq>")
        _, asked = stanzas(transport.take(), ns.COMPONENT)
        self.assertEqual((COMPONENT, gp.Ask()), (asked.sender, gp.parse(asked.child)))
        store.path.write_bytes(b"no database" * 100)
        self.assertIsNone(self.daemon().directories.store)
        (warned,) = self.logged("^groups that")
        self.assertIn("directories.sqlite3", warned["cause"])


class ConfigureTests(ServiceTests):
    """New settings while it runs."""

    def test_other_server(self) -> None:
        """The link moves to the new address at once."""
        daemon = self.daemon()
        daemon.startService()
        transport = self.register()
        server = ServerAddress("192.0.2.9", 5223, is_ip=True)
        daemon.configure(evolve(daemon.config.link, server=server))
        self.say(transport, "</stream:stream>")
        self.assertTrue(transport.lost)
        self.assertEqual(("192.0.2.9", 5223), self.reactor.tcpClients[-1][:2])
        self.assertEqual(server, daemon.config.link.server)

    def test_other_domain(self) -> None:
        """Log-ins are then decided for that domain's server, and no other's."""
        daemon = self.daemon()
        daemon.startService()
        transport = self.register()
        self.assertEqual("result", self.ask_mechanisms(transport, DOMAIN))
        self.assertEqual("error", self.ask_mechanisms(transport, "new.example.com"))
        daemon.configure(evolve(daemon.config.link, domain="new.example.com"))
        self.say(transport, "</stream:stream>")
        transport = self.register()
        self.assertEqual("result", self.ask_mechanisms(transport, "new.example.com"))
        self.assertEqual("error", self.ask_mechanisms(transport, DOMAIN))

    def test_same_domain(self) -> None:
        """Settings that leave the domain alone leave the log-in authority alone."""
        daemon = self.daemon()
        authority = daemon.authority
        daemon.configure(evolve(daemon.config.link, component="x.example.com"))
        self.assertIs(authority, daemon.authority)

    def test_tls_taken_away(self) -> None:
        """Settings without TLS are warned of as loudly as a file."""
        daemon = self.daemon("")
        self.assertEqual([], self.logged("^WARNING"))
        daemon.configure(evolve(daemon.config.link, unprotected=True))
        self.assertEqual(1, len(self.logged("^WARNING")))


class CertificateTests(ServiceTests):
    """The files of C{[tls]}."""

    TLS = '[tls]\ntrust = "ca.pem"\ncertificate = "cb1.crt"\nkey = "cb1.key"\n'

    def put(self, authority: CertificateAuthority) -> None:
        """Certificates for one Callbridge."""
        issued = authority.issue(COMPONENT)
        (self.folder / "ca.pem").write_bytes(authority.certificate)
        (self.folder / "cb1.crt").write_bytes(issued.certificate)
        (self.folder / "cb1.key").write_bytes(issued.key)

    def context(self) -> Any:
        """What the newest connection's TLS is made with."""
        return self.connect().tls._context

    def test_reload(self) -> None:
        """After a reload the next connection has the new files; the link stays."""
        self.put(CertificateAuthority("one"))
        daemon = self.daemon(self.TLS)
        daemon.startService()
        transport = self.connect()
        before = transport.tls._context
        self.put(CertificateAuthority("two"))
        daemon.reload()
        self.assertFalse(transport.lost)
        transport.lose()
        self.reactor.advance(5)
        self.assertIsNot(before, self.context())

    def test_bad_reload(self) -> None:
        """Files that cannot be used change nothing, and the log says which."""
        self.put(CertificateAuthority("one"))
        daemon = self.daemon(self.TLS)
        daemon.startService()
        transport = self.connect()
        (self.folder / "cb1.key").write_text("nonsense")
        daemon.reload()
        (event,) = self.logged("not reloaded")
        self.assertIn("tls.key", event["cause"])
        self.assertEqual(1, len(self.flushLoggedErrors(LoggedError)))
        transport.lose()
        self.reactor.advance(5)
        self.assertIs(transport.tls._context, self.context())

    def test_judged(self) -> None:
        """What peers will refuse is in the log at the start and after a reload, in each role."""
        root = Authority("Root")
        self.put(CertificateAuthority("one"))
        for usage, fault in (
            (SERVER, "certificate-usage-client"),
            (CLIENT, "certificate-usage-server"),
        ):
            pair = root.issue([COMPONENT], usages=[usage]).write(self.folder)
            (self.folder / "cb1.crt").write_bytes(pair.certificate.read_bytes())
            (self.folder / "cb1.key").write_bytes(pair.key.read_bytes())
            (self.folder / "ca.pem").write_bytes(pem(root.certificate))
            daemon = self.daemon(self.TLS + '[listen]\napi = ["tcp:0:interface=127.0.0.1"]\n')
            for act in (daemon.startService, daemon.reload):
                before = len(self.logged("own certificates"))
                act()
                told = [event["fault"] for event in self.logged("own certificates")[before:]]
                self.assertEqual([fault], [name for name in told if "usage" in name])

    def test_bad_start(self) -> None:
        """At the start such a file ends it."""
        self.put(CertificateAuthority("one"))
        (self.folder / "cb1.crt").unlink()
        error = self.assertRaises(faults.ConfigurationError, self.daemon, self.TLS)
        self.assertIn("tls.certificate", error.cause)

    def test_state_that_cannot_be_kept(self) -> None:
        """A state_dir that is no folder ends the start with its name."""
        (self.folder / "state").write_text("a file")
        error = self.assertRaises(faults.ConfigurationError, self.daemon)
        self.assertIn("state_dir", error.cause)

    def test_verification(self) -> None:
        """Domain and host are both asked of the server's certificate, with SNI for names only."""
        self.put(CertificateAuthority("one"))
        daemon = self.daemon(self.TLS)
        daemon.startService()
        verification = self.connect().tls
        connection = verification.clientConnectionForTLS(None)
        self.assertIsNone(connection.get_servername())
        self.assertTrue(connection.get_verify_mode())
