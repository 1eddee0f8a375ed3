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


class Departure:
    """
    That of one link.

    @param cluster: Where it goes.
    @ivar link: That.
    @ivar is_over: Whether its stream has been ended.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        links: Links,
        link: Link,
        cluster: Cluster,
    ) -> None:
        self.is_over = False
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
        if not isinstance(link, LeavingParty) or link.is_away:
            return  # it may come back anywhere
        link.leaves = True
        self._links.quiet(link)
        # Who has not heard of it yet may have asked it something, which comes before the answer.
        await self._cluster.known()
        ends = self._clock.seconds() + LOGIN_SECONDS
        while self._is_asked(link) and self._clock.seconds() < ends and not self._stays:
            await self._after(LOOK_SECONDS)
        if link.previd is None:
            if not self._stays:
                link.shut_down()
        elif await self._acknowledged(link):
            close = link.depart()
            await self._cluster.left(link, link.component)
            close()
            return
        if self._stays and link.is_open:
            link.leaves = False
            link.hold_no_more()
            self._links.back(link)

    def _is_asked(self, link: LeavingParty) -> bool:
        """Whether a log-in is under way over it."""
        if self.link.challenged:
            self._asked = None  # and will be asked again
            return True
        if self._asked is None:
            self._asked = link.requests.open
        return bool(self._asked & link.requests.open)

    async def _acknowledged(self, link: LeavingParty) -> bool:
        """Whether it is to go, when what was sent is acknowledged or the time for that is over."""
        if self._stays or not link.is_open:
            return False
        done: Deferred[None] = Deferred()
        timer = self._clock.callLater(ACKNOWLEDGE_SECONDS, done.callback, None)

        def acknowledged(_: None) -> None:
            if timer.active():
                timer.cancel()
                # Not amid what it is saying: that is handled first.
                self._clock.callLater(0, done.callback, None)

        link.hold_back().addCallback(acknowledged)
        await done
        return link.is_open and not link.is_away and not self._stays
