"""
What a room sends: bytes that are made once, and copies of them that differ in their C{to}.

Nothing here is written out for each receiver until its copy leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen
from twisted.words.xish.domish import Element, SerializedXML

from cms.xmlstream import ns
from cms.xmlstream.serialize import escape_text, quote_attribute, serialize

# What a room says of itself; whoever else says it is not believed (XEP-0421 4, XEP-0359 5).
_OWN = frozenset(
    {
        (ns.MUC, "x"),
        (ns.MUC_USER, "x"),
        (ns.OCCUPANT_ID, "occupant-id"),
        (ns.DELAY, "delay"),
    }
)
_HELD = 16  # bytes that a copy holds before it leaves


@frozen
class Copies:
    """
    One stanza for many.

    @ivar start: Up to the value of C{to}.
    @ivar receivers: The values of C{to}, with their quotes.
    @ivar rest: What follows.
    """

    start: bytes
    receivers: Sequence[bytes]
    rest: bytes

    @property
    def held(self) -> int:
        """Bytes that it takes here."""
        return len(self.rest) + _HELD * len(self.receivers)

    @property
    def size(self) -> int:
        """About as many bytes leave."""
        return (len(self.rest) + 64) * len(self.receivers)

    def __iter__(self) -> Iterator[bytes]:
        start, rest = self.start, self.rest
        return (start + receiver + rest for receiver in self.receivers)


@frozen
class Roll:
    """
    Many stanzas for one, such as who is in a room, and what was said there.

    @ivar stanzas: Each as L{Copies} has it, without its receiver.
    """

    receiver: bytes
    stanzas: Sequence[tuple[bytes, bytes]]

    @property
    def held(self) -> int:
        """Bytes that it takes here, beside those that are held anyway."""
        return _HELD * len(self.stanzas)

    @property
    def size(self) -> int:
        """About as many bytes leave."""
        return sum(len(rest) for _, rest in self.stanzas) + 64 * len(self.stanzas)

    def __iter__(self) -> Iterator[bytes]:
        receiver = self.receiver
        return (start + receiver + rest for start, rest in self.stanzas)


Item = Copies | Roll
PRESENCE, MESSAGE = b"<presence to=", b"<message to="


def receiver(address: str) -> bytes:
    """An address as L{Copies} has it."""
    return quote_attribute(address).encode()


def opened(element: Element, sender: str, own: str, *, without: Iterable[str] = ()) -> bytes:
    """
    What somebody sent, as his room passes it on: the one serialisation.

    Its own claims about ids, delays and rooms are left out; C{id}, C{type} and
    language stay.

    @param own: XML that the room adds.
    @param without: Names of children in the stanza's namespace that are left out.
    @return: What follows the receiver, up to where the end tag would stand.
    """
    left_out = {(ns.CLIENT, name) for name in without}
    passed = Element((ns.CLIENT, element.name))
    passed["from"] = sender
    for key in ("type", "id", (ns.XML, "lang")):
        if key in element.attributes:
            passed[key] = element.attributes[key]
    for child in element.elements():
        name = (child.uri, child.name)
        is_claim = name == (ns.STANZA_ID, "stanza-id") and child.getAttribute("by") == _bare(sender)
        if not (name in _OWN or name in left_out or is_claim):
            passed.addChild(child)
    passed.addChild(SerializedXML(own))
    raw = serialize(passed)
    name = element.name.encode()
    return raw[len(name) + 1 : -len(name) - 3]


def _bare(address: str) -> str:
    return address.partition("/")[0]


def closed(head: bytes, name: str, own: str = "") -> bytes:
    """The end of what L{opened} began, behind what else the room adds."""
    return head + f"{own}</{name}>".encode()


def plain(sender: str, type_: str | None, own: str, name: str) -> bytes:
    """A stanza of the room's own, without its receiver."""
    written = f" from={quote_attribute(sender)}"
    if type_ is not None:
        written += f" type='{type_}'"
    return f"{written}>{own}</{name}>".encode()


def user_x(item: str, statuses: Iterable[int] = (), destroyed: str = "") -> str:
    """The room's C{<x/>} (XEP-0045 7.2)."""
    codes = "".join(f"<status code='{status}'/>" for status in statuses)
    return f"<x xmlns='{ns.MUC_USER}'>{item}{codes}{destroyed}</x>"


def item(
    affiliation: str,
    role: str,
    *,
    jid: str | None = None,
    nick: str | None = None,
    reason: str = "",
    actor: str | None = None,
) -> str:
    """An occupant's standing, and what became of it."""
    written = f"<item affiliation='{affiliation}' role='{role}'"
    if jid is not None:
        written += f" jid={quote_attribute(jid)}"
    if nick is not None:
        written += f" nick={quote_attribute(nick)}"
    inside = "" if actor is None else f"<actor nick={quote_attribute(actor)}/>"
    if reason:
        inside += f"<reason>{escape_text(reason)}</reason>"
    return f"{written}>{inside}</item>" if inside else f"{written}/>"


def occupant_id(id_: str) -> str:
    """XEP-0421."""
    return f"<occupant-id xmlns='{ns.OCCUPANT_ID}' id='{id_}'/>"


def stanza_id(id_: str, by: str) -> str:
    """XEP-0359."""
    return f"<stanza-id xmlns='{ns.STANZA_ID}' id='{id_}' by={quote_attribute(by)}/>"


def delay(by: str, stamp: str) -> str:
    """XEP-0203."""
    return f"<delay xmlns='{ns.DELAY}' from={quote_attribute(by)} stamp='{stamp}'/>"


def subject(text: str) -> str:
    """A room's subject; an empty one is written, too (XEP-0045 7.2.15)."""
    return f"<subject>{escape_text(text)}</subject>"
