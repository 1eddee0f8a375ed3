"""
Sessions that end because of their user: disabled, deleted, or with another password.

The XMPP server is asked to end them (docs/login-protocol.md 7).  Without a link, they end
when it is back: the server repeats them, and the directory says which are over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.words.protocols.jabber.error import StanzaError

from cms import faults
from cms.callbridge.login.authority import Authority
from cms.linkprotocol import ending
from cms.linkprotocol.login import MalformedLogin
from cms.process.logs import Logger
from cms.signalflow import StepError
from cms.xmlstream.requests import RequestLost, Requests, TooManyRequests
from cms.xmlstream.textiq import WrittenRequest

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


class Endings:
    """
    Ends sessions.

    @param authority: The one that decides now.
    @param names: The XMPP domain and the component's address.
    """

    log = Logger()

    def __init__(
        self, authority: Callable[[], Authority], names: Callable[[], tuple[str, str]]
    ) -> None:
        self._authority = authority
        self._names = names
        self._stream: Carrier | None = None
        self._turn = DeferredSemaphore(AT_ONCE)

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
        return self._ask(f"{name}@{self._names()[0]}", reason)

    def end_one(self, jid: str, reason: str) -> Deferred[Outcome]:
        """End the session of this full address; see L{end}."""
        return self._ask(jid, reason)

    def _ask(self, jid: str, reason: str) -> Deferred[Outcome]:
        asked: Deferred[Outcome] = self._turn.run(
            lambda: Deferred.fromCoroutine(self._ended(jid, reason))
        )
        return asked

    async def _ended(self, jid: str, reason: str) -> Outcome:
        domain, component = self._names()
        stream = self._stream
        if stream is None:
            return self._told(faults.SESSIONS_LATER.error(jid=jid, problem="the link is down"))
        question = WrittenRequest("set", component, domain, ending.End(jid, reason).to_xml())
        try:
            answer = await stream.requests.ask(question, ANSWER_TIMEOUT)
            return Outcome(ending.parse_answer(answer.child).sessions)
        except (RequestLost, TooManyRequests, DeferredTimeout) as problem:
            why = f"the XMPP server did not answer ({type(problem).__name__})"
            return self._told(faults.SESSIONS_LATER.error(jid=jid, problem=why))
        except (StanzaError, MalformedLogin) as problem:
            known = self._authority().sessions_of(jid)
            if not known:
                return Outcome()
            why = problem.condition if isinstance(problem, StanzaError) else str(problem)
            fault = faults.SESSIONS_STAY.error(jid=jid, number=len(known), problem=why)
            return self._told(fault)

    def _told(self, fault: StepError) -> Outcome:
        self.log.warn("{step_text}: {cause} Cure: {cure}", **fault.fields)
        return Outcome(problem=fault)
