"""
Connections that are cut at random places while numbered messages flow both ways (XEP-0198).

Nothing is lost, nothing comes twice, and nothing is overtaken.  C{CMS_CUTS} says for how
many cuts the raw clients run, C{CMS_SEED} with which random numbers.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from peers.certs import Certificates
from peers.clients import Driver, slixmpp_managed
from peers.contract import DOMAIN, ROOT
from peers.daemons import XmppServer
from peers.network import free_port, wait_until
from peers.processes import Processes

CUTS = int(os.environ.get("CMS_CUTS", "150"))
SEED = int(os.environ.get("CMS_SEED", "198"))
USERS = 4  # raw clients
SLIXMPP_CUTS = 12
MESSAGES = 200  # of each slixmpp
PASSWORD = "password"


def _driver(processes: Processes, name: str, **settings: Any) -> Driver:
    command = [sys.executable, "-u", str(ROOT / "peers" / "drivers" / f"{name}.py")]
    return Driver(processes, name, command, settings)


def cutter(processes: Processes, **settings: Any) -> Driver:
    """The proxy, see F{drivers/cutter.py}."""
    return _driver(processes, "cutter", seed=SEED, **settings)


class Scene:
    """
    The daemons, and the proxy before the server.

    @param port: Of the proxy, to the listener with STARTTLS.
    @param more: Settings of the proxy.
    @ivar ports: Of the proxy: to the listener without TLS, to that with TLS from the first
        byte, to that with STARTTLS.
    """

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        cuts: int,
        users: int = USERS,
        port: int = 0,
        **more: Any,
    ) -> None:
        self._processes = processes
        self.trust = certificates.trust
        self.server = server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        plain, direct = free_port(), free_port()
        server.settings["listen"] |= {
            "client_plain": [f"tcp:{plain}:interface=127.0.0.1"],
            "client_direct": [f"tcp:{direct}:interface=127.0.0.1"],
        }
        server.start()
        self.callbridge = server.callbridge()
        for number in range(users):
            self.callbridge.add_user(f"u{number}@{DOMAIN}", PASSWORD)
        self.callbridge.start()
        self.ports = [free_port(), free_port(), port or free_port()]
        paths = list(zip(self.ports, (plain, direct, server.client_port), strict=True))
        self.cutter = cutter(processes, cuts=cuts, ports=paths, **more)

    def raw_clients(self) -> Driver:
        """Half of them over TLS; each pair has one of both."""
        clients = [
            {
                "user": f"u{number}",
                "to": f"u{number ^ 1}@{DOMAIN}/r",
                "domain": DOMAIN,
                "password": PASSWORD,
                "port": self.ports[number % 2],
                "trust": str(self.trust) if number % 2 else "",
            }
            for number in range(USERS)
        ]
        return _driver(self._processes, "managed_clients", seed=SEED, clients=clients)

    def slixmpp(self, user: str) -> Driver:
        """slixmpp with STARTTLS, by way of the proxy."""
        jid = f"{user}@{DOMAIN}"
        return slixmpp_managed(self._processes, jid, PASSWORD, self.ports[2], self.trust)


@pytest.fixture
def scene(processes: Processes, certificates: Certificates) -> Scene:
    """Ready, and nobody is logged in."""
    return Scene(processes, certificates, CUTS)


def test_raw_clients(scene: Scene) -> None:
    """Two pairs: each gets exactly what its neighbour wrote, in its order."""
    clients = scene.raw_clients()
    clients.do("connect")
    clients.expect("online")
    clients.do("write")
    scene.cutter.do("cut")
    cuts = scene.cutter.expect("enough", 60.0 + CUTS / 5)["cuts"]
    clients.do("finish")
    facts = clients.expect("finished", 30.0)["clients"]
    assert [client["wrong"] for client in facts] == [[]] * USERS
    for number, client in enumerate(facts):
        assert client["received"] == list(range(facts[number ^ 1]["sent"]))
    resumed = sum(client["resumed"] for client in facts)
    print(
        f"seed {SEED}: {cuts}, {sum(c['sent'] for c in facts)} messages, {resumed} resumptions in"
        f" {sum(c['connections'] for c in facts)} connections,"
        f" {sum(c['again'] for c in facts)} stanzas sent again by clients"
    )
    assert sum(cuts.values()) == CUTS
    assert min(cuts.values()) > 0
    assert resumed > CUTS / 4


def test_slixmpp(processes: Processes, certificates: Certificates) -> None:
    """Two that write to each other resume by themselves, and get all that was written."""
    scene = Scene(processes, certificates, SLIXMPP_CUTS, users=2)
    users = ["u0", "u1"]
    clients = [scene.slixmpp(user) for user in users]
    jids = []
    for client in clients:
        jids.append(client.connected()["jid"])
        client.expect("enabled")
    scene.cutter.do("cut")
    for number, client in enumerate(clients):
        client.do("write", to=jids[1 - number], first=0, last=MESSAGES)
    for client in clients:
        client.expect("written", 60.0)
    counted: list[dict[str, Any]] = []

    def complete() -> bool:
        counted.clear()
        for client in clients:
            client.do("count")
            counted.append(client.expect("counted"))
        return all(len(counted[n]["messages"]) >= len(counted[1 - n]["sent"]) for n in (0, 1))

    wait_until(complete, 20.0, "all messages")
    for number in (0, 1):
        assert counted[number]["messages"] == counted[1 - number]["sent"]
        assert len(counted[number]["sent"]) > MESSAGES * 0.9
    assert sum(facts["resumed"] for facts in counted) > 0  # most cuts are amid a handshake
