"""
Another node: what leaves for it, and what came from it.

What leaves is numbered and kept until the other node acknowledges it.  The engine may lose
entries when it fails over, or be away: then they are sent again, and told apart by their
numbers.  What cannot be sent in time is handed back, and the numbering begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.cluster.engine import Member
from cms.cluster.entries import ACKNOWLEDGED, DATA, MISSING, TOKEN_BYTES, Numbered
from cms.xmlstream.flow import Party, SendLimits
from cms.xmlstream.gathering import Gathering

AGAIN_SECONDS = 3.0  # without progress, after which what is not acknowledged is sent again
ACKNOWLEDGE_SECONDS = 0.1  # that an acknowledgement waits for more
ACKNOWLEDGE_ENTRIES = 32  # or so many entries
# Or this part of a window: its sender waits until half of it is acknowledged.
ACKNOWLEDGE_SHARE = 3
LATER_SECONDS, MOST_LATER = 0.02, 100  # that messages wait for which nobody waits
UNKNOWN = bytes(TOKEN_BYTES)  # of a node that has said nothing
COMPLAIN_SECONDS = 0.5  # between two complaints that something is missing


class PerTurn(Gathering):
    """
    What one turn of the reactor sends to a node leaves as one entry.

    @ivar later: What leaves with the next entry, before it.
    """

    __slots__ = ("_clock", "_timer", "later")

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock
        self.later: list[bytes] = []
        self._timer: IDelayedCall | None = None

    def write(self, data: bytes) -> None:
        """See L{Gathering.write}."""
        if self.pieces is None:
            self.for_this_turn(self._clock)
            if self.later:
                self.take_along()
        super().write(data)

    put = write

    def write_later(self, data: bytes) -> None:
        """Nobody waits for it: send it with the next entry, or soon."""
        if self.pieces is not None:
            super().write(data)
            return
        self.later.append(data)
        if len(self.later) >= MOST_LATER:
            self.take_along()
        elif self._timer is None:
            self._timer = self._clock.callLater(LATER_SECONDS, self.take_along)

    def take_along(self) -> None:
        """Send in this turn what was to be sent later."""
        later, self.later = self.later, []
        if self._timer is not None:
            timer, self._timer = self._timer, None
            if timer.active():
                timer.cancel()
        for data in later:
            self.write(data)

    def flush(self) -> None:
        """See L{Gathering.flush}."""
        if self.later:
            self.take_along()
        super().flush()


@frozen
class PeerSettings:
    """
    Limits, for each other node.

    @ivar window: Bytes that it has not acknowledged; four times as many may wait behind them.
    @ivar patience: Seconds without progress, after which all of that is handed back.
    """

    window: int
    patience: float


class Way(Protocol):
    """How entries leave; and what is to be done where something did not arrive."""

    @property
    def is_open(self) -> bool:
        """Whether anything may be sent to others now."""
        ...

    def transmit(self, to: Member, kind: int, token: bytes, number: int, data: bytes) -> None:
        """
        Send an entry; whether it arrived is known when it is acknowledged.

        See L{Numbered<cms.cluster.entries.Numbered>}.
        """
        ...

    def flush(self) -> None:
        """What was said to any node leaves now."""
        ...

    def handed_back(self, peer: Peer, messages: list[bytes]) -> None:
        """These messages will not be sent, or perhaps were but will not be sent again."""
        ...

    def began(self, peer: Peer) -> None:
        """The numbering begins: the other node knows nothing of this one now."""
        ...

    def arrived(self, peer: Peer, data: bytes | memoryview) -> None:
        """These messages came from it, in order and once."""
        ...


class Peer:
    """
    One other node.

    @ivar party: What waits for it.
    @ivar is_cut: What is for it is handed back at once.
    @ivar bytes_sent: And what follows: since it is known.
    """

    def __init__(
        self,
        clock: IReactorTime,
        member: Member,
        way: Way,
        settings: PeerSettings,
        random: Callable[[int], bytes],
    ) -> None:
        self.member = member
        self.is_cut = False
        self.is_over = False
        self.entries_sent = self.entries_received = self.bytes_sent = self.bytes_received = 0
        self.sent_again = 0
        self._clock = clock
        self._way = way
        self._settings = settings
        self._random = random
        # what leaves
        self._token = random(TOKEN_BYTES)
        self._number = 0
        self._kept: deque[tuple[int, bytes, float]] = deque()
        self._kept_bytes = 0
        self._unsent = 1  # the first number that has not left
        self._blocked = False
        self._again: IDelayedCall | None = None
        self._progress = 0.0
        self._awaited: deque[tuple[int, Deferred[None]]] = deque()
        # what comes
        self._their_token = b""
        self._taken = 0
        self._acknowledged = 0
        self._taken_bytes = 0  # since then
        self._acknowledge: IDelayedCall | None = None
        self._complained = float("-inf")
        self._wonders: IDelayedCall | None = clock.callLater(AGAIN_SECONDS, self._wonder)
        self.party = self._new_party()

    def _new_party(self) -> Party:
        settings = self._settings
        limits = SendLimits(4 * settings.window, min(5.0, settings.patience), settings.patience)
        self._turn = PerTurn(self._clock)
        self.out: Gathering = self._turn
        self.out.to = self
        party = Party(self._clock, limits, is_shared=True)
        party.is_open = True
        party.attach(self)
        self._blocked = False
        return party

    @property
    def kept_bytes(self) -> int:
        """What it has not acknowledged, and what waits for it."""
        return self._kept_bytes + self.party.waiting_bytes

    @property
    def is_ready(self) -> bool:
        """Whether what is sent to it now leaves at once."""
        return self._way.is_open and not self._blocked and not self.is_over

    @property
    def behind(self) -> float:
        """For how many seconds the oldest of what it has not acknowledged is under way."""
        return self._clock.seconds() - self._kept[0][2] if self._kept else 0.0

    # of a carrier

    def read_no_further(self) -> None:
        """Nothing is read from it alone: what comes from it has its sender's name."""

    def read_on(self) -> None:
        """See L{read_no_further}."""

    def too_slow(self) -> None:
        """Nothing has left, or been acknowledged, for too long."""
        self.is_cut = not self._way.is_open
        self.restart()

    # what leaves

    def write(self, data: bytes) -> None:
        """Send messages that were gathered."""
        self._number += 1
        now = self._clock.seconds()
        if not self._kept:
            self._progress = now
        self._kept.append((self._number, data, now))
        self._kept_bytes += len(data)
        is_open = self._way.is_open
        if is_open:
            self._transmit()
        self._judge(is_open)

    def _transmit(self) -> None:
        """Send what has not left."""
        last = self._kept[-1]
        for number, data, _ in (last,) if last[0] == self._unsent else tuple(self._kept):
            if number >= self._unsent:
                self._send(DATA, self._token, number, data)
        self._unsent = self._number + 1
        if self._again is None and self._kept:
            self._again = self._clock.callLater(AGAIN_SECONDS, self._look)

    def _send(self, kind: int, token: bytes, number: int, data: bytes = b"") -> None:
        self.entries_sent += 1
        self.bytes_sent += len(data)
        self._way.transmit(self.member, kind, token, number, data)

    def write_later(self, data: bytes) -> None:
        """Send a message of this node, for which nobody waits, together with others."""
        if self._blocked:
            self.party.write(data)
        else:
            self._turn.write_later(data)

    def known(self) -> Deferred[None]:
        """Fires when it has acknowledged all that was written until now, or that is lost."""
        self._turn.take_along()
        known: Deferred[None] = Deferred()
        self._awaited.append((self._number + bool(self.out.pieces), known))
        return known

    def _note_known(self, number: float) -> None:
        while self._awaited and self._awaited[0][0] <= number:
            self._awaited.popleft()[1].callback(None)

    def _judge(self, is_open: bool) -> None:
        """Let the parties wait that write to it, or go on."""
        window = self._settings.window
        full = self._kept_bytes >= (window // 2 if self._blocked else window)
        blocked = full or not is_open
        if blocked and not self._blocked:
            self._blocked = True
            self.party.pause()
        elif self._blocked and not blocked:
            self._blocked = False
            self.party.resume()

    def _look(self) -> None:
        """Send again what nobody has acknowledged for a while."""
        self._again = None
        if self._kept and not self.is_over:
            if self._clock.seconds() - self._progress >= AGAIN_SECONDS:
                self.send_again()
            else:
                self._again = self._clock.callLater(AGAIN_SECONDS, self._look)

    def send_again(self) -> None:
        """Send all that is not acknowledged: the engine may have lost it."""
        if self._kept:
            self.sent_again += min(self._unsent - self._kept[0][0], len(self._kept))
            self._unsent = self._kept[0][0]
            self._progress = self._clock.seconds()
            if self._again is not None:
                self._again.cancel()
                self._again = None
            for number, data, _ in list(self._kept):
                if self._way.is_open:
                    self._send(DATA, self._token, number, data)
                    self._unsent = number + 1
            self._again = self._clock.callLater(AGAIN_SECONDS, self._look)

    def go_on(self) -> None:
        """The way is open again, or not any more; what was sent before may be lost."""
        if self._way.is_open:
            self.is_cut = False
            self.send_again()
        else:
            self._note_known(float("inf"))  # nobody waits for what may take long
        self._judge(self._way.is_open)

    def restart(self) -> None:
        """Hand back all that it has not acknowledged, and begin anew."""
        lost = self._abandon()
        self._token, self._number, self._unsent = self._random(TOKEN_BYTES), 0, 1
        self.party = self._new_party()
        self._judge(self._way.is_open)
        self._way.handed_back(self, lost)
        self._way.began(self)

    def end(self) -> None:
        """It is gone."""
        self.is_over = True
        for timer in (self._again, self._acknowledge, self._wonders):
            if timer is not None:
                timer.cancel()
        self._again = self._acknowledge = self._wonders = None
        self._way.handed_back(self, self._abandon())

    def _abandon(self) -> list[bytes]:
        out, kept = self._turn, [data for _, data, _ in self._kept]
        lost = kept + out.later + (out.pieces or [])
        out.later.clear()
        self.out.to = None
        self.out.flush()
        self._kept.clear()
        self._kept_bytes = 0
        self._note_known(float("inf"))
        lost += self.party.take_stanzas()
        self.party.leave()
        return lost

    # what comes

    def take(self, entry: Numbered) -> None:
        """An entry of its came."""
        self.entries_received += 1
        self.bytes_received += len(entry.data)
        if entry.kind == ACKNOWLEDGED:
            if entry.token == self._token:
                self._arrived(entry.number)
        elif entry.kind == MISSING:
            self._lacks(entry)
        elif entry.token == self._their_token:
            if entry.number == self._taken + 1:
                self._accept(entry)
            elif entry.number > self._taken:
                self._complain(entry.token, self._taken)
            else:
                self._acknowledge_soon(at_once=True)  # it came before: tell so
        elif entry.number == 1:
            self._their_token, self._taken, self._acknowledged = entry.token, 0, 0
            self._accept(entry)
        else:
            self._complain(entry.token, 0)

    def _accept(self, entry: Numbered) -> None:
        self._taken = entry.number
        self._taken_bytes += len(entry.data)
        self._acknowledge_soon()
        self._way.arrived(self, entry.data)

    def acknowledge(self) -> None:
        """Somebody waits there: acknowledge what has come now."""
        self._acknowledge_soon(at_once=True)

    def _acknowledge_soon(self, *, at_once: bool = False) -> None:
        many = self._taken - self._acknowledged >= ACKNOWLEDGE_ENTRIES
        now = at_once or many or self._taken_bytes * ACKNOWLEDGE_SHARE >= self._settings.window
        if self._acknowledge is None:
            seconds = 0.0 if now else ACKNOWLEDGE_SECONDS
            self._acknowledge = self._clock.callLater(seconds, self._acknowledge_now)
        elif now:  # once, for all that this turn takes
            self._acknowledge.reset(0.0)

    def _acknowledge_now(self) -> None:
        self._acknowledge = None
        if self._way.is_open and not self.is_over:
            self._way.flush()  # what was passed on is on its way when this is known
            self._acknowledged, self._taken_bytes = self._taken, 0
            self._send(ACKNOWLEDGED, self._their_token, self._taken)

    def _wonder(self) -> None:
        """It has said nothing yet: it may believe that it is known here, and need not."""
        self._wonders = None
        if not self._their_token:
            self._complain(UNKNOWN, 0)
            self._wonders = self._clock.callLater(AGAIN_SECONDS, self._wonder)

    def _complain(self, token: bytes, after: int) -> None:
        now = self._clock.seconds()
        if self._way.is_open and now - self._complained >= COMPLAIN_SECONDS:
            self._complained = now
            self._send(MISSING, token, after)

    def _arrived(self, number: int) -> None:
        kept = self._kept
        if number >= self._unsent:
            return  # it was never sent
        self._note_known(number)
        while kept and kept[0][0] <= number:
            self._kept_bytes -= len(kept.popleft()[1])
            self._progress = self._clock.seconds()
        self._judge(self._way.is_open)

    def _lacks(self, entry: Numbered) -> None:
        if entry.token == UNKNOWN and self._number and not self._kept:
            self.restart()
        if entry.token != self._token:
            return
        self._arrived(entry.number)
        if self._kept and self._kept[0][0] == entry.number + 1:
            self.send_again()
        elif self._number > entry.number:
            self.restart()  # what it lacks is kept no more: it has forgotten this node
