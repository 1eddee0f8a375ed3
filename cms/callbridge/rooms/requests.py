"""
IQs to rooms: what a room is, who is thrown out of it, and what occupants ask each other.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from cms.callbridge.rooms.admission import Admission
from cms.callbridge.rooms.room import BANNED, KICKED, Occupant, Room, Standing
from cms.callbridge.spaces.directory import Spaces
from cms.callbridge.spaces.model import Entry, SpaceError
from cms.process.threads import TooMuchWork
from cms.state.database import StoreError
from cms.xmlstream import disco, ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.replies import result_reply
from cms.xmlstream.stanza import Stanza

MOST_ITEMS = 20  # of one request of a moderator
_RANKS = {"none": 0, "member": 1, "admin": 2, "owner": 3}
_FEATURES = (
    *(ns.DISCO_INFO, ns.DISCO_ITEMS, ns.PING, ns.MUC, ns.MUC_STABLE_ID, ns.MUC_SELF_PING),
    *(ns.OCCUPANT_ID, ns.STANZA_ID, "muc_semianonymous", "muc_moderated", "muc_persistent"),
    "muc_hidden",
)


class Hosts(Protocol):
    """What has the rooms: L{cms.callbridge.rooms.service.Rooms}."""

    def room(self, uri: str) -> Room | None:
        """The room of a space, if anybody is in it."""

    def left(self, room: Room, room_uri: str, jid: str) -> None:
        """An occupant is in it no more."""

    def thrown_out(self, account: str) -> None:
        """A moderator has thrown somebody out; a guest's admission ends with that."""

    def answer(self, stanza: Stanza) -> None:
        """Send something to one, in his turn."""

    def refuse(self, stanza: Stanza, error: StanzaError) -> None:
        """Answer with an error, where one is due."""

    def failed(self, failure: Failure, stanza: Stanza) -> None:
        """Something went wrong that nobody thought of."""


