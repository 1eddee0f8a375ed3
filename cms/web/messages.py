"""Values from a Twisted request, and answers to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen
from twisted.web.iweb import IRequest

from cms.web.refusal import Refused

REQUEST_ID = b"x-request-id"
# For every answer; pages replace the policy by one for pages.
SAFE_HEADERS = {
    b"server": b"cms",
    b"cache-control": b"no-store",
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
}


@frozen
class Raw:
    """Bytes that are sent as they are."""

    body: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)


def header(request: IRequest, name: str) -> str | None:
    """A header of the request; of several the first."""
    values: Any = request.requestHeaders.getRawHeaders(name)
    return str(values[0]) if values else None


def query_of(request: IRequest) -> bytes:
    """What follows the question mark of its address."""
    query: bytes = request.uri.partition(b"?")[2]
    return query


def host_of(request: IRequest) -> str:
    """The client's address; C{local} for a UNIX socket."""
    return str(getattr(request.getClientAddress(), "host", None) or "local")


def request_id(request: IRequest) -> str:
    """The ID of this request, which all its log lines hold."""
    values = request.responseHeaders.getRawHeaders(REQUEST_ID)
    return values[0].decode() if values else "-"


def set_account(request: Any, name: str) -> None:
    """Remember the account of a request."""
    request.cms_account = name


def account(request: IRequest) -> str:
    """The account of a request; C{-} if none is needed."""
    return str(getattr(request, "cms_account", "-"))


def trust_peer(request: Any) -> None:
    """The peer is authenticated: its connection is not replaced (L{cms.protection.connections})."""
    trust = getattr(getattr(request.channel, "transport", None), "trust_peer", None)
    if trust is not None:  # a connection of a listener
        trust()


def check_origin(request: IRequest) -> None:
    """
    Refuse a form that a page of another site sent: the browser would add the log-in to it.

    @raise Refused: with status 403.
    """
    if request.method in (b"GET", b"HEAD"):
        return
    origin, host = header(request, "origin"), header(request, "host")
    if origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower():
        raise _cross_site()
    check_same_site(request)


def check_same_site(request: IRequest) -> None:
    """
    @raise Refused: the browser says that a page of another site asks (status 403).
    """
    if header(request, "sec-fetch-site") in ("cross-site", "same-site"):
        raise _cross_site()


def _cross_site() -> Refused:
    return Refused("crossSite", "a page of another site sent this request", status=403)


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


def answer(request: IRequest, raw: Raw) -> bytes:
    """Set status and headers, and give the body."""
    request.setResponseCode(raw.status)
    for name, value in raw.headers.items():
        request.setHeader(name.encode(), value.encode())
    request.setHeader(b"content-type", raw.content_type.encode())
    request.setHeader(b"content-length", str(len(raw.body)).encode())
    request.setHeader(b"vary", b"accept")
    return raw.body
