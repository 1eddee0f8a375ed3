"""
The pages of the door: to join a meeting, to sign in, and the room.

There is one page for all addresses.  Its script reads the address; so the secret of a link is in no
page, and the answer is the same whether a meeting exists or not.  Every word is in
F{static/texts.*.js}, one file for each language.  docs/design/meeting-page.md has the reasons.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen
from klein import Klein
from twisted.web.iweb import IRequest
from twisted.web.template import Tag, tags

from cms import faults
from cms.door.look import Look
from cms.web import messages
from cms.web.html import HTML, flat
from cms.web.refusal import Refused

PRIVATE = "/m/"
"""What begins so goes on with a secret, which no log may hold."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self' wss:; media-src blob: mediastream:; form-action 'none';"
    " base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
    " trusted-types 'none'"
)
# Nothing of the page asks for these yet.
_OFF = ("camera", "microphone", "display-capture", "geolocation", "payment", "usb", "midi")
PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "permissions-policy": ", ".join(
        ["clipboard-write=(self)", *(f"{feature}=()" for feature in _OFF)]
    ),
    "referrer-policy": "no-referrer",  # for the secret in an address
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-robots-tag": "noindex",  # invitations are passed on by links
}
FOR_EVER = "public, max-age=31536000, immutable"
DEFAULT = "en"
STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_TEXTS = re.compile(r"texts\.([A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*)\.js")
_EXPORT = "export default "  # what the JSON of a file of texts follows; a semicolon ends it
_MOST_LANGUAGES = 20  # of one request


@frozen
class File:
    """
    What is served as it is.

    @ivar packed: The same by gzip; empty where that is no shorter.
    """

    body: bytes = field(repr=False)
    packed: bytes = field(repr=False)
    media_type: str
    tag: str

    @classmethod
    def of(cls, body: bytes, media_type: str) -> File:
        """With what follows from its bytes."""
        packed = gzip.compress(body, 9, mtime=0)
        tag = hashlib.sha256(body).hexdigest()[:16]
        return cls(body, packed if len(packed) < len(body) else b"", media_type, tag)


def words(source: str) -> dict[str, Any]:
    """
    The words of a file of texts.

    @raise ValueError: it is not as the others are.
    """
    begin, end = source.find(_EXPORT), source.rfind(";")
    if begin < 0:
        raise ValueError("a file of texts exports them by default")
    read: dict[str, Any] = json.loads(source[begin + len(_EXPORT) : end])
    return read


