"""
Step 12 on the XMPP server: each SASL step travels to a Callbridge and back.

The server decides nothing.  It chooses a Callbridge for a new exchange and sends it all
steps of this exchange.  If something prevents an answer, it makes a L{Refusal} with the
fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError

from cms import faults
from cms.linkprotocol import login as lp
from cms.process.cleanup import call_all
from cms.process.logs import Logger
from cms.signalflow import StepError
from cms.xmlstream.header import new_stream_id
from cms.xmlstream.requests import RequestLost, TooManyRequests
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.textiq import WrittenRequest
from cms.xmpp.links import Link, Links

# The usual mechanisms: their metrics begin at 0.
USUAL = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN")
# Seconds for which a log-in under way waits for a Callbridge that has lost its connection, if
# another one could decide it.  One that is alive has tried four times by then.
PATIENCE = 2.0
LOGIN_WAIT = 8.0  # seconds: programs give up on a silent server after ten
ANSWER_TIMEOUT = 15.0  # seconds that a Callbridge has for one step
ASK_AGAIN = 15.0  # seconds before a silent component is asked again for mechanisms
MOST_SELDOM = 300.0
NOTICE_DELAY = 0.02  # seconds that a notice about a session waits for others
MOST_NOTICE_BYTES = 65_536  # of one message: clients choose their resources, also long ones
REPLAY_BATCH = 200  # sessions repeated at once after a link came up


@define
class Refusal:
    """
    The end of an exchange without a log-in.

    @ivar condition: A SASL condition of RFC 6120 6.5.
    @ivar fault: Set if the system failed and not the user.
    @ivar wait: Seconds for which no proof of this user is checked.
    @ivar user: Who that is, as the Callbridge says; the client is not told.
    """

    condition: str
    text: str | None = None
    fault: StepError | None = None
    wait: int = 0
    user: str = ""


Answer = lp.Challenge | lp.Success | Refusal


@define
class Exchange:
    """One SASL exchange and the Callbridge that it began with."""

    relay: LoginRelay
    link: Link
    id: str = field(factory=new_stream_id)

    def respond(self, payload: bytes) -> Deferred[Answer]:
        """Pass the client's response on."""
        self.link.challenged.discard(self.id)
        return self.relay.ask(self.link, lp.Response(self.id, payload))

    def abort(self) -> None:
        """The client aborted, or is gone: the answer is not needed."""
        self.link.challenged.discard(self.id)
        self.relay.tell(self.link, lp.Abort(self.id))


@define
class _Waiting:
    """Notices for one link, and how long they are at most."""

    notices: list[lp.SessionBegin | lp.SessionEnd] = field(factory=list)
    size: int = 0


