"""The XMPP server's service: its listeners, and its end."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from cms import faults
from cms.linkprotocol import login as lp
from cms.process import openfiles
from cms.protection.connections import Limits
from cms.xmlstream import ns
from cms.xmlstream.flow import SendLimits
from cms.xmpp import listeners
from cms.xmpp.config import read_config
from cms.xmpp.daemon import XmppService, make_daemon
from tests.support import new_folder
from tests.xmppserver import DOMAIN, SECRETS, Peer, Server, Threads

CONFIGURATION = f"""
domain = "{DOMAIN}"
hostname = "xmpp1.{DOMAIN}"

[listen]
component_plain = ["tcp:5347:interface=127.0.0.1"]
client_plain = ["tcp:5222:interface=127.0.0.1"]

[record]
days = 0

[callbridges]
cb1 = {{ secret = "{SECRETS["cb1"]}" }}
"""


class Reactor(Threads, MemoryReactorClock):
    """In memory, its threads too."""


class Daemon(Server):
    """The service itself, on listeners in memory."""

    def __init__(self, test: SynchronousTestCase, configuration: str = CONFIGURATION) -> None:
        file = new_folder(test) / "xmpp.toml"
        file.write_text(configuration)
        self.reactor: Any = Reactor()
        self.reactor.advance(1_700_000_000)
        self.service: XmppService = make_daemon(file, self.reactor)
        test.patch(self.service._self_check, "start", lambda: None)  # there is no DNS here
        self.service.privilegedStartService()
        self.service.startService()

    def _connect(self, port: int, content: str, host: str = "127.0.0.1") -> Peer:
        factory = next(s[1] for s in self.reactor.tcpServers if s[0] == port)
        stream = factory.buildProtocol(IPv4Address("TCP", host, 40000))
        return Peer(stream, host, content)

    def component(self, host: str = "127.0.0.1") -> Peer:
        """A connection to the component port."""
        return self._connect(5347, ns.COMPONENT, host)

    def client(self, tls: object = None, **options: Any) -> Peer:
        """A connection to the client port."""
        return self._connect(5222, ns.CLIENT)


class GuessTests(SynchronousTestCase):
    """Wrong secrets, and who suffers by them."""

    def test_from_everywhere(self) -> None:
        """Whoever guesses, from however many addresses, does not keep a Callbridge out."""
        daemon = Daemon(self)
        for number in range(40):
            for _ in range(11):
                guesser = daemon.component(f"192.0.2.{number}")
                heard = guesser.open(to=f"cb1.{DOMAIN}", version="")
                guesser.say("<handshake>0</handshake>")
                daemon.reactor.advance(10.0)
        self.assertIn("too many failures", heard)
        daemon.component("198.51.100.1").register(f"cb1.{DOMAIN}", SECRETS["cb1"])


class ConfigurationTests(SynchronousTestCase):
    """What stops the start."""

    def refused(self, change: tuple[str, str], *words: str) -> None:
        """With this change the start ends with a complaint that holds these words."""
        file = new_folder(self) / "xmpp.toml"
        self.assertIn(change[0], CONFIGURATION)
        file.write_text(CONFIGURATION.replace(*change))
        error: Any = self.assertRaises(
            faults.ConfigurationError, make_daemon, file, MemoryReactorClock()
        )
        for word in (str(file), *words):
            self.assertIn(word, error.cause)
        self.assertNotIn(f'"{SECRETS["cb1"]}"', f"{error.cause} {error.cure}")

    def test_complaints(self) -> None:
        """Each names its key."""
        tls = "[tls]\ncertificate = 'a.crt'\nkey = 'a.key'\n"
        secure = tls + '[listen]\ncomponent = ["tcp:5223"]'
        required = secure.replace("key =", "callbridge_certificates = 'required'\nkey =")
        for new, *words in (
            ("[listen]\nclient = ['tcp:5222']", "tls.certificate", "listen.client"),
            ("[listen]\nclient_direct = ['tcp:5222']", "tls.certificate"),
            (secure, "tls.certificate", "a.crt"),
            (required, "tls.trust", "required"),
            (required.replace("required", "perhaps"), "tls.callbridge_certificates", "perhaps"),
            ("most_connections = 0\n[listen]", "most_connections"),
        ):
            self.refused(("[listen]", new), *words)

    def test_times_that_do_not_fit(self) -> None:
        """Of two times of which one must be the longer, the one to change is named."""
        wait = "[login]\nwait = 20\n[clients]\nlogin_timeout = 20\n[listen]"
        self.refused(("[listen]", wait), "clients.login_timeout", "login.wait, 20")
        stall = "[streams]\nstall_timeout = 3\n[listen]"
        self.refused(("[listen]", stall), "streams.patience", "streams.stall_timeout, 3")

    def test_timings(self) -> None:
        """What the file says of clients and components is what they are held to."""
        timings = """
