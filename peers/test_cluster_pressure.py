"""
A client that does not read, and who writes to it from another real server: only they are held, and
neither server keeps more of that than its limits say.
"""

from __future__ import annotations

import os
import time
from functools import partial
from random import Random

from peers.certs import Certificates
from peers.clusterworld import World
from peers.contract import DOMAIN
from peers.network import wait_until
from peers.numbered import Client, Crowd
from peers.processes import Processes

MESSAGES = int(os.environ.get("CMS_MESSAGES", "15000"))  # of each who writes to it
BODY = f"<x xmlns='x'>{'x' * 1_000}</x>"
ROUNDS = 100  # of two others, there and back
STILL = 0.5  # seconds without progress: it is held
MOST = (
    8 * 1024
)  # KiB more than before; a window on the way, and twice the limit of one client, are 3 MiB


def client(world: World, number: int, server: int) -> Client:
    """One of a server."""
    user = f"u{number}"
    return Client(user, DOMAIN, world.ports, server, managed=False, random=Random(number))


def rounds(crowd: Crowd, one: Client, other: Client, first: int) -> float:
    """They write to each other, one message at a time; how many seconds each takes."""
    began = time.monotonic()
    for number in range(first, first + 2 * ROUNDS, 2):
        for sender, receiver, this in ((one, other, number), (other, one, number + 1)):
            crowd.call(sender.say, receiver.jid, this)
            while (sender.jid, this) not in receiver.life.heard[-1:]:
                assert time.monotonic() - began < 90
                time.sleep(0.0002)
    return (time.monotonic() - began) / (2 * ROUNDS)


def held_at(writers: list[Client]) -> list[int]:
    """Wait until nobody gets on; how many messages each has written."""
    last, since = [-1], time.monotonic()

    def still() -> bool:
        nonlocal last, since
        now = [len(writer.life.sent) for writer in writers]
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > STILL

    wait_until(still, 20, "the writers to be held")
    return last


def test_slow(processes: Processes, certificates: Certificates) -> None:
    """Two at the first server write to one at the second, and two others talk across."""
    world = World(processes, certificates, sentinels=False, lease=6.0, patience=15.0, servers=2)
    with Crowd() as crowd:
        slow, first, second, one, other = (
            client(world, number, server) for number, server in enumerate((1, 0, 0, 0, 1))
        )
        everybody = [slow, first, second, one, other]
        for each in everybody:
            crowd.enter(each)
        wait_until(lambda: all(each.is_there for each in everybody), 20, "all to be there")
        world.settle(lambda: len(everybody), 20)
        alone = rounds(crowd, one, other, 10_000_000)
        before = world.memory()
        crowd.call(slow.read, False)
        writers = [first, second]
        began = time.monotonic()
        writing = [
            crowd.start(
                partial(writer.write, slow.jid, range(start, start + MESSAGES), BODY),
            )
            for writer, start in ((first, 1), (second, 1_000_000))
        ]
        wrote = held_at(writers)
        assert max(wrote) < MESSAGES, wrote
        meanwhile = rounds(crowd, one, other, 20_000_000)
        crowd.call(one.say, first.jid, 30_000_000)  # who is held still reads
        wait_until(lambda: (one.jid, 30_000_000) in first.life.heard, 5, "a message")
        still = held_at(writers)
        more = [now - then for then, now in zip(before, world.memory(), strict=True)]
        waited = time.monotonic() - began
        crowd.call(slow.read, True)
        for work in writing:
            work.result(60)

        def all_there() -> bool:
            told = sum(len(writer.life.errors) for writer in writers)
            return len(slow.life.heard) + told >= 2 * MESSAGES

        wait_until(all_there, 60, "all messages")
        peak = [now - then for then, now in zip(before, world.memory(), strict=True)]
        print(
            f"held after {wrote} of {MESSAGES} messages of 1 kB, {still} after {waited:.1f} s;"
            f" a message of others {alone * 1000:.2f} ms before and {meanwhile * 1000:.2f} ms"
            f" meanwhile; KiB more {more}, after all was read {peak};"
            f" {[len(writer.life.errors) for writer in writers]} were answered"
        )
        for writer, start in ((first, 1), (second, 1_000_000)):
            numbers = [n for sender, n in slow.life.heard if sender == writer.jid]
            assert numbers == list(range(start, start + MESSAGES))
            assert not writer.life.errors
        assert still == wrote
        assert max(*more, *peak) < MOST, (more, peak)
        assert not crowd.failures()
    world.close()
