"""
Three servers of a cluster while servers die and stop, and the engine is away, forgets and fails
over: numbered messages arrive once and in order or are answered, and all agree at the end.

C{CMS_SEEDS=200} tries as many; a seed that failed is tried alone with C{CMS_SEED}.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from cms.linkprotocol import login as lp
from cms.xmlstream.serialize import quote_attribute
from cms.xmpp.loginrelay import NOTICE_DELAY
from cms.xmpp.sessions import Session
from tests.clustersimulation import Cluster, ClusterServer, full
from tests.support import stanzas
from tests.xmppserver import Peer, Server

SEEDS = int(os.environ.get("CMS_SEEDS", "25"))
NAMES = ("one", "two", "three")
USERS = 3  # at each server


class Person:
    """
    A client, what it sent, and what it heard of others.

    @ivar sent: By whom it was sent to, the numbers in their order.
    @ivar heard: By sender, the same.
    @ivar errors: The numbers that were answered with errors.
    """

    def __init__(self, server: ClusterServer, peer: Peer, jid: str) -> None:
        self.server = server
        self.peer = peer
        self.jid = jid
        self.sent: dict[str, list[int]] = defaultdict(list)
        self.heard: dict[str, list[int]] = defaultdict(list)
        self.errors: list[int] = []

    @property
    def is_there(self) -> bool:
        """Whether its stream lives, and its server."""
        return not (self.server.is_dead or self.peer.lost)

    def say(self, to: Person, number: int) -> None:
        """Send a numbered message."""
        self.sent[to.jid].append(number)
        body = f"<body>{number}</body>"
        self.peer.say(f"<message to='{to.jid}' type='chat' id='{number}'>{body}</message>")

    def listen(self) -> None:
        """Take what has come."""
        for stanza in stanzas(self.peer.transport.take(), self.peer.content):
            if stanza.name == "message" and stanza.type == "error":
                self.errors.append(int(stanza.id or "0"))
            elif stanza.is_request and self.is_there:
                self.peer.say(f"<iq type='result' id='{stanza.id}'/>")
            elif stanza.name == "message":
                self.heard[stanza.sender or ""].append(int(str(stanza.element.body)))


class Chaos:
    """One schedule of faults."""

    def __init__(self, test: SynchronousTestCase, seed: int, *, faults: bool) -> None:
        self.test = test
        self.seed = seed
        self.faults = faults
        self.cluster = cluster = Cluster(seed, delay=0.05)
        self.random = cluster.random
        self.killed: ClusterServer | None = None
        self.people: list[Person] = []
        self.callbridges: dict[str, Peer] = {}
        self.decided: dict[str, set[str]] = defaultdict(set)  # by server, as its Callbridge knows
        self.count = 0
        for name in NAMES:
            server = cluster.server(name)
            callbridge = server.callbridge({"one": "cb1", "two": "cb2", "three": "echo"}[name])
            self.callbridges[name] = callbridge
            for number in range(USERS):
                self.enter(server, f"{name}{number}")
        cluster.run(1.0)

    def enter(self, server: ClusterServer, user: str) -> None:
        """Log in, perhaps with an address that somebody has."""
        server.clock.advance(NOTICE_DELAY)
        self.serve(server)
        peer = Server.bound(server, self.callbridges[server.name], user)
        self.note(server.name, server.told)
        self.people.append(Person(server, peer, full(user)))

    def serve(self, server: ClusterServer) -> None:
        """Its Callbridge answers the server's requests."""
        callbridge = self.callbridges[server.name]
        for asked in stanzas(callbridge.transport.take(), callbridge.content):
            if asked.is_request and not callbridge.lost:
                if asked.child is not None and asked.child.uri == lp.NS:
                    message = lp.parse(asked.child)
                    notices = message.notices if isinstance(message, lp.Sessions) else [message]
                    self.note(server.name, notices)
                to = quote_attribute(asked.sender or "")
                callbridge.say(f"<iq type='result' id='{asked.id}' from='{asked.to}' to={to}/>")

    def note(self, name: str, notices: Iterable[object]) -> None:
        """The Callbridge of a server is told of sessions."""
        for notice in notices:
            if isinstance(notice, lp.SessionBegin):
                self.decided[name].add(notice.jid)
            elif isinstance(notice, lp.SessionEnd):
                self.decided[name].discard(notice.jid)

    def pass_(self, seconds: float) -> None:
        """Let time pass, while everybody listens."""
        until = self.cluster.clock.seconds() + seconds
        while self.cluster.clock.seconds() < until:
            self.cluster.run(min(0.1, seconds))
            for server in self.cluster.servers:
                if not (server.is_dead or server.is_frozen):
                    self.serve(server)
            for person in self.people:
                person.listen()

    def move(self) -> None:
        """Somebody logs in at another server, and hangs up at the first before, or does not."""
        people = [p for p in self.people if p.is_there and not p.server.is_frozen]
        servers = [s for s in self.cluster.servers if not (s.is_dead or s.is_frozen)]
        servers = [s for s in servers if not s.nodes.learning.is_on]  # else nobody is let in
        if not (people and servers):
            return
        person = self.random.choice(people)
        if self.random.random() < 0.5:
            person.listen()
            person.peer.transport.lose()
        self.enter(self.random.choice(servers), person.jid.partition("@")[0])

    def go(self, seconds: float) -> None:
        """Send and break things for so long."""
        until = self.cluster.clock.seconds() + seconds
        while self.cluster.clock.seconds() < until:
            for _ in range(self.random.randint(0, 6)):
                sender, receiver = self.random.sample(self.people[-20:], 2)
                if sender.is_there and not sender.server.is_frozen:
                    self.count += 1
                    sender.say(receiver, self.count)
            if self.faults and self.random.random() < 0.04:
                self.break_something()
            if self.faults and self.random.random() < 0.05:
                self.move()
            self.pass_(0.06)

    def break_something(self) -> None:
        """One fault, which is over after a while."""
        servers = [server for server in self.cluster.servers if not server.is_dead]
        server = self.random.choice(servers)
        kind = self.random.choice(
            ("away", "failover", "quiet", "flush", "cut", "cut", "freeze", "freeze", "kill")
        )
        store = self.cluster.store
        if kind in ("away", "failover") and store.is_up:
            self.cluster.engine_away()
            if kind == "failover":
                store.lose_entries(3)
            self.pass_(self.random.uniform(0.1, 9.0))
            self.cluster.engine_back()
        elif kind == "quiet":
            store.lose_entries(2)
        elif kind == "flush":
            for engine in store.engines:
                engine.disconnect()
            store.clear()
            self.cluster.engine_back()
        elif kind == "cut":
            server.engine.disconnect()
            self.pass_(self.random.uniform(0.1, 9.0))
            server.engine.connect()
        elif kind == "freeze":
            server.is_frozen = True
            self.pass_(self.random.uniform(0.1, 7.0))
            if self.random.random() < 0.5:
                self.move()
            self.pass_(self.random.uniform(0.1, 7.0))
            server.is_frozen = False
        elif kind == "kill" and self.killed is None:
            self.killed = server
            self.cluster.kill(server)

    def check(self) -> None:
        """At rest."""
        self.pass_(30.0)
        alive = [server for server in self.cluster.servers if not server.is_dead]
        own = [server.own for server in alive]
        everybody = set().union(*own)
        self.equal(len(everybody), sum(map(len, own)), "an address has two owners")
        there = {person.jid for person in self.people if person.is_there}
        self.equal(there, everybody, "streams that live, and sessions")
        if not self.faults:
            self.equal(len(self.people), len(there), "streams ended")
        for server in alive:
            self.equal(everybody, server.known, f"{server.name} knows others")
            links = {link.component for each in alive for link in each.links}
            self.equal(links, set(server.links.components()), f"{server.name} knows other links")
            self.equal(0, sum(p.kept_bytes for p in server.node.peers.values()), "bytes are left")
            (link,) = server.links
            decided = {s.jid.full() for s in everyone(alive) if s.authority == link.component}
            self.equal(decided, self.decided[server.name], f"the Callbridge of {server.name} knows")
        for person in self.people:
            for to, numbers in person.sent.items():
                self.check_pair(person, [p for p in self.people if p.jid == to], numbers)

    def check_pair(self, sender: Person, receivers: list[Person], numbers: list[int]) -> None:
        """Of one sender to one address, which may have changed hands."""
        what = f"{sender.jid} to {receivers[0].jid}"
        heard: list[int] = []
        for receiver in receivers:
            of_sender = [n for n in receiver.heard[sender.jid] if n in numbers]
            self.equal(sorted(of_sender), of_sender, f"{what}: out of order")
            heard += of_sender
        self.equal(sorted(set(heard)), sorted(heard), f"{what}: twice")
        if not sender.is_there:
            return
        answered = set(sender.errors) & set(numbers)
        lost = set(numbers) - set(heard) - answered - self.died_with_answer()
        self.equal(set(), lost, f"{what}: lost in silence")
        if not self.faults:
            self.equal(set(), answered, f"{what}: answered with an error")

    def died_with_answer(self) -> set[int]:
        """What servers have refused that were held for dead: the refusal may have died too."""
        held = [s for s in self.cluster.servers if s.is_dead or s.node.joined > 1]
        return set().union(*(server.refused for server in held))

    def equal(self, expected: object, found: object, what: str) -> None:
        """With the seed."""
        self.test.assertEqual(expected, found, f"seed {self.seed}: {what}")


def everyone(servers: list[ClusterServer]) -> list[Session]:
    """The sessions of all."""
    return [session for server in servers for session in server.sessions]


class ChaosTests(SynchronousTestCase):
    """Each with some seeds."""

    def seeds(self, most: int) -> list[int]:
        """One, or as many as are wanted."""
        alone = os.environ.get("CMS_SEED")
        return [int(alone)] if alone is not None else list(range(most))

    def test_no_fault(self) -> None:
        """Every message arrives, once and in order."""
        for seed in self.seeds(max(2, SEEDS // 10)):
            chaos = Chaos(self, seed, faults=False)
            chaos.go(5.0)
            chaos.check()
            self.assertGreater(chaos.count, 100)

    def test_faults(self) -> None:
        """At most once and in order; delivered or answered; and all agree at the end."""
        for seed in self.seeds(SEEDS):
            try:
                chaos = Chaos(self, seed, faults=True)
                chaos.go(20.0)
                chaos.check()
            finally:
                told = [failure.getErrorMessage() for failure in self.flushLoggedErrors()]
            unexpected = [text for text in told if "cut off" not in text]
            self.assertEqual([], unexpected, f"seed {seed}")
