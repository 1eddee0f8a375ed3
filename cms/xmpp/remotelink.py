"""A component's link at another node of the cluster, as this one knows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StanzaError

from cms.cluster.peer import Peer
from cms.signalflow import StepError
from cms.xmlstream.requests import RequestLost, TooManyRequests
from cms.xmlstream.splicedstanza import of_bytes
from cms.xmlstream.stanza import Stanza
from cms.xmpp import nodemessages as messages
from cms.xmpp.nodemessages import Facts
from cms.xmpp.remotesession import Remote

MOST_OPEN = 10_000  # questions to the links of one node
LATER = 2.0  # seconds that an answer may take longer from another node
PROBE_SECONDS = 8.0  # for a link at another node to show that it lives
# What can be in the way of an answer, by the word for it between nodes.
_TROUBLE: dict[str, Callable[[], Exception]] = {
    "timeout": lambda: DeferredTimeout("no answer in time"),
    "lost": RequestLost,
    "many": TooManyRequests,
}
LATE_SECONDS = 2.0  # that a node has not acknowledged something, which it does within 0.1 s
PROBED = "probed"


def trouble_of(failure: Failure) -> dict[str, str]:
    """What another node is told of a question that has no answer."""
    problem = failure.value
    if isinstance(problem, StanzaError):
        return {"error": problem.condition, "type": problem.type or "", "text": problem.text or ""}
    for word, kind in (("timeout", DeferredTimeout), ("many", TooManyRequests)):
        if isinstance(problem, kind):
            return {"trouble": word}
    return {"trouble": "lost"}


class Questions:
    """The open questions to one node, which asks its own links for this one."""

    def __init__(self, clock: IReactorTime, peer: Peer) -> None:
        self._clock = clock
        self._peer = peer
        self._number = 0
        self._open: dict[int, tuple[str, Deferred[Facts], IDelayedCall]] = {}

    def count(self, component: str) -> int:
        """How many are open of one link."""
        return sum(asked == component for asked, _, _ in self._open.values())

    def ask(self, kind: int, component: str, within: float, **facts: object) -> Deferred[Facts]:
        """
        Ask the node.

        @param within: Seconds.
        @return: Fires with what it answers; fails with C{TimeoutError}, L{RequestLost} and
            L{TooManyRequests}.
        """
        if self._peer.is_over or self._peer.is_cut:
            return fail(RequestLost())
        if len(self._open) >= MOST_OPEN:
            return fail(TooManyRequests())
        self._number += 1
        number = self._number
        answer: Deferred[Facts] = Deferred(lambda _: self._forget(number))
        timer = self._clock.callLater(within, self._late, number)
        self._open[number] = component, answer, timer
        self._peer.party.write(messages.told(kind, component, number=number, **facts))
        return answer

    def _take(self, number: int) -> Deferred[Facts] | None:
        _, answer, timer = self._open.pop(number, (None, None, None))
        if timer is not None and timer.active():
            timer.cancel()
        return answer

    def _forget(self, number: int) -> None:
        self._take(number)

    def _late(self, number: int) -> None:
        answer = self._take(number)
        if answer is not None:
            answer.errback(Failure(DeferredTimeout("no answer in time")))

    def answered(self, facts: Facts) -> None:
        """The node has answered one."""
        answer = self._take(facts.whole("number"))
        if answer is not None:
            answer.callback(facts)

    def lost(self, component: str | None = None) -> None:
        """Nothing more is answered of this link, or of any."""
        for number, (asked, _, _) in list(self._open.items()):
            if component in (None, asked):
                answer = self._take(number)
                if answer is not None:
                    answer.errback(Failure(RequestLost()))


class RemoteRequests:
    """Requests to a link at another node; see L{Requests<cms.xmlstream.requests.Requests>}."""

    def __init__(self, questions: Questions, component: str) -> None:
        self._questions = questions
        self._component = component

    def __len__(self) -> int:
        return self._questions.count(self._component)

    def ask(self, request: Stanza, timeout: float) -> Deferred[Stanza]:
        """See L{Requests<cms.xmlstream.requests.Requests>}."""
        request.identify("-")
        answer = self._questions.ask(
            messages.ASK,
            self._component,
            timeout + LATER,
            seconds=timeout,
            stanza=request.raw.decode(),
        )
        return answer.addCallback(_read)

    def give_up(self) -> None:
        """See L{Requests<cms.xmlstream.requests.Requests>}."""
        self._questions.lost(self._component)


def _read(facts: Facts) -> Stanza:
    """
    @raise StanzaError: the answer is an error.
    """
    word = facts.text("trouble")
    if word:
        raise _TROUBLE.get(word, RequestLost)()
    condition = facts.text("error")
    if condition:
        raise StanzaError(condition, type=facts.text("type") or None, text=facts.text("text"))
    return of_bytes(facts.text("stanza").encode())


class RemoteLink(Remote):
    """
    A L{Link<cms.xmpp.links.Link>} whose component is connected to another node.

    @ivar forget: Called when it gives its address up.
    """

    def __init__(
        self,
        peer: Peer,
        component: str,
        give_back: Callable[[Sequence[bytes]], object],
        questions: Questions,
        *,
        since: float,
        link_id: str,
        address: str,
    ) -> None:
        super().__init__(peer, component, give_back)
        self.component = component
        self.mechanisms: tuple[str, ...] = ()
        self.admits = self.knows_people = self.leaves = False
        self.challenged: set[str] = set()
        self.no_authority: StepError | None = None
        self.requests = RemoteRequests(questions, component)
        self.since = since
        self.link_id = link_id
        self.evidence: dict[str, str] = {}
        self.certificate_expires: float | None = None
        self.bytes_received = self.bytes_sent = self.stanzas_received = self.stanzas_sent = 0
        self.is_away = False
        self.forget: Callable[[RemoteLink], object] = lambda _: None
        self._address = address
        self._questions = questions

    @property
    def peer_text(self) -> str:
        """See L{Link<cms.xmpp.links.Link>}."""
        return f"{self._address} at {self.peer.member.name}"

    @property
    def waiting_bytes(self) -> int:
        """See L{Link<cms.xmpp.links.Link>}: of all that is for its node."""
        return self.peer.party.waiting_bytes

    @property
    def is_full(self) -> bool:
        """See L{Link<cms.xmpp.links.Link>}."""
        return self.is_gone or self.peer.party.is_full

    @property
    def is_stalled(self) -> bool:
        """See L{Link<cms.xmpp.links.Link>}: its node may be dead, and not yet be held for it."""
        late = self.peer.behind > LATE_SECONDS
        return late or self.is_gone or self.peer.party.is_stalled

    def probe(self) -> Deferred[bool]:
        """Let its node ask whether it is alive."""
        asked = self._questions.ask(messages.PROBE, self.component, PROBE_SECONDS)
        return asked.addCallbacks(lambda facts: facts.flag(PROBED), self._no_answer)

    def _no_answer(self, failure: Failure) -> bool:
        failure.trap(DeferredTimeout, RequestLost, TooManyRequests)
        return False

    def replace(self) -> None:
        """Ask its node to end it in favour of a newer link, which may have its address now."""
        if not self.peer.is_over:
            self.peer.party.write(messages.told(messages.END_LINK, self.component, id=self.link_id))
        self.forget(self)

    def judge_secret(self) -> None:
        """Its node judges it."""
