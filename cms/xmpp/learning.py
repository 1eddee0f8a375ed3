"""
A node that has just joined does not know yet what the others have: meanwhile it lets nobody in.

Else what a client writes first would come back from somebody who is there, a session to be
resumed would not be found, and a Callbridge would hear that those in its rooms are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms import faults
from cms.cluster.node import Node
from cms.process.cleanup import call_all
from cms.process.logs import Logger

JOIN_SECONDS = 10.0  # at most, to join: after a crash the lease of the process before must end
LEARN_SECONDS = 2.0  # at most, after that: one of the others may be stopped


class Learner(Protocol):
    """L{Nodes<cms.xmpp.nodes.Nodes>}."""

    node: Node

    @property
    def is_learning(self) -> bool: ...


class Learning:
    """
    Whether it is so.  It never is while the engine is away: nobody knows how long that takes.

    @ivar on_change: Called with C{True} when it begins, and with C{False} when it ends.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, nodes: Learner) -> None:
        self.on_change: list[Callable[[bool], object]] = []
        self._clock = clock
        self._nodes = nodes
        self._joined = 0
        self._timer: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []

    @property
    def is_on(self) -> bool:
        """Whether nobody is let in now."""
        return self._timer is not None

    def begin(self, seconds: float = JOIN_SECONDS) -> None:
        """It is going to join, or has joined."""
        if self._timer is not None:
            self._timer.reset(seconds)
            return
        self._timer = self._clock.callLater(seconds, self.end)
        call_all(self.log, self.on_change, True)

    def look(self) -> None:
        """Something has changed that may begin or end it."""
        node, knows = self._nodes.node, not self._nodes.is_learning
        if node.joined != self._joined:
            self._joined = node.joined
            if not knows:
                self.begin(LEARN_SECONDS)
        fault = None if node.fault is None else node.fault.fault
        if self.is_on and (knows if fault is None else fault != faults.CLUSTER_NOT_YET.name):
            self.end()

    def end(self) -> None:
        """It is known, or was not in time, or cannot be."""
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
            call_all(self.log, self.on_change, False)
            waiting, self._waiting = self._waiting, []
            for ended in waiting:
                ended.callback(None)

    def over(self) -> Deferred[None]:
        """Fires when it is not so, or not any more."""
        if not self.is_on:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._waiting.append(ended)
        return ended
