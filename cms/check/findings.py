"""
What a check found: one finding a line, and all of them as a report.

Nothing here does input or output; the renderers and the probes meet here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from attrs import define, field, frozen

from cms.signalflow import Step, StepError, printable

Result = Literal["passed", "failed", "warning", "skipped"]


@frozen
class Finding:
    """
    One line of a check.

    @ivar about: What was looked at: a record, a host and port, a file.
    @ivar seconds: How long it took.
    @ivar note: For people, where the evidence alone does not say it.
    @ivar problem: The entry of the catalogue, for a failure or a warning.
    """

    step: Step
    result: Result
    about: str = ""
    seconds: float = 0.0
    evidence: Mapping[str, str] = field(factory=dict)
    note: str = ""
    problem: StepError | None = None

    def as_dict(self) -> dict[str, Any]:
        """As F{docs/check.schema.json} describes it."""
        problem = self.problem
        return {
            "step": int(self.step),
            "name": self.step.title,
            "result": self.result,
            "about": self.about,
            "seconds": round(self.seconds, 6),
            "evidence": dict(self.evidence),
            "note": self.note,
            "fault": problem.fault if problem else None,
            "cause": problem.cause if problem else None,
            "cure": problem.cure if problem else None,
            "mend": problem.mend if problem else None,
        }


@define
class Report:
    """
    A whole check.

    @ivar kind: Whose side it took: C{callbridge} or C{server}.
    @ivar subject: What was checked, for the heading.
    @ivar began: Seconds since the epoch.
    @ivar bound: Seconds within which it must have ended.
    """

    kind: str
    subject: Mapping[str, str]
    began: float
    bound: float
    findings: list[Finding] = field(factory=list)
    seconds: float = 0.0

    @property
    def failures(self) -> list[Finding]:
        """What failed."""
        return [f for f in self.findings if f.result == "failed"]

    @property
    def warnings(self) -> list[Finding]:
        """What works by luck."""
        return [f for f in self.findings if f.result == "warning"]

    @property
    def status(self) -> int:
        """The exit status: 0 all good, 1 a step fails."""
        return 1 if self.failures else 0

    def as_dict(self) -> dict[str, Any]:
        """As F{docs/check.schema.json} describes it."""
        return {
            "version": 1,
            "kind": self.kind,
            "subject": dict(self.subject),
            "began": self.began,
            "seconds": round(self.seconds, 6),
            "bound": self.bound,
            "result": "failed" if self.failures else "passed",
            "failures": len(self.failures),
            "warnings": len(self.warnings),
            "findings": [finding.as_dict() for finding in self.findings],
        }


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
        seen = {key: printable(value) for key, value in evidence.items()}
        self.add(Finding(step, "passed", about, seconds, seen, note))

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

    def warned(self, doubt: StepError, about: str = "") -> None:
        """Something works by luck."""
        self.add(Finding(doubt.step, "warning", about, 0.0, doubt.evidence, problem=doubt))

    def skipped(self, step: Step, about: str, note: str) -> None:
        """A step was not tried."""
        self.add(Finding(step, "skipped", about, note=note))
