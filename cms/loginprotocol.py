"""
What the two halves say to each other about log-ins: docs/login-protocol.md.

Each message is a value with a form as an XML element; the elements are the
children of IQ stanzas on the link.  No role is imported here, and nothing
shows a SASL payload in its repr.
"""

from __future__ import annotations

import base64
import binascii
from typing import ClassVar, Final

from attrs import field, frozen
from twisted.words.xish.domish import Element

from cms.xmlstream.jid import MalformedJID, parse_jid

NS: Final = "urn:x-cms:login:1"  # the number is the version of the protocol
MOST_PAYLOAD = 4_096  # bytes of one SASL step
MOST_EXCHANGE = 64  # characters

# RFC 6120 6.5
CONDITIONS = frozenset(
    {
        "aborted",
        "account-disabled",
        "credentials-expired",
        "encryption-required",
        "incorrect-encoding",
        "invalid-authzid",
        "invalid-mechanism",
        "malformed-request",
        "mechanism-too-weak",
        "not-authorized",
        "temporary-auth-failure",
    }
)
REASONS = frozenset({"closed", "lost", "replaced", "error", "shutdown"})


class MalformedLogin(ValueError):
    """An element is no message of this protocol."""


def _element(name: str, payload: bytes | None = None, **attributes: str | None) -> Element:
    element = Element((NS, name))
    for key, value in attributes.items():
        if value is not None:
            element[key.replace("_", "-")] = value
    if payload is not None:
        element.addContent(base64.b64encode(payload).decode() or "=")
    return element


@frozen
class AskMechanisms:
    """Server to Callbridge: which SASL mechanisms do you decide?"""

    def to_element(self) -> Element:
        """As the child of an IQ C{get}."""
        return _element("mechanisms")


@frozen
class Mechanisms:
    """The Callbridge's answer."""

    names: tuple[str, ...]

    def to_element(self) -> Element:
        """As the child of an IQ C{result}."""
        element = _element("mechanisms")
        for name in self.names:
            element.addElement("mechanism", content=name)
        return element


@frozen
class Start:
    """
    Server to Callbridge: a client began an exchange.

    @ivar exchange: Names the exchange on this link.
    @ivar payload: The initial response, C{None} when the client sent none.
    @ivar peer: The client's IP address.
    @ivar channel_binding: Type and data, whenever the connection has them:
        then mechanisms with -PLUS were offered to the client.
    """

    exchange: str
    mechanism: str
    payload: bytes | None = field(repr=False)
    peer: str
    channel_binding: tuple[str, bytes] | None = field(default=None, repr=False)

    def to_element(self) -> Element:
        """As the child of an IQ C{set}."""
        type_, data = self.channel_binding or (None, b"")
        return _element(
            "start",
            self.payload,
            exchange=self.exchange,
            mechanism=self.mechanism,
            peer=self.peer,
            channel_binding_type=type_,
            channel_binding=base64.b64encode(data).decode() if type_ else None,
        )


@frozen
class _Step:
    """A message that carries a payload in an exchange."""

    name: ClassVar[str]
    exchange: str
    payload: bytes | None = field(repr=False)

    def to_element(self) -> Element:
        """As the child of an IQ."""
        return _element(self.name, self.payload, exchange=self.exchange)


@frozen
class Response(_Step):
    """Server to Callbridge: the client's next response."""

    name: ClassVar[str] = "response"


@frozen
class Challenge(_Step):
    """Callbridge to server: the exchange goes on."""

    name: ClassVar[str] = "challenge"


@frozen
class Abort:
    """Server to Callbridge: the client gave up, or is gone."""

    exchange: str

    def to_element(self) -> Element:
        """As the child of an IQ C{set}."""
        return _element("abort", exchange=self.exchange)


@frozen
class Success:
    """
    Callbridge to server: the client is who it says.

    @ivar jid: The bare address that it may use.
    @ivar payload: Additional data for the client (RFC 6120 6.4.6).
    """

    exchange: str
    jid: str
    payload: bytes | None = field(default=None, repr=False)

    def to_element(self) -> Element:
        """As the child of an IQ C{result}."""
        return _element("success", self.payload, exchange=self.exchange, jid=self.jid)


@frozen
class Failed:
    """Callbridge to server: no."""

    exchange: str
    condition: str
    text: str | None = None

    def to_element(self) -> Element:
        """As the child of an IQ C{result}."""
        element = _element("failure", exchange=self.exchange)
        element.addElement(self.condition)
        if self.text:
            element.addElement("text", content=self.text)
        return element


