"""
What users do to their contacts: each is one change of the store, and says what follows from it.

Both users of a subscription are in one store, so a change of one and what it makes of the other's
entry are one transaction: the two halves always fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import define, evolve, field, frozen

from cms.signalflow import counted
from cms.xmpp.contacts.settings import ContactSettings
from cms.xmpp.contacts.store import Book, Contact, Refused, without_request
from cms.xmpp.contacts.subscription import ASKED, NO, RECEIVED, SENT, YES, State

MOST_BLOCKED: Final = 200  # addresses of one user
MOST_PENDING: Final = 200  # users who wait for the answer of one


@frozen
class Told:
    """A subscription stanza for a user: from whom, and which; C{raw} if it is that of a request."""

    owner: str
    sender: str
    kind: str
    raw: str = ""


@define
class Outcome:
    """
    What follows from a change.

    @ivar pushes: The items that have changed, by user and address, with the version of the
        roster then; C{None} for one that was removed.
    @ivar told: The stanzas to deliver, in their order.
    @ivar gained: Who may be seen by whom from now on.
    @ivar lost: And not any more.
    @ivar blocked: Of each user whose list of blocked addresses is another: the list, and what
        has changed.
    @ivar forgotten: How many entries a user had who was forgotten.
    """

    pushes: dict[tuple[str, str], tuple[Contact | None, str]] = field(factory=dict)
    told: list[Told] = field(factory=list)
    gained: list[tuple[str, str]] = field(factory=list)
    lost: list[tuple[str, str]] = field(factory=list)
    blocked: dict[str, tuple[list[str], list[str]]] = field(factory=dict)
    forgotten: int = 0


class Act:
    """
    One change, within its transaction.

    @raise Refused: by every method: a limit is reached, or there is no such contact.
    """

    def __init__(self, book: Book, settings: ContactSettings) -> None:
        self._book = book
        self._settings = settings
        self._outcome = Outcome()

    def send(
        self, sender: str, to: str, kind: str, request: str = "", *, reaches: bool = True
    ) -> Outcome:
        """
        A user sends a subscription stanza (RFC 6121 3.1.2, 3.1.5, 3.2.2, 3.3.2).

        @param kind: Its type.
        @param request: What is delivered until it is answered, if it asks for a subscription.
        @param reaches: Whether the other side hears of a request.
        """
        self._send(sender, to, kind, request, reaches=reaches)
        return self._versioned()

    def name(self, owner: str, address: str, name: str, groups: tuple[str, ...]) -> Outcome:
        """A user adds a contact, or names it anew (RFC 6121 2.3, 2.4)."""
        before = self._book.contact(owner, address)
        if not before.listed:
            self._check_room(owner)
        after = evolve(before, listed=True, name=name, groups=groups)
        if after != before:
            self._book.write(owner, after)
        self._outcome.pushes[owner, address] = after, ""  # if nothing is new, too: it was asked for
        return self._versioned()

    def remove(self, owner: str, address: str) -> Outcome:
        """
        A user removes a contact, and with it the subscriptions (RFC 6121 2.5).  Who is in a
        group of a directory with him stays for all that, and the push says so.
        """
        before = self._book.contact(owner, address)
        if not before.listed and not self._book.is_mate(owner, address):
            raise Refused("item-not-found")
        if before.state.mine != NO:
            self._send(owner, address, "unsubscribe")
        if before.state.theirs == YES:
            self._send(owner, address, "unsubscribed")
        left = self._book.contact(owner, address)
        if left.listed:
            self._book.write(owner, evolve(left, listed=False, name="", groups=()))
        self._outcome.pushes[owner, address] = None, ""
        return self._versioned()

    def forget(self, owner: str) -> Outcome:
        """All that there is of a user who is none any more, at himself and at others."""
        known = [each for each in self._book.contacts(owner) if not each.is_nothing]
        self._outcome.forgotten = len(known) + len(self._book.blocked(owner))
        for contact in known:
            for kind in ("unsubscribe", "unsubscribed"):
                self._send(owner, contact.address, kind)
            self._book.write(owner, Contact(contact.address))
            if contact.listed:
                self._outcome.pushes[owner, contact.address] = None, ""
        self.unblock(owner, ())
        return self._versioned()

    def block(self, owner: str, addresses: Iterable[str]) -> Outcome:
        """A user blocks addresses."""
        before = set(self._book.blocked(owner))
        added = [each for each in dict.fromkeys(addresses) if each not in before]
        if len(before) + len(added) > MOST_BLOCKED:
            raise Refused("resource-constraint", f"at most {MOST_BLOCKED} addresses are blocked")
        for address in added:
            self._book.block(owner, address, active=True)
        if added:
            self._outcome.blocked[owner] = [*before, *added], added
        return self._outcome

    def unblock(self, owner: str, addresses: Sequence[str]) -> Outcome:
        """A user blocks addresses no more; all, if none is given."""
        before = self._book.blocked(owner)
        removed = [each for each in before if not addresses or each in addresses]
        for address in removed:
            self._book.block(owner, address, active=False)
        if removed:
            self._outcome.blocked[owner] = [e for e in before if e not in removed], removed
        return self._outcome

    def _send(
        self, sender: str, to: str, kind: str, request: str = "", *, reaches: bool = True
    ) -> None:
        before = self._book.contact(sender, to)
        goes_on, state = SENT[kind][before.state]
        listed = before.listed or state.mine != NO or state.theirs == YES
        if listed and not before.listed:
            self._check_room(sender)
        if state.mine == ASKED != before.state.mine:
            self._check(
                self._book.asked(sender), self._settings.most_asked, "requests of this user"
            )
        self._set(sender, before, state, listed=listed)
        if goes_on and (reaches or kind != "subscribe"):
            self._receive(sender, to, kind, request)

    def _receive(self, sender: str, to: str, kind: str, request: str = "") -> None:
        """The same stanza at its receiver (RFC 6121 3.1.3, 3.1.6, 3.2.3, 3.3.3)."""
        before = self._book.contact(to, sender)
        delivered, state = RECEIVED[kind][before.state]
        if kind == "subscribe" and before.state.theirs == YES:
            self._receive(to, sender, "subscribed")  # for the user, who has granted it
        if not delivered:
            return
        if state.theirs == ASKED:
            self._check(self._book.pending(to), MOST_PENDING, "requests to this user")
            before = evolve(before, request=request)
        self._set(to, before, state, listed=before.listed)
        self._outcome.told.append(Told(to, sender, kind, request))

    def _set(self, owner: str, before: Contact, state: State, *, listed: bool) -> None:
        after = without_request(evolve(before, state=state, listed=listed))
        if after == before:
            return
        self._book.write(owner, after)
        outcome, key = self._outcome, (owner, after.address)
        if listed and after.shown != before.shown:
            outcome.pushes[key] = after, ""
        if state.theirs != before.state.theirs and YES in (state.theirs, before.state.theirs):
            (outcome.gained if state.theirs == YES else outcome.lost).append(key)

    def _check_room(self, owner: str) -> None:
        if self._book.listed(owner) >= self._settings.most:
            raise Refused(
                "resource-constraint", f"no more than {counted(self._settings.most, 'contact')}"
            )

    def _check(self, number: int, most: int, what: str) -> None:
        if number >= most:
            text = f"{most} {what} wait for an answer"
            raise Refused("resource-constraint", text, "wait")

    def _versioned(self) -> Outcome:
        pushes = self._outcome.pushes
        versions = {owner: self._book.version(owner) for owner, _ in pushes}
        for owner, address in pushes:
            pushes[owner, address] = pushes[owner, address][0], versions[owner]
        return self._outcome
