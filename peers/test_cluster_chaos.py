"""
Three real servers, two Callbridges, Redis and Sentinels under a seeded schedule of faults:
numbered messages arrive once and in order or are answered, and at rest all agree.

C{CMS_SEEDS=200} tries as many; C{CMS_SEED} is one alone.  docs/reliability.md has what was found.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from peers.certs import Certificates
from peers.clusterschedule import Schedule
from peers.clusterworld import USERS, World
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
