"""Between a Twisted request and what the operations speak: values in, bytes out."""

from __future__ import annotations

from typing import Any

from twisted.web.iweb import IRequest

from cms.admin import replies
from cms.admin.interfaces import Refused
from cms.admin.replies import Document, Done, Listing, Raw, Reply

REQUEST_ID = b"x-request-id"
# For every answer; whoever serves pages replaces the policy by one for pages.
SAFE_HEADERS = {
    b"server": b"cms",
    b"cache-control": b"no-store",
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
}


def header(request: IRequest, name: str) -> str | None:
    """A header of the request; of several the first."""
    values: Any = request.requestHeaders.getRawHeaders(name)
    return str(values[0]) if values else None


def request_id(request: IRequest) -> str:
    """What ties together the lines of the log about this request."""
    values = request.responseHeaders.getRawHeaders(REQUEST_ID)
    return values[0].decode() if values else "-"


def set_account(request: Any, name: str) -> None:
    """Note whose log-in a request came with."""
    request.cms_account = name


def account(request: IRequest) -> str:
    """Whose log-in a request came with; C{-} where none is needed."""
    return str(getattr(request, "cms_account", "-"))


def wants_json(accept: str | None) -> bool:
    """Whether a client asks for JSON, and for XML no more than that (RFC 9110 12.5.1)."""
    weights: dict[str, float] = {}
    for entry in (accept or "").lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        weights[kind] = _weight(parameters)
    xml = max(weights.get("text/xml", 0.0), weights.get("application/xml", 0.0))
    return 0.0 < weights.get("application/json", 0.0) >= xml


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def render(request: IRequest, reply: Reply) -> bytes:
    """Set status and headers for a reply, and give its body."""
    if isinstance(reply, Done):
        if reply.location is not None:
            request.setHeader(b"location", reply.location.encode())
        if reply.document is None:
            return _body(request, b"", replies.XML)
        return render(request, reply.document)
    if isinstance(reply, Raw):
        request.setResponseCode(reply.status)
        for name, value in reply.headers.items():
            request.setHeader(name.encode(), value.encode())
        return _body(request, reply.body, reply.content_type)
    return _render_facts(request, reply)


def _render_facts(request: IRequest, reply: Document | Listing) -> bytes:
    if wants_json(header(request, "accept")):
        return _body(request, replies.to_json(reply), replies.JSON)
    return _body(request, replies.to_xml(reply), replies.XML)


def refuse(request: IRequest, refused: Refused) -> bytes:
    """Set status and headers for a refusal, and give its body."""
    request.setResponseCode(refused.status)
    for name, value in refused.headers.items():
        request.setHeader(name.encode(), value.encode())
    if wants_json(header(request, "accept")):
        return _body(request, replies.failure_json(refused), replies.JSON)
    return _body(request, replies.failure_xml(refused.reason), replies.XML)


def _body(request: IRequest, body: bytes, content_type: str) -> bytes:
    request.setHeader(b"content-type", content_type.encode())
    request.setHeader(b"content-length", str(len(body)).encode())
    request.setHeader(b"vary", b"accept")
    return body
