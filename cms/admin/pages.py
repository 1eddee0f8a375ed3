"""
The common parts of both daemons' pages: the frame, the security policy, the token.

A page is HTML from L{twisted.web.template}, which escapes.  It is complete without
script; the script only updates it.  Nothing is loaded from other hosts, and no page holds
script or style of its own, so the policy forbids both.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen
from klein import Klein
from twisted.web.iweb import IRequest
from twisted.web.template import Tag, tags

import cms
from cms.signalflow import printable
from cms.web import messages
from cms.web.forms import FORM, media_type, pairs
from cms.web.html import HTML, PAGE_HEADERS, flat, serve_files
from cms.web.refusal import Refused

FILES = {
    "cms.css": "text/css; charset=utf-8",
    "cms.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_STATIC = Path(__file__).parent / "static"
TOKEN = "token"  # noqa: S105 - the name of a field
STALE = "This form is from before a restart or another log-in."


@frozen
class Shown:
    """
    A page.

    @ivar title: Of the window, and the heading.
    @ivar content: What is below the heading.
    @ivar status: The HTTP status.
    """

    title: str
    content: Sequence[Any]
    status: int = 200


@frozen
class SeeOther:
    """The form was processed; the page at this address shows the result."""

    location: str


Answer = Shown | SeeOther


@frozen
class Visit:
    """
    A request for a page.

    @ivar ids: From its path.
    @ivar query: The first value of each parameter of its address.
    @ivar form: The same for its body, without the token.
    @ivar token: Goes into each form of the page, see L{Tokens}.
    @ivar trusted: Whether the form that came in held the token.
    """

    token: str
    ids: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    trusted: bool = False

    def field(self) -> Tag:
        """The token as a hidden field of a form."""
        return tags.input(type="hidden", name=TOKEN, value=self.token)


class Tokens:
    """
    The tokens of forms.  Only a page made for a log-in has its token, and a form without
    it changes nothing.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, request: IRequest) -> str:
        """The token of the log-in that this request came with."""
        login = f"{messages.account(request)}\0{messages.header(request, 'authorization') or ''}"
        return hmac.new(self._key, login.encode(), "sha256").hexdigest()


Handler = Callable[[Visit], Answer | Awaitable[Answer]]


class MorePages(Protocol):
    """
    Pages that are added to those of a role.

    @ivar path: Of the first of them.
    @ivar title: What leads to it.
    """

    path: str
    title: str

    def add_to(self, pages: Pages) -> None:
        """Add their routes."""
        ...


def links_to(more: Sequence[MorePages]) -> Tag:
    """The way to these pages."""
    links = [tags.a(each.title, href=each.path) for each in more]
    return tags.p(*(part for link in links for part in (link, " ")))


