"""
The drawings and tables of the state machines in docs/, made of the machines themselves.

C{python -m tests.statepages} writes them into the pages; what is around them is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cms.callbridge.link import inputs as link_inputs
from cms.callbridge.link import machine as link
from cms.xmpp import clientinputs, clientstates, componentinputs, componentstates, saslexchange

DOCS = Path(__file__).parent.parent / "docs"
_LINK_STEPS = {"finding": "2-4", "resolving": "5", "connecting": "6", "registering": "7-10"}


class Drawn(NamedTuple):
    """
    A machine and its place.

    @ivar module: Where its table is.
    @ivar page: The page that shows it.
    @ivar machine: A L{cms.fast.machines.Machine}.
    @ivar inputs: The protocol of its inputs, whose docstrings say what they mean.
    @ivar steps: The steps of the signal flow that its states belong to.
    """

    module: str
    page: Path
    machine: Any
    inputs: type
    steps: Mapping[str, str]


def _drawn(module: Any, page: str, inputs: Any, steps: Mapping[str, str]) -> Drawn:
    return Drawn(module.__name__, DOCS / page, module._machine, inputs, steps)


MACHINES = (
    _drawn(link, "link-states.md", link_inputs.Inputs, _LINK_STEPS | {"active": "11"}),
    _drawn(clientstates, "server-states.md", clientinputs.Inputs, {}),
    _drawn(saslexchange, "server-states.md", saslexchange._Inputs, {}),
    _drawn(componentstates, "server-states.md", componentinputs.Inputs, {}),
)


class Table(NamedTuple):
    """What a machine does: its first state, its states, its inputs, and what follows them."""

    first: str
    states: list[str]
    inputs: list[str]
    follows: dict[tuple[str, str], str]


def table_of(drawn: Drawn) -> Table:
    """Of a machine, in the order in which it was written."""
    automaton = drawn.machine.automaton
    transitions = list(automaton.allTransitions())
    follows = {(begin.name, input_): end.name for begin, input_, end, _ in transitions}
    first = automaton.initialState.name
    inputs = [name for name in vars(drawn.inputs) if name in {i for _, i in follows}]
    states, ahead = [], [first]
    while ahead:  # as they are come to
        state = ahead.pop(0)
        if state not in states:
            states.append(state)
            ahead += [follows[state, i] for i in inputs if (state, i) in follows]
    return Table(first, states, inputs, follows)


def _alias(state: str) -> str:
    return re.sub(r"\W+", "_", state)


def drawing(table: Table) -> str:
    """In Mermaid's language; what leaves everything as it is, is not drawn."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{s}" as {_alias(s)}' for s in table.states if _alias(s) != s]
    lines.append(f"    [*] --> {_alias(table.first)}")
    for state in table.states:
        ends: dict[str, list[str]] = {}
        for input_ in table.inputs:
            end = table.follows.get((state, input_))
            if end is not None and end != state:
                ends.setdefault(end, []).append(input_)
        lines += [f"    {_alias(state)} --> {_alias(e)}: {', '.join(i)}" for e, i in ends.items()]
    return "\n".join([*lines, "```"])


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(re.sub(" +", " ", f"| {' | '.join(row)} |") for row in rows)


def tables(drawn: Drawn, table: Table) -> str:
    """What follows each input in each state, and what the inputs mean."""
    steps = ["steps"] if drawn.steps else []
    head = ["state", *steps, *table.inputs]
    rows = [head, ["---"] * len(head)]
    for state in table.states:
        step = [drawn.steps.get(state, "")] if drawn.steps else []
        rows.append([state, *step, *(table.follows.get((state, i), "") for i in table.inputs)])
    meanings = [["input", "what has happened"], ["---", "---"]]
    for name in table.inputs:
        said = " ".join((getattr(drawn.inputs, name).__doc__ or "").split())
        meanings.append([f"`{name}`", re.sub(r"[LC]\{([^}]*)\}", r"`\1`", said)])
    return f"{_rows(rows)}\n\n{_rows(meanings)}"


def section(drawn: Drawn) -> str:
    """All that is made of a machine."""
    table = table_of(drawn)
    return f"{drawing(table)}\n\n{tables(drawn, table)}"


def pages() -> dict[Path, str]:
    """Each page as it must be."""
    made: dict[Path, str] = {}
    for drawn in MACHINES:
        text = made.get(drawn.page) or drawn.page.read_text()
        begin, end = f"<!-- made of {drawn.module} -->\n", "\n<!-- end -->"
        before, rest = text.split(begin)
        after = rest.split(end, 1)[1]
        made[drawn.page] = f"{before}{begin}{section(drawn)}{end}{after}"
    return made


if __name__ == "__main__":
    for file, content in pages().items():
        file.write_text(content)
