"""The pages on the clients of an XMPP server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from twisted.web.template import Tag, tags

from cms.admin.clientsapi import TEXT
from cms.admin.flowview import clock_text, facts
from cms.admin.interfaces import Clients, Facts, Page
from cms.admin.listpages import links_to_parts, search_form, selected, table
from cms.admin.pages import Pages, SeeOther, Shown, Visit, confirm, input_field
from cms.signalflow import counted

MOMENTS = ("since",)


class ClientPages:
    """The pages, on any implementation."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def add_to(self, pages: Pages) -> None:
        """Add their routes."""
        pages.get("/clients", self.list)
        pages.post("/clients/message", self.tell)
        pages.get("/clients/<id>", self.show)
        pages.post("/clients/<id>/end", self.end)

    async def list(self, visit: Visit) -> Shown:
        """GET /clients: those that hold a text, from an offset on."""
        part = selected(visit)
        page = await self._clients.listed(part)
        search = search_form("/clients", part, "Address", "A part of it will do.")
        links = links_to_parts("/clients", page, part)
        told = visit.query.get("told", "")
        note = []
        if told.isascii() and told.isdigit():
            words = f"{counted(told[:9], 'client')} got it."
            note = [tags.p(words, class_="note good", role="status")]
        back = tags.p(tags.a("Back to the overview", href="/"))
        shown = client_table(page, part.offset)
        content = [*note, search, *shown, *links, _message(visit, "all"), back]
        return Shown("Clients", content)

    def show(self, visit: Visit) -> Shown:
        """GET /clients/id: it asks whether the session is to be ended."""
        id_, known = self._clients.show(visit.ids["id"])
        question = "End this session? The client may log in again."
        action = f"/clients/{quote(id_)}/end"
        labels = {**COLUMNS, "available": "Available", "guest": "Guest", "server": "Server"}
        shown = facts(
            {
                label: moment_text(known[key]) if key in MOMENTS else plain(known[key])
                for key, label in labels.items()
                if known.get(key) is not None
            }
            | ({CONNECTION: tags.span(*_connection(known))} if "connected" in known else {})
        )
        end = confirm(visit, action, question, "End the session")
        content = [shown, *end, _message(visit, str(known["jid"]))]
        return Shown(f"Client {known['jid']}", content)

    def end(self, visit: Visit) -> SeeOther:
        """POST /clients/id/end."""
        self._clients.end(visit.ids["id"])
        return SeeOther("/")

    async def tell(self, visit: Visit) -> SeeOther:
        """POST /clients/message."""
        text = visit.form.get("text", "").strip()
        TEXT.check(text)
        told = await self._clients.tell(visit.form.get("jid", ""), text)
        return SeeOther(f"/clients?told={told}")


def _message(visit: Visit, to: str) -> Tag:
    """A form to send a message."""
    whom = "everybody who is logged in" if to == "all" else "this client"
    return tags.section(
        tags.h2("Message", id="message-title"),
        tags.form(
            visit.field(),
            tags.input(type="hidden", name="jid", value=to),
            input_field(
                "text",
                f"To {whom}",
                "It comes from the server; nobody can answer it.",
                autocomplete="off",
                maxlength=str(TEXT.most),
                required="required",
            ),
            tags.button("Send", type="submit"),
            method="post",
            action="/clients/message",
            class_="narrow",
        ),
        **{"aria-labelledby": "message-title"},
    )


def moment_text(value: Any) -> str | Tag:
    """A time of the API's, for people."""
    try:
        return clock_text(str(value))
    except ValueError:
        return str(value)


def plain(value: Any) -> str:
    """A value of the API, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if key != "valid")
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


COLUMNS = {"jid": "Address", "address": "From", "since": "Since", "callBridge": "Callbridge"}
CONNECTION = "Connection"


def client_table(page: Page, start: int) -> Sequence[Tag]:
    if not page.items:
        return [tags.p("Nobody.", class_="quiet")]
    rows = [_client_row(id_, known) for id_, known in page.items]
    return [table((*COLUMNS.values(), CONNECTION, "Session"), rows, page, start)]


def _connection(known: Facts) -> list[str | Tag]:
    """Whether it is there; if not, since when, and how much is kept for it."""
    if "awaySince" not in known:
        return ["there"]
    kept = f", {known['keptBytes']:,} bytes are kept for it"
    return ["gone since ", moment_text(known["awaySince"]), kept]


def _client_row(id_: str, known: Facts) -> Tag:
    cells = [
        tags.td(
            moment_text(known[key])
            if key in MOMENTS and known.get(key)
            else str(known.get(key) or ""),
            role="cell",
            **{"data-label": label},
        )
        for key, label in COLUMNS.items()
    ]
    cells.append(tags.td(*_connection(known), role="cell", **{"data-label": CONNECTION}))
    end = tags.a(
        "End",
        tags.span(f" the session of {known['jid']}", class_="away"),
        href=f"/clients/{quote(id_)}",
    )
    cells.append(tags.td(end, role="cell", **{"data-label": "Session"}))
    return tags.tr(*cells, role="row", id=f"client-{id_}")
