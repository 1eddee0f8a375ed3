"""
The messages by which a server asks who somebody is (docs/login-protocol.md, section 8).

They are an addition to the log-in protocol, with a namespace and version of their own.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from attrs import field, frozen
from twisted.words.xish.domish import Element

from cms.linkprotocol.login import MalformedLogin
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import quote_attribute

NS: Final = "urn:x-cms:people:1"  # the number is the version of this part of the protocol
MOST_NAME: Final = 200  # characters
MOST_PICTURE: Final = 102_400  # bytes: what Active Directory's thumbnailPhoto may have
# The beginning of a file says what it is; nothing else is passed on, so no markup and no script.
_KINDS: Final = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb"
    "\ufffe\uffff]+"
)


def tidy(name: str) -> str:
    """A name for people on one line, without what cannot be seen or turns the line around."""
    return " ".join(_INVISIBLE.sub(" ", name).split())[:MOST_NAME].rstrip()


def kind_of(picture: bytes) -> str:
    """The type of a picture; empty if it is none that is passed on."""
    if len(picture) > MOST_PICTURE:
        return ""
    return next((kind for start, kind in _KINDS if picture.startswith(start)), "")


@frozen
class Ask:
    """
    Server to Callbridge: who is this?

    @ivar jid: A bare address of the domain.
    """

    jid: str

    def to_xml(self) -> str:
        """As the child of an IQ C{get}."""
        return f"<ask xmlns='{NS}' jid={quote_attribute(self.jid)}/>"


@frozen
class Person:
    """
    Callbridge to server: a user.

    @ivar name: For people, as L{tidy} leaves it; empty if the directory has none.
    @ivar picture: Of a kind of L{kind_of}; empty if there is none.
    @ivar undecided: Whether there is one cannot be told now.
    """

    name: str
    picture: bytes = field(default=b"", repr=False)
    undecided: bool = False

    @property
    def kind(self) -> str:
        """The type of the picture."""
        return kind_of(self.picture)

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        start = f"<person xmlns='{NS}' name={quote_attribute(self.name)}"
        if self.undecided:
            start += " undecided='true'"
        if not self.picture:
            return f"{start}/>"
        return f"{start}>{base64.b64encode(self.picture).decode()}</person>"


@frozen
class Nobody:
    """Callbridge to server: no user of mine."""

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return f"<nobody xmlns='{NS}'/>"


@frozen
class Undecided:
    """Callbridge to server: that cannot be told now."""

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return f"<undecided xmlns='{NS}'/>"


Answer = Person | Nobody | Undecided
Message = Ask | Answer


def parse(element: Element | None) -> Message:
    """
    Read a message.

    @raise MalformedLogin: it is none; the text repeats nothing of it.
    """
    if element is None or element.uri != NS:
        raise MalformedLogin("no element of this protocol version")
    if any(isinstance(child, Element) for child in element.children):
        raise MalformedLogin("it has children")
    if element.name == "person":
        return _person(element)
    if str(element).strip():
        raise MalformedLogin("it is not empty")
    if element.name == "ask":
        return Ask(_user(element))
    if element.name == "nobody":
        return Nobody()
    if element.name == "undecided":
        return Undecided()
    raise MalformedLogin("no element of this protocol version")


def parse_answer(element: Element | None) -> Answer:
    """
    Read the answer.

    @raise MalformedLogin: it is none.
    """
    answer = parse(element)
    if isinstance(answer, Ask):
        raise MalformedLogin("it is no answer")
    return answer


def _person(element: Element) -> Person:
    name = element.getAttribute("name")
    if name is None or name != tidy(name):
        raise MalformedLogin("the name is missing, or does not have its form")
    text = str(element)
    if len(text) > MOST_PICTURE * 4 // 3 + 4:
        raise MalformedLogin("the picture is too long")
    try:
        picture = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedLogin("the picture is not base64") from None
    if base64.b64encode(picture).decode() != text:
        raise MalformedLogin("the picture is not base64")
    if picture and not kind_of(picture):
        raise MalformedLogin("the picture is none, or too long")
    return Person(name, picture, element.getAttribute("undecided") == "true")


def _user(element: Element) -> str:
    try:
        jid = parse_jid(element.getAttribute("jid") or "")
    except MalformedJID:
        raise MalformedLogin("the jid does not prepare") from None
    if jid.user is None or jid.resource is not None:
        raise MalformedLogin("the jid is not a user's bare one")
    return str(jid.full())
