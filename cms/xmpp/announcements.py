"""What a node tells the others of its own sessions and links."""

from __future__ import annotations

from attrs import define

from cms.xmpp import nodemessages as messages
from cms.xmpp.links import Link
from cms.xmpp.nodemessages import told
from cms.xmpp.sessions import Session


@define(eq=False)
class Ours:
    """
    A session of this node: its number, and when it was bound.

    @ivar moved: Whether it was at another node before.
    """

    session: Session
    number: int
    stamp: int
    since: str
    moved: bool = False


def session_named(ours: Ours) -> bytes:
    """A session, and who it is."""
    session = ours.session
    return told(
        messages.SESSION,
        session.jid.full(),
        number=ours.number,
        stamp=ours.stamp,
        since=ours.since,
        authority=session.authority,
        host=session.peer_host,
        guest=session.is_guest,
        moved=ours.moved,
    )


def presence_told(ours: Ours) -> bytes:
    """Its presence, or that it has none any more."""
    session = ours.session
    raw = "" if session.presence is None else session.presence.raw.decode()
    facts = {"number": ours.number, "priority": session.priority, "stanza": raw}
    return told(messages.PRESENCE, session.jid.full(), **facts)


def directed_told(ours: Ours, to: str, available: bool) -> bytes:
    """That an address can see it, or not any more."""
    jid = ours.session.jid.full()
    return told(messages.DIRECTED, jid, number=ours.number, to=to, on=available)


def copies_told(ours: Ours, wanted: bool) -> bytes:
    """Whether it wants copies (XEP-0280)."""
    return told(messages.COPIES, ours.session.jid.full(), number=ours.number, on=wanted)


def link_named(link: Link) -> bytes:
    """A link, and what it decides."""
    return told(
        messages.LINK,
        link.component,
        id=link.link_id,
        since=link.since,
        address=link.peer_text,
        mechanisms=list(link.mechanisms),
        admits=link.admits,
        leaves=link.leaves,
        people=link.knows_people,
    )
