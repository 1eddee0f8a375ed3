"""docs/link-states.md and docs/server-states.md show the machines as they are."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.statepages import MACHINES, Drawn, pages, table_of
from tests.test_architecture import MODULES

Transitions = set[tuple[str, str, str]]  # state, input, next state


def of_machine(drawn: Drawn) -> tuple[str, Transitions]:
    """The first state and the transitions, from Automat's own record of them."""
    automaton: Any = drawn.machine.automaton
    transitions = {
        (begin.name, input_, end.name) for begin, input_, end, _ in automaton.allTransitions()
    }
    return str(automaton.initialState.name), transitions


def section(drawn: Drawn) -> str:
    """What the page has of a machine."""
    text = drawn.page.read_text().split(f"<!-- made of {drawn.module} -->", 1)[1]
    return text.split("<!-- end -->", 1)[0]


def of_drawing(text: str) -> tuple[str, Transitions]:
    """What the drawing shows."""
    names = dict(re.findall(r'^ +state "([^"]+)" as (\w+)$', text, re.MULTILINE))
    by_alias = {alias: name for name, alias in names.items()}
    first = re.search(r"\[\*\] --> (\w+)", text)
    assert first is not None
    arrows = re.findall(r"^ +(\w+) --> (\w+): ([\w, ]+)$", text, re.MULTILINE)
    transitions = {
        (by_alias.get(begin, begin), input_, by_alias.get(end, end))
        for begin, end, inputs in arrows
        for input_ in inputs.split(", ")
    }
    return str(by_alias.get(first[1], first[1])), transitions


def of_table(text: str) -> Transitions:
    """What the table shows."""
    lines = text[text.index("| state |") :].split("\n\n", 1)[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    inputs = head.index("steps") + 1 if "steps" in head else 1
    return {
        (row[0], input_, end)
        for row in rows
        for input_, end in zip(head[inputs:], row[inputs:], strict=True)
        if end
    }


class StatesTests(SynchronousTestCase):
    """The pages and the machines."""

    def test_all(self) -> None:
        """Every machine of C{cms} is in a page."""
        built = {
            name for name, file in MODULES.items() if "= TypeMachineBuilder(" in file.read_text()
        }
        self.assertEqual(built, {drawn.module for drawn in MACHINES})

    def test_drawings(self) -> None:
        """A drawing has every transition that changes the state, and no other."""
        for drawn in MACHINES:
            first, transitions = of_machine(drawn)
            changing = {(begin, i, end) for begin, i, end in transitions if begin != end}
            self.assertEqual((first, changing), of_drawing(section(drawn)), drawn.module)

    def test_tables(self) -> None:
        """A table has all of them."""
        for drawn in MACHINES:
            self.assertEqual(of_machine(drawn)[1], of_table(section(drawn)), drawn.module)

    def test_meanings(self) -> None:
        """Every input is explained."""
        for drawn in MACHINES:
            for name in table_of(drawn).inputs:
                self.assertRegex(section(drawn), rf"\| `{name}` \| \w", drawn.module)

    def test_made(self) -> None:
        """The pages are as C{make docs} makes them."""
        for page, text in pages().items():
            self.assertEqual(text, page.read_text(), page)
