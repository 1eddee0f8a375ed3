"""A check as a live tree on a terminal, with colour."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from attrs import define, frozen

from cms.audit.finding import Finding
from cms.check import text
from cms.check.report import Report
from cms.signalflow import Step

_COLOURS = {"passed": 32, "failed": 31, "warning": 33, "skipped": 2}
_BOLD, _DIM, _CYAN = 1, 2, 36
_CLEAR = "\r\x1b[K"
_LEAST_WIDTH = 40


@frozen
class Signs:
    """What the tree is drawn with."""

    branch: str = "├─"
    line: str = "│ "
    last: str = "└─"
    passed: str = "✓"
    failed: str = "✗"
    warning: str = "!"
    skipped: str = "·"
    waiting: str = "…"


PLAIN_SIGNS = Signs("|-", "| ", "`-", "+", "x", "!", "-", "...")


@define
class LiveTree:
    """
    Each finding is a branch, shown as it happens.  The line below the tree says what the
    check waits for.

    @ivar write: Writes text to the terminal as it is.
    @ivar width: In columns.
    @ivar colour: Whether to use it.
    """

    write: Callable[[str], object]
    width: int
    colour: bool = True
    signs: Signs = Signs()
    _waiting: str = ""
    _step: Step = Step.CONFIGURATION

    def begin(self, report: Report) -> None:
        """The root."""
        self._line(self._paint(text.heading(report), _BOLD))

    def waiting(self, step: Step, about: str, seconds: float) -> None:
        """Show the wait on a line that is overwritten later."""
        self._step = step
        words = f"{self.signs.waiting} {step}: {about} (at most {seconds:g} s)"
        self._waiting = words[: self.width - 1]
        self.write(_CLEAR + self._paint(self._waiting, _DIM))

    def found(self, finding: Finding) -> None:
        """A branch."""
        waiting, self._waiting = self._waiting, ""
        if waiting:
            self.write(_CLEAR)
        sign = self._paint(getattr(self.signs, finding.result), _COLOURS[finding.result])
        name = self._paint(f"{finding.step.value:2} {finding.step.title:17}", _BOLD)
        took = f" {finding.seconds * 1000:.1f} ms" if finding.seconds else ""
        *lines, last = self._fold(self._head(finding), 26)
        for number, line in enumerate([*lines, last + self._paint(took, _DIM)]):
            start = f"{self.signs.branch}{sign} {name} " if number == 0 else self._under(26)
            self._line(start + line)
        self._leaves(finding)
        if waiting and finding.step < self._step:
            self._waiting = waiting
            self.write(self._paint(waiting, _DIM))

    def end(self, report: Report) -> None:
        """The last branch."""
        if self._waiting:
            self.write(_CLEAR)
        result = "failed" if report.failures else "warning" if report.warnings else "passed"
        self._line(f"{self.signs.last} " + self._paint(text.summary(report), _COLOURS[result]))

    def _head(self, finding: Finding) -> str:
        if finding.problem is not None:
            return text.told(finding)
        return finding.about or finding.note

    def _leaves(self, finding: Finding) -> None:
        problem = finding.problem
        if problem is None:
            if finding.about and finding.note:
                self._leaf("", finding.note)
            for key, value in finding.evidence.items():
                if value and value != finding.about:
                    self._leaf(key, value)
            return
        for key, value in text.unsaid(finding).items():
            self._leaf(key, value)
        self._leaf("cure", problem.cure, _CYAN)
        for line in problem.mend.splitlines():  # not folded, so that it can be copied
            self._line(self._under(8) + self._paint(line, _CYAN))
        self._leaf("more", f"cms explain {problem.fault}")

    def _leaf(self, key: str, value: str, colour: int = _DIM) -> None:
        for number, line in enumerate(self._fold(value, 20)):
            label = key if number == 0 else ""
            self._line(
                self._under(6) + self._paint(f"{label:13} ", _DIM) + self._paint(line, colour)
            )

    def _fold(self, words: str, indent: int) -> list[str]:
        room = max(_LEAST_WIDTH, self.width - indent - 2)
        return textwrap.wrap(words, room, break_on_hyphens=False) or [""]

    def _under(self, columns: int) -> str:
        return self.signs.line + " " * (columns - 2)

    def _paint(self, words: str, code: int) -> str:
        return f"\x1b[{code}m{words}\x1b[0m" if self.colour and words else words

    def _line(self, words: str) -> None:
        self.write(words.rstrip() + "\n")
