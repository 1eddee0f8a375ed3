"""A check as one self-contained HTML page, to send to a colleague."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.web.template import Tag, flattenString, tags

import cms
from cms.audit.finding import Finding
from cms.check import text
from cms.check.report import Report
from cms.signalflow import Step

_STYLE = """
:root { color-scheme: light dark; --ok: #18794e; --bad: #c62a2f; --warn: #ad5700; --dim: #687076;
  --line: #8884; --card: #8881; }
@media (prefers-color-scheme: dark) { :root { --ok: #4cc38a; --bad: #ff6369; --warn: #f1a10d;
  --dim: #9ba1a6; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: .2rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.verdict { font-weight: 600; padding: .6rem .9rem; border-radius: .4rem; color: #fff; }
.verdict.passed { background: #18794e; } .verdict.failed { background: #c62a2f; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .3rem 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
section.finding { border-left: .3rem solid var(--line); background: var(--card);
  padding: .5rem .9rem; margin: .4rem 0; border-radius: 0 .4rem .4rem 0; }
.passed { --tone: var(--ok); } .failed { --tone: var(--bad); } .warning { --tone: var(--warn); }
.skipped { --tone: var(--dim); }
section.finding { border-left-color: var(--tone); }
.word { color: var(--tone); font-weight: 600; margin-right: .6rem; }
.about { font-weight: 600; overflow-wrap: anywhere; } .took, .note, footer { color: var(--dim); }
.took { float: right; } pre { background: var(--card); border: 1px solid var(--line);
  padding: .5rem .7rem; border-radius: .3rem; white-space: pre-wrap; overflow-wrap: anywhere; }
p { margin: .3rem 0; } footer { margin-top: 2rem; font-size: .85rem; }
"""


class HTMLPage:
    """
    Writes the page when the check is over.

    @param path: The file.
    @param complain: Called with an error if it cannot be written.
    """

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain

    def begin(self, report: Report) -> None:
        """Nothing yet."""

    def waiting(self, step: Step, about: str, seconds: float) -> None:
        """Nothing."""

    def found(self, finding: Finding) -> None:
        """It is in the report."""

    def end(self, report: Report) -> None:
        """Write it."""
        try:
            self._path.write_bytes(page(report))
        except OSError as problem:
            self._complain(f"{self._path} cannot be written: {problem.strerror}")


def page(report: Report) -> bytes:
    """The whole page, in UTF-8."""
    flat: list[bytes] = []
    flattenString(None, _document(report)).addCallback(flat.append)
    return b"<!DOCTYPE html>\n" + flat[0]


def _document(report: Report) -> Tag:
    domain = report.subject.get("domain", report.subject.get("source", ""))
    title = f"cms check of {domain}"
    result = "failed" if report.failures else "passed"
    return tags.html(
        tags.head(
            tags.meta(charset="utf-8"),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.title(title),
            tags.style(_STYLE),
        ),
        tags.body(
            tags.h1(title),
            tags.p(text.summary(report), class_=f"verdict {result}"),
            _facts(report.subject),
            *_steps(report),
            tags.footer(
                f"cms {cms.__version__}, {_moment(report.began)}; what each fault means:"
                " cms explain FAULT, or docs/troubleshooting.md"
            ),
        ),
        lang="en",
    )


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _steps(report: Report) -> list[Any]:
    """A heading and its findings for each step, in order."""
    shown: list[Any] = []
    for step in Step:
        findings = [finding for finding in report.findings if finding.step is step]
        if findings:
            shown.append(tags.h2(f"Step {step.value}: {step.title}"))
            shown += [_finding(finding) for finding in findings]
    return shown


def _finding(finding: Finding) -> Tag:
    parts: list[Any] = []
    if finding.seconds:
        parts.append(tags.span(f"{finding.seconds * 1000:.1f} ms", class_="took"))
    parts.append(tags.span(text.WORDS[finding.result], class_="word"))
    if finding.about:
        parts.append(tags.span(finding.about, class_="about"))
    if finding.note:
        parts.append(tags.p(finding.note, class_="note"))
    problem = finding.problem
    if problem is not None:
        parts.append(tags.p(problem.cause))
        parts.append(tags.p(tags.strong("Cure: "), problem.cure))
        if problem.mend:
            parts.append(tags.pre(problem.mend))
    parts.append(_facts(finding.evidence))
    if problem is not None:
        parts.append(tags.p(f"cms explain {problem.fault}", class_="note"))
    return tags.section(*parts, class_=f"finding {finding.result}")


def _facts(evidence: Any) -> Tag:
    return tags.dl(
        *(part for key, value in evidence.items() for part in (tags.dt(key), tags.dd(value)))
    )
