"""
Contacts in a cluster: every server has all of them, and tells the others of each change.

A server that has been told all by another sends it what tells its own entries from others, for
each bucket of users.  The other answers with all that it has in those buckets that differ.
So both have the same in the end, whatever one of them has missed, and why.  A server whose disk
took nothing for a while compares again when it may take something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from cms.cluster.entries import Unreadable
from cms.cluster.peer import Peer
from cms.process.logs import Logger
from cms.state.database import StoreUnusable
from cms.xmpp import nodemessages as messages
from cms.xmpp.contacts.blocking import Blocking
from cms.xmpp.contacts.store import Merged, Row
from cms.xmpp.nodemessages import Facts, told

ROWS: Final = 50  # in one message
PURGED_AFTER: Final = 10_000  # rows, after which old ones of nothing are let go
READY_SECONDS = 0.2  # after which is looked whether a server takes more
MOST_WAITING = 100_000  # rows of others that wait for this server's disk
AGAIN = 60.0, 3_600.0  # seconds until what was missed is asked for: at first, and at most

MOST_STAMP: Final = 1 << 53  # milliseconds; so that those that follow fit into a row, too
_KINDS = {
    "contacts": (str, str, int, int, int, str, str, str, int, str),
    "blocked": (str, str, int, int, str),
    "shared": (str, str, str, int, int, str),
}


class Replicas:
    """
    What this server and the others tell each other of contacts.

    @param tell: Tells all others, if there are any, what a function makes.
    """

    log = Logger()

    def __init__(self, blocking: Blocking, tell: Callable[[Callable[[], bytes]], object]) -> None:
        contacts = self._contacts = blocking.contacts
        self._blocking = blocking
        self._changes = contacts.changes
        self._store = contacts.changes.store
        self._waiting: list[Row] = []
        self._sending: dict[Peer, tuple[list[str], IDelayedCall]] = {}
        self._written = PURGED_AFTER
        self._tell_all = tell
        self._again: IDelayedCall | None = None
        self._pause = AGAIN[0]
        self._changes.on_rows.append(self._tell_rows)
        self._changes.on_rows.append(self._count)

    def _tell_rows(self, rows: Sequence[Row]) -> None:
        for at in range(0, len(rows), ROWS):
            piece = rows[at : at + ROWS]
            self._tell_all(partial(told, messages.ROWS, "", rows=piece))

    # what comes

    def taken(self, facts: Facts) -> None:
        """
        Another server's rows.

        @raise Unreadable: one is none.
        """
        try:
            taken = [checked(row) for row in facts.all("rows")]
            self._count(taken)
        except ValueError as problem:
            raise Unreadable(str(problem)) from None
        if len(self._waiting) + len(taken) > MOST_WAITING:
            self._missed("the disk is too slow for them")
            return
        asked = bool(self._waiting)
        self._waiting += taken
        if taken and not asked:
            merged = self._changes.merge(self._take)
            merged.addCallbacks(self._follow, self._not_merged).addErrback(self._failed)

    def _take(self) -> Callable[[], Merged]:
        """What has come until now, as it is merged in a thread."""
        rows, self._waiting = self._waiting, []
        return partial(self._store.merge, rows, self._contacts.interested)

    def _follow(self, merged: Merged) -> None:
        self._pause = AGAIN[0]
        for owner, contact, version in merged.contacts:
            shown = contact if contact.listed else None
            self._contacts.push(owner, contact.address, shown, version)
        for follow in self._contacts.on_shared if merged.shared else ():
            follow(merged.shared)
        for owner, changed in merged.blocked.items():
            self._blocking.listed(owner, merged.lists[owner], changed)

    def _not_merged(self, failure: Failure) -> None:
        problem = failure.value
        if not isinstance(problem, StoreUnusable):
            failure.raiseException()
        self._missed(f"{problem.fault.cause} Cure: {problem.fault.cure}")

    def _missed(self, why: str) -> None:
        """What others have told is lost here; nobody else has to ask at the same moment."""
        if self._again is not None:
            return
        self.log.error(
            "contacts that other servers have changed cannot be stored, and are asked for again in"
            " {seconds:.0f} s: {why}",
            seconds=self._pause,
            why=why,
        )
        self._again = self._changes.clock.callLater(self._pause, self._ask)
        self._pause = min(2 * self._pause, AGAIN[1])

    def _ask(self) -> None:
        """Compare with all others."""
        self._again = None
        asked: Deferred[Any] = self._changes.work.run(self._store.digests)
        asked.addCallbacks(
            lambda digests: self._tell_all(lambda: _digests_told(digests)), self._not_merged
        )
        asked.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(StoreUnusable):
            self.log.failure("unexpected error in contacts of another server", failure)

    def _count(self, rows: Sequence[Row]) -> None:
        """Each change may leave an entry of nothing."""
        self._written += len(rows)
        if self._written >= PURGED_AFTER:
            self._written = 0
            self._changes.work.run(self._store.purge).addErrback(self._failed)

    # what both have

    def tell(self, peer: Peer) -> None:
        """A server has told all that it has: compare the contacts."""
        asked: Deferred[Any] = self._changes.work.run(self._store.digests)
        asked.addCallback(lambda digests: self._write(peer, digests))
        asked.addErrback(self._failed)

    def _write(self, peer: Peer, digests: dict[str, list[int]]) -> None:
        if not peer.is_over:
            peer.party.write(_digests_told(digests))

    def compare(self, peer: Peer, facts: Facts) -> None:
        """Send a server what it may not have."""
        theirs = facts.mapping("digests")
        asked: Deferred[Any] = self._changes.work.run(self._store.digests)
        asked.addCallback(lambda ours: self._send(peer, ours, theirs))
        asked.addErrback(self._failed)

    def _send(self, peer: Peer, ours: dict[str, list[int]], theirs: dict[str, Any]) -> None:
        differ = [bucket for bucket in ours if ours[bucket] != theirs.get(bucket)]
        sending = self._sending.pop(peer, None)
        if sending is not None:
            sending[1].cancel()
        if differ and not peer.is_over:
            later = self._changes.clock.callLater(0, self._go_on, peer)
            self._sending[peer] = differ, later

    def _go_on(self, peer: Peer) -> None:
        """One bucket in a turn, and no more than the server takes."""
        buckets, _ = self._sending.pop(peer)
        if peer.is_over:
            return
        seconds = 0.0
        if not peer.is_ready:
            seconds = READY_SECONDS
        else:
            try:
                rows = self._store.bucket(buckets.pop())
            except StoreUnusable:
                return  # it is told of where it is read, and compared again when the server joins
            for at in range(0, len(rows), ROWS):
                peer.party.write(told(messages.ROWS, "", rows=rows[at : at + ROWS]))
        if buckets:
            later = self._changes.clock.callLater(seconds, self._go_on, peer)
            self._sending[peer] = buckets, later


def checked(row: Any) -> Row:
    """
    A row that another server has sent.

    @raise ValueError: it is none.
    """
    if not isinstance(row, list) or not row or row[0] not in _KINDS:
        raise ValueError("no row of a table that is known")
    kinds = _KINDS[row[0]]
    if len(row) != len(kinds) + 1 or any(
        type(value) is not kind for value, kind in zip(row[1:], kinds, strict=True)
    ):
        raise ValueError("a row of another form")
    if row[0] == "contacts" and not (row[3] in range(3) and row[4] in range(3)):
        raise ValueError("no state")
    for value in row:
        if isinstance(value, str):
            value.encode()  # what cannot be would be noticed among the rows of others
        elif not 0 <= value < MOST_STAMP:
            raise ValueError("no number of a row")
    return row


def _digests_told(digests: dict[str, list[int]]) -> bytes:
    return told(messages.DIGESTS, "", digests=digests)
