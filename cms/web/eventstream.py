"""
Server-sent events (HTML, 9.2): pages show changes within a second.

One look at the daemon serves all browsers, and is cheap.  If it finds something new, and
at least every L{REFRESH} seconds, the live part of the page is made.  That is done piece
by piece, with a turn of the reactor in between.  The more a look costs, the longer is the
pause after it, so that all this takes at most one part in L{PARTS} of the thread's time.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.template import Tag
from zope.interface import implementer

from cms.web.html import flat
from cms.web.messages import check_same_site
from cms.web.refusal import Refused

MOST = 20  # browsers at the same time
LOOK = 0.25  # seconds between two looks
PARTS = 50
REFRESH = 5.0  # seconds after which an event is sent even if nothing has changed
BEAT = 15.0  # seconds without an event until a comment is sent
LONGEST = 3600.0  # seconds for one stream; the browser then asks for another
STUCK = 60.0  # seconds that a browser may not read
_HEARTBEAT = b":\n\n"
_RETRY = b"retry: 2000\n\n"


@implementer(IPushProducer)
@define(eq=False)
class _Follower:
    """One browser.  While it does not read nothing is sent to it, and later only the newest."""

    request: Any
    began: float
    ended: Deferred[bytes] = field(init=False)
    sent: float = 0.0
    paused_at: float | None = None
    missed: bool = False
    now: Callable[[], float] = field(kw_only=True)
    catch_up: Callable[[_Follower], None] = field(default=lambda _: None, kw_only=True)

    def pauseProducing(self) -> None:
        """From the connection: it does not read."""
        self.paused_at = self.now()

    def resumeProducing(self) -> None:
        """It reads again."""
        self.paused_at = None
        if self.missed:
            self.missed = False
            self.catch_up(self)

    def stopProducing(self) -> None:
        """It has disconnected; the request says so too."""

    def send(self, data: bytes, now: float) -> None:
        """Send an event, or note that it was missed."""
        if self.paused_at is not None:
            self.missed = True
            return
        self.sent = now
        self.request.write(data)


class EventStream:
    """
    The browsers that follow a daemon.

    @param look: Gives a value that changes when the page would; it is only compared.
    @param pieces: The pieces of the live part of the page.
    @param timer: A fine clock, for measuring work.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        look: Callable[[], object],
        pieces: Callable[[], Awaitable[Sequence[Tag]]],
        *,
        timer: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._look = look
        self._pieces = pieces
        self._cost = 0.0
        self._timer = timer
        self._followers: list[_Follower] = []
        self._event = b""
        self._seen: object = None
        self._rendered = 0.0
        self._next: IDelayedCall | None = None
        self._busy = False

    def __len__(self) -> int:
        return len(self._followers)

    def serve(self, request: IRequest) -> Deferred[bytes]:
        """
        Send events until the browser disconnects or its time is over.

        @raise Refused: there are too many browsers, or a page of another site asks.
        """
        check_same_site(request)
        if len(self._followers) >= MOST:
            raise Refused(
                "busy",
                f"{MOST} browsers follow already",
                "Close one, or reload the page by hand.",
                status=503,
                headers={"retry-after": "10"},
            )
        now = self._clock.seconds()
        follower = _Follower(request, now, now=self._clock.seconds, catch_up=self._send)
        follower.ended = Deferred(lambda _: self._forget(follower))
        request.setHeader(b"content-type", b"text/event-stream; charset=utf-8")
        request.setHeader(b"x-accel-buffering", b"no")
        any_request: Any = request
        any_request.registerProducer(follower, True)
        self._followers.append(follower)
        follower.send(_RETRY, now)
        if self._next is None and not self._busy:
            self._seen = self._event = b""  # there was no look for a while
            self._turn()
        elif self._event:
            self._send(follower)
        return follower.ended

    def _send(self, follower: _Follower) -> None:
        follower.send(self._event, self._clock.seconds())

    def _forget(self, follower: _Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)

    # looking

    def _turn(self) -> None:
        self._next, self._busy, self._cost = None, True, 0.0
        turn = Deferred.fromCoroutine(self._tell())
        turn.addErrback(self._failed)
        turn.addCallback(lambda _: self._rest())

    def _failed(self, failure: Failure) -> None:
        self.log.failure("what the page shows cannot be looked at", failure)

    async def _tell(self) -> None:
        began, now = self._timer(), self._clock.seconds()
        self._end_the_old(now)
        seen = self._look()
        self._cost += self._timer() - began
        if seen != self._seen or now - self._rendered >= REFRESH:
            self._seen, self._rendered = seen, now
            data = json.dumps(await self._make())
            event = f"event: live\ndata: {data}\n\n".encode()
            if event != self._event:
                self._event = event
                for follower in tuple(self._followers):
                    self._send(follower)
        for follower in tuple(self._followers):
            if now - follower.sent >= BEAT and follower.paused_at is None:
                follower.send(_HEARTBEAT, now)

    async def _make(self) -> str:
        made: list[str] = []
        began = self._timer()
        pieces = await self._pieces()
        self._cost += self._timer() - began
        for piece in pieces:
            if made:
                await deferLater(self._clock, 0)  # let the reactor do other work
            began = self._timer()
            made.append(await flat(piece))
            self._cost += self._timer() - began
        return "".join(made)

    def _end_the_old(self, now: float) -> None:
        for follower in tuple(self._followers):
            stuck = follower.paused_at is not None and now - follower.paused_at >= STUCK
            if stuck:
                self._forget(follower)
                follower.request.unregisterProducer()
                follower.request.transport.abortConnection()
            elif now - follower.began >= LONGEST:
                self._forget(follower)
                follower.request.unregisterProducer()
                follower.ended.callback(b"")

    def _rest(self) -> None:
        self._busy = False
        if self._followers:
            self._next = self._clock.callLater(max(LOOK, self._cost * PARTS), self._turn)

    def stop(self) -> None:
        """Stop looking."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
