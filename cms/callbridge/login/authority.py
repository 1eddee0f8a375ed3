"""
Step 12: the Callbridge's decision about every log-in.

The XMPP server relays each SASL step here.  Exchanges and sessions belong to
the link: when it ends, they are forgotten.
"""

from __future__ import annotations

import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from random import Random, SystemRandom
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from cms.callbridge.config import LoginLimits
from cms.callbridge.directories.directory import Directory, DirectoryError
from cms.callbridge.login.decision import (
    CHANGED,
    DIRECTORY,
    LOCKED_THERE,
    Answer,
    Decision,
    Exchange,
    reason_of,
    run,
)
from cms.callbridge.login.guests import Guests
from cms.callbridge.login.mechanisms import Identity, Surroundings, make_mechanism
from cms.callbridge.login.passes import ABLE, WithPasses
from cms.callbridge.login.visitors import Visitors
from cms.callbridge.passwords.scram import HASHES, SASLFailure, StoredKeys, WrongProof
from cms.linkprotocol import login as lp
from cms.linkprotocol.join import is_visitor
from cms.process.logs import Logger, login_id, wanted
from cms.protection.guessing import Guesses, TooManyGuesses
from cms.signalflow import Step

TEMPORARY = "temporary-auth-failure"


class Authority:
    """
    Decides log-ins against a directory.

    @param domain: The XMPP domain, prepared.
    @param allow_guests: Whether ANONYMOUS is offered.
    @param visitors: The guests that were admitted to a space; they log in with their passes.
    @param random: For nonces and guest names; it must not be guessable.
    @param decided: Called for each log-in that has ended.
    @param ended: Called with the address of each session that is over.
    @param over: Called with address and reason of a session that the server still has, and
        whose user may not have it any more.
    @ivar link_id: Names the link in the log.
    @ivar sessions: The full addresses that are logged in through this
        Callbridge now, with the begin of each.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directory: Directory,
        domain: str,
        *,
        allow_guests: bool = False,
        visitors: Visitors | None = None,
        limits: LoginLimits = LoginLimits(),  # noqa: B008 - it is frozen
        random: Random | None = None,
        decided: Callable[[Decision], object] = lambda _: None,
        ended: Callable[[str], object] = lambda _: None,
        over: Callable[[str, str], object] = lambda *_: None,
    ) -> None:
        self._clock = clock
        self._visitors = visitors
        self.use(directory)
        self._domain = domain
        self._allow_guests = allow_guests
        self._limits = limits
        self._random = random or SystemRandom()
        self._guests = Guests(self._random)
        self._decided = decided
        self._ended = ended
        self._over = over
        self.guesses = Guesses(clock)
        self._exchanges: OrderedDict[str, Exchange] = OrderedDict()
        self.sessions: dict[str, lp.SessionBegin] = {}
        self.link_id = ""

    def use(self, directory: Directory) -> None:
        """Decide against another directory from now on."""
        visitors = self._visitors
        self._directory = directory if visitors is None else WithPasses(directory, visitors)

    @property
    def exchanges(self) -> int:
        """How many log-ins are under way."""
        return len(self._exchanges)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms supported, the strongest first."""
        able = self._directory.mechanisms
        plus = tuple(f"{name}-PLUS" for name in able if name in HASHES)
        guests = ("ANONYMOUS",) if self._allow_guests else ()
        return (*plus, *able, *guests)

    @property
    def admits(self) -> bool:
        """Whether guests can be admitted: they need a mechanism for their passes."""
        return self._visitors is not None and not ABLE.isdisjoint(self._directory.mechanisms)

    # log-ins

    def start(self, message: lp.Start) -> Deferred[Answer]:
        """
        Begin an exchange.

        @return: Fires with the answer and never fails; it does not fire when
            the link is lost first.
        """
        if message.exchange in self._exchanges:
            self._break_off(self._exchanges[message.exchange], "malformed-request")
            return succeed(lp.Failed(message.exchange, "malformed-request"))
        if message.mechanism not in self.mechanisms:
            failed = "invalid-mechanism"
            self._decided(
                Decision(message.mechanism, failed, 0.0, reason=failed, peer=message.peer)
            )
            return succeed(lp.Failed(message.exchange, "invalid-mechanism"))
        exchange = self._open(message)
        if message.payload is None and message.mechanism != "ANONYMOUS":
            # RFC 6120 6.4.3: without an initial response, send an empty challenge
            return succeed(lp.Challenge(exchange.id, b""))
        return self._take(exchange, message.payload or b"")

    def respond(self, message: lp.Response) -> Deferred[Answer]:
        """Continue an exchange; see L{start} for what is returned."""
        exchange = self._exchanges.get(message.exchange)
        if exchange is None:
            text = "the log-in took too long, or is not known"
            return succeed(lp.Failed(message.exchange, TEMPORARY, text))
        if exchange.pending is not None:
            self._break_off(exchange, "malformed-request")
            return succeed(lp.Failed(message.exchange, "malformed-request"))
        exchange.expiry.reset(self._limits.response_timeout)
        return self._take(exchange, message.payload or b"")

    def abort(self, message: lp.Abort) -> None:
        """Forget an exchange."""
        exchange = self._exchanges.get(message.exchange)
        if exchange is not None:
            self._break_off(exchange, "aborted")

    # sessions

    def note(self, notice: lp.SessionBegin | lp.SessionEnd) -> None:
        """A session of a client of ours began or ended."""
        if isinstance(notice, lp.SessionBegin):
            self.session_began(notice)
        else:
            self.session_ended(notice)

    def session_began(self, message: lp.SessionBegin) -> None:
        """A client of ours bound a resource, or did so before this link came up."""
        if len(self.sessions) < self._limits.most_sessions or message.jid in self.sessions:
            self.sessions[message.jid] = message
        if self._visitors is not None:
            self._visitors.session_began(message.jid)
        if message.resumed:
            name = _local_part(message.jid)
            if not (is_visitor(name) or self._guests.resumed(name)):
                self.guesses.remember(name, message.peer)
                self._judge(name, message)
        if wanted(LogLevel.info):
            self.log.info(
                'session {how} for user "{jid}" from {peer}',
                how="resumed" if message.resumed else "created",
                jid=message.jid,
                peer=message.peer,
                link_id=self.link_id,
            )

    def _judge(self, name: str, session: lp.SessionBegin) -> None:
        """The user may have been disabled while there was no link."""

        def judged(reason: str | None) -> None:
            if reason is not None:
                self._over(session.jid, reason)

        def unknown(failure: Failure) -> None:
            failure.trap(DirectoryError, DeferredTimeout)
            self.log.warn(
                "{jid} goes on: the user directory does not say whether it may ({why})",
                jid=session.jid,
                why=failure.getErrorMessage(),
            )

        asked = self._in_time(self._directory.over(name, datetime.fromisoformat(session.since)))
        asked.addCallback(judged).addErrback(unknown).addErrback(
            lambda failure: self.log.failure("unexpected error at a session", failure)
        )

    def sessions_of(self, address: str) -> list[str]:
        """The sessions that are known of a bare address, or the one with this full address."""
        if "/" in address:
            return [address] if address in self.sessions else []
        return [jid for jid in self.sessions if jid.partition("/")[0] == address]

    def users(self) -> Counter[str]:
        """Who has a session, and how many."""
        return Counter(_local_part(jid) for jid in self.sessions)

    def drop(self, *names: str) -> None:
        """Users may log in no more, or not as before: what they have begun fails."""
        whose = set(names)
        for exchange in list(self._exchanges.values()):
            if exchange.claimed in whose:
                exchange.known, exchange.reason = True, CHANGED
                self._break_off(exchange, "not-authorized")

    def session_ended(self, message: lp.SessionEnd) -> None:
        """A session is over."""
        self.sessions.pop(message.jid, None)
        if self._visitors is not None:
            self._visitors.session_ended(message.jid)
        self._ended(message.jid)
        if wanted(LogLevel.info):
            self.log.info(
                'user "{jid}": session ended ({reason})',
                jid=message.jid,
                reason=message.reason,
                link_id=self.link_id,
            )
        name = _local_part(message.jid)
        if self._guests.destroy(name):
            self.log.info('destroying guest account with user ID "{name}"', name=name)

    def link_lost(self) -> None:
        """The link ended: forget exchanges and sessions."""
        for exchange in list(self._exchanges.values()):
            self._break_off(exchange, None)
        self.sessions.clear()
        self._guests.clear()
        if self._visitors is not None:
            self._visitors.link_lost()

    # one exchange

    def _open(self, message: lp.Start) -> Exchange:
        expiry = self._clock.callLater(
            self._limits.response_timeout, self._expire, message.exchange
        )
        now = self._clock.seconds()
        exchange = Exchange(message.exchange, message.mechanism, message.peer, expiry, now)
        around = Surroundings(
            directory=self._directory,
            domain=self._domain,
            channel_binding=message.channel_binding,
            random=self._random,
            claim=partial(self._claim, exchange),
            weigh=partial(self._weigh, exchange),
            accept=self._accept,
            new_guest=self._new_guest,
            in_time=self._in_time,
        )
        exchange.mechanism = make_mechanism(message.mechanism, around)
        self._exchanges[exchange.id] = exchange
        while len(self._exchanges) > self._limits.most_exchanges:
            oldest = next(iter(self._exchanges.values()))
            self._break_off(oldest, TEMPORARY, "too many log-ins at once", undecided=True)
        return exchange

    def _claim(self, exchange: Exchange, name: str) -> None:
        """
        The client has named an account.  A log-in after too many guesses is refused here,
        before the password is checked, so right and wrong passwords get the same answer.
        """
        exchange.claimed = name
        if is_visitor(name):  # whose password nobody guesses, and who must not be remembered
            return
        try:
            exchange.guess = self.guesses.begin(name, exchange.peer)
        except TooManyGuesses as problem:
            raise SASLFailure(TEMPORARY, str(problem), wait=problem.seconds) from None

    def _weigh(self, exchange: Exchange) -> None:
        """Check again right before the proof, because other exchanges may have failed since."""
        if exchange.guess is not None:
            try:
                exchange.guess.weigh()
            except TooManyGuesses as problem:
                raise SASLFailure(TEMPORARY, str(problem), wait=problem.seconds) from None

    def _accept(self, name: str, keys: StoredKeys) -> None:
        """A pass is used up by the log-in that it was right for."""
        if self._visitors is None or not self._visitors.use(name, keys):
            raise SASLFailure("not-authorized")

    def _in_time(self, asked: Deferred[Any]) -> Deferred[Any]:
        seconds = self._limits.directory_timeout
        return asked if asked.called else asked.addTimeout(seconds, self._clock)

    def _take(self, exchange: Exchange, payload: bytes) -> Deferred[Answer]:
        """Decide about the client's response."""
        answer: Deferred[Answer] = Deferred(lambda _: self._break_off(exchange, "aborted"))
        exchange.pending = run(self._decide(exchange, payload))
        exchange.pending.addBoth(self._settle, exchange, answer)
        return answer

    def _settle(
        self, result: Answer | Failure, exchange: Exchange, answer: Deferred[Answer]
    ) -> None:
        exchange.pending = None
        final: Answer | None
        if not isinstance(result, Failure):
            final = result
        elif exchange.ended and result.check(CancelledError):
            final = exchange.last
        else:
            self.log.failure("unexpected error in a log-in", result)
            final = lp.Failed(exchange.id, TEMPORARY, undecided=True)
        if not isinstance(final, lp.Challenge):
            self._forget(exchange)
            self._count(exchange, final)
        if final is not None:
            answer.callback(final)

    async def _decide(self, exchange: Exchange, payload: bytes) -> Answer:
        try:
            result = await exchange.mechanism.respond(payload)
        except SASLFailure as failure:
            return await self._refused(exchange, failure)
        except DirectoryError as problem:
            return self._cannot_tell(exchange, str(problem))
        except DeferredTimeout:
            return self._cannot_tell(exchange, "the user directory did not answer in time")
        except Exception as problem:
            if exchange.ended and isinstance(problem, CancelledError):
                raise
            # Its text is not logged: it might hold a password.
            place = traceback.extract_tb(problem.__traceback__)[-1]
            what = f"{type(problem).__name__} in {place.name}, {place.filename}:{place.lineno}"
            return self._cannot_tell(exchange, f"the user directory failed: {what}")
        if isinstance(result, Identity):
            return self._succeeded(exchange, result)
        return lp.Challenge(exchange.id, result)

    def _succeeded(self, exchange: Exchange, identity: Identity) -> Answer:
        if exchange.guess is not None:
            exchange.guess.succeeded()
        jid = f"{identity.name}@{self._domain}"
        if wanted(LogLevel.info):
            self.log.info(
                "{step_text}: successful login request from {jid} ({mechanism}, {peer})",
                step=int(Step.LOGIN),
                step_text=str(Step.LOGIN),
                jid=jid,
                mechanism=exchange.mechanism_name,
                peer=exchange.peer,
                login_id=login_id(exchange.id),
                link_id=self.link_id,
            )
        exchange.known, exchange.claimed = True, identity.name
        exchange.guest = exchange.mechanism_name == "ANONYMOUS" or bool(is_visitor(identity.name))
        return lp.Success(exchange.id, jid, identity.payload, exchange.guest)

    async def _refused(self, exchange: Exchange, failure: SASLFailure) -> Answer:
        guess, delay = exchange.guess, 0.0
        if isinstance(failure, WrongProof) and guess is not None:
            delay = guess.failed()
        if exchange.claimed is not None and not failure.wait:
            exchange.known = await self._knows(exchange.claimed)
        elif exchange.claimed is not None:  # a log-in that is refused costs no look-up
            exchange.known = self.guesses.shown(exchange.claimed) == exchange.claimed
        if delay and guess is not None:
            guess.name(exchange.shown)
        exchange.reason = reason_of(failure, exchange.known)
        why = failure.text or failure.condition
        if exchange.reason == LOCKED_THERE:
            why = exchange.reason
        self._log_unsuccessful(exchange, why, self.log.info)
        if delay:
            await deferLater(self._clock, delay)
        wait = min(max(1, round(failure.wait)), lp.MOST_WAIT) if failure.wait else 0
        failed = lp.Failed(exchange.id, failure.condition, failure.text, wait=wait)
        return evolve(failed, user=exchange.shown)

    async def _knows(self, name: str) -> bool | None:
        """Whether there is such a user, for the operator; each name costs the same."""
        try:
            asked = self._directory.over(name, datetime.now(UTC))
            return bool(await self._in_time(asked) != "deleted")
        except (DirectoryError, DeferredTimeout):
            return None

    def _cannot_tell(self, exchange: Exchange, why: str) -> Answer:
        exchange.reason = DIRECTORY
        if exchange.claimed is not None and self._holds(exchange.claimed):
            exchange.known = True
        self._log_unsuccessful(exchange, why, self.log.warn)
        text = "the user directory cannot answer now"
        return lp.Failed(exchange.id, TEMPORARY, text, undecided=True, user=exchange.shown)

    def _holds(self, name: str) -> bool:
        """Whether this is known to be a user without waiting for anything."""
        known: list[bool] = []
        # Why it fails is why the log-in does, which is told.
        asked = self._directory.holds(name).addCallbacks(known.append, lambda _: None)
        asked.cancel()
        return known == [True]

    def _log_unsuccessful(self, exchange: Exchange, why: str, log: Callable[..., None]) -> None:
        exchange.text = why
        who = {"jid": f"{exchange.claimed}@{self._domain}"} if exchange.known else {}
        log(
            "{step_text}: unsuccessful login request from {who} ({why}; {mechanism}, {peer})",
            step=int(Step.LOGIN),
            step_text=str(Step.LOGIN),
            who=who.get("jid") or exchange.shown or "an unnamed user",
            **who,
            mechanism=exchange.mechanism_name,
            peer=exchange.peer,
            why=why,
            login_id=login_id(exchange.id),
            link_id=self.link_id,
        )

    def _new_guest(self) -> str:
        name = self._guests.create()
        self.log.info('created guest account with user ID "{name}"', name=name)
        return name

    def _expire(self, exchange_id: str) -> None:
        exchange = self._exchanges.get(exchange_id)
        if exchange is not None:
            self._break_off(exchange, TEMPORARY, "the log-in took too long")

    def _break_off(
        self,
        exchange: Exchange,
        condition: str | None,
        text: str | None = None,
        *,
        undecided: bool = False,
    ) -> None:
        """End an exchange from outside, in any state."""
        exchange.ended = True
        last = lp.Failed(exchange.id, condition, text, undecided) if condition else None
        exchange.last = last
        self._forget(exchange)
        if exchange.pending is not None:
            exchange.pending.cancel()
        else:
            self._count(exchange, exchange.last)

    def _count(self, exchange: Exchange, final: Answer | None) -> None:
        result = final.condition if isinstance(final, lp.Failed) else "success"
        if final is None:
            result = "lost"
        if not exchange.reason and isinstance(final, lp.Failed):
            exchange.reason, exchange.text = final.condition, final.text or ""
        self._decided(exchange.decision(result, self._clock.seconds() - exchange.began))

    def _forget(self, exchange: Exchange) -> None:
        if self._exchanges.get(exchange.id) is exchange:
            del self._exchanges[exchange.id]
            del exchange.mechanism  # no cycle: both are freed without the garbage collector
        if exchange.expiry.active():
            exchange.expiry.cancel()
        if exchange.guess is not None:
            exchange.guess.abandoned()


def _local_part(jid: str) -> str:
    return jid.partition("@")[0]
