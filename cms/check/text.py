"""A check as plain lines, for a pipe; the live tree shows the same lines in colour."""

from __future__ import annotations

from cms.audit.finding import Finding
from cms.check.report import Report
from cms.signalflow import counted

WORDS = {"passed": "passed", "failed": "FAILED", "warning": "warning", "skipped": "skipped"}
_INDENT = " " * 10


def heading(report: Report) -> str:
    """The first line."""
    shown = ", ".join(f"{key} {value}" for key, value in report.subject.items())
    return f"checking {shown}; ends within {report.bound:g} s"


def headline(finding: Finding) -> str:
    """The line that names step and result, with what was seen."""
    step = finding.step
    took = f"[{finding.seconds * 1000:.1f} ms]" if finding.seconds else ""
    parts = [f"step {step.value:2} {step.title:17}", f"{WORDS[finding.result]:8}", told(finding)]
    return " ".join(part for part in (*parts, took) if part)


def told(finding: Finding) -> str:
    """The text of a finding, on one line."""
    if finding.problem is not None:
        return f"{_where(finding)}{finding.problem.cause}"
    shown = {key: value for key, value in finding.evidence.items() if value}
    seen = [f"{key} {value}" for key, value in shown.items() if value != finding.about]
    about = [f"{finding.about}:"] if finding.about and (seen or finding.note) else [finding.about]
    note = [f"({finding.note})"] if finding.note else []
    return " ".join(filter(None, [*about, ", ".join(seen), *note]))


def _where(finding: Finding) -> str:
    """The target that failed, unless the cause names it."""
    is_named = finding.about in finding.problem.cause if finding.problem is not None else True
    return "" if is_named or finding.result != "failed" else f"{finding.about}: "


def unsaid(finding: Finding) -> dict[str, str]:
    """The evidence of a failure that its cause does not hold."""
    if finding.problem is None or finding.result != "failed":
        return {}
    said = f"{finding.about} {finding.problem.cause} {finding.problem.cure}"
    seen = {key: value for key, value in finding.evidence.items() if value and value not in said}
    if "valid" in seen:  # the facts of a certificate hold these as well
        for key in ("not_before", "not_after", "usages"):
            seen.pop(key, None)
    return seen


def remedy(finding: Finding) -> list[str]:
    """The lines below it: the cure, and what to copy."""
    problem = finding.problem
    if problem is None:
        return []
    seen = ", ".join(f"{key} {value}" for key, value in unsaid(finding).items())
    lines = [f"{_INDENT}seen: {seen}"] if seen else []
    lines.append(f"{_INDENT}cure: {problem.cure}")
    if problem.mend:
        lines += [f"{_INDENT}      {line}" for line in problem.mend.splitlines()]
    lines.append(f"{_INDENT}more: cms explain {problem.fault}")
    return lines


def lines(finding: Finding) -> list[str]:
    """A finding as plain lines."""
    return [headline(finding), *remedy(finding)]


def summary(report: Report) -> str:
    """The last line."""
    failures, warnings = len(report.failures), len(report.warnings)
    if failures:
        first = min(report.failures, key=lambda finding: finding.step)
        said = f"{counted(failures, 'failure')}, the first at {first.step}"
    else:
        said = "no step failed"
    return f"{said}; {counted(warnings, 'warning')}; {report.seconds:.2f} s"
