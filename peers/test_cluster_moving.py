"""
Clients of two servers whose connections are cut at random places, and who come back to either:
numbered messages go on both ways (XEP-0198), and nobody else hears of it.

C{CMS_CUTS} says how many cuts, C{CMS_SEED} with which random numbers.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

from peers.api import Administration
from peers.certs import Certificates, Pair
from peers.clients import Driver, nbxmpp_managed, npm_client, slixmpp_managed
from peers.contract import DOMAIN, ROOT
from peers.network import free_port, wait_until
from peers.numbered import Client, Crowd
from peers.processes import Processes
from peers.redis import Redis
from peers.test_cluster import TEAM, House
from peers.test_resumption import SEED, cutter

CUTS = int(os.environ.get("CMS_CUTS", "30"))
MESSAGES = int(os.environ.get("CMS_MESSAGES", "150"))
MOVES = int(os.environ.get("CMS_MOVES", "5"))
USERS = 4
PASSWORD = "password"


class Road:
    """
    Two servers, and the proxy that leads to either with each connection.

    @ivar ports: Of the servers, without TLS and without the proxy.
    @ivar plain: The proxy's port to these.
    @ivar port: To those with STARTTLS.
    """

    def __init__(
        self, processes: Processes, certificates: Certificates, users: int, *, cuts: int = 0
    ) -> None:
        self.processes = processes
        engine = Redis(processes)
        engine.start()
        self.house = house = House(processes, certificates, engine)
        self.trust = certificates.trust
        names = [server.hostname for server in house.servers]
        self.pair: Pair = certificates.issue(DOMAIN, "localhost", "127.0.0.1", *names)
        self.ports = [free_port() for _ in names]
        for server, port in zip(house.servers, self.ports, strict=True):
            pair = self.pair
            server.settings["tls"] |= {"certificate": str(pair.certificate), "key": str(pair.key)}
            server.settings["listen"]["client_plain"] = [f"tcp:{port}:interface=127.0.0.1"]
        house.callbridge.space("add", "Team", "--uri", "team")
        house.start()
        house.servers[0].process.wait_for("decides log-ins", 20)
        administration = Administration(house.callbridge.directory / "state")
        for number in range(users):
            user = f"u{number}@{DOMAIN}"
            status, told = administration.ask(
                "POST", "/api/v1/users", userJid=user, password=PASSWORD
            )
            assert status == 200, told
        self.plain, self.port = free_port(), free_port()
        ways = [(self.plain, self.ports), (self.port, [s.client_port for s in house.servers])]
        self.cutter = cutter(processes, ports=ways, cuts=cuts)

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
        return Driver(self.processes, "managed_clients", command, settings)

    def slixmpp(self, number: int) -> Driver:
        """By way of the proxy."""
        user = f"u{number}@{DOMAIN}"
        return slixmpp_managed(self.processes, user, PASSWORD, self.port, self.trust)

    def nbxmpp(self, number: int) -> Driver:
        """Gajim's library, likewise."""
        user, certificate = f"u{number}@{DOMAIN}", self.pair.certificate
        return nbxmpp_managed(self.processes, user, PASSWORD, self.port, certificate, ping=1)

    def moved(self, user: str = "") -> int:
        """How often a session, or one of this user, was handed over."""
        text = f"{user}@{DOMAIN}/" if user else ""
        return sum(
            text in line
            for server in self.house.servers
            for line in server.process.output.splitlines()
            if "was handed over by" in line
        )

    def nothing_ended(self) -> None:
        """The Callbridge was told of no end."""
        assert "session ended" not in self.house.callbridge.process.output


def judge(sent: int, received: list[int]) -> None:
    """All came, once and in order."""
    lost = sorted(set(range(sent)) - set(received))
    twice = [number for number, times in Counter(received).items() if times > 1]
    late = [b for a, b in pairwise(received) if b < a]
    assert (lost, twice, late) == ([], [], []), f"lost {lost}, twice {twice}, late {late}"


def judge_raw(road: Road, clients: Driver) -> str:
    """Each has exactly what its neighbour wrote; what is to be told."""
    clients.do("finish")
    facts = clients.expect("finished", 30.0)["clients"]
    assert [client["wrong"] for client in facts] == [[]] * USERS
    for number, client in enumerate(facts):
        judge(facts[number ^ 1]["sent"], client["received"])
    moved = sum(road.moved(f"u{number}") for number in range(USERS))
    return (
        f"raw: {sum(c['sent'] for c in facts)} messages, {sum(c['resumed'] for c in facts)}"
        f" resumptions, {moved} at the other server"
    )


