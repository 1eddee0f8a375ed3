"""
This server's part in a cluster, put together from its configuration.

It is imported late, and only where F{xmpp.toml} has C{[cluster]}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from random import SystemRandom
from typing import Any

from twisted.internet.defer import Deferred

import cms
from cms import faults
from cms.cluster.connecting import Connector, EngineSettings
from cms.cluster.engine import Engine
from cms.cluster.node import Node, NodeSettings
from cms.cluster.peer import PeerSettings
from cms.cluster.redisengine import RedisEngine
from cms.cluster.shared import Shared
from cms.process.threads import SlowWork
from cms.signalflow import StepError
from cms.xmpp.callbridges import Callbridges
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.clustersettings import ClusterSettings
from cms.xmpp.componentpolicy import ComponentPolicy
from cms.xmpp.config import XmppConfig
from cms.xmpp.leavingparty import LeavingParty
from cms.xmpp.nodes import Nodes
from cms.xmpp.sharedcallbridges import SharedCallbridges


def engine_settings(config: XmppConfig, settings: ClusterSettings) -> EngineSettings:
    """Where the engine is, and as whom it is asked."""
    engine = settings.engine
    return EngineSettings(
        file=str(config.file),
        shown=str(engine),
        hosts=engine.hosts,
        master=engine.master,
        database=engine.database,
        tls=engine.tls,
        user=settings.user,
        password="" if settings.password is None else settings.password.value,
        trust=settings.trust,
    )


class Clustering:
    """
    Implements L{Cluster<cms.xmpp.elsewhere.Cluster>}.

    @ivar nodes: What the other nodes have.
    @ivar shared: The registered Callbridges, which all nodes share.
    """

    def __init__(self, node: Node, engine: Engine, nodes: Nodes, shared: Shared) -> None:
        self.nodes = nodes
        self.node = node
        self.shared = shared
        self.on_change = node.on_change
        self._engine = engine
        node.on_renewed.append(shared.renewed)
        node.on_change.append(nodes.learning.look)

    def start(self) -> None:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        self.nodes.learning.begin()
        self.node.start()

    def stop(self) -> Deferred[None]:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        self.shared.stop()
        self.nodes.learning.end()
        return Deferred.fromCoroutine(self.node.stop())

    def serves(self, clients: ClientPolicy, components: ComponentPolicy) -> None:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        handover = self.nodes.handover
        handover.policy, clients.fetch = clients, handover.fetch
        self.nodes.learning.on_change.append(clients.waiting_room.close)
        self.nodes.link_resumptions = components.resumptions

    @property
    def handovers(self) -> Mapping[str, int]:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        return self.nodes.handover.results

    def drains(self, on: bool) -> None:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        self.nodes.set_draining(on)

    @property
    def takers(self) -> int:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        return sum(1 for _ in self.nodes.takers())

    @property
    def decides(self) -> bool:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        return any(taker.decides for taker in self.nodes.takers())

    def give(self, session: ClientSession, gone: Callable[[], object]) -> bool:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        handover = self.nodes.handover
        if not handover.may_leave(session):
            return False
        ready = [each for each in self.nodes.takers() if each.has_time]
        if not ready:
            return False
        fewest = min(ready, key=lambda each: handover.burden(each.peer) + len(each.sessions))
        handover.send_away(session, fewest.peer, gone)
        return True

    def known(self) -> Deferred[None]:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        return self.nodes.known()

    def left(self, link: LeavingParty, component: str) -> Deferred[None]:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        return self.nodes.left(link, component)

    @property
    def is_settled(self) -> bool:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        return self.nodes.is_settled

    def agreed(self, seconds: float) -> Deferred[bool]:
        """See L{Cluster<cms.xmpp.elsewhere.Cluster>}."""
        return self.shared.agreed(seconds)

    @property
    def fault(self) -> StepError | None:
        """Why this server is not in the cluster, if it is not."""
        node = self.node
        if node.fault is None and node.is_new and self.nodes.is_learning:
            return faults.CLUSTER_NOT_YET.error(node=node.settings.name)
        return node.fault

    def status(self) -> dict[str, Any]:
        """What is shown of it."""
        node = self.node
        fault = self.fault
        return {
            "node": node.settings.name,
            "state": "in" if fault is None else "out",
            "generation": node.generation,
            "draining": self.nodes.drains,
            "leaseSeconds": node.settings.lease,
            "renewedSecondsAgo": round(node.since_renewal, 1) if node.joined else None,
            "joined": node.joined,
            "lostNodes": node.deaths,
            "engine": self._engine.shown,
            "engineConnected": self._engine.is_connected,
            "callBridgesAgreed": self.shared.is_agreed,
            "problem": None if fault is None else fault.as_dict(),
            "nodes": list(self._others()),
        }

    def _others(self) -> Iterator[dict[str, object]]:
        for name, peer in sorted(self.node.peers.items()):
            sessions, links, deciding = self.nodes.held(peer)
            yield {
                "node": name,
                "host": peer.member.facts.get("host", ""),
                "version": peer.member.facts.get("version", ""),
                "generation": peer.member.generation,
                "draining": self.nodes.is_draining(peer),
                "sessions": sessions,
                "links": links,
                "deciding": deciding,
                "waitingBytes": peer.kept_bytes,
                "behindSeconds": round(peer.behind, 1),
                "entriesSent": peer.entries_sent,
                "entriesReceived": peer.entries_received,
                "sentAgain": peer.sent_again,
            }


def make_clustering(
    config: XmppConfig,
    settings: ClusterSettings,
    reactor: Any,
    nodes: Nodes,
    callbridges: Callbridges,
) -> Clustering:
    """
    The cluster that a configuration names.

    @param callbridges: Which this server knows, and shares with the others.

    @raise ConfigurationError: the CAs cannot be read.
    """
    jitter = SystemRandom()
    engine = RedisEngine(
        reactor,
        Connector(reactor, engine_settings(config, settings)),
        domain=config.domain,
        lease=settings.lease,
        random=os.urandom,
        jitter=jitter,
    )
    own = NodeSettings(
        name=settings.node or config.hostname,
        facts={"host": config.hostname, "version": cms.__version__},
        lease=settings.lease,
        peers=PeerSettings(settings.window, settings.patience),
    )
    node = nodes.node = Node(reactor, engine, own, nodes, random=os.urandom, jitter=jitter)
    work = SlowWork(reactor, at_once=1)
    shared = Shared(reactor, engine, SharedCallbridges(callbridges, config.domain, work.run))
    callbridges.on_refresh.append(shared.changed)
    return Clustering(node, engine, nodes, shared)
