"""
Guests on the XMPP server: Callbridges are asked to admit them, and their log-ins go to
whichever did.

The server decides nothing, and knows no space.  Each Callbridge that admits guests has
spaces of its own, so all are asked at the same time: whatever is wrong, all have to answer,
and so every wrong try takes as long.  What is remembered is who admitted whom, until the
guest has logged in.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError

from cms import faults
from cms.door.interfaces import Outcome, Unserved
from cms.linkprotocol import join
from cms.linkprotocol.login import MalformedLogin
from cms.process.logs import LineLimiter, Logger, wanted
from cms.signalflow import Step, StepError
from cms.xmlstream.jid import MalformedJID, parse_jid
from cms.xmlstream.requests import RequestLost, TooManyRequests
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import WrittenRequest
from cms.xmpp.flowrecord import ServerFlow
from cms.xmpp.links import Link, Links

ANSWER_TIMEOUT = 5.0  # seconds that a Callbridge has; somebody looks at a page meanwhile
MOST_ISSUED = 20_000  # guests that may be on their way from their admission to their log-in
ADMITTED, UNDECIDED = "admitted", faults.JOIN_UNDECIDED.name
OUTCOMES = (
    *(ADMITTED, faults.JOIN_REFUSED.name, faults.JOIN_SLOWED.name, faults.REENTRY_OVER.name),
    *(UNDECIDED, faults.JOIN_UNSUPPORTED.name, faults.NO_CALLBRIDGE.name),
    *(faults.NO_AUTHORITY.name, faults.LINK_STALLED.name),
)
# A client's first message of SCRAM (RFC 5802 7), as far as it names a guest.
_NAMED = re.compile(
    rb"(?:[ny]|p=[^,]{1,64}),[^,]{0,1024},n=(guest-[0-9a-f]{16})(?:@[^,]{0,1024})?,"
)


class Admissions:
    """
    Asks the Callbridges, and remembers who admitted whom.

    Implements L{Guests<cms.door.interfaces.Guests>}.

    @param timeout: Seconds that each has.
    @ivar figures: How often each outcome was.
    @ivar ready: Fires when all Callbridges that are there are known.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        domain: str,
        links: Links,
        flow: ServerFlow,
        *,
        timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.figures = dict.fromkeys(OUTCOMES, 0)
        self.ready: Callable[[], Deferred[None]] = lambda: succeed(None)
        self._flow = flow
        self._lines = LineLimiter(clock.seconds)
        self._clock = clock
        self._domain = domain
        self._links = links
        self._timeout = timeout
        self._issued: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def admit(self, wish: join.Admit) -> Deferred[Outcome]:
        """
        Ask all Callbridges that admit guests.

        @return: Never fails.  A yes is passed on at once, a no when all have answered.
        """
        answer: Deferred[Outcome] = self.ready().addCallback(lambda _: self._ask_all(wish))
        return answer.addCallback(self._note, wish)

    def _ask_all(self, wish: join.Admit) -> Deferred[Outcome]:
        links = [link for link in self._links.authorities if link.admits]
        if not links:
            return succeed(Unserved(self._nobody()))
        answer: Deferred[Outcome] = Deferred()
        # One that is about to come back may have the space: then nobody can say no.
        answers: dict[Link, Outcome] = {
            link: Unserved(_undecided(f"{link.component} cannot be asked now"))
            for link in self._links.silent
            if link.admits
        }
        all_ = len(links) + len(answers)
        if all_ > 1:
            wish = evolve(wish, id=os.urandom(12).hex())

        def came(one: Outcome, link: Link) -> None:
            answers[link] = one
            if len(answers) == all_:
                self._forgive(wish, answers)
            if answer.called:
                return
            if isinstance(one, join.Admitted):
                answer.callback(one)
            elif len(answers) == all_:
                answer.callback(_together(list(answers.values())))

        for link in links:
            self._ask(link, wish).addCallback(came, link)
        return answer

    def _forgive(self, wish: join.Admit, answers: Mapping[Link, Outcome]) -> None:
        """
        Where one Callbridge has the space, the others must not count the call ID as a guess:
        people of one address would be held up by each other's joins elsewhere.
        """
        if wish.id and any(isinstance(one, join.Admitted) for one in answers.values()):
            message = join.Elsewhere(wish.id).to_xml()
            for link, one in answers.items():
                if isinstance(one, join.Refused):
                    request = WrittenRequest("set", self._domain, link.component, message)
                    link.requests.ask(request, self._timeout).addErrback(self._unheard, link)

    def _unheard(self, failure: Failure, link: Link) -> None:
        failure.trap(RequestLost, DeferredTimeout, TooManyRequests, StanzaError)
        self.log.debug("{c} did not take a notice of a guest", c=link.component)

    def _nobody(self) -> StepError:
        able = self._links.authorities
        if not able:
            return self._links.nobody()
        names = ", ".join(sorted(link.component for link in able))
        return faults.JOIN_UNSUPPORTED.error(components=names)

    def _ask(self, link: Link, wish: join.Admit) -> Deferred[Outcome]:
        if link.is_full or link.is_stalled:
            return succeed(Unserved(faults.LINK_STALLED.error(peer=link.component)))
        request = WrittenRequest("set", self._domain, link.component, wish.to_xml())
        asked = link.requests.ask(request, self._timeout)
        answer: Deferred[Outcome] = asked.addCallback(self._read, link)
        return answer.addErrback(self._explain, link)

    def _read(self, stanza: Stanza, link: Link) -> Outcome:
        answer = join.parse(stanza.child)
        if isinstance(answer, join.Undecided):
            return Unserved(_undecided(f"{link.component} cannot tell now"))
        if isinstance(answer, join.Admit | join.Elsewhere):
            raise MalformedLogin("not an answer")
        if isinstance(answer, join.Admitted):
            self._check(answer, link)
            self._remember(answer, link)
        return answer

    def _check(self, admitted: join.Admitted, link: Link) -> None:
        """A Callbridge speaks for its own rooms, and not for the accounts of users."""
        jid, space = parse_jid(admitted.jid), parse_jid(admitted.space)
        if jid.host != self._domain or not join.is_visitor(str(jid.user)):
            raise MalformedLogin("the address is not a guest's of this domain")
        if space.host != link.component:
            raise MalformedLogin("the space is another component's")

    def _explain(self, failure: Failure, link: Link) -> Outcome:
        component = link.component
        if failure.check(RequestLost):
            return Unserved(_undecided(f"{component} was lost meanwhile"))
        if failure.check(DeferredTimeout):
            return Unserved(_undecided(f"{component} did not answer within {self._timeout:g} s"))
        if failure.check(TooManyRequests):
            return Unserved(faults.LINK_STALLED.error(peer=component))
        if not failure.check(StanzaError, MalformedLogin):
            self.log.failure("unexpected error while {c} was asked", failure, c=component)
            return Unserved(_undecided("an unexpected error, which the log has"))
        problem = f"{type(failure.value).__name__}: {failure.getErrorMessage()}"
        return Unserved(_undecided(f"{component} gave no usable answer ({problem})"))

    def _note(self, outcome: Outcome, wish: join.Admit) -> Outcome:
        """For figures, signal flow and log, in which is no passcode, secret or token."""
        if isinstance(outcome, join.Admitted):
            self.figures[ADMITTED] += 1
            self._flow.guest_admitted(outcome.jid, wish.peer, outcome.space)
            if wanted(LogLevel.info):
                self.log.info(
                    "{step_text}: guest {jid} from {peer} was admitted to {space}",
                    step=int(Step.LOGIN),
                    step_text=str(Step.LOGIN),
                    jid=outcome.jid,
                    peer=wish.peer,
                    space=outcome.space,
                )
            return outcome
        fault = _fault(outcome, wish)
        self.figures[fault.fault if fault.fault in self.figures else UNDECIDED] += 1
        self._flow.guest_refused(wish.peer, fault)
        if self._lines.allows():
            log = self.log.warn if isinstance(outcome, Unserved) else self.log.info
            log("guest from {peer} not admitted: {cause}", **{**fault.fields, "peer": wish.peer})
        return outcome

    # who admitted whom

    def _remember(self, admitted: join.Admitted, link: Link) -> None:
        now = self._clock.seconds()
        issued = self._issued
        issued.pop(admitted.jid, None)
        issued[admitted.jid] = link.component, now + admitted.expires
        while issued and (len(issued) > MOST_ISSUED or next(iter(issued.values()))[1] < now):
            issued.popitem(last=False)

    def issuer(self, claimed: str | None, payload: bytes | None) -> Link | None:
        """
        The Callbridge to which a log-in belongs; C{None}: any.

        @param claimed: C{from} of the client's header.  Where that is left out, as many
            programs do, SCRAM's first message counts.
        """
        if not self._issued:
            return None
        account = self._account(claimed, payload)
        component, until = self._issued.get(account, ("", 0.0))
        if until < self._clock.seconds():
            return None
        return self._links.get(component)

    def _account(self, claimed: str | None, payload: bytes | None) -> str:
        if claimed:
            try:
                return str(parse_jid(claimed).userhost())
            except MalformedJID:
                return ""
        named = _NAMED.match(payload or b"")
        return "" if named is None else f"{named[1].decode()}@{self._domain}"


def _together(answers: Sequence[Outcome]) -> Outcome:
    """What several that did not say yes come to."""
    slowed = [answer for answer in answers if isinstance(answer, join.Slowed)]
    if slowed:
        return max(slowed, key=lambda answer: answer.seconds)
    for answer in answers:
        if isinstance(answer, Unserved):
            return answer
    return answers[0]


def _fault(outcome: Outcome, wish: join.Admit) -> StepError:
    if isinstance(outcome, Unserved):
        return outcome.fault
    if isinstance(outcome, join.Slowed):
        return faults.JOIN_SLOWED.error(peer=wish.peer)
    if isinstance(outcome, join.Over):
        return faults.REENTRY_OVER.error()
    return faults.join_refused("")


def _undecided(problem: str) -> StepError:
    return faults.JOIN_UNDECIDED.error(problem=problem)