class Pages:
    """
    The pages of one daemon, added to the routes of its API.

    @param role: Its name, for the heading.
    @param app: The routes.
    """

    def __init__(self, role: str, app: Klein) -> None:
        self._role = role
        self._app = app
        self._tokens = Tokens()
        serve_files(app, _STATIC, FILES)

    def get(self, path: str, handler: Handler) -> None:
        """Show a page."""
        self._add(path, "GET", handler)

    def post(self, path: str, handler: Handler, *, checks: bool = False) -> None:
        """
        Take a form.

        @param checks: Whether the handler checks L{Visit.trusted} itself, so that it can
            return what was typed; else a form without the token does not reach it.
        """

        def trusted(visit: Visit) -> Answer | Awaitable[Answer]:
            if not visit.trusted and not checks:
                raise Refused("tokenInvalid", STALE, "Go back, reload, try again.", status=403)
            return handler(visit)

        self._add(path, "POST", trusted)

    def _add(self, path: str, method: str, handler: Handler) -> None:
        async def run(request: IRequest, **ids: str) -> bytes:
            try:
                answer = handler(self._visit(request, ids))
                shown = await answer if isawaitable(answer) else answer
            except Refused as refused:
                shown = _refusal(refused, method)
                for name, value in refused.headers.items():
                    request.setHeader(name.encode(), value.encode())
            return await self._render(request, shown)

        self._app.route(path, methods=[method], endpoint=f"{method} {path}")(run)

    def _visit(self, request: IRequest, ids: Mapping[str, str]) -> Visit:
        token, form = self._tokens.of(request), {}
        if request.method == b"POST":
            if media_type(messages.header(request, "content-type")) != FORM:
                raise Refused(
                    "formExpected", "what came in is no form", f"Send {FORM}.", status=415
                )
            form = dict(reversed(pairs(request.content.read())))
        sent = form.pop(TOKEN, "")
        trusted = hmac.compare_digest(sent.encode(), token.encode())
        query = dict(reversed(pairs(messages.query_of(request))))
        return Visit(token, ids, query, form, trusted)

    async def _render(self, request: IRequest, answer: Answer) -> bytes:
        if isinstance(answer, SeeOther):
            request.setResponseCode(303)
            request.setHeader(b"location", answer.location.encode())
            return b""
        body = await flat(self._frame(answer))
        for name, value in PAGE_HEADERS.items():
            request.setHeader(name, value)
        request.setHeader(b"content-type", HTML.encode())
        request.setResponseCode(answer.status)
        return b"<!DOCTYPE html>\n" + body.encode()

    def _frame(self, shown: Shown) -> Tag:
        return tags.html(
            tags.head(
                tags.meta(charset="utf-8"),
                tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
                tags.title(f"{shown.title} - {self._role}"),
                tags.link(rel="icon", type="image/svg+xml", href="/static/icon.svg"),
                tags.link(rel="stylesheet", href="/static/cms.css"),
                tags.script(src="/static/cms.js", defer="defer"),
            ),
            tags.body(
                tags.a("Skip to the content", href="#content", class_="skip"),
                tags.header(tags.a(self._role, href="/"), tags.span(f"cms {cms.__version__}")),
                Tag("main")(tags.h1(shown.title), *shown.content, id="content"),
                tags.footer(
                    tags.a("The API of this daemon", href="/api/v1/openapi.json"),
                    " can do all that is done here.",
                ),
            ),
            lang="en",
        )


def _refusal(refused: Refused, method: str) -> Shown:
    content = [alert(refused), tags.p(tags.a("Back to the overview", href="/"))]
    title = "This was not done" if method == "POST" else "There is nothing to show"
    return Shown(title, content, refused.status)


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = printable(text.strip())
    return text and text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


# The API's cures name its methods; pages need other words.
_FIRST_PAGE = "Go to the first page, which shows what there is."
_CURES = dict.fromkeys(
    (
        *("callBridgeDoesNotExist", "clientDoesNotExist", "userDoesNotExist", "notFound"),
        *("coSpaceDoesNotExist", "coSpaceUserDoesNotExist"),
    ),
    _FIRST_PAGE,
)


def alert(refused: Refused) -> Tag:
    """Cause and cure, which screen readers read at once."""
    content = [tags.p(sentence(refused.cause))]
    cure = _CURES.get(refused.reason, refused.cure)
    if cure:
        content.append(tags.p(tags.strong("Cure: "), sentence(cure)))
    return tags.div(*content, role="alert", class_="note failed")


def input_field(
    name: str,
    label: str,
    hint: str,
    *,
    value: str = "",
    kind: str = "text",
    error: Refused | None = None,
    **attributes: str,
) -> Tag:
    """
    A labelled field, with its hint and what is wrong with it.

    @param value: What it holds; never that of a secret.
    """
    described = f"{name}-hint"
    parts = [tags.label(label, for_=name), tags.p(hint, id=described, class_="hint")]
    if error is not None:
        described += f" {name}-error"
        attributes |= {"aria-invalid": "true", "autofocus": "autofocus"}
        cure = f" {sentence(error.cure)}" if error.cure else ""
        parts.append(tags.p(f"{sentence(error.cause)}{cure}", id=f"{name}-error", class_="wrong"))
    parts.append(
        tags.input(
            type=kind,
            id=name,
            name=name,
            value=value,
            autocapitalize="none",
            spellcheck="false",
            **{"aria-describedby": described, **attributes},
        )
    )
    return tags.div(*parts, class_="field")


def confirm(visit: Visit, action: str, question: Any, does: str) -> list[Any]:
    """A form that asks before something is done that cannot be undone."""
    return [
        tags.p(question),
        tags.form(
            visit.field(),
            tags.button(does, type="submit", class_="danger"),
            " ",
            tags.a("Leave it as it is", href="/"),
            method="post",
            action=action,
        ),
    ]
