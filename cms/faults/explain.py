"""
The catalogue for people: C{cms explain}, and docs/troubleshooting.md.

C{python -m cms.faults.explain FILE} writes the document.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cms import faults
from cms.faults.advice import STREAM_ADVICE, STREAM_OTHERWISE
from cms.faults.kinds import Fault, Seen
from cms.signalflow import Step

_HEAD = """\
# Troubleshooting

What can go wrong between a Callbridge, DNS, an XMPP server and its clients: the
symptom, what it means, what cures it, and what to copy. `cms check` finds out
which of these it is; `cms explain NAME` prints an entry. This page is made from
the catalogue in the code (`make docs`).

"""
_TOLD = {
    "advice": "what helps depends on the condition, see below",
    "mend": "as the message says",
}


class _Names(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return Seen(f"<{key}>")


def filled(template: str) -> str:
    """A cause or a cure with the names of the evidence instead of its values."""
    return string.Formatter().vformat(template, (), _Names(_TOLD))


def of_step(step: Step) -> list[Fault]:
    """The entries of a step, failures first."""
    found = [fault for fault in faults.CATALOGUE.values() if fault.step is step]
    return sorted(found, key=lambda fault: fault.is_warning)


def entry(fault: Fault) -> str:
    """One entry for a terminal."""
    kind = "a warning" if fault.is_warning else "a failure"
    lines = [f"{fault.name}: {kind} at {fault.step}", ""]
    if fault.symptoms:
        lines.append("What you see:")
        lines += [f"  {symptom}" for symptom in fault.symptoms]
    lines += ["What it means:", f"  {filled(fault.cause)}"]
    lines += ["What cures it:", f"  {filled(fault.cure)}"]
    if "{advice}" in fault.cure:
        lines += [f"  {condition}: {advice}" for condition, advice in _advice()]
    if fault.mend:
        lines.append("To copy:")
        lines += [f"  {line}" for line in filled(fault.mend).splitlines()]
    return "\n".join(lines)


def _advice() -> Iterator[tuple[str, str]]:
    yield from sorted(STREAM_ADVICE.items())
    yield "any other", STREAM_OTHERWISE


def as_dict(fault: Fault) -> dict[str, Any]:
    """One entry as plain data."""
    return {
        "fault": fault.name,
        "kind": "warning" if fault.is_warning else "failure",
        "step": int(fault.step),
        "name": fault.step.title,
        "symptoms": list(fault.symptoms),
        "cause": filled(fault.cause),
        "cure": filled(fault.cure),
        "mend": filled(fault.mend),
    }


def listing() -> str:
    """All names, by step, with their first symptom."""
    lines = []
    for step in Step:
        faults = of_step(step)
        if faults:
            lines.append(str(step))
            lines += [f"  {fault.name:34} {_first_symptom(fault)}" for fault in faults]
    return "\n".join(lines)


def _first_symptom(fault: Fault) -> str:
    return fault.symptoms[0] if fault.symptoms else filled(fault.cause)


def document() -> str:
    """docs/troubleshooting.md."""
    parts = [_HEAD]
    for step in Step:
        faults = of_step(step)
        if faults:
            parts.append(f"## Step {step.value}, {step.title}\n\n")
            parts += [_section(fault) for fault in faults]
    parts.append("## Stream errors before the registration\n\n")
    parts.append("| condition | what helps |\n| --- | --- |\n")
    parts += [f"| `{condition}` | {advice} |\n" for condition, advice in _advice()]
    return "".join(parts)


def _section(fault: Fault) -> str:
    first, *others = fault.symptoms or (filled(fault.cause),)
    text = f"### {_prose(first)}\n\n"
    kind = "a warning" if fault.is_warning else "a failure"
    text += f"`{fault.name}`, {kind}."
    if others:
        text += " Also seen as: " + "; ".join(_prose(other) for other in others) + "."
    text += f"\n\n* means: {_prose(_sentence(fault.cause))}\n"
    text += f"* cure: {_prose(_sentence(fault.cure))}\n"
    if fault.mend:
        text += f"\n```\n{filled(fault.mend)}\n```\n"
    return text + "\n"


def _sentence(template: str) -> str:
    words = filled(template)
    return words if words.endswith((".", "!", ":")) else f"{words}."


def _prose(words: str) -> str:
    """Text in Markdown: names in angle brackets are no HTML, underscores no emphasis."""
    for sign in ("\\", "<", "*", "_"):
        words = words.replace(sign, f"\\{sign}")
    return words


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
