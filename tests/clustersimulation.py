"""
A cluster in memory: servers with clocks of their own, and an engine that may be away, forget,
or fail over, with every delay drawn from a seed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from cms import faults
from cms.cluster.engine import EngineAway, Entry, Member, NotAMember, Refused, Table
from cms.cluster.node import Node, NodeSettings
from cms.cluster.peer import PeerSettings
from cms.cluster.shared import Shared, stamp_of
from cms.signalflow import StepError
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import XMLStream
from cms.xmpp.clustering import Clustering
from cms.xmpp.drain import Drain
from cms.xmpp.nodes import Nodes
from cms.xmpp.resumption import Resumptions
from tests.xmppserver import DOMAIN, Peer, Server

LEASE = 6.0
STEP = 0.02  # seconds that the simulation goes on at once
SLOW_TURN = 0.3  # seconds
BLOCK = 1.0
ANSWERED = 4  # of so many entries one


class Store:
    """What the engine holds."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self.clock = clock
        self.random = random
        self.is_up = True
        self.is_frozen = False
        self.engines: list[MemoryEngine] = []
        self.jumped = 0.0  # seconds by which its clock was set
        self.last = 0
        self.clear()

    def clear(self) -> None:
        """It loses all."""
        self.epoch = f"{self.random.random()}"
        self.members: dict[str, Member] = {}
        self.leases: dict[str, float] = {}
        self.inboxes: dict[tuple[str, int], list[Entry]] = {}
        self.records: dict[str, bytes] = {}
        self.shared = 0
        self.number = 0

    def lose_entries(self, most: int) -> None:
        """A failover: the last of each inbox were not on the replica."""
        for inbox in self.inboxes.values():
            del inbox[max(0, len(inbox) - self.random.randint(0, most)) :]

    def now(self) -> float:
        """Its clock."""
        return 1_700_000_000.0 + self.jumped + self.clock.seconds()

    def put(self, key: tuple[str, int], data: bytes) -> bool:
        """Append to an inbox, if it is there."""
        inbox = self.inboxes.get(key)
        if inbox is None:
            return False
        self.number += 1
        inbox.append((b"%d" % self.number, data))
        return True

    def remove(self, name: str) -> None:
        """A member is none any more."""
        member = self.members.pop(name)
        self.leases.pop(name, None)
        self.inboxes.pop((name, member.generation), None)

    def tell(self, but: str) -> None:
        """The table has changed."""
        for member in self.members.values():
            if member.name != but:
                self.put((member.name, member.generation), b"")

    def table(self) -> Table:
        """Who is there."""
        return Table(self.now(), self.epoch, dict(self.members), str(self.shared))


