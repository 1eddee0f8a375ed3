"""Machines that look their transitions up."""

from __future__ import annotations

import weakref
from typing import Protocol

from automat import NoTransition, TypeMachineBuilder
from twisted.trial.unittest import SynchronousTestCase

from cms.fast.machines import Machine, release


class _Inputs(Protocol):
    def push(self) -> None:
        """Through the turnstile."""

    def pay(self, coins: int) -> None:
        """Unlock it."""


class _Turnstile:
    def __init__(self) -> None:
        self.seen: list[object] = []


def _make() -> Machine[_Inputs, _Turnstile]:
    builder = TypeMachineBuilder(_Inputs, _Turnstile)
    locked, unlocked = builder.state("locked"), builder.state("unlocked")
    unlocked.upon(_Inputs.push).to(locked).returns(None)

    @locked.upon(_Inputs.pay).to(unlocked)
    def unlock(inputs: _Inputs, core: _Turnstile, coins: int) -> None:
        core.seen.append(coins)
        inputs.push()  # within an output: when this one is done

    return Machine(builder)


class MachineTests(SynchronousTestCase):
    """What a machine of ours does, as Automat's own."""

    def test_walk(self) -> None:
        """Each core has a state of its own; outputs are called with what came in."""
        machine = _make()
        one, other = _Turnstile(), _Turnstile()
        first, second = machine(one), machine(other)
        first.pay(3)
        first.pay(4)
        second.pay(5)
        self.assertEqual(([3, 4], [5]), (one.seen, other.seen))

    def test_no_transition(self) -> None:
        """What the table does not have is refused as Automat refuses it."""
        machine = _make()
        self.assertRaises(NoTransition, machine(_Turnstile()).push)

    def test_fault(self) -> None:
        """A fault in an output leaves the machine in the new state, and able to go on."""
        machine = _make()
        core = _Turnstile()
        inputs = machine(core)
        self.patch(core, "seen", None)
        self.assertRaises(AttributeError, inputs.pay, 3)
        inputs.push()
        core.seen = []
        inputs.pay(4)
        self.assertEqual([4], core.seen)

    def test_released(self) -> None:
        """A machine that was released lets its core go."""
        core = _Turnstile()
        gone = weakref.ref(core)
        inputs = _make()(core)
        release(inputs)
        del core
        self.assertIsNone(gone())

    def test_incomplete(self) -> None:
        """What Automat does not accept is no machine here."""
        builder = TypeMachineBuilder(_Inputs, _Turnstile)
        builder.state("locked").upon(_Inputs.push).loop()
        self.assertRaises(ValueError, Machine, builder)
