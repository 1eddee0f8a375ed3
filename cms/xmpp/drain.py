"""
Maintenance without loss: a server that is about to be stopped takes nothing new, and what it has
goes to the other servers (docs/design/drain.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.signalflow import StepError, counted
from cms.xmlstream.stream import XMLStream
from cms.xmpp.clientnegotiation import ClientNegotiation
from cms.xmpp.clientpolicy import ClientPolicy
from cms.xmpp.clientsession import ClientSession
from cms.xmpp.componentregistration import ComponentRegistration
from cms.xmpp.departure import Departure
from cms.xmpp.elsewhere import Cluster
from cms.xmpp.links import Link, Links

LOGIN_SECONDS = 10.0  # at most, for log-ins under way here
SPREAD_SECONDS = 5.0  # in which the sessions go, so that their clients do not all come at once
TICK_SECONDS = 0.1
AUTHORITY_SECONDS = 5.0  # at most, for a Callbridge to decide log-ins at another server
YOUNG_SECONDS = 2.0  # in which a client enables stream management, or does not

OPEN, DRAINING, DRAINED = "open", "draining", "drained"


class NowhereToGo(Exception):
    """No other server takes what this one has."""


class Doors(Protocol):
    """The listeners for clients, components and browsers."""

    def shut(self) -> None:
        """Refuse connections, for a while."""
        ...

    async def reopen(self) -> None:
        """
        Accept them again.

        @raise StepError: a listener cannot be opened.
        """
        ...

    def streams(self) -> Iterable[XMLStream]:
        """Those that are open, of all listeners."""
        ...


@define(eq=False)
class _Work:
    """
    One drain.

    @ivar ends: When what is still here is ended.
    @ivar waits_since: Since when a component that has gone is not at another server yet.
    @ivar a_tick: How many sessions may go in each.
    @ivar seen: Since when a session that cannot be resumed is looked at.
    """

    began: float
    ends: float
    departures: list[Departure] = field(factory=list)
    waits_since: float | None = None
    a_tick: int = 0
    seen: dict[ClientSession, float] = field(factory=dict)


class Drain:
    """
    Drains this server, if it is told to.

    @ivar state: C{open}, C{draining} or C{drained}.
    @ivar given: How many sessions have gone to other servers.
    @ivar ended: How many were ended.
    @ivar on_change: Called when the state changes.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        policy: ClientPolicy,
        links: Links,
        doors: Doors,
        cluster: Cluster | None,
    ) -> None:
        self.state = OPEN
        self.given = self.ended = 0
        self.on_change: list[Callable[[], object]] = []
        self._clock = clock
        self._policy = policy
        self._links = links
        self._doors = doors
        self._cluster = cluster
        self._work: _Work | None = None
        self._timer: IDelayedCall | None = None

    @property
    def seconds_left(self) -> float:
        """Until what is still here is ended."""
        work = self._work
        return 0.0 if work is None else max(0.0, work.ends - self._clock.seconds())

    @property
    def takers(self) -> int:
        """How many other servers take what this one has."""
        return 0 if self._cluster is None else self._cluster.takers

    def begin(self, seconds: float, *, forced: bool = False) -> None:
        """
        Begin; or, if it is under way, only set how long it takes from now on.

        @param forced: Also where its clients have nowhere to go.
        @raise NowhereToGo: this server is in a cluster, and no other one takes them.
        """
        now = self._clock.seconds()
        if self._work is not None:
            self._work.ends = now + seconds
            return
        if self._cluster is not None and not self.takers and not forced:
            raise NowhereToGo
        self._work = _Work(now, now + seconds)
        self._doors.shut()
        self._policy.is_draining = True
        if self._cluster is not None:
            self._cluster.drains(True)
        self.log.info(
            "this server is drained within {seconds:.0f} s: {sessions}, {links},"
            " {takers} that may take them",
            seconds=seconds,
            sessions=counted(len(self._policy.sessions), "client"),
            links=counted(len(self._links), "component"),
            takers=counted(self.takers, "other server"),
        )
        self._become(DRAINING)
        self._tick()

    async def cancel(self) -> None:
        """
        Take what comes again.  What has gone stays where it is.

        @raise StepError: a listener cannot be opened; the others are, and this can be repeated.
        """
        work = self._work
        if work is None:
            return
        self._stop_timer()
        for departure in work.departures:
            departure.cancel()
        try:
            await self._doors.reopen()
        except StepError:
            self._tick()
            raise
        self._work = None
        self._policy.is_draining = False
        if self._cluster is not None:
            self._cluster.drains(False)
        self.log.info("this server is not drained any more: it takes what comes")
        self._become(OPEN)

    def stop(self) -> None:
        """The server stops."""
        self._stop_timer()

    def _become(self, state: str) -> None:
        self.state = state
        call_all(self.log, self.on_change)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _tick(self) -> None:
        self._timer = None
        work, now = self._work, self._clock.seconds()
        if work is None:
            return
        if now >= work.ends and self.state == DRAINING:
            self._end_all()
        else:
            self._send_away(all_of_them=now - work.began >= LOGIN_SECONDS)
            cluster = self._cluster
            if cluster is not None and cluster.takers and self._components_go(work, cluster):
                self._sessions_go(work, cluster)
        if self.state == DRAINING and self._is_empty:
            self.log.info(
                "this server is drained, and can be stopped: {given} went to other servers,"
                " {ended} ended",
                given=counted(self.given, "session"),
                ended=self.ended,
            )
            self._become(DRAINED)
        self._timer = self._clock.callLater(TICK_SECONDS, self._tick)

    @property
    def _is_empty(self) -> bool:
        if len(self._policy.sessions) or len(self._links) or any(self._doors.streams()):
            return False
        return self._cluster is None or self._cluster.is_settled

    def _send_away(self, *, all_of_them: bool) -> None:
        """End the streams that are nobody's yet; log-ins under way have some seconds."""
        for stream in list(self._doors.streams()):
            handler = stream.handler
            if isinstance(handler, ClientNegotiation):
                if all_of_them or not handler.is_logging_in:
                    handler.shut_down()
            elif isinstance(handler, ComponentRegistration):
                handler.shut_down()

    # to other servers

    def _components_go(self, work: _Work, cluster: Cluster) -> bool:
        """
        First the components: the clients log in by them at the other servers.  The first
        Callbridge goes alone, so that there always is one.

        @return: Whether they have gone.
        """
        work.departures = [each for each in work.departures if not each.has_stayed]
        known = {departure.link for departure in work.departures}
        staying = [link for link in self._links if link not in known]
        deciding = [link for link in staying if link.mechanisms]
        if staying:
            if deciding and not known and not cluster.decides:
                self._send(work, cluster, deciding[0])
            elif not deciding or self._is_decided(work, cluster):
                for link in staying:
                    self._send(work, cluster, link)
            return False
        if not all(departure.is_over for departure in work.departures):
            return False
        return not known or self._is_decided(work, cluster)

    def _send(self, work: _Work, cluster: Cluster, link: Link) -> None:
        departure = Departure(self._clock, self._links, link, cluster)
        work.departures.append(departure)
        work.waits_since = None
        departure.begin()

    def _is_decided(self, work: _Work, cluster: Cluster) -> bool:
        """Whether another server decides log-ins, or was waited for long enough."""
        if cluster.decides:
            return True
        if not work.departures[-1].is_over:
            return False
        now = self._clock.seconds()
        if work.waits_since is None:
            work.waits_since = now
        return now - work.waits_since >= AUTHORITY_SECONDS

    def _sessions_go(self, work: _Work, cluster: Cluster) -> None:
        sessions = [each for each in self._policy.sessions if isinstance(each, ClientSession)]
        if not work.a_tick:
            work.a_tick = max(1, ceil(len(sessions) * TICK_SECONDS / SPREAD_SECONDS))
        left, now = work.a_tick, self._clock.seconds()
        for session in sessions:
            if not left:
                return
            if session.previd is not None:
                if not cluster.give(session, self._gone):
                    continue  # it is about to go, or whoever takes it is behind
            elif now - work.seen.setdefault(session, now) < YOUNG_SECONDS:
                continue
            else:
                del work.seen[session]
                self._end(session)
            left -= 1

    def _gone(self) -> None:
        self.given += 1

    # the end

    def _end(self, session: ClientSession) -> None:
        self.ended += 1
        session.shut_down()

    def _end_all(self) -> None:
        """The time is over: what is still here ends as when the server stops."""
        for session in list(self._policy.sessions):
            if isinstance(session, ClientSession):
                self._end(session)
        self._policy.relay.send_notices()
        for stream in list(self._doors.streams()):
            stream.handler.shut_down()
        for link in list(self._links):
            if link.is_away:
                link.replace()
