"""The outcomes of a command's checks, and their output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import click
from attrs import asdict, frozen

from cms.commands.common import Rows, as_facts, print_json, print_rows
from cms.signalflow import StepError, printable

State = Literal["ok", "warning", "wrong"]


@frozen
class Outcome:
    """
    One thing that was checked.

    @ivar cure: What mends it; empty when nothing needs to.
    """

    state: State
    text: str
    cure: str = ""

    @classmethod
    def of(cls, error: StepError) -> Outcome:
        """A failure."""
        return cls("wrong", error.cause, error.cure)

    def __str__(self) -> str:
        return printable(self.text + (f" Cure: {self.cure}" if self.cure else ""))


def report(rows: Rows, outcomes: Sequence[Outcome], as_json: bool) -> None:
    """
    Print what there is and what was found.

    @raise SystemExit: with status 1 when something is wrong.
    """
    rows = list(rows)
    if as_json:
        print_json({**as_facts(rows), "findings": [asdict(outcome) for outcome in outcomes]})
    else:
        print_rows(rows)
        for outcome in outcomes:
            state = "WRONG" if outcome.state == "wrong" else outcome.state
            click.echo(f"{state:7} : {outcome}")
    if is_wrong(outcomes):
        raise SystemExit(1)


def is_wrong(outcomes: Iterable[Outcome]) -> bool:
    """Whether something is."""
    return any(outcome.state == "wrong" for outcome in outcomes)
