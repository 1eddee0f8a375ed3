"""Machines that look their transitions up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from automat import NoTransition, TypeMachineBuilder
from twisted.trial.unittest import SynchronousTestCase

from cms.machines import build


class _Inputs(Protocol):
    def push(self) -> None:
        """Through the turnstile."""

    def pay(self, coins: int) -> None:
        """Unlock it."""


class _Turnstile:
    def __init__(self) -> None:
        self.seen: list[object] = []


def _make() -> tuple[TypeMachineBuilder[_Inputs, _Turnstile], Callable[[_Turnstile], _Inputs]]:
    builder = TypeMachineBuilder(_Inputs, _Turnstile)
    locked, unlocked = builder.state("locked"), builder.state("unlocked")
    unlocked.upon(_Inputs.push).to(locked).returns(None)

    @locked.upon(_Inputs.pay).to(unlocked)
    def unlock(inputs: _Inputs, core: _Turnstile, coins: int) -> None:
        core.seen.append(coins)
        inputs.push()  # within an output: when this one is done

    return builder, build(builder)


class MachineTests(SynchronousTestCase):
    """What a machine of ours does, as Automat's own."""

    def test_walk(self) -> None:
        """Each core has a state of its own; outputs are called with what came in."""
        _, machine = _make()
        one, other = _Turnstile(), _Turnstile()
        first, second = machine(one), machine(other)
        first.pay(3)
        first.pay(4)
        second.pay(5)
        self.assertEqual(([3, 4], [5]), (one.seen, other.seen))

    def test_no_transition(self) -> None:
        """What the table does not have is refused as Automat refuses it."""
        _, machine = _make()
        self.assertRaises(NoTransition, machine(_Turnstile()).push)

    def test_not_searched(self) -> None:
        """Automat's own search, which takes the longer the bigger the table is, is not used."""
        builder, machine = _make()
        builder._automaton._transitions.clear()
        core = _Turnstile()
        machine(core).pay(1)
        self.assertEqual([1], core.seen)
