"""The contacts of a user as an administrator sees and forgets them, with the server up or down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cms.admin.busy import answered
from cms.admin.interfaces import Facts, Page, Selection
from cms.process.threads import SlowWork
from cms.web.refusal import Refused, wrong
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmpp.contacts import tables
from cms.xmpp.contacts.acts import Act
from cms.xmpp.contacts.forgetting import Forgetting
from cms.xmpp.contacts.items import Keys
from cms.xmpp.contacts.settings import ContactSettings
from cms.xmpp.contacts.store import Book, Contact, ContactStore, roster
from cms.xmpp.contacts.store import Refused as NotMade
from cms.xmpp.contacts.subscription import ASKED


def user_of(text: str, domain: str) -> str:
    """
    The prepared local part of C{alice} or C{alice@domain}.

    @raise ValueError: it is no user's address.
    """
    try:
        jid = parse_jid(text if "@" in text else f"{text}@{domain}")
    except MalformedJID:
        jid = None
    if jid is None or jid.user is None or jid.resource is not None or jid.host != domain:
        raise ValueError(f"it is no address of a user of {domain}")
    return str(jid.user)


class StoredContacts:
    """
    What is in the file; its functions block.

    @param domain: Of the users.
    """

    def __init__(self, store: ContactStore, domain: str) -> None:
        self._store = store
        self._keys = Keys(domain)

    def listed(self, name: str) -> list[dict[str, Any]]:
        """All that a user has of others, by address: contacts, requests, blocked addresses."""
        with self._store.database.open() as connection:
            book = Book(connection, 0, "", keep=False)  # for what it reads
            known = {each.address: each for each in book.contacts(name) if not each.is_nothing}
            known |= {each.address: each for each in roster(connection, name)}
            mates = {address for address, _ in connection.execute(tables.MATES, (name,))}
            return [*self._facts(known, mates, book.blocked(name))]

    def _facts(
        self, known: dict[str, Contact], mates: set[str], blocked: list[str]
    ) -> Iterator[dict[str, Any]]:
        for address in sorted({*known, *blocked}):
            contact = known.get(address, Contact(address))
            yield {
                "jid": self._keys.address(address),
                "name": contact.name,
                "groups": list(contact.groups),
                "subscription": contact.state.subscription,
                "asked": contact.state.mine == ASKED,
                "asks": contact.state.theirs == ASKED,
                "onRoster": contact.listed,
                "byDirectory": address in mates,
                "blocked": address in blocked,
            }

    def forget(self, name: str, settings: ContactSettings) -> int:
        """Forget them, while no server runs; how many entries there were."""
        (outcome,), _ = self._store.apply([lambda book: Act(book, settings).forget(name)])
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome.forgotten)


class ContactAdministration:
    """
    Implements L{cms.admin.contactsapi.Contacts}, while a server runs.

    @param forgetting: C{None}: users have no contacts here.
    """

    def __init__(
        self, store: ContactStore | None, forgetting: Forgetting | None, domain: str, reactor: Any
    ) -> None:
        self._stored = None if store is None else StoredContacts(store, domain)
        self._forgetting = forgetting
        self._domain = domain
        self._work = SlowWork(reactor, at_once=1, most_waiting=50)

    def _name(self, address: str) -> str:
        try:
            return user_of(address, self._domain)
        except ValueError as problem:
            cure = f"Give alice, or alice@{self._domain}."
            raise wrong("jid", str(problem), cure) from None

    async def listed(self, address: str, selection: Selection) -> Page:
        """See L{cms.admin.contactsapi.Contacts.listed}."""
        name, stored = self._name(address), self._stored
        if stored is None:
            return Page([], 0)
        found = await answered(self._work.run(lambda: stored.listed(name)))
        items: list[tuple[str, Facts]] = [("", facts) for facts in found]
        return selection.of(items, "jid", "name")

    async def forget(self, address: str) -> tuple[str, int]:
        """See L{cms.admin.contactsapi.Contacts.forget}."""
        name = self._name(address)
        jid = f"{name}@{self._domain}"
        if self._forgetting is None:
            return jid, 0
        try:
            return jid, await self._forgetting.forget(name, "an administrator says")
        except NotMade:
            raise Refused("busy", "too much is asked at once", "Try again.", status=503) from None
