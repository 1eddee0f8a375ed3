"""
Three real servers, two Callbridges, Redis and Sentinels under a seeded schedule of faults:
numbered messages arrive once and in order or are answered, and at rest all agree.

C{CMS_SEEDS=200} tries as many; C{CMS_SEED} is one alone, and C{CMS_FAULTS=hand_over} breaks nothing
else.  docs/reliability.md has what was found.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from statistics import median

import pytest

from peers.certs import Certificates
from peers.clusterschedule import Schedule
from peers.clusterworld import USERS, World, ask
from peers.contract import DOMAIN
from peers.network import wait_until
from peers.numbered import Client, Crowd
from peers.processes import Processes

SEEDS = int(os.environ.get("CMS_SEEDS", "4"))
FIRST = int(os.environ.get("CMS_FIRST", "1"))
ALONE = os.environ.get("CMS_SEED")


@contextmanager
def everybody(world: World) -> Iterator[tuple[Crowd, list[Client]]]:
    """Two clients at each server, one of which manages its streams."""
    with Crowd() as crowd:
        clients = [
            Client(
                user,
                DOMAIN,
                world.ports,
                number // 2,
                managed=bool(number % 2),
                random=Random(number),
            )
            for number, user in enumerate(USERS[:-1])
        ]
        for client in clients:
            crowd.enter(client)
        wait_until(lambda: all(client.is_there for client in clients), 20, "all to be there")
        world.settle(lambda: len(clients), 20)
        yield crowd, clients
        world.close()


@pytest.mark.parametrize("sentinels", [False, True], ids=["direct", "sentinels"])
def test_seeds(processes: Processes, certificates: Certificates, sentinels: bool) -> None:
    """A time without a fault, and then one seed after the other."""
    world = World(processes, certificates, sentinels=sentinels)
    kind = "sentinels" if sentinels else "direct"
    seeds = [int(ALONE)] if ALONE else range(FIRST, FIRST + max(1, SEEDS // 2))
    with everybody(world) as (crowd, clients):
        Schedule(world, crowd, clients, f"{kind} 0").go(0)
        for seed in seeds:
            began = time.monotonic()
            schedule = Schedule(world, crowd, clients, f"{kind} {seed}")
            schedule.go(schedule.random.randint(1, 4))
            took = time.monotonic() - began
            messages = sum(len(life.sent) for client in clients for life in client.lives)
            moved = sum(life.moves for client in clients for life in client.lives)
            print(
                f"seed {kind} {seed}: {schedule.told()}; {messages} messages, {moved} resumed"
                f" elsewhere, settled after {schedule.settled:.1f} s"
                f" ({schedule.waited_for or 'at once'}), {took:.0f} s",
                flush=True,
            )
        memory = world.memory()
        print(f"memory: {memory} KiB")
        assert max(memory) < 200 * 1024


def shown(world: World, user: str) -> list[str]:
    """The servers that work and show a session of a user."""
    found = []
    for number, server in enumerate(world.servers):
        if world.works(number):
            clients = world.at(server).get("clients?limit=100")["clients"]["client"]
            found += [server.hostname for each in clients if each["jid"].startswith(f"{user}@")]
    return found


class Times:
    """How long it takes, with the times that are usual: a lease of 6 s."""

    def __init__(self, world: World, crowd: Crowd, clients: list[Client]) -> None:
        self.world, self.crowd, self.clients = world, crowd, clients
        self.found: dict[str, list[float]] = {}
        self.rounds = 0

    def note(self, what: str, seconds: float) -> None:
        """One more."""
        self.found.setdefault(what, []).append(seconds)

    def kill(self, number: int) -> None:
        """A server: of its two clients one comes back, and somebody writes to the other."""
        here = [c for c in self.clients if c.life.server == number]
        lost, comes = sorted(here, key=lambda c: c.is_managed == bool(self.rounds % 2))
        self.rounds += 1
        writer = next(c for c in self.clients if c.life.server != number)
        lost.gives_up = True
        began = time.monotonic()
        self.world.kill(number)
        self.crowd.call(writer.say, lost.jid, 10_000_000 + int(began))
        wait_until(lambda: comes.is_there and comes.life.began > began, 20, "a log-in")
        how = "a client that would resume" if comes.is_managed else "a client"
        self.note(f"log-in of {how}", comes.life.began - began)
        wait_until(lambda: bool(writer.life.errors), 20, "an error")
        (told,) = writer.life.errors.values()
        self.note("first error", told[0] - began)
        writer.life.errors.clear()
        wait_until(lambda: not shown(self.world, lost.user), 20, "no ghost")
        self.note("last ghost gone", time.monotonic() - began)
        self.world.start(number)
        self.world.servers[number].process.wait_for("is in the cluster, generation", 20)
        lost.lives.clear()
        lost.forget()
        lost.at = number
        self.crowd.enter(lost)
        self.crowd.call(comes.leave, number)
        self.world.settle(lambda: len(self.clients), 20)

    def flush(self) -> None:
        """The engine forgets all."""
        before = {each["node"]: each["joined"] for each in self.world.statuses()}
        ask(self.world.engine.master.port, "FLUSHALL")
        began = time.monotonic()

        def again() -> bool:
            now = self.world.statuses()
            joined = all(each["joined"] > before[each["node"]] for each in now)
            return joined and not self.world.disagreement(len(self.clients))

        wait_until(again, 20, "agreement")
        self.note("claims after FLUSHALL", time.monotonic() - began)


def test_times(processes: Processes, certificates: Certificates) -> None:
    """CLUSTER 3 and 6: an error within 8 s, no ghost after 10, claims agree within 15."""
    world = World(processes, certificates, sentinels=False, lease=6.0, patience=15.0)
    with everybody(world) as (crowd, clients):
        times = Times(world, crowd, clients)
        for number in range(int(os.environ.get("CMS_TIMES", "1"))):
            times.kill(number % 3)
            times.flush()
        for what, found in times.found.items():
            print(f"{what}: median {median(found):.1f}, most {max(found):.1f} s of {len(found)}")
        for what, most in (
            ("first error", 8.0),
            ("last ghost gone", 10.0),
            ("claims after FLUSHALL", 15.0),
        ):
            assert max(times.found[what]) < most, times.found
