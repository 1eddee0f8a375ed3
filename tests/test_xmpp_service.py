"""The XMPP server's service: its listeners, and its end."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from cms import loginprotocol as lp
from cms.xmlstream import ns
from cms.xmpp.service import XmppService, make_daemon
from tests.support import new_folder
from tests.xmppserver import DOMAIN, SECRETS, Peer, Server

CONFIGURATION = f"""
domain = "{DOMAIN}"
hostname = "xmpp1.{DOMAIN}"

[listen]
component_plain = ["tcp:5347:interface=127.0.0.1"]
client_plain = ["tcp:5222:interface=127.0.0.1"]

[callbridges]
cb1 = {{ secret = "{SECRETS["cb1"]}" }}
"""


class Daemon(Server):
    """The service itself, on listeners in memory."""

    def __init__(self, test: SynchronousTestCase) -> None:
        file = new_folder(test) / "xmpp.toml"
        file.write_text(CONFIGURATION)
        self.reactor: Any = MemoryReactorClock()
        self.reactor.advance(1_700_000_000)
        self.service: XmppService = make_daemon(file, self.reactor)
        self.service.privilegedStartService()
        self.service.startService()

    def _connect(self, port: int, content: str) -> Peer:
        factory = next(s[1] for s in self.reactor.tcpServers if s[0] == port)
        stream = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40000))
        return Peer(stream, "127.0.0.1", content)

    def component(self, host: str = "127.0.0.1") -> Peer:
        """A connection to the component port."""
        return self._connect(5347, ns.COMPONENT)

    def client(self, tls: object = None, **options: Any) -> Peer:
        """A connection to the client port."""
        return self._connect(5222, ns.CLIENT)


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