class Libraries:
    """slixmpp and Gajim's library, which write to each other."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._all = {"slixmpp": road.slixmpp(USERS), "nbxmpp": road.nbxmpp(USERS + 1)}
        slixmpp, nbxmpp = self._all.values()
        jids = slixmpp.connected()["jid"], f"u{USERS + 1}@{DOMAIN}/nbxmpp"
        nbxmpp.connected()
        for each in self._all.values():
            each.expect("enabled")
        slixmpp.do("write", to=jids[1], first=0, last=MESSAGES)
        nbxmpp.do("write", to=jids[0], first=0, last=MESSAGES)

    def judge(self) -> str:
        """All has come, once and in order."""
        for each in self._all.values():
            each.expect("written", 90.0)
        self._move()
        counted: dict[str, Any] = {}

        def numbers(name: str, key: str) -> list[int]:
            return [int(str(each).removeprefix("chat ").split()[0]) for each in counted[name][key]]

        def complete() -> bool:
            for name, each in self._all.items():
                each.do("count")
                counted[name] = each.expect("counted")
            return all(
                len(counted[one]["messages"]) >= len(counted[other]["sent"])
                for one, other in (("slixmpp", "nbxmpp"), ("nbxmpp", "slixmpp"))
            )

        wait_until(complete, 30.0, "all messages")
        for one, other in (("nbxmpp", "slixmpp"), ("slixmpp", "nbxmpp")):
            sent, heard = numbers(one, "sent"), numbers(other, "messages")
            assert sorted(heard) == sorted(sent), f"of {one}, by {other}"
            late = [b for a, b in pairwise(heard) if b < a]
            assert heard == sent, f"of {one}, by {other}, late {late}"
        assert counted["nbxmpp"]["failed"] == 0
        return (
            f"slixmpp and nbxmpp: {[facts['resumed'] for facts in counted.values()]} resumptions,"
            f" {self._moved()} at the other server"
        )

    def _moved(self) -> list[int]:
        return [self._road.moved(f"u{USERS + number}") for number in (0, 1)]

    def _move(self) -> None:
        """Chance may have led them back to the same server each time: one more cut, then."""
        for _ in range(20):
            if any(self._moved()):
                return
            self._road.cutter.do("cut", cuts=1)
            self._road.cutter.expect("enough", 20.0)
            time.sleep(1.0)  # until whoever was cut has come back
        raise AssertionError(f"after 20 more cuts none was handed over: {self._moved()}")


def goes_by_sasl2(road: Road, user: str, writer: Driver) -> str:
    """xmpp.js 0.14 resumes with its log-in; what came meanwhile comes with that."""
    service = f"xmpp://127.0.0.1:{road.port}"
    client = npm_client(road.processes, service, DOMAIN, user, PASSWORD, road.trust, sasl2=True)
    jid = client.connected()["jid"]
    for number in range(6):
        client.do("cut")
        client.expect("disconnected")
        bodies = [f"{n} after cut {number}" for n in range(20)]
        for body in bodies:
            writer.message(jid, body)
        assert [client.expect("message")["body"] for _ in bodies] == bodies
        if number >= 1 and road.moved(user):
            break
    assert road.moved(user)
    return f"xmpp.js: {number + 1} resumptions, {road.moved(user)} at the other server"


def test_clients(processes: Processes, certificates: Certificates) -> None:
    """Raw clients, slixmpp and nbxmpp at random cuts, and xmpp.js with SASL2."""
    road = Road(processes, certificates, USERS + 4, cuts=CUTS)
    raw = road.raw_clients()
    raw.do("connect")
    raw.expect("online", 30.0)
    libraries = Libraries(road)
    raw.do("write")
    road.cutter.do("cut")
    cuts = road.cutter.expect("enough", 60.0 + CUTS)["cuts"]
    told = [judge_raw(road, raw), libraries.judge()]
    writer = road.slixmpp(USERS + 2)
    writer.connected()
    told.append(goes_by_sasl2(road, f"u{USERS + 3}", writer))
    print(f"seed {SEED}: {cuts}; {'; '.join(told)}")
    assert road.moved() > CUTS / 10
    road.nothing_ended()


class Talk:
    """
    Bob at the first server, and Alice who goes from one to the other, in one room; and Alice has
    another client, at the first.
    """

    def __init__(self, road: Road, crowd: Crowd) -> None:
        self.road, self.crowd = road, crowd
        self.number = 0

        def client(user: str, at: int, resource: str = "r") -> Client:
            managed, random = resource == "r", Random(SEED)
            return Client(
                *(user, DOMAIN, road.ports, at), managed=managed, random=random, resource=resource
            )

        self.bob, self.other = client("u1", 0), client("u0", 0, "other")
        self.alice = client("u0", 1)
        for each in (self.bob, self.other, self.alice):
            crowd.enter(each)
            wait_until(lambda: each.is_there, 20, "a log-in")  # noqa: B023
        crowd.call(self.alice.send, f"<presence to='{self.bob.jid}'/>")
        enable = "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>"
        crowd.call(self.alice.send, enable)
        for each, nick in ((self.bob, "bob"), (self.alice, "alice")):
            muc = "<x xmlns='http://jabber.org/protocol/muc'/>"
            crowd.call(each.send, f"<presence to='{TEAM}/{nick}'>{muc}</presence>")
            wait_until(lambda: 'code="110"' in "".join(each.others), 10, "a room")  # noqa: B023
        self.carbons = 0

    def say(self, times: int) -> None:
        """A message each way, one in the room, and one to Alice's other client."""
        for _ in range(times):
            for sender, receiver in ((self.bob, self.alice.jid), (self.alice, self.bob.jid)):
                self.number += 1
                self.crowd.call(sender.say, receiver, self.number)
            self.number += 1
            said = f"<message type='groupchat' to='{TEAM}' id='{self.number}'><body>x</body>"
            self.crowd.call(self.bob.send, said + "</message>")
            self.number += 1
            self.crowd.call(self.bob.say, self.other.jid, self.number)
            time.sleep(0.01)

    def judge(self) -> None:
        """All has come, once and in its order, and nobody has noticed anything."""
        sent = {
            who: [s.number for s in who.life.sent if s.to != self.other.jid] for who in self.all
        }
        room = f"{TEAM}/bob"

        def heard(who: Client, sender: str) -> list[int]:
            return [number for source, number in who.life.heard if source == sender]

        def carbons() -> int:
            return sum("urn:xmpp:carbons:2" in text for text in self.alice.others)

        copied = [s.number for s in self.bob.life.sent if s.to == self.other.jid]
        wait_until(lambda: heard(self.alice, room) == heard(self.bob, room), 10, "the room")
        wait_until(lambda: heard(self.alice, self.bob.jid) == sent[self.bob], 10, "what Bob says")
        wait_until(lambda: heard(self.bob, self.alice.jid) == sent[self.alice], 10, "what she says")
        wait_until(lambda: carbons() == len(copied), 10, "copies")
        assert heard(self.other, self.bob.jid) == copied
        assert len(heard(self.bob, room)) == len(sent[self.bob])
        assert 'type="unavailable"' not in "".join(self.bob.others)
        assert all(len(who.lives) == 1 and not who.life.errors for who in self.all)
        assert not self.crowd.failures()
        self.road.nothing_ended()

    @property
    def all(self) -> list[Client]:
        """Those who manage their streams."""
        return [self.bob, self.alice]


def test_nobody_notices(processes: Processes, certificates: Certificates) -> None:
    """
    Alice goes from server to server while all talk; in the end the server that has just handed her
    over is killed.
    """
    road = Road(processes, certificates, 2)
    first, second = road.house.servers
    with Crowd() as crowd:
        talk = Talk(road, crowd)
        took = []
        for number in range(MOVES):
            talk.say(10)
            began, moves = time.monotonic(), talk.alice.life.moves
            crowd.call(talk.alice.go, number % 2)
            while talk.alice.life.moves == moves:
                talk.say(1)
                assert time.monotonic() - began < 60
            took.append(time.monotonic() - began)
        second.process.signal(signal.SIGKILL)
        talk.say(20)
        first.process.wait_for(f"node {second.hostname} is gone", 15)
        talk.say(10)
        talk.judge()
        print(f"moved {MOVES} times, {talk.number} messages; away {max(took):.2f} s at most")
