"""
The messages by which a Callbridge says who is in a group of a directory with whom
(docs/login-protocol.md, section 9).

They are an addition to the log-in protocol, with a namespace and version of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from attrs import field, frozen
from twisted.words.xish.domish import Element

from cms.linkprotocol.login import MalformedLogin, attribute
from cms.linkprotocol.people import tidy
from cms.xmlstream.serialize import quote_attribute

NS: Final = "urn:x-cms:groups:1"  # the number is the version of this part of the protocol
MOST_MEMBERS: Final = 500  # of one group
MOST_NAME: Final = 255  # bytes of a group's name
MOST_BYTES: Final = 200_000  # of the names of all members of a group together
MOST_OF_USER: Final = 20  # groups of one Callbridge that a user is in
PAGE: Final = 200  # groups in one answer

_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_MAYBE_ID = re.compile(r"([0-9a-f]{16})?", re.ASCII)
_MORE = re.compile(r"true|false", re.ASCII)


@frozen
class Ask:
    """
    Callbridge to server: which groups of mine do you know?

    @ivar after: The last id of the answer before; empty: from the first one on.
    """

    after: str = ""

    def to_xml(self) -> str:
        """As the child of an IQ C{get}."""
        return f"<groups xmlns='{NS}' after='{self.after}'/>"


@frozen
class Known:
    """
    Server to Callbridge: these, by their ids.

    @ivar groups: Ids, each with the L{digest} of what is known, at most L{PAGE}.
    @ivar more: Whether there are more.
    """

    groups: tuple[tuple[str, str], ...]
    more: bool = False

    def to_xml(self) -> str:
        """As the child of an IQ C{result}."""
        rows = "".join(f"<group id='{id_}' digest='{known}'/>" for id_, known in self.groups)
        return f"<groups xmlns='{NS}' more='{str(self.more).lower()}'>{rows}</groups>"


def _in_order(members: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(members))


@frozen
class Group:
    """
    Callbridge to server: who is in this group now, whoever was before.

    @ivar id: Sixteen digits of our own, always the same for the group.
    @ivar name: For people.
    @ivar members: The prepared local parts of users; nobody: there is no such group any more.
    @ivar shown: What those of them are called who have a name for people, as L{tidy} leaves it.
    """

    id: str
    name: str
    members: tuple[str, ...] = field(converter=_in_order)
    shown: Mapping[str, str] = field(factory=dict, hash=False)

    @property
    def digest(self) -> str:
        """See L{digest}."""
        return digest(self.name, self.members, self.shown)

    @property
    def fits(self) -> bool:
        """Whether it may be told of as a whole: L{MOST_BYTES}."""
        texts = (*self.members, *self.shown.values())
        return sum(len(each.encode()) for each in texts) <= MOST_BYTES

    def to_xml(self) -> str:
        """As the child of an IQ C{set}."""
        members = ""
        for name in self.members:
            shown = self.shown.get(name)
            called = f" shown={quote_attribute(shown)}" if shown else ""
            members += f"<user name={quote_attribute(name)}{called}/>"
        name = quote_attribute(self.name)
        return f"<group xmlns='{NS}' id='{self.id}' name={name}>{members}</group>"


Message = Ask | Known | Group


def digest(name: str, members: Iterable[str], shown: Mapping[str, str]) -> str:
    """
    What tells a group from another with its id: 16 digits.

    @param shown: See L{Group}.
    """
    called = (f"{each}\n{shown[each]}" if shown.get(each) else each for each in sorted(members))
    return sha256("\0".join((name, *called)).encode()).hexdigest()[:16]


def parse(element: Element | None) -> Message:
    """
    Read a message.

    @raise MalformedLogin: it is none; the text repeats nothing of it.
    """
    if element is None or element.uri != NS or element.name not in ("groups", "group"):
        raise MalformedLogin("no element of this protocol version")
    children = list(element.elements())
    if any(str(each).strip() for each in element.children if not isinstance(each, Element)):
        raise MalformedLogin("there is text in it")
    if element.name == "group":
        return _group(element, children)
    if element.hasAttribute("after"):
        if children:
            raise MalformedLogin("it is not empty")
        return Ask(attribute(element, "after", _MAYBE_ID))
    if len(children) > PAGE or any((c.uri, c.name) != (NS, "group") for c in children):
        raise MalformedLogin("it holds something else than groups, or too many")
    known = ((attribute(c, "id", _ID), attribute(c, "digest", _ID)) for c in children)
    return Known(tuple(known), attribute(element, "more", _MORE) == "true")


def _group(element: Element, children: list[Element]) -> Group:
    if len(children) > MOST_MEMBERS or any((c.uri, c.name) != (NS, "user") for c in children):
        raise MalformedLogin("it holds something else than users, or too many")
    members = [str(child.getAttribute("name") or "") for child in children]
    name = str(element.getAttribute("name") or "")
    if len(set(members)) != len(members) or "" in members:
        raise MalformedLogin("a member has no name, or is there twice")
    if (children and not name) or len(name.encode()) > MOST_NAME or not (name + "x").isprintable():
        raise MalformedLogin("it has no name, or none that can be shown")
    shown = {m: str(c.getAttribute("shown") or "") for m, c in zip(members, children, strict=True)}
    if any(called != tidy(called) for called in shown.values()):
        raise MalformedLogin("a member has a name for people that cannot be shown")
    shown = {member: called for member, called in shown.items() if called}
    return Group(attribute(element, "id", _ID), name, members, shown)
