"""
A connection to Redis: commands in their order, and the answers to them.

hiredis writes the commands and reads the answers.  docs/design/cluster.md says why this is
not txredisapi.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from cms.cluster.engine import EngineAway
from cms.fast.transport import set_buffer
from cms.trust.verdict import Verdict
from cms.xmlstream.flow import READ_BYTES

MOST_WAITING = 20_000  # commands without an answer
MOST_UNSENT = 64 * 1024 * 1024  # bytes that the engine has not taken


_CODE = re.compile(r" -([A-Z]+)\b")


class Complaint(Exception):
    """
    Redis refuses a command.

    @ivar codes: The words that stand for the kind: the first, or of a script's command (Redis
        before 7) the one after a hyphen.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.codes = {text.partition(" ")[0], *_CODE.findall(text)}


def pack(*command: str | int | bytes) -> bytes:
    """A command, as it is sent."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub says: of one
    return packed


_SILENTLY: Final = pack("CLIENT", "REPLY", "SKIP")


class Malformed(Exception):
    """What is at the other end does not speak the protocol of Redis."""


class RedisConnection(Protocol):
    """
    One connection.

    @ivar ended: Fires when it is over.
    @ivar is_over: Whether nothing more is answered.
    @ivar problem: Why it is over.
    @ivar verdict: On the certificate, with TLS.
    @ivar may_be_silent: Whether commands may be sent to which nothing is answered.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.ended: Deferred[None] = Deferred()
        self._clock = clock
        self._reader = hiredis.Reader(protocolError=Malformed, replyError=Complaint)
        # what is to be answered: until when, and how long after what was answered before
        self._waiting: deque[tuple[Deferred[Any], float, float]] = deque()
        self._heard = 0.0
        self._timer: IDelayedCall | None = None
        self.is_over = False
        self._blocked = False
        self._unsent = 0
        self.problem = ""
        self.verdict: Verdict | None = None
        self.may_be_silent = False

    def connectionMade(self) -> None:
        """Send at once what is answered by nothing, and notice when the engine does not read."""
        transport: Any = self.transport
        transport.setTcpNoDelay(True)  # or it waits for the acknowledgement of what was before
        set_buffer(transport, READ_BYTES)
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The engine does not read."""
        self._blocked, self._unsent = True, 0

    def resumeProducing(self) -> None:
        """It reads again."""
        self._blocked = False

    def stopProducing(self) -> None:
        """The connection is over, which is told by C{connectionLost}."""

    def ask(self, *command: str | int | bytes, seconds: float) -> Deferred[Any]:
        """
        Send a command.

        @param seconds: For the answer.  After that the connection ends: answers have no other
            mark than their order.
        @return: Fires with the answer; fails with L{Complaint} if it is an error, and with
            L{EngineAway}.
        """
        return self.ask_packed(pack(*command), seconds=seconds)

    def ask_packed(self, *pieces: bytes, seconds: float, in_turn: bool = False) -> Deferred[Any]:
        """
        L{ask}, of what L{pack} made.

        @param in_turn: Whether its time begins when those before it are answered.
        """
        problem = self._trouble(pieces)
        if problem is not None:
            return fail(problem)
        answer: Deferred[Any] = Deferred()
        until = self._clock.seconds() + seconds
        self._waiting.append((answer, until, seconds if in_turn else 0.0))
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        self._send(pieces)
        return answer

    def tell_packed(self, *pieces: bytes) -> EngineAway | None:
        """
        Send a command to which nothing is answered, not even that it is refused: only where
        L{may_be_silent}.

        @return: Why it was not sent.
        """
        problem = self._trouble(pieces)
        if problem is None:
            self._send((_SILENTLY, *pieces))
        return problem

    def _trouble(self, pieces: Sequence[bytes]) -> EngineAway | None:
        if self._blocked:
            self._unsent += sum(map(len, pieces))
        if self.is_over or self.transport is None:
            return EngineAway("not connected")
        if len(self._waiting) >= MOST_WAITING or self._unsent > MOST_UNSENT:
            return EngineAway("too much waits for it")
        return None

    def _send(self, pieces: Sequence[bytes]) -> None:
        transport: Any = self.transport
        transport.writeSequence(pieces)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        _, until, seconds = self._waiting[0]
        left = max(until, self._heard + seconds) - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self.abort("it did not answer in time")

    def dataReceived(self, data: bytes) -> None:
        """Give each answer to who asked."""
        self._heard = self._clock.seconds()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:  # which RESP2 does not have
                answer, _, _ = self._waiting.popleft()
                if isinstance(reply, Complaint):
                    answer.errback(Failure(reply))
                else:
                    answer.callback(reply)
        except (Malformed, IndexError):
            self.abort("what it says is not the protocol of Redis")

    def abort(self, problem: str) -> None:
        """End it now."""
        self.problem = self.problem or problem
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing more is answered."""
        self.is_over = True
        self.problem = self.problem or reason.getErrorMessage()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._waiting.popleft()[0].errback(Failure(EngineAway(self.problem)))
        self.ended.callback(None)
