"""The interfaces to the other nodes of a cluster, and to this server's part in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from cms.signalflow import StepError
from cms.xmpp.sessions import Session


class Others(Protocol):
    """
    The other nodes.

    Their sessions and links are entered into L{Sessions<cms.xmpp.sessions.Sessions>} and
    L{Links<cms.xmpp.links.Links>}, so that who looks there finds all.
    """

    def began(self, session: Session, since: str) -> Deferred[None]:
        """
        A session of this node has begun.

        @param since: When, as RFC 3339 writes it.
        @return: Fires when whoever hears of it through another node finds it there, or after a
            second.
        """
        ...

    def known(self) -> Deferred[None]:
        """
        Fires when the other nodes know what this one has told them until now, or after a second.
        """
        ...

    def ended(self, session: Session, reason: str) -> None:
        """
        It is over, and who saw it was told.

        @param reason: A word of docs/login-protocol.md, 4.2.
        """
        ...

    def presence(self, session: Session) -> None:
        """It is available with another presence, or is not any more."""
        ...

    def directed(self, session: Session, to: str, available: bool) -> None:
        """It is available to this address, or is not any more."""
        ...

    def copies(self, session: Session, wanted: bool) -> None:
        """It wants copies of its user's messages (XEP-0280), or none any more."""
        ...

    def end_user(self, component: str, address: str, reason: str) -> None:
        """
        The Callbridge C{component} says that a user's sessions, or one of them, are over; see
        L{Endings<cms.xmpp.endings.Endings>}.
        """
        ...


class Cluster(Protocol):
    """
    This server's part in the cluster.

    @ivar on_change: Called when it has joined, or been cut off, or another came or went.
    """

    on_change: list[Callable[[], object]]

    @property
    def fault(self) -> StepError | None:
        """Why this server is not in the cluster, if it is not."""
        ...

    def status(self) -> dict[str, Any]:
        """What is shown of it."""
        ...

    @property
    def handovers(self) -> Mapping[str, int]:
        """What became of sessions that were to go from one server to another."""
        ...

    def serves(self, clients: Any, components: Any) -> None:
        """
        Give sessions to the other nodes, and take theirs; links as well.

        @param clients: The L{ClientPolicy<cms.xmpp.clientpolicy.ClientPolicy>}.
        @param components: The L{ComponentPolicy<cms.xmpp.componentpolicy.ComponentPolicy>}.
        """
        ...

    # draining, docs/design/drain.md

    def drains(self, on: bool) -> None:
        """Tell the other nodes that this one is drained, or not any more."""
        ...

    @property
    def takers(self) -> int:
        """How many other nodes take sessions and links: they are there, and not drained."""
        ...

    @property
    def decides(self) -> bool:
        """Whether one of those has a Callbridge that decides log-ins."""
        ...

    def give(self, session: Any, gone: Callable[[], object]) -> bool:
        """
        Let a L{ClientSession<cms.xmpp.clientsession.ClientSession>} go on at the one of those
        with fewest.

        @param gone: Called when it is on its way.
        @return: Whether it will; it may do so already, or none of them have time now.
        """
        ...

    def known(self) -> Deferred[None]:
        """See L{Others.known}."""
        ...

    def left(self, link: Any, component: str) -> Deferred[None]:
        """See L{NodeLinks.left<cms.xmpp.nodelinks.NodeLinks.left>}."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether nothing of this node is under way to the others, nor passed on to them."""
        ...

    def agreed(self, seconds: float) -> Deferred[bool]:
        """Fires with whether the engine has this server's Callbridges, within so many seconds."""
        ...

    def start(self) -> None:
        """Join, as soon as the engine is there."""
        ...

    def stop(self) -> Deferred[None]:
        """Leave."""
        ...
