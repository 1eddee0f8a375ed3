"""A guest's visit to a room (XEP-0045): comes, counts who is there, and goes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import exceptionFromStanza
from twisted.words.xish.domish import Element

from cms import faults
from cms.client.login import LoginStream
from cms.signalflow import StepError, printable
from cms.xmlstream import ns
from cms.xmlstream.stanza import Stanza

SELF = "110"  # the status of one's own presence


class RoomVisit:
    """
    One visit.

    @param stage: Seconds for each wait.
    """

    def __init__(
        self, reactor: Any, stream: LoginStream, space: str, nick: str, stage: float
    ) -> None:
        self._reactor = reactor
        self._stream = stream
        self._space = space
        self._occupant = f"{space}/{nick}"
        self._stage = stage
        self._occupants = 0
        self._entered: Deferred[int] = Deferred()
        self._left: Deferred[Any] = Deferred()
        self._left.addErrback(lambda failure: failure.trap(CancelledError))  # it is gone anyway

    async def enter(self) -> int:
        """
        Join without history.

        @return: How many are in it, the guest included.
        @raise StepError: the room does not let the guest in.
        """
        seconds = 2 * self._stage
        self._stream.on_stanza = self._take
        self._stream.ended.addCallback(self._lost)
        presence = self._presence()
        presence.addElement((ns.MUC, "x")).addElement("history")["maxstanzas"] = "0"
        self._stream.write(Stanza(presence).raw)
        self._entered.addTimeout(seconds, self._reactor)
        try:
            return await self._entered
        except DeferredTimeout:
            raise self._refused(f"no answer within {seconds:g} s") from None
        except CancelledError:
            raise self._refused("the connection was lost") from None

    async def leave(self) -> None:
        """Go, and wait a while until the room has noticed."""
        presence = self._presence()
        presence["type"] = "unavailable"
        self._stream.write(Stanza(presence).raw)
        self._left.addTimeout(self._stage, self._reactor)
        await self._left

    def _presence(self) -> Element:
        presence = Element((ns.CLIENT, "presence"))
        presence["to"] = self._occupant
        return presence

    def _lost(self, _: object) -> None:
        for waiting in (self._entered, self._left):
            if not waiting.called:
                waiting.cancel()

    def _take(self, stanza: Stanza) -> None:
        """A stanza of the stream."""
        sender = stanza.sender or ""
        if stanza.name != "presence" or sender.partition("/")[0] != self._space:
            return
        if stanza.type == "error":
            self._took_error(stanza)
            return
        statuses = {
            status.getAttribute("code")
            for x in stanza.element.elements(ns.MUC_USER, "x")
            for status in x.elements(ns.MUC_USER, "status")
        }
        here = stanza.type != "unavailable"
        self._occupants += here
        if SELF not in statuses:
            return
        if here and not self._entered.called:
            self._entered.callback(self._occupants)
        elif not here and not self._left.called:
            self._left.callback(None)

    def _took_error(self, stanza: Stanza) -> None:
        if self._entered.called:
            return
        condition = exceptionFromStanza(stanza.element).condition
        if condition == "service-unavailable":
            self._entered.errback(Failure(faults.ROOM_FULL.error(space=self._space)))
        else:
            self._entered.errback(Failure(self._refused(condition)))

    def _refused(self, condition: str) -> StepError:
        name = self._space.partition("@")[0]
        return faults.ROOM_REFUSED.error(
            space=self._space, condition=printable(condition), name=name
        )
