"""What a check of one's own set-up gives: a fact, a doubt or a failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from cms.signalflow import Step, StepError


@frozen
class Result:
    """
    @ivar about: What was looked at.
    @ivar problem: Set for a failure and for a warning.
    """

    step: Step
    result: Literal["passed", "failed", "warning", "skipped"]
    about: str = ""
    evidence: Mapping[str, str] = field(factory=dict)
    note: str = ""
    problem: StepError | None = None


def passed(step: Step, about: str, note: str = "", **evidence: str) -> Result:
    """It is as it should be."""
    return Result(step, "passed", about, evidence, note)


def failed(problem: StepError, about: str = "") -> Result:
    """It is wrong."""
    return Result(problem.step, "failed", about, problem.evidence, problem=problem)


def warned(problem: StepError, about: str = "") -> Result:
    """It works by luck."""
    return Result(problem.step, "warning", about, problem.evidence, problem=problem)


def skipped(step: Step, about: str, note: str) -> Result:
    """It was not looked at."""
    return Result(step, "skipped", about, note=note)
