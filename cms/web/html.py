"""Common parts of all pages: the security policy, and static files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.template import flattenString

from cms.web.refusal import Refused

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    b"content-security-policy": POLICY.encode(),
    # With "no-referrer" a browser would send a form with "Origin: null".
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
HTML = "text/html; charset=utf-8"


async def flat(content: Any) -> str:
    """HTML as text."""
    flattened: Deferred[bytes] = flattenString(None, content)
    return (await flattened).decode()


def serve_files(app: Klein, folder: Path, types: Mapping[str, str]) -> None:
    """
    Serve files of a folder below C{/static/}.

    @param types: The names of those that are served, each with its content type.
    """

    def file(request: IRequest, name: str) -> bytes:
        if name not in types:
            raise Refused("notFound", "there is no such file", status=404)
        request.setHeader(b"content-type", types[name].encode())
        request.setHeader(b"cross-origin-resource-policy", b"same-origin")
        return (folder / name).read_bytes()

    app.route("/static/<name>", methods=["GET"], endpoint="static")(file)
