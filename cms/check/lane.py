"""
The findings of one branch of a check, told in their turn.

Nothing here does input or output; the renderers and the probes meet here.
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

    Branches run at the same time, but are told one after the other: a lane that
    is not open yet keeps what it has.

    @ivar holds: A failure, and what follows it, waits for L{settle}: another address
        or target may show that it is none.
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
        """A lane that is told after this one and before what follows now."""
        lane = Lane(self.emit)
        lane._next, self._next = self._next, lane
        if self.open and self.closed:
            lane.start()
        return lane

    def start(self) -> None:
        """Its turn has come."""
        self.open = True
        kept, self._kept = self._kept, []
        for finding in kept:
            self.emit(finding)
        if self.closed and self._next is not None:
            self._next.start()

    def close(self) -> None:
        """Nothing more will come."""
        if not self.closed:
            self.closed = True
            if self.open and self._next is not None:
                self._next.start()

    def add(self, finding: Finding) -> None:
        """Tell it, now or when the turn comes."""
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
        Tell what was held back.

        @param change: Makes of each failure what it is in the end.
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
