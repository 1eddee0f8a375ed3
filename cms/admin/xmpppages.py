"""The XMPP server's pages: its Callbridges, its clients, its side of the signal flow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.template import Tag, tags

from cms.admin.flowview import (
    clock_text,
    facts,
    fingerprint,
    show_attempts,
    state_mark,
)
from cms.admin.interfaces import Facts, Page, Selection, XmppServer
from cms.admin.pages import (
    Pages,
    SeeOther,
    Shown,
    Visit,
    alert,
    confirm,
    input_field,
)
from cms.admin.xmppapi import MOST_OVERLAP, NAME, OVERLAP, USUAL_OVERLAP
from cms.web.eventstream import EventStream
from cms.web.refusal import Refused

ROLE = "XMPP server"
SHOWN = 25  # of each list
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
    """

    def __init__(
        self, role: XmppServer, clock: IReactorTime, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._role = role
        self.events = EventStream(clock, self._look, self._pieces, timer=timer)

    def add_to(self, app: Klein) -> None:
        """Add their routes."""
        pages = Pages(ROLE, app)
        pages.get("/", self.overview)
        pages.get("/clients", self.clients)
        pages.get("/clients/<id>", self.client)
        pages.post("/clients/<id>/end", self.end_client)
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
        return Shown(f"Callbridges and clients of {domain}", [*problem, reload, live, add], status)

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
        nodes = [(n["node"], n["sessions"], n["links"]) for n in cluster.get("nodes", ())]
        return links, health.good, flow, clients, cluster.get("state"), nodes

    async def _pieces(self) -> list[Tag]:
        page = await self._role.clients(Selection(limit=SHOWN))
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
                *_client_table(page, 0),
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
        clients = status.get("clients")
        who = "client" if clients == 1 else "clients"
        told = f" {active} of {known} Callbridges connected; {clients} {who} logged in"
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

    # clients

    async def clients(self, visit: Visit) -> Shown:
        """GET /clients: those that hold a text, from an offset on."""
        wanted = visit.query.get("filter", "")[:300]
        offset = visit.query.get("offset", "0")
        start = int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 10 else 0
        page = await self._role.clients(Selection(start, SHOWN, wanted))
        search = tags.form(
            input_field("filter", "Address", "A part of it will do.", value=wanted),
            tags.button("Find", type="submit"),
            method="get",
            action="/clients",
            role="search",
            class_="narrow",
        )
        links = []
        for text, at in (("Previous", start - SHOWN), ("Next", start + SHOWN)):
            if -SHOWN < at < page.total and at != start:
                query = urlencode({"filter": wanted, "offset": max(0, at)})
                links.append(tags.a(text, href=f"/clients?{query}", class_="button"))
        back = tags.p(tags.a("Back to the overview", href="/"))
        return Shown("Clients", [search, *_client_table(page, start), *links, back])

    def client(self, visit: Visit) -> Shown:
        """GET /clients/id: it asks whether the session is to be ended."""
        id_, known = self._role.client(visit.ids["id"])
        question = "End this session? The client may log in again."
        action = f"/clients/{quote(id_)}/end"
        labels = {**COLUMNS, "available": "Available"}
        shown = facts(
            {
                label: _moment(known[key]) if key in MOMENTS else _text(known[key])
                for key, label in labels.items()
                if known.get(key) is not None
            }
            | {CONNECTION: tags.span(*_connection(known))}
        )
        content = [shown, *confirm(visit, action, question, "End the session")]
        return Shown(f"Client {known['jid']}", content)

    def end_client(self, visit: Visit) -> SeeOther:
        """POST /clients/id/end."""
        self._role.end_client(visit.ids["id"])
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
            tags.td(str(node["sessions"])),
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
            shown[label] = _moment(value) if key in MOMENTS else _text(value)
    return facts(shown)


def _moment(value: Any) -> str | Tag:
    """A time of the API's, for people."""
    try:
        return clock_text(str(value))
    except ValueError:
        return str(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if key != "valid")
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


COLUMNS = {"jid": "Address", "address": "From", "since": "Since", "callBridge": "Callbridge"}
CONNECTION = "Connection"


def _client_table(page: Page, start: int) -> Sequence[Tag]:
    if not page.items:
        return [tags.p("Nobody.", class_="quiet")]
    head = [tags.th(label, scope="col", role="columnheader") for label in COLUMNS.values()]
    head.append(tags.th(CONNECTION, scope="col", role="columnheader"))
    head.append(tags.th("Session", scope="col", role="columnheader"))
    # The narrow layout would remove the elements' roles, so they are explicit.
    return [
        tags.table(
            tags.caption(f"{start + 1} to {start + len(page.items)} of {page.total}"),
            tags.thead(tags.tr(*head, role="row"), role="rowgroup"),
            tags.tbody(*(_client_row(i, f) for i, f in page.items), role="rowgroup"),
            role="table",
        )
    ]


def _connection(known: Facts) -> list[str | Tag]:
    """Whether it is there; if not, since when, and how much is kept for it."""
    if "awaySince" not in known:
        return ["there"]
    kept = f", {known['keptBytes']:,} bytes are kept for it"
    return ["gone since ", _moment(known["awaySince"]), kept]


def _client_row(id_: str, known: Facts) -> Tag:
    cells = [
        tags.td(
            _moment(known[key]) if key in MOMENTS and known.get(key) else str(known.get(key) or ""),
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