class LoginRelay:
    """
    Carries exchanges and session events to the Callbridges.

    @param timeout: Seconds that a Callbridge has for one step.
    @param wait: Seconds for which log-ins wait for a Callbridge if there is no other.
    @ivar issuer: Gives the Callbridge to which a log-in belongs, by C{from} of the client's
        header and the initial response; C{None}: any.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        domain: str,
        links: Links,
        *,
        timeout: float = ANSWER_TIMEOUT,
        wait: float = LOGIN_WAIT,
    ) -> None:
        self._clock = clock
        self._domain = domain
        self._links = links
        self._timeout = timeout
        self._wait = wait
        self._later: dict[Link, IDelayedCall] = {}
        self._watched: dict[Link, IDelayedCall] = {}
        self._notices: dict[Link, _Waiting] = {}
        links.on_up.append(self._ask_mechanisms)
        links.on_down.append(self._ask_no_more)
        links.on_away.append(self._watch)
        links.on_back.append(self._ask_at_last)
        links.on_down.append(self._watch_no_more)
        self.on_back = links.on_back
        self.on_authority: list[Callable[[Link], object]] = []
        self.issuer: Callable[[str | None, bytes | None], Link | None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a Callbridge is there to decide log-ins."""
        return self._links.has_authority

    def mechanisms(self, *, channel_binding: bool) -> tuple[str, ...]:
        """
        The SASL mechanisms to offer; none while there is no Callbridge.

        @param channel_binding: Whether this connection can bind (RFC 9266).
        """
        named = tuple([link.mechanisms for link in self._links.authorities])
        return _offer(named, channel_binding)

    def begin(
        self,
        mechanism: str,
        payload: bytes | None,
        peer: str,
        channel_binding: tuple[str, bytes] | None,
        claimed: str | None = None,
    ) -> tuple[Exchange | None, Deferred[Answer]]:
        """
        Start an exchange with one of the Callbridges, in turn; that of a guest with the one
        that admitted him.

        @param payload: The initial response, C{None} when there was none.
        @param channel_binding: Type and data if the connection has them, with every
            mechanism: if a client then says that it saw no offer of -PLUS, somebody has
            removed it (RFC 5802 6).
        @param claimed: C{from} of the client's header.
        """
        link = None if self.issuer is None else self.issuer(claimed, payload)
        if link is not None and link.is_away:  # nobody else knows him
            return None, succeed(_lost(link))
        if link is None or mechanism not in link.mechanisms:
            link = self._links.choose(mechanism)
        if link is None:
            if self._links.authorities:
                absent = self._links.absent(mechanism)
                refusal = Refusal("invalid-mechanism") if absent is None else _lost(absent)
                return None, succeed(refusal)
            return None, succeed(self.nobody())
        exchange = Exchange(self, link)
        start = lp.Start(
            exchange=exchange.id,
            mechanism=mechanism,
            payload=payload,
            peer=peer,
            channel_binding=channel_binding,
        )
        return exchange, self.ask(link, start)

    def nobody(self) -> Refusal:
        """Step 1: there is no Callbridge to decide."""
        return _temporary(self._links.nobody())

    def ask(self, link: Link, message: lp.Message) -> Deferred[Answer]:
        """Send one step and read its answer; never fails."""
        if link.is_full:
            return succeed(self._explain(Failure(TooManyRequests()), link))
        answer = link.requests.ask(self._request(link, message), self._timeout)
        read: Deferred[Answer] = answer.addCallback(self._read, link)
        return read.addErrback(self._explain, link)

    def _read(self, stanza: Stanza, link: Link) -> Answer:
        answer = lp.parse(stanza.child)
        if isinstance(answer, lp.Failed):
            if answer.undecided:
                problem = answer.text or answer.condition
                undecided = _temporary(
                    faults.LOGIN_UNDECIDED.error(component=link.component, problem=problem)
                )
                undecided.user = answer.user
                return undecided
            return Refusal(answer.condition, answer.text, wait=answer.wait, user=answer.user)
        if isinstance(answer, lp.Challenge):
            link.challenged.add(answer.exchange)
            return answer
        if isinstance(answer, lp.Success):
            return answer
        raise lp.MalformedLogin("not an answer to a step of a log-in")

    def _explain(self, failure: Failure, link: Link) -> Refusal:
        if failure.check(RequestLost):
            return _lost(link)
        if failure.check(DeferredTimeout):
            return _temporary(
                faults.LOGIN_SILENT.error(component=link.component, seconds=self._timeout)
            )
        if failure.check(TooManyRequests):
            return _temporary(faults.LINK_STALLED.error(peer=link.component))
        if failure.check(StanzaError, lp.MalformedLogin):
            problem = f"{type(failure.value).__name__}: {failure.getErrorMessage()}"
            return _temporary(
                faults.LOGIN_BAD_ANSWER.error(component=link.component, problem=problem)
            )
        self.log.failure("unexpected error in a log-in over {c}", failure, c=link.component)
        problem = "an unexpected error, which the log has"
        return _temporary(faults.LOGIN_BAD_ANSWER.error(component=link.component, problem=problem))

    # a Callbridge that has lost its connection (docs/design/restarts.md)

    def _watch(self, link: Link) -> None:
        seconds = PATIENCE if self._links.has_authority else self._wait
        self._watched[link] = self._clock.callLater(seconds, self._give_up, link)

    def _give_up(self, link: Link) -> None:
        """End the log-ins under way; the link itself may still come back."""
        del self._watched[link]
        link.requests.give_up()

    def _ask_at_last(self, link: Link) -> None:
        """It is back; if it went before it had named its mechanisms, nobody waits for them now."""
        self._watch_no_more(link)
        undecided = not link.mechanisms and link.no_authority is None
        if undecided and not len(link.requests) and link not in self._later:
            self._ask_mechanisms(link)

    def _watch_no_more(self, link: Link) -> None:
        call = self._watched.pop(link, None)
        if call is not None:
            call.cancel()

    # what a Callbridge is told

    def tell(self, link: Link, message: lp.Message) -> Deferred[None]:
        """Send a message without a decision; it does not matter if the link is lost."""

        def unheard(failure: Failure) -> None:
            if not isinstance(failure.value, RequestLost):
                self.log.warn(
                    "{component} did not take {what}: {why}",
                    component=link.component,
                    what=type(message).__name__,
                    why=failure.getErrorMessage(),
                    link_id=link.link_id,
                )

        answer = link.requests.ask(self._request(link, message), self._timeout)
        return answer.addCallbacks(lambda _: None, unheard)

    def notify(self, link: Link, notice: lp.SessionBegin | lp.SessionEnd) -> None:
        """
        Send a notice of a session, joined with others: when all clients come at once,
        notices must not delay log-ins.
        """
        if not self._notices:
            self._clock.callLater(NOTICE_DELAY, self.send_notices)
        waiting = self._notices.setdefault(link, _Waiting())
        size = _size(notice)
        if len(waiting.notices) >= lp.MOST_NOTICES or waiting.size + size > MOST_NOTICE_BYTES:
            self._send_notices(link, waiting)
            waiting = self._notices[link] = _Waiting()
        waiting.notices.append(notice)
        waiting.size += size

    def send_notices(self) -> None:
        """Send all notices now."""
        notices, self._notices = self._notices, {}
        for link, waiting in notices.items():
            self._send_notices(link, waiting)

    def _send_notices(self, link: Link, waiting: _Waiting) -> None:
        notices = tuple(waiting.notices)
        self.tell(link, notices[0] if len(notices) == 1 else lp.Sessions(notices))

    async def replay(self, link: Link, sessions: Iterable[lp.SessionBegin]) -> None:
        """Repeat the sessions that still exist to a link that has come up."""
        waiting: list[Deferred[None]] = []
        for begin in sessions:
            waiting.append(self.tell(link, begin))
            if len(waiting) >= REPLAY_BATCH:
                for told in waiting:
                    await told
                waiting = []

    def _ask_mechanisms(self, link: Link, again: float = ASK_AGAIN) -> None:
        """
        Ask a component for its mechanisms.  If it names some it is a Callbridge; if it answers
        with an error it is not.  If it does not answer it is asked again, with growing delays.

        A component outside the domain is not asked.  It is another program, and must not be
        able to decide log-ins with its secret.
        """
        if not link.component.endswith(f".{self._domain}"):
            self._judge(link, faults.LINK_OUTSIDE_DOMAIN)
            return

        def named(stanza: Stanza) -> None:
            answer = lp.parse(stanza.child)
            if isinstance(answer, lp.Mechanisms):
                link.mechanisms, link.no_authority = tuple(answer.names), None
                link.admits, link.knows_people = answer.admits, answer.people
                call_all(self.log, self.on_authority, link)
                self.log.info(
                    "{component} decides log-ins: {mechanisms}",
                    component=link.component,
                    mechanisms=", ".join(answer.names),
                    link_id=link.link_id,
                )

        def not_one(failure: Failure) -> None:
            if isinstance(failure.value, RequestLost):
                return
            failure.trap(StanzaError, DeferredTimeout, lp.MalformedLogin)
            if failure.check(DeferredTimeout):
                problem = "it has not answered yet which it decides"
                link.no_authority = self._undecided(faults.LINK_NO_AUTHORITY, link, problem)
                self._later[link] = self._clock.callLater(
                    again, self._ask_mechanisms, link, min(again * 2, MOST_SELDOM)
                )
            else:
                told = getattr(failure.value, "condition", "") or type(failure.value).__name__
                problem = f'it answered the question which it decides with "{told}"'
                self._judge(link, faults.LINK_NO_AUTHORITY, problem)

        question = self._request(link, lp.AskMechanisms(), "get")
        answer = link.requests.ask(question, self._timeout)
        answer.addCallback(named).addErrback(not_one).addErrback(
            lambda failure: self.log.failure("unexpected error at a new link", failure)
        )

    def _undecided(self, fault: faults.Fault, link: Link, problem: str = "") -> StepError:
        return fault.error(component=link.component, domain=self._domain, problem=problem)

    def _judge(self, link: Link, fault: faults.Fault, problem: str = "") -> None:
        """It decides no log-ins, and that is final for this link."""
        error = link.no_authority = self._undecided(fault, link, problem)
        self.log.warn(
            "{step_text}: {cause} Cure: {cure}",
            **error.fields,
            component=link.component,
            link_id=link.link_id,
        )

    def _ask_no_more(self, link: Link) -> None:
        self._notices.pop(link, None)
        call = self._later.pop(link, None)
        if call is not None and call.active():
            call.cancel()

    def _request(self, link: Link, message: lp.Message, type_: str = "set") -> Stanza:
        return WrittenRequest(type_, self._domain, link.component, message.to_xml())


def _size(notice: lp.SessionBegin | lp.SessionEnd) -> int:
    """An upper bound of its bytes: six for each character of the address, and 500."""
    return 6 * len(notice.jid) + 500


@lru_cache(maxsize=256)
def _offer(named: tuple[tuple[str, ...], ...], channel_binding: bool) -> tuple[str, ...]:
    offered = list(dict.fromkeys(mechanism for names in named for mechanism in names))
    return tuple(m for m in offered if channel_binding or not m.endswith("-PLUS"))


def _lost(link: Link) -> Refusal:
    return _temporary(faults.LOGIN_LINK_LOST.error(component=link.component))


def _temporary(fault: StepError) -> Refusal:
    return Refusal("temporary-auth-failure", f"{fault.step}: {fault.cause}", fault)
