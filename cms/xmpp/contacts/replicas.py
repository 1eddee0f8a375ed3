"""
Contacts in a cluster: every server has all of them, and tells the others of each change.

A server that has been told all by another sends it what tells its own entries from others, for
each bucket of users.  The other answers with all that it has in those buckets that differ.
So both have the same in the end, whatever one of them has missed, and why.
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
from cms.xmpp.contacts.store import Merged, Row, checked
from cms.xmpp.nodemessages import Facts, told

ROWS: Final = 50  # in one message
PURGED_AFTER: Final = 10_000  # rows, after which old ones of nothing are let go
READY_SECONDS = 0.2  # after which is looked whether a server takes more


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
        self._changes.on_rows.append(lambda rows: tell(lambda: told(messages.ROWS, "", rows=rows)))
        self._changes.on_rows.append(self._count)

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
        asked = bool(self._waiting)
        self._waiting += taken
        if taken and not asked:
            self._changes.merge(self._take).addCallbacks(self._follow, self._failed)

    def _take(self) -> Callable[[], Merged]:
        """What has come until now, as it is merged in a thread."""
        rows, self._waiting = self._waiting, []
        return partial(self._store.merge, rows, self._contacts.interested)

    def _follow(self, merged: Merged) -> None:
        for owner, contact, version in merged.contacts:
            shown = contact if contact.listed else None
            self._contacts.push(owner, contact.address, shown, version)
        for owner, changed in merged.blocked.items():
            self._blocking.listed(owner, merged.lists[owner], changed)

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
            peer.party.write(told(messages.DIGESTS, "", digests=digests))

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