class MemoryEngine:
    """One node's connection to the store; implements L{Engine<cms.cluster.engine.Engine>}."""

    shown = "memory"

    def __init__(self, store: Store, clock: Clock, delay: float) -> None:
        self.on_connected: list[Callable[[], object]] = []
        self.on_lost: list[Callable[[], object]] = []
        self.on_trouble: list[Callable[[StepError], object]] = []
        self.is_connected = False
        self.appended = 0
        self._store = store
        self._clock = clock
        self.delay = delay
        self._waiting: list[tuple[float, Callable[[], Any], Deferred[Any]]] = []
        self._answers: list[tuple[float, Deferred[Any], object]] = []
        self._reads: list[tuple[float, tuple[str, int], bytes, Deferred[Any]]] = []
        self._last = 0.0
        store.engines.append(self)

    def start(self) -> None:
        """See L{Engine}."""
        self.connect()

    async def stop(self) -> None:
        """See L{Engine}."""
        self.disconnect()

    def connect(self) -> None:
        """The connection is there."""
        if not self.is_connected:
            self.is_connected = True
            for each in list(self.on_connected):
                each()

    def disconnect(self) -> None:
        """It is lost: some commands were done, and some not."""
        if not self.is_connected:
            return
        self.is_connected = False
        waiting, self._waiting = self._waiting, []
        keep = self._store.random.randint(0, len(waiting)) if self._store.is_up else 0
        lost = [answer for _, answer, _ in self._answers] + [read[3] for read in self._reads]
        self._answers, self._reads = [], []
        for number, (_, command, answer) in enumerate(waiting):
            if number < keep:
                with contextlib.suppress(NotAMember, Refused):
                    command()
            lost.append(answer)
        for answer in lost:
            answer.errback(Failure(EngineAway()))
        for each in list(self.on_lost):
            each()

    def _due(self) -> float:
        now = self._store.clock.seconds()
        self._last = max(self._last, now + self._store.random.uniform(0, self.delay))
        return self._last

    def _ask(self, command: Callable[[], Any]) -> Deferred[Any]:
        if not self.is_connected:
            return fail(EngineAway())
        answer: Deferred[Any] = Deferred()
        self._waiting.append((self._due(), command, answer))
        return answer

    def work(self) -> None:
        """The store does what has reached it; it answers later."""
        now = self._store.clock.seconds()
        while self._waiting and self._waiting[0][0] <= now:
            _, command, answer = self._waiting.pop(0)
            try:
                result = command()
            except (NotAMember, Refused) as problem:
                result = Failure(problem)
            self._answers.append((self._due(), answer, result))
        for read in list(self._reads):
            until, key, after, answer = read
            found = self._found(key, after)
            if found or until <= now:
                self._reads.remove(read)
                self._answers.append((now, answer, found))

    def hear(self) -> None:
        """The node hears the answers that have come."""
        now = self._store.clock.seconds()
        ready = [each for each in self._answers if each[0] <= now]
        self._answers = [each for each in self._answers if each[0] > now]
        for _, answer, result in ready:
            answer.callback(result)

    def _found(self, key: tuple[str, int], after: bytes) -> Sequence[Entry]:
        inbox = self._store.inboxes.get(key, [])
        return [entry for entry in inbox if int(entry[0]) > int(after)][:64]

    def join(self, name: str, incarnation: str, facts: Mapping[str, str]) -> Deferred[Table]:
        """See L{Engine}."""
        store = self._store

        def command() -> Table:
            there = store.members.get(name)
            live = store.leases.get(name, 0.0) > store.now()
            if there is not None and there.incarnation != incarnation and live:
                error = faults.CLUSTER_NAME_TAKEN.error(node=name, other="-")
                raise Refused(error, b"%r" % store.leases[name])
            if there is not None:
                store.remove(name)
            store.last = max(store.last + 1, int(store.now() * 1000))
            store.members[name] = Member(name, incarnation, store.last, facts)
            store.leases[name] = store.now() + LEASE
            store.inboxes[name, store.last] = []
            store.tell(name)
            return store.table()

        return self._ask(command)

    def renew(self, name: str, generation: int, *, judge: float | None) -> Deferred[Table]:
        """See L{Engine}."""
        store = self._store

        def command() -> Table:
            member = store.members.get(name)
            if member is None or member.generation != generation:
                raise NotAMember
            store.leases[name] = store.now() + LEASE
            dead = [one for one, until in store.leases.items() if until <= store.now()]
            judges = judge is not None and abs(store.now() - judge) <= LEASE / 2
            for one in dead if judges else ():
                store.remove(one)
                store.tell(name)
            return store.table()

        return self._ask(command)

    def leave(self, name: str, generation: int) -> Deferred[None]:
        """See L{Engine}."""
        store = self._store

        def command() -> None:
            member = store.members.get(name)
            if member is not None and member.generation == generation:
                store.remove(name)
                store.tell(name)

        return self._ask(command)

    def records(self) -> Deferred[Mapping[str, bytes]]:
        """See L{Engine}."""
        return self._ask(lambda: dict(self._store.records))

    def share(self, records: Mapping[str, bytes]) -> Deferred[None]:
        """See L{Engine}."""
        store = self._store

        def command() -> None:
            there = store.records
            newer = {n: r for n, r in records.items() if stamp_of(r) > stamp_of(there.get(n))}
            if newer:
                there.update(newer)
                store.shared = max(store.shared + 1, int(store.now() * 1000))
                store.tell("")

        return self._ask(command)

    def append(self, to: Member, *data: bytes) -> Deferred[bool] | None:
        """See L{Engine}."""
        self.appended += 1
        sent = self._ask(lambda: self._store.put((to.name, to.generation), b"".join(data)))
        if self.appended % ANSWERED == 0:
            return sent
        sent.addErrback(lambda failure: failure.trap(EngineAway, Refused))
        return None

    def read(self, name: str, generation: int, after: bytes) -> Deferred[Sequence[Entry]]:
        """See L{Engine}."""
        if not self.is_connected:
            return fail(EngineAway())
        answer: Deferred[Any] = Deferred()
        until = self._store.clock.seconds() + BLOCK
        self._reads.append((until, (name, generation), after, answer))
        return answer


