"""
Flow control: what is sent to each party, and which party is not read meanwhile.

A L{Party} is a session, a link, or a connection that is neither yet.  While it does not
read, stanzas for it wait in its L{Backlog}, and a client that writes to it is not read
either.  A party speaks over a L{Carrier}, which may be lost and replaced while the party
lives.  docs/design/flow-control.md has the rules and what was measured.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, Protocol, cast

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.xmlstream.backlog import Backlog, Item, as_bytes, lane_of, size_of
from cms.xmlstream.gathering import PLAINLY, Gathering
from cms.xmlstream.joined import Joined
from cms.xmlstream.management import ASK_SECONDS, MOST_AWAY, REQUEST, Ledger
from cms.xmlstream.stanza import Stanza

READ_BYTES = 131_072  # at most read at once; more than this waiting for a peer makes it slow
HOLD_BYTES = 65_536  # of one source that may wait before the source is not read any more
DRAIN_BYTES = 65_536  # of the backlog, given to the transport at once
BURST_BYTES = 2 * READ_BYTES  # given to the transport at once while there is no backlog


@frozen
class SendLimits:
    """
    Limits on what waits for a party that does not read.

    @ivar size: Bytes of others' stanzas, shared out by L{Backlog}.  This side's own stanzas
        may be as much again.
    @ivar stall_timeout: Seconds without reading after which it is ended.
    @ivar patience: Seconds without reading for which others wait; then it counts as stalled.
    """

    size: int = 1024 * 1024
    patience: float = 5.0
    stall_timeout: float = 30.0


class Carrier(Protocol):
    """
    The connection that a party speaks over.

    @ivar out: Its way out.
    """

    out: Gathering

    def read_no_further(self) -> None:
        """Stop reading; the peer's data stays in the kernel."""

    def read_on(self) -> None:
        """Read again, unless there is another reason not to."""

    def too_slow(self) -> None:
        """The peer has read nothing for too long, or not even this side's own stanzas: end it."""


class Distant:
    """A source of stanzas that is no party here; lanes compare it."""

    __slots__ = ()

    @property
    def room(self) -> int:
        """How many bytes of all such may be on the way, and come though they are held."""
        return 0

    def held(self) -> Party | None:
        """What stands for it while it is to wait; C{None}: it is shared by many users."""
        raise NotImplementedError


SEND_LIMITS: Final = SendLimits()
NOWHERE: Final = Gathering()  # the way out of a party without a connection


