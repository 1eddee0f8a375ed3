"""docs/link-states.md shows the link's machine as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cms.callbridge.link import machine as link

PAGE = Path(__file__).parent.parent / "docs" / "link-states.md"

Transitions = set[tuple[str, str, str]]  # state, input, next state


def of_machine() -> tuple[str, Transitions]:
    """The first state and the transitions, from Automat's own record of them."""
    machine: Any = link._machine
    automaton = machine.automaton
    transitions = {
        (begin.name, input_, end.name) for begin, input_, end, _ in automaton.allTransitions()
    }
    return automaton.initialState.name, transitions


def of_drawing(page: str) -> tuple[str, Transitions]:
    """The same from the drawing."""
    first = re.search(r"\[\*\] --> (\w+)", page)
    assert first is not None
    arrows = re.findall(r"^ +(\w+) --> (\w+): (\w+)$", page, re.MULTILINE)
    return first[1], {(begin, input_, end) for begin, end, input_ in arrows}


def of_table(page: str) -> Transitions:
    """The same from the table, which is the page's first."""
    lines = page[page.index("| state |") :].split("\n\n", 1)[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        (row[0], input_, end)
        for row in rows
        for input_, end in zip(head[2:], row[2:], strict=True)
        if end
    }


class LinkStatesTests(SynchronousTestCase):
    """The page and the machine."""

    def test_drawing(self) -> None:
        """The drawing has every transition of the machine, and no other."""
        self.assertEqual(of_machine(), of_drawing(PAGE.read_text()))

    def test_table(self) -> None:
        """So does the table."""
        self.assertEqual(of_machine()[1], of_table(PAGE.read_text()))
