"""Two real servers and a real Redis: one service."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from peers.bind import Bind
from peers.certs import Certificates
from peers.clients import Driver, slixmpp_client, slixmpp_guest
from peers.contract import DOMAIN
from peers.daemons import Callbridge, XmppServer, daemon_environment
from peers.operating import block
from peers.processes import Processes
from peers.redis import Redis, Sentinels
from peers.tools import script

ALICE, BOB, PASSWORD = f"alice@{DOMAIN}", f"bob@{DOMAIN}", "password"
JOINED = "is in the cluster, generation"
TEAM = f"team@cb1.{DOMAIN}"
DEAD_SECONDS = 20.0  # on a busy machine, until nobody shows a session of a server that was killed


class House:
    """Servers of one cluster, and a Callbridge that is connected to the first."""

    def __init__(
        self,
        processes: Processes,
        certificates: Certificates,
        engine: Redis | Sentinels,
        *,
        servers: int = 2,
        users: Sequence[str] = (ALICE, BOB),
        **cluster: Any,
    ) -> None:
        self.processes = processes
        self.certificates = certificates
        self.engine = engine
        names = [f"xmpp{number}" for number in range(1, servers + 1)]
        secrets = {"cb1": "s3cret", "cb2": "s3cret2"}
        self.servers = [XmppServer(processes, certificates, secrets, name) for name in names]
        for server in self.servers:
            server.settings["cluster"] = {"engine": engine.address, **cluster}
        records = [f"{name} A 127.0.0.1" for name in names]
        records += [
            f"_xmpp-component._tcp SRV {priority} 10 {server.component_port} {name}"
            for priority, (name, server) in enumerate(zip(names, self.servers, strict=True))
        ]
        dns = Bind(processes, {DOMAIN: records})
        dns.start()
        for server in self.servers:
            server.settings["dns"] = {"servers": [dns.address]}
        self.callbridge = Callbridge(processes, certificates, "s3cret", dns=dns)
        for user in users:
            self.callbridge.add_user(user, PASSWORD)

    def start(self) -> None:
        """All, which know each other when this returns."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_ready()
            server.process.wait_for(JOINED, 20)
            for other in self.servers:
                if other is not server:
                    name = other.settings["hostname"]
                    server.process.wait_for(f"node {name} is in the cluster", 20)
        self.callbridge.start()

    def command(self, *words: str) -> str:
        """C{cms} at the first server; what it prints."""
        command = [*script("cms"), *words, "--config", str(self.servers[0].file)]
        status, output = self.processes.run("cms", command, env=daemon_environment())
        assert status == 0, output
        return output

    def client(self, jid: str, server: XmppServer) -> Driver:
        """A client of this server, which is not connected."""
        trust = self.certificates.trust
        return slixmpp_client(self.processes, jid, PASSWORD, server.client_port, trust)


def make_house(
    processes: Processes, certificates: Certificates, **settings: Any
) -> tuple[House, XmppServer, XmppServer]:
    """A house with two servers, which was started."""
    engine = Redis(processes)
    engine.start()
    house = House(processes, certificates, engine, **settings)
    house.start()
    return house, house.servers[0], house.servers[1]


def reaches(sender: Driver, receiver: Driver, to: str, body: str) -> Mapping[str, Any]:
    """Send a message, and wait until it is there."""
    sender.message(to, body)
    event = receiver.expect("message")
    assert event["body"] == body, event
    return event


def test_one_service(processes: Processes, certificates: Certificates) -> None:
    """A log-in decided at the other server, and messages in both directions."""
    house, one, two = make_house(processes, certificates, lease=60.0)
    alice, bob = house.client(ALICE, one), house.client(BOB, two)
    alice_jid, bob_jid = alice.connected()["jid"], bob.connected()["jid"]
    reaches(alice, bob, bob_jid, "to a full address")
    reaches(bob, alice, alice_jid, "and back")
    reaches(alice, bob, BOB, "to a bare one")
    assert bob.ping(f"cb1.{DOMAIN}")["type"] == "result"
    assert bob.ping(alice_jid)["type"] == "result"
    _, *words = block("cluster-status").partition("#")[0].split()
    assert "in the cluster" in house.command(*words)
    shown = json.loads(house.command(*words, "--json"))
    assert [node["sessions"] for node in shown["nodes"]] == [1]
    two.process.stop()
    one.process.wait_for(f"node {two.hostname} is gone", 3)  # nobody waits for its lease
    assert alice.ping(bob_jid)["condition"] == "service-unavailable"


