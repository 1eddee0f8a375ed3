"""
Tells the XMPP server who is in a group of a directory with whom (docs/login-protocol.md 9).

When the link is up, and after each sync, the server is asked what it knows; it is told what is
different, a group at a time.  Where there are no groups any more it is asked until it has
confirmed that it knows none, and then no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError

from cms import faults
from cms.linkprotocol import groups as gp
from cms.linkprotocol.login import MalformedLogin, expect
from cms.process.logs import Logger
from cms.process.threads import SlowWork, TooMuchWork
from cms.signalflow import counted
from cms.state.database import StoreUnusable
from cms.xmlstream.requests import RequestLost, Requests, TooManyRequests
from cms.xmlstream.textiq import WrittenRequest

ANSWER_TIMEOUT: Final = 30.0  # seconds that the server has for each group
AGAIN: Final = 300.0  # seconds, about, until a server that did not answer is asked again
# Seconds of a link before which it is not believed that the server knows none: one that has just
# come back to its cluster may not have them yet.
SETTLED: Final = 60.0
MOST_PAGES: Final = 50  # of what the server knows
# What may be otherwise in some minutes.
_NOT_NOW: Final = (StoreUnusable, TooMuchWork, DeferredTimeout, TooManyRequests, MalformedLogin)


class Carrier(Protocol):
    """The stream of a link, as far as it is used here."""

    requests: Requests


class Ours(Protocol):
    """Our groups: L{OwnGroups<cms.callbridge.directories.own.OwnGroups>}."""

    def read(self) -> Sequence[gp.Group] | None: ...

    def none_told(self) -> None: ...


class GroupTeller:
    """
    Keeps the server's groups the same as ours.

    @param ours: Gives our groups, which are read in a thread; C{None}: no directory ever had any.
    @param names: The XMPP domain and the component's address.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        ours: Callable[[], Ours | None],
        work: SlowWork,
        names: Callable[[], tuple[str, str]],
        random: Random,
    ) -> None:
        self._clock = clock
        self._ours = ours
        self._work = work
        self._names = names
        self._random = random
        self._next: Carrier | None = None
        self._stream: Carrier | None = None
        self._under_way: Deferred[None] | None = None
        self._again = False
        self._since = 0.0
        self._timer: IDelayedCall | None = None

    def link_up(self, stream: Carrier) -> None:
        """There is a link; the server believes nothing yet."""
        self._stream, self._next = None, stream

    def named(self) -> None:
        """The server knows what this Callbridge decides, and believes it."""
        self._stream, self._since = self._next, self._clock.seconds()
        self.changed()

    def link_down(self) -> None:
        """There is none."""
        self._stream = self._next = None
        self._stop_timer()

    def changed(self) -> None:
        """Our groups may be others."""
        self._stop_timer()
        if self._under_way is not None:
            self._again = True
            return
        stream, ours, self._again = self._stream, self._ours(), False
        if stream is not None and ours is not None:
            self._under_way = Deferred()  # one that ends at once finds that one is under way
            self._under_way = Deferred.fromCoroutine(self._tell(stream, ours))
            self._under_way.addErrback(self._unexpected).addCallback(self._over)

    def _over(self, _: object) -> None:
        self._under_way = None
        if self._again:
            self.changed()

    def _unexpected(self, failure: Failure) -> None:
        self.log.failure("unexpected error while groups are told", failure)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def _tell(self, stream: Carrier, ours: Ours) -> None:
        refused: list[str] = []
        try:
            read = await self._work.run(ours.read)
            if read is None:
                return
            groups = {group.id: group for group in read}
            known = await self._known(stream)
            gone = [gp.Group(id_, "", ()) for id_ in known if id_ not in groups]
            changed = [group for group in groups.values() if known.get(group.id) != group.digest]
            refused += await self._set(stream, (*gone, *changed))
            if not (groups or refused):
                await self._none_told(ours)
        except RequestLost:
            return  # the next link begins anew
        except StanzaError as no:
            if not groups:
                return  # nobody misses anything
            refused.append(no.text or no.condition)
        except _NOT_NOW as why:
            self.log.warn(
                "groups of directories were not told ({why}); again in about {seconds:.0f} s",
                why=str(why) or type(why).__name__,
                seconds=AGAIN,
            )
            self._later()
            return
        self._told(len(gone) + len(changed) if not refused else 0, refused)

    async def _none_told(self, ours: Ours) -> None:
        """The server says that it knows none."""
        if self._clock.seconds() - self._since < SETTLED:
            self._later()
        else:
            await self._work.run(ours.none_told)

    def _later(self) -> None:
        delay = AGAIN * (0.75 + 0.5 * self._random.random())
        self._timer = self._clock.callLater(delay, self.changed)

    async def _set(self, stream: Carrier, groups: Sequence[gp.Group]) -> list[str]:
        """
        Tell of these, and of each that is refused once more when all others are told: until then
        a member may have been in too many.

        @return: Which are refused, and why.
        """
        refused = dict.fromkeys(groups, "")
        for _ in range(2):
            for group in list(refused):
                try:
                    await self._ask(stream, "set", group)
                except StanzaError as no:
                    refused[group] = f"{group.name}: {no.text or no.condition}"
                else:
                    del refused[group]
        return list(refused.values())

    def _told(self, number: int, refused: list[str]) -> None:
        if refused:
            told = "; ".join(refused[:3]) + ("; ..." if len(refused) > 3 else "")
            fault = faults.GROUPS_REFUSED.error(number=len(refused), problem=told)
            self.log.warn("{step_text}: {cause} Cure: {cure}", **fault.fields)
        elif number:
            told = counted(number, "group")
            self.log.info("the server was told of {groups} of directories", groups=told)

    async def _known(self, stream: Carrier) -> dict[str, str]:
        """The digests of what the server knows, by id."""
        known: dict[str, str] = {}
        after = ""
        for _ in range(MOST_PAGES):
            stanza = await self._ask(stream, "get", gp.Ask(after))
            answer = expect(gp.parse(stanza.child), gp.Known)
            known.update(answer.groups)
            if not answer.more or not answer.groups:
                break
            after = answer.groups[-1][0]
        return known

    async def _ask(self, stream: Carrier, kind: str, message: gp.Ask | gp.Group) -> Any:
        domain, component = self._names()
        question = WrittenRequest(kind, component, domain, message.to_xml())
        return await stream.requests.ask(question, ANSWER_TIMEOUT)
