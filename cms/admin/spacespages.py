"""The pages of a Callbridge's spaces: the list, and each with its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from twisted.web.template import Tag, tags

from cms.admin.flowview import facts
from cms.admin.interfaces import Facts, Page, Selection
from cms.admin.listpages import (
    SHOWN,
    links_to_parts,
    offset_of,
    search_form,
    selected,
    table,
)
from cms.admin.pages import Pages, SeeOther, Shown, Visit, alert, confirm, input_field
from cms.admin.spacesapi import SpacesRole
from cms.web.refusal import Refused

# Under the names that operators know: label, hint.
FIELDS = {
    "name": ("Name", "What people call it."),
    "uri": ("URI", "The part in front of the @ of its address. Empty: the call ID."),
    "callId": ("Call ID", "4 to 32 digits. Empty: nine random ones."),
    "passcode": ("Passcode", "4 to 32 digits that others than members must know. Empty: none."),
}
OPEN = "nonMemberAccess"
MODERATES = "canAddRemoveMember"
_FACTS = {
    "address": "Address of the room",
    "numOccupants": "In it now",
    "secret": "Secret of its link",
    "numAccessMethods": "Further ways in",
    "created": "Since",
}


class SpacePages:
    """The pages, on any implementation of the role."""

    def __init__(self, role: SpacesRole) -> None:
        self._role = role

    def add_to(self, pages: Pages) -> None:
        """Add their routes."""
        one = "/spaces/<id>"
        pages.get("/spaces", self.list_)
        pages.post("/spaces", self.add)
        pages.get(one, self.show)
        pages.post(one, self.change)
        pages.post(f"{one}/secret", self.renew)
        pages.get(f"{one}/delete", self.ask_delete)
        pages.post(f"{one}/delete", self.delete)
        pages.post(f"{one}/members", self.add_member)
        pages.get(f"{one}/members/<user>/delete", self.ask_delete_member)
        pages.post(f"{one}/members/<user>/delete", self.delete_member)

    # the list

    async def list_(self, visit: Visit) -> Shown:
        """GET /spaces: those that hold a text, from an offset on."""
        return await self._list(visit, {})

    async def _list(
        self, visit: Visit, typed: Mapping[str, str], error: Refused | None = None
    ) -> Shown:
        part = selected(visit)
        page = await self._role.spaces(part)
        search = search_form("/spaces", part, "Find", "A part of name, URI or call ID.")
        add = tags.section(
            tags.h2("Add a space", id="add-title"),
            tags.form(
                visit.field(),
                *_fields(typed, error),
                tags.button("Add", type="submit"),
                method="post",
                action="/spaces",
                class_="narrow",
            ),
            **{"aria-labelledby": "add-title"},
        )
        told = [alert(error)] if error is not None else []
        shown = _space_table(page, part.offset)
        content = [*told, search, *shown, *links_to_parts("/spaces", page, part), add]
        back = tags.p(tags.a("Back to the overview", href="/"))
        return Shown("Spaces", [*content, back], 200 if error is None else error.status)

    async def add(self, visit: Visit) -> Shown | SeeOther:
        """POST /spaces."""
        typed = {name: visit.form.get(name, "").strip() for name in FIELDS}
        try:
            return SeeOther(_at(await self._role.add_space(_given(typed))))
        except Refused as refused:
            return await self._list(visit, typed, refused)

    # one space

    async def show(self, visit: Visit) -> Shown:
        """GET /spaces/id."""
        return await self._space(visit)

    async def _space(
        self,
        visit: Visit,
        typed: Mapping[str, str] | None = None,
        error: Refused | None = None,
    ) -> Shown:
        id_, known = await self._role.space(visit.ids["id"])
        here, part = _at(id_), Selection(offset_of(visit), SHOWN)
        members = await self._role.members(id_, part)
        values = {name: str(known.get(name) or "") for name in FIELDS} if typed is None else typed
        shown = {label: known[key] for key, label in _FACTS.items() if known.get(key) is not None}
        mark = {"checked": "checked"} if known[OPEN] else {}
        settings = tags.form(
            visit.field(),
            *_fields(values, error),
            _tick(OPEN, "Others than members may enter", mark),
            tags.button("Save", type="submit"),
            method="post",
            action=here,
            class_="narrow",
        )
        renew = tags.form(
            visit.field(),
            tags.button("Make another secret of the link", type="submit"),
            method="post",
            action=f"{here}/secret",
        )
        add = tags.form(
            visit.field(),
            input_field("userJid", "Address", "alice, or alice@domain.", autocomplete="off"),
            _tick(MODERATES, "Moderates", {}),
            tags.button("Add", type="submit"),
            method="post",
            action=f"{here}/members",
            class_="narrow",
        )
        content = [
            *([alert(error)] if error is not None else []),
            facts(shown),
            tags.h2("Settings"),
            settings,
            tags.p("Old links lead nowhere once there is another secret.", class_="quiet"),
            renew,
            tags.h2("Members"),
            *_member_table(members, part.offset, here),
            *links_to_parts(here, members, part),
            tags.h2("Add a member"),
            add,
            tags.h2("End"),
            tags.p(tags.a("Delete this space", href=f"{here}/delete")),
            tags.p(tags.a("Back to the spaces", href="/spaces")),
        ]
        status = 200 if error is None else error.status
        return Shown(f"Space {known['name']}", content, status)

    async def change(self, visit: Visit) -> Shown | SeeOther:
        """POST /spaces/id: what differs from what is set."""
        id_, known = await self._role.space(visit.ids["id"])
        typed = {name: visit.form.get(name, "").strip() for name in FIELDS}
        changes = {n: v for n, v in typed.items() if v != str(known.get(n) or "")}
        is_open = OPEN in visit.form
        if is_open != known[OPEN]:
            changes[OPEN] = str(is_open).lower()
        try:
            if changes:
                await self._role.change_space(id_, changes)
        except Refused as refused:
            return await self._space(visit, typed, refused)
        return SeeOther(_at(id_))

    async def renew(self, visit: Visit) -> SeeOther:
        """POST /spaces/id/secret."""
        await self._role.change_space(visit.ids["id"], {"regenerateSecret": "true"})
        return SeeOther(_at(visit.ids["id"]))

    async def ask_delete(self, visit: Visit) -> Shown:
        """GET /spaces/id/delete."""
        id_, known = await self._role.space(visit.ids["id"])
        name = known["name"]
        question = f"Delete the space {name}? Its members are forgotten; who is in it must leave."
        content = confirm(visit, f"{_at(id_)}/delete", question, f"Delete {name}")
        return Shown(f"Delete space {name}", content)

    async def delete(self, visit: Visit) -> SeeOther:
        """POST /spaces/id/delete."""
        await self._role.delete_space(visit.ids["id"])
        return SeeOther("/spaces")

    # members

    async def add_member(self, visit: Visit) -> Shown | SeeOther:
        """POST /spaces/id/members."""
        form = {"userJid": visit.form.get("userJid", "").strip()}
        if MODERATES in visit.form:
            form[MODERATES] = "true"
        try:
            id_, _ = await self._role.add_member(visit.ids["id"], form)
        except Refused as refused:
            return await self._space(visit, error=refused)
        return SeeOther(_at(id_))

    async def ask_delete_member(self, visit: Visit) -> Shown:
        """GET /spaces/id/members/user/delete."""
        id_, known = await self._role.space(visit.ids["id"])
        user, member = await self._role.member(id_, visit.ids["user"])
        question = f"Let {member['userJid']} be a member of {known['name']} no more?"
        action = f"{_at(id_)}/members/{quote(user)}/delete"
        content = confirm(visit, action, question, "Remove the member")
        return Shown(f"Member {member['userJid']}", content)

    async def delete_member(self, visit: Visit) -> SeeOther:
        """POST /spaces/id/members/user/delete."""
        await self._role.delete_member(visit.ids["id"], visit.ids["user"])
        return SeeOther(_at(visit.ids["id"]))


def _at(id_: str) -> str:
    return f"/spaces/{quote(id_, safe='')}"


def _given(typed: Mapping[str, str]) -> dict[str, str]:
    """Without what is empty, which is not the same as an empty value for a new space."""
    return {name: value for name, value in typed.items() if value or name == "name"}


def _fields(values: Mapping[str, str], error: Refused | None) -> list[Tag]:
    return [
        input_field(
            name,
            label,
            hint,
            value=values.get(name, ""),
            error=error if error is not None and error.parameter == name else None,
            autocomplete="off",
            **({"inputmode": "numeric"} if name in ("callId", "passcode") else {}),
        )
        for name, (label, hint) in FIELDS.items()
    ]


def _tick(name: str, label: str, attributes: Mapping[str, str]) -> Tag:
    box = tags.input(type="checkbox", id=name, name=name, value="true", **attributes)
    return tags.div(box, " ", tags.label(label, for_=name), class_="field tick")


def _table(labels: Sequence[str], rows: Sequence[Tag], page: Page, start: int) -> list[Tag]:
    if not rows:
        return [tags.p("None.", class_="quiet")]
    return [table(labels, rows, page, start)]


def _row(cells: Mapping[str, Any], id_: str) -> Tag:
    written = (
        tags.td(value, role="cell", **{"data-label": label}) for label, value in cells.items()
    )
    return tags.tr(*written, role="row", id=id_)


def _entry(known: Facts) -> str:
    if not known[OPEN]:
        return "members only"
    return "members, others with the passcode" if known.get("passcodeNeeded") else "everybody"


def _space_table(page: Page, start: int) -> list[Tag]:
    rows = [
        _row(
            {
                "Name": tags.a(str(known["name"]), href=_at(id_)),
                "Call ID": str(known["callId"]),
                "Address": str(known["address"]),
                "Who enters": _entry(known),
                "In it now": str(known.get("numOccupants", 0)),
            },
            f"space-{id_}",
        )
        for id_, known in page.items
    ]
    return _table(("Name", "Call ID", "Address", "Who enters", "In it now"), rows, page, start)


def _member_table(page: Page, start: int, here: str) -> list[Tag]:
    rows = []
    for id_, known in page.items:
        may = [name for name, value in known.items() if name.startswith("can") and value]
        remove = tags.a(
            "Remove",
            tags.span(f" {known['userJid']}", class_="away"),
            href=f"{here}/members/{quote(id_)}/delete",
        )
        cells = {
            "Address": str(known["userJid"]),
            "May": ", ".join(may) or "nothing",
            "Member": remove,
        }
        rows.append(_row(cells, f"member-{id_}"))
    return _table(("Address", "May", "Member"), rows, page, start)
