"""
What can go wrong beside a real Redis: its clock is set, it answers slowly, one with the right
password writes to an inbox whatever he likes.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

import hiredis

from cms.cluster import scripts
from cms.cluster.entries import DATA, Numbered
from peers.certs import Certificates
from peers.clusterworld import Direct, World, ask
from peers.contract import ROOT
from peers.network import wait_until
from peers.numbered import Client, Crowd
from peers.processes import Processes
from peers.test_cluster_chaos import everybody
from peers.tools import require

SECONDS = 3.0  # of a fault
MIBIBYTES = 64  # that an enemy writes


def exchange(crowd: Crowd, clients: list[Client], first: int) -> float:
    """Each writes to each; how long it took until all was there."""
    began = time.monotonic()
    sent = []
    for sender in clients:
        for receiver in clients:
            if receiver is not sender:
                first += 1
                crowd.call(sender.say, receiver.jid, first)
                sent.append((sender, receiver, first))
    wait_until(lambda: all((s.jid, n) in r.life.heard for s, r, n in sent), 15, "all to arrive")
    return time.monotonic() - began


def unharmed(world: World, clients: list[Client]) -> None:
    """No stream has ended, and nobody was held for dead."""
    assert all(len(client.lives) == 1 and client.is_there for client in clients)
    for server in world.servers:
        assert "is gone: its sessions" not in server.process.output
        assert "was held for dead" not in server.process.output


def test_clock(processes: Processes, certificates: Certificates, tmp_path: Path) -> None:
    """The engine's clock is set ahead and back by more than a lease: nobody is held for dead."""
    library, clock = tmp_path / "wallclock.so", tmp_path / "clock"
    source = ROOT / "peers" / "drivers" / "wallclock.c"
    command = [require("gcc", "gcc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    status, output = processes.run("gcc", command)
    assert status == 0, output
    clock.write_text("0")
    environment = {"LD_PRELOAD": str(library), "CMS_CLOCK": str(clock)}
    world = World(processes, certificates, sentinels=False, redis_environment=environment)
    with everybody(world) as (crowd, clients):
        time.sleep(world.lease + 1)  # from now on they judge each other
        for number, moved in enumerate(("100", "90", "-3600", "0", "86400")):
            before = int(ask(world.engine.master.port, "TIME")[0])
            clock.write_text(moved)
            assert abs(int(ask(world.engine.master.port, "TIME")[0]) - before) >= 9
            time.sleep(world.lease)
            exchange(crowd, clients, 1000 * number)
        unharmed(world, clients)
        assert any("clock has jumped" in s.process.output for s in world.servers)
        world.kill(2)
        rest = [client for client in clients if client.life.server != 2 and not client.life.why]
        wait_until(
            lambda: "is gone: its sessions" in world.servers[0].process.output, 12, "a ghost's end"
        )
        assert len(rest) == 4


def test_slow(processes: Processes, certificates: Certificates) -> None:
    """Each answer takes 0.6 s more: all arrives, late, and nobody is held for dead."""
    world = World(processes, certificates, sentinels=False)
    assert isinstance(world.engine, Direct)
    with everybody(world) as (crowd, clients):
        for road in world.engine.roads:
            road.delay = 0.3
        took = exchange(crowd, clients, 0)
        until = time.monotonic() + 2 * world.lease
        number = 1000
        while time.monotonic() < until:
            took = max(took, exchange(crowd, clients, number))
            number += 100
        print(f"\nslow engine: all to all within {took:.1f} s")
        unharmed(world, clients)


class Enemy:
    """One who may write to the engine."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._port = port

    def write(self, to: str, data: bytes, times: int) -> None:
        """Entries for a node, without waiting for an answer."""
        (key,) = [k for k in ask(self._port, "KEYS", "cms:in:*") if f":{to}:" in k]
        words = ("XADD", key, "NOMKSTREAM", "*", "d", data)
        command = hiredis.pack_command(words)  # type: ignore[arg-type]
        for _ in range(times):
            self._socket.sendall(command)
            self._socket.recv(65_536)


def test_flood(processes: Processes, certificates: Certificates) -> None:
    """
    Garbage, entries of nodes that are not there, numbers of a node's that are wrong, and much of
    it: one line tells of it, what is for others arrives, and memory stays what it was.
    """
    world = World(processes, certificates, sentinels=False)
    port = world.engine.master.port
    with everybody(world) as (crowd, clients):
        victim, other = (str(s.settings["hostname"]) for s in world.servers[:2])
        generation = int(dict(_pairs(ask(port, "HGETALL", scripts.NODES)))[other].partition(" ")[0])
        before = max(world.memory())
        enemy = Enemy(port)
        block = b"x" * 65_536
        enemy.write(victim, block, MIBIBYTES * 16)
        stranger = Numbered(DATA, "nobody", 1, b"12345678", 1, block)
        enemy.write(victim, stranger.to_bytes(), 500)
        gap = Numbered(DATA, other, generation, b"12345678", 7, b"")
        enemy.write(victim, gap.to_bytes(), 5_000)
        took = exchange(crowd, clients, 0)
        print(f"\nflood: all to all within {took:.1f} s, memory {before} to {world.memory()} KiB")
        unharmed(world, clients)
        # As if it were the other node: what cannot be read is left out, and the numbers are found
        # again; what was under way is answered.
        cut = b"\x01\x00\x00\x00\x00\x00\x00"
        for number, body in enumerate((b"", cut, b"\x02\x00\x01\xff\xff\xff\xff"), 1):
            entry = Numbered(DATA, other, generation, b"tokentok", number, body)
            enemy.write(victim, entry.to_bytes(), 1)
        crowd.call(clients[2].say, clients[0].jid, 999)
        wait_until(lambda: _is_known(clients, 999), 15, "the message or its error")
        exchange(crowd, clients, 1000)
        unharmed(world, clients)
        assert max(world.memory()) < before + 64 * 1024
        told = world.servers[0].process.output
        assert told.count("what no server has written") == 1
        world.settle(lambda: len(clients), 20)


def _is_known(clients: list[Client], number: int) -> bool:
    """Whether a message of the third to the first has come, or was answered."""
    sender, receiver = clients[2], clients[0]
    return (sender.jid, number) in receiver.life.heard or number in sender.life.errors


def _pairs(flat: list[str]) -> list[tuple[str, str]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
