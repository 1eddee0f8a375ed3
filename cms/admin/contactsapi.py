"""The operations on the contacts of an XMPP server's users."""

from __future__ import annotations

from typing import Protocol

from cms.admin import schemas
from cms.admin.commonapi import API
from cms.admin.interfaces import Page, Selection
from cms.admin.operations import SELECTION, Call, Operation, selection
from cms.admin.replies import Document, Listing, Reply
from cms.web.forms import Parameter

CONTACTS = f"{API}/contacts"
JID = Parameter("jid", "alice or alice@domain.", required=True, least=1, most=600)
CONTACT = schemas.record(
    {
        "jid": schemas.TEXT,
        "name": schemas.TEXT,
        "groups": {"type": "array", "items": schemas.TEXT},
        "subscription": schemas.TEXT,
        "asked": schemas.TRUTH,
        "asks": schemas.TRUTH,
        "onRoster": schemas.TRUTH,
        "byDirectory": schemas.TRUTH,
        "blocked": schemas.TRUTH,
    },
    *("jid", "subscription", "asked", "asks", "onRoster", "byDirectory", "blocked"),
)
FORGOTTEN = schemas.record({"jid": schemas.TEXT, "forgotten": schemas.WHOLE}, "jid", "forgotten")


class Contacts(Protocol):
    """
    The contacts of users.

    An address is C{alice} or C{alice@domain}.  That nobody has it is not known here.
    """

    async def listed(self, address: str, selection: Selection) -> Page:
        """What a user has of others: contacts, requests in both directions, who is blocked."""
        ...

    async def forget(self, address: str) -> tuple[str, int]:
        """
        Forget all that, and that others may see him or ask to; how they call him stays.

        @return: The whole address, and how many entries there were.
        """
        ...


class ContactOperations:
    """The operations, on any implementation."""

    def __init__(self, contacts: Contacts) -> None:
        self._contacts = contacts

    def operations(self) -> list[Operation]:
        """Both."""
        return [
            Operation(
                "GET",
                CONTACTS,
                "listContacts",
                "The contacts of a user, requests in both directions, and who is blocked.",
                self.list,
                query=(*SELECTION, JID),
                answers=schemas.listing("contacts", "contact", CONTACT),
            ),
            Operation(
                "DELETE",
                CONTACTS,
                "forgetContacts",
                "Forget the contacts of a user who is none any more, and others' subscriptions"
                " to him.",
                self.forget,
                query=(JID,),
                answers=schemas.named("contacts", FORGOTTEN),
            ),
        ]

    async def list(self, call: Call) -> Reply:
        """GET contacts."""
        page = await self._contacts.listed(call.query["jid"], selection(call.query))
        return Listing("contacts", "contact", [(None, each) for _, each in page.items], page.total)

    async def forget(self, call: Call) -> Reply:
        """DELETE contacts."""
        jid, number = await self._contacts.forget(call.query["jid"])
        return Document("contacts", {"jid": jid, "forgotten": number})