def pings(sender: Driver, to: str, seconds: float) -> float:
    """Ping until an answer comes; after how many seconds."""
    start = time.monotonic()
    while sender.ping(to)["type"] != "result":
        assert time.monotonic() - start < seconds, f"no answer of {to}"
        time.sleep(0.1)
    return time.monotonic() - start


def test_killed(processes: Processes, certificates: Certificates) -> None:
    """A server is killed: an error soon, its sessions are gone, and its name is free again."""
    house, one, two = make_house(processes, certificates)
    alice, bob = house.client(ALICE, one), house.client(BOB, two)
    alice.connected()
    bob_jid = bob.connected()["jid"]
    pings(alice, bob_jid, 5)
    two.process.signal(signal.SIGKILL)
    killed = time.monotonic()
    answer = alice.ping(bob_jid)
    waited = time.monotonic() - killed
    assert (answer["type"], answer["condition"]) == ("error", "remote-server-timeout")
    assert alice.ping(bob_jid)["condition"] == "service-unavailable"
    print(f"\nkilled: the first error after {waited:.1f} s")
    assert waited < DEAD_SECONDS
    two.start()
    two.process.wait_for(JOINED, 20)
    bob = house.client(BOB, two)
    pings(alice, bob.connected()["jid"], 5)


def test_starts_again(processes: Processes, certificates: Certificates) -> None:
    """
    A server is killed and starts again with the Callbridge that knows no other: who comes before
    it has joined waits, and then finds who is elsewhere.
    """
    engine = Redis(processes)
    engine.start()
    house = House(processes, certificates, engine, lease=3.0, patience=8.0)
    one, two = house.servers
    house.callbridge.settings["server_address"] = f"{one.hostname}:{one.component_port}"
    house.start()
    bob = house.client(BOB, two)
    bob_jid = bob.connected()["jid"]
    one.process.kill()
    one.start()
    house.callbridge.wait_active(times=2)
    alice = house.client(ALICE, one)
    alice.connected()
    answer = alice.ping(bob_jid)
    assert answer["type"] == "result", answer


def test_stopped(processes: Processes, certificates: Certificates) -> None:
    """A server is stopped for longer than its lease, and goes on: its streams are still there."""
    house, one, two = make_house(processes, certificates)
    alice, bob = house.client(ALICE, one), house.client(BOB, two)
    alice_jid, bob_jid = alice.connected()["jid"], bob.connected()["jid"]
    pings(alice, bob_jid, 5)
    two.process.signal(signal.SIGSTOP)
    assert alice.ping(bob_jid)["type"] == "error"
    # As it looks to who was stopped: one of these, by what it comes to first.
    processes.allow_error("it did not answer in time")
    processes.allow_error("cannot renew its lease")
    two.process.signal(signal.SIGCONT)
    two.process.wait_for("was held for dead", 10)
    pings(alice, bob_jid, 20)
    pings(bob, alice_jid, 20)


