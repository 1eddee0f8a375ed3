"""
A node's inbox in Redis, read over a connection that waits for it.

Several readings are asked for before they are needed, so that an entry comes without being asked
for just then: Redis keeps the position, in a consumer group that this connection alone uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cms.cluster.connecting import SECONDS
from cms.cluster.engine import EngineAway, Entry
from cms.cluster.resp import Complaint, RedisConnection, pack

AHEAD = 8  # readings that are asked for together, again when half of them are left
AT_ONCE = 64  # entries that are read together
BLOCK_SECONDS = 1.0  # that the engine waits for an entry
TRIM_BYTES, TRIM_READS = 262_144, 32  # that were read, before the engine is told to forget them
_READ_SECONDS = SECONDS + BLOCK_SECONDS


class Inbox:
    """
    Reads it.

    @param commands: What must not wait for the inbox is asked over this one.
    @param group: Another name for each connection: one that is dead, and of which Redis does not
        know it yet, must take nothing from this one.
    @param refused: Called when this user may not read.
    """

    def __init__(
        self,
        connection: RedisConnection,
        commands: RedisConnection,
        group: int,
        refused: Callable[[Complaint], object],
    ) -> None:
        self._connection = connection
        self._commands = commands
        self._group = group
        self._refused = refused
        self._key = ""
        self._asks = b""
        self._ahead: deque[Deferred[Sequence[Entry] | EngineAway]] = deque()
        self._untrimmed = self._reads = 0  # since it was trimmed

    def read(self, key: str, after: bytes) -> Deferred[Sequence[Entry]]:
        """See L{Engine.read<cms.cluster.engine.Engine.read>}."""
        if key != self._key:
            self._begin(key, after)
        elif self._untrimmed >= TRIM_BYTES or self._reads >= TRIM_READS:
            self._untrimmed = self._reads = 0
            trim = pack("XTRIM", key, "MINID", after)
            if self._commands.may_be_silent:
                self._commands.tell_packed(trim)
            else:
                self._ask_besides(self._commands, trim)
        if len(self._ahead) <= AHEAD // 2:
            while len(self._ahead) < AHEAD:
                asked = self._connection.ask_packed(self._asks, seconds=_READ_SECONDS, in_turn=True)
                self._ahead.append(asked.addCallbacks(self._found, self._failed))
        return self._ahead.popleft().addCallback(_given)

    def _begin(self, key: str, after: bytes) -> None:
        self._key = key
        self._ahead.clear()
        who, block = ("GROUP", self._group, "node"), round(BLOCK_SECONDS * 1000)
        read = ("XREADGROUP", *who, "COUNT", AT_ONCE, "BLOCK", block, "NOACK", "STREAMS")
        self._asks = pack(*read, key, ">")
        for command in (("DESTROY", key, self._group - 1), ("CREATE", key, self._group, after)):
            self._ask_besides(self._connection, pack("XGROUP", *command))

    def _ask_besides(self, connection: RedisConnection, packed: bytes) -> None:
        asked = connection.ask_packed(packed, seconds=_READ_SECONDS, in_turn=True)
        asked.addErrback(lambda failure: failure.trap(EngineAway, Complaint))  # reading says it

    def _found(self, answer: object) -> Sequence[Entry]:
        found = _entries(answer)
        self._reads += bool(found or self._reads)  # while nothing comes, each counts
        for _, data in found:
            self._untrimmed += len(data)
        return found

    def _failed(self, failure: Failure) -> EngineAway:
        """Nobody may ever want this reading: then it is no error that nobody handled."""
        failure.trap(EngineAway, Complaint)
        problem = failure.value
        if isinstance(problem, EngineAway):
            return problem
        assert isinstance(problem, Complaint)  # noqa: S101 - it was trapped
        self._key = ""  # the inbox is gone, or was made anew
        if "NOPERM" in problem.codes:
            self._refused(problem)
        return EngineAway(str(problem))


def _given(found: Sequence[Entry] | EngineAway) -> Sequence[Entry]:
    if isinstance(found, EngineAway):
        raise found
    return found


def _entries(answer: object) -> Sequence[Entry]:
    """What is answered: the name of each stream, and its entries of ID and fields."""
    if not isinstance(answer, list):
        return ()
    found = []
    for _, entries in answer:
        for identifier, fields in entries:
            data = fields[1] if isinstance(fields, list) and len(fields) == 2 else b"?"
            found.append((identifier, data))
    return found
