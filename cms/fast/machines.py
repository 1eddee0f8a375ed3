"""
Automat's typed machines, run by a table.

A machine is written with Automat's builder, which checks that it is whole.  To run
it, Automat 25.4 compares the state and the input with one transition after the
other and walks through a handful of calls for each input, which costs a machine of
sixty transitions more than all that the input leads to.  Here a state is a table
by input; what happens is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from automat import NoTransition, TypeMachineBuilder

_Inputs = TypeVar("_Inputs")
_Core = TypeVar("_Core")


class _State:
    """
    One state: its name, and what follows each input, the next state and the outputs.
    """

    __slots__ = ("follows", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.follows: dict[str, tuple[_State, tuple[Callable[..., object], ...]]] = {}


class _Running:
    """A machine in one of its states, with the core that its outputs work on."""

    __slots__ = ("core", "postponed", "state")

    def __init__(self, core: object, state: _State) -> None:
        self.core = core
        self.state = state
        self.postponed: list[tuple[Callable[..., None], tuple[object, ...]]] | None = None


def _make_input(name: str) -> Callable[..., None]:
    def take(self: _Running, *arguments: object) -> None:
        if self.postponed is not None:  # an input within an output: when that is done
            self.postponed.append((take, arguments))
            return
        postponed = self.postponed = []
        try:
            follows = self.state.follows.get(name)
            if follows is None:
                raise NoTransition(state=self.state.name, symbol=name)
            self.state, outputs = follows
            for output in outputs:
                output(self, self.core, *arguments)
        finally:
            self.postponed = None
        while postponed:
            again, those = postponed.pop(0)
            again(self, *those)

    return take


class Machine(Generic[_Inputs, _Core]):
    """
    Makes the machine of one core when it is called.

    @ivar automaton: Automat's own table.
    """

    def __init__(self, builder: TypeMachineBuilder[_Inputs, _Core]) -> None:
        builder.build()  # which finds what is incomplete
        self.automaton: Any = builder._automaton
        states: dict[int, _State] = {}

        def state_of(state: Any) -> _State:
            return states.setdefault(id(state), _State(state.name))

        for old, name, new, outputs in self.automaton.allTransitions():
            methods = tuple(cast("Any", output).method for output in outputs)
            state_of(old).follows[name] = state_of(new), methods
        self._initial = state_of(self.automaton.initialState)
        inputs = {name: _make_input(name) for name in self.automaton.inputAlphabet()}
        self._kind = type("Running", (_Running,), {"__slots__": (), **inputs})

    def __call__(self, core: _Core) -> _Inputs:
        return cast("_Inputs", self._kind(core, self._initial))


def release(machine: Any) -> None:
    """
    Part a machine that has come to its end from its core, which then goes when
    nobody needs it any more, and not with the next garbage collection.
    """
    machine.core = None
