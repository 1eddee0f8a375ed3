"""
What a space is, and what may be written into one.

The names of parameters, elements and permissions are those of the field's API
(C{coSpaces}, C{coSpaceUsers}, C{accessMethods}).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from attrs import field, frozen

from cms.state.database import StoreError
from cms.xmlstream.jid import MalformedJID, parse_jid

PERMISSIONS = (
    *("canDestroy", "canAddRemoveMember", "canChangeName", "canChangeUri", "canChangeCallId"),
    *("canChangePasscode", "canPostMessage", "canDeleteAllMessages", "canRemoveSelf"),
)
USUAL_PERMISSIONS = frozenset({"canPostMessage", "canRemoveSelf"})
MODERATING = frozenset({"canDestroy", "canAddRemoveMember"})  # either makes a moderator
CALL_ID_DIGITS = 9  # of one that is made
LEAST_CALL_ID, MOST_CALL_ID = 4, 32
LEAST_PASSCODE, MOST_PASSCODE = 4, 32
MOST_NAME = 200  # characters
MOST_URI = 200  # characters, prepared


class SpaceError(StoreError):
    """
    A space cannot be as it was asked for.  Its text holds no passcode and no secret.

    @ivar reason: One word for machines, of the API's C{failureDetails}.
    @ivar parameter: Which of them is wrong, if one is.
    @ivar cure: What mends it.
    """

    def __init__(self, reason: str, cause: str, cure: str, parameter: str | None = None) -> None:
        super().__init__(f"{cause}. Cure: {cure}")
        self.reason = reason
        self.cause = cause
        self.cure = cure
        self.parameter = parameter


class Gone(SpaceError):
    """There is no such space, member or access method."""


@frozen
class Space:
    """
    A space.

    @ivar id: A UUID.
    @ivar uri: The prepared local part of its address, as a room and elsewhere.
    @ivar call_id: Digits by which it is called.
    @ivar passcode: Digits that people who are not members must know; empty: none.
    @ivar secret: Of links that lead into it, 128 bits; never shown by chance.
    @ivar non_member_access: Whether others than members may enter.
    @ivar access_methods: How many further ways lead into it.
    """

    id: str
    name: str
    uri: str
    call_id: str
    passcode: str = field(repr=False)
    secret: str = field(repr=False)
    non_member_access: bool
    created: str
    access_methods: int = 0


@frozen
class Member:
    """
    Somebody who belongs to a space (C{coSpaceUser}).

    @ivar jid: A bare address, prepared.
    @ivar permissions: Of L{PERMISSIONS} those that are given.
    """

    id: str
    jid: str
    permissions: frozenset[str]

    @property
    def moderates(self) -> bool:
        """Whether it may throw others out."""
        return bool(self.permissions & MODERATING)


@frozen
class AccessMethod:
    """
    Another way into a space, with a call ID, passcode and secret of its own.

    @ivar uri: Empty where it has none.
    """

    id: str
    uri: str
    call_id: str
    passcode: str = field(repr=False)
    secret: str = field(repr=False)


@frozen
class Way:
    """
    A way into a space by which guests come: its own, or an access method.

    @ivar id: That of the space for its own way.
    @ivar passcode: Empty: it needs none.
    """

    id: str
    space: Space
    call_id: str
    passcode: str = field(repr=False)
    secret: str = field(repr=False)


@frozen
class Entry:
    """
    What decides whether somebody may enter.

    @ivar member: C{None} if the person is not a member.
    @ivar passcodes: The passcodes, any of which lets in a person who is not a member; if
        there are none, none is needed.
    """

    space: Space
    member: Member | None
    banned: bool
    passcodes: tuple[str, ...] = field(repr=False)


def _wrong(parameter: str, cause: str, cure: str) -> SpaceError:
    return SpaceError(f"{parameter}Invalid", f"{parameter}: {cause}", cure, parameter)


def checked_name(text: str) -> str:
    """
    @raise SpaceError: it is empty, too long, or cannot be shown.
    """
    name = unicodedata.normalize("NFC", text.strip())
    if not 0 < len(name) <= MOST_NAME:
        raise _wrong("name", "it is empty or too long", f"Give 1 to {MOST_NAME} characters.")
    if not name.isprintable():
        cure = "Write it in letters, digits and signs."
        raise _wrong("name", "it holds characters that cannot be printed", cure)
    return name


def prepared_uri(text: str) -> str:
    """
    The local part of a space's address.

    @raise SpaceError: it is none.
    """
    cure = f"Give the part in front of the @, at most {MOST_URI} characters, such as daily.team."
    if not 0 < len(text) <= MOST_URI or "@" in text or "/" in text:
        raise _wrong("uri", "it is no local part of an address", cure)
    try:
        uri = str(parse_jid(f"{text}@a").user)
    except MalformedJID as problem:
        raise _wrong("uri", str(problem), cure) from None
    if len(uri) > MOST_URI:
        raise _wrong("uri", "it is too long", cure)
    return uri


_DIGITS = re.compile("[0-9]+")


def checked_call_id(text: str) -> str:
    """
    @raise SpaceError: it is no call ID.
    """
    if not (_DIGITS.fullmatch(text) and LEAST_CALL_ID <= len(text) <= MOST_CALL_ID):
        cure = f"Give {LEAST_CALL_ID} to {MOST_CALL_ID} digits, or leave it out."
        raise _wrong("callId", "it is no call ID", cure)
    return text


def checked_passcode(text: str) -> str:
    """
    @raise SpaceError: it is no passcode; the text does not say what it is.
    """
    if text and not (_DIGITS.fullmatch(text) and LEAST_PASSCODE <= len(text) <= MOST_PASSCODE):
        cure = f"Give {LEAST_PASSCODE} to {MOST_PASSCODE} digits, or nothing for none."
        raise _wrong("passcode", "it is not made of digits, or has too few or too many", cure)
    return text


def member_address(text: str, domain: str) -> str:
    """
    The bare address of C{alice}, or of C{alice@elsewhere}.

    @param domain: For what is written without one.
    @raise SpaceError: it is no address of an account.
    """
    cure = f"Give a name, or name@{domain}."
    try:
        jid = parse_jid(text if "@" in text else f"{text}@{domain}")
    except MalformedJID as problem:
        raise _wrong("userJid", str(problem), cure) from None
    if jid.user is None or jid.resource is not None:
        raise _wrong("userJid", "it is not the address of an account", cure)
    return str(jid.userhost())


def checked_permissions(names: Iterable[str]) -> frozenset[str]:
    """
    @raise SpaceError: one is unknown.
    """
    given = frozenset(names)
    unknown = given - set(PERMISSIONS)
    if unknown:
        cure = f"Known are {', '.join(PERMISSIONS)}."
        raise SpaceError("permissionInvalid", "there is no such permission", cure)
    return given