class Party:
    """
    One party: the stanzas that wait for it, and the parties that it waits for.

    @ivar carrier: Its connection; C{None} while there is none.
    @ivar is_shared: Whether it carries many users, as a component's link does.  Then it
        never waits for a slow receiver, and stanzas sent in one turn of the reactor leave
        together.
    @ivar is_open: Whether it takes stanzas.  Stanzas for a closed one are lost.
    @ivar limits: The limits on what waits for it.
    @ivar ledger: What it has not acknowledged, if its stream is managed (XEP-0198).
    """

    def __init__(
        self, clock: IReactorTime, limits: SendLimits = SEND_LIMITS, *, is_shared: bool = False
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.is_shared = is_shared
        self.is_open = False
        self.carrier: Carrier | None = None
        self._out = NOWHERE
        self._backlog: Backlog | None = None  # while something waits
        self._blocked = True  # the connection takes nothing
        self._paused = True  # stanzas of others wait, for that or for acknowledgements
        self._paused_at = 0.0
        self.ledger: Ledger | None = None
        self._asks: IDelayedCall | None = None
        self._room = 0  # for so many stanzas, while there is no connection
        self._stall: IDelayedCall | None = None
        self._holding: dict[object, Party] = {}  # for each source that waits, who is held
        self._held_by: set[tuple[Party, object]] = set()

    # what it speaks over

    def attach(self, carrier: Carrier) -> None:
        """Use this connection from now on, and send what waited."""
        self.carrier, self._out = carrier, carrier.out
        self._blocked = self._paused = False
        if self._held_by:
            carrier.read_no_further()
        if self._backlog is not None or self.ledger is not None:
            self.resume()

    def succeed(self, other: Party) -> None:
        """Take over another party's connection, with what it had not sent yet."""
        carrier, other.carrier = other.carrier, None
        other.is_open = False
        if carrier is None:
            return
        if other._blocked:
            rest, since = other._take_rest(), other._paused_at
            other.leave()
            self.carrier, self._out = carrier, carrier.out
            self._blocked = True
            self._pause(since)
            for element in rest:
                self.write(element)
        else:
            self.attach(carrier)

    def detach(self) -> None:
        """
        The connection is gone, but not the party: stanzas wait for another connection.

        What this side says itself does not wait, except for what the ledger has of it.
        """
        self._let_go()
        self.carrier, self._out = None, NOWHERE
        self._blocked = self._paused = True
        self._paused_at = self.clock.seconds()
        self._room = sys.maxsize if self.is_shared else MOST_AWAY
        if self._backlog is not None:
            self._backlog.take_first()
            self._backlog = self._backlog or None

    def leave(self) -> None:
        """Close it: it takes no stanzas, and nobody waits for it nor it for others."""
        self.is_open = False
        carrier, self.carrier, self._backlog = self.carrier, None, None
        self._let_go()
        if self._held_by:
            for receiver, source in list(self._held_by):
                receiver._release(source)
            if carrier is not None:
                carrier.read_on()  # the end of its stream must be heard

    def take_all(self) -> bytes:
        """
        Everything that waits, as it leaves at the end.

        Of a managed stream that is only what this side says itself: stanzas of others that
        have no acknowledgement are answered with errors.
        """
        return self._out.join(self._take_rest())

    def _take_rest(self) -> list[bytes]:
        backlog = self._backlog
        if backlog is None:
            return []
        if self.ledger is not None:
            return backlog.take_first()
        self._backlog = None
        first, items, _ = backlog.take()
        return [*first, *map(as_bytes, items)]

    def take_stanzas(self) -> list[bytes]:
        """What the peer has not acknowledged and what waits: nobody will send it any more."""
        waiting = [] if self.ledger is None else list(self.ledger.waiting())
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            waiting += map(as_bytes, backlog.take()[1])
        return waiting

    def _let_go(self) -> None:
        for timer in (self._stall, self._asks):
            if timer is not None:
                timer.cancel()
        self._stall = self._asks = None
        for source in list(self._holding):
            self._release(source)

    # whether the peer reads

    def pause(self) -> None:
        """The connection's buffer is full."""
        self._blocked = True
        self._pause_again()

    def _pause_again(self) -> None:
        """Who reads on, but acknowledges nothing, has been slow since it began."""
        self._pause(self._paused_at if self._paused else self.clock.seconds())

    def _pause(self, since: float) -> None:
        self._paused = True
        self._paused_at = since
        if self._stall is None:
            self._watch_stall(self.limits.patience)

    def _watch_stall(self, seconds: float) -> None:
        self._stall = self.clock.callLater(max(0.0, seconds), self._judge_stall)

    def _judge_stall(self) -> None:
        self._stall = None
        carrier = self.carrier
        if not self._paused or carrier is None:
            return
        since = self.clock.seconds() - self._paused_at
        limits = self.limits
        if since >= limits.stall_timeout:
            carrier.too_slow()
            return
        if since >= limits.patience:
            for source, held in list(self._holding.items()):
                if held is not self:
                    self._release(source)
        until = limits.stall_timeout if since >= limits.patience else limits.patience
        self._watch_stall(until - since)

    def resume(self) -> None:
        """The connection's buffer has drained."""
        self._blocked = False
        if self.ledger is not None and self.ledger.is_full:
            if self._backlog is not None:
                self._out.write(self._out.join(self._backlog.take_first()))
            self._await_acknowledgements()
            return
        self._paused = False
        if self._backlog is not None:
            self.drain()

    @property
    def is_slow(self) -> bool:
        """Whether it reads more slowly than it is written to."""
        return self._backlog is not None

    @property
    def is_stalled(self) -> bool:
        """Whether it has read nothing for so long that nobody waits for it any more."""
        return self._paused and self.clock.seconds() - self._paused_at >= self.limits.patience

    @property
    def is_full(self) -> bool:
        """Whether so much of this side's own stanzas waits that it should send no requests."""
        return self._backlog is not None and self._backlog.first_size >= self.limits.size // 2

    @property
    def waiting_bytes(self) -> int:
        """How many bytes it has not read yet."""
        return 0 if self._backlog is None else self._backlog.first_size + self._backlog.size

    @property
    def kept_bytes(self) -> int:
        """How much waits for it to read, or to acknowledge."""
        return self.waiting_bytes + (0 if self.ledger is None else self.ledger.size)

    @property
    def away_seconds(self) -> float:
        """How long it has had no connection, and may get another one; 0 while it has one."""
        is_away = self.is_open and self.carrier is None
        return self.clock.seconds() - self._paused_at if is_away else 0.0

    # for whom it is read no further

    @property
    def held(self) -> bool:
        """Whether it is not read, because a receiver of its stanzas is slow."""
        return bool(self._held_by)

    def _hold(self, source: object, lane: object) -> None:
        """
        Much of C{source} waits in its lane: stop reading the party that it comes from.

        If the source is shared by many users, the receiving client is not read instead: it
        has asked for the stanzas, or must read them first.
        """
        own = None if self.is_shared else self
        if isinstance(source, Distant):
            held = source.held() or own
        else:
            held = source if isinstance(source, Party) and not source.is_shared else own
        if held is None or not held.is_open or self._holding.get(lane) is held:
            return
        if self.is_stalled and held is not self:
            return
        if self.carrier is None:
            return  # nobody waits for one that may come back or not
        if held.ledger is not None and held.ledger.is_full:
            return  # its acknowledgements must be read
        self._release(lane)  # where it was before
        self.stop_reading(held, lane)

    def stop_reading(self, held: Party, source: object) -> None:
        """Read a party no further until nothing of C{source} waits, or it is released."""
        self._holding[source] = held
        held._held_by.add((self, source))
        if held.carrier is not None:
            held.carrier.read_no_further()

    def _release(self, source: object) -> None:
        held = self._holding.pop(source, None)
        if held is not None:
            held._held_by.discard((self, source))
            if held.carrier is not None:
                held.carrier.read_on()

    # what leaves for it

    def write(self, data: bytes) -> None:
        """
        Send an element of our own, before the stanzas of others that wait.

        If L{SendLimits.size} bytes of these wait too, the party is ended.
        """
        if not self._blocked:
            self._out.put(data)
            return
        backlog = self._backlog = self._backlog or Backlog(self.limits.size)
        backlog.put_first(data)
        if backlog.first_size > self.limits.size and self.carrier is not None:
            self.carrier.too_slow()

    def send(self, stanza: Stanza) -> None:
        """Send a stanza of our own; nothing is sent to a closed party."""
        if self.is_open:
            out = self._out
            out.stanzas_sent += 1
            if self.is_shared and out.pieces is None:
                out.for_this_turn(self.clock)
            raw = stanza.raw
            if self.carrier is not None or self.ledger is None:
                self.write(raw)
            if self.ledger is not None:
                self._keep(self.ledger, (raw,), len(raw))
                if self.carrier is None:
                    self.keeps(len(stanza.raw))

    def deliver(self, raws: Sequence[bytes], source: object) -> Sequence[bytes]:
        """
        Send the bytes of others' stanzas, in order.

        @param source: The lane in which they wait if they must: the party that they came
            from, C{None} for the server's answers to this peer.
        @return: Those for which there is no room; their senders must get an error.
        """
        if not self.is_open:
            return ()
        if self._backlog is None and not self._paused:
            out = self._out
            data = raws.whole if type(raws) is Joined and out.join is PLAINLY else out.join(raws)
            if len(data) <= BURST_BYTES:
                out.stanzas_sent += len(raws)
                out.write(data)
                if self.ledger is not None:
                    self._keep(self.ledger, raws, len(data))
                return ()
        nothing_waited = self._backlog is None
        refused = [raw for raw in raws if not self.queue(raw, source)]
        if nothing_waited and not self._paused:
            self.drain()
        return refused

    def queue(self, item: Item, source: object) -> bool:
        """
        Put a stanza into the backlog, until the peer reads or L{drain} is called.

        @return: Whether there is room for it.
        """
        if not self.is_open:
            return True
        waits = self._wait(item, source)
        if not waits and not self._paused:
            self.drain()
            waits = self._wait(item, source)
        self._out.stanzas_sent += waits
        return waits

    def _wait(self, item: Item, source: object) -> bool:
        away = self.carrier is None and self.ledger is not None
        size = size_of(item) if away else 0
        if away and not (self._room and self.may_keep(size)):
            return False
        backlog = self._backlog = self._backlog or Backlog(self.limits.size)
        lane = lane_of(source)
        waits = backlog.put(lane, item)
        if not waits and isinstance(source, Distant) and not (away or self.is_stalled):
            waits = backlog.put(lane, item, min(source.room, self.limits.size))
        if away and waits:
            self._room -= 1
            self.keeps(size)
        if not backlog:
            self._backlog = None
        elif self._paused and backlog.waiting(lane) >= HOLD_BYTES:
            self._hold(source, lane)
        return waits

    def drain(self, most: int | None = None) -> int:
        """
        Send as much of the backlog as the connection takes.

        @param most: Bytes; one more stanza may go.
        @return: How many bytes were sent.
        """
        sent = 0
        out = self._out
        while (backlog := self._backlog) is not None and not self._paused:
            if most is not None and sent >= most:
                break
            step = DRAIN_BYTES if most is None else min(DRAIN_BYTES, most - sent)
            own, items, emptied = backlog.take(step)
            if not backlog:
                self._backlog = None
            first, data = out.join(own), out.join(map(as_bytes, items))
            sent += len(first) + len(data)
            out.write(first + data)
            if self.ledger is not None and items:
                self._keep(self.ledger, items, len(data))
            for source in emptied:
                self._release(source)
        return sent

    # stream management, XEP-0198

    def may_keep(self, size: int) -> bool:
        """Whether so many bytes more may be kept while there is no connection."""
        return True

    def keeps(self, size: int) -> None:
        """So many bytes more are kept while there is no connection, or less."""

    def _keep(self, ledger: Ledger, stanzas: Sequence[Item], size: int) -> None:
        """Keep what has left until it is acknowledged, and see that it will be."""
        if ledger.keep(stanzas, size):
            self.ask()
        elif self._asks is None and self.carrier is not None:
            self._asks = self.clock.callLater(ASK_SECONDS, self._ask_late)
        if ledger.is_full:
            self._await_acknowledgements()

    def _await_acknowledgements(self) -> None:
        """Only what the peer says can open its window: it is read, whoever it should wait for."""
        for receiver, source in list(self._held_by):
            receiver._release(source)
        self._pause_again()

    def ask(self) -> None:
        """Ask what was handled."""
        if self.ledger is not None:
            self.ledger.asked()
            self.write(REQUEST)

    def _ask_late(self) -> None:
        self._asks = None
        if self.ledger is not None and self.ledger.is_unasked:
            self.ask()

    def acknowledged(self, ledger: Ledger, handled: int) -> None:
        """
        The peer has handled so many, C{h}.

        @raise AcknowledgedTooManyError: it was never sent so many.
        """
        ledger.acknowledge(handled)
        if self._paused and not (self._blocked or ledger.is_full):
            self.resume()


class _Gone(Party):
    """Stands for the party of a connection that is gone, and says nothing."""

    def write(self, data: bytes) -> None:
        """See L{Party.write}."""


GONE: Final = _Gone(cast("IReactorTime", None))  # nothing of it is ever late