@frozen
class SessionBegin:
    """
    Server to Callbridge: a client bound a resource.

    @ivar jid: The full address.
    @ivar since: ISO 8601, UTC.
    @ivar resumed: The session is older than the link.
    """

    jid: str
    peer: str
    since: str
    resumed: bool = False

    def to_element(self) -> Element:
        """As the child of an IQ C{set}."""
        resumed = "true" if self.resumed else None
        return _element(
            "session-begin", jid=self.jid, peer=self.peer, since=self.since, resumed=resumed
        )


@frozen
class SessionEnd:
    """
    Server to Callbridge: a session is over.

    @ivar reason: One of L{REASONS}.
    """

    jid: str
    reason: str

    def to_element(self) -> Element:
        """As the child of an IQ C{set}."""
        return _element("session-end", jid=self.jid, reason=self.reason)


Message = (
    AskMechanisms
    | Mechanisms
    | Start
    | Response
    | Challenge
    | Abort
    | Success
    | Failed
    | SessionBegin
    | SessionEnd
)


def parse(element: Element | None) -> Message:
    """
    Read a message.

    @raise MalformedLogin: with a plain sentence, for anything that is none.
    """
    if element is None or element.uri != NS or element.name not in _READERS:
        raise MalformedLogin("no element of this protocol version")
    return _READERS[element.name](element)


def _mechanisms(element: Element) -> Message:
    names = tuple(str(child) for child in element.elements(NS, "mechanism"))
    return Mechanisms(names) if names else AskMechanisms()


def _start(element: Element) -> Message:
    type_ = element.getAttribute("channel-binding-type")
    data = element.getAttribute("channel-binding")
    if (type_ is None) != (data is None):
        raise MalformedLogin("channel binding has a type and data, or neither")
    return Start(
        exchange=_exchange(element),
        mechanism=_attribute(element, "mechanism"),
        payload=_payload(element),
        peer=_attribute(element, "peer"),
        channel_binding=None if type_ is None else (type_, _base64(data or "")),
    )


def _success(element: Element) -> Message:
    return Success(_exchange(element), _jid(element, full=False), _payload(element))


def _failure(element: Element) -> Message:
    found = [child.name for child in element.elements(NS) if child.name in CONDITIONS]
    if len(found) != 1:
        raise MalformedLogin("a failure has one condition of RFC 6120 6.5")
    text = next((str(child) for child in element.elements(NS, "text")), None)
    return Failed(_exchange(element), found[0], text)


def _session_begin(element: Element) -> Message:
    return SessionBegin(
        jid=_jid(element, full=True),
        peer=_attribute(element, "peer"),
        since=_attribute(element, "since"),
        resumed=element.getAttribute("resumed") == "true",
    )


def _session_end(element: Element) -> Message:
    reason = _attribute(element, "reason")
    if reason not in REASONS:
        raise MalformedLogin("the reason is none of this protocol version")
    return SessionEnd(_jid(element, full=True), reason)


_READERS = {
    "mechanisms": _mechanisms,
    "start": _start,
    "response": lambda element: Response(_exchange(element), _payload(element)),
    "challenge": lambda element: Challenge(_exchange(element), _payload(element)),
    "abort": lambda element: Abort(_exchange(element)),
    "success": _success,
    "failure": _failure,
    "session-begin": _session_begin,
    "session-end": _session_end,
}


def _attribute(element: Element, name: str) -> str:
    value = element.getAttribute(name)
    if not value:
        raise MalformedLogin(f"{name} is missing")
    return str(value)


def _exchange(element: Element) -> str:
    exchange = _attribute(element, "exchange")
    if len(exchange) > MOST_EXCHANGE:
        raise MalformedLogin("the exchange has too long a name")
    return exchange


def _payload(element: Element) -> bytes | None:
    text = str(element)
    if not text:
        return None
    return b"" if text == "=" else _base64(text)


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedLogin("the payload is not base64") from None
    if len(data) > MOST_PAYLOAD:
        raise MalformedLogin("the payload is too long")
    return data


def _jid(element: Element, *, full: bool) -> str:
    try:
        jid = parse_jid(_attribute(element, "jid"))
    except MalformedJID:
        raise MalformedLogin("the jid does not prepare") from None
    if jid.user is None or (jid.resource is not None) != full:
        raise MalformedLogin(f"the jid is not a {'full' if full else 'bare'} user address")
    return str(jid.full())
