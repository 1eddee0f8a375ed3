"""
L{Engine<cms.cluster.engine.Engine>} on Redis: two connections, and what is asked over them.

One connection waits for the inbox, the other does all else.  They live and end together, and
are made again with growing pauses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from cms import faults
from cms.cluster import scripts
from cms.cluster.connecting import SECONDS, Connector
from cms.cluster.engine import EngineAway, Entry, Member, NotAMember, Refused, Table
from cms.cluster.inbox import Inbox
from cms.cluster.resp import Complaint, RedisConnection
from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.signalflow import StepError

ANSWER_SECONDS, ANSWER_ENTRIES = 0.25, 64  # after which an entry is answered by the engine
# After a failover the master is another one, and this may be the one that was it.
_DEPOSED = {faults.ENGINE_NOT_MASTER.name, faults.ENGINE_ALONE.name}
_ENTRY = b"*6\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$10\r\nNOMKSTREAM\r\n$1\r\n*\r\n$1\r\nd\r\n$%d\r\n"
PAUSES = (0.1, 2.0)  # seconds between tries to connect: the first, and the longest


class RedisEngine:
    """
    The engine.

    @param domain: Of all nodes.
    @param lease: Seconds.
    @param random: Makes that many unpredictable bytes.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        connector: Connector,
        *,
        domain: str,
        lease: float,
        random: Callable[[int], bytes],
        jitter: Random,
    ) -> None:
        self.on_connected: list[Callable[[], object]] = []
        self.on_lost: list[Callable[[], object]] = []
        self.on_trouble: list[Callable[[StepError], object]] = []
        self.where = ""
        self.connections = 0
        self._clock = clock
        self._connector = connector
        self._domain = domain
        self._lease = str(round(lease * 1000))
        self._random = random
        self._jitter = jitter
        self._commands: RedisConnection | None = None
        self._inbox: RedisConnection | None = None
        self._reading: Inbox | None = None
        self._refusal: StepError | None = None
        self._running: Deferred[None] | None = None
        self._answered, self._unanswered = float("-inf"), 0  # since an entry was

    @property
    def is_connected(self) -> bool:
        """See L{Engine}."""
        commands, inbox = self._commands, self._inbox
        if commands is None or inbox is None:
            return False
        return not (commands.is_over or inbox.is_over)

    @property
    def shown(self) -> str:
        """See L{Engine}."""
        return f"{self._connector.shown}{f' ({self.where})' if self.where else ''}"

    # connecting

    def start(self) -> None:
        """See L{Engine}."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    async def stop(self) -> None:
        """See L{Engine}."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        self._close("stopped")

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError, ConnectingCancelledError):
            self.log.failure("the engine is not asked any more", failure)

    def _close(self, problem: str) -> None:
        commands, inbox = self._commands, self._inbox
        self._commands = self._inbox = self._reading = None
        for connection in (commands, inbox):
            if connection is not None:
                connection.abort(problem)

    async def _run(self) -> None:
        pause = PAUSES[0]
        while True:
            try:
                await self._open()
            except Refused as refused:
                call_all(self.log, self.on_trouble, refused.error)
            else:
                began = self._clock.seconds()
                problem = await self._stay()
                if self._clock.seconds() - began > 2 * PAUSES[1]:
                    pause = PAUSES[0]
                away = faults.ENGINE_UNREACHABLE.error(engine=self.shown, problem=problem)
                error, self._refusal = self._refusal or away, None
                self.where = ""
                call_all(self.log, self.on_trouble, error)
                call_all(self.log, self.on_lost)
            await deferLater(self._clock, pause * self._jitter.uniform(0.5, 1.0))
            pause = min(pause * 2, PAUSES[1])

    async def _open(self) -> None:
        host, port = await self._connector.find()
        commands = await self._connector.open(host, port, judged=True)
        try:
            inbox = await self._connector.open(host, port, judged=False)
        except Refused:
            commands.abort("the other connection was refused")
            raise
        self.where = f"{host}:{port}"
        self._commands, self._inbox = commands, inbox
        self._try_silence(commands)
        self.connections += 1
        self._reading = Inbox(inbox, commands, self.connections, self._may_not_read)
        call_all(self.log, self.on_connected)

    def _try_silence(self, connection: RedisConnection) -> None:
        """Who may not ask for silence gets an answer to each entry."""

        def granted(_: object) -> None:
            connection.may_be_silent = True

        asked = connection.ask("CLIENT", "REPLY", "ON", seconds=SECONDS)
        asked.addCallbacks(granted, lambda failure: failure.trap(EngineAway, Complaint))

    async def _stay(self) -> str:
        """Until one of both connections is over; why it is."""
        commands, inbox = self._commands, self._inbox
        if commands is None or inbox is None:
            return "it was closed"
        over: Deferred[None] = Deferred()

        def ended(_: object) -> None:
            if not over.called:
                over.callback(None)

        commands.ended.addBoth(ended)
        inbox.ended.addBoth(ended)
        await over
        problem = commands.problem or inbox.problem
        self._close(problem)
        return problem

    # asking

    async def _ask(self, *command: str | bytes | int) -> Any:
        commands = self._commands
        if commands is None:
            raise EngineAway("not connected")
        try:
            return await commands.ask(*command, seconds=SECONDS)
        except Complaint as complaint:
            raise self._refused(complaint) from None

    def _refused(self, complaint: Complaint) -> Refused:
        error = self._connector.explain(complaint)
        if error.fault in _DEPOSED:
            self._close(str(complaint))  # after a failover it is another
        return Refused(error)

    async def _script(self, script: str, *arguments: str | bytes) -> list[Any]:
        answer = await self._ask("EVAL", script, len(scripts.KEYS), *scripts.KEYS, *arguments)
        if not isinstance(answer, list) or not answer:
            raise EngineAway("an answer that is none")
        return answer

    def join(self, name: str, incarnation: str, facts: Mapping[str, str]) -> Deferred[Table]:
        """See L{Engine}."""
        return Deferred.fromCoroutine(self._join(name, incarnation, facts))

    async def _join(self, name: str, incarnation: str, facts: Mapping[str, str]) -> Table:
        told = json.dumps(dict(facts))
        epoch = self._random(8).hex()
        names = (self._domain, scripts.PROTOCOL, epoch, name, incarnation, told, self._lease)
        answer = await self._script(scripts.JOIN, *names)
        kind = answer[0]
        if kind == b"domain":
            raise Refused(
                faults.CLUSTER_OTHER_DOMAIN.error(
                    engine=self._connector.shown, other=_text(answer[1]), domain=self._domain
                )
            )
        if kind == b"protocol":
            raise Refused(
                faults.CLUSTER_OTHER_PROTOCOL.error(other=_text(answer[1]), own=scripts.PROTOCOL)
            )
        if kind == b"name":
            other = read_member(name, answer[1])
            shown = ", ".join(f"{key} {value}" for key, value in other.facts.items())
            error = faults.CLUSTER_NAME_TAKEN.error(node=name, other=shown or "unknown")
            raise Refused(error, answer[2])
        return _table(answer)

    def renew(self, name: str, generation: int, *, judge: float | None) -> Deferred[Table]:
        """See L{Engine}."""
        return Deferred.fromCoroutine(self._renew(name, generation, judge))

    async def _renew(self, name: str, generation: int, judge: float | None) -> Table:
        expected = "" if judge is None else str(round(judge * 1000))
        answer = await self._script(scripts.RENEW, name, str(generation), self._lease, expected)
        if answer[0] == b"gone":
            raise NotAMember
        return _table(answer)

    def leave(self, name: str, generation: int) -> Deferred[None]:
        """See L{Engine}."""

        async def leave() -> None:
            await self._script(scripts.LEAVE, name, str(generation))

        return Deferred.fromCoroutine(leave())

    def records(self) -> Deferred[Mapping[str, bytes]]:
        """See L{Engine}."""

        async def records() -> Mapping[str, bytes]:
            flat = await self._ask("HGETALL", scripts.SHARED)
            if not isinstance(flat, list):
                raise EngineAway("an answer that is none")
            return {_text(k): v for k, v in zip(flat[::2], flat[1::2], strict=True)}

        return Deferred.fromCoroutine(records())

    def share(self, records: Mapping[str, bytes]) -> Deferred[None]:
        """See L{Engine}."""

        async def share() -> None:
            await self._script(scripts.SHARE, *(each for pair in records.items() for each in pair))

        return Deferred.fromCoroutine(share())

    def append(self, to: Member, *data: bytes) -> Deferred[bool] | None:
        """See L{Engine}."""
        commands = self._commands
        if commands is None:
            return fail(EngineAway("not connected"))
        key = scripts.inbox(to.name, to.generation).encode()
        head = _ENTRY % (len(key), key, sum(map(len, data)))
        if commands.may_be_silent and not self._answer_is_due():
            problem = commands.tell_packed(head, *data, b"\r\n")
            return None if problem is None else fail(problem)
        sent = commands.ask_packed(head, *data, b"\r\n", seconds=SECONDS)
        return sent.addCallbacks(_is_there, self._complained)

    def _answer_is_due(self) -> bool:
        """Now and then the engine says whether it takes entries, and has the inbox."""
        now = self._clock.seconds()
        self._unanswered += 1
        due = self._unanswered >= ANSWER_ENTRIES or now - self._answered >= ANSWER_SECONDS
        if due:
            self._answered, self._unanswered = now, 0
        return due

    def _complained(self, failure: Failure) -> Failure:
        if isinstance(failure.value, Complaint):
            return Failure(self._refused(failure.value))
        return failure

    def read(self, name: str, generation: int, after: bytes) -> Deferred[Sequence[Entry]]:
        """See L{Engine}."""
        if self._reading is None:
            return fail(EngineAway("not connected"))
        return self._reading.read(scripts.inbox(name, generation), after)

    def _may_not_read(self, complaint: Complaint) -> None:
        """Who cannot read his inbox is not in the cluster."""
        self._refusal = self._connector.explain(complaint)
        self._close(str(complaint))


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_there(answer: object) -> bool:
    return answer is not None


def read_member(name: str, value: object) -> Member:
    """
    What a node says of itself.

    @raise ValueError: nobody of ours has written it.
    """
    generation, incarnation, facts = _text(value).split(" ", 2)
    told = json.loads(facts)
    shown = {key: str(value) for key, value in told.items()} if isinstance(told, dict) else {}
    return Member(name, incarnation, int(generation), shown)


def _table(answer: Sequence[Any]) -> Table:
    members = {}
    flat = answer[3]
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        try:
            member = read_member(_text(name), value)
        except (ValueError, RecursionError):
            continue  # it is nobody, and is removed when its lease is over
        members[member.name] = member
    return Table(int(answer[1]) / 1000, _text(answer[2]), members, _text(answer[4]))
