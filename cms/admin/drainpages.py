"""The page that drains an XMPP server before it is stopped."""

from __future__ import annotations

from typing import Any

from twisted.web.template import Tag, tags

from cms.admin.drainapi import SECONDS
from cms.admin.flowview import state_mark
from cms.admin.interfaces import XmppServer
from cms.admin.pages import Pages, SeeOther, Shown, Visit, alert, input_field
from cms.control.drainwords import MOST_SECONDS, NOBODY, USUAL_SECONDS, drain_text
from cms.web.refusal import Refused

_MARKS = {"open": "passed", "draining": "waiting", "drained": "passed"}


class DrainPages:
    """The page."""

    path, title = "/drain", "Maintenance"

    def __init__(self, role: XmppServer) -> None:
        self._role = role

    def add_to(self, pages: Pages) -> None:
        """Add its routes."""
        pages.get("/drain", self.show)
        pages.post("/drain", self.begin)
        pages.post("/drain/cancel", self.cancel)

    def show(self, visit: Visit) -> Shown:
        """GET /drain."""
        return self._shown(visit)

    def _shown(self, visit: Visit, error: Refused | None = None, status: int = 200) -> Shown:
        facts = self._role.drain_facts()
        content: list[Any] = [] if error is None else [alert(error)]
        content.append(tags.p(state_mark(_MARKS[facts["state"]], drain_text(facts)), role="status"))
        if not facts["takers"] and facts["state"] != "drained":
            content.append(tags.p(NOBODY, class_="note"))
        content.append(_begin(visit) if facts["state"] == "open" else _cancel(visit))
        content.append(tags.p(tags.a("Back to the overview", href="/")))
        return Shown(self.title, content, status)

    def begin(self, visit: Visit) -> Shown | SeeOther:
        """POST /drain."""
        seconds = visit.form.get("seconds", "").strip() or str(USUAL_SECONDS)
        try:
            SECONDS.check(seconds)
            self._role.begin_drain(float(seconds), forced=visit.form.get("force") == "true")
        except Refused as refused:
            return self._shown(visit, refused, refused.status)
        return SeeOther("/drain")

    async def cancel(self, visit: Visit) -> SeeOther:
        """POST /drain/cancel."""
        await self._role.cancel_drain()
        return SeeOther("/drain")


def _begin(visit: Visit) -> Tag:
    return tags.form(
        visit.field(),
        tags.p(
            "Before this server is stopped: it takes nothing new, its Callbridges and clients go to"
            " the other servers of the cluster, and what cannot go is ended."
        ),
        input_field(
            "seconds",
            "Seconds, after which what is left is ended",
            f"1 to {MOST_SECONDS}.",
            value=str(USUAL_SECONDS),
            kind="number",
            min="1",
            max=str(MOST_SECONDS),
            inputmode="numeric",
        ),
        tags.p(
            tags.label(
                tags.input(type="checkbox", name="force", value="true"),
                " Also if no other server of the cluster takes its clients",
            )
        ),
        tags.button("Drain this server", type="submit", class_="danger"),
        method="post",
        action="/drain",
        class_="narrow",
    )


def _cancel(visit: Visit) -> Tag:
    return tags.form(
        visit.field(),
        tags.button("Take what comes again", type="submit"),
        method="post",
        action="/drain/cancel",
    )
