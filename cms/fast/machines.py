"""
Automat's typed machines, run by a table.

A machine is written with Automat's builder, which checks that it is whole.  To run
it, Automat 25.4 compares the state and the input with one transition after the
other and walks through a handful of calls for each input, which costs a machine of
sixty transitions more than all that the input leads to.  Here a state is a table
by input; what happens is the same.

Automat runs by itself what this does not know: a machine whose states have data, or
whose inputs answer something, and every machine of an Automat that is another inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from automat import NoTransition, TypeMachineBuilder

from cms.fast.needs import Need, lacking

_AUTOMATON = "automat._core:Automaton"
_OUTPUT = "automat._typed:MethodOutput"
NEEDS = (
    Need("automat:TypeMachineBuilder", "_automaton"),
    Need(_AUTOMATON, "allTransitions", "self"),
    Need(_AUTOMATON, "initialState"),
    Need(_AUTOMATON, "inputAlphabet", "self"),
    Need(_OUTPUT, "method"),
    Need(_OUTPUT, "requiresData"),
    Need("automat._typed:TypedState", "name"),
)
ABSENT = lacking("Automat", NEEDS, "state machines run by Automat itself, transition by transition")

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

    @ivar automaton: Automat's own table; C{None} where it is not known.
    """

    automaton: Any = None
    _kind: Callable[[Any, _State], Any] | None = None
    _initial: _State

    def __init__(self, builder: TypeMachineBuilder[_Inputs, _Core]) -> None:
        self._built = builder.build()  # which finds what is incomplete
        if ABSENT:
            return
        self.automaton = cast("Any", builder)._automaton
        if self._is_plain(builder.inputProtocol):
            self._make_table()

    def _is_plain(self, protocol: Any) -> bool:
        """Whether no state has data and no input answers anything."""
        answers = {
            getattr(protocol, name).__annotations__.get("return")
            for name in self.automaton.inputAlphabet()
        }
        return answers <= {None, "None"} and all(
            hasattr(output, "method") and not output.requiresData
            for *_, outputs in self.automaton.allTransitions()
            for output in outputs
        )

    def _make_table(self) -> None:
        states: dict[int, _State] = {}

        def state_of(state: Any) -> _State:
            return states.setdefault(id(state), _State(state.name))

        for old, name, new, outputs in self.automaton.allTransitions():
            methods = tuple(output.method for output in outputs)
            state_of(old).follows[name] = state_of(new), methods
        self._initial = state_of(self.automaton.initialState)
        inputs = {name: _make_input(name) for name in self.automaton.inputAlphabet()}
        self._kind = type("Running", (_Running,), {"__slots__": (), **inputs})

    def __call__(self, core: _Core) -> _Inputs:
        kind = self._kind
        if kind is None:
            return self._built(core)
        made: _Inputs = kind(core, self._initial)
        return made


def release(machine: Any) -> None:
    """
    Part a machine that has come to its end from its core, which then goes when
    nobody needs it any more, and not with the next garbage collection.  One that
    Automat runs waits for that.
    """
    if isinstance(machine, _Running):
        machine.core = None
