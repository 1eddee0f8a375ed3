"""What a change of a space, or of its members, means for those who are in its room."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from cms.callbridge.rooms.admission import Admission, NotAdmitted, standing_of
from cms.callbridge.rooms.room import BANNED, NOT_A_MEMBER, Occupant, Room
from cms.process.logs import Logger

A_TURN = 20  # occupants that are looked at in a turn of the reactor
AGAIN = 5.0  # seconds until the next try, when the spaces cannot be looked up


class Hosts(Protocol):
    """
    What has the rooms.

    @ivar address: The component's.
    """

    address: str

    def of_space(self, space: str) -> Room | None:
        """The room of a space, if anybody is in it."""

    def left(self, room: Room, room_uri: str, jid: str) -> None:
        """An occupant is in it no more."""


class Reviews:
    """Looks at everybody in a room anew: what has changed may be anything."""

    log = Logger()

    def __init__(self, clock: IReactorTime, rooms: Hosts, admission: Admission) -> None:
        self._clock = clock
        self._rooms = rooms
        self._admission = admission
        self._running: set[str] = set()
        self._again: set[str] = set()

    def begin(self, space: str) -> None:
        """A space has changed."""
        if self._rooms.of_space(space) is None:
            return
        if space in self._running:
            self._again.add(space)
            return
        self._running.add(space)
        review = Deferred.fromCoroutine(self._review(space))
        review.addErrback(self._failed)
        review.addCallback(self._ended, space)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("unexpected error while a room was looked at", failure)

    def _ended(self, _: object, space: str) -> None:
        self._running.discard(space)
        if space in self._again:
            self._again.discard(space)
            self.begin(space)

    async def _review(self, space: str) -> None:
        room = self._rooms.of_space(space)
        if room is None:
            return
        for number, occupant in enumerate(list(room.by_jid.values()), 1):
            try:
                if not await self._look_at(room, occupant):
                    return
            except NotAdmitted:
                self._again.add(space)
                await deferLater(self._clock, AGAIN)
                return
            if number % A_TURN == 0:
                await deferLater(self._clock, 0)

    async def _look_at(self, room: Room, occupant: Occupant) -> bool:
        """Whether there is such a room still."""
        uri = room.address.partition("@")[0]
        entry = await self._admission.entry(uri, occupant.account)
        if room.by_jid.get(occupant.jid) is not occupant:
            return True  # gone meanwhile
        if entry is None or entry.space.id != room.space or entry.space.uri != uri:
            here = list(room.by_jid)
            room.close(ended="the space was deleted, or has another address")
            for jid in here:
                self._rooms.left(room, uri, jid)
            return False
        if entry.banned:
            room.throw_out(occupant, BANNED, affiliation="outcast")
            self._rooms.left(room, uri, occupant.jid)
        elif entry.member is None and not entry.space.non_member_access:
            room.throw_out(occupant, NOT_A_MEMBER, affiliation="none")
            self._rooms.left(room, uri, occupant.jid)
        else:
            standing = standing_of(entry.member)
            if standing != occupant.usual:
                occupant.usual = standing
                room.stand(occupant, standing)
        return True
