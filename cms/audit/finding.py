"""What looking at one thing gave: a fact, a warning or a failure, with its step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from cms.signalflow import Step, StepError, printable

Result = Literal["passed", "failed", "warning", "skipped"]


@frozen
class Finding:
    """
    The result of one check.

    @ivar about: What was checked: a record, a host and port, a file.
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


def passed(
    step: Step, about: str, evidence: Mapping[str, str], note: str = "", seconds: float = 0.0
) -> Finding:
    """It is as it should be."""
    seen = {key: printable(value) for key, value in evidence.items()}
    return Finding(step, "passed", about, seconds, seen, note)


def failed(problem: StepError, about: str = "", seconds: float = 0.0) -> Finding:
    """It is wrong."""
    return Finding(problem.step, "failed", about, seconds, problem.evidence, problem=problem)


def warned(warning: StepError, about: str = "") -> Finding:
    """A warning: it works, and should be put right."""
    return Finding(warning.step, "warning", about, 0.0, warning.evidence, problem=warning)


def skipped(step: Step, about: str, note: str) -> Finding:
    """It was not checked."""
    return Finding(step, "skipped", about, note=note)