class MemoryCopy:
    """A server's copy of what all share; implements L{Copy<cms.cluster.shared.Copy>}."""

    def __init__(self) -> None:
        self.all: dict[str, bytes] = {}

    def held(self) -> Mapping[str, bytes]:
        """See L{Copy<cms.cluster.shared.Copy>}."""
        return dict(self.all)

    def take(self, records: Mapping[str, bytes], *, first: bool) -> Deferred[None]:
        """See L{Copy<cms.cluster.shared.Copy>}."""
        self.all.update(records)
        return succeed(None)


class ClusterServer(Server):
    """
    A server of the cluster.

    @ivar is_frozen: Whether its process is stopped.
    @ivar refused: The ids of the messages that it has answered with an error.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        *,
        window: int = 1024 * 1024,
        patience: float = 15.0,
        contacts: Path | None = None,
        wait: float = 8.0,
    ) -> None:
        super().__init__(wait=wait, contacts=contacts, maker=name)
        self.cluster = cluster
        self.name = name
        self.is_frozen = self.is_dead = False
        self.owed = self.busy_until = 0.0
        self.refused: set[int] = set()
        bounce = self.router.bounce

        def note(stanza: Stanza, *rest: Any, **more: Any) -> None:
            if stanza.name == "message":
                self.refused.add(int(stanza.id or "0"))
            bounce(stanza, *rest, **more)

        self.router.bounce = note  # type: ignore[method-assign]
        self.engine = MemoryEngine(cluster.store, self.clock, cluster.delay)
        self.nodes = nodes = Nodes(
            *(self.clock, self.sessions, self.links, self.router, self.relay),
            carbons=self.router.carbons,
            endings=self.clients.service.endings,
        )
        local: Any = self.router.local
        local.others = self.clients.service.others = local.endings.others = nodes
        self.components.others = nodes
        if contacts is not None:
            nodes.share(local.blocking)
        random = cluster.random
        self.node = nodes.node = Node(
            self.clock,
            self.engine,
            NodeSettings(name, {"host": name}, LEASE, PeerSettings(window, patience)),
            nodes,
            random=random.randbytes,
            jitter=random,
        )
        self.copy = MemoryCopy()
        shared = Shared(self.clock, self.engine, self.copy)
        self.clustering = Clustering(self.node, self.engine, nodes, shared)
        self.components.resumptions = Resumptions(self.clock, 10.0)
        self.clustering.serves(self.clients, self.components)
        self.opened: list[XMLStream] = []
        self.is_shut = False
        self.drain = Drain(self.clock, self.clients, self.links, self, self.clustering)
        self.clustering.start()

    def component(self, host: str = "192.0.2.7") -> Peer:
        """See L{Server.component}."""
        peer = super().component(host)
        self.opened.append(peer.stream)
        return peer

    def client(self, tls: object = None, **options: Any) -> Peer:
        """See L{Server.client}."""
        peer = super().client(tls, **options)
        self.opened.append(peer.stream)
        return peer

    def shut(self) -> None:
        """See L{Doors<cms.xmpp.drain.Doors>}."""
        self.is_shut = True

    async def reopen(self) -> None:
        """See L{Doors<cms.xmpp.drain.Doors>}."""
        self.is_shut = False

    def streams(self) -> Sequence[XMLStream]:
        """See L{Doors<cms.xmpp.drain.Doors>}."""
        self.opened = [stream for stream in self.opened if not stream.ended.called]
        return self.opened

    def settle(self) -> None:
        """See L{Server.settle}."""
        self.cluster.run(0.5)

    def bound(
        self, callbridge: Peer, user: str = "alice", resource: str = "r", **header: str
    ) -> Peer:
        """The same, and the client was told so, when others knew of it."""
        client = super().bound(callbridge, user, resource, **header)
        self.cluster.run(0.1)
        client.transport.take()
        return client

    @property
    def known(self) -> set[str]:
        """The full addresses of all sessions that it knows, its own and others'."""
        users = self.sessions._users
        return {each.jid.full() for resources in users.values() for each in resources.values()}

    @property
    def own(self) -> set[str]:
        """The full addresses of its own sessions."""
        return {session.jid.full() for session in self.sessions}


