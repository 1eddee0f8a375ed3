"""Stream management's counters and its queue (XEP-0198 4 and 5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from cms.xmlstream.backlog import Item
from cms.xmlstream.management import (
    ASK_BYTES,
    ASK_STANZAS,
    MODULUS,
    WINDOW_BYTES,
    WINDOW_STANZAS,
    AcknowledgedTooManyError,
    Ledger,
)

_STANZAS: st.SearchStrategy[Item] = st.binary(min_size=1, max_size=20) | st.tuples(
    st.binary(max_size=9), st.binary(max_size=9)
)


def _bytes(item: Item) -> bytes:
    return item if isinstance(item, bytes) else b"".join(item)


class LedgerMachine(RuleBasedStateMachine):
    """A ledger beside a plain list of all that was ever sent, near where counters wrap."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.sent: list[bytes] = []
        self.acknowledged = self.begin = 0

    @initialize(begin=st.sampled_from([0, 1, MODULUS - 1, MODULUS - 5]))
    def begins(self, begin: int) -> None:
        """A session in the middle of its life."""
        self.begin = begin
        self.ledger.keep(range(begin), 0)  # type: ignore[arg-type]  # counted, never looked at
        self.ledger.acknowledge(begin)
        self.ledger.count_handled(begin)

    @rule(stanzas=st.lists(_STANZAS, min_size=1, max_size=8))
    def sends(self, stanzas: list[Item]) -> None:
        """Some leave together."""
        raws = [_bytes(item) for item in stanzas]
        self.ledger.keep(stanzas, sum(map(len, raws)))
        self.sent += raws

    @rule(data=st.data())
    def acknowledges(self, data: Any) -> None:
        """The peer has handled some, or none, of them."""
        new = data.draw(st.integers(0, len(self.sent) - self.acknowledged))
        self.acknowledged += new
        self.ledger.acknowledge((self.begin + self.acknowledged) % MODULUS)

    @rule(more=st.integers(1, 2**31))
    def acknowledges_too_many(self, more: int) -> None:
        """The peer has handled what was never sent."""
        claimed = (self.begin + len(self.sent) + more) % MODULUS
        with pytest.raises(AcknowledgedTooManyError) as refused:
            self.ledger.acknowledge(claimed)
        assert refused.value.acknowledged == claimed
        assert refused.value.sent == (self.begin + len(self.sent)) % MODULUS

    @rule(stanzas=st.integers(1, 9))
    def handles(self, stanzas: int) -> None:
        """Some came."""
        before = self.ledger.handled
        self.ledger.count_handled(stanzas)
        assert self.ledger.handled == (before + stanzas) % MODULUS

    @invariant()
    def is_what_it_should_be(self) -> None:
        """What waits is the end of what was sent, and its sizes are so."""
        waiting = self.sent[self.acknowledged :]
        assert list(self.ledger.waiting()) == waiting
        assert self.ledger.unacknowledged == len(waiting)
        assert self.ledger.size == sum(map(len, waiting))
        assert self.ledger.sent == (self.begin + len(self.sent)) % MODULUS


class LedgerTests(SynchronousTestCase):
    """When an acknowledgement is asked for, and when the window is full."""

    def test_properties(self) -> None:
        """Any order of sending and acknowledging, the counters' wrap among it."""
        run_state_machine_as_test(LedgerMachine, settings=settings(deadline=None, max_examples=60))

    def test_asks(self) -> None:
        """By number and by bytes; once asked, so much again may be sent."""
        for size, stanzas in ((1, ASK_STANZAS), (ASK_BYTES // 4, 4)):
            ledger = Ledger()
            for _ in range(2):
                due = [ledger.keep([b"x" * size], size) for _ in range(stanzas)]
                self.assertEqual([False] * (stanzas - 1) + [True], due)
                ledger.asked()

    def test_window(self) -> None:
        """It is full by number and by bytes, and open again when acknowledged."""
        for size, stanzas in ((1, WINDOW_STANZAS), (WINDOW_BYTES // 4, 4)):
            ledger = Ledger()
            ledger.keep([b"x" * size] * (stanzas - 1), size * (stanzas - 1))
            self.assertFalse(ledger.is_full)
            ledger.keep([b"x" * size], size)
            self.assertTrue(ledger.is_full)
            ledger.acknowledge(1)
            self.assertFalse(ledger.is_full)

    def test_cost(self) -> None:
        """A batch is one entry, and an acknowledgement of whole batches looks at no stanza."""

        class Looked(bytes):
            def __len__(self) -> int:
                raise AssertionError("it was looked at")

        ledger = Ledger()
        for _ in range(3):
            ledger.keep([Looked(b"x")] * 64, 64)
        ledger.acknowledge(128)
        self.assertEqual((64, 64), (ledger.unacknowledged, ledger.size))
