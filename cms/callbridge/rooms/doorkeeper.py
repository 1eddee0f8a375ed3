"""
Who is admitted as a guest (docs/login-protocol.md, section 6; docs/design/guests.md).

Whatever is wrong with a call ID, it gets one answer after one amount of work: one look-up,
one comparison, one count.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from random import Random

from attrs import define, field
from twisted.internet.defer import Deferred

from cms import faults
from cms.callbridge.login.passes import keys_of
from cms.callbridge.login.visitors import PASS_SECONDS, TooManyVisitors, Visitor, Visitors
from cms.callbridge.spaces.directory import Spaces
from cms.callbridge.spaces.model import Way
from cms.linkprotocol import join
from cms.process.logs import LineLimiter, Logger
from cms.process.threads import SlowWork, TooMuchWork
from cms.protection.guessing import Guess, Guesses, TooManyGuesses
from cms.protection.sources import LOCAL, network_of
from cms.signalflow import Step, StepError
from cms.state.database import StoreError, StoreUnusable

# What became of those who asked, for figures and log; they themselves hear less.
ADMITTED, RETURNED = "admitted", "returned"
UNKNOWN, WRONG, CLOSED, BAD_LINK, SLOWED = "unknown", "passcode", "closed", "link", "slowed"
OVER, CROWDED, UNDECIDED = "over", "crowded", "undecided"
RESULTS = (
    *(ADMITTED, RETURNED, UNKNOWN, WRONG, CLOSED, BAD_LINK),
    *(SLOWED, OVER, CROWDED, UNDECIDED),
)
MOST_UNKNOWN = 1_000  # questions of which others may have the space; they answer in seconds
MOST_JOINING = 1_000  # whose keys wait to be made; each takes a millisecond or two
CROWDED_SECONDS = 5.0  # until somebody of the same address has logged in
_DECOY = "0" * 32  # what a passcode is compared with where there is none


@define
class DoorFigures:
    """How often each result was."""

    results: dict[str, int] = field(factory=lambda: dict.fromkeys(RESULTS, 0))


class Doorkeeper:
    """
    Admits guests to spaces.

    @param nicknames: Those in the room of a space, each with whose it is.
    @param where: Gives the XMPP domain, and the address of the component.
    @param guesses: Shared with the rooms: a passcode is one, whichever way it is given.
    @param work: Derives keys in threads.
    @param told: Called with each result (of L{RESULTS}), the peer, the fault if there is
        one, and what else is seen.
    """

    log = Logger()

    def __init__(
        self,
        spaces: Spaces,
        visitors: Visitors,
        guesses: Guesses,
        work: SlowWork,
        random: Random,
        *,
        nicknames: Callable[[str], Iterable[tuple[str, str]]],
        where: Callable[[], tuple[str, str]],
        lines: LineLimiter,
        told: Callable[..., object] = lambda *_, **_seen: None,
    ) -> None:
        self._spaces = spaces
        self._visitors = visitors
        self._guesses = guesses
        self._work = work
        self._random = random
        self._nicknames = nicknames
        self._where = where
        self._lines = lines
        self._told = told
        self._unknown: OrderedDict[str, Guess | None] = OrderedDict()
        self.figures = DoorFigures()

    def decide(self, asked: join.Admit) -> Deferred[join.Answer]:
        """
        @return: Does not fail for what can go wrong with the store.
        """
        return Deferred.fromCoroutine(self._decide(asked))

    async def _decide(self, asked: join.Admit) -> join.Answer:
        try:
            if asked.reentry:
                return await self._by_token(asked)
            if asked.secret:
                return await self._by_link(asked)
            return await self._by_call_id(asked)
        except TooManyVisitors as problem:
            self._note(CROWDED, asked)
            if problem.of_address:
                return join.Slowed(join.seconds_of(CROWDED_SECONDS))
            return join.Undecided()
        except (StoreError, TooMuchWork) as problem:
            self._complain(asked, problem)
            return join.Undecided()

    async def _by_call_id(self, asked: join.Admit) -> join.Answer:
        way = await self._spaces.way("call_id", asked.call_id)
        key = f"call {asked.call_id}" if way is None else way.space.id
        try:
            guess = self._guesses.begin(key, asked.peer)
            guess.weigh()
        except TooManyGuesses as problem:
            self._note(SLOWED, asked)
            return join.Slowed(join.seconds_of(problem.seconds))
        needed = _DECOY if way is None else way.passcode
        same = hmac.compare_digest(asked.passcode.encode(), needed.encode())
        if way is None or not way.space.non_member_access or (needed and not same):
            # Who gives no passcode, since he does not know that there is one, guesses none.
            guess.failed(everywhere=bool(asked.passcode))
            guess.name("" if way is None else way.space.name)
            if asked.id:
                self._remember(asked.id, guess if way is None else None)
            is_closed = way is not None and not way.space.non_member_access
            self._note(UNKNOWN if way is None else CLOSED if is_closed else WRONG, asked, way)
            return join.Refused()
        guess.succeeded()
        return await self._admit(asked, way, by_link=False)

    def _remember(self, id_: str, guess: Guess | None) -> None:
        """The last unknown call IDs, and for the same work the rest: others may know them."""
        self._unknown[id_] = guess
        if len(self._unknown) > MOST_UNKNOWN:
            self._unknown.popitem(last=False)

    def elsewhere(self, id_: str) -> None:
        """Another Callbridge has the space that was unknown here: nobody has guessed."""
        guess = self._unknown.pop(id_, None)
        if guess is not None:
            guess.forgiven()

    async def _by_link(self, asked: join.Admit) -> join.Answer:
        """Nobody guesses 128 bits, so a link is looked at whatever was wrong before."""
        way = await self._spaces.way("secret", asked.secret)
        if way is None or not way.space.non_member_access:
            self._note(BAD_LINK if way is None else CLOSED, asked, way)
            return join.Refused()
        return await self._admit(asked, way, by_link=True)

    async def _admit(self, asked: join.Admit, way: Way, *, by_link: bool) -> join.Answer:
        visitors, network = self._visitors, network_of(asked.peer)
        visitors.check_room(way.space.id, network, limited=network != LOCAL)
        password = visitors.new_secret()
        keys = await self._work.run(partial(keys_of, password, self._random))
        visitors.check_room(way.space.id, network, limited=network != LOCAL)
        visitor = visitors.admit(way, asked.name, network, by_link=by_link)
        visitor.nick = self._free(visitor)
        token = visitors.give(visitor, password, keys)
        self._note(ADMITTED, asked, way, visitor)
        return self._answer(visitor, way, password, token)

    async def _by_token(self, asked: join.Admit) -> join.Answer:
        visitors = self._visitors
        visitor = visitors.by_token(asked.reentry)
        if visitor is None:
            self._note(OVER, asked)
            return join.Over()
        wait = visitors.may_return(visitor)
        if wait:
            self._note(SLOWED, asked)
            return join.Slowed(join.seconds_of(wait))
        way = await self._spaces.way("id", visitor.way)
        if not visitor.may_come_by(way):
            visitors.end(visitor)
        password = visitors.new_secret()
        keys = await self._work.run(partial(keys_of, password, self._random))
        if way is None or visitors.by_token(asked.reentry) is not visitor:
            self._note(OVER, asked)
            return join.Over()
        visitor.nick = self._free(visitor)
        token = visitors.give(visitor, password, keys, asked.reentry)
        self._note(RETURNED, asked, way, visitor)
        return self._answer(visitor, way, password, token)

    def _answer(self, visitor: Visitor, way: Way, password: str, token: str) -> join.Answer:
        domain, component = self._where()
        return join.Admitted(
            jid=f"{visitor.name}@{domain}",
            password=password,
            expires=PASS_SECONDS,
            space=f"{way.space.uri}@{component}",
            nick=visitor.nick,
            title=way.space.name,
            reentry=token,
            call_id=way.call_id,
        )

    def _free(self, visitor: Visitor) -> str:
        """His name, with a number if somebody else has it in the space or on the way there."""
        own = f"{visitor.name}@{self._where()[0]}"
        taken = {nick.casefold() for nick, of in self._nicknames(visitor.space) if of != own}
        for other in self._visitors.of_space(visitor.space):
            if other is not visitor and (other.sessions or other.keys is not None):
                taken.add(other.nick.casefold())
        nick, number = visitor.nick or visitor.called, 1
        while nick.casefold() in taken:
            number += 1
            nick = join.numbered(visitor.called, number)
        return nick

    # what an operator sees

    def _note(
        self, result: str, asked: join.Admit, way: Way | None = None, who: Visitor | None = None
    ) -> None:
        self.figures.results[result] += 1
        seen = {} if way is None else {"space": way.space.name}
        self._told(result, asked.peer, _fault(result, asked), **seen)
        if who is None and not self._lines.allows():
            return
        how = "re-entry" if asked.reentry else "link" if asked.secret else f"ID {asked.call_id}"
        self.log.info(
            "{step_text}: guest {result} ({how}, from {peer}{space}{jid})",
            step=int(Step.LOGIN),
            step_text=str(Step.LOGIN),
            result=result if who is not None else f"not admitted: {result}",
            how=how,
            peer=asked.peer,
            space="" if way is None else f", space {way.space.id} ({way.space.name})",
            jid="" if who is None else f", as {who.name}",
        )

    def _complain(self, asked: join.Admit, problem: Exception) -> None:
        self._note(UNDECIDED, asked)
        if not self._lines.allows():
            return
        if isinstance(problem, StoreUnusable):
            self.log.warn("nobody is admitted: {cause} Cure: {cure}", **problem.fault.fields)
        else:
            why = str(problem) or "too much waits already"
            self.log.warn("somebody was not admitted: {why}", why=why)


def _fault(result: str, asked: join.Admit) -> StepError | None:
    """What a result is in the catalogue; C{None}: he was admitted."""
    if result in (ADMITTED, RETURNED):
        return None
    if result == SLOWED:
        return faults.JOIN_SLOWED.error(peer=asked.peer)
    if result == OVER:
        return faults.REENTRY_OVER.error()
    if result == CROWDED:
        return faults.JOIN_CROWDED.error(problem="there are as many as may be")
    if result == UNDECIDED:
        return faults.JOIN_UNDECIDED.error(problem="the spaces cannot be looked up")
    return faults.join_refused(result)
