"""
Message carbons (XEP-0280 1.0.1): what one resource of a user says or hears, the others see.

A session asks for copies.  From then on the messages of the user's other sessions leave the
fast way, and those for them too (L{Session.set_copied}).  Nobody else pays anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from twisted.words.protocols.jabber.jid import JID

from cms.xmlstream import ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.serialize import quote_attribute
from cms.xmlstream.splicedstanza import SplicedStanza
from cms.xmlstream.stanza import Stanza
from cms.xmpp.broadcast import Broadcast
from cms.xmpp.sessions import Session, Sessions

NS: Final = "urn:xmpp:carbons:2"
MOST_AWAITED = 100  # messages of a session whose errors are known as theirs
_FORWARD = "urn:xmpp:forward:0"  # XEP-0297
_REFUSED = {(NS, "private"), ("urn:xmpp:hints", "no-copy")}  # XEP-0280 9, XEP-0334 4.3
_INVITED = ("jabber:x:conference", "x")  # XEP-0249
_TALK = {  # what else people who chat send: XEP-0085, XEP-0184, XEP-0333
    "http://jabber.org/protocol/chatstates",
    "urn:xmpp:receipts",
    "urn:xmpp:chat-markers:0",
}


class Carbons:
    """
    Who gets copies, and the copies.

    A copy goes straight to its session and not through the router, so it is never copied.

    @ivar enabled: The sessions that asked for copies, by bare address.
    """

    def __init__(self, sessions: Sessions, broadcast: Broadcast) -> None:
        self._sessions = sessions
        self._broadcast = broadcast
        self.enabled: dict[str, dict[Session, None]] = {}
        self._awaited: dict[Session, OrderedDict[int, None]] = {}

    def enable(self, session: Session) -> None:
        """It wants copies from now on; to ask again does no harm."""
        account = session.jid.userhost()
        self.enabled.setdefault(account, {})[session] = None
        self._judge(account)

    def ended(self, session: Session) -> None:
        """It is over."""
        self.disable(session)
        self._awaited.pop(session, None)

    def disable(self, session: Session) -> None:
        """It wants none any more."""
        account = session.jid.userhost()
        enabled = self.enabled.get(account, {})
        if session in enabled:
            del enabled[session]
            if not enabled:
                del self.enabled[account]
            self._judge(account)

    def began(self, session: Session) -> None:
        """A session is there of an account with others that want copies."""
        self._judge(session.jid.userhost())

    def _judge(self, account: str) -> None:
        enabled = self.enabled.get(account, {})
        for session in self._sessions.of(account):
            copied = len(enabled) > (session in enabled)
            if copied != session.is_copied:
                session.set_copied(copied)

    def received(
        self, stanza: Stanza, account: str, took: Collection[Session], source: object
    ) -> int:
        """
        Copy a message that was delivered (XEP-0280 7).

        Between two sessions of one account it counts as sent, and its sender has it already.

        @param account: The bare address of its receiver.
        @param took: Who got the message itself.
        @param source: The party that it came from.
        @return: How many copies had no room.
        """
        sender = _address(stanza.sender)
        direction, without = "received", took
        if sender is not None and sender.userhost() == account:
            own = self._sessions.find(sender)
            direction, without = "sent", took if own is None else [*took, own]
        eligible = is_eligible(stanza, direction) or self._is_awaited(stanza, sender, took)
        return self._copy(stanza, direction, account, without, source) if eligible else 0

    def sent(self, stanza: Stanza, session: Session) -> int:
        """
        Copy a message that a session sent (XEP-0280 8).

        @return: How many copies had no room.
        """
        account, to = session.jid.userhost(), _address(stanza.to)
        if to is None or to.userhost() == account or not is_eligible(stanza, "sent"):
            return 0  # what goes to the own account was delivered there, and copied
        if stanza.id is not None:
            awaited = self._awaited.setdefault(session, OrderedDict())
            awaited[_key(stanza.id, to)] = None
            if len(awaited) > MOST_AWAITED:
                awaited.popitem(last=False)
        return self._copy(stanza, "sent", account, (session,), session)

    def _is_awaited(self, error: Stanza, sender: JID | None, took: Collection[Session]) -> bool:
        """Whether it is the first that answers a message which was copied when it was sent."""
        if error.type != "error" or error.id is None or sender is None:
            return False
        key = _key(error.id, sender)
        found = [self._awaited[s] for s in took if key in self._awaited.get(s, ())]
        for awaited in found:
            del awaited[key]
        return bool(found)

    def _copy(
        self,
        stanza: Stanza,
        direction: str,
        account: str,
        without: Collection[Session],
        source: object,
    ) -> int:
        enabled = self.enabled.get(account, ())
        receivers = [(s, s.jid.full()) for s in enabled if s not in without]
        if not receivers:
            return 0
        # A lane that is no party's: who writes does not wait for who only reads along.
        lane = ("carbons", source)
        return self._broadcast.send(_wrapped(stanza, direction, account), receivers, lane)


def is_eligible(stanza: Stanza, direction: str) -> bool:
    """
    Whether a message may be copied (XEP-0280 6.1); an error that answers none is not.

    @param direction: C{sent} or C{received}.
    """
    kind = stanza.type
    if kind in ("groupchat", "error"):
        return False
    element = stanza.element
    has = {(child.uri, child.name) for child in element.elements()}
    if not has.isdisjoint(_REFUSED):
        return False
    of_room = list(element.elements(ns.MUC_USER, "x"))
    if _INVITED in has or any(x.invite is not None for x in of_room):
        return True
    sender = _address(stanza.sender)
    if of_room and direction == "received" and sender is not None and sender.resource is not None:
        return False  # the room sends what one occupant says to another to all it is for
    if kind == "chat" or any(uri in _TALK for uri, _ in has):
        return True
    return kind != "headline" and (ns.CLIENT, "body") in has


def _wrapped(stanza: Stanza, direction: str, account: str) -> SplicedStanza:
    """The copy, which has no C{to} yet; within, the message is as its receiver got it."""
    # The namespace of the stream is in no start tag, whoever sent it and however.
    message = f"<message xmlns='{ns.CLIENT}'".encode() + stanza.raw[len("<message") :]
    kind = "" if stanza.type is None else f" type={quote_attribute(stanza.type)}"
    start = f"<message from={quote_attribute(account)}{kind}><{direction} xmlns='{NS}'>"
    start += f"<forwarded xmlns='{_FORWARD}'>"
    end = f"</forwarded></{direction}></message>"
    return SplicedStanza((b"message", None, None, start.encode() + message + end.encode()))


def _key(identifier: str, other: JID) -> int:
    """A message by its id and whom it went to; its error may come from any resource of his."""
    return hash((identifier, other.userhost()))  # not the text itself, which may be long


def _address(written: str | None) -> JID | None:
    try:
        return None if written is None else parse_jid(written)
    except MalformedJID:
        return None
