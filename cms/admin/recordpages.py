"""The page of the record on disk, which both daemons have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.template import Tag, tags

from cms.admin.flowview import clock_time, state_mark
from cms.admin.pages import Pages, Shown, Visit, input_field
from cms.admin.recordapi import MOST, PARAMETERS, SINCE, Records, look_up
from cms.record.words import told
from cms.web.refusal import Refused

_LABELS = {"user": "User", "since": "Since", "login": "Log-in ID", "attempt": "Attempt or link ID"}
_GOOD = ("success", "passed", "up", "admitted", "returned")


class RecordPages:
    """
    The page.

    @param now: Seconds since the epoch.
    """

    path, title = "/log", "Log-ins and links"

    def __init__(self, record: Records, now: Callable[[], float]) -> None:
        self._record = record
        self._now = now

    def add_to(self, pages: Pages) -> None:
        """Add its route."""
        pages.get("/log", self.show)

    async def show(self, visit: Visit) -> Shown:
        """GET /log."""
        given = {name: visit.query.get(name, "").strip()[:300] for name in _LABELS}
        hints = {"since": f"30min, 2h or 3d ago, or a time; {SINCE} if it is empty"}
        fields = [
            input_field(name, label, hints.get(name, ""), value=given[name], autocomplete="off")
            for name, label in _LABELS.items()
        ]
        form = tags.form(
            *fields,
            tags.button("Find", type="submit"),
            method="get",
            action="/log",
            role="search",
            class_="narrow",
        )
        status, found = 200, []
        try:
            for parameter in PARAMETERS:
                if given.get(parameter.name):
                    parameter.check(given[parameter.name])
            asked = {**given, "limit": str(MOST)}
            found = [_item(entry) for entry in await look_up(self._record, asked, self._now)]
            content: Any = tags.ul(*found, class_="attempts") if found else _nothing()
        except Refused as refused:
            status = refused.status
            content = tags.p(f"{refused.cause}. {refused.cure}", class_="note failed", role="alert")
        back = tags.p(tags.a("Back to the overview", href="/"))
        return Shown(self.title, [form, content, back], status)


def _nothing() -> Tag:
    return tags.p("Nothing is recorded of that.", class_="quiet")


def _item(entry: dict[str, Any]) -> Tag:
    result = str(entry.get("result", ""))
    failed = result == "failed" or entry.get("kind") == "login"
    state = "passed" if result in _GOOD else "failed" if failed else "waiting"
    ids = [f"{key} {entry[key]}" for key in ("attempt", "link", "login") if entry.get(key)]
    return tags.li(
        tags.p(clock_time(entry["at"]), " ", state_mark(state), " ", told(entry)),
        tags.p(", ".join(ids), class_="quiet"),
        class_=f"attempt {state}",
    )