def language(accepted: str | None, known: Mapping[str, object]) -> str:
    """
    The language that a browser likes best, of those that there are (RFC 9110 12.5.4).

    @param accepted: Its C{Accept-Language}.
    """
    names = {name.lower(): name for name in known}
    liked: list[tuple[float, int, str]] = []
    for number, entry in enumerate((accepted or "").lower().split(",")[:_MOST_LANGUAGES]):
        tag, _, parameter = entry.partition(";")
        weight = re.fullmatch(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*", parameter)
        quality = 1.0 if not parameter else float(weight[1]) if weight else 0.0
        if quality > 0:
            liked.append((-quality, number, tag.strip()))
    for _, _, name in sorted(liked):
        parts = name.split("-")
        for end in range(len(parts), 0, -1):  # pt-br is served by pt
            found = names.get("-".join(parts[:end]))
            if found is not None:
                return found
    return DEFAULT


class DoorPages:
    """
    The pages, and the files that they load.

    @param look: From C{[web]}.
    @param domain: Whose accounts sign in by their name alone.
    @param enabled: Else the page says that the door is closed, and no more.
    @param folder: Where the files are; those of a test may be elsewhere.
    """

    def __init__(
        self, look: Look, domain: str, *, enabled: bool = True, folder: Path = STATIC
    ) -> None:
        self._look = look
        self._domain = domain
        self._enabled = enabled
        self._files = {
            path.name: File.of(path.read_bytes(), _TYPES[path.suffix])
            for path in sorted(folder.iterdir())
            if path.suffix in _TYPES
        }
        if look.logo:
            self._files["logo"] = File.of(look.logo, look.logo_type)
        tags_of = "".join(f"{name} {file.tag}\n" for name, file in self._files.items())
        self._version = hashlib.sha256(tags_of.encode()).hexdigest()[:12]
        self._words = {
            found[1]: words(file.body.decode())
            for name, file in self._files.items()
            if (found := _TEXTS.fullmatch(name))
        }
        self._pages: dict[str, File] = {}

    def add_to(self, routes: Klein) -> None:
        """Add their routes."""
        for path in ("/", "/meeting/<id_>", "/m/<id_>"):
            routes.route(path, methods=["GET"], endpoint=f"page {path}")(self._page)
        routes.route("/<path:id_>", methods=["GET"], endpoint="page nowhere")(self._nowhere)
        routes.route("/static/<version>/<name>", methods=["GET"], endpoint="static")(self._static)
        routes.route("/favicon.ico", methods=["GET"], endpoint="icon")(self._icon)

    async def _page(self, request: IRequest, id_: str = "") -> bytes:
        chosen = language(messages.header(request, "accept-language"), self._words)
        page = self._pages.get(chosen)
        if page is None:
            text = f"<!DOCTYPE html>\n{await flat(self._document(chosen))}"
            page = self._pages[chosen] = File.of(text.encode(), HTML)
        for name, value in PAGE_HEADERS.items():
            request.setHeader(name.encode(), value.encode())
        request.setHeader(b"vary", b"accept-language, accept-encoding")
        request.setResponseCode(200 if self._enabled else 503)
        return _body(request, page)

    async def _nowhere(self, request: IRequest, id_: str) -> bytes:
        """A person gets the page, where he can join; a program a refusal."""
        if "text/html" not in (messages.header(request, "accept") or ""):
            raise Refused("notFound", "there is nothing at this address", status=404)
        body = await self._page(request)
        request.setResponseCode(404)
        return body

    def _static(self, request: IRequest, version: str, name: str) -> bytes:
        file = self._files.get(name)
        if file is None:
            raise Refused("notFound", "there is no such file", status=404)
        # An older page, or one of another server behind the same proxy, gets what is there now.
        same = version == self._version
        return self._serve(request, file, FOR_EVER if same else "no-cache")

    def _icon(self, request: IRequest) -> bytes:
        """Browsers ask for it by this name, beside the page."""
        return self._serve(request, self._files["icon.svg"], "public, max-age=86400")

    def _serve(self, request: IRequest, file: File, caching: str) -> bytes:
        request.setHeader(b"cache-control", caching.encode())
        request.setHeader(b"cross-origin-resource-policy", b"same-origin")
        request.setHeader(b"vary", b"accept-encoding")
        request.setETag(file.tag.encode())
        return _body(request, file)

    def _at(self, name: str) -> str:
        return f"/static/{self._version}/{name}"

    def _document(self, chosen: str) -> Tag:
        said, look = self._words[chosen], self._look
        logo = [tags.img(src=self._at("logo"), alt="")] if look.logo else []
        line = [tags.p(look.text)] if look.text else []
        preload = {"rel": "modulepreload", "href": self._at(f"texts.{chosen}.js")}
        script = [tags.link(**preload), tags.script(type="module", src=self._at("bundle.js"))]
        content = [
            Tag("noscript")(tags.h1(look.title), tags.p(said["noscript"], class_="note")),
            tags.p(said["oldBrowser"], class_="note late"),
        ]
        if not self._enabled:
            script = []
            closed = said["faults"][faults.DOOR_CLOSED.name]
            content = [tags.h1(look.title), tags.p(closed, class_="note")]
        return tags.html(
            tags.head(
                tags.meta(charset="utf-8"),
                tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
                tags.meta(name="color-scheme", content="light dark"),
                tags.title(look.title),
                tags.link(rel="icon", type="image/svg+xml", href=self._at("icon.svg")),
                tags.link(rel="stylesheet", href=self._at("bundle.css")),
                *script,
            ),
            tags.body(
                tags.a(said["skip"], href="#content", class_="skip"),
                tags.header(tags.a(*logo, tags.span(look.title), href="/")),
                tags.div(id="banner", hidden="hidden"),
                Tag("main")(*content, id="content"),
                tags.footer(*line, tags.p(said["encryption"])),
                tags.div(id="announcer", role="status", class_="away"),
            ),
            lang=chosen,
            **{"data-domain": self._domain, "data-title": look.title},
        )


def _body(request: IRequest, file: File) -> bytes:
    request.setHeader(b"content-type", file.media_type.encode())
    body = file.body
    if file.packed and _takes_gzip(messages.header(request, "accept-encoding")):
        request.setHeader(b"content-encoding", b"gzip")
        body = file.packed
    request.setHeader(b"content-length", str(len(body)).encode())
    return body


def _takes_gzip(accepted: str | None) -> bool:
    for entry in (accepted or "").lower().split(","):
        coding, _, parameter = entry.partition(";")
        if coding.strip() == "gzip":
            return re.fullmatch(r"\s*q=0(\.0*)?\s*", parameter) is None
    return False