[clients]
handshake_timeout = 11
login_timeout = 41
most_login_tries = 3
most_resources = 2
ping_interval = 21
ping_timeout = 12
send_limit = 600_000
[components]
register_timeout = 13
probe_timeout = 2
tcp_user_timeout = 9
answer_timeout = 14
send_limit = 2_000_000
[streams]
patience = 3
stall_timeout = 33
[listen]"""
        self.assertIn("[listen]", CONFIGURATION)
        daemon = Daemon(self, CONFIGURATION.replace("[listen]", timings))
        late = daemon.component()
        alice = daemon.client()
        daemon.reactor.advance(13)
        self.assertTrue(late.lost)
        self.assertFalse(alice.lost)
        daemon.reactor.advance(28)
        self.assertTrue(alice.lost)
        callbridge = daemon.callbridge()
        self.assertEqual(SendLimits(2_000_000, 3, 33), callbridge.handler.limits)
        bob = daemon.bound(callbridge, "bob", "one")
        self.assertEqual(SendLimits(600_000, 3, 33), bob.handler.limits)
        self.assertEqual(2, daemon.service.sessions.most_per_user)
        daemon.reactor.advance(21)
        self.assertIn("urn:xmpp:ping", bob.heard())
        daemon.reactor.advance(12)
        self.assertTrue(bob.lost)

    def test_callbridges(self) -> None:
        """A name that is no component address, or is there twice, is refused."""
        entry = f'cb1 = {{ secret = "{SECRETS["cb1"]}" }}'
        for name in ("a@b", "'a b'", f"'{DOMAIN}'", f"'x.{DOMAIN}/r'"):
            quoted = name if "'" in name else f"'{name}'"
            self.refused((entry, entry.replace("cb1", quoted, 1)), "callbridges.")
        self.refused((entry, f"{entry}\n{entry.replace('cb1', 'CB1', 1)}"), "there already")
        self.refused((entry, "cb1 = {}"), "callbridges.cb1.secret")

    def test_places(self) -> None:
        """Of the places that the limit of files leaves, one address has a tenth, if not told."""
        self.patch(openfiles, "limit", lambda: 2_064)
        file = new_folder(self) / "xmpp.toml"
        for line, most in (("", None), ("most_per_address = 600\n", 600)):
            file.write_text(line + CONFIGURATION)
            self.assertEqual(Limits.of(2_000 // 3, most), read_config(file).connection_limits())

    def test_listeners(self) -> None:
        """A server that would listen nowhere, or in the open without TLS, does not start."""
        self.refused((":interface=127.0.0.1", ""), "listen.component_plain")
        nowhere = CONFIGURATION[CONFIGURATION.index("[listen]") : CONFIGURATION.index("[callb")]
        self.refused((nowhere, ""), "listen")


class WatchTests(SynchronousTestCase):
    """TCP's own care for connections."""

    def test_listeners(self) -> None:
        """It watches over the links, not over clients, which may be slow to answer."""
        watched: list[Any] = []
        prompt: list[Any] = []
        self.patch(listeners, "watch_socket", lambda *seen: watched.append(seen))
        self.patch(listeners, "send_at_once", prompt.append)
        Daemon(self)
        self.assertEqual([(5347, 20.0)], [(port.getHost().port, after) for port, after in watched])
        self.assertEqual({5347, 5222}, {port.getHost().port for port in prompt})


class StopTests(SynchronousTestCase):
    """What becomes of what is open when the server stops."""

    def test_sessions_end_before_links(self) -> None:
        """A Callbridge hears of the end of each session before its own link ends."""
        daemon = Daemon(self)
        callbridge = daemon.callbridge()
        alice = daemon.bound(callbridge, "alice")
        stopped = daemon.service.stopService()
        self.assertIn("<system-shutdown", alice.heard())
        ended, error = callbridge.received()
        self.assertEqual(
            lp.SessionEnd(f"alice@{DOMAIN}/r", "shutdown"),
            lp.parse(ended.element.firstChildElement()),
        )
        self.assertEqual("system-shutdown", error.element.firstChildElement().name)
        for peer in (alice, callbridge):
            peer.transport.lose()
        self.successResultOf(stopped)

    def test_stopped_amid_a_log_in(self) -> None:
        """A log-in that is under way ends with the server, and nothing is left."""
        daemon = Daemon(self)
        callbridge = daemon.callbridge()
        client = daemon.client()
        client.open()
        client.authenticate()
        (start,) = callbridge.received()
        stopped = daemon.service.stopService()
        self.assertIn("<system-shutdown", client.heard())
        kinds = [type(lp.parse(s.element.firstChildElement())) for s in callbridge.received()[:-1]]
        self.assertEqual([lp.Abort], kinds)
        callbridge.answer(start, lp.Failed("e", "not-authorized"))
        for peer in (client, callbridge):
            peer.transport.lose()
        self.successResultOf(stopped)
        self.assertEqual([], self.flushLoggedErrors())
        self.assertEqual([], [c for c in daemon.reactor.getDelayedCalls() if c.active()])
