"""
A link whose connection was lost: how often and for how long it is tried to be resumed, and
what stays of it if it is not (docs/link-management.md).
"""

from __future__ import annotations

from attrs import define
from twisted.internet.interfaces import IReactorTime

from cms import faults
from cms.callbridge.link.managedstream import Left
from cms.callbridge.link.registration import ComponentRegistration
from cms.signalflow import StepError

RESUME_SECONDS = 10.0  # for which a link is tried to be resumed
REFUSED_SECONDS = 0.5  # of these, from when nothing listens there: a dead server forgets its links
BACK_FIRST, BACK_MOST = 0.1, 1.0  # seconds before a further attempt to resume
LEFT_SECONDS = 60.0  # for which a server is told what it had not got


@define(eq=False)
class Comeback:
    """
    The way back of a link.

    @ivar stream: The last connection of a link that is away; C{None} while none is.
    @ivar resumed: How often a link was resumed.
    """

    clock: IReactorTime
    stream: ComponentRegistration | None = None
    resumed: int = 0
    _until: float = 0.0
    _tries: int = 0
    _left: Left | None = None
    _left_until: float = 0.0

    def begin(self, stream: ComponentRegistration) -> None:
        """The connection of a link was lost."""
        self.stream = stream
        self._until = self.clock.seconds() + RESUME_SECONDS
        self._tries = 0

    def delay(self) -> float:
        """Seconds before the next attempt; the first is made at once."""
        delay = min(BACK_FIRST * 2 ** (self._tries - 1), BACK_MOST) if self._tries else 0.0
        self._tries += 1
        return delay

    def goes_on(self, error: StepError) -> bool:
        """Whether there is another attempt after one that failed so."""
        if error.fault == faults.CONNECT_REFUSED.name:
            self._until = min(self._until, self.clock.seconds() + REFUSED_SECONDS)
        in_time = self.clock.seconds() < self._until
        return in_time and not isinstance(error, faults.CredentialsRefused)

    def prepare(self, stream: ComponentRegistration) -> None:
        """Before a connection registers: what it asks of the link before it."""
        if self.stream is not None:
            stream.resume(self.stream)
        elif self._left is not None and self.clock.seconds() < self._left_until:
            stream.ask_for(self._left)

    def restored(self) -> None:
        """The link goes on."""
        self.stream = None
        self.resumed += 1

    def give_up(self) -> ComponentRegistration | None:
        """It is away no more; its last connection, if it was."""
        stream, self.stream = self.stream, None
        return stream

    def end(self, stream: ComponentRegistration) -> None:
        """A link has ended for good: keep what the server had not got of it."""
        left = stream.abandon()
        if left is not None:
            self._left, self._left_until = left, self.clock.seconds() + LEFT_SECONDS

    def take_left(self) -> Left | None:
        """What the last link left; it is told once."""
        left, self._left = self._left, None
        return left
