"""
The findings of one branch of a check, reported in order.

Probes put findings into a lane, and renderers get them from it.  Nothing here does input
or output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, field

from cms.audit.finding import Finding, passed, skipped, warned
from cms.signalflow import Step, StepError

Emit = Callable[[Finding], None]
Waiting = Callable[[Step, str, float], None]


@define(eq=False)
class Lane:
    """
    The findings of one branch of the walk, in order.

    Branches run at the same time, but are reported one after the other.  A lane that is
    not open yet keeps its findings.

    @ivar holds: Whether a failure, and what follows it, waits for L{settle}, because
        another address or target may make it a warning.
    """

    emit: Emit
    open: bool = False
    closed: bool = False
    holds: bool = False
    findings: list[Finding] = field(factory=list)
    _held: list[Finding] = field(factory=list)
    _kept: list[Finding] = field(factory=list)
    _next: Lane | None = None

    def branch(self) -> Lane:
        """A lane that is reported after this one's findings so far, and before later ones."""
        lane = Lane(self.emit)
        lane._next, self._next = self._next, lane
        if self.open and self.closed:
            lane.start()
        return lane

    def start(self) -> None:
        """Report from now on, because it is this lane's turn."""
        self.open = True
        kept, self._kept = self._kept, []
        for finding in kept:
            self.emit(finding)
        if self.closed and self._next is not None:
            self._next.start()

    def close(self) -> None:
        """No more findings will come."""
        if not self.closed:
            self.closed = True
            if self.open and self._next is not None:
                self._next.start()

    def add(self, finding: Finding) -> None:
        """Report a finding, now or when it is this lane's turn."""
        if self._held or (self.holds and finding.result == "failed"):
            self._held.append(finding)
            return
        self.findings.append(finding)
        if self.open:
            self.emit(finding)
        else:
            self._kept.append(finding)

    def settle(self, change: Callable[[Finding], Finding] = lambda finding: finding) -> None:
        """
        Report the findings held back.

        @param change: Returns what each failure is in the end.
        """
        held, self._held, holds, self.holds = self._held, [], self.holds, False
        for finding in held:
            self.add(change(finding) if finding.result == "failed" else finding)
        self.holds = holds

    def passed(
        self, step: Step, about: str, seconds: float, evidence: Mapping[str, str], note: str = ""
    ) -> None:
        """A step passed."""
        self.add(passed(step, about, evidence, note, seconds))

    def failed(
        self,
        error: StepError,
        about: str = "",
        seconds: float = 0.0,
        evidence: Mapping[str, str] | None = None,
    ) -> None:
        """A step failed."""
        seen = {**error.evidence, **(evidence or {})}
        self.add(Finding(error.step, "failed", about, seconds, seen, problem=error))

    def warned(self, warning: StepError, about: str = "") -> None:
        """Something works, and should be put right."""
        self.add(warned(warning, about))

    def skipped(self, step: Step, about: str, note: str) -> None:
        """A step was not tried."""
        self.add(skipped(step, about, note))
