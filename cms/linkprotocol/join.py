"""
The messages by which a Callbridge admits guests (docs/login-protocol.md, section 6).

They are an addition to the log-in protocol, with a namespace and version of their own.
Nothing shows a passcode, secret, password or token in its repr.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Final

from attrs import field, frozen
from twisted.words.xish.domish import Element

from cms.linkprotocol.login import MOST_WAIT, MalformedLogin, attribute
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import quote_attribute

NS: Final = "urn:x-cms:join:1"  # the number is the version of this part of the protocol
MOST_NAME = 100  # bytes of the name that a guest gives himself, prepared
MOST_TITLE = 800  # bytes of a space's name

_CALL_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_PASSCODE = re.compile(r"[!-~]{0,32}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PEER = re.compile(r"[!-~]{1,255}")
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)

# Whether a local part is that of a guest who was admitted, by whichever Callbridge.  It is
# no function of ours, since each log-in asks it six times.
is_visitor: Final = re.compile(r"guest-[0-9a-f]{16}", re.ASCII).fullmatch


class Unusable(ValueError):
    """
    What somebody gave cannot be used, whatever there is.

    @ivar parameter: C{callId}, C{passcode}, C{secret}, C{reentry} or C{name}.
    """

    def __init__(self, parameter: str) -> None:
        super().__init__(f"{parameter} does not have its form")
        self.parameter = parameter


def prepared_name(text: str) -> str:
    """
    A name as a nickname can be made of it (XEP-0045 7.2.1), without what cannot be in an
    address: controls, and signs that are younger than its preparation (RFC 6122).

    @raise Unusable: nothing is left, or it is too long.
    """
    name = " ".join(unicodedata.normalize("NFKC", text[: 4 * MOST_NAME]).split())
    usable = "".join(sign for sign in name if sign == " " or _prepared(sign))
    for written in (name, " ".join(usable.split())):
        prepared = _prepared(written)
        if prepared and len(prepared.encode()) <= MOST_NAME:
            return prepared
    raise Unusable("name")


def _prepared(text: str) -> str:
    """As a resource is; empty where it is none, or cannot be shown."""
    try:
        prepared = str(parse_jid(f"a/{text}").resource or "").strip()
    except MalformedJID:
        return ""
    return prepared if prepared.isprintable() else ""


def numbered(name: str, number: int) -> str:
    """
    A name that is told from others of the same name.

    What is written from the right to the left has to end with such a letter (RFC 3454 6).
    """
    plain = f"{name} {number}"
    return plain if _prepared(plain) == plain else f"{plain}{name[-1]}"


@frozen
class Admit:
    """
    Server to Callbridge: somebody wants to come into a space.

    He has a call ID, perhaps with a passcode, or a secret, each with a name; or a token
    with which he comes back.

    @ivar peer: His IP address.
    @ivar name: See L{prepared_name}.
    @ivar id: Names the question, for L{Elsewhere}; empty if it is asked of one Callbridge.
    """

    peer: str
    call_id: str = ""
    passcode: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    reentry: str = field(default="", repr=False)
    name: str = ""
    id: str = ""

    def __attrs_post_init__(self) -> None:
        """
        @raise Unusable: a value cannot be used, or it is none of the three.
        """
        for name, value, form in (
            ("callId", self.call_id, _CALL_ID),
            ("secret", self.secret, _TOKEN),
            ("reentry", self.reentry, _TOKEN),
            ("passcode", self.passcode, _PASSCODE),
            ("id", self.id, _TOKEN),
        ):
            if value and not form.fullmatch(value):
                raise Unusable(name)
        if bool(self.call_id) + bool(self.secret) + bool(self.reentry) != 1:
            raise Unusable("callId")
        if self.passcode and not self.call_id:
            raise Unusable("passcode")
        if bool(self.name) == bool(self.reentry) or (
            self.name and prepared_name(self.name) != self.name
        ):
            raise Unusable("name")
        if not _PEER.fullmatch(self.peer):
            raise Unusable("peer")

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        return _xml(
            "admit",
            peer=self.peer,
            callId=self.call_id,
            passcode=self.passcode,
            secret=self.secret,
            reentry=self.reentry,
            name=self.name,
            id=self.id,
        )


@frozen
class Elsewhere:
    """
    Server to Callbridge: another one has the space of a question, so its call ID was not
    wrong.  The answer is an empty result.
    """

    id: str

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        return _xml("elsewhere", id=self.id)


@frozen
class Admitted:
    """
    Callbridge to server: he may come in.

    @ivar jid: The bare address with which he logs in.
    @ivar password: Of that address, for one log-in by SCRAM-SHA-256.
    @ivar expires: Seconds that it can be used.
    @ivar space: The room's address.
    @ivar nick: A nickname that is free.
    @ivar title: The space's name.
    @ivar reentry: Brings him back once, as the same occupant.
    @ivar call_id: By which others can come.
    """

    jid: str
    password: str = field(repr=False)
    expires: int
    space: str
    nick: str
    title: str
    reentry: str = field(repr=False)
    call_id: str = ""

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return _xml(
            "admitted",
            jid=self.jid,
            password=self.password,
            expires=str(self.expires),
            space=self.space,
            nick=self.nick,
            title=self.title,
            reentry=self.reentry,
            callId=self.call_id,
        )


@frozen
class Refused:
    """
    Callbridge to server: no.  There is one form of it, whatever was wrong: an unknown call ID
    or secret, a wrong passcode, a space that is closed to guests.
    """

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return _xml("refused")


@frozen
class Over:
    """Callbridge to server: a token that brings nobody back, or not any more."""

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return _xml("over")


@frozen
class Slowed:
    """
    Callbridge to server: too many were wrong, so this one was not looked at.

    @ivar seconds: When the next one is.
    """

    seconds: int

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return _xml("slowed", seconds=str(self.seconds))


@frozen
class Undecided:
    """Callbridge to server: it cannot be told now; nothing was wrong."""

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        return _xml("undecided")


Answer = Admitted | Refused | Over | Slowed | Undecided
Message = Admit | Elsewhere | Answer


def parse(element: Element | None) -> Message:
    """
    Read a message.

    @raise MalformedLogin: with a plain sentence that repeats nothing of the element, for
        anything that is none.
    """
    if element is None or element.uri != NS or element.name not in _READERS:
        raise MalformedLogin("no element of this protocol version")
    if element.children:
        raise MalformedLogin("it holds something, and must be empty")
    return _READERS[element.name](element)


def _admit(element: Element) -> Message:
    given = element.attributes
    try:
        return Admit(
            peer=given.get("peer", ""),
            call_id=given.get("callId", ""),
            passcode=given.get("passcode", ""),
            secret=given.get("secret", ""),
            reentry=given.get("reentry", ""),
            name=given.get("name", ""),
            id=given.get("id", ""),
        )
    except Unusable as problem:
        raise MalformedLogin(str(problem)) from None


def _admitted(element: Element) -> Message:
    title = element.getAttribute("title") or ""
    if len(title.encode()) > MOST_TITLE or not title.isprintable():
        raise MalformedLogin("title does not have its form")
    nick = element.getAttribute("nick") or ""
    if not nick.isprintable() or not 0 < len(nick.encode()) <= 2 * MOST_NAME:
        raise MalformedLogin("nick does not have its form")
    call_id = element.getAttribute("callId") or ""
    if call_id and not _CALL_ID.fullmatch(call_id):
        raise MalformedLogin("callId does not have its form")
    return Admitted(
        jid=_bare(element, "jid"),
        password=attribute(element, "password", _TOKEN),
        expires=int(attribute(element, "expires", _SECONDS)),
        space=_bare(element, "space"),
        nick=nick,
        title=title,
        reentry=attribute(element, "reentry", _TOKEN),
        call_id=call_id,
    )


def _slowed(element: Element) -> Message:
    return Slowed(int(attribute(element, "seconds", _SECONDS)))


_READERS: Final = {
    "admit": _admit,
    "elsewhere": lambda element: Elsewhere(attribute(element, "id", _TOKEN)),
    "admitted": _admitted,
    "refused": lambda element: Refused(),
    "over": lambda element: Over(),
    "slowed": _slowed,
    "undecided": lambda element: Undecided(),
}


def seconds_of(wait: float) -> int:
    """A wait as L{Slowed} has it: at least a second."""
    return min(max(1, math.ceil(wait)), MOST_WAIT)


def _xml(element: str, /, **attributes: str) -> str:
    written = "".join(
        f" {key}={quote_attribute(value)}" for key, value in attributes.items() if value
    )
    return f"<{element} xmlns='{NS}'{written}/>"


def _bare(element: Element, name: str) -> str:
    try:
        jid = parse_jid(element.getAttribute(name) or "")
    except MalformedJID:
        raise MalformedLogin(f"{name} does not prepare") from None
    if jid.user is None or jid.resource is not None:
        raise MalformedLogin(f"{name} is no bare address")
    return str(jid.full())
