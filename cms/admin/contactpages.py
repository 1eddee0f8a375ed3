"""The pages on the contacts of an XMPP server's users."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from twisted.web.template import Tag, tags

from cms.admin.contactsapi import JID, Contacts
from cms.admin.interfaces import Facts, Page
from cms.admin.listpages import links_to_parts, selected, table
from cms.admin.pages import Pages, SeeOther, Shown, Visit, confirm, input_field
from cms.signalflow import counted

HERE = "/contacts"
LABELS = ("Address", "Name", "Subscription", "Requests", "Blocked")


class ContactPages:
    """The pages, on any implementation."""

    path, title = HERE, "Contacts of a user"

    def __init__(self, contacts: Contacts) -> None:
        self._contacts = contacts

    def add_to(self, pages: Pages) -> None:
        """Add their routes."""
        pages.get(HERE, self.find)
        pages.get(f"{HERE}/<jid>", self.show)
        pages.post(f"{HERE}/<jid>/forget", self.forget)

    async def find(self, visit: Visit) -> Shown:
        """GET /contacts: a form, and what the user has who is named there."""
        return await self._shown(visit, visit.query.get("jid", "").strip())

    async def show(self, visit: Visit) -> Shown:
        """GET /contacts/jid: a part of what he has."""
        return await self._shown(visit, visit.ids["jid"])

    async def _shown(self, visit: Visit, address: str) -> Shown:
        find = tags.form(
            input_field("jid", "User", "alice, or alice@domain.", value=address[: JID.most]),
            tags.button("Show", type="submit"),
            method="get",
            action=HERE,
            role="search",
            class_="narrow",
        )
        content: list[Any] = [*_told(visit.query.get("forgotten", "")), find]
        if address:
            JID.check(address)
            content += await self._of(visit, address)
        content.append(tags.p(tags.a("Back to the overview", href="/")))
        return Shown(self.title, content)

    async def _of(self, visit: Visit, address: str) -> list[Any]:
        part = selected(visit)
        page = await self._contacts.listed(address, part)
        if not page.items:
            return [tags.p("There are none.", class_="quiet")]
        question = (
            f"Forget them? Do it when {address} is nobody any more: who gets the name next then has"
            " no contacts, and sees and is seen by nobody."
        )
        here = f"{HERE}/{quote(address, safe='')}"
        return [
            _table(page, part.offset),
            *links_to_parts(here, page, part),
            *confirm(visit, f"{here}/forget", question, "Forget all contacts"),
        ]

    async def forget(self, visit: Visit) -> SeeOther:
        """POST /contacts/jid/forget."""
        JID.check(visit.ids["jid"])
        _, number = await self._contacts.forget(visit.ids["jid"])
        return SeeOther(f"{HERE}?forgotten={number}")


def _told(forgotten: str) -> list[Tag]:
    if not (forgotten.isascii() and forgotten.isdigit()):
        return []
    told = f"{counted(forgotten[:9], 'entry', 'entries')} forgotten."
    return [tags.p(told, class_="note good", role="status")]


def _table(page: Page, start: int) -> Tag:
    rows = [tags.tr(*_cells(known), role="row") for _, known in page.items]
    return table(LABELS, rows, page, start)


def _cells(known: Facts) -> list[Tag]:
    asked = [text for key, text in (("asked", "sent"), ("asks", "received")) if known[key]]
    shown = (
        *(known["jid"], known["name"], known["subscription"]),
        *(" and ".join(asked), "yes" if known["blocked"] else ""),
    )
    return [
        tags.td(str(value), role="cell", **{"data-label": label})
        for label, value in zip(LABELS, shown, strict=True)
    ]
