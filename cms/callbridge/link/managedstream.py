"""
The component's side of link management (docs/link-management.md), of one connection.

L{ManagedStream} counts and keeps what a link carries, resumes the link of an earlier
connection, and finds out what the server never got of a link that has ended.
L{cms.callbridge.link.registration} has the steps that lead there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.words.protocols.jabber.error import StreamError

from cms import faults
from cms.callbridge.config import LinkSettings
from cms.process.logs import Logger
from cms.signalflow import Step, StepError, counted
from cms.xmlstream import managementelements as elements
from cms.xmlstream import ns
from cms.xmlstream.flow import SendLimits
from cms.xmlstream.management import AcknowledgedTooManyError, Ledger
from cms.xmlstream.requests import Requests
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmlstream.stanza import Stanza
from cms.xmlstream.stream import XMLStream

LINK_BYTES = 4 * 1024 * 1024  # that may wait because the server does not read
MOST_EARLY = 1_000  # stanzas before the answer to a resumption
MOST_LEFT = 2 * 1024 * 1024  # bytes of a link that has ended, for the next one


@define(eq=False)
class Left:
    """
    What the server had not acknowledged when a link ended for good.

    @ivar previd: The id of the link.
    @ivar stanzas: In their order.
    """

    previd: str
    ledger: Ledger
    stanzas: list[bytes]

    def settle(self, handled: int) -> list[bytes]:
        """
        Those of them that the server never got.

        @param handled: How many it has handled of the link.
        @raise AcknowledgedTooManyError: so many were never sent.
        """
        before = self.ledger.unacknowledged
        self.ledger.acknowledge(handled)
        return self.stanzas[before - self.ledger.unacknowledged :]


class Registrant(Protocol):
    """The user of the stream: the link."""

    def stage_begun(self, step: Step) -> None:
        """A step begins."""

    def stage_passed(self, evidence: dict[str, str], *warnings: StepError) -> None:
        """It is done."""

    def registration_failed(self, error: StepError) -> None:
        """The stream ended before it was registered."""

    def registered(self) -> None:
        """Step 10 is done: stanzas may flow."""

    def received(self, stanza: Stanza) -> None:
        """The server sent a stanza."""

    def resumed(self) -> None:
        """Step 10 is done: the link that was away goes on over this stream."""

    def not_resumed(self) -> Left | None:
        """
        The server does not have it any more; L{registered} follows.

        @return: What it left.
        """
        ...

    def link_broken(self, error: StepError) -> None:
        """The connection was lost after it was registered; the link can be resumed."""

    def link_ended(self, error: StepError) -> None:
        """The stream ended after it was registered."""


class ManagedStream(XMLStream):
    """
    A component's stream, as far as it is managed.

    @ivar step: Of the signal flow.
    @ivar link_id: Its ID in the logs of both sides, once the server has answered.
    @ivar again: What an earlier link left, and the server never got: to be sent first of all.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, settings: LinkSettings, registrant: Registrant, *, peer: str
    ) -> None:
        super().__init__(clock, limits=SendLimits(LINK_BYTES), is_shared=True)
        self.send, self.deliver = self.party.send, self.party.deliver
        self.settings = settings
        self.registrant = registrant
        self.peer = peer
        self.step = Step.TLS
        self.link_id = ""
        self.requests = Requests(clock, self.send, own=settings.component)
        self.again: Sequence[bytes] = ()
        self._reported = True  # nothing is reported before the race is won
        self._manages = False  # the server announces it
        self._asked_for: Ledger | None = None  # until the server says that it counts
        self._previd: str | None = None  # for its resumption, if it can be resumed
        self._ends = False  # for good, and not only its connection
        self._resumes: ManagedStream | None = None
        self._before: Left | None = None  # by an earlier link, which this one does not resume
        self._early: list[Stanza] = []  # before the server has said whether it resumes

    # what the registration has

    @abstractmethod
    def _begin_link(self) -> None:
        """Step 10 is done: stanzas flow."""

    @abstractmethod
    def _stop_keepalive(self) -> None:
        """The connection is gone."""

    @abstractmethod
    def _fail(self, outcome: StepError, error: StreamError | None = None) -> None:
        """End the stream, and report this."""

    # from the link

    def resume(self, old: ManagedStream) -> None:
        """Before it begins: resume the link whose connection was that stream."""
        self._resumes = old

    def ask_for(self, left: Left) -> None:
        """Before it begins: find out what the server never got of a link that has ended."""
        self._before = left

    @property
    def can_be_resumed(self) -> bool:
        """Whether the end of the connection is not that of the link."""
        return self._previd is not None and not self._ends and not self._reported

    def abandon(self) -> Left | None:
        """
        The link has ended for good: whoever waits for an answer is told.

        @return: What the server had not acknowledged.
        """
        self.requests.lost()
        ledger, previd, waiting = self.party.ledger, self._previd, self.party.take_stanzas()
        self.party.leave()
        if ledger is None or previd is None or not waiting:
            return None
        return Left(previd, ledger, _up_to(MOST_LEFT, waiting))

    def _resumption(self) -> dict[str, str | None]:
        """What the header says of the link that it resumes."""
        if self._resumes is None:
            return {}
        return {"xmlns:lm": ns.LINK_MANAGEMENT, "lm:resume": self._resumes._previd}

    # after the handshake

    def _accepted(self) -> None:
        """The handshake is confirmed: ask for the link before this one, if there was one."""
        old, left = self._resumes, self._before
        if self._manages and old is not None and old.party.ledger is not None:
            self.write(elements.ask_resume(old._previd or "", old.party.ledger.handled))
        elif self._manages and left is not None:
            self.write(elements.ask_resume(left.previd, left.ledger.handled))
        else:
            self._registered()

    @property
    def _awaits_answer(self) -> bool:
        """Whether it has asked for the link before this one."""
        return self._resumes is not None or self._before is not None

    def _answered(self, stanza: Stanza) -> None:
        """What comes before the server has said whether it resumes the link."""
        old = self._resumes
        if stanza.uri != ns.MANAGEMENT:
            if len(self._early) >= MOST_EARLY:
                self._fail(faults.LINK_LOST.error(peer=self.peer, problem="no answer to resume"))
            else:
                self._early.append(stanza)
        elif stanza.name != "resumed":
            self._registered(stanza)
        elif old is not None and stanza.element.getAttribute("previd") == old._previd:
            self._go_on(stanza, old)
        else:
            self._registered()

    def _registered(self, refusal: Stanza | None = None) -> None:
        """
        It is a new link.

        @param refusal: Why the link before is not resumed.
        """
        left, self._before = self._before, None
        if self._resumes is not None:
            self._resumes = None
            left = self.registrant.not_resumed()
        if left is not None:
            self.again = self._settle(left, refusal)
        self._begin_link()
        if self._manages:
            self.write(elements.ENABLE)
            self._asked_for = self.party.ledger = Ledger()
        self.registrant.registered()
        early, self._early = self._early, []
        for stanza in early:
            self._active(stanza)

    def _settle(self, left: Left, refusal: Stanza | None) -> Sequence[bytes]:
        try:
            if refusal is not None:
                rest = left.settle(elements.counter(refusal.element))
                again = [raw for raw in rest if self._matters(raw)]
                self.log.info(
                    "{stanzas} sent again, on the way when the link before this one ended",
                    stanzas=counted(len(again), "stanza"),
                    link_id=self.link_id,
                )
                return again
        except (ValueError, AcknowledgedTooManyError):
            pass  # it does not know the link, or not as we do
        self.log.info(
            "{stanzas} may be lost, on the way when the link before this one ended: the server"
            " does not know it",
            stanzas=counted(sum(map(self._matters, left.stanzas)), "stanza"),
            link_id=self.link_id,
        )
        return ()

    def _matters(self, raw: bytes) -> bool:
        """
        Whether somebody misses it.  Answers to the server are void, since its log-ins have ended
        with the link, and so are our own requests, since whoever asked was told.
        """
        stanza = of_bytes(raw)
        return stanza.name != "iq" or (stanza.is_answer and stanza.to != self.settings.domain)

    def _go_on(self, stanza: Stanza, old: ManagedStream) -> None:
        ledger = old.party.ledger
        assert ledger is not None  # noqa: S101 - it was asked for with it
        try:
            ledger.acknowledge(elements.counter(stanza.element))
        except ValueError:
            self._registered()
            return
        except AcknowledgedTooManyError as error:
            self._too_many(error)
            return
        self._resumes = None
        self._previd, self.link_id = old._previd, old.link_id
        self.requests = old.requests
        self.write(b"".join(ledger.waiting()))
        self.take_over(self, old.party)
        self.send, self.deliver = self.party.send, self.party.deliver
        self._begin_link()
        if ledger.unacknowledged:
            self.party.ask()
        self.registrant.resumed()

    # while it is active

    def _active(self, stanza: Stanza) -> None:
        if stanza.uri == ns.MANAGEMENT:
            self._manage(stanza)
            return
        if not self.requests.take(stanza):
            self.registrant.received(stanza)
        if self.party.ledger is not None and self._asked_for is None:
            self.party.ledger.count_handled(1)

    def _manage(self, stanza: Stanza) -> None:
        element = stanza.element
        if element.name == "enabled" and self._asked_for is not None:
            self._asked_for = None
            self._previd = element.getAttribute("id") or None
        elif element.name == "failed" and self._asked_for is not None:
            self._asked_for = self.party.ledger = None

    def _too_many(self, error: AcknowledgedTooManyError) -> None:
        problem = f"it acknowledges {error}"
        fault = faults.LINK_LOST if self.step is Step.ACTIVE else faults.REGISTERED_CLOSED
        told = fault.error(peer=self.peer, problem=problem, component=self.settings.component)
        self._fail(told, elements.too_many(error))

    def asked(self) -> None:
        """The server asks how many of its stanzas were handled."""
        if self.party.ledger is not None and self.step is Step.ACTIVE:
            self.write(elements.acknowledgement(self.party.ledger.handled))

    def acknowledges(self, handled: int) -> None:
        """The server says how many of ours it has handled."""
        if self.party.ledger is None or self.step is not Step.ACTIVE:
            return
        try:
            self.party.acknowledged(self.party.ledger, handled)
        except AcknowledgedTooManyError as error:
            self._too_many(error)

    def say_last(self) -> None:
        """We end the link: say what was handled, and let all that waits leave."""
        if self.step is Step.ACTIVE:
            self.asked()
        self.party.ledger = None  # nothing will be sent again

    def overflowed(self) -> None:
        """The server does not read, or acknowledges nothing: the link ends."""
        self._ends = True

    def stream_closing(self) -> None:
        """Nothing leaves over this connection any more: the link ends, or waits for another."""
        if self.can_be_resumed:
            self._stop_keepalive()
            self.party.detach()
        elif self._previd is not None and not self._reported:
            self.party.detach()  # what is still handled goes to the next link, see abandon


def _up_to(most: int, stanzas: list[bytes]) -> list[bytes]:
    """The first of them, up to so many bytes."""
    size = 0
    for number, stanza in enumerate(stanzas):
        size += len(stanza)
        if size > most:
            return stanzas[:number]
    return stanzas
