"""
Keeps the order of stanzas for a session that has moved to another node.

What this node has sent to the old one may be on its way still, since that passes it on.  What
it sends now would be quicker, so it waits until the old node has acknowledged the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from cms.xmlstream.backlog import Item, as_bytes
from cms.xmpp.sessions import Session

MOST_BYTES = 262_144  # that wait before a session


class Gate:
    """
    Stands before a session, and takes what this node has for it.

    @param session: A L{Session<cms.xmpp.sessions.Session>}, or a link, here or at another node.
    @param known: Fires when nothing is on the old way any more.
    @param give_back: Called with what cannot be delivered after all.
    @param most: Bytes that wait; what comes beyond is refused.
    """

    def __init__(
        self,
        session: Any,
        known: Deferred[None],
        give_back: Callable[[Sequence[bytes]], object],
        most: int = MOST_BYTES,
    ) -> None:
        self._session = session
        self._give_back = give_back
        self._most = most
        self._waiting: list[tuple[bytes, object]] = []
        self._size = 0
        self._methods = {"deliver": self._hold, "queue": self._hold_one}
        # of the session itself, as with those that are inactive: nobody else pays for it
        vars(session).update(self._methods)
        known.addCallback(self.open)

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """What has come from other nodes, perhaps the old way: it goes first."""
        stood = self._step_aside()
        refused: Sequence[bytes] = self._session.deliver(raws, source)
        vars(self._session).update(stood)
        return refused

    def _step_aside(self) -> Mapping[str, object]:
        own = vars(self._session)
        stood = {name: each for name, each in self._methods.items() if own.get(name) == each}
        for name in stood:
            del own[name]
        return stood

    def _hold(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        return [raw for raw in raws if not self._hold_one(raw, source)]

    def _hold_one(self, item: Item, source: object) -> bool:
        raw = as_bytes(item)
        if self._size + len(raw) > self._most:
            return False
        self._size += len(raw)
        self._waiting.append((raw, source))
        return True

    def open(self, _: object = None) -> None:
        """Let it have what waits."""
        self._step_aside()
        waiting, self._waiting = self._waiting, []
        if not getattr(self._session, "is_open", True):
            self._give_back([raw for raw, _ in waiting])
            return
        for raw, source in waiting:
            self._give_back(self._session.deliver((raw,), source))


def let_out(session: Session) -> None:
    """Nothing waits before a session any more, if anything does: it moves on."""
    gate = getattr(vars(session).get("deliver"), "__self__", None)
    if isinstance(gate, Gate):
        gate.open()
