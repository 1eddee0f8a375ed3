"""
Sessions that end because of their user: disabled, deleted, or with another password.

The XMPP server is asked to end them (docs/login-protocol.md 7).  Without a link, they end
when it is back: the server repeats them, and the directory says which are over.  The contacts
of who was deleted are forgotten in the same way (L{cms.callbridge.login.departures}).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element

from cms import faults
from cms.callbridge.login.authority import Authority
from cms.linkprotocol import ending
from cms.linkprotocol.login import MalformedLogin, expect
from cms.process.logs import Logger
from cms.signalflow import StepError
from cms.xmlstream.requests import RequestLost, Requests, TooManyRequests
from cms.xmlstream.textiq import WrittenRequest

_T = TypeVar("_T")
ANSWER_TIMEOUT = 5.0  # seconds that the server has: a command waits for ten
AT_ONCE = 20  # questions: a synchronisation may end thousands


class Carrier(Protocol):
    """The stream of a link, as far as it is used here."""

    requests: Requests


@frozen
class Outcome:
    """
    What became of a user's sessions.

    @ivar sessions: How many have ended.
    @ivar problem: Why those that there may be have not.
    """

    sessions: int = 0
    problem: StepError | None = None


@frozen
class Forgotten:
    """
    What became of a user's contacts.

    @ivar contacts: How many entries are forgotten; C{None}: they are not.
    @ivar problem: Why not.
    @ivar later: Whether it is to be tried again.
    """

    contacts: int | None = None
    problem: StepError | None = None
    later: bool = False


class Unanswered(Exception):
    """The XMPP server cannot be asked, or does not answer."""


class Endings:
    """
    Ends sessions, and has contacts forgotten.

    @param authority: The one that decides now.
    @param names: The XMPP domain and the component's address.
    @ivar on_named: Called when the server was told what this Callbridge decides: it believes
        what it says from then on.
    """

    log = Logger()

    def __init__(
        self, authority: Callable[[], Authority], names: Callable[[], tuple[str, str]]
    ) -> None:
        self._authority = authority
        self._names = names
        self._stream: Carrier | None = None
        self._turn = DeferredSemaphore(AT_ONCE)
        self.on_named: Callable[[], object] = lambda: None

    @property
    def can_ask(self) -> bool:
        """Whether there is a link."""
        return self._stream is not None

    def link_up(self, stream: Carrier) -> None:
        """There is a link."""
        self._stream = stream

    def link_down(self) -> None:
        """There is none."""
        self._stream = None

    def end(self, name: str, reason: str) -> Deferred[Outcome]:
        """
        End all sessions of a user, and the log-ins under way.  Call it when the directory has
        changed already.

        @param name: The prepared local part.
        @param reason: One of L{ending.REASONS}, or another word.
        @return: Never fails.
        """
        self._authority().drop(name)
        return self.end_sessions(name, reason)

    def end_sessions(self, name: str, reason: str) -> Deferred[Outcome]:
        """The same without the log-ins under way, one of which has found the reason."""
        return self._in_turn(lambda: self._ended(f"{name}@{self._names()[0]}", reason))

    def end_one(self, jid: str, reason: str) -> Deferred[Outcome]:
        """End the session of this full address; see L{end}."""
        return self._in_turn(lambda: self._ended(jid, reason))

    def forget(self, name: str) -> Deferred[Forgotten]:
        """
        Have the contacts of a user forgotten who was deleted.

        @param name: The prepared local part.
        @return: Never fails.
        """
        return self._in_turn(lambda: self._forgotten(f"{name}@{self._names()[0]}"))

    def _in_turn(self, ask: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> Deferred[_T]:
        return self._turn.run(lambda: Deferred.fromCoroutine(ask()))

    async def _ask(self, content: str) -> Element | None:
        """
        The server's answer.

        @raise Unanswered: there is none.
        @raise StanzaError: it is no.
        """
        domain, component = self._names()
        stream = self._stream
        if stream is None:
            raise Unanswered("the link is down")
        question = WrittenRequest("set", component, domain, content)
        try:
            return (await stream.requests.ask(question, ANSWER_TIMEOUT)).child
        except (RequestLost, TooManyRequests, DeferredTimeout) as problem:
            why = f"the XMPP server did not answer ({type(problem).__name__})"
            raise Unanswered(why) from None

    async def _ended(self, jid: str, reason: str) -> Outcome:
        try:
            answer = await self._ask(ending.End(jid, reason).to_xml())
            return Outcome(expect(ending.parse(answer), ending.Ended).sessions)
        except Unanswered as problem:
            return Outcome(
                problem=self._told(faults.SESSIONS_LATER.error(jid=jid, problem=problem))
            )
        except (StanzaError, MalformedLogin) as problem:
            known = self._authority().sessions_of(jid)
            if not known:
                return Outcome()
            fault = faults.SESSIONS_STAY.error(jid=jid, number=len(known), problem=_why(problem))
            return Outcome(problem=self._told(fault))

    async def _forgotten(self, jid: str) -> Forgotten:
        try:
            answer = await self._ask(ending.Forget(jid).to_xml())
            return Forgotten(expect(ending.parse(answer), ending.Forgotten).contacts)
        except Unanswered as problem:
            return self._later(jid, str(problem))
        except (StanzaError, MalformedLogin) as problem:
            if isinstance(problem, StanzaError) and problem.type == "wait":
                return self._later(jid, problem.condition)
            fault = faults.CONTACTS_STAY.error(jid=jid, problem=_why(problem))
            return Forgotten(problem=self._told(fault))

    def _later(self, jid: str, problem: str) -> Forgotten:
        fault = faults.CONTACTS_LATER.error(jid=jid, problem=problem)
        return Forgotten(problem=self._told(fault), later=True)

    def _told(self, fault: StepError) -> StepError:
        self.log.warn("{step_text}: {cause} Cure: {cure}", **fault.fields)
        return fault


def _why(problem: StanzaError | MalformedLogin) -> str:
    if isinstance(problem, MalformedLogin):
        return str(problem)
    return f"{problem.condition}: {problem.text}" if problem.text else str(problem.condition)
