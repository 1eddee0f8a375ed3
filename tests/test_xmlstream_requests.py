"""Requests that wait for their answers."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream.replies import ping_payload, request, result_reply
from cms.xmlstream.requests import RequestLost, Requests
from cms.xmlstream.stanza import Stanza
from tests.support import one_stanza


class TimeTests(SynchronousTestCase):
    """One timer watches over all requests of a stream."""

    def setUp(self) -> None:
        """Requests of a stream."""
        self.clock = Clock()
        self.sent: list[Stanza] = []
        self.requests = Requests(self.clock, self.sent.append, own="a")

    def ask(self, timeout: float) -> Deferred[Stanza]:
        """Ask something."""
        return self.requests.ask(request("get", "a", "b", ping_payload()), timeout)

    def test_each_its_time(self) -> None:
        """Each request has its own time, in whatever order they were sent."""
        slow, quick, between = self.ask(15), self.ask(5), self.ask(10)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        for answer in (quick, between, slow):
            self.clock.advance(4.9)
            self.assertNoResult(answer)
            self.clock.advance(0.1)
            self.failureResultOf(answer, DeferredTimeout)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(0, len(self.requests))

    def test_after_an_answer(self) -> None:
        """An answer in time is no reason to forget the time of others."""
        first = self.ask(5)
        self.clock.advance(3)
        second = self.ask(5)
        self.assertTrue(self.requests.take(result_reply(self.sent[0])))
        self.successResultOf(first)
        self.clock.advance(4.9)
        self.assertNoResult(second)
        self.clock.advance(0.2)
        self.failureResultOf(second, DeferredTimeout)

    def test_late_answer(self) -> None:
        """An answer that comes too late is nobody's."""
        self.failureResultOf(self._timed_out(), DeferredTimeout)
        self.assertFalse(self.requests.take(result_reply(self.sent[0])))

    def _timed_out(self) -> Deferred[Stanza]:
        answer = self.ask(5)
        self.clock.advance(5)
        return answer

    def test_asked_again_at_once(self) -> None:
        """Who asks again when there is no answer gets the whole time once more."""
        again: list[Deferred[Stanza]] = []
        self.ask(5).addErrback(lambda _: again.append(self.ask(5)))
        self.clock.advance(5)
        self.clock.advance(4.9)
        self.assertNoResult(again[0])
        self.clock.advance(0.1)
        self.failureResultOf(again[0], DeferredTimeout)

    def test_many(self) -> None:
        """Many that run out one after the other are not looked through for each."""
        for _ in range(1_000):
            self.ask(5).addErrback(lambda failure: failure.trap(DeferredTimeout))
            self.clock.advance(0.001)
        looks: list[None] = []
        look = self.requests._look

        def counted() -> None:
            looks.append(None)
            look()

        self.patch(self.requests, "_look", counted)
        for _ in range(600):
            self.clock.advance(0.01)
        self.assertEqual(0, len(self.requests))
        self.assertLess(len(looks), 25)

    def lose(self, order: list[int], number: int, failure: Failure) -> None:
        """A request that the end of the stream has ended."""
        failure.trap(RequestLost)
        order.append(number)

    def test_lost(self) -> None:
        """The end of the stream ends all, in their order, and nothing is watched any more."""
        order: list[int] = []
        for number in range(3):
            self.ask(5 + number).addErrback(partial(self.lose, order, number))
        self.requests.lost()
        self.assertEqual([0, 1, 2], order)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cancelled(self) -> None:
        """Who waits no more is forgotten."""
        answer = self.ask(5)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(0, len(self.requests))
        self.assertFalse(self.requests.take(result_reply(self.sent[0])))


