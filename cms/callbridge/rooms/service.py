"""
The rooms of a Callbridge on its link: who comes in, what is said, and who goes, however that is.

A room is there while somebody is in it; what outlives that is the space.  An occupant goes
with its unavailable presence, with the end of its session where the Callbridge is told of
that, or with the error that comes back for what it can no longer hear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from cms.callbridge.login.visitors import Visitors
from cms.callbridge.rooms.admission import (
    BUSY,
    CONFLICT,
    FULL,
    NICKNAME,
    Admission,
    Figures,
    NotAdmitted,
    standing_of,
)
from cms.callbridge.rooms.history import Wanted
from cms.callbridge.rooms.history import wanted as wanted_history
from cms.callbridge.rooms.occupantids import OccupantIds
from cms.callbridge.rooms.outbox import Link, Outbox
from cms.callbridge.rooms.places import Places, Sessions
from cms.callbridge.rooms.reading import (
    check_length,
    given_passcode,
    is_gone,
    is_other,
    wanted_nick,
)
from cms.callbridge.rooms.requests import RoomRequests
from cms.callbridge.rooms.review import Reviews
from cms.callbridge.rooms.room import MOST_PRESENCE_BYTES, SHUTDOWN, Occupant, Room
from cms.callbridge.spaces.directory import Spaces
from cms.process.clocks import wall_clock
from cms.process.logs import LineLimiter, Logger, wanted
from cms.process.threads import TooMuchWork
from cms.signalflow import counted
from cms.state.database import StoreError
from cms.xmlstream import ns
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.replies import error_reply, is_join
from cms.xmlstream.stanza import Stanza

MOST_OCCUPANTS = 1_000  # of one room
FOR_OTHERS = 0.9  # the part of these that others than members get
MOST_IN_ALL = 20_000
MOST_ROOMS_OF_ONE = 50  # that one session is in
MOST_ENTERING = 1_000  # that wait for the store
MOST_HELD = 64 * 1024 * 1024  # bytes of what waits to be sent, for all rooms
MOST_WAITING = 32 * 1024 * 1024  # that a room has to send, beyond which nobody says more
MOST_WAITING_TO_ENTER = 256 * 1024 * 1024  # the same, beyond which nobody comes in
# Seconds: how long rooms wait for a link that has ended, and then for the notices of the
# sessions that live on; when to look whether a session that is over has left.
LINK_PATIENCE = 90.0
RESUMED_WITHIN = 10.0
LOOK_AGAIN = (1.0, 10.0)


class Rooms:
    """
    All rooms of a Callbridge.

    @param component: The component's address now; rooms are C{uri@component}.
    @param domain: The XMPP domain now.
    @param run: Random, for the ids of messages.
    @param visitors: The guests that were admitted to a space.
    @ivar most_occupants: Of one room; others than members may be L{FOR_OTHERS} of them.
    @ivar figures: See L{Figures}.
    @ivar outbox: What waits to be sent.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        spaces: Spaces,
        sessions: Sessions,
        *,
        component: Callable[[], str],
        domain: Callable[[], str],
        run: str,
        visitors: Visitors,
        most_occupants: int = MOST_OCCUPANTS,
    ) -> None:
        self.most_occupants = most_occupants
        self._clock = clock
        self._spaces = spaces
        self._sessions = sessions
        self._component = component
        self._run = run
        self._now = wall_clock(clock)
        self._lines = LineLimiter(clock.seconds)
        self._ids = OccupantIds(spaces.occupant_key)
        self.admission = Admission(clock, spaces, domain, sessions.peer, visitors)
        self._answer: Callable[[Stanza], object] = _nobody
        self.address = component()
        self._rooms: dict[str, Room] = {}
        self._by_space: dict[str, Room] = {}
        self._places = Places()
        self._entering: dict[tuple[str, str], Deferred[None]] = {}
        self._before: dict[str, str | None] = {}
        self._patience: IDelayedCall | None = None
        self.outbox = Outbox(clock)
        self.figures = Figures()
        self._requests = RoomRequests(self, spaces, self.admission)
        self._reviews = Reviews(clock, self, self.admission)
        spaces.on_change.append(self._reviews.begin)

    # what is here

    @property
    def count(self) -> int:
        """How many rooms there are."""
        return len(self._rooms)

    @property
    def occupants(self) -> int:
        """How many are in them, all told."""
        return self._places.total

    def room(self, uri: str) -> Room | None:
        """The room of a space, if anybody is in it."""
        return self._rooms.get(uri)

    def of_space(self, space: str) -> Room | None:
        """The same, by the space's id."""
        return self._by_space.get(space)

    def in_space(self, space: str) -> int:
        """How many are in the room of a space."""
        room = self.of_space(space)
        return 0 if room is None else len(room.occupants)

    def spaces_of(self, address: str) -> Deferred[Sequence[tuple[str, str, str]]]:
        """Address, name and call ID of the rooms of a member; none if it cannot be told."""
        return Deferred.fromCoroutine(self._spaces_of(address))

    async def _spaces_of(self, address: str) -> Sequence[tuple[str, str, str]]:
        try:
            found = await self._spaces.spaces_of(str(parse_jid(address).userhost()))
        except (MalformedJID, StoreError, TooMuchWork):
            return ()
        return [(f"{space.uri}@{self.address}", space.name, space.call_id) for space in found]

    # the link, and the sessions behind it

    def link_up(self, link: Link, answer: Callable[[Stanza], object]) -> None:
        """
        The link is active.

        @param answer: Sends an answer to whom it is for, in his turn.
        """
        self._answer = answer
        self._stop_waiting()
        if self.address != self._component():
            self._forget_all()
            self.address = self._component()
        self.outbox.use(link)
        before = self._before
        for room in self._rooms.values():
            here = room.by_jid.values()
            foreign = [occupant for occupant in here if before.get(occupant.jid) is None]
            if foreign:
                room.probe(foreign)
        if any(before.values()):
            self._patience = self._clock.callLater(RESUMED_WITHIN, self._resumed)

    def link_down(self) -> None:
        """
        The link has ended.  Who is here may be so still, and the link may come back: then
        those whose sessions live on stay.
        """
        self._stop_waiting()
        self._answer = _nobody
        self.outbox.use(None)
        for entering in list(self._entering.values()):
            entering.cancel()
        before, began = self._before, self._sessions.began
        self._before = {jid: began(jid) or before.get(jid) for jid in self._places}
        if self._rooms:
            self._patience = self._clock.callLater(LINK_PATIENCE, self._forget_all)

    def session_ended(self, jid: str) -> None:
        """
        A session of ours is over.  Its presence was on its way before this notice, so
        there is something to do only where that got lost.
        """
        if jid in self._places:
            for seconds in LOOK_AGAIN:
                self._clock.callLater(seconds, self._drop_lost, {jid: None})

    def stop(self) -> None:
        """The Callbridge ends: everybody is told (XEP-0045 15.6.2)."""
        for room in list(self._rooms.values()):
            room.close(SHUTDOWN)
        self.outbox.flush()
        self._forget_all()

    def _resumed(self) -> None:
        """The notices of the sessions that live on have come."""
        before, self._before = self._before, {}
        self._drop_lost({jid: began for jid, began in before.items() if began is not None})

    def _drop_lost(self, known: dict[str, str | None]) -> None:
        """Those of whose sessions nothing is known by now, or that they are others."""
        for jid, began in known.items():
            now = self._sessions.began(jid)
            if now is None or (began is not None and now != began):
                for uri in self._places.of(jid):
                    room = self._rooms[uri]
                    self._leave(room, room.by_jid[jid])

    def _forget_all(self) -> None:
        """Nobody can be told: the link that they were heard by is gone."""
        self._stop_waiting()
        self._rooms.clear()
        self._by_space.clear()
        self._places.clear()
        self._before.clear()
        self.outbox.clear()

    def _stop_waiting(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None and patience.active():
            patience.cancel()

    # stanzas

    def take(self, stanza: Stanza) -> bool:
        """
        Handle what is for a room, or for somebody in it.

        @return: C{False} for anything else.
        """
        try:
            to, sender = parse_jid(stanza.to or ""), parse_jid(stanza.sender or "")
        except MalformedJID:
            return False
        if to.user is None or to.host != self.address:
            return False
        try:
            if stanza.name == "presence":
                self._presence(stanza, to, sender)
            elif stanza.name == "message":
                self._message(stanza, to, sender)
            else:
                self._requests.take(stanza, to, sender)
        except StanzaError as error:
            self.refuse(stanza, error)
        except Exception:  # noqa: BLE001 - its sender must have an answer, and the rooms go on
            self.failed(Failure(), stanza)
        return True

    def answer(self, stanza: Stanza) -> None:
        """Send something to one, in his turn."""
        self._answer(stanza)

    def refuse(self, stanza: Stanza, error: StanzaError) -> None:
        """Answer with an error, where one is due."""
        reply = error_reply(stanza, error)
        if reply is not None:
            self._answer(reply)

    def failed(self, failure: Failure, stanza: Stanza) -> None:
        """Something went wrong that nobody thought of."""
        self.log.failure("unexpected error in a room", failure)
        self.refuse(stanza, StanzaError("internal-server-error", type="wait"))

    def _presence(self, stanza: Stanza, to: JID, sender: JID) -> None:
        uri, jid = str(to.user), str(sender.full())
        room = self._rooms.get(uri)
        occupant = None if room is None else room.by_jid.get(jid)
        if stanza.type in ("unavailable", "error"):
            self._stop_entering(uri, jid)
            if room is not None and occupant is not None:
                said = stanza.type == "unavailable" and len(stanza.raw) <= MOST_PRESENCE_BYTES
                self._leave(room, occupant, stanza.element if said else None)
        elif stanza.type is not None:
            pass  # there is nothing to subscribe to, and nobody to probe
        elif room is None or occupant is None:
            self._ask_to_enter(stanza, to, sender)
        else:
            check_length(stanza, MOST_PRESENCE_BYTES)
            nick = wanted_nick(to) if to.resource else occupant.nick
            if nick != occupant.nick:
                self._check_waiting(room)
                room.rename(occupant, nick, stanza.element, assigned=is_other(stanza, nick))
            elif is_join(stanza):
                self._check_waiting(room)
                room.enter_again(occupant, stanza.element, self._history(stanza))
            else:
                room.show(occupant, stanza.element)

    def _message(self, stanza: Stanza, to: JID, sender: JID) -> None:
        uri, jid, kind = str(to.user), str(sender.full()), stanza.type
        room = self._rooms.get(uri)
        occupant = None if room is None else room.by_jid.get(jid)
        if kind == "error":
            if room is not None and occupant is not None and is_gone(stanza):
                self._leave(room, occupant)
            return
        if room is None or occupant is None:
            raise StanzaError("not-acceptable", text="you are not in this room")
        self._check_waiting(room)
        if kind == "groupchat":
            if to.resource:
                raise StanzaError("bad-request", text="what is for one is no groupchat")
            room.say(occupant, stanza.element)
        elif to.resource:
            room.whisper(occupant, str(to.resource), stanza.element)
        else:  # invitations and requests for voice go other ways here
            raise StanzaError("feature-not-implemented")

    # entering and leaving

    def _ask_to_enter(self, stanza: Stanza, to: JID, sender: JID) -> None:
        if not is_join(stanza):
            raise StanzaError("not-acceptable", text="you are not in this room")
        check_length(stanza, MOST_PRESENCE_BYTES)
        key = str(to.user), str(sender.full())
        self._stop_entering(*key)
        entering = Deferred.fromCoroutine(self._enter(stanza, to, sender))
        if not entering.called:
            self._entering[key] = entering
            entering.addBoth(self._forget_entering, key, entering)
        entering.addErrback(self._not_entered, stanza, str(to.user))
        entering.addErrback(self.failed, stanza)

    def _forget_entering(
        self, result: object, key: tuple[str, str], entering: Deferred[None]
    ) -> object:
        if self._entering.get(key) is entering:
            del self._entering[key]
        return result

    def _stop_entering(self, uri: str, jid: str) -> None:
        entering = self._entering.pop((uri, jid), None)
        if entering is not None:
            entering.cancel()

    async def _enter(self, stanza: Stanza, to: JID, sender: JID) -> None:
        uri, jid, account = str(to.user), str(sender.full()), str(sender.userhost())
        try:
            nick = wanted_nick(to)
        except StanzaError as error:
            raise NotAdmitted(NICKNAME, error.condition, error.text, error.type) from None
        self._check_free(uri, sender)
        entry = await self.admission.admit(uri, sender, given_passcode(stanza))
        self._check_free(uri, sender, is_member=entry.member is not None)  # others came meanwhile
        room = self._rooms.get(uri)
        before = None if room is None else self._before_reload(room, sender)
        if room is not None and before is not None:
            if before.nick == nick:
                self._take_over(room, before, stanza, jid)
                return
            self._leave(room, before)
            room = self._rooms.get(uri)
        if room is None:
            address = f"{uri}@{self.address}"
            room = Room(
                entry.space.id, address, partial(self.outbox.put, address), self._now, self._run
            )
        elif nick in room.occupants:
            raise NotAdmitted(CONFLICT, "conflict", "the nickname is in use")
        identifier = self._ids.of(entry.space.id, account)
        occupant = Occupant(jid, account, nick, identifier, standing_of(entry.member))
        history, assigned = self._history(stanza), is_other(stanza, nick)
        room.enter(occupant, stanza.element, history, assigned=assigned)
        self._rooms[uri] = self._by_space[room.space] = room
        self._entered(uri, jid)
        if wanted(LogLevel.info):
            self.log.info(
                'participant "{jid}" joined space {space} ({name})',
                jid=jid,
                space=entry.space.id,
                name=entry.space.name,
            )

    def _entered(self, uri: str, jid: str) -> None:
        self._places.enter(jid, uri)
        self.figures.joined += 1

    def _before_reload(self, room: Room, jid: JID) -> Occupant | None:
        """The occupant that a guest was in another session."""
        if not self.admission.is_visitor(jid):
            return None
        account = str(jid.userhost())
        return next((one for one in room.by_jid.values() if one.account == account), None)

    def _take_over(self, room: Room, before: Occupant, stanza: Stanza, jid: str) -> None:
        old = before.jid
        room.take_over(before, jid, stanza.element, self._history(stanza))
        self._places.leave(old, room.uri)
        self._entered(room.uri, jid)

    def _not_entered(self, failure: Failure, stanza: Stanza, uri: str) -> None:
        failure.trap(StanzaError, CancelledError)
        error = failure.value
        if not isinstance(error, StanzaError):
            return
        reason = error.reason if isinstance(error, NotAdmitted) else BUSY
        self.figures.refused[reason] += 1
        reply = error_reply(stanza, error)
        if reply is None:
            return
        if isinstance(error, NotAdmitted) and error.elsewhere is not None:
            for child in reply.element.elements(ns.CLIENT, "error"):
                for gone in child.elements(ns.STANZAS, "gone"):  # RFC 6120 8.3.3.5
                    gone.addContent(f"xmpp:{error.elsewhere}@{self.address}?join")
        if self._lines.allows():
            self.log.info(
                "{jid} was not let into {uri} ({reason})",
                jid=stanza.sender,
                uri=uri,
                reason=reason,
            )
        self._answer(reply)

    def _leave(self, room: Room, occupant: Occupant, said: Element | None = None) -> None:
        room.leave(occupant, said)
        self.left(room, room.uri, occupant.jid)

    def left(self, room: Room, room_uri: str, jid: str) -> None:
        """An occupant is in a room no more."""
        if room.empty and self._rooms.get(room_uri) is room:
            del self._rooms[room_uri]
            if self._by_space.get(room.space) is room:  # not one at its new address
                del self._by_space[room.space]
        self._places.leave(jid, room_uri)
        if wanted(LogLevel.info):
            self.log.info('participant "{jid}" left space {space}', jid=jid, space=room.space)

    def thrown_out(self, account: str) -> None:
        """A moderator has thrown somebody out; a guest's admission ends with that."""
        jid = parse_jid(account)
        if self.admission.is_visitor(jid):
            self.admission.visitors.thrown_out(str(jid.user))

    def nicknames(self, space: str) -> list[tuple[str, str]]:
        """Those in the room of a space, each with the account whose it is."""
        room = self.of_space(space)
        return [] if room is None else [(o.nick, o.account) for o in room.occupants.values()]

    # bounds

    def _check_waiting(self, room: Room) -> None:
        waiting = self.outbox.waiting(room.address)
        if waiting > MOST_WAITING or self.outbox.held > MOST_HELD:
            text = "the room has too much to send"
            raise StanzaError("resource-constraint", type="wait", text=text)

    def _check_free(self, uri: str, jid: JID, *, is_member: bool = True) -> None:
        """Members find a place where others find none any more."""
        room = self._rooms.get(uri)
        most = self.most_occupants if is_member else max(1, int(self.most_occupants * FOR_OTHERS))
        if room is not None and len(room.occupants) >= most:
            if self._before_reload(room, jid) is not None:
                return  # his place is his own
            text = f"the room is full: {counted(len(room.occupants), 'occupant')}"
            raise NotAdmitted(FULL, "service-unavailable", text, "wait")
        waiting = self.outbox.waiting(f"{uri}@{self.address}")
        if (
            self.occupants >= MOST_IN_ALL
            or len(self._places.of(str(jid.full()))) >= MOST_ROOMS_OF_ONE
            or len(self._entering) >= MOST_ENTERING
            or waiting > MOST_WAITING_TO_ENTER
            or self.outbox.held > MOST_HELD
        ):
            raise NotAdmitted(BUSY, "resource-constraint", "too many are coming in", "wait")

    def _history(self, stanza: Stanza) -> Wanted:
        return wanted_history(next(iter(stanza.element.elements(ns.MUC, "x"))), self._now())


def _nobody(stanza: Stanza) -> None:
    """There is no link."""
