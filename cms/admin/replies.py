"""The answers of operations, in two forms: XML as existing API clients expect, and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET  # only to write

from attrs import evolve, frozen

from cms.admin.interfaces import Facts
from cms.web.messages import Raw
from cms.web.refusal import Refused

XML, JSON = "text/xml; charset=utf-8", "application/json"
DECLARATION = b'<?xml version="1.0"?>'
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# XML 1.0 2.2 has no other characters; a bare CR would be read as LF.
_NOT_XML = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@frozen
class Document:
    """One object."""

    name: str
    facts: Facts
    id: str | None = None


@frozen
class Listing:
    """
    A part of a list.

    @ivar name: Of the list, such as C{callBridges}; C{item} is that of one.
    """

    name: str
    item: str
    items: Sequence[tuple[str | None, Facts]]
    total: int


@frozen
class Done:
    """
    Success with an empty body, unless there is something to show once.

    @ivar location: Of what was made.
    """

    location: str | None = None
    document: Document | None = None


Reply = Document | Listing | Done | Raw


def to_raw(reply: Reply, *, as_json: bool) -> Raw:
    """The reply as it is sent."""
    if isinstance(reply, Raw):
        return reply
    if isinstance(reply, Done):
        made = {} if reply.location is None else {"location": reply.location}
        if reply.document is None:
            return Raw(b"", XML, headers=made)
        return evolve(to_raw(reply.document, as_json=as_json), headers=made)
    return Raw(to_json(reply), JSON) if as_json else Raw(to_xml(reply), XML)


def refusal(refused: Refused, *, as_json: bool) -> Raw:
    """A refusal likewise."""
    body = failure_json(refused) if as_json else failure_xml(refused.reason)
    return Raw(body, JSON if as_json else XML, refused.status, refused.headers)


def to_xml(reply: Document | Listing) -> bytes:
    """The reply as XML, with the declaration that existing API clients need."""
    if isinstance(reply, Document):
        root = ET.Element(reply.name)
        if reply.id is not None:
            root.set("id", clean(reply.id))
        _fill(root, reply.facts)
    else:
        root = ET.Element(reply.name, total=str(reply.total))
        for id_, facts in reply.items:
            child = ET.SubElement(root, reply.item)
            if id_ is not None:
                child.set("id", clean(id_))
            _fill(child, facts)
    return DECLARATION + ET.tostring(root, encoding="unicode").encode()


def _fill(element: ET.Element, facts: Facts) -> None:
    for key, value in facts.items():
        if value is None:
            continue
        if _NAME.fullmatch(key):
            child = ET.SubElement(element, key)
        else:
            child = ET.SubElement(element, "entry", name=clean(key))
        _set(child, key, value)


def _set(element: ET.Element, key: str, value: Any) -> None:
    if isinstance(value, Mapping):
        _fill(element, value)
    elif isinstance(value, list | tuple):
        for item in value:
            _set(ET.SubElement(element, singular(key)), key, item)
    else:
        element.text = text(value)


def singular(name: str) -> str:
    """The name of an item of a list."""
    one = name.removesuffix("s")
    return one if one != name and _NAME.fullmatch(one) else "item"


def text(value: Any) -> str:
    """A plain value as text in XML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(str(value))


def clean(value: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", value)


def to_json(reply: Document | Listing) -> bytes:
    """The same as JSON."""
    plain: Any
    if isinstance(reply, Document):
        plain = {reply.name: _with_id(reply.id, reply.facts)}
    else:
        items = [_with_id(id_, facts) for id_, facts in reply.items]
        plain = {reply.name: {"total": reply.total, reply.item: items}}
    return json.dumps(plain).encode()


def _with_id(id_: str | None, facts: Facts) -> dict[str, Any]:
    given = {} if id_ is None else {"id": id_}
    return {**given, **_known(facts)}


def _known(value: Any) -> Any:
    """The value without C{None}s, which XML does not show either."""
    if isinstance(value, Mapping):
        return {key: _known(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_known(item) for item in value]
    return value


def failure_xml(reason: str) -> bytes:
    """
    The details of a failure.  Existing API clients cut 38 characters in front and 20 behind
    to get the reason, so the framing must be exactly this.
    """
    return DECLARATION + f"<failureDetails><{reason} /></failureDetails>".encode()


def failure_json(refused: Refused) -> bytes:
    """The same as JSON, with cause and cure."""
    details = {
        "reason": refused.reason,
        "parameter": refused.parameter,
        "cause": refused.cause,
        "cure": refused.cure,
    }
    return json.dumps({"failureDetails": {k: v for k, v in details.items() if v}}).encode()
