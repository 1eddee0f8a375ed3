"""
Clients of two servers whose connections are cut at random places, and who come back to either:
numbered messages go on both ways (XEP-0198), and nobody else hears of it.

C{CMS_CUTS} says how many cuts, C{CMS_SEED} with which random numbers.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from itertools import pairwise
from typing import Any

from peers.certs import Certificates, Pair
from peers.clients import Driver, nbxmpp_managed, slixmpp_managed
from peers.contract import DOMAIN, ROOT
from peers.network import free_port, wait_until
from peers.processes import Processes
from peers.redis import Redis
from peers.test_cluster import House
from peers.test_resumption import SEED, cutter

CUTS = int(os.environ.get("CMS_CUTS", "40"))
LIBRARY_CUTS = int(os.environ.get("CMS_CUTS", "12"))
MESSAGES = int(os.environ.get("CMS_MESSAGES", "150"))
USERS = 4
PASSWORD = "password"


class Road:
    """
    Two servers, and the proxy that leads to either with each connection.

    @ivar plain: Its port to the listeners without TLS.
    @ivar port: To those with STARTTLS.
    """

    def __init__(self, processes: Processes, certificates: Certificates, **cuts: Any) -> None:
        self._processes = processes
        engine = Redis(processes)
        engine.start()
        self.house = house = House(processes, certificates, engine)
        self.trust = certificates.trust
        names = [server.hostname for server in house.servers]
        self.pair: Pair = certificates.issue(DOMAIN, "localhost", *names)
        plain = [free_port() for _ in names]
        for server, port in zip(house.servers, plain, strict=True):
            pair = self.pair
            server.settings["tls"] |= {"certificate": str(pair.certificate), "key": str(pair.key)}
            server.settings["listen"]["client_plain"] = [f"tcp:{port}:interface=127.0.0.1"]
        for number in range(USERS):
            house.callbridge.add_user(f"u{number}@{DOMAIN}", PASSWORD)
        house.start()
        self.plain, self.port = free_port(), free_port()
        ways = [(self.plain, plain), (self.port, [s.client_port for s in house.servers])]
        self.cutter = cutter(processes, ports=ways, **cuts)
        house.servers[0].process.wait_for("decides log-ins", 20)

    def raw_clients(self) -> Driver:
        """In pairs, see F{drivers/managed_clients.py}."""
        clients = [
            {
                "user": f"u{number}",
                "to": f"u{number ^ 1}@{DOMAIN}/r",
                "domain": DOMAIN,
                "password": PASSWORD,
                "port": self.plain,
                "trust": "",
            }
            for number in range(USERS)
        ]
        driver = ROOT / "peers" / "drivers" / "managed_clients.py"
        command = [sys.executable, "-u", str(driver)]
        settings = {"seed": SEED, "clients": clients}
        return Driver(self._processes, "managed_clients", command, settings)

    def said(self, text: str) -> int:
        """How often both servers said that."""
        return sum(server.process.output.count(text) for server in self.house.servers)

    def nothing_ended(self) -> None:
        """The Callbridge was told of no end."""
        assert "session ended" not in self.house.callbridge.process.output


def judge(sent: int, received: list[int]) -> None:
    """All came, once and in their order."""
    lost = sorted(set(range(sent)) - set(received))
    twice = [number for number, times in Counter(received).items() if times > 1]
    late = [b for a, b in pairwise(received) if b < a]
    assert (lost, twice, late) == ([], [], []), f"lost {lost}, twice {twice}, late {late}"


def test_raw_clients(processes: Processes, certificates: Certificates) -> None:
    """Two pairs: each gets exactly what its neighbour wrote, in its order."""
    road = Road(processes, certificates, cuts=CUTS)
    clients = road.raw_clients()
    clients.do("connect")
    clients.expect("online", 30.0)
    clients.do("write")
    road.cutter.do("cut")
    cuts = road.cutter.expect("enough", 60.0 + CUTS)["cuts"]
    clients.do("finish")
    facts = clients.expect("finished", 30.0)["clients"]
    assert [client["wrong"] for client in facts] == [[]] * USERS
    for number, client in enumerate(facts):
        judge(facts[number ^ 1]["sent"], client["received"])
    moved, resumed = road.said("was handed over by"), sum(client["resumed"] for client in facts)
    print(
        f"seed {SEED}: {cuts}, {sum(c['sent'] for c in facts)} messages, {resumed} resumptions,"
        f" {moved} of them at the other server,"
        f" {sum(c['again'] for c in facts)} stanzas sent again by clients"
    )
    assert moved > CUTS / 4
    road.nothing_ended()


def test_slixmpp(processes: Processes, certificates: Certificates) -> None:
    """Two that write to each other resume by themselves, at whichever server they come to."""
    road = Road(processes, certificates, cuts=LIBRARY_CUTS)
    users = [f"u{number}@{DOMAIN}" for number in (0, 1)]
    clients = [slixmpp_managed(processes, u, PASSWORD, road.port, road.trust) for u in users]
    jids = []
    for client in clients:
        jids.append(client.connected()["jid"])
        client.expect("enabled")
    road.cutter.do("cut")
    for number, client in enumerate(clients):
        client.do("write", to=jids[1 - number], first=0, last=MESSAGES)
    for client in clients:
        client.expect("written", 90.0)
    counted: list[dict[str, Any]] = []

    def complete() -> bool:
        counted.clear()
        for client in clients:
            client.do("count")
            counted.append(client.expect("counted"))
        return all(len(counted[n]["messages"]) >= len(counted[1 - n]["sent"]) for n in (0, 1))

    wait_until(complete, 30.0, "all messages")
    for number in (0, 1):
        assert counted[number]["messages"] == counted[1 - number]["sent"]
    moved = road.said("was handed over by")
    print(f"slixmpp: {[c['resumed'] for c in counted]} resumptions, {moved} at the other server")
    assert moved > 0
    road.nothing_ended()


def test_nbxmpp(processes: Processes, certificates: Certificates) -> None:
    """Gajim's library, and who writes to it over a connection that is not cut."""
    road = Road(processes, certificates, cuts=LIBRARY_CUTS)
    partner = slixmpp_managed(
        *(processes, f"u1@{DOMAIN}", PASSWORD, road.house.servers[1].client_port, road.trust)
    )
    partner_jid = partner.connected()["jid"]
    partner.expect("enabled")
    client = nbxmpp_managed(
        *(processes, f"u0@{DOMAIN}", PASSWORD, road.port, road.pair.certificate), ping=1
    )
    client.connected()
    client.expect("enabled")
    road.cutter.do("cut")
    partner.do("write", to=f"u0@{DOMAIN}/nbxmpp", first=0, last=MESSAGES, pause=0.02)
    client.do("write", to=partner_jid, first=0, last=MESSAGES)
    partner.expect("written", 90.0)
    client.expect("written", 90.0)
    heard: list[int] = []
    counted: dict[str, Any] = {}

    def settled() -> bool:
        client.do("count")
        counted.update(client.expect("counted"))
        partner.do("count")
        said = partner.expect("counted")["messages"]
        heard[:] = [int(text.split()[1]) for text in said]
        return len(counted["messages"]) >= MESSAGES and len(heard) >= MESSAGES

    wait_until(settled, 30.0, "all messages")
    assert counted["messages"] == heard == list(range(MESSAGES))
    moved = road.said("was handed over by")
    print(f"nbxmpp: {counted['resumed']} resumptions, {moved} at the other server")
    assert (counted["failed"], moved > 0) == (0, True)
    road.nothing_ended()
