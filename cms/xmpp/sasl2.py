"""The elements of SASL2 (XEP-0388), with what a client may ask for in them (XEP-0386, XEP-0198)."""

from __future__ import annotations

import base64
import re
from functools import partial
from typing import Final

from attrs import frozen
from twisted.words.xish.domish import Element

from cms.xmlstream import managementelements as elements
from cms.xmlstream import ns
from cms.xmlstream.managementelements import Resume
from cms.xmlstream.serialize import escape_text
from cms.xmpp import carbons, csi, sasl

# XEP-0388 2.3 has no other versions: those may be guessed from a host's name.
_UUID4: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_GS2_AUTHZID: Final = re.compile(rb"[^,]*,a=")


@frozen
class Bind:
    """
    A C{bind} of Bind 2 (XEP-0386).

    @ivar tag: What the resource begins with; may be empty.
    @ivar manages: Whether the stream is to be managed.
    @ivar resumable: Whether the session is to be resumable then.
    @ivar inactive: Whether nobody looks at the client (XEP-0352).
    @ivar copies: Whether it wants copies of the messages of the account (XEP-0280).
    """

    tag: str
    manages: bool
    resumable: bool
    inactive: bool
    copies: bool


@frozen
class Request:
    """
    What an C{authenticate} element asks for when the client is logged in.

    @ivar agent: The C{id} of the client's installation, if it is a UUID as it must be.
    @ivar resumes: Whether it asks for a session that it had.
    @ivar resume: Which; C{None} if that cannot be told.
    @ivar names_account: Whether the SASL payload has an authorization identity.
    """

    agent: str | None = None
    bind: Bind | None = None
    resumes: bool = False
    resume: Resume | None = None
    names_account: bool = False


def read(element: Element) -> tuple[bytes | None, Request]:
    """
    The initial response of an C{authenticate} element, C{None} when there is none, and the rest.

    Elements that are not known are passed over.

    @raise sasl.Unreadable: it is not clear what is asked for.
    """
    known: dict[tuple[str | None, str], Element] = {}
    for child in element.elements():
        name = child.uri, child.name
        if name in known and name in _ONCE:
            raise sasl.MalformedRequest
        known[name] = child
    initial, agent, asked, again = map(known.get, _ONCE)
    payload = None if initial is None else sasl.decode(initial) or b""
    request = Request(
        agent=None if agent is None else _agent(agent),
        bind=None if asked is None else _bind(asked),
        resumes=again is not None,
        resume=None if again is None else elements.resume(again),
        names_account=_names_account(element.getAttribute("mechanism"), payload),
    )
    return payload, request


_ONCE: Final = (
    (ns.SASL2, "initial-response"),
    (ns.SASL2, "user-agent"),
    (ns.BIND2, "bind"),
    (ns.MANAGEMENT, "resume"),
)


def _agent(element: Element) -> str | None:
    identifier = (element.getAttribute("id") or "").lower()
    return identifier if _UUID4.fullmatch(identifier) else None


def _bind(element: Element) -> Bind:
    known = {(child.uri, child.name): child for child in element.elements()}
    tag, enable = known.get((ns.BIND2, "tag")), known.get((ns.MANAGEMENT, "enable"))
    return Bind(
        tag="" if tag is None else str(tag),
        manages=enable is not None,
        resumable=enable is not None and elements.wants_resumption(enable),
        inactive=(csi.NS, "inactive") in known,
        copies=(carbons.NS, "enable") in known,
    )


def _names_account(mechanism: str | None, payload: bytes | None) -> bool:
    if not payload:
        return False
    if mechanism == "PLAIN":  # RFC 4616 2
        return not payload.startswith(b"\0")
    return _GS2_AUTHZID.match(payload) is not None  # RFC 5801 4


def challenge(payload: bytes | None) -> bytes:
    """A C{challenge} element."""
    return f"<challenge xmlns='{ns.SASL2}'>{_text(payload or b'')}</challenge>".encode()


def success(payload: bytes | None, address: str, results: bytes) -> bytes:
    """
    A C{success} element.

    @param payload: Data of the mechanism, if there are any.
    @param address: Who is logged in: the full address, if it is bound.
    @param results: The elements that answer what was asked for beside.
    """
    data = "" if payload is None else f"<additional-data>{_text(payload)}</additional-data>"
    who = f"<authorization-identifier>{escape_text(address)}</authorization-identifier>"
    return f"<success xmlns='{ns.SASL2}'>{data}{who}".encode() + results + b"</success>"


def bound(results: bytes) -> bytes:
    """The answer to C{bind}, with answers to what is in it."""
    return f"<bound xmlns='{ns.BIND2}'>".encode() + results + b"</bound>"


failure = partial(sasl.failure, namespace=ns.SASL2)


def _text(payload: bytes) -> str:
    return base64.b64encode(payload).decode()
