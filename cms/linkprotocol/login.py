"""
The messages of the log-in protocol (docs/login-protocol.md).

Each message is a value with a form as an XML element; the elements are the
children of IQ stanzas on the link.  No role is imported here, and nothing
shows a SASL payload in its repr.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import ClassVar, Final, TypeVar

from attrs import field, frozen
from twisted.words.xish.domish import Element

from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import escape_text, quote_attribute

NS: Final = "urn:x-cms:login:1"  # the number is the version of the protocol
MOST_PAYLOAD = 4_096  # bytes of one SASL step
MOST_TEXT = 1_024  # characters of a failure's text
MOST_WAIT = 999_999  # seconds
MOST_MECHANISMS = 32
MOST_NOTICES = 100  # in one message

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
REASONS = frozenset({"closed", "lost", "replaced", "error", "shutdown", "link"})

_EXCHANGE = re.compile(r"[!-~]{1,64}")
_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 3.1
_BINDING_TYPE = re.compile(r"[A-Za-z0-9.-]{1,64}")  # RFC 5056 7.1
_PEER = re.compile(r"[!-~]{1,255}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_USER = re.compile(r"[^\x00-\x1f]{1,1023}")
_WAIT = re.compile(r"[0-9]{1,6}", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_A = TypeVar("_A")


class MalformedLogin(ValueError):
    """An element is no message of this protocol."""


def _xml(name: str, payload: bytes | None, attributes: Mapping[str, str]) -> str:
    start = f"<{name} xmlns='{NS}'"
    for key, value in attributes.items():
        start += f" {key}={quote_attribute(value)}"
    if payload is None:
        return f"{start}/>"
    text = base64.b64encode(payload).decode() or "="
    return f"{start}>{text}</{name}>"


@frozen
class AskMechanisms:
    """Server to Callbridge: which SASL mechanisms do you support?"""

    def to_xml(self) -> str:
        """As the child of an IQ C{get}."""
        return _xml("mechanisms", None, {})


@frozen
class Mechanisms:
    """
    The Callbridge's answer.

    @ivar admits: It can be asked to admit guests (L{cms.linkprotocol.join}).
    @ivar people: It can be asked who somebody is (L{cms.linkprotocol.people}).
    """

    names: tuple[str, ...]
    admits: bool = False
    people: bool = False

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        names = "".join(f"<mechanism>{escape_text(name)}</mechanism>" for name in self.names)
        able = " admits='true'" if self.admits else ""
        able += " people='true'" if self.people else ""
        return f"<mechanisms xmlns='{NS}'{able}>{names}</mechanisms>"


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

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        binding: dict[str, str] = {}
        if self.channel_binding is not None:
            type_, data = self.channel_binding
            binding = {
                "channel-binding-type": type_,
                "channel-binding": base64.b64encode(data).decode(),
            }
        own = {"exchange": self.exchange, "mechanism": self.mechanism, "peer": self.peer}
        return _xml("start", self.payload, {**own, **binding})


@frozen
class _Step:
    """A message that carries a payload in an exchange."""

    name: ClassVar[str]
    exchange: str
    payload: bytes | None = field(repr=False)

    def to_xml(self) -> str:
        """As the child of an IQ."""
        return _xml(self.name, self.payload, {"exchange": self.exchange})


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

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        return _xml("abort", None, {"exchange": self.exchange})


@frozen
class Success:
    """
    Callbridge to server: the client is who it says.

    @ivar jid: The bare address that it may use.
    @ivar payload: Additional data for the client (RFC 6120 6.4.6).
    @ivar guest: It is a guest, and has one session at a time.
    """

    exchange: str
    jid: str
    payload: bytes | None = field(default=None, repr=False)
    guest: bool = False

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        guest = {"guest": "true"} if self.guest else {}
        own = {"exchange": self.exchange, "jid": self.jid}
        return _xml("success", self.payload, {**own, **guest})


@frozen
class Failed:
    """
    Callbridge to server: no.

    @ivar undecided: The client did nothing wrong; the Callbridge could not decide.
    @ivar wait: Seconds for which no proof of this user is looked at, because too many were
        wrong; 0 otherwise.
    @ivar user: Who wanted to log in, for the server's operator; of a name that nobody has, a part.
    """

    exchange: str
    condition: str
    text: str | None = None
    undecided: bool = False
    wait: int = 0
    user: str = ""

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        text = f"<text>{escape_text(self.text)}</text>" if self.text else ""
        exchange = quote_attribute(self.exchange)
        undecided = " undecided='true'" if self.undecided else ""
        wait = f" wait='{self.wait}'" if self.wait else ""
        user = f" user={quote_attribute(self.user)}" if self.user else ""
        inside, more = f"<{self.condition}/>{text}", f"{undecided}{wait}{user}"
        return f"<failure xmlns='{NS}' exchange={exchange}{more}>{inside}</failure>"


@frozen
class SessionBegin:
    """
    Server to Callbridge: a client bound a resource.

    @ivar jid: The full address.
    @ivar since: ISO 8601 with its time zone, such as C{2026-11-24T12:00:00Z}.
    @ivar resumed: The session is older than the link.
    """

    jid: str
    peer: str
    since: str
    resumed: bool = False

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        resumed = {"resumed": "true"} if self.resumed else {}
        own = {"jid": self.jid, "peer": self.peer, "since": self.since}
        return _xml("session-begin", None, {**own, **resumed})


@frozen
class SessionEnd:
    """
    Server to Callbridge: a session is over.

    @ivar reason: One of L{REASONS}.
    """

    jid: str
    reason: str

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        return _xml("session-end", None, {"jid": self.jid, "reason": self.reason})


@frozen
class Sessions:
    """
    Server to Callbridge: begins and ends of sessions, in their order.

    @ivar notices: At least one, at most L{MOST_NOTICES}.
    """

    notices: tuple[SessionBegin | SessionEnd, ...]

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        return f"<sessions xmlns='{NS}'>{''.join(n.to_xml() for n in self.notices)}</sessions>"


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
    | Sessions
)


def parse(element: Element | None) -> Message:
    """
    Read a message.

    @raise MalformedLogin: with a plain sentence that repeats nothing of the
        element, for anything that is none.
    """
    if element is None or element.uri != NS or element.name not in _READERS:
        raise MalformedLogin("no element of this protocol version")
    return _READERS[element.name](element)


def _mechanisms(element: Element) -> Message:
    names = tuple(_text(child) for child in _children(element, "mechanism"))
    if len(names) > MOST_MECHANISMS or not all(map(_MECHANISM.fullmatch, names)):
        raise MalformedLogin("the mechanisms are not a short list of SASL names")
    able = _truth(element, "admits"), _truth(element, "people")
    return Mechanisms(names, *able) if names else AskMechanisms()


def _start(element: Element) -> Message:
    type_ = element.getAttribute("channel-binding-type")
    data = element.getAttribute("channel-binding")
    if (type_ is None) != (data is None):
        raise MalformedLogin("channel binding has a type and data, or neither")
    binding = None
    if data is not None:
        binding = (attribute(element, "channel-binding-type", _BINDING_TYPE), _base64(data))
    return Start(
        exchange=_exchange(element),
        mechanism=attribute(element, "mechanism", _MECHANISM),
        payload=_payload(element),
        peer=attribute(element, "peer", _PEER),
        channel_binding=binding,
    )


def _success(element: Element) -> Message:
    jid = _jid(element, full=False)
    guest = element.hasAttribute("guest") and _truth(element, "guest")
    return Success(_exchange(element), jid, _payload(element), guest)


def _failure(element: Element) -> Message:
    conditions = [child.name for child in _children(element, *CONDITIONS, "text")]
    texts = [_text(child) for child in element.elements(NS, "text")]
    if len(texts) > 1 or len(conditions) - len(texts) != 1:
        raise MalformedLogin("a failure has one condition and at most one text")
    if texts and len(texts[0]) > MOST_TEXT:
        raise MalformedLogin("the text is too long")
    (condition,) = (name for name in conditions if name != "text")
    return Failed(
        _exchange(element),
        condition,
        (texts or [""])[0] or None,
        _truth(element, "undecided"),
        int(attribute(element, "wait", _WAIT)) if element.hasAttribute("wait") else 0,
        attribute(element, "user", _USER) if element.hasAttribute("user") else "",
    )


def _session_begin(element: Element) -> SessionBegin:
    since = attribute(element, "since", _TIME)
    resumed = element.hasAttribute("resumed") and _truth(element, "resumed")
    try:
        datetime.fromisoformat(since)
    except ValueError:
        raise MalformedLogin("since is no time") from None
    return SessionBegin(
        jid=_jid(element, full=True),
        peer=attribute(element, "peer", _PEER),
        since=since,
        resumed=resumed,
    )


def _session_end(element: Element) -> SessionEnd:
    reason = element.getAttribute("reason")
    if reason not in REASONS:
        raise MalformedLogin("the reason is none of this protocol version")
    return SessionEnd(_jid(element, full=True), reason)


def _sessions(element: Element) -> Message:
    children = _children(element, "session-begin", "session-end")
    if not 0 < len(children) <= MOST_NOTICES:
        raise MalformedLogin("it holds no notice, or too many")
    notices = tuple(
        _session_begin(child) if child.name == "session-begin" else _session_end(child)
        for child in children
    )
    return Sessions(notices)


_READERS: Final[dict[str, Callable[[Element], Message]]] = {
    "mechanisms": _mechanisms,
    "start": _start,
    "response": lambda element: Response(_exchange(element), _payload(element)),
    "challenge": lambda element: Challenge(_exchange(element), _payload(element)),
    "abort": lambda element: Abort(_exchange(element)),
    "success": _success,
    "failure": _failure,
    "session-begin": _session_begin,
    "session-end": _session_end,
    "sessions": _sessions,
}


def expect(message: object, kind: type[_A]) -> _A:
    """
    A message that answers, of any of these protocols.

    @param kind: Of the answer.
    @raise MalformedLogin: it is of another.
    """
    if not isinstance(message, kind):
        raise MalformedLogin("it is no answer")
    return message


def attribute(element: Element, name: str, form: re.Pattern[str]) -> str:
    """
    An attribute in its form.

    @raise MalformedLogin: it is missing, or has another.
    """
    value = element.getAttribute(name)
    if value is None:
        raise MalformedLogin(f"{name} is missing")
    if not form.fullmatch(value):
        raise MalformedLogin(f"{name} does not have its form")
    return str(value)


def _truth(element: Element, name: str) -> bool:
    value = element.getAttribute(name, "false")
    if value not in _BOOLEANS:
        raise MalformedLogin(f"{name} is true or false")
    return _BOOLEANS[value]


def _exchange(element: Element) -> str:
    return attribute(element, "exchange", _EXCHANGE)


def _children(element: Element, *names: str) -> list[Element]:
    """The child elements, which all have one of these names."""
    children = [child for child in element.children if isinstance(child, Element)]
    if any(child.uri != NS or child.name not in names for child in children):
        raise MalformedLogin("it holds an element that does not belong there")
    return children


def _text(element: Element) -> str:
    """All of the text: C{str(element)} would be the first piece of it."""
    for child in element.children:
        if isinstance(child, Element):
            raise MalformedLogin("there is an element where text belongs")
    return "".join(map(str, element.children))


def _payload(element: Element) -> bytes | None:
    text = _text(element)
    if not text:
        return None
    return b"" if text == "=" else _base64(text)


def _base64(text: str) -> bytes:
    """Only the canonical encoding: no white space, unused bits zero (RFC 4648 3.5)."""
    if len(text) > (MOST_PAYLOAD + 2) // 3 * 4:
        raise MalformedLogin("the payload is too long")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedLogin("the payload is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise MalformedLogin("the payload is not base64")
    if len(data) > MOST_PAYLOAD:
        raise MalformedLogin("the payload is too long")
    return data


def _jid(element: Element, *, full: bool) -> str:
    text = element.getAttribute("jid")
    if not text:
        raise MalformedLogin("jid is missing")
    try:
        jid = parse_jid(text)
    except MalformedJID:
        raise MalformedLogin("the jid does not prepare") from None
    if jid.user is None or (jid.resource is not None) != full:
        raise MalformedLogin(f"the jid is not a {'full' if full else 'bare'} user address")
    return str(jid.full())