def test_engine_restarts(processes: Processes, certificates: Certificates) -> None:
    """
    Redis is stopped and goes on; it is killed and comes back with nothing in it: no stream ends,
    and all agree again.
    """
    house, one, two = make_house(processes, certificates)
    alice, bob = house.client(ALICE, one), house.client(BOB, two)
    alice_jid, bob_jid = alice.connected()["jid"], bob.connected()["jid"]
    pings(alice, bob_jid, 5)
    assert isinstance(house.engine, Redis)
    processes.expect_error("The engine of the cluster")
    house.engine.freeze()
    one.process.wait_for("it did not answer in time", 10)
    assert alice.ping(f"cb1.{DOMAIN}")["type"] == "result"
    house.engine.thaw()
    waited = pings(alice, bob_jid, 15)
    print(f"\nengine goes on: an answer after {waited:.1f} s")
    house.engine.kill()
    assert alice.ping(f"cb1.{DOMAIN}")["type"] == "result"
    time.sleep(2)
    house.engine.start()
    waited = pings(alice, bob_jid, 15)
    pings(bob, alice_jid, 15)
    print(f"\nengine back: an answer after {waited:.1f} s")
    for server in (one, two):
        assert "is gone: its sessions" not in server.process.output


def test_engine_fails_over(processes: Processes, certificates: Certificates) -> None:
    """The master is killed, and Sentinels make the replica master: no stream ends."""
    sentinels = Sentinels(processes)
    sentinels.start()
    house = House(processes, certificates, sentinels)
    house.start()
    one, two = house.servers
    alice, bob = house.client(ALICE, one), house.client(BOB, two)
    alice.connected()
    bob_jid = bob.connected()["jid"]
    pings(alice, bob_jid, 5)
    processes.expect_error("The engine of the cluster")
    sentinels.master.kill()
    waited = pings(alice, bob_jid, 30)
    print(f"\nfailover: an answer after {waited:.1f} s")
    for server in (one, two):
        assert "is gone: its sessions" not in server.process.output


def wait_left(watcher: Driver, occupant: str, seconds: float) -> float:
    """Wait until somebody has left the room; how long it took."""
    start = time.monotonic()
    while (seen := watcher.expect("seen", seconds))["type"] != "unavailable" or (
        seen["sender"] != occupant
    ):
        pass
    return time.monotonic() - start


def test_room(processes: Processes, certificates: Certificates) -> None:
    """
    A room with somebody of each server.  The server without the Callbridge is killed, and its
    client comes back by the other; then that with the Callbridge is, which goes to the other.
    """
    engine = Redis(processes)
    engine.start()
    house = House(processes, certificates, engine)
    house.callbridge.space("add", "Team", "--uri", "team")
    for user in ("alice", "bob"):
        house.callbridge.space("member", "set", "team", user)
    house.start()
    one, two = house.servers

    def guest(jid: str, server: XmppServer) -> Driver:
        trust = certificates.trust
        return slixmpp_guest(processes, jid, PASSWORD, server.client_port, trust)

    def join(client: Driver, nick: str) -> list[str]:
        client.connected()
        client.do("join", room=TEAM, nick=nick)
        here: list[str] = client.expect("joined", 30.0)["here"]
        return here

    alice, bob = guest(ALICE, one), guest(BOB, two)
    join(alice, "alice")
    assert join(bob, "bob") == ["alice", "bob"]
    alice.do("say", room=TEAM, body="across")
    assert bob.expect("said")["body"] == "across"
    bob.do("say", room=TEAM, body="and back")
    while alice.expect("said")["body"] != "and back":
        pass

    two.process.signal(signal.SIGKILL)
    waited = wait_left(alice, f"{TEAM}/bob", 20.0)
    print(f"\nthe ghost was gone from the room after {waited:.1f} s")
    assert waited < DEAD_SECONDS
    again = guest(BOB, one)
    assert join(again, "bob") == ["alice", "bob"]

    two.start()
    two.process.wait_for(f"node {one.hostname} is in the cluster", 20)
    alice_two = guest(ALICE, two)
    assert join(alice_two, "alice2") == ["alice", "alice2", "bob"]
    one.process.signal(signal.SIGKILL)
    house.callbridge.wait_active(times=2)
    left: set[str] = set()
    while len(left) < 2:
        seen = alice_two.expect("seen", 40.0)
        if seen["type"] == "unavailable":
            left.add(seen["sender"])
    assert left == {f"{TEAM}/alice", f"{TEAM}/bob"}
    alice_two.do("say", room=TEAM, body="still here")
    while alice_two.expect("said", 30.0)["body"] != "still here":
        pass