class RoomRequests:
    """Answers them, or passes them on."""

    def __init__(self, rooms: Hosts, spaces: Spaces, admission: Admission) -> None:
        self._rooms = rooms
        self._spaces = spaces
        self._admission = admission

    def take(self, stanza: Stanza, to: JID, sender: JID) -> None:
        """
        An IQ to a room, or to somebody in it.

        @raise StanzaError: the answer.
        """
        room = self._rooms.room(str(to.user))
        occupant = None if room is None else room.by_jid.get(str(sender.full()))
        if to.resource:
            self._relay(stanza, room, occupant, str(to.resource))
        elif stanza.is_request:
            self._answer(stanza, to, sender, occupant)

    # between occupants (XEP-0045 5.1.1 and 17.3; XEP-0410 for those to oneself)

    def _relay(
        self, stanza: Stanza, room: Room | None, occupant: Occupant | None, nick: str
    ) -> None:
        if room is None or occupant is None:
            if stanza.is_request:
                raise StanzaError("not-acceptable", text="you are not in this room")
            return
        if stanza.is_answer and nick not in room.occupants:
            return
        other = room.occupant(nick)
        if other is occupant and stanza.payload == (ns.PING, "ping") and stanza.type == "get":
            self._rooms.answer(result_reply(stanza))
            return
        passed = Element((ns.CLIENT, "iq"))
        passed["from"], passed["to"] = room.sender(occupant.nick), other.jid
        for key in ("type", "id", (ns.XML, "lang")):
            if key in stanza.element.attributes:
                passed[key] = stanza.element.attributes[key]
        passed.children = stanza.element.children
        self._rooms.answer(Stanza(passed))

    # to the room

    def _answer(self, stanza: Stanza, to: JID, sender: JID, occupant: Occupant | None) -> None:
        query, uri = stanza.child, str(to.user)
        kind, payload = stanza.type, stanza.payload
        if query is None:
            raise StanzaError("bad-request")
        work: Deferred[Element | None]
        if (kind, payload) == ("get", (ns.DISCO_INFO, "query")):
            work = Deferred.fromCoroutine(self._info(uri, str(sender.userhost()), query))
        elif (kind, payload) == ("get", (ns.DISCO_ITEMS, "query")):
            work = Deferred.fromCoroutine(self._items(uri, str(sender.userhost()), query))
        elif payload == (ns.MUC_ADMIN, "query"):
            room = self._rooms.room(uri)
            if room is None or occupant is None or not occupant.moderates:
                raise StanzaError("forbidden", text="this is for moderators of the room")
            change = self._show if kind == "get" else self._change
            work = Deferred.fromCoroutine(change(room, occupant, query))
        elif payload == (ns.MUC_OWNER, "query"):
            text = "a space is set up at its Callbridge"
            raise StanzaError("not-allowed", text=text)
        elif (kind, payload) == ("get", (ns.PING, "ping")):
            work = Deferred.fromCoroutine(self._known(uri, str(sender.userhost())))
        else:
            raise StanzaError("service-unavailable")
        work.addCallback(lambda child: self._rooms.answer(result_reply(stanza, child)))
        work.addErrback(self._refused, stanza)
        work.addErrback(self._rooms.failed, stanza)

    def _refused(self, failure: Failure, stanza: Stanza) -> None:
        if failure.check(StoreError, TooMuchWork) and not failure.check(SpaceError):
            failure = Failure(StanzaError("internal-server-error", type="wait"))
        elif failure.check(SpaceError):
            failure = Failure(StanzaError("resource-constraint", text="there are too many bans"))
        error = failure.value
        if not isinstance(error, StanzaError):
            failure.raiseException()
            return
        self._rooms.refuse(stanza, error)

    async def _entry(self, uri: str, account: str) -> Entry:
        entry = await self._admission.entry(uri, account)
        if entry is None or entry.space.uri != uri:
            raise StanzaError("item-not-found", text="there is no such space")
        return entry

    async def _known(self, uri: str, account: str) -> None:
        await self._entry(uri, account)

    async def _info(self, uri: str, account: str, query: Element) -> Element:
        space = (await self._entry(uri, account)).space
        features = [*_FEATURES]
        features.append("muc_open" if space.non_member_access else "muc_membersonly")
        features.append("muc_passwordprotected" if space.passcode else "muc_unsecured")
        return disco.info(query, "conference", "text", space.name, features)

    async def _items(self, uri: str, account: str, query: Element) -> Element:
        """Who is in it is shown to those who are in it, by their presence (6.5)."""
        await self._entry(uri, account)
        return disco.items(query)

    # moderators (XEP-0045 8 and 9)

    async def _show(self, room: Room, actor: Occupant, query: Element) -> Element:
        asked = next(iter(query.elements(ns.MUC_ADMIN, "item")), None)
        role = None if asked is None else asked.getAttribute("role")
        affiliation = None if asked is None else asked.getAttribute("affiliation")
        answer = Element((ns.MUC_ADMIN, "query"))
        if affiliation == "outcast":
            for jid in await self._spaces.bans(room.space):
                item = answer.addElement("item")
                item["affiliation"], item["jid"] = "outcast", jid
        elif role in ("moderator", "participant", "visitor"):
            for occupant in room.occupants.values():
                if occupant.standing.role == role:
                    item = answer.addElement("item")
                    item["affiliation"], item["role"] = occupant.standing.affiliation, role
                    item["jid"], item["nick"] = occupant.jid, occupant.nick
        else:
            raise _not_here()
        return answer

    async def _change(self, room: Room, actor: Occupant, query: Element) -> None:
        items = list(query.elements(ns.MUC_ADMIN, "item"))
        if not 0 < len(items) <= MOST_ITEMS:
            text = f"there are 1 to {MOST_ITEMS} items in a request"
            raise StanzaError("bad-request", text=text)
        for item in items:
            # Each of them may take a while, in which he may have had to leave himself.
            if room.by_jid.get(actor.jid) is not actor or not actor.moderates:
                raise StanzaError("forbidden", text="this is for moderators of the room")
            reason = "".join(map(str, item.elements(ns.MUC_ADMIN, "reason")))
            if item.hasAttribute("affiliation"):
                await self._affiliate(room, actor, item, reason)
            else:
                self._set_role(room, actor, item, reason)

    def _set_role(self, room: Room, actor: Occupant, item: Element, reason: str) -> None:
        role, target = item.getAttribute("role"), room.occupant(_resource(item))
        if role not in ("none", "visitor", "participant", "moderator"):
            raise StanzaError("bad-request", text="there is no such role")
        if role == "moderator" and _rank(actor) < _RANKS["admin"]:
            raise StanzaError("forbidden", text="a moderator for this time makes no other")
        if role != "moderator":
            _check_rank(actor, target)
        if role == "none":
            room.throw_out(target, KICKED, reason=reason, actor=actor.nick)
            self._rooms.left(room, room.uri, target.jid)
            self._rooms.thrown_out(target.account)
        else:
            room.stand(target, Standing(target.standing.affiliation, role), reason)

    async def _affiliate(self, room: Room, actor: Occupant, item: Element, reason: str) -> None:
        affiliation, account = item.getAttribute("affiliation"), _account(room, item)
        if _rank(actor) < _RANKS["admin"]:
            raise StanzaError("forbidden", text="this is for moderators among the members")
        if affiliation == "none":
            if not await self._spaces.unban(room.space, account):
                raise _not_here()
            return
        if affiliation != "outcast":
            raise _not_here()
        if account == actor.account:
            raise StanzaError("conflict", text="nobody bans himself")
        entry = await self._admission.entry(room.uri, account)
        if entry is not None and entry.member is not None and entry.member.moderates:
            text = "moderators are set up at the Callbridge"
            raise StanzaError("not-allowed", text=text)
        await self._spaces.ban(room.space, account)
        self._rooms.thrown_out(account)
        for occupant in [o for o in room.by_jid.values() if o.account == account]:
            room.throw_out(occupant, BANNED, affiliation="outcast", reason=reason, actor=actor.nick)
            self._rooms.left(room, room.uri, occupant.jid)


def _not_here() -> StanzaError:
    return StanzaError("not-allowed", text="members are set up at the Callbridge")


def _rank(occupant: Occupant) -> int:
    return _RANKS[occupant.standing.affiliation]


def _check_rank(actor: Occupant, target: Occupant) -> None:
    """Nobody takes anything from a moderator of his own rank, or a higher one (5.2.1)."""
    if target is not actor and _rank(target) >= max(_rank(actor), _RANKS["admin"]):
        raise StanzaError("not-allowed", text="moderators are set up at the Callbridge")


def _resource(item: Element) -> str:
    try:
        return str(parse_jid(f"a/{item.getAttribute('nick') or ''}").resource)
    except MalformedJID:
        raise StanzaError("jid-malformed", text="there is no nickname") from None


def _account(room: Room, item: Element) -> str:
    given = item.getAttribute("jid")
    if not given:
        return room.occupant(_resource(item)).account
    try:
        return str(parse_jid(given).userhost())
    except MalformedJID:
        raise StanzaError("jid-malformed") from None
