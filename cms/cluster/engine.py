"""
What a node asks of the engine that all nodes share.

F{redisengine.py} asks it of Redis; the tests have one in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from cms.signalflow import StepError


class EngineAway(Exception):
    """It is not connected, or has not answered in time: whether it did it is not known."""


class NotAMember(Exception):
    """This generation is none of the cluster, any more."""


class Refused(Exception):
    """
    The engine, or the cluster in it, does not take this node.

    @ivar error: What is wrong.
    @ivar lease: Until when another process holds this node's name, by the engine's clock: only
        a process that lives renews it.  C{None}: something else is wrong.
    """

    def __init__(self, error: StepError, lease: bytes | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.lease = lease


@frozen
class Member:
    """
    A node that has joined.

    @ivar incarnation: Of its process: another one knows nothing of what this one knew.
    @ivar generation: Of its membership: each joining has another one, the newer the greater.
    @ivar facts: What it says of itself, for people.
    """

    name: str
    incarnation: str
    generation: int
    facts: Mapping[str, str]


@frozen
class Table:
    """
    Who is there.

    @ivar now: The engine's clock, in seconds since the epoch.
    @ivar epoch: Of the engine's data: another one if they were lost.
    @ivar members: By name, the asking node among them.
    @ivar shared: Which version of the shared records there is; each change makes another one.
    """

    now: float
    epoch: str
    members: Mapping[str, Member]
    shared: str = ""


class Engine(Protocol):
    """
    Every method may fail with L{EngineAway}.

    @ivar on_connected: Called when it can be asked, at first or again.
    @ivar on_lost: Called when it cannot be asked any more.
    @ivar on_trouble: Called with the reason why it cannot be, each time that is tried.
    """

    on_connected: list[Callable[[], object]]
    on_lost: list[Callable[[], object]]
    on_trouble: list[Callable[[StepError], object]]

    @property
    def is_connected(self) -> bool:
        """Whether it can be asked."""
        ...

    def start(self) -> None:
        """Connect, and connect again whenever that is lost."""
        ...

    async def stop(self) -> None:
        """Disconnect for good."""
        ...

    @property
    def shown(self) -> str:
        """What is connected to, for people."""
        ...

    def join(self, name: str, incarnation: str, facts: Mapping[str, str]) -> Deferred[Table]:
        """
        Become a member, with a new generation and an inbox that is empty.

        Fails with L{Refused} while the lease of another process with this name lasts.
        """
        ...

    def renew(self, name: str, generation: int, *, judge: float | None) -> Deferred[Table]:
        """
        Renew the lease.

        @param judge: What the engine's clock says, as far as this node knows: then those whose
            lease is over are members no more.  If it says something else by more than half a
            lease, and with C{None}, nobody is judged: leases are times of a clock that was set.
        @return: Fails with L{NotAMember} if it is over.
        """
        ...

    def leave(self, name: str, generation: int) -> Deferred[None]:
        """Be a member no more."""
        ...

    def append(self, to: Member, *data: bytes) -> Deferred[bool] | None:
        """
        Put an entry into a member's inbox, after those before.

        @param data: In pieces.
        @return: Whether there is such an inbox; C{None}: this time that is not asked, for an
            answer to each would cost as much as the entry.
        """
        ...

    def read(self, name: str, generation: int, after: bytes) -> Deferred[Sequence[Entry]]:
        """
        The next entries of an inbox; none if there is none within a second.

        What was read before is taken away.

        @param after: The ID of the last one that was read; C{b"0"}: none was.
        """
        ...

    def records(self) -> Deferred[Mapping[str, bytes]]:
        """The shared records, by name, as they are there (F{shared.py})."""
        ...

    def share(self, records: Mapping[str, bytes]) -> Deferred[None]:
        """Put each of these there, unless what is there has the same stamp or a later one."""
        ...


Entry = tuple[bytes, bytes]
"""ID and data.  No data: the table of members has changed."""
