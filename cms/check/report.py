"""A whole check, as it is shown and as F{docs/check.schema.json} describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from cms.audit.finding import Finding


@define
class Report:
    """
    A whole check.

    @ivar kind: The side it checked: C{callbridge} or C{server}.
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
        """What works, and should be put right."""
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
