"""How programs find the WebSocket: host-meta and host-meta.json (XEP-0156, RFC 6415)."""

from __future__ import annotations

import json
from typing import Final
from xml.sax.saxutils import quoteattr

from cms.web.messages import Raw

RELATION: Final = "urn:xmpp:alt-connections:websocket"  # XEP-0156 2.2
_XRD: Final = "http://docs.oasis-open.org/ns/xri/xrd-1.0"
_ANY_SITE: Final = {"access-control-allow-origin": "*"}  # XEP-0156 3.1


def as_xrd(address: str) -> Raw:
    """@param address: Of the WebSocket."""
    link = f"<Link rel='{RELATION}' href={quoteattr(address)}/>"
    body = f"<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='{_XRD}'>{link}</XRD>\n"
    return Raw(body.encode(), "application/xrd+xml; charset=utf-8", headers=_ANY_SITE)


def as_jrd(address: str) -> Raw:
    """@param address: Of the WebSocket."""
    body = json.dumps({"links": [{"rel": RELATION, "href": address}]})
    return Raw(body.encode(), "application/json", headers=_ANY_SITE)
