"""The XMPP server's pages: its Callbridges, its clients, its side of the signal flow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.template import Tag, tags

from cms.admin.clientpages import ClientPages, client_table, moment_text, plain
from cms.admin.flowview import (
    facts,
    fingerprint,
    show_attempts,
    state_mark,
)
from cms.admin.interfaces import Facts, Selection, XmppServer
from cms.admin.listpages import SHOWN
from cms.admin.pages import (
    MorePages,
    Pages,
    SeeOther,
    Shown,
    Visit,
    alert,
    confirm,
    input_field,
    links_to,
)
from cms.admin.xmppapi import MOST_OVERLAP, NAME, OVERLAP, USUAL_OVERLAP
from cms.signalflow import counted
from cms.web.eventstream import EventStream
from cms.web.refusal import Refused

ROLE = "XMPP server"
ATTEMPTS = 10
NAME_LABEL = "Unique Call Bridge name"
_HOUR = 3600
# The facts of a Callbridge that are shown, and their names.
CALLBRIDGE_FACTS = {
    "component": "Address of the component",
    "address": "Connected from",
    "since": "Since",
    "certificate": "TLS",
    "certificateExpires": "Certificate expires",
    "mechanisms": "Log-ins by",
    "problem": "Problem",
    "stanzasReceived": "Stanzas received",
    "stanzasSent": "Stanzas sent",
    "bytesReceived": "Bytes received",
    "bytesSent": "Bytes sent",
    "secrets": "Secrets accepted",
    "created": "Added",
    "linkId": "Link ID in both logs",
}


MOMENTS = ("since", "certificateExpires", "created")


class XmppPages:
    """
    The pages, on any implementation of the role.

    @param timer: See L{EventStream}.
    @param more: Further pages.
    """

    def __init__(
        self,
        role: XmppServer,
        clock: IReactorTime,
        timer: Callable[[], float] = time.perf_counter,
        *,
        more: Sequence[MorePages] = (),
    ) -> None:
        self._role = role
        self._clients = ClientPages(role.clients)
        self._more = more
        self.events = EventStream(clock, self._look, self._pieces, timer=timer)

    def add_to(self, app: Klein) -> None:
        """Add their routes."""
        pages = Pages(ROLE, app)
        pages.get("/", self.overview)
        self._clients.add_to(pages)
        for more in self._more:
            more.add_to(pages)
        pages.post("/callbridges", self.add)
        pages.get("/callbridges/<id>", self.callbridge)
        pages.post("/callbridges/<id>/rotate", self.rotate)
        pages.get("/callbridges/<id>/delete", self.ask_delete)
        pages.post("/callbridges/<id>/delete", self.delete)

        def follow(request: IRequest) -> Deferred[bytes]:
            return self.events.serve(request)

        app.route("/events", methods=["GET"], endpoint="events")(follow)

    # what is shown

    async def overview(self, visit: Visit) -> Shown:
        """GET /."""
        return await self._overview(visit)

    async def _overview(
        self, visit: Visit, *, name: str = "", error: Refused | None = None, status: int = 200
    ) -> Shown:
        domain = str(self._role.status().get("domain", ""))
        live = tags.div(*await self._pieces(), id="live", **{"data-events": "/events"})
        add = tags.section(
            tags.h2("Add a Callbridge", id="add-title"),
            tags.form(
                visit.field(),
                input_field(
                    "name",
                    NAME_LABEL,
                    "As in its own settings, such as cb1. A secret is made, and shown once.",
                    value=name,
                    error=error,
                    autocomplete="off",
                    required="required",
                ),
                tags.button("Add, and show the secret", type="submit"),
                method="post",
                action="/callbridges",
                class_="narrow",
            ),
            **{"aria-labelledby": "add-title"},
        )
        reload = tags.noscript(
            tags.p("Without script this does not follow. ", tags.a("Reload", href="/"))
        )
        problem = [alert(error)] if error is not None else []
        content = [*problem, links_to(self._more), reload, live, add]
        return Shown(f"Callbridges and clients of {domain}", content, status)

    # what changes by itself

    def _look(self) -> object:
        bridges = islice(self._role.callbridges(), SHOWN)
        links = [
            (i, f.get("state"), f.get("linkId"), f.get("secrets"), f.get("problem"))
            for i, f in bridges
        ]
        health = self._role.health()
        flow = fingerprint(self._role.attempts(), ATTEMPTS)
        status = self._role.status()
        clients = status.get("clients"), status.get("clientsAway")
        cluster: dict[str, Any] = status.get("cluster") or {}
        nodes = [
            (n["node"], n["sessions"], n["links"], n["draining"]) for n in cluster.get("nodes", ())
        ]
        return links, health.good, flow, clients, cluster.get("state"), nodes

    async def _pieces(self) -> list[Tag]:
        page = await self._role.clients.listed(Selection(limit=SHOWN))
        bridges = list(islice(self._role.callbridges(), SHOWN + 1))
        more = []
        if len(bridges) > SHOWN:
            told = f"There are more than {SHOWN}; cms xmpp callbridge list shows them all."
            more.append(tags.p(told, class_="quiet"))
        return [
            self._summary(),
            tags.section(
                tags.h2("Callbridges", id="callbridges"),
                tags.ul(*(_card(id_, f) for id_, f in bridges[:SHOWN]), class_="attempts cards"),
                *more,
                tags.p(tags.a("Add a Callbridge", href="#add-title")),
                **{"aria-labelledby": "callbridges"},
            ),
            tags.section(
                tags.h2("Clients", id="clients"),
                *client_table(page, 0),
                tags.p(tags.a("Find a client", href="/clients")),
                **{"aria-labelledby": "clients"},
            ),
            *cluster_section(self._role.status().get("cluster")),
            tags.section(
                tags.h2("Recent signal flow", id="flow"),
                show_attempts(self._role.attempts()[:ATTEMPTS]),
                **{"aria-labelledby": "flow"},
            ),
        ]

    def _summary(self) -> Tag:
        health, status = self._role.health(), self._role.status()
        active, known = status.get("callBridgesActive"), status.get("callBridgesKnown")
        told = f" {active} of {counted(known, 'Callbridge')} connected;"
        told += f" {counted(status.get('clients'), 'client')} logged in"
        away = status.get("clientsAway")
        kept = status.get("clientsAwayBytes", 0)
        told += f", {away} without a connection, {kept:,} bytes kept for them." if away else "."
        state, word = ("passed", "Log-ins are possible.") if health.good else ("failed", "Log-ins")
        parts: list[Any] = [state_mark(state, word if health.good else "No log-in is possible.")]
        parts.append(told)
        if health.fault is not None:
            parts += [tags.span(tags.br(), *_inline(health.fault.cause, health.fault.cure))]
        return tags.p(*parts, class_=f"summary {state}", role="status", id="summary")

    # Callbridges

    async def add(self, visit: Visit) -> Shown:
        """POST /callbridges: the answer is the only place that shows the secret."""
        name = visit.form.get("name", "").strip()
        try:
            NAME.check(name)
            id_, secret = await self._role.add_callbridge(name, None)
        except Refused as refused:
            cause = refused.in_form(NAME_LABEL)
            cure = "Delete that one first, or change its secret." if _exists(refused) else ""
            told = Refused(refused.reason, cause, cure or refused.cure)
            return await self._overview(visit, name=name, error=told, status=refused.status)
        return self._secret_page(id_, secret or "", "was added")

    def _secret_page(self, id_: str, secret: str, what: str) -> Shown:
        name = str(self._role.callbridge(id_)[1]["name"])
        content = [
            tags.div(
                tags.p(f"This is the shared secret of {name}. It is shown this once:"),
                tags.p(tags.code(secret, class_="secret", id="secret", tabindex="0")),
                tags.p(
                    'Type or paste it into "Shared secret" of the Callbridge\'s'
                    ' "XMPP server settings"; then its link comes up.'
                ),
                class_="note good",
                role="status",
            ),
            tags.p(tags.a("Back to the overview", href="/")),
        ]
        return Shown(f"{name} {what}", content)

    def callbridge(self, visit: Visit) -> Shown:
        """GET /callbridges/id."""
        id_, known = self._role.callbridge(visit.ids["id"])
        here = f"/callbridges/{quote(id_)}"
        content: list[Any] = [_state_of(known), _callbridge_facts(known)]
        if known.get("source") == "file":
            told = "It is in [callbridges] of the configuration file: change it there, and restart."
            content.append(tags.p(told, class_="note"))
        else:
            content += [
                tags.h2("Another secret"),
                tags.form(
                    visit.field(),
                    input_field(
                        "overlapHours",
                        "Hours in which the old secret is accepted as well",
                        f"0 to {MOST_OVERLAP // _HOUR}. Time to change it at the Callbridge.",
                        value=str(USUAL_OVERLAP // _HOUR),
                        kind="number",
                        min="0",
                        max=str(MOST_OVERLAP // _HOUR),
                        inputmode="numeric",
                    ),
                    tags.button("Make another secret", type="submit"),
                    method="post",
                    action=f"{here}/rotate",
                    class_="narrow",
                ),
                tags.h2("End"),
                tags.p(tags.a("Delete this Callbridge", href=f"{here}/delete")),
            ]
        content.append(tags.p(tags.a("Back to the overview", href="/")))
        return Shown(f"Callbridge {known['name']}", content)

    async def rotate(self, visit: Visit) -> Shown:
        """POST /callbridges/id/rotate."""
        hours = visit.form.get("overlapHours", "").strip() or str(USUAL_OVERLAP // _HOUR)
        if not (hours.isascii() and hours.isdigit() and len(hours) <= 6):
            cause = "the hours are no whole number"
            raise Refused("overlapInvalid", cause, f"Give 0 to {MOST_OVERLAP // _HOUR}.")
        OVERLAP.check(str(int(hours) * _HOUR))
        id_ = self._role.callbridge(visit.ids["id"])[0]
        secret = await self._role.rotate_secret(id_, None, float(int(hours) * _HOUR))
        return self._secret_page(id_, secret or "", "has another secret")

    def ask_delete(self, visit: Visit) -> Shown:
        """GET /callbridges/id/delete."""
        id_, known = self._role.callbridge(visit.ids["id"])
        name = known["name"]
        question = f"Delete {name}? Its link ends, and its secret is accepted no more."
        content = confirm(visit, f"/callbridges/{quote(id_)}/delete", question, f"Delete {name}")
        return Shown(f"Delete Callbridge {name}", content)

    async def delete(self, visit: Visit) -> SeeOther:
        """POST /callbridges/id/delete."""
        await self._role.delete_callbridge(visit.ids["id"])
        return SeeOther("/")


def _exists(refused: Refused) -> bool:
    return refused.reason == "callBridgeAlreadyExists"


def _inline(cause: str, cure: str) -> list[Any]:
    return [cause, " ", tags.strong("Cure: "), cure]


def _state_of(known: Facts) -> Tag:
    state, word = _judged(known)
    return tags.p(state_mark(state, word), class_=state)


def _judged(known: Facts) -> tuple[str, str]:
    """How its link is marked, and the words for it."""
    word = str(known.get("state", ""))
    if word != "active":
        return "waiting", word
    return ("failed", "decides no log-ins") if known.get("problem") else ("passed", word)


def cluster_section(facts: Any) -> list[Tag]:
    """The other servers of the cluster, if it is to be in one."""
    if facts is None:
        return []
    there = facts["state"] == "in"
    told = f"{facts['node']} is {'in' if there else 'out of'} the cluster on {facts['engine']}."
    if facts["problem"] is not None:
        told += f" {facts['problem']['cause']} Cure: {facts['problem']['cure']}"
    heads = ("Server", "Version", "Clients", "Components", "Waiting for it")
    rows = [
        tags.tr(
            tags.th(node["node"], scope="row"),
            tags.td(node["version"]),
            tags.td("is drained" if node["draining"] else str(node["sessions"])),
            tags.td(str(node["links"])),
            tags.td(f"{node['waitingBytes']:,} bytes, {node['behindSeconds']} s"),
        )
        for node in facts["nodes"]
    ]
    table = tags.table(
        tags.caption("The other servers"),
        tags.thead(tags.tr(*(tags.th(head, scope="col") for head in heads))),
        tags.tbody(*rows),
    )
    return [
        tags.section(
            tags.h2("Cluster", id="cluster"),
            tags.p(state_mark("passed" if there else "failed", told)),
            *([table] if rows else [tags.p("No other server is in it.", class_="quiet")]),
            **{"aria-labelledby": "cluster"},
        )
    ]


def _card(id_: str, known: Facts) -> Tag:
    state, word = _judged(known)
    return tags.li(
        tags.h3(
            tags.span(str(known["name"]), class_="title"),
            state_mark(state, word),
        ),
        _callbridge_facts(known),
        tags.p(
            tags.a(
                "Secret, delete",
                tags.span(f" ({known['name']})", class_="away"),
                href=f"/callbridges/{quote(id_)}",
            )
            if known.get("source") != "file"
            else tags.span("In the configuration file", class_="quiet")
        ),
        class_=f"card {state}",
        id=f"callbridge-{id_}",
    )


def _callbridge_facts(known: Facts) -> Tag:
    shown = {}
    for key, label in CALLBRIDGE_FACTS.items():
        value = known.get(key)
        if value is not None and value not in ("", [], {}):
            shown[label] = moment_text(value) if key in MOMENTS else plain(value)
    return facts(shown)
