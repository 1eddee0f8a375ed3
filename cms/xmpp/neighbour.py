"""Another node of the cluster, as this one knows it."""

from __future__ import annotations

from attrs import define, field

from cms.cluster.peer import Peer
from cms.xmpp.brakes import Brake, Writers
from cms.xmpp.remotelink import LATE_SECONDS, Questions, RemoteLink
from cms.xmpp.remotesession import RemoteSession
from cms.xmpp.telling import Telling


@define(eq=False)
class Neighbour:
    """
    Another node, and what it has.

    @ivar telling: What it is told.
    @ivar writers: Its clients that are held for receivers of this node.
    @ivar brake: Holds clients of this node for receivers of its.
    @ivar refused: The addresses that it named and that another one holds.
    @ivar has_told: Whether it has told all that it has, once.
    @ivar drains: Whether it is drained, and takes nothing.
    """

    peer: Peer
    questions: Questions
    telling: Telling
    writers: Writers
    brake: Brake
    sessions: dict[str, RemoteSession] = field(factory=dict)
    links: dict[str, RemoteLink] = field(factory=dict)
    refused: set[str] = field(factory=set)
    has_told: bool = False
    drains: bool = False

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many sessions and links it has, and how many of these decide log-ins."""
        deciding = sum(bool(link.mechanisms) for link in self.links.values())
        return len(self.sessions), len(self.links), deciding

    @property
    def takes(self) -> bool:
        """Whether it takes what this node has."""
        peer = self.peer
        there = not (peer.is_over or peer.is_cut) and peer.behind < LATE_SECONDS
        return there and self.has_told and not self.drains

    @property
    def has_time(self) -> bool:
        """Whether something large can be sent to it now."""
        return self.peer.is_ready and not self.peer.party.is_slow

    @property
    def decides(self) -> bool:
        """Whether log-ins are decided there."""
        return any(link.mechanisms for link in self.links.values())
