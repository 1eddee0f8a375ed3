"""
What was never delivered: its senders get an error each, a part in each turn of the reactor.

A session may end with thousands of stanzas that nobody has acknowledged, and all sessions of
a network end at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.process.logs import Logger

A_TURN = 200  # stanzas


class Undelivered:
    """
    Gives stanzas back to their senders, in their order.

    @param give_back: Answers one with an error.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, give_back: Callable[[bytes], object]) -> None:
        self._clock = clock
        self._give_back = give_back
        self._stanzas: deque[bytes] = deque()
        self._turn: IDelayedCall | None = None

    def add(self, stanzas: Iterable[bytes]) -> None:
        """Give these back, some at once."""
        self._stanzas += stanzas
        if self._turn is None:
            self._work()

    def finish(self) -> None:
        """Give all back now, because the server stops."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        while self._stanzas:
            self._some()

    def _work(self) -> None:
        self._turn = None
        self._some()
        if self._stanzas:
            self._turn = self._clock.callLater(0, self._work)

    def _some(self) -> None:
        stanzas = self._stanzas
        for _ in range(min(A_TURN, len(stanzas))):
            try:
                self._give_back(stanzas.popleft())
            except Exception:  # noqa: BLE001 - the others must be given back as well
                self.log.failure("unexpected error while a stanza is given back")