class Cluster:
    """
    Servers, and the engine between them.

    @param delay: The longest time between a node and the engine, in seconds.
    @ivar slow: How likely each server's next turn takes long, at most L{SLOW_TURN}.
    """

    slow = 0.0

    def __init__(self, seed: int = 0, *, delay: float = 0.01) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.delay = delay
        self.store = Store(self.clock, self.random)
        self.servers: list[ClusterServer] = []

    def server(self, name: str, **settings: Any) -> ClusterServer:
        """One more server, which has joined."""
        server = ClusterServer(self, name, **settings)
        self.servers.append(server)
        self.run(0.3)
        return server

    def run(self, seconds: float) -> None:
        """Let time pass for all that are not stopped."""
        for _ in range(max(1, round(seconds / STEP))):
            self.clock.advance(STEP)
            order = list(self.servers)
            self.random.shuffle(order)
            for server in order:
                server.owed += STEP
                if self.store.is_up and not self.store.is_frozen:
                    server.engine.work()
                if server.is_frozen or server.is_dead or self._is_busy(server):
                    continue
                server.engine.hear()
                owed, server.owed = server.owed, 0.0
                server.clock.advance(owed)

    def take_longer(self, delay: float) -> None:
        """From now on it takes so long at most between a node and the engine."""
        self.delay = delay
        for engine in self.store.engines:
            engine.delay = delay

    def _is_busy(self, server: ClusterServer) -> bool:
        """Whether its turn takes longer than until now."""
        now = self.clock.seconds()
        if self.slow and server.busy_until <= now and self.random.random() < self.slow:
            server.busy_until = now + self.random.uniform(0, SLOW_TURN)
        return server.busy_until > now

    def kill(self, server: ClusterServer) -> None:
        """Its process is no more, and its connections neither."""
        server.is_dead = True

    def engine_away(self) -> None:
        """The engine ends."""
        self.store.is_up = False
        for engine in self.store.engines:
            engine.disconnect()

    def engine_back(self) -> None:
        """It is there again."""
        self.store.is_up = True
        for server in self.servers:
            if not server.is_dead:
                server.engine.connect()


def full(user: str, resource: str = "r") -> str:
    """A full address."""
    return f"{user}@{DOMAIN}/{resource}"


def bodies(peer: Peer) -> list[str]:
    """The bodies of the messages that a client has heard; of an error C{!} and its id."""
    found = []
    for stanza in peer.received():
        if stanza.name == "message" and stanza.type != "error":
            found.append(str(stanza.element.body))
        elif stanza.type == "error":
            found.append(f"!{stanza.id}")
    return found
