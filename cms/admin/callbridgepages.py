"""The Callbridge's page: the XMPP server settings beside the live signal flow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.template import Tag, tags

from cms.admin.callbridgeapi import SETTINGS
from cms.admin.flowview import (
    clock_text,
    clock_time,
    fingerprint,
    show_attempts,
    show_steps,
    state_mark,
    twelve_steps,
)
from cms.admin.interfaces import Callbridge, Recorded
from cms.admin.pages import (
    STALE,
    MorePages,
    Pages,
    SeeOther,
    Shown,
    Visit,
    alert,
    confirm,
    input_field,
    links_to,
    sentence,
)
from cms.admin.spacesapi import SpacesRole
from cms.admin.spacespages import SpacePages
from cms.web.eventstream import EventStream
from cms.web.refusal import Refused

ROLE = "Callbridge"
SECRET = "sharedSecret"  # noqa: S105 - the name of a field
# Under the names that operators know.
LABELS = {
    "uniqueName": ("Unique Call Bridge name", "Without a domain part, such as cb1."),
    "domain": ("Domain", "The XMPP domain, such as meet.example.com."),
    "serverAddressOverride": (
        "Server address",
        "host, host:port or [IPv6]:port. Empty: the domain's SRV records decide.",
    ),
    SECRET: ("Shared secret", "It is never shown. Empty: the one that is set stays."),
}
EARLIER = 5  # attempts that are shown besides the current one


class CallbridgePages:
    """
    The pages, on any implementation of the role.

    @param spaces: The spaces, if there are pages for them.
    @param timer: See L{EventStream}.
    @param more: Further pages.
    """

    def __init__(
        self,
        role: Callbridge,
        clock: IReactorTime,
        spaces: SpacesRole | None = None,
        *,
        timer: Callable[[], float] = time.perf_counter,
        more: Sequence[MorePages] = (),
    ) -> None:
        self._role = role
        self._more = more
        self._spaces = spaces
        self.events = EventStream(clock, self._look, self._pieces, timer=timer)

    def add_to(self, app: Klein) -> None:
        """Add their routes."""
        pages = Pages(ROLE, app)
        pages.get("/", self.overview)
        pages.post("/settings", self.save, checks=True)
        pages.get("/settings/forget", self.ask_forget)
        pages.post("/settings/forget", self.forget)
        if self._spaces is not None:
            SpacePages(self._spaces).add_to(pages)
        for more in self._more:
            more.add_to(pages)

        def follow(request: IRequest) -> Deferred[bytes]:
            return self.events.serve(request)

        app.route("/events", methods=["GET"], endpoint="events")(follow)

    # what is shown

    async def overview(self, visit: Visit) -> Shown:
        """GET /."""
        note = None
        if "saved" in visit.query:
            note = tags.p("Saved. Follow the link here.", class_="note good")
        return await self._page(visit, self._values(), note=note)

    def _values(self) -> dict[str, str]:
        configuration = self._role.configuration()
        return {name: str(configuration.get(name) or "") for name in LABELS if name != SECRET}

    async def _page(
        self,
        visit: Visit,
        values: Mapping[str, str],
        *,
        errors: Mapping[str, Refused] | None = None,
        note: Tag | None = None,
        status: int = 200,
    ) -> Shown:
        form = self._form(visit, values, errors or {})
        live = tags.section(
            tags.h2("Signal flow", id="flow-title"),
            tags.noscript(
                tags.p("Without script this does not follow. ", tags.a("Reload", href="/"))
            ),
            tags.div(*await self._pieces(), id="live", **{"data-events": "/events"}),
            class_="flow",
            **{"aria-labelledby": "flow-title"},
        )
        content: list[Any] = [note] if note is not None else []
        if self._spaces is not None:
            content.append(tags.p(tags.a("Spaces", href="/spaces")))
        content.append(links_to(self._more))
        content.append(tags.div(form, live, class_="pair"))
        return Shown("XMPP server settings", content, status)

    def _form(self, visit: Visit, values: Mapping[str, str], errors: Mapping[str, Refused]) -> Tag:
        fields = []
        for name, (label, hint) in LABELS.items():
            secret = name == SECRET
            fields.append(
                input_field(
                    name,
                    label,
                    hint,
                    value="" if secret else values.get(name, ""),
                    kind="password" if secret else "text",
                    error=errors.get(name),
                    autocomplete="new-password" if secret else "off",
                )
            )
        configuration = self._role.configuration()
        return tags.section(
            tags.h2("Settings", id="form-title"),
            tags.form(
                visit.field(),
                *fields,
                tags.button("Save and connect", type="submit"),
                method="post",
                action="/settings",
            ),
            self._source(str(configuration.get("source", ""))),
            **{"aria-labelledby": "form-title"},
        )

    @staticmethod
    def _source(source: str) -> Tag:
        if source != "api":
            return tags.p("These are the settings of the configuration file.", class_="quiet")
        return tags.p(
            "Set here, or by the API; this wins over the configuration file. ",
            tags.a("Forget it, and use the file", href="/settings/forget"),
            class_="quiet",
        )

    # what changes by itself

    @property
    def _active(self) -> bool:
        return self._role.health().good

    def _look(self) -> object:
        link: Any = self._role.status().get("link", {})
        return (
            *(self._active, link.get("state"), link.get("peer"), link.get("nextAttempt")),
            fingerprint(self._role.attempts(), 2 * EARLIER),
        )

    async def _pieces(self) -> list[Tag]:
        recorded = self._role.attempts()
        current = next((r for r in recorded if r.kind == "link"), None)
        earlier = [r for r in recorded if r is not current][:EARLIER]
        return [
            self._summary(recorded),
            show_steps(twelve_steps(recorded, active=self._active)),
            tags.h2("Earlier attempts, and log-ins"),
            show_attempts(earlier),
        ]

    def _summary(self, recorded: Sequence[Recorded]) -> Tag:
        """The summary, which screen readers read when it changes."""
        link: Any = self._role.status().get("link", {})
        last = next((r.attempt for r in recorded if r.kind == "link"), None)
        content: list[Any]
        fault = self._role.health().fault
        if self._active:
            state, word = "passed", "The link is active"
            content = [f" with {link['peer']}."] if link.get("peer") else []
        elif fault is not None and link.get("state") == "active":
            state, word = "failed", "The link is up, but no log-in is decided over it"
            content = [f". {fault.cause} {fault.cure}"]
        elif last is not None and last.running is not None:
            state, word = "running", f"Attempt {last.number}"
            content = [f" is at {last.running.step}."]
        elif last is not None and last.failure is not None:
            state, word = "failed", f"The link is down: {last.failure.step} failed"
            content = [f". {last.failure.cause} {last.failure.cure}"]
        else:
            state, word, content = "waiting", f"The link is {link.get('state', 'down')}", []
        if last is not None:
            content += [tags.span(" Attempt ", str(last.number), ", ", clock_time(last.began), ".")]
        if link.get("nextAttempt"):
            content.append(tags.span(" The next begins at ", clock_text(link["nextAttempt"]), "."))
        mark = state_mark(state, word)
        return tags.p(mark, *content, class_=f"summary {state}", role="status", id="summary")

    # what is done

    async def save(self, visit: Visit) -> Shown | SeeOther:
        """POST /settings: what differs from the settings in use is set."""
        form = {name: visit.form[name].strip() for name in LABELS if name in visit.form}
        before = self._values()
        changes = {k: v for k, v in form.items() if v != before.get(k, "")}
        values = {**before, **form}
        if not visit.trusted:
            stale = Refused("tokenInvalid", STALE, "Look at it, and save again.", status=403)
            return await self._page(visit, values, note=alert(stale), status=stale.status)
        errors = _errors(changes)
        try:
            if not errors:
                await self._role.configure(changes)
                return SeeOther("/?saved=1")
        except Refused as refused:
            if refused.parameter not in LABELS:
                return await self._page(visit, values, note=alert(refused), status=refused.status)
            errors = {str(refused.parameter): _beside(refused)}
        return await self._page(visit, values, errors=errors, note=_list(errors), status=400)

    def ask_forget(self, visit: Visit) -> Shown:
        """GET /settings/forget."""
        question = "Forget what was set here, and use the configuration file again?"
        content = confirm(visit, "/settings/forget", question, "Use the file")
        return Shown("Use the configuration file", content)

    async def forget(self, visit: Visit) -> SeeOther:
        """POST /settings/forget."""
        await self._role.unconfigure()
        return SeeOther("/?saved=1")


def _errors(changes: Mapping[str, str]) -> dict[str, Refused]:
    """The errors in all fields that can be found without trying the settings."""
    errors = {}
    for parameter in SETTINGS:
        if parameter.name in changes:
            try:
                parameter.check(changes[parameter.name])
            except Refused as refused:
                errors[parameter.name] = _beside(refused)
    return errors


def _beside(refused: Refused) -> Refused:
    """The same in the words of the form, without names of parameters."""
    label, hint = LABELS[str(refused.parameter)]
    return Refused(refused.reason, refused.in_form(label), refused.cure or hint)


def _list(errors: Mapping[str, Refused]) -> Tag:
    links = (
        tags.li(tags.a(LABELS[name][0], href=f"#{name}"), f": {sentence(refused.cause)}")
        for name, refused in errors.items()
    )
    told = "Nothing was saved. A secret that was typed has to be typed again."
    return tags.div(tags.p(told), tags.ul(*links), role="alert", class_="note failed")
