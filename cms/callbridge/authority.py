"""
Step 12: the Callbridge's decision about every log-in.

The XMPP server relays each SASL step here.  Exchanges and sessions belong to
the link: when it ends, they are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from random import SystemRandom

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from cms import loginprotocol as lp
from cms.callbridge.directory import Directory, DirectoryBusy
from cms.callbridge.mechanisms import Identity, Mechanism, guest_name, make_mechanism
from cms.callbridge.scram import HASHES, SASLFailure
from cms.signalflow import Step
from cms.throttle import Throttle

EXCHANGE_TIMEOUT = 60.0  # seconds that a client has for each response
MOST_EXCHANGES = 1_000
MOST_SESSIONS = 100_000

Answer = lp.Challenge | lp.Success | lp.Failed


@define
class _Exchange:
    id: str
    mechanism: Mechanism
    name: str
    peer: str
    expiry: IDelayedCall


class Authority:
    """
    Decides log-ins against a directory.

    @param domain: The XMPP domain, prepared.
    @param allow_guests: Whether ANONYMOUS is offered.
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
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._domain = domain
        self._allow_guests = allow_guests
        self._random = SystemRandom()
        self._throttle = Throttle(clock)
        self._exchanges: OrderedDict[str, _Exchange] = OrderedDict()
        self.sessions: dict[str, lp.SessionBegin] = {}

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What is decided here, the strongest first."""
        able = self._directory.mechanisms
        plus = tuple(f"{name}-PLUS" for name in able if name in HASHES)
        guests = ("ANONYMOUS",) if self._allow_guests else ()
        return (*plus, *able, *guests)

    def start(self, message: lp.Start) -> Deferred[Answer]:
        """Begin an exchange; fires with the answer and never fails."""
        if message.mechanism not in self.mechanisms or message.exchange in self._exchanges:
            return self._now(lp.Failed(message.exchange, "invalid-mechanism"))
        try:
            mechanism = make_mechanism(
                message.mechanism,
                self._directory,
                self._domain,
                message.channel_binding,
                self._new_guest,
            )
        except SASLFailure as failure:
            return self._now(lp.Failed(message.exchange, failure.condition))
        expiry = self._clock.callLater(EXCHANGE_TIMEOUT, self._forget, message.exchange)
        exchange = _Exchange(message.exchange, mechanism, message.mechanism, message.peer, expiry)
        self._exchanges[message.exchange] = exchange
        while len(self._exchanges) > MOST_EXCHANGES:
            self._forget(next(iter(self._exchanges)))
        if message.payload is None and message.mechanism != "ANONYMOUS":
            # RFC 6120 6.4.3: a client that speaks first is asked to do so
            return self._now(lp.Challenge(message.exchange, b""))
        return Deferred.fromCoroutine(self._step(exchange, message.payload or b""))

    def respond(self, message: lp.Response) -> Deferred[Answer]:
        """Continue an exchange; fires with the answer and never fails."""
        exchange = self._exchanges.get(message.exchange)
        if exchange is None:
            text = "the log-in took too long, or is not known"
            return self._now(lp.Failed(message.exchange, "temporary-auth-failure", text))
        exchange.expiry.reset(EXCHANGE_TIMEOUT)
        return Deferred.fromCoroutine(self._step(exchange, message.payload or b""))

    def abort(self, message: lp.Abort) -> None:
        """Forget an exchange."""
        self._forget(message.exchange)

    def session_began(self, message: lp.SessionBegin) -> None:
        """A client of ours bound a resource."""
        if len(self.sessions) < MOST_SESSIONS:
            self.sessions[message.jid] = message
        self.log.info(
            'session {how} for user "{jid}" from {peer}',
            how="resumed" if message.resumed else "created",
            jid=message.jid,
            peer=message.peer,
        )

    def session_ended(self, message: lp.SessionEnd) -> None:
        """A session is over."""
        self.sessions.pop(message.jid, None)
        self.log.info(
            'user "{jid}": session ended ({reason})', jid=message.jid, reason=message.reason
        )

    def link_lost(self) -> None:
        """The link ended: what was under way is void."""
        for exchange in list(self._exchanges):
            self._forget(exchange)
        self.sessions.clear()

    async def _step(self, exchange: _Exchange, payload: bytes) -> Answer:
        try:
            result = await exchange.mechanism.respond(payload)
            wait = self._throttle.refused_for(self._culprit(exchange))
            if wait > 0:
                self._forget(exchange.id)
                text = f"too many failed log-ins, refused for {round(wait)} s"
                return lp.Failed(exchange.id, "temporary-auth-failure", text)
        except SASLFailure as failure:
            self._forget(exchange.id)
            return await self._refused(exchange, failure.condition)
        except DirectoryBusy:
            self._forget(exchange.id)
            return lp.Failed(exchange.id, "temporary-auth-failure", "too many log-ins at once")
        except Exception:  # noqa: BLE001 - a directory may fail in any way; the user is told to retry
            self._forget(exchange.id)
            self.log.failure("the user directory failed")
            return lp.Failed(exchange.id, "temporary-auth-failure", "the user directory failed")
        if isinstance(result, Identity):
            return self._succeeded(exchange, result)
        return lp.Challenge(exchange.id, result)

    def _succeeded(self, exchange: _Exchange, identity: Identity) -> Answer:
        self._forget(exchange.id)
        self._throttle.succeeded(self._culprit(exchange))
        jid = f"{identity.name}@{self._domain}"
        self.log.info(
            "{step_text}: successful login request from {jid} ({mechanism}, {peer})",
            step=int(Step.LOGIN),
            step_text=str(Step.LOGIN),
            jid=jid,
            mechanism=exchange.name,
            peer=exchange.peer,
        )
        return lp.Success(exchange.id, jid, identity.payload)

    async def _refused(self, exchange: _Exchange, condition: str) -> Answer:
        claimed = exchange.mechanism.claimed
        self.log.info(
            "{step_text}: unsuccessful login request from {name} ({mechanism}, {peer}): {why}",
            step=int(Step.LOGIN),
            step_text=str(Step.LOGIN),
            name=f"{claimed}@{self._domain}" if claimed else "an unnamed user",
            mechanism=exchange.name,
            peer=exchange.peer,
            why=condition,
        )
        if condition == "not-authorized" and claimed:
            delay = self._throttle.failed(self._culprit(exchange))
            if delay:
                await deferLater(self._clock, delay)
        return lp.Failed(exchange.id, condition)

    def _culprit(self, exchange: _Exchange) -> str:
        """Who is slowed: an account from an address, so that nobody can lock others out."""
        return f"{exchange.mechanism.claimed} from {exchange.peer}"

    def _new_guest(self) -> str:
        name = guest_name(self._random)
        self.log.info('created guest account with user ID "{name}"', name=name)
        return name

    def _forget(self, exchange_id: str) -> None:
        exchange = self._exchanges.pop(exchange_id, None)
        if exchange is not None and exchange.expiry.active():
            exchange.expiry.cancel()

    def _now(self, answer: Answer) -> Deferred[Answer]:
        done: Deferred[Answer] = Deferred()
        done.callback(answer)
        return done
