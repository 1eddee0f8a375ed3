"""What a command found when it checked something, and how that is printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click
from attrs import asdict, frozen

from cms.commands.common import Rows, print_json, print_rows
from cms.signalflow import StepError, printable

State = Literal["ok", "warning", "wrong"]


@frozen
class Finding:
    """
    One thing that was checked.

    @ivar cure: What mends it; empty when nothing needs to.
    """

    state: State
    text: str
    cure: str = ""

    @classmethod
    def of(cls, error: StepError) -> Finding:
        """A failure."""
        return cls("wrong", error.cause, error.cure)

    def __str__(self) -> str:
        return printable(self.text + (f" Cure: {self.cure}" if self.cure else ""))


def report(rows: Rows, findings: Sequence[Finding], as_json: bool) -> None:
    """
    Print what there is and what was found.

    @raise SystemExit: with status 1 when something is wrong.
    """
    rows = list(rows)
    if as_json:
        print_json({**as_facts(rows), "findings": [asdict(finding) for finding in findings]})
    else:
        print_rows(rows)
        for finding in findings:
            state = "WRONG" if finding.state == "wrong" else finding.state
            click.echo(f"{state:7} : {finding}")
    if is_wrong(findings):
        raise SystemExit(1)


def as_facts(rows: Rows) -> dict[str, Any]:
    """Rows with names in the manner of the API: C{Key file} is C{keyFile}."""
    facts = {}
    for key, value in rows:
        first, *others = key.split()
        facts[first[0].lower() + first[1:] + "".join(o[0].upper() + o[1:] for o in others)] = value
    return facts


def is_wrong(findings: Iterable[Finding]) -> bool:
    """Whether something is."""
    return any(finding.state == "wrong" for finding in findings)
