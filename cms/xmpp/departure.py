"""
How a component is sent to another server before its own is stopped (docs/design/drain.md).

Its link gets no new log-ins, and those under way are let finish.  Then what others have for it
waits here, what was sent before is acknowledged, and the other servers hear how much of what it
said was handled.  Then its stream ends with C{system-shutdown}, and a Callbridge connects to the
next server at once.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from cms.process.logs import Logger
from cms.xmpp.elsewhere import Cluster
from cms.xmpp.leavingparty import LeavingParty
from cms.xmpp.links import Link, Links

LOGIN_SECONDS = 5.0  # at most, for the log-ins under way over a link
LOOK_SECONDS = 0.05  # between two looks whether they are over
ACKNOWLEDGE_SECONDS = 2.0  # at most, for a component to acknowledge what was sent
CUT_SECONDS = 10.0  # at most, for a server that is cut off just then to reach the others again


class Departure:
    """
    That of one link.

    @param cluster: Where it goes.
    @ivar link: That.
    @ivar is_over: Whether its stream has been ended.
    @ivar has_stayed: Whether it stays: it was cancelled, or no other server is in reach now.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        links: Links,
        link: Link,
        cluster: Cluster,
    ) -> None:
        self.is_over = self.has_stayed = False
        self._clock = clock
        self._links = links
        self.link = link
        self._cluster = cluster
        self._stays = False
        self._asked: frozenset[str] | None = None

    def begin(self) -> None:
        """Send it away."""
        going = Deferred.fromCoroutine(self._go())
        going.addErrback(self._failed).addBoth(lambda _: self._over())

    def cancel(self) -> None:
        """It stays, if it is not too late."""
        self._stays = True

    def _over(self) -> None:
        self.is_over = True

    def _failed(self, failure: Failure) -> None:
        self.log.failure("unexpected error while a component is sent away", failure)

    def _after(self, seconds: float) -> Deferred[None]:
        passed: Deferred[None] = Deferred()
        self._clock.callLater(seconds, passed.callback, None)
        return passed

    async def _go(self) -> None:
        link = self.link
        assert isinstance(link, LeavingParty)  # noqa: S101 - it is of this node
        link.leaves = True
        self._links.quiet(link)
        # Who has not heard of it yet may have asked it something, which comes before the answer.
        await self._cluster.known()
        ends = self._clock.seconds() + LOGIN_SECONDS
        while self._is_asked(link) and self._clock.seconds() < ends and not self._stays:
            await self._after(LOOK_SECONDS)
        if link.previd is not None and link.is_open and not (link.is_away or self._stays):
            await self._acknowledged(link)
        if not link.is_open:
            return
        if self._stays or not self._cluster.takers:
            self._stay(link)
        elif link.previd is None:
            link.shut_down()
        else:
            close = None if link.is_away else link.depart()
            await self._told(link, self.link.component)
            if close is not None:
                close()

    async def _told(self, link: LeavingParty, component: str) -> None:
        """The others know how much was handled of it, and have got what it had said to them."""
        ends = self._clock.seconds() + CUT_SECONDS
        await self._cluster.left(link, component)
        while not self._cluster.takers and self._clock.seconds() < ends:
            await self._after(LOOK_SECONDS)  # cut off: what it said there would be overtaken
            await self._cluster.known()

    def _stay(self, link: LeavingParty) -> None:
        self.has_stayed = True
        link.leaves = False
        link.hold_no_more()
        if link.is_away:
            self._links.quiet(self.link)
        else:
            self._links.back(self.link)

    def _is_asked(self, link: LeavingParty) -> bool:
        """Whether a log-in is under way over it."""
        if link.is_away:
            return False
        if self.link.challenged:
            self._asked = None  # and will be asked again
            return True
        if self._asked is None:
            self._asked = link.requests.open
        return bool(self._asked & link.requests.open)

    def _acknowledged(self, link: LeavingParty) -> Deferred[None]:
        """Fires when what was sent is acknowledged, or the time for that is over."""
        done: Deferred[None] = Deferred()
        timer = self._clock.callLater(ACKNOWLEDGE_SECONDS, done.callback, None)

        def acknowledged(_: None) -> None:
            if timer.active():
                timer.cancel()
                # Not amid what it is saying: that is handled first.
                self._clock.callLater(0, done.callback, None)

        link.hold_back().addCallback(acknowledged)
        return done
