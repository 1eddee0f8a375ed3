"""
Step 1 on the XMPP server: clients wait for a Callbridge.

After a restart all clients come back at the same time, some of them a second before the
Callbridge.  So the server holds back the mechanisms, or the decision, for some seconds.
Waiting costs only the connection and the few bytes that the client has sent
(docs/design/restarts.md).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.xmpp.loginrelay import LoginRelay

MOST_BYTES = 4 * 1024 * 1024  # that all waiting clients have sent, together
LET_IN = 100  # at once: each of them begins a log-in
PAUSE = 0.05  # seconds between these; a Callbridge takes 1,000 exchanges at a time


class WaitingRoom:
    """
    The clients that wait for a Callbridge.

    @param is_expected: Whether a Callbridge of the domain is known.
    @param seconds: How long each waits at most; 0 for not at all.
    @param most: How many may wait.
    """

    def __init__(
        self,
        clock: IReactorTime,
        relay: LoginRelay,
        is_expected: Callable[[], bool],
        *,
        seconds: float,
        most: int,
    ) -> None:
        self._clock = clock
        self._relay = relay
        self._is_expected = is_expected
        self._seconds = seconds
        self._most = most
        self._bytes = 0
        self._waiting: dict[Deferred[bool], tuple[float, int]] = {}  # the longest first
        self._timer: IDelayedCall | None = None
        self._is_closed = False
        for comes in (relay.on_authority, relay.on_back):
            comes.append(lambda link: self._come())

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_open(self) -> bool:
        """Whether nobody has to wait."""
        return self._relay.is_ready and not self._is_closed

    def close(self, closed: bool) -> None:
        """Let nobody in for the time being, not even where there is a Callbridge; or again."""
        self._is_closed = closed
        if closed:
            return
        if not (self._seconds and self._is_expected()) and not self._relay.is_ready:
            for waiting in list(self._waiting):
                self._end(waiting, there=False)
        elif self._waiting:
            self._look()

    def wait(self, size: int = 0) -> Deferred[bool]:
        """
        Wait for a Callbridge.

        @param size: Bytes that are kept meanwhile.
        @return: Fires with C{True} when there is one, with C{False} when none came
            in time, or none can be waited for; may be cancelled.
        """
        may = self._is_closed or (self._seconds and self._is_expected())
        if not may or len(self._waiting) >= self._most or self._bytes + size > MOST_BYTES:
            return succeed(False)
        waiting: Deferred[bool] = Deferred(self._forget)
        self._waiting[waiting] = self._clock.seconds() + self._seconds, size
        self._bytes += size
        self._watch(self._seconds)
        return waiting

    def _forget(self, waiting: Deferred[bool]) -> None:
        _, size = self._waiting.pop(waiting, (0.0, 0))
        self._bytes -= size

    def _watch(self, seconds: float) -> None:
        """One timer serves all, since all wait equally long."""
        if self._timer is None or not self._timer.active():
            self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        """Let in some of those who wait, and end the wait of those whose time is over."""
        if self._is_closed:
            return
        if self._relay.is_ready:
            self._let_in()
            return
        now = self._clock.seconds()
        for waiting, (due, _) in list(self._waiting.items()):
            if due > now:
                self._watch(due - now)
                return
            self._end(waiting, there=False)

    def _come(self) -> None:
        if self.is_open:  # a component that is no Callbridge may come back, too
            self._let_in()

    def _let_in(self) -> None:
        for waiting in list(self._waiting)[:LET_IN]:
            self._end(waiting, there=True)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._waiting:
            self._watch(PAUSE)

    def _end(self, waiting: Deferred[bool], *, there: bool) -> None:
        if waiting in self._waiting:  # not cancelled by what another did
            self._forget(waiting)
            waiting.callback(there)
