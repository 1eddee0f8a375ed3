"""
This node in the cluster: its membership, the others, and its inbox.

It joins, renews its lease and so learns who is there.  Whoever cannot renew it is cut off, and
sends nothing to others until it can; nothing else decides who is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from cms import faults
from cms.cluster.engine import Engine, EngineAway, Member, NotAMember, Refused, Table
from cms.cluster.entries import Numbered, Unreadable, read_entry
from cms.cluster.peer import Peer, PeerSettings
from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.signalflow import StepError

RENEWALS = 4  # in the time of a lease
FRESH = 0.75  # of a lease: longer ago than that was the last renewal of who is cut off
AGAIN = (0.2, 2.0)  # seconds between tries to join or to renew that failed, at random


@frozen
class NodeSettings:
    """
    This node.

    @ivar name: Its name.
    @ivar facts: What it says of itself, for people.
    @ivar lease: Seconds.
    """

    name: str
    facts: Mapping[str, str]
    lease: float
    peers: PeerSettings


class Neighbourhood(Protocol):
    """What uses the cluster."""

    def tell(self, peer: Peer) -> None:
        """A node knows nothing of this one: tell it all."""
        ...

    def arrived(self, peer: Peer, data: bytes | memoryview) -> None:
        """Messages came from it, in order and once."""
        ...

    def handed_back(self, peer: Peer, messages: list[bytes]) -> None:
        """Messages for it will not be sent, or perhaps were but will not be again."""
        ...

    def gone(self, peer: Peer) -> None:
        """It is there no more, and all that it had has ended."""
        ...


class Node:
    """
    This node.

    @param random: Makes that many unpredictable bytes.
    @param jitter: Spreads what all nodes do.
    @ivar peers: The other nodes, by name.
    @ivar fault: Why it is not in the cluster, if it is not.
    @ivar on_change: Called when it has joined, or been cut off, or another came or went.
    @ivar on_renewed: Called with what the engine says, when it has joined or renewed its lease.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        engine: Engine,
        settings: NodeSettings,
        uses: Neighbourhood,
        *,
        random: Callable[[int], bytes],
        jitter: Random,
    ) -> None:
        self.settings = settings
        self.incarnation = random(8).hex()
        self.peers: dict[str, Peer] = {}
        self.fault: StepError | None = faults.CLUSTER_NOT_YET.error(node=settings.name)
        self.on_change: list[Callable[[], object]] = []
        self.on_renewed: list[Callable[[Table], object]] = []
        self.joined_at = float("-inf")
        self.joined = self.deaths = self.bad_entries = self.foreign_entries = 0
        self._clock = clock
        self._engine = engine
        self._uses = uses
        self._random = random
        self._jitter = jitter
        self._me: Member | None = None
        self._epoch = ""
        self._renewed = float("-inf")
        self._connected_at = 0.0
        self._spare_until = 0.0
        self._offset = 0.0
        self._beat: IDelayedCall | None = None
        self._beating: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []  # for the end of that
        self._reading: Deferred[None] | None = None
        self._taken_until: bytes | None = None
        self._was_open = False
        self._stopped = False
        engine.on_connected.append(self._connected)
        engine.on_lost.append(self._judge_way)
        engine.on_trouble.append(self._tell)

    # whether it is in

    @property
    def generation(self) -> int:
        """Of its membership; 0: it has none."""
        return 0 if self._me is None else self._me.generation

    @property
    def is_open(self) -> bool:
        """
        Whether it may send to others.

        The time since the last renewal is asked for each time: a process that was stopped
        does not know it.
        """
        fresh = self._clock.seconds() - self._renewed < FRESH * self.settings.lease
        return fresh and self._me is not None and self._engine.is_connected

    @property
    def since_renewal(self) -> float:
        """Seconds since its lease was renewed."""
        return self._clock.seconds() - self._renewed

    @property
    def is_new(self) -> bool:
        """Whether it has joined within the time of a lease."""
        return self._clock.seconds() - self.joined_at < self.settings.lease

    def now(self) -> float:
        """The engine's clock, as far as it is known here: seconds since the epoch."""
        return self._clock.seconds() + self._offset

    def start(self) -> None:
        """Join, as soon as the engine is there."""
        self._engine.start()
        self._later(0.0)

    async def stop(self) -> None:
        """Leave."""
        self._stopped = True
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        for peer in list(self.peers.values()):
            peer.out.flush()
        if self._me is not None and self._engine.is_connected:
            try:
                await self._engine.leave(self._me.name, self._me.generation)
            except (EngineAway, Refused) as problem:
                self.log.debug("left without a word: {problem}", problem=str(problem))
        self._me = None
        for running in (self._beating, self._reading):
            if running is not None:
                running.cancel()
        await self._engine.stop()
        for peer in list(self.peers.values()):
            peer.end()
        self.peers.clear()

    # its lease

    def _connected(self) -> None:
        self._connected_at = self._clock.seconds()
        self._later(0.0)

    def _later(self, seconds: float) -> None:
        if self._stopped:
            return
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._beat = self._clock.callLater(seconds, self._start_beat)

    async def refresh(self) -> None:
        """Renew now, since somebody has come or gone."""
        if self._beating is not None:
            await self._beat_ended()  # it may have asked before that
        self._start_beat()
        if self._beating is not None:
            await self._beat_ended()

    def _beat_ended(self) -> Deferred[None]:
        ended: Deferred[None] = Deferred()
        self._waiting.append(ended)
        return ended

    def _start_beat(self) -> None:
        if self._beating is not None or self._stopped:
            return
        beating = self._beating = Deferred.fromCoroutine(self._renew())
        beating.addErrback(self._unexpected)
        beating.addBoth(self._ended_beat)

    def _ended_beat(self, _: object) -> None:
        self._beating = None
        waiting, self._waiting = self._waiting, []
        for ended in waiting:
            ended.callback(None)

    def _unexpected(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("unexpected error in the cluster", failure)
            self._later(AGAIN[1])

    async def _renew(self) -> None:
        started, was_open = self._clock.seconds(), self.is_open
        if not self._engine.is_connected:
            self._later(self.settings.lease / RENEWALS)
            self._judge_way()
            return
        try:
            if self._me is None:
                table = await self._engine.join(
                    self.settings.name, self.incarnation, self.settings.facts
                )
                self._taken_until = None
                self._entered(table)
            else:
                judges = started - self._connected_at >= self.settings.lease
                judges = judges and started >= self._spare_until
                expected = started + self._offset
                table = await self._engine.renew(
                    self._me.name, self._me.generation, judge=expected if judges else None
                )
                self._compare(table.now - expected)
        except NotAMember:
            self.log.warn("{node} was held for dead, and joins again", node=self.settings.name)
            self._me = None
            self._judge_way()
            self._later(self._jitter.uniform(*AGAIN) / 4)
        except EngineAway:
            if self._engine.is_connected:  # or it says itself why it is away
                self._judge_way()
            self._later(self._jitter.uniform(*AGAIN))
        except Refused as refused:
            self._refuse(refused)
            self._later(self._jitter.uniform(*AGAIN))
        else:
            self._renewed = started
            self._offset = table.now - self._clock.seconds()
            self._know(table)
            if not was_open and self._was_open:
                # A process that goes on after it was stopped: what was written meanwhile waits.
                for peer in list(self.peers.values()):
                    peer.go_on()
            self._judge_way()
            self._read_on()
            self._later(self.settings.lease / RENEWALS)
            call_all(self.log, self.on_renewed, table)

    def _compare(self, apart: float) -> None:
        """Nobody is judged by a clock that was set, until all have renewed their leases by it."""
        if abs(apart) > self.settings.lease / 2:
            self._spare_until = self._clock.seconds() + self.settings.lease
            self.log.warn("the engine's clock has jumped by {apart:.1f} s", apart=apart)

    def _refuse(self, refused: Refused) -> None:
        """A name that is taken may be what is left of this node's process before."""
        before, self._taken_until = self._taken_until, refused.lease
        if refused.lease is None or before not in (None, refused.lease):
            self._tell(refused.error)

    def _tell(self, error: StepError) -> None:
        """Say once why it is not in the cluster."""
        if self.fault is None or self.fault.fault != error.fault:
            self.log.error("{step_text}: {cause} Cure: {cure}", **error.fields)
        self.fault = error
        call_all(self.log, self.on_change)

    def _entered(self, table: Table) -> None:
        """It has joined; what is left of before depends on why it had to."""
        lost_data = bool(self._epoch) and table.epoch != self._epoch
        again = bool(self._epoch)
        self._me = table.members[self.settings.name]
        self.joined_at = self._clock.seconds()
        self._epoch = table.epoch
        self.joined += 1
        if lost_data:
            # Nobody is gone because the engine has forgotten him.
            self._spare_until = self._clock.seconds() + self.settings.lease
        elif again:
            # Others have ended all that this node had, and know nothing of it now.
            self._renewed = self._clock.seconds()
            for peer in list(self.peers.values()):
                peer.restart()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _know(self, table: Table) -> None:
        """Compare the table of members with the nodes that are known."""
        if table.epoch != self._epoch:
            self._epoch = table.epoch
            self._spare_until = self._clock.seconds() + self.settings.lease
        spared = self._clock.seconds() < self._spare_until
        for name, peer in list(self.peers.items()):
            member = table.members.get(name)
            is_other = member is not None and member.incarnation != peer.member.incarnation
            if is_other or (member is None and not spared):
                self._bury(peer)
        came = False
        for name, member in table.members.items():
            if name == self.settings.name:
                continue
            known = self.peers.get(name)
            if known is None:
                came = True
                self._meet(member)
            elif known.member.generation != member.generation:
                known.member = member
                known.send_again()
        if came:
            call_all(self.log, self.on_change)

    def _meet(self, member: Member) -> None:
        self.log.info("node {node} is in the cluster", node=member.name)
        peer = Peer(self._clock, member, self, self.settings.peers, self._random)
        self.peers[member.name] = peer
        self._uses.tell(peer)

    def _bury(self, peer: Peer) -> None:
        self.deaths += 1
        self.log.warn(
            "node {node} is gone: its sessions and links have ended", node=peer.member.name
        )
        del self.peers[peer.member.name]
        self._uses.gone(peer)
        peer.end()
        call_all(self.log, self.on_change)

    def _judge_way(self) -> None:
        """Whether anything may be sent has perhaps changed."""
        is_open = self.is_open
        if is_open and self.fault is not None:
            self.log.info(
                "{node} is in the cluster, generation {generation}",
                node=self.settings.name,
                generation=self.generation,
            )
            self.fault = None
        elif not is_open and self.fault is None:
            self._tell(faults.CLUSTER_CUT_OFF.error(node=self.settings.name))
        if is_open != self._was_open:
            self._was_open = is_open
            for peer in list(self.peers.values()):
                peer.go_on()
            call_all(self.log, self.on_change)

    # its inbox

    def _read_on(self) -> None:
        if self._reading is None and not self._stopped:
            reading = self._reading = Deferred.fromCoroutine(self._read())
            reading.addErrback(self._read_no_more)
            reading.addBoth(lambda _: self._forget_reading(reading))

    def _forget_reading(self, reading: Deferred[None]) -> None:
        if self._reading is reading:
            self._reading = None

    def _read_no_more(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("the inbox is not read any more", failure)

    async def _read(self) -> None:
        me, after = self._me, b"0"
        while me is not None and self._me is me:
            try:
                found = await self._engine.read(me.name, me.generation, after)
            except EngineAway:
                pause: Deferred[None] = Deferred()
                self._clock.callLater(AGAIN[0], pause.callback, None)
                await pause
                continue
            for entry in found:
                if self._me is not me:
                    return
                after, data = entry
                if not self._took(data):
                    await self.refresh()  # its sender may have come just now
                    if data and not self._took(data):
                        self.foreign_entries += 1  # of a generation that is over

    def _took(self, data: bytes) -> bool:
        """Take an entry, if its sender is known."""
        if not data:
            return False
        try:
            numbered = read_entry(data)
            peer = self._sender(numbered)
            if peer is not None:
                peer.take(numbered)
        except Unreadable as problem:
            self._bad(str(problem))
            return True
        return peer is not None

    def _bad(self, problem: str) -> None:
        self.bad_entries += 1
        if self.bad_entries == 1:
            error = faults.CLUSTER_BAD_ENTRY.error(node=self.settings.name, problem=problem)
            self.log.warn("{step_text}: {cause} Cure: {cure}", **error.fields)

    def _sender(self, entry: Numbered) -> Peer | None:
        peer = self.peers.get(entry.sender)
        known = peer is not None and peer.member.generation == entry.generation
        return peer if known else None

    # the way of its peers

    def flush(self) -> None:
        """See L{Way<cms.cluster.peer.Way>}."""
        for peer in list(self.peers.values()):
            if peer.out.pieces:
                peer.out.flush()

    def transmit(self, to: Member, kind: int, token: bytes, number: int, data: bytes) -> None:
        """See L{Way<cms.cluster.peer.Way>}."""
        me = self._me
        if me is None:
            return
        head = Numbered(kind, me.name, me.generation, token, number).head()
        sent = self._engine.append(to, head, data)
        if sent is not None:
            sent.addCallbacks(self._sent, self._not_sent)

    def _sent(self, arrived: bool) -> None:
        if not arrived and self._beating is None:
            self._later(0.0)  # it has left, or joined again

    def _not_sent(self, failure: Failure) -> None:
        failure.trap(EngineAway, Refused)  # it will be sent again
        if isinstance(failure.value, Refused):
            self._tell(failure.value.error)

    def handed_back(self, peer: Peer, messages: list[bytes]) -> None:
        """See L{Way<cms.cluster.peer.Way>}."""
        self._uses.handed_back(peer, messages)

    def began(self, peer: Peer) -> None:
        """See L{Way<cms.cluster.peer.Way>}."""
        self._uses.tell(peer)

    def arrived(self, peer: Peer, data: bytes | memoryview) -> None:
        """See L{Way<cms.cluster.peer.Way>}."""
        self._uses.arrived(peer, data)
