"""Clients of others over WebSocket (RFC 7395), in node and in Chromium."""

from __future__ import annotations

import re
from typing import Any

import pytest

from peers.certs import Certificates
from peers.clients import Driver, npm_client
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer
from peers.haproxy import HAProxy
from peers.network import free_port
from peers.processes import Processes

PASSWORD = "pass word"
PATH = "/xmpp-websocket"


class System:
    """
    Our pair, with two users; the server listens to browsers with TLS, and for a proxy.

    @ivar web: The port with TLS.
    @ivar plain: The other.
    """

    def __init__(self, processes: Processes, certificates: Certificates) -> None:
        self.processes, self._trust = processes, certificates.trust
        self.server = server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        self.pair = certificates.issue(DOMAIN, server.hostname, "localhost", "127.0.0.1")
        tls = {"certificate": str(self.pair.certificate), "key": str(self.pair.key)}
        server.settings["tls"].update(tls)
        self.web, self.plain = server.listen_web()
        here = f"localhost:{server.component_port}"
        self.callbridge = Callbridge(processes, certificates, "s3cret", server_address=here)
        for user in ("alice", "bob"):
            self.callbridge.add_user(f"{user}@{DOMAIN}", PASSWORD)

    def start(self) -> None:
        """The server, then the Callbridge."""
        self.server.start()
        self.callbridge.start()
        self.server.process.wait_for("decides log-ins", 10.0)

    def client(self, user: str, service: str = "", **more: Any) -> Driver:
        """C{@xmpp/client}, not connected yet."""
        service = service or f"wss://localhost:{self.web}{PATH}"
        return npm_client(self.processes, service, DOMAIN, user, PASSWORD, self._trust, **more)


@pytest.fixture
def system(processes: Processes, certificates: Certificates) -> System:
    """Running."""
    system = System(processes, certificates)
    system.start()
    return system


@pytest.mark.parametrize("sasl2", [False, True])
def test_node(system: System, *, sasl2: bool) -> None:
    """xmpp.js 0.13 and 0.14 with TLS and without: sessions of use, that end as they should."""
    bob = system.client("bob", sasl2=sasl2)
    bob.connected()
    for service in ("", f"ws://localhost:{system.plain}{PATH}"):
        alice = system.client("alice", service, sasl2=sasl2)
        jid = alice.connected()["jid"]
        assert jid.startswith(f"alice@{DOMAIN}/")
        assert alice.ping(DOMAIN)["type"] == "result"
        bob.message(jid, "<&> \u00fc \U0001f600")
        assert alice.expect("message")["body"] == "<&> \u00fc \U0001f600"
        alice.do("stop")
        assert alice.expect("stopped")["status"] == "offline"


def test_resumption_in_node(system: System) -> None:
    """A WebSocket that was cut is replaced, and nothing is lost."""
    alice, bob = system.client("alice", sasl2=True, resource="js"), system.client("bob")
    jid = alice.connected()["jid"]
    assert re.fullmatch(rf"alice@{DOMAIN}/js/[\w-]{{12}}", jid)
    bob.connected()
    for number in range(3):
        alice.do("cut")
        alice.expect("disconnected")
        alice.expect("resumed")
        bob.message(jid, f"after cut {number}")
        assert alice.expect("message")["body"] == f"after cut {number}"
    assert alice.ping(DOMAIN)["type"] == "result"


def test_proxies(processes: Processes, certificates: Certificates) -> None:
    """HAProxy ends TLS, as HTTP and as TCP with a PROXY header; the server knows the client."""
    system = System(processes, certificates)
    pem = processes.make_directory("proxy") / "both.pem"
    pem.write_text(system.pair.certificate.read_text() + system.pair.key.read_text())
    behind = free_port()
    listen = system.server.settings["listen"]
    listen["web_plain"].append(f"haproxy:tcp:{behind}:interface=127.0.0.1")
    proxy = HAProxy(processes)
    tls = f"ssl crt {pem} alpn http/1.1"
    ports = [
        proxy.before(system.plain, bind=tls, more="mode http"),
        proxy.before(behind, "send-proxy-v2", bind=tls),
    ]
    proxy.start()
    system.start()
    for port in ports:
        alice = system.client("alice", f"wss://localhost:{port}{PATH}")
        assert alice.connected()["jid"].startswith(f"alice@{DOMAIN}/")
        assert alice.ping(DOMAIN)["type"] == "result"
        alice.do("stop")
        alice.expect("stopped")
