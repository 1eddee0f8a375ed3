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
from peers.clients import Driver
from peers.contract import DOMAIN, ROOT
from peers.daemons import Callbridge, XmppServer
from peers.network import free_port
from peers.processes import Processes

CUTS = int(os.environ.get("CMS_CUTS", "400"))
SEED = int(os.environ.get("CMS_SEED", "198"))
USERS = 8
PASSWORD = "password"


class Scene:
    """
    The daemons, and the proxy before the server.

    @ivar ports: Of the proxy: to the listener without TLS, to that with TLS from the first
        byte, to that with STARTTLS.
    """

    def __init__(self, processes: Processes, certificates: Certificates, cuts: int) -> None:
        self._processes = processes
        self.trust = certificates.trust
        self.server = server = XmppServer(processes, certificates, {"cb1": "s3cret"})
        pair = certificates.issue(DOMAIN, server.hostname, "localhost")
        server.settings["tls"] |= {"certificate": str(pair.certificate), "key": str(pair.key)}
        plain, direct = free_port(), free_port()
        server.settings["listen"] |= {
            "client_plain": [f"tcp:{plain}:interface=127.0.0.1"],
            "client_direct": [f"tcp:{direct}:interface=127.0.0.1"],
        }
        server.start()
        address = f"localhost:{server.component_port}"
        self.callbridge = Callbridge(processes, certificates, "s3cret", server_address=address)
        for number in range(USERS):
            self.callbridge.add_user(f"u{number}@{DOMAIN}", PASSWORD)
        self.callbridge.start()
        self.ports = [free_port() for _ in range(3)]
        paths = list(zip(self.ports, (plain, direct, server.client_port), strict=True))
        self.cutter = self.driver("cutter", seed=SEED, cuts=cuts, ports=paths)

    def driver(self, name: str, **settings: Any) -> Driver:
        """A program of F{drivers}."""
        command = [sys.executable, "-u", str(ROOT / "peers" / "drivers" / f"{name}.py")]
        return Driver(self._processes, name, command, settings)

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
        return self.driver("managed_clients", seed=SEED, clients=clients)


@pytest.fixture
def scene(processes: Processes, certificates: Certificates) -> Scene:
    """Ready, and nobody is logged in."""
    return Scene(processes, certificates, CUTS)


def test_raw_clients(scene: Scene) -> None:
    """Four pairs: each gets exactly what its neighbour wrote, in its order."""
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
