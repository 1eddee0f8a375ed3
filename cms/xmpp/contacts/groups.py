"""
Groups of a directory: who is in one together is a contact of the others, without asking.

A Callbridge says who is in which (docs/login-protocol.md 9).  That is stored beside the contacts,
as a row for each user and group, so it is replicated, compared and read as they are.  What
follows for those who are here is told them a piece at a time, however large the group is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError

from cms.linkprotocol import groups
from cms.linkprotocol.join import is_visitor
from cms.linkprotocol.login import MalformedLogin
from cms.process.logs import Logger
from cms.state.database import StoreUnusable
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import written_result
from cms.xmpp.contacts import tables
from cms.xmpp.contacts.service import Contacts
from cms.xmpp.contacts.store import Book, ContactStore, Refused, Row, between
from cms.xmpp.router import Router

PIECE: Final = 25  # pairs of users who are told of each other in one turn
PAUSE: Final = 0.02  # seconds between two pieces
DROPPED: Final = 500  # rows that are taken out in one transaction


def put(book: Book, component: str, group: groups.Group, most: int) -> None:
    """
    Who is in a group, within a transaction.

    @param most: Groups of one component.
    @raise Refused: there are too many groups, or a member is in too many.
    """
    address = f"{component}/{group.id}"
    before = book.members(address)
    if group.members and not before and book.groups(component) >= most:
        raise Refused("resource-constraint", f"at most {most} of one Callbridge")
    for user in group.members:
        known = before.pop(user, None)
        if known is None and book.in_groups(user, component) >= groups.MOST_OF_USER:
            text = f"a member is in {groups.MOST_OF_USER} groups already"
            raise Refused("resource-constraint", text)
        name = tables.named(group.name, group.shown.get(user, ""))
        if known != name:
            book.share(user, address, name, active=True)
    for user in before:
        book.share(user, address, "", active=False)


def page_of(
    store: ContactStore, component: str, after: str
) -> tuple[list[tuple[str, str, dict[str, str]]], bool]:
    """
    Groups of a component: id, name, and who is in it, with what he is called; and whether there
    are more.  In a thread.

    @param after: The id before the first.
    """
    found: list[tuple[str, str, dict[str, str]]] = []
    start, end = between(component)
    with store.database.open() as connection:
        for address, name, owner in connection.execute(tables.GROUPS, (start + after, end)):
            id_ = address[len(start) :]
            group, shown = tables.names(name)
            if not found or found[-1][0] != id_:
                if len(found) == groups.PAGE:
                    return found, True
                found.append((id_, group, {}))
            found[-1][2][owner] = shown
    return found, False


class SharedGroups:
    """Takes what Callbridges say of groups, and tells those who are here what follows."""

    log = Logger()

    def __init__(self, contacts: Contacts, router: Router) -> None:
        self._contacts = contacts
        self._changes = contacts.changes
        self._store = contacts.changes.store
        self._router = router
        self._most = contacts.settings.most_groups
        self._changed: dict[str, set[str]] = {}
        self._pairs: Iterator[tuple[str, str]] = iter(())
        self._timer: IDelayedCall | None = None
        self._known: set[str] | None = None
        self._changes.on_rows.append(self.changed)
        contacts.on_shared.append(self.changed)

    def stop(self) -> None:
        """Nobody is told any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # from a Callbridge

    def request(self, stanza: Stanza) -> None:
        """Answer a request of L{groups.NS}."""
        try:
            asked = self._asked(stanza)
        except StanzaError as error:
            self._router.bounce(stanza, error.condition, text=error.text)
            return
        asked.addCallback(lambda payload: self._router.route(written_result(stanza, payload)))
        asked.addErrback(self._not_done, stanza)

    def _asked(self, stanza: Stanza) -> Deferred[str]:
        component = stanza.sender or ""
        if not self._most:
            raise StanzaError("not-allowed", text="this server takes no groups of directories")
        try:
            message = groups.parse(stanza.child)
        except MalformedLogin as problem:
            raise StanzaError("bad-request", text=str(problem)) from None
        if stanza.type == "get" and isinstance(message, groups.Ask):
            after = message.after
            return self._changes.work.run(lambda: self._page(component, after).to_xml())
        if stanza.type != "set" or not isinstance(message, groups.Group):
            raise StanzaError("bad-request")
        group, most = message, self._most
        if not all(map(self._is_user, group.members)):
            raise StanzaError("bad-request", text="a member is no user")
        done: Deferred[Any] = self._changes.ask(
            component, lambda book: put(book, component, group, most)
        )
        return done.addCallback(lambda _: "")

    def _is_user(self, name: str) -> bool:
        try:
            jid = parse_jid(f"{name}@{self._router.domain}")
        except MalformedJID:
            return False
        return jid.user == name and jid.resource is None and not is_visitor(name)

    def _page(self, component: str, after: str) -> groups.Known:
        found, more = page_of(self._store, component, after)
        known = [(id_, groups.digest(name, users, users)) for id_, name, users in found]
        return groups.Known(tuple(known), more)

    def _not_done(self, failure: Failure, stanza: Stanza) -> None:
        problem = failure.value
        if isinstance(problem, Refused):
            self._router.bounce(stanza, problem.condition, problem.kind, problem.text)
            return
        if not failure.check(StoreUnusable):  # of that is told where it was noticed
            self.log.failure("unexpected error in groups", failure)
        self._router.bounce(stanza, "internal-server-error", "wait")

    def known(self, components: Iterable[str], *, only: bool = False) -> None:
        """
        These Callbridges may register: the groups of one that is gone are nobody's.

        @param only: Those of all others are, too.
        """
        now = set(components) if self._most else set()
        before, self._known = self._known, now
        gone = (before or set()) - now
        if only or (before is None and not self._most):
            try:
                gone = set(self._store.components()) - now
            except StoreUnusable as problem:
                self._contacts.unreadable(problem)
        for component in sorted(gone):
            self._drop(component)

    def _drop(self, component: str) -> None:
        asked = self._changes.ask(component, lambda book: book.unshare(component, DROPPED))
        asked.addCallback(lambda number: self._drop(component) if number == DROPPED else None)
        asked.addErrback(self._dropped, component)

    def _dropped(self, failure: Failure, component: str) -> None:
        if not failure.check(StoreUnusable, Refused):
            self.log.failure("unexpected error in groups", failure)
            return
        self.log.warn(
            "groups that {component} has named are not taken out now, but when the server starts",
            component=component,
        )

    # what follows

    def changed(self, rows: Iterable[Row]) -> None:
        """Users have come to groups, or left them, here or at another server."""
        for row in rows:
            if row[0] == "shared":
                self._changed.setdefault(row[2], set()).add(row[1])
        if self._changed and self._timer is None:
            self._contacts.unsettled = True
            self._timer = self._changes.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        try:
            told = list(islice(self._pairs, PIECE))
            for owner, other in told:
                self._contacts.tell_of(owner, other)
            if len(told) < PIECE and not self._changed:
                self._contacts.unsettled = False
                return
            if len(told) < PIECE:
                group = next(iter(self._changed))
                users = self._changed.pop(group)
                self._pairs = self._pairs_of(users, self._store.members(group))
        except StoreUnusable as problem:
            self._contacts.unreadable(problem)
            self._pairs = iter(())
        self._timer = self._changes.clock.callLater(PAUSE, self._go_on)

    def _pairs_of(self, changed: set[str], members: list[str]) -> Iterator[tuple[str, str]]:
        """Who is here, with each of whom he is to be told."""
        everybody = changed.union(members)
        here = self._contacts.interested
        for owner in [user for user in everybody if user in here]:
            others = everybody if owner in changed else changed
            for other in others:
                if other != owner:
                    yield owner, other
