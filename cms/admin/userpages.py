"""The pages of a Callbridge's users: the list, and what is done to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from twisted.web.template import Tag, tags

from cms.admin.callbridgeapi import SHOWN
from cms.admin.clientpages import moment_text
from cms.admin.flowview import facts, state_mark
from cms.admin.interfaces import Callbridge, Facts, Page
from cms.admin.listpages import links_to_parts, search_form, selected, table
from cms.admin.pages import Pages, SeeOther, Shown, Visit, alert, confirm, input_field
from cms.signalflow import counted
from cms.web.refusal import Refused

_PASSWORD = "password"  # noqa: S105 - the name of a field
_DELETE = "Delete this user, end the sessions, and forget the contacts?"
_KEPT = (
    "The XMPP server has not forgotten the contacts of this user. The log says why, and whether it"
    " will by itself; there, cms xmpp contacts forget ADDRESS does it."
)


class UserPages:
    """The pages, on any implementation of the role."""

    path, title = "/users", "Users"

    def __init__(self, role: Callbridge) -> None:
        self._role = role

    def add_to(self, pages: Pages) -> None:
        """Add their routes."""
        one = "/users/<id>"
        pages.get("/users", self.list)
        pages.post("/users", self.add)
        pages.get(one, self.show)
        pages.post(f"{one}/enable", self.enable)
        pages.post(f"{one}/disable", self.disable)
        pages.post(f"{one}/password", self.set_password)
        pages.post(f"{one}/name", self.set_name)
        pages.post(f"{one}/delete", self.delete)

    async def list(self, visit: Visit) -> Shown:
        """GET /users: those that hold a text, from an offset on."""
        return await self._list(visit)

    async def _list(self, visit: Visit, error: Refused | None = None, typed: str = "") -> Shown:
        part = selected(visit)
        page = await self._role.users(part)
        search = search_form("/users", part, "Address or name", "A part of it will do.")
        links = links_to_parts("/users", page, part)
        add = tags.section(
            tags.h2("Add a user", id="add-title"),
            tags.form(
                visit.field(),
                input_field(
                    "userJid", "Name", "alice, or alice@domain.", value=typed, autocomplete="off"
                ),
                _new_password(),
                tags.button("Add", type="submit"),
                method="post",
                action="/users",
                class_="narrow",
            ),
            **{"aria-labelledby": "add-title"},
        )
        told = [alert(error)] if error is not None else []
        if visit.query.get("contacts") == "kept":
            told.append(tags.p(_KEPT, class_="note", role="status"))
        back = tags.p(tags.a("Back to the overview", href="/"))
        content = [*told, search, *_table(page, part.offset), *links, add, back]
        return Shown(self.title, content, 200 if error is None else error.status)

    async def add(self, visit: Visit) -> Shown | SeeOther:
        """POST /users."""
        name = visit.form.get("userJid", "").strip()
        try:
            return SeeOther(_at(await self._role.add_user(name, _password(visit))))
        except Refused as refused:
            return await self._list(visit, refused, name)

    async def show(self, visit: Visit) -> Shown:
        """GET /users/id."""
        id_, known = await self._role.user(visit.ids["id"])
        here, disabled = _at(id_), bool(known.get("disabled"))
        shown = facts({"Since": moment_text(known["created"]), "State": _state(known)})
        ended = visit.query.get("ended", "")
        content: list[Any] = [shown]
        if ended.isascii() and ended.isdigit():
            told = f"Done; {counted(ended[:6], 'session')} ended."
            content.insert(0, tags.p(told, class_="note good", role="status"))
        elif ended:
            told = (
                "Done. Sessions that there may be have not ended yet: the link is down, or the"
                " XMPP server does not end them. They end when the link is up."
            )
            content.insert(0, tags.p(told, class_="note", role="status"))
        way = "enable" if disabled else "disable"
        what = "Let this user log in again" if disabled else "Keep this user out, and end sessions"
        content += [
            tags.form(
                visit.field(),
                tags.button(what, type="submit"),
                method="post",
                action=f"{here}/{way}",
            ),
            tags.h2("Name for people"),
            tags.form(
                visit.field(),
                input_field(
                    SHOWN.name,
                    "Name",
                    "As contacts are shown it, such as Alice Liddell. Empty: none.",
                    value=str(known.get("displayName") or ""),
                    maxlength=str(SHOWN.most),
                    autocomplete="off",
                ),
                tags.button("Set it", type="submit"),
                method="post",
                action=f"{here}/name",
                class_="narrow",
            ),
            tags.h2("Another password"),
            tags.form(
                visit.field(),
                _new_password(),
                tags.button("Set it, and end sessions", type="submit"),
                method="post",
                action=f"{here}/password",
                class_="narrow",
            ),
            tags.h2("End"),
            *confirm(visit, f"{here}/delete", _DELETE, "Delete"),
            tags.p(tags.a("Back to the users", href="/users")),
        ]
        return Shown(f"User {known['userJid']}", content)

    async def enable(self, visit: Visit) -> SeeOther:
        """POST /users/id/enable."""
        await self._role.change_user(visit.ids["id"], None, False)
        return SeeOther(_at(visit.ids["id"]))

    async def disable(self, visit: Visit) -> SeeOther:
        """POST /users/id/disable."""
        return await self._changed(visit, None, True)

    async def set_password(self, visit: Visit) -> SeeOther:
        """POST /users/id/password."""
        return await self._changed(visit, _password(visit), None)

    async def set_name(self, visit: Visit) -> SeeOther:
        """POST /users/id/name."""
        shown = visit.form.get(SHOWN.name, "")
        SHOWN.check(shown)
        await self._role.name_user(visit.ids["id"], shown)
        return SeeOther(_at(visit.ids["id"]))

    async def _changed(self, visit: Visit, password: str | None, disabled: bool | None) -> SeeOther:
        id_ = visit.ids["id"]
        return SeeOther(_after(id_, await self._role.change_user(id_, password, disabled)))

    async def delete(self, visit: Visit) -> SeeOther:
        """POST /users/id/delete."""
        kept = (await self._role.delete_user(visit.ids["id"])).get("contactsProblem")
        return SeeOther("/users?contacts=kept" if kept else "/users")


def _at(id_: str) -> str:
    return f"/users/{quote(id_, safe='')}"


def _after(id_: str, ended: Facts) -> str:
    what = "later" if ended.get("problem") else str(ended.get("sessionsEnded", 0))
    return f"{_at(id_)}?ended={what}"


def _password(visit: Visit) -> str:
    given = visit.form.get(_PASSWORD, "")
    if not given:
        raise Refused("passwordMissing", "there is no password", "Type one.", parameter=_PASSWORD)
    return given


def _new_password() -> Tag:
    hint = "It is kept as SCRAM keys, and shown nowhere."
    return input_field(
        _PASSWORD, "Password", hint, kind="password", autocomplete="new-password", maxlength="1023"
    )


def _state(known: Facts) -> Tag:
    off = bool(known.get("disabled"))
    return state_mark("failed" if off else "passed", "disabled" if off else "may log in")


def _table(page: Page, start: int) -> list[Tag]:
    if not page.items:
        return [tags.p("Nobody.", class_="quiet")]
    heads = ("Address", "Name", "Since", "State")
    rows = [tags.tr(*_cells(id_, known, heads), role="row") for id_, known in page.items]
    return [table(heads, rows, page, start)]


def _cells(id_: str, known: Facts, heads: Sequence[str]) -> list[Tag]:
    name = tags.a(str(known["userJid"]), href=_at(id_))
    shown = str(known.get("displayName") or "")
    content = (name, shown, moment_text(known["created"]), _state(known))
    cells = zip(content, heads, strict=True)
    return [tags.td(each, role="cell", **{"data-label": head}) for each, head in cells]
