"""The output of a check while it runs: plain lines, a live tree, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from cms.audit.finding import Finding
from cms.check import text
from cms.check.report import Report
from cms.signalflow import Step

Write = Callable[[str], None]


class Renderer(Protocol):
    """Shows a check."""

    def begin(self, report: Report) -> None:
        """It begins."""

    def waiting(self, step: Step, about: str, seconds: float) -> None:
        """A wait begins, which ends within C{seconds}."""

    def found(self, finding: Finding) -> None:
        """Something was found."""

    def end(self, report: Report) -> None:
        """It is over."""


class Several:
    """Several renderers, one after the other."""

    def __init__(self, *renderers: Renderer) -> None:
        self._renderers = renderers

    def begin(self, report: Report) -> None:
        """It begins."""
        for renderer in self._renderers:
            renderer.begin(report)

    def waiting(self, step: Step, about: str, seconds: float) -> None:
        """A wait begins."""
        for renderer in self._renderers:
            renderer.waiting(step, about, seconds)

    def found(self, finding: Finding) -> None:
        """Something was found."""
        for renderer in self._renderers:
            renderer.found(finding)

    def end(self, report: Report) -> None:
        """It is over."""
        for renderer in self._renderers:
            renderer.end(report)


class PlainLines:
    """
    A line for each finding, as it happens.

    @param write: Writes a whole line and flushes it.
    """

    def __init__(self, write: Write) -> None:
        self._write = write

    def begin(self, report: Report) -> None:
        """What is checked, and how long it may take."""
        self._write(text.heading(report))

    def waiting(self, step: Step, about: str, seconds: float) -> None:
        """Waits are not shown in a pipe."""

    def found(self, finding: Finding) -> None:
        """The line, and the cure below it."""
        for line in text.lines(finding):
            self._write(line)

    def end(self, report: Report) -> None:
        """The last line."""
        self._write(text.summary(report))


class JSONDocument:
    """The whole report as one JSON document, when it is over."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def begin(self, report: Report) -> None:
        """Nothing yet."""

    def waiting(self, step: Step, about: str, seconds: float) -> None:
        """Nothing."""

    def found(self, finding: Finding) -> None:
        """It is in the report."""

    def end(self, report: Report) -> None:
        """Write it."""
        self._write(json.dumps(report.as_dict(), indent=2))
