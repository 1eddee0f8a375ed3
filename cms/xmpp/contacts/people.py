"""
Who the users of the domain are: names and pictures, asked of the Callbridges and kept for a while.

Only they know the directories, so all that can be asked are asked at the same time, and who knows
the user is believed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError

from cms.linkprotocol import people
from cms.linkprotocol.login import MalformedLogin
from cms.process.logs import LineLimiter, Logger
from cms.xmlstream.requests import RequestLost, TooManyRequests
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import WrittenRequest
from cms.xmpp.links import Link, Links

ANSWER_TIMEOUT: Final = 8.0  # seconds that a Callbridge has; its directory may be far away
KEPT: Final = 300.0  # seconds for which an answer holds
KEPT_NOBODY: Final = 60.0  # and that there is no such user, or no picture could be had
MOST_OPEN: Final = 100  # users that are asked for at the same time: log-ins need the link too
MOST_KEPT: Final = 10_000  # answers
MOST_BYTES: Final = 16 * 1024 * 1024  # of their pictures

Found = people.Person | None


@frozen
class _Kept:
    found: Found
    until: float
    size: int


class People:
    """
    Asks, and keeps answers.

    @param timeout: Seconds that a Callbridge has.
    @ivar figures: How often it was asked, and what it came to.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, domain: str, links: Links, *, timeout: float = ANSWER_TIMEOUT
    ) -> None:
        self.figures = dict.fromkeys(("found", "nobody", "kept", "undecided", "busy"), 0)
        self._clock = clock
        self._domain = domain
        self._links = links
        self._timeout = timeout
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._open: dict[str, list[Deferred[Found]]] = {}
        self._lines = LineLimiter(clock.seconds)

    def find(self, user: str) -> Deferred[Found]:
        """
        Who somebody is.

        @param user: A prepared bare address of the domain.
        @return: Fires with C{None} if there is no such user; fails with C{StanzaError} of type
            C{wait} if that cannot be told now.
        """
        kept = self._kept.get(user)
        if kept is not None and kept.until > self._clock.seconds():
            self._kept.move_to_end(user)
            self.figures["kept"] += 1
            return succeed(kept.found)
        waiting = self._open.get(user)
        if waiting is None and len(self._open) >= MOST_OPEN:
            self.figures["busy"] += 1
            return fail(StanzaError("resource-constraint", type="wait"))
        answer: Deferred[Found] = Deferred()
        if waiting is not None:
            waiting.append(answer)
            return answer
        self._open[user] = [answer]
        self._ask(user)
        return answer

    def known(self, user: str) -> tuple[bool, Found]:
        """Whether it is known now who somebody is, and who."""
        kept = self._kept.get(user)
        if kept is None or kept.until <= self._clock.seconds():
            return False, None
        return True, kept.found

    def _ask(self, user: str) -> None:
        links = [link for link in self._links.authorities if link.knows_people]
        missing = [link for link in self._links.silent if link.knows_people]
        answers: list[people.Answer] = [people.Undecided() for _ in missing]
        if not links:
            self._over(user, answers or [people.Undecided()])
            return
        all_ = len(links) + len(answers)

        def came(answer: people.Answer) -> None:
            answers.append(answer)
            if user in asked and (isinstance(answer, people.Person) or len(answers) == all_):
                asked.discard(user)
                self._over(user, answers)

        asked = {user}
        for link in links:
            self._ask_one(link, user).addCallback(came)

    def _ask_one(self, link: Link, user: str) -> Deferred[people.Answer]:
        if link.is_full or link.is_stalled:
            return succeed(people.Undecided())
        content = people.Ask(user).to_xml()
        question = WrittenRequest("get", self._domain, link.component, content)
        asked = link.requests.ask(question, self._timeout)
        read: Deferred[people.Answer] = asked.addCallback(_read)
        return read.addErrback(self._explain, link)

    def _explain(self, failure: Failure, link: Link) -> people.Answer:
        expected = (RequestLost, DeferredTimeout, TooManyRequests, StanzaError, MalformedLogin)
        if not failure.check(*expected):
            self.log.failure("unexpected error while {c} was asked", failure, c=link.component)
        elif self._lines.allows():
            self.log.warn(
                "{component} did not say who a user is ({problem})",
                component=link.component,
                problem=f"{type(failure.value).__name__}: {failure.getErrorMessage()}",
            )
        return people.Undecided()

    def _over(self, user: str, answers: Sequence[people.Answer]) -> None:
        waiting = self._open.pop(user)
        persons = [answer for answer in answers if isinstance(answer, people.Person)]
        if persons:
            self.figures["found"] += 1
            self._keep(user, persons[0])
        elif all(isinstance(answer, people.Nobody) for answer in answers):
            self.figures["nobody"] += 1
            self._keep(user, None)
        elif user not in self._kept:  # else what was known is better than nothing
            self.figures["undecided"] += 1
            for each in waiting:
                each.errback(StanzaError("remote-server-timeout", type="wait"))
            return
        found = self._kept[user].found
        for each in waiting:
            each.callback(found)

    def _keep(self, user: str, found: Found) -> None:
        before = self._kept.get(user)
        self.forget(user)
        decided = found is not None and not found.undecided
        if found is not None and not decided and before is not None and before.found is not None:
            found = evolve(found, picture=before.found.picture)  # it is what is known
        size = 0 if found is None else len(found.picture)
        seconds = KEPT if decided else KEPT_NOBODY
        self._kept[user] = _Kept(found, self._clock.seconds() + seconds, size)
        self._bytes += size
        while len(self._kept) > MOST_KEPT or self._bytes > MOST_BYTES:
            self.forget(next(iter(self._kept)))

    def forget(self, user: str) -> None:
        """Ask anew, the next time."""
        kept = self._kept.pop(user, None)
        if kept is not None:
            self._bytes -= kept.size


def _read(stanza: Stanza) -> people.Answer:
    return people.parse_answer(stanza.child)
