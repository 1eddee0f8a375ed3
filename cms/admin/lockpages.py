"""The page of who is locked out, which both daemons have."""

from __future__ import annotations

from typing import Any

from twisted.web.template import Tag, tags

from cms.admin.flowview import duration
from cms.admin.interfaces import Facts
from cms.admin.locksapi import LockTable
from cms.admin.pages import Pages, SeeOther, Shown, Visit
from cms.web.refusal import Refused

MOST = 200


class LockPages:
    """The page."""

    path, title = "/locks", "Lock-outs"

    def __init__(self, table: LockTable) -> None:
        self._table = table

    def add_to(self, pages: Pages) -> None:
        """Add its routes."""
        pages.get("/locks", self.show)
        pages.post("/locks/release", self.release)

    def show(self, visit: Visit) -> Shown:
        """GET /locks."""
        found = list(self._table.locks())
        items = [_item(visit, facts) for facts in found[:MOST]]
        content: list[Any] = [
            tags.p("Whoever has shown too many wrong passwords, secrets or passcodes, is refused."),
            tags.ul(*items, class_="attempts") if items else tags.p("Nobody.", class_="quiet"),
        ]
        if len(found) > MOST:
            content.append(tags.p(f"{len(found) - MOST} more.", class_="quiet"))
        content.append(tags.p(tags.a("Back to the overview", href="/")))
        return Shown(self.title, content)

    def release(self, visit: Visit) -> SeeOther:
        """POST /locks/release."""
        kind, account, address = (
            visit.form.get(name, "").strip() for name in ("kind", "account", "address")
        )
        if kind not in self._table.kinds or not (account or address):
            cause = "it does not say whom to release"
            raise Refused("nothingToRelease", cause, "Go back, and reload.")
        self._table.release(kind, account, address)
        return SeeOther("/locks")


def _item(visit: Visit, facts: Facts) -> Tag:
    account, address = str(facts["account"] or ""), str(facts["address"] or "")
    who = f"{account or 'everybody who is not known there'} from {address or 'new addresses'}"
    hidden = [
        tags.input(type="hidden", name=name, value=value)
        for name, value in (("kind", facts["kind"]), ("account", account), ("address", address))
    ]
    form = tags.form(
        visit.field(),
        *hidden,
        tags.button("Release", tags.span(f" {who}", class_="away"), type="submit"),
        method="post",
        action="/locks/release",
    )
    told = f"{facts['kind']}: {who}, for {duration(float(facts['seconds']))} more"
    return tags.li(tags.p(told), form if account or address else "", class_="attempt failed")