class AddressTests(SynchronousTestCase):
    """Whose answers count."""

    own = "cb1.meet.example.com"

    def ask(self, sender: str | None, to: str | None) -> tuple[Requests, str, Deferred[Stanza]]:
        """Ask something; the table, the id and the answer to come."""
        sent: list[Stanza] = []
        requests = Requests(Clock(), sent.append, own=self.own)
        attributes = {"from": sender, "to": to}
        written = "".join(f" {k}='{v}'" for k, v in attributes.items() if v is not None)
        answer = requests.ask(one_stanza(f"<iq type='get'{written}/>"), 10)
        return requests, sent[0].id or "", answer

    def test_table(self) -> None:
        """The id, the sender and the addressee must fit, however they are written."""
        domain, alice, bob = "meet.example.com", "alice@meet.example.com", "bob@meet.example.com"
        for asking, asked, sender, to, counts in (
            (domain, self.own, self.own, domain, True),
            (domain, self.own, "CB1.meet.example.com.", "Meet.example.com", True),
            (domain, self.own, self.own, None, True),
            (domain, self.own, self.own, f"{alice}/r", False),
            (domain, self.own, self.own, alice, False),
            (domain, self.own, self.own, "@", False),
            (domain, self.own, domain, domain, False),
            (domain, self.own, None, domain, False),
            (domain, self.own, "@", domain, False),
            (domain, self.own, f"x@{self.own}", domain, False),
            # who does not say who asks is the one whose stream it is
            (None, f"{bob}/r", f"{bob}/r", self.own, True),
            (None, f"{bob}/r", f"{bob}/r", f"alice@{self.own}", False),
            (None, f"{bob}/r", f"{alice}/r", self.own, False),
            # and who says it gets what is for him, not what is for another there
            (f"alice@{self.own}", bob, bob, f"alice@{self.own}", True),
            (f"alice@{self.own}", bob, bob, f"alice@{self.own}/r", True),
            (f"alice@{self.own}", bob, bob, self.own, False),
        ):
            requests, identifier, answer = self.ask(asking, asked)
            attributes = {"id": identifier, "from": sender, "to": to}
            written = "".join(f" {k}='{v}'" for k, v in attributes.items() if v is not None)
            case = f"{asking} asked {asked}: {written}"
            for type_ in ("result", "error"):
                wrong = one_stanza(f"<iq type='{type_}' {written.replace(identifier, 'c1')}/>")
                self.assertFalse(requests.take(wrong), case)
            self.assertIs(counts, requests.take(one_stanza(f"<iq type='result'{written}/>")), case)
            self.assertIs(counts, answer.called, case)
            self.assertEqual(not counts, len(requests), case)

    def test_own_account(self) -> None:
        """A client's request without an address is answered by its server or its account."""
        self.own = "alice@meet.example.com"
        for sender, counts in (
            (None, True),
            ("meet.example.com", True),
            ("alice@meet.example.com", True),
            ("alice@meet.example.com/r", True),
            ("bob@meet.example.com", False),
            ("cb1.meet.example.com", False),
        ):
            requests, identifier, _ = self.ask(None, None)
            written = "" if sender is None else f" from='{sender}'"
            result = f"<iq type='result' id='{identifier}' to='alice@meet.example.com/r'{written}/>"
            self.assertIs(counts, requests.take(one_stanza(result)), sender)

    def test_ids(self) -> None:
        """Whoever is asked something learns nothing about the ids of other requests."""
        sent: list[str] = []
        requests = Requests(Clock(), lambda stanza: sent.append(stanza.id or ""), own="a")
        for _ in range(100):
            requests.ask(request("get", "a", "b", ping_payload()), 10)
        self.assertEqual(100, len(set(sent)))
        for place in zip(*sent, strict=True):  # each of its 96 bits is chosen anew
            self.assertGreater(len(set(place)), 8)
        self.assertEqual({24}, {len(identifier) for identifier in sent})

    def test_randomness(self) -> None:
        """It is a parameter."""
        sent: list[Stanza] = []
        requests = Requests(Clock(), sent.append, own="a", random=bytes)
        requests.ask(request("get", "a", "b", ping_payload()), 10)
        self.assertEqual("0" * 24, sent[0].id)
