"""The pages of user directories: how they are, what their syncs found, and a sync now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from twisted.web.template import Tag, tags

from cms import faults
from cms.admin.clientpages import moment_text
from cms.admin.directoriesapi import COUNTS, DirectoriesRole
from cms.admin.flowview import duration, facts, state_mark
from cms.admin.interfaces import Facts
from cms.admin.listpages import links_to_parts, search_form, selected, table
from cms.admin.pages import Pages, SeeOther, Shown, Visit, confirm
from cms.signalflow import counted

_KINDS: Final = {"local": "stored here", "ldap": "LDAP"}
_TITLES: Final = dict(
    zip(
        COUNTS,
        (
            "Users",
            "Added",
            "Changed",
            "Removed",
            "Disabled",
            "Left out",
            "Sessions ended",
            "Groups",
        ),
        strict=True,
    )
)
_REMOVALS: Final = (
    faults.SYNC_EMPTY.name,
    faults.SYNC_REMOVES.name,
)  # what an administrator may allow


class DirectoryPages:
    """The pages, on any implementation of the role."""

    path, title = "/directories", "Directories"

    def __init__(self, role: DirectoriesRole) -> None:
        self._role = role

    def add_to(self, pages: Pages) -> None:
        """Add their routes."""
        pages.get("/directories", self.list)
        pages.get("/directories/<name>", self.show)
        pages.post("/directories/<name>/sync", self.sync)

    async def list(self, visit: Visit) -> Shown:
        """GET /directories."""
        content: list[Any] = [
            tags.p("A user is looked up in the first directory that has the name."),
            tags.ul(*(_item(visit, each) for each in await self._role.all()), class_="attempts"),
            tags.p(tags.a("Back to the overview", href="/")),
        ]
        return Shown(self.title, content)

    async def show(self, visit: Visit) -> Shown:
        """GET /directories/name: with who was left out, those that hold a text."""
        known = await self._role.one(visit.ids["name"])
        here = _at(known)
        content: list[Any] = [tags.p(_state(known)[1]), *_told(known), *_sync(visit, known)]
        problem = known.get("problem")
        if isinstance(problem, Mapping) and problem.get("fault") in _REMOVALS:
            question = "Are these users really gone or disabled? Their sessions end then."
            content += confirm(visit, f"{here}/sync?removal=1", question, "Sync all the same")
        if known["kind"] == "ldap":
            content += _left_out(visit, here, known)
        content.append(tags.p(tags.a("Back to the directories", href="/directories")))
        return Shown(f"Directory {known['name']}", content)

    def sync(self, visit: Visit) -> SeeOther:
        """POST /directories/name/sync."""
        name = visit.ids["name"]
        self._role.sync(name, allow_removal=visit.query.get("removal") == "1")
        return SeeOther(_at({"name": name}))


def _at(known: Facts) -> str:
    return f"/directories/{quote(str(known['name']), safe='')}"


def _item(visit: Visit, known: Facts) -> Tag:
    state, mark = _state(known)
    head = tags.h2(tags.a(str(known["name"]), href=_at(known)), " ", mark)
    return tags.li(head, *_told(known), *_sync(visit, known), class_=f"attempt {state}")


def _state(known: Facts) -> tuple[str, Tag]:
    """In a word: its servers, and its last sync."""
    servers: Any = known.get("servers") or ()
    failing = [each for each in servers if each.get("problem")]
    if known["kind"] == "local":
        state, word = "passed", "is here"
    elif failing and len(failing) == len(servers):
        state, word = "failed", "no server works"
    elif failing:
        state, word = "running", f"{len(failing)} of {len(servers)} servers fail"
    elif known.get("problem"):
        state, word = "failed", "the last sync failed"
    elif any(each["connections"] for each in servers):
        state, word = "passed", "connected"
    else:
        state, word = "waiting", "no connection is needed now"
    return state, state_mark(state, word)


def _told(known: Facts) -> list[Tag]:
    """All of it but who was left out."""
    rows: dict[str, Any] = {"Kind": _KINDS[str(known["kind"])]}
    parts: list[Tag] = []
    servers: Any = known.get("servers") or ()
    for number, each in enumerate(servers, 1):
        state = "failed" if each.get("problem") else "passed" if each["connections"] else "waiting"
        word = {"failed": "fails", "waiting": "no connection"}.get(state, "connected")
        title = f"Server {number}" if len(servers) > 1 else "Server"
        rows[title] = tags.span(each["address"], " ", state_mark(state, word))
        parts += _fault(each.get("problem"))
    if known["kind"] == "ldap":
        rows["Last sync"] = moment_text(known["ended"]) if known.get("ended") else "none yet"
        if known.get("succeeded") not in (None, known.get("ended")):
            rows["Last that succeeded"] = moment_text(known["succeeded"])
        if known.get("seconds") is not None:
            rows["It took"] = duration(float(str(known["seconds"])))
        if known.get("nextSeconds") is not None:
            rows["Next sync"] = f"in {known['nextSeconds']} s"
    rows |= {title: known[key] for key, title in _TITLES.items() if key in known}
    return [facts(rows), *parts, *_fault(known.get("problem"))]


def _fault(problem: Any) -> list[Tag]:
    if not problem:
        return []
    return [
        tags.p(tags.strong("Cause: "), str(problem["cause"]), class_="cause"),
        tags.p(tags.strong("Cure: "), str(problem["cure"]), class_="cure"),
    ]


def _sync(visit: Visit, known: Facts) -> list[Tag]:
    if known["kind"] == "local":
        return [tags.p(tags.a("Its users", href="/users"))]
    if known["running"]:
        read = counted(known.get("entriesRead") or 0, "entry", "entries")
        told = f"A sync is under way ({read} read). Reload to see."
        return [tags.p(told, class_="quiet", role="status")]
    button = tags.button("Sync now", tags.span(f" {known['name']}", class_="away"), type="submit")
    return [tags.form(visit.field(), button, method="post", action=f"{_at(known)}/sync")]


def _left_out(visit: Visit, here: str, known: Facts) -> list[Tag]:
    """The entries that the last sync left out."""
    entries: Any = known.get("leftOutEntries") or ()
    part = selected(visit)
    page = part.of(((each["entry"], each) for each in entries), "entry", "name", "reason")
    content = [tags.h2("Left out by the last sync")]
    if not entries:
        return [*content, tags.p("Nobody.", class_="quiet")]
    rows = [
        tags.tr(
            tags.td(str(each["entry"]), role="cell", **{"data-label": "Entry"}),
            tags.td(str(each["reason"]), role="cell", **{"data-label": "Reason"}),
            role="row",
        )
        for _, each in page.items
    ]
    content.append(search_form(here, part, "Entry or reason", "A part of it will do."))
    if rows:
        content.append(table(("Entry", "Reason"), rows, page, part.offset))
    return [*content, *links_to_parts(here, page, part)]
